"""What a training costs in a sweep, for the layers that models have: against a loop, and against torch.func.

    python benchmarks/sweep_models.py

Each model is trained with Adam for some steps from one initialisation on the same batches, by members that differ in
lr: by ``scaleinv.sweep`` with ``torch.optim.Adam``; in a loop, one member after the other; and by ``torch.func`` as its
tutorial on model ensembling does it, with ``stack_module_state``, ``functional_call``, ``vmap`` of ``grad``, and an
update of Adam written by hand for the stacked parameters.  All give the same losses, dropout included, which is
checked.  Medians of the seconds of one core's time, the contestants in turn, after one run to warm up.

The second table says what a million trainings cost, from these rates and the bytes of a member.
"""

import statistics
import time
import warnings
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from scaleinv import sweep
from scaleinv._sweep.ensemble import Ensemble
from scaleinv._threads import threads
from scaleinv.book.data import batches
from scaleinv.book.models import convnet, gpt, transformer

STEPS, MEMBERS, SOME, RUNS = 20, 64, 4, 3
MILLION, LOSS, TOLERANCE = 10**6, 8, 1e-3  # trainings, bytes, relative
DIGITS = partial(batches, STEPS, 64, on="cpu")


def seeded(make):
    """A model from a seed."""

    def model(seed=0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return model


def perceptron(between):
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), between(), nn.ReLU(), nn.Linear(64, 10)))


def convolutions():
    first, second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, stride=2)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 9, 10)
    )


def characters(seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        text = torch.randint(128, (8, 33), generator=generator)
        yield text[:, :-1], text[:, 1:]


MODELS = {
    "Conv2d": (seeded(convolutions), DIGITS),
    "BatchNorm": (convnet, DIGITS),
    "LayerNorm": (perceptron(partial(nn.LayerNorm, 64)), DIGITS),
    "dropout": (perceptron(partial(nn.Dropout, 0.1)), DIGITS),
    "attention": (transformer, DIGITS),
    "GPT": (partial(gpt, 32, length=32), characters),
}


def rates(members):
    return np.logspace(-4, -2, members).tolist()


def swept(model, data, lrs):
    """Losses (members, steps) by scaleinv.sweep."""
    return sweep(model, torch.optim.Adam, data, {"lr": lrs}, progress=False).losses.values[:, 0]


def looped(model, data, lrs):
    """Losses (members, steps) by a loop."""
    losses, pairs = [], list(data(seed=0))
    for lr in lrs:
        made = model(seed=0)
        optimizer = torch.optim.Adam(made.parameters(), lr=lr)
        torch.manual_seed(0)
        for inputs, targets in pairs:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(made(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return np.reshape(losses, (len(lrs), -1))


def by_torch_func(model, data, lrs):
    """Losses (members, steps) by torch.func."""
    made = [model(seed=0) for _ in lrs]
    params, buffers = stack_module_state(made)
    base, pairs = made[0], list(data(seed=0))

    def loss_of(params, buffers, inputs, targets):
        return nn.functional.cross_entropy(functional_call(base, (params, buffers), (inputs,)), targets)

    step = vmap(grad_and_value(loss_of), in_dims=(0, 0, None, None), randomness="same")
    params = {name: p.detach() for name, p in params.items()}
    m, v = ({name: torch.zeros_like(p) for name, p in params.items()} for _ in range(2))
    lr, losses = torch.tensor(lrs), []
    torch.manual_seed(0)
    for t, (inputs, targets) in enumerate(pairs, start=1):
        grads, values = step(params, buffers, inputs, targets)
        losses.append(values)
        for name, g in grads.items():
            m[name].lerp_(g, 0.1)
            v[name].mul_(0.999).addcmul_(g, g, value=0.001)
            rate = (lr / (1 - 0.9**t)).reshape(-1, *[1] * (g.ndim - 1))
            params[name].sub_(rate * m[name] / ((v[name] / (1 - 0.999**t)).sqrt() + 1e-8))
    return torch.stack(losses, dim=1).numpy()


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(model, data):
    """What a model's trainings cost, the contestants in turn."""
    lrs = rates(MEMBERS)
    some = [lrs[i] for i in np.linspace(0, MEMBERS - 1, SOME).astype(int)]
    contestants = {
        "sweep": partial(swept, model, data, lrs),
        "torch.func": partial(by_torch_func, model, data, lrs),
        "loop": partial(looped, model, data, some),
        "start": partial(swept, model, lambda seed: list(data(seed=seed))[:1], lrs),
    }
    losses = {name: function() for name, function in contestants.items()}
    for name in ("sweep", "torch.func"):
        kept = losses[name][np.linspace(0, MEMBERS - 1, SOME).astype(int)]
        if not np.allclose(kept, losses["loop"], rtol=TOLERANCE):
            raise AssertionError(f"{name}: losses differ from the loop's by {abs(kept / losses['loop'] - 1).max():.1e}")
    times = {name: [] for name in contestants}
    for _ in range(RUNS):
        for name, function in contestants.items():
            times[name].append(seconds(function))
    found = {name: statistics.median(of) for name, of in times.items()}
    loop, func = found["loop"] / SOME, found["torch.func"] / MEMBERS
    each = (found["sweep"] - found["start"]) / MEMBERS * STEPS / (STEPS - 1)
    return {
        "loop, members/s": 1 / loop,
        "torch.func": 1 / func,
        "sweep": 1 / each,
        "set-up, s": found["start"] - each * MEMBERS / STEPS,
        "sweep / loop": loop / each,
        "sweep / torch.func": func / each,
    }


class Kept(Executor):
    """Keeps the first job in place of training it."""

    def submit(self, function, job):
        self.job = job
        raise InterruptedError


def cost(model, data, rate):
    """What a million trainings cost: from the rate of one core, a member's bytes, and those of its losses."""
    kept = Kept()
    with suppress(InterruptedError):
        sweep(model, torch.optim.Adam, data, {"lr": rates(MEMBERS)}, executor=kept, progress=False)
    member = Ensemble(kept.job).nbytes_for(kept.job) / kept.job.size
    return {
        "core-hours": MILLION / rate / 3600,
        "KiB a member": member / 2**10,
        "members a GiB": 2**30 / member,
        "losses, MiB": MILLION * STEPS * LOSS / 2**20,
    }


def main():
    warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # vmap, of attention on a CPU
    print(f"torch {torch.__version__}, one core, {STEPS} steps, {MEMBERS} members, the loop {SOME}; medians of {RUNS}")
    with threads(1):
        speed = {name: measure(*MODELS[name]) for name in MODELS}
        costs = {name: cost(*MODELS[name], speed[name]["sweep"]) for name in MODELS}
    show = "{:.3g}".format
    print(pd.DataFrame(speed).T.to_string(float_format=show))
    print(f"\n10⁶ trainings: core-hours = 10⁶ / (members/s) / 3600; losses = 10⁶ · {STEPS} steps · {LOSS} bytes")
    print(pd.DataFrame(costs).T.to_string(float_format=show))


if __name__ == "__main__":
    main()
