"""What the tests of sweeps share: sweeps without a bar, and the single runs they are compared with."""

import os
import re
import subprocess
import sys
from concurrent.futures import Executor, Future
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.func import functional_call
from torch.nn import functional

from scaleinv import optimizers, scale_parameters, sweep
from scaleinv.book import data
from scaleinv.book.models import mlp
from scaleinv.book.train import train

# A member is the single run up to rounding.  The sweep adds in another order, for all members at once, and takes
# 2σ(2x) − 1 for tanh and 1/(1/√x) for a root.  So each step differs by some roundings, which the following ones carry
# on.  In 15 steps the losses came apart by 4e-7 in float32, of which half is the rounding of a loss itself, and by
# 5e-16 in float64.  Ten times as much is allowed for other machines, and several times again for centred RMSprop,
# which subtracts nearly equal numbers.
SINGLE, DOUBLE = 2e-5, 1e-13  # relative tolerances in float32 and float64


# Every factory, and its oracle where torch.optim has it; a learning rate at which it trains well, and other options.
RULES = {
    "sgd": (optim.SGD, 0.1, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 1e-3}),
    "adagrad": (optim.Adagrad, 0.01, {"lr_decay": 0.1, "weight_decay": 1e-3}),
    "rmsprop": (optim.RMSprop, 0.003, {"momentum": 0.5, "centered": True}),
    "adadelta": (optim.Adadelta, 1.0, {"rho": 0.8}),
    "adam": (optim.Adam, 0.01, {"weight_decay": 1e-3, "amsgrad": True}),
    "adamw": (optim.AdamW, 0.01, {"weight_decay": 0.1}),
    "adamax": (optim.Adamax, 0.01, {"weight_decay": 1e-3}),
    "nadam": (optim.NAdam, 0.01, {"momentum_decay": 0.01}),
    "radam": (optim.RAdam, 0.01, {"weight_decay": 1e-3}),
    "lamb": (None, 0.01, {"weight_decay": 1e-3}),
    "lion": (None, 0.001, {"weight_decay": 1e-3}),
    "signsgd": (None, 0.001, {}),
}


def digits(steps=5, size=64, dtype=torch.float32):
    return partial(data.batches, steps, size, dtype=dtype, on="cpu")


def double(seed=0, **keywords):
    return mlp(seed=seed, **keywords).double()


def swept(model=mlp, optimizer=optimizers.adam, batches=None, grid=None, **arguments):
    """The loss curves of a sweep without a bar."""
    batches = digits() if batches is None else batches
    grid = {"lr": [0.001, 0.01]} if grid is None else grid
    return sweep(model, optimizer, batches, grid, progress=False, **arguments).losses


def alone(model, cls, batches, lr, weight=1.0, loss=1.0, **h):
    """The losses of a single run with torch.optim, which keeps NAdam's mu_product in the default dtype."""
    scale_parameters(model, weight)
    before = torch.get_default_dtype()
    torch.set_default_dtype(next(model.parameters()).dtype)
    try:
        return train(model, cls(model.parameters(), lr=lr, **h), batches, loss=loss).losses.numpy()
    finally:
        torch.set_default_dtype(before)


def alone_by_rule(model, rule, batches, lr, weight=1.0, loss=1.0, **h):
    """The losses of a single run with one of scaleinv.optimizers."""
    lr = torch.tensor([lr], dtype=torch.float64)  # a member of one
    optimizer, losses = rule(lr=lr, **h), []
    params = {name: weight * p.detach()[None] for name, p in model.named_parameters()}
    state = optimizer.init(params)
    for x, y in batches:
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        outputs = functional_call(model, {name: p[0] / weight for name, p in leaves.items()}, (x,))
        value = functional.cross_entropy(outputs, y)
        grads = dict(zip(leaves, torch.autograd.grad(loss * value, list(leaves.values()))))
        updates, state = optimizer.update(grads, state, params)
        params = optimizers.apply_updates(params, updates)
        losses.append(value.item())
    return np.array(losses)


class Inline(Executor):
    """Does each job as it is submitted, and keeps it."""

    def __init__(self):
        self.jobs = []

    def submit(self, function, job):
        self.jobs.append(job)
        future = Future()
        future.set_result(function(job))
        return future


def identical(one, other):
    return one.dtype == other.dtype and one.dims == other.dims and np.array_equal(one, other, equal_nan=True)


def least_memory(**arguments):
    """The bytes that the error for too small a bound asks for."""
    with pytest.raises(ValueError, match="memory=1 ") as caught:
        swept(**arguments, memory=1)
    (number,) = re.findall(r"[\d,]{5,}", str(caught.value))
    return int(number.replace(",", ""))


def in_a_process(code, *arguments):
    """A Python process of one thread, with the bar that users see; what it frees is the system's at once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment.pop("TQDM_DISABLE")  # set in conftest.py
    environment["PYTHONPATH"] = os.path.dirname(__file__)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **pipes)


class Loose(nn.Module):
    """Parameters of 0, 1 and 3 dimensions, functions called by keyword, and a root whose argument may be tiny."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.zeros(10))
        self.weight = nn.Parameter(torch.linspace(-0.1, 0.1, 640).reshape(10, 8, 8))

    def forward(self, images):
        size = images.square().sum(dim=(1, 2), keepdim=True).sqrt()
        shown = functional.linear(input=(images / size).flatten(1), weight=self.weight.flatten(1), bias=self.shift)
        return torch.tanh(input=shown) * self.scale
