"""Frozen parameters, buffers and random numbers: a member is the single run, which starts with torch.manual_seed."""

from functools import partial

import numpy as np
import pytest
import torch
from runs import SINGLE, Inline, alone, alone_by_rule, digits, identical, swept
from test_live import Stranger
from torch import nn, optim
from torch.nn import functional

from scaleinv import optimizers, sweep
from scaleinv.book.models import Transformer, convnet, mlp

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),  # vmap, of attention on a CPU
]

LRS = [0.001, 0.01]


def assert_single_runs(model, optimizer, batches=None, weights=(1.0, 3.0), **options):
    """The sweep's curves are those of single runs, in which random numbers follow ``torch.manual_seed(seed)``."""
    batches = batches or digits(8, 16)
    result = swept(model, optimizer, batches, {"lr": LRS, "weight": list(weights), **options}, seeds=(3,))
    single = partial(alone, cls=optimizer) if isinstance(optimizer, type) else partial(alone_by_rule, rule=optimizer)
    for weight in weights:
        data = list(batches(seed=3))
        made = model(seed=3)
        torch.manual_seed(3)
        losses = single(made, batches=data, lr=LRS[1], weight=weight, **options)
        assert len(set(losses)) > 4
        np.testing.assert_allclose(result.sel(lr=LRS[1], weight=weight, seed=3), losses, rtol=SINGLE)


@pytest.fixture(autouse=True)
def _state():
    """Single runs are seeded."""
    with torch.random.fork_rng(devices=[]):
        yield


class Partly(nn.Module):
    """A frozen layer, one that the loss does not depend on, and one that is trained."""

    def __init__(self, seed, gain=1.0):
        super().__init__()
        made = mlp(16, seed=seed)
        self.first, self.unused, self.last = made[1].requires_grad_(False), nn.Linear(3, 3), made[3]
        self.first.weight *= gain

    def forward(self, images):
        self.unused(torch.ones(3))
        return self.last(torch.tanh(self.first(images.flatten(1))))


class Shared(Stranger):
    """One step for all tensors that have gradients."""

    def gradients(self):
        grads = [p.grad for p in self.param_groups[0]["params"] if p.grad is not None]
        return [g / len(grads) for g in grads]

    @torch.no_grad()
    def step(self):
        having = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        for p, g in zip(having, self.gradients()):
            p.add_(g, alpha=-self.param_groups[0]["lr"])


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.AdamW, optim.Adafactor, Shared, optim.SGD])
def test_parameters_that_are_frozen_or_unused_stay(optimizer):
    assert_single_runs(Partly, optimizer)


def test_frozen_parameters_belong_to_their_members():
    result = swept(Partly, optim.Adam, digits(), {"gain": [1.0, 0.5], "lr": [0.01]})
    for gain in (1.0, 0.5):
        losses = alone(Partly(0, gain), optim.Adam, digits()(seed=0), lr=0.01)
        np.testing.assert_allclose(result.sel(gain=gain, lr=0.01, seed=0), losses, rtol=SINGLE)


def test_frozen_parameters_of_any_type_and_of_each_seed():
    class Table(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.network = mlp(8, seed=seed)
            order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
            self.table = nn.ParameterDict({"order": nn.Parameter(order, requires_grad=False)})

        def forward(self, images):
            return self.network(images.flatten(1)[:, self.table["order"]].reshape(-1, 8, 8))

    result = swept(Table, optim.Adam, digits(), {"lr": [0.01, 0.1]}, seeds=(0, 1))
    for seed in (0, 1):
        losses = alone(Table(seed), optim.Adam, digits()(seed=seed), lr=0.01)
        np.testing.assert_allclose(result.sel(lr=0.01, seed=seed), losses, rtol=SINGLE)


@pytest.mark.parametrize("optimizer", [optim.Adam, optim.Adafactor])
def test_batch_normalisation_in_training(optimizer):
    assert_single_runs(partial(convnet, 4), optimizer)


def test_batch_normalisation_of_narrower_models():
    result = swept(convnet, optim.Adam, digits(), {"channels": [2, 4], "lr": [0.01]})
    for channels in (2, 4):
        losses = alone(convnet(channels), optim.Adam, digits()(seed=0), lr=0.01)
        np.testing.assert_allclose(result.sel(channels=channels, lr=0.01, seed=0), losses, rtol=SINGLE)


class Remembering(nn.Module):
    """Divides by what it has seen so far: each loss depends on the buffers that the passes before have left."""

    def __init__(self, seed, assigned=False, steps=0):
        super().__init__()
        self.assigned, self.network = assigned, mlp(16, seed=seed)
        self.norm = nn.BatchNorm1d(10, affine=False)
        self.register_buffer("square", torch.ones(10))
        self.register_buffer("steps", torch.tensor(steps))

    def forward(self, images):
        x = self.network(images)
        square = x.detach().square().mean(0)
        if self.assigned:
            self.square, self.steps = self.square.lerp(square, 0.3), self.steps + 1
        else:
            self.square.lerp_(square, 0.3)
            self.steps += 1
        self.norm(x)
        seen = functional.batch_norm(x, self.norm.running_mean, self.norm.running_var)
        return seen + x / self.square.sqrt() * (1 + 1 / self.steps)


@pytest.mark.parametrize("assigned", [False, True])
@pytest.mark.parametrize("optimizer", [optim.Adam, Shared, optimizers.adam])
def test_buffers_that_the_next_losses_depend_on(optimizer, assigned):
    assert_single_runs(partial(Remembering, assigned=assigned), optimizer)


def test_buffers_belong_to_their_members_and_each_job_starts_anew():
    inline, grid = Inline(), {"steps": [0, 5], "lr": [0.01, 0.1]}
    result = swept(Remembering, optim.Adam, digits(), grid, seeds=(0, 1), executor=inline)
    assert len(inline.jobs) == 2
    for steps in (0, 5):
        losses = alone(Remembering(1, steps=steps), optim.Adam, digits()(seed=1), lr=0.01)
        np.testing.assert_allclose(result.sel(steps=steps, lr=0.01, seed=1), losses, rtol=SINGLE)


def test_the_models_own_buffers_and_the_random_state_stay(tmp_path):
    model = nn.Sequential(Remembering(0), nn.Dropout(0.1))
    before, state = {name: x.clone() for name, x in model.state_dict().items()}, torch.get_rng_state()
    swept(lambda seed: model, optim.Adam, digits(), folder=tmp_path)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class Noisy(nn.Module):
    """Random numbers of several kinds, of tensors that lie in memory as they are and otherwise."""

    def __init__(self, seed):
        super().__init__()
        self.network = mlp(16, seed=seed)

    def forward(self, images):
        x = self.network(images + 0.1 * torch.randn_like(images.mT))
        x = functional.dropout(x.T, 0.2).T * (1 + 0.1 * torch.rand(10))
        kept = x.new_empty(len(x), 1).bernoulli_(0.9)
        return (
            functional.gumbel_softmax(x) + x * kept + torch.randint(3, x.shape) * torch.empty_like(x).uniform_(0, 0.1)
        )


def attention(seed):
    """torch's own encoder, with its default dropout of 0.1."""
    torch.manual_seed(seed)
    made = Transformer(8)
    made.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    return made


def perceptron(seed, p=0.3):
    torch.manual_seed(seed)
    first, last = nn.Linear(64, 16), nn.Linear(16, 10)
    return nn.Sequential(nn.Flatten(), nn.Dropout(p), first, nn.Dropout(p, inplace=True), nn.Tanh(), last)


def convolutions(seed):
    made = convnet(4, seed=seed)
    return nn.Sequential(*made[:4], nn.Dropout2d(0.2), *made[4:], nn.AlphaDropout(0.1))


@pytest.mark.parametrize("model", [perceptron, convolutions, attention, Noisy])
@pytest.mark.parametrize("optimizer", [optim.Adam, optimizers.sgd])
def test_random_numbers_are_those_of_the_single_run(model, optimizer):
    assert_single_runs(model, optimizer)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_dropout_of_nothing_and_of_all(p):
    last = nn.Linear(10, 10).state_dict()

    def model(seed):
        made = nn.Sequential(mlp(8, seed=seed), nn.Dropout(p), nn.Linear(10, 10))
        made[2].load_state_dict(last)
        return made

    assert_single_runs(model, optim.SGD)


def test_random_numbers_depend_on_the_seed_alone(tmp_path, threads):
    """Not on jobs, threads, processes or a folder, in any bit; nor on what is drawn before."""
    arguments = {"model": perceptron, "optimizer": optim.Adam, "batches": digits(6), "seeds": (0, 1)}
    arguments["grid"] = {"lr": np.logspace(-4, -1, 24), "betas[0]": [0.9, 0.5]}
    whole, inline = swept(**arguments), Inline()
    assert not np.allclose(whole.sel(seed=0), whole.sel(seed=1), rtol=1e-3)
    torch.manual_seed(7)
    assert identical(swept(**arguments, executor=inline, memory=2**20), whole) and len(inline.jobs) > 2
    threads(2)
    assert identical(swept(**arguments, folder=tmp_path), whole)
    min(tmp_path.glob("*.npz")).unlink()
    assert identical(swept(**arguments, folder=tmp_path), whole)


def test_a_label_says_how_members_with_dropout_are_trained():
    result = sweep(perceptron, optim.Adam, digits(), {"lr": LRS, "p": 0.5}, progress=False)
    assert result.lr.attrs["trained_by"] == "units"
