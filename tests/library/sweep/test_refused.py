"""What cannot be trained is refused before anything is: each message names the argument, the value, and the way out."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch
from runs import Inline, digits, swept
from torch import nn, optim
from torch.nn import functional

from scaleinv import optimizers
from scaleinv.book.models import mlp, transformer

pytestmark = pytest.mark.usefixtures("one_thread")


def of(*batches):
    return lambda seed: list(batches)


def with_(steps, **changes):
    """Digits whose batches of a step or a seed are changed."""

    def batches(seed):
        for i, batch in enumerate(digits(steps, 16)(seed=seed)):
            yield changes.get(f"step{i}", changes.get(f"seed{seed}", lambda x, y: (x, y)))(*batch)

    return batches


def few(x, y):
    return x[:1], y[:1]


class Normed(nn.Module):
    """A width that a LayerNorm averages over, and an output that starts at zero."""

    def __init__(self, width):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, width), nn.LayerNorm(width), nn.Linear(width, 10)
        nn.init.zeros_(self.last.weight)

    def forward(self, images):
        return self.last(self.norm(self.first(images.flatten(1))))


def normed(width=8, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Normed(width)


def dropout(width=16, seed=0):
    made = mlp(width, seed=seed)
    return nn.Sequential(*made[:3], nn.Dropout(0.5), *made[3:])


def frozen(seed):
    return mlp(seed=seed).requires_grad_(False)


class With(nn.Sequential):
    """A network with a buffer, and a function of it and of its logits."""

    def __init__(self, function, seed):
        super().__init__(nn.Linear(64, 10))
        self.function, self.calls = function, 0
        self.register_buffer("kept", torch.zeros(3))

    def forward(self, images):
        return self.function(self, super().forward(images.flatten(1)))


def longer(model, x):
    model.kept = torch.zeros(4)
    return x


def attached(model, x):
    model.kept = x[0, :3]
    return x


def clamped(model, x):
    model[0].weight.data.mul_(0.5)
    return x


def counted(model, x):
    model.calls += 1
    return x * model.calls


def odds(model, x):
    return x * torch.bernoulli(x.sigmoid())


def branching(model, x):
    return x if x[0, 0] > 0 else 2 * x


def empty(seed):
    return nn.Flatten()


def mixed(seed):
    model = mlp(seed=seed)
    model[1].double()
    return model


X, Y = torch.zeros(4, 8, 8), torch.zeros(4, dtype=torch.long)
REFUSED = {
    "no axis": ({"grid": {}}, ["grid", "no axis", "list"]),
    "no axis but values": ({"grid": {"lr": 0.1}}, ["grid", "no axis", "list"]),
    "grid of another type": ({"grid": [0.1, 0.2]}, ["grid", "0.1"]),
    "empty axis": ({"grid": {"lr": []}}, ["grid['lr']", "empty", "at least one"]),
    "empty array": ({"grid": {"lr": np.array([])}}, ["grid['lr']", "empty", "at least one"]),
    "unknown name": (
        {"grid": {"learning_rate": [0.1]}},
        ["'learning_rate'", "lr", "betas[0]", "weight, loss", "width"],
    ),
    "name of a seed": ({"grid": {"lr": [0.1], "seed": [0, 1]}}, ["'seed'", "names are"]),
    "unknown entry": ({"grid": {"lr": [0.1], "betas[2]": 0.9}}, ["'betas[2]'", "betas[0]"]),
    "function of an unknown name": ({"grid": {"lr": [0.1], "eps": lambda q: q}}, ["grid['eps']", "['q']", "lr"]),
    "function of a function": (
        {"grid": {"lr": [0.1], "eps": lambda lr: lr, "weight": lambda eps: eps}},
        ["grid['weight']", "['eps']", "lr"],
    ),
    "function to NaN": ({"grid": {"lr": [0.1], "eps": lambda lr: math.nan}}, ["eps", "nan"]),
    "function to a list": ({"grid": {"lr": [0.1], "eps": lambda lr: [lr]}}, ["eps", "[0.1]", "number"]),
    "function to a pair": ({"grid": {"lr": [0.1], "betas": lambda lr: (lr, lr)}}, ["betas", "(0.1, 0.1)"]),
    "NaN": ({"grid": {"lr": [0.1, math.nan]}}, ["lr", "nan"]),
    "infinity": ({"grid": {"lr": [math.inf]}}, ["lr", "inf"]),
    "negative": ({"grid": {"lr": [-0.1]}}, ["lr", "-0.1", "[0, ∞)"]),
    "fixed negative": ({"grid": {"lr": [0.1], "eps": -1.0}}, ["eps", "-1.0"]),
    "beta of 1": ({"grid": {"lr": [0.1], "betas[0]": [0.9, 1.0]}}, ["betas[0]", "1.0", "[0, 1)"]),
    "not a number": ({"grid": {"lr": ["0.1"]}}, ["lr", "'0.1'", "number"]),
    "a flag on an axis": ({"grid": {"lr": [0.1], "amsgrad": [True, False]}}, ["amsgrad", "True"]),
    "pairs on an axis": ({"grid": {"lr": [0.1], "betas": [(0.9, 0.9), (0.5, 0.5)]}}, ["betas", "betas[0]"]),
    "weight of 0": ({"grid": {"weight": [1.0, 0.0]}}, ["grid['weight']", "0.0", "positive"]),
    "weight negative": ({"grid": {"weight": [-1.0]}}, ["grid['weight']", "-1.0", "positive"]),
    "weight infinite": ({"grid": {"weight": [math.inf]}}, ["grid['weight']", "inf", "finite"]),
    "weight NaN": ({"grid": {"weight": [math.nan]}}, ["grid['weight']", "nan"]),
    "weight fixed": ({"grid": {"lr": [0.1], "weight": -2}}, ["grid['weight']", "-2"]),
    "loss of 0": ({"grid": {"loss": [0]}}, ["grid['loss']", "0", "positive"]),
    "loss not a number": ({"grid": {"loss": ["1"]}}, ["grid['loss']", "'1'", "number"]),
    "doubled values": ({"grid": {"lr": [0.1, 0.2, 0.1]}}, ["grid['lr']", "0.1", "twice"]),
    "2-d list": ({"grid": {"lr": [[0.1], [0.2]]}}, ["grid['lr']", "1-d"]),
    "2-d array": ({"grid": {"lr": np.ones((2, 2))}}, ["grid['lr']", "1-d"]),
    "2-d tensor": ({"grid": {"lr": torch.ones(2, 2)}}, ["grid['lr']", "1-d"]),
    "column": ({"grid": {"lr": torch.tensor([[0.1], [0.2]])}}, ["grid['lr']", "1-d"]),
    "nesterov of some members": (
        {"optimizer": optimizers.sgd, "grid": {"momentum": [0.9, 0.0], "nesterov": True}},
        ["nesterov", "momentum"],
    ),
    "an optimizer": ({"optimizer": optim.Adam([X])}, ["optimizer", "Adam", "scaleinv.optimizers"]),
    "seeds empty": ({"seeds": ()}, ["seeds=()", "at least one"]),
    "seeds doubled": ({"seeds": (0, 1, 0)}, ["seeds=(0, 1, 0)", "twice"]),
    "seeds not integers": ({"seeds": (0.5,)}, ["seeds=(0.5,)", "integer"]),
    "seeds one number": ({"seeds": 3}, ["seeds=3", "integer"]),
    "every too long": ({"every": 3}, ["every=3", "5 steps"]),
    "every of 0": ({"every": 0}, ["every=0"]),
    "every not an integer": ({"every": 2.5}, ["every=2.5"]),
    "no batches": ({"batches": of()}, ["batches(seed=0)", "0 batches", "(inputs, targets)"]),
    "not pairs": ({"batches": of((X,))}, ["batches(seed=0)", "(inputs, targets)"]),
    "tensors for pairs": ({"batches": of(X, X)}, ["batches(seed=0)", "(inputs, targets)"]),
    "numbers for pairs": ({"batches": of(1.0)}, ["batches(seed=0)", "(inputs, targets)"]),
    "arrays": ({"batches": of((X.numpy(), Y.numpy()))}, ["batches(seed=0)", "tensor"]),
    "a batch of another shape": ({"batches": with_(5, step3=few)}, ["batches", "[16, 8, 8]", "[1, 8, 8]"]),
    "another type": ({"batches": with_(5, step3=lambda x, y: (x.double(), y))}, ["batches", "float64"]),
    "a seed of another shape": ({"batches": with_(5, seed1=few), "seeds": (0, 1)}, ["batches", "[1, 8, 8]"]),
    "a seed of other steps": ({"batches": lambda seed: digits(5 - seed)(seed=0), "seeds": (0, 1)}, ["batches", "4"]),
    "NaN in the data": ({"batches": of((X * math.nan, Y))}, ["nan", "model"]),
    "frozen parameters alone": ({"model": frozen}, ["model()", "no parameters", "gradients"]),
    "a buffer of other shapes": ({"model": partial(With, longer)}, ["model()", "buffer", "(4,)", "(3,)"]),
    "a buffer with a gradient": ({"model": partial(With, attached)}, ["model()", "buffer", "detach"]),
    "a parameter that a forward pass changes": (
        {"model": partial(With, clamped)},
        ["model()", "0.weight", "optimizer"],
    ),
    "what no buffer remembers": ({"model": partial(With, counted)}, ["model()", "buffers"]),
    "odds of each member": ({"model": partial(With, odds)}, ["model", "random", "at once", "loop"]),
    "a branch on values": ({"model": partial(With, branching)}, ["model", "at once", "loop"]),
    "dropout of another width": ({"model": dropout, "grid": {"width": [8, 16]}}, ["'width': 8", "by itself"]),
    "no parameters": ({"model": empty}, ["model()", "parameters"]),
    "parameters of two types": ({"model": mixed, "batches": digits()}, ["model()", "float32", "float64"]),
    "depths": ({"grid": {"depth": [1, 2]}}, ["'depth': 1", "'depth': 2", "by itself"]),
    "activations": ({"grid": {"activation": [nn.ReLU, nn.Tanh]}}, ["ReLU", "Tanh", "by itself"]),
    "widths of a LayerNorm": ({"model": transformer, "grid": {"width": [8, 16]}}, ["'width': 8", "by itself"]),
    "widths before a zero": ({"model": normed, "grid": {"width": [8, 16]}}, ["'width': 8", "by itself"]),
    "a loss for each example": (
        {"loss_fn": partial(functional.cross_entropy, reduction="none")},
        ["loss_fn", "model()", "0-d"],
    ),
    "a loss that is not a tensor": ({"loss_fn": lambda outputs, targets: 1.0}, ["loss_fn", "1.0", "0-d"]),
    "memory not a number": ({"memory": None}, ["memory=None", "bytes"]),
    "memory NaN": ({"memory": math.nan}, ["memory=nan", "bytes"]),
    "memory negative": ({"memory": -1}, ["memory=-1", "bytes"]),
}


@pytest.mark.parametrize("arguments, parts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_before_anything_is(arguments, parts):
    inline, state = Inline(), torch.get_rng_state()
    with pytest.raises((ValueError, TypeError)) as caught:
        swept(**arguments, executor=inline)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert not inline.jobs and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("executor", [4, ThreadPoolExecutor, "processes", map])
def test_what_is_not_an_executor_is_refused(executor):
    with pytest.raises(TypeError, match=r"executor=.* concurrent\.futures\.Executor.*get_executor"):
        swept(executor=executor)
