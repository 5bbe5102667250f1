"""What a training costs in a sweep: scaleinv.sweep, a loop over torch.optim, optax, and what the machine could do.

The sweep trains with torch.optim.Adam, one live optimizer for all learning rates, and besides with the rule
scaleinv.optimizers.adam.

Trainings of an MLP 64-32-10 on digits: 100 steps of Adam on batches of 64, float32, the loss of every step; for each
member a learning rate from 1e-4 to 1e-1, and the same initialisation and batches for all.  Medians of five runs, the
contestants in turn, after one run to warm up.  All of them get the same losses up to rounding, which is checked up to
lr = 1e-2; above, a training multiplies what optax's bias correction, 1 - beta**t in float32, has lost.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from timeit import timeit

import numpy as np
import pandas as pd
import torch
from torch import nn

from scaleinv import optimizers, sweep
from scaleinv._sweep.ensemble import Ensemble
from scaleinv._threads import threads
from scaleinv.book.data import batches, device
from scaleinv.book.models import mlp

STEPS, BATCH, WIDTH = 100, 64, 32
ACTIVATIONS = {"ReLU": nn.ReLU, "Tanh": nn.Tanh}
MEMBERS, FIRST = 64 * 64, 256  # a phase diagram's
SOME = np.linspace(0, MEMBERS - 1, 10).astype(int)  # the members that the loop trains
PER_CALL = (64, 128, 256, 512, 1024)  # of optax, whose best number of members counts
RUNS, FRESH_RUNS = 5, 3
CORES, GPU = os.cpu_count(), torch.cuda.is_available()
AIMS = {  # the machine itself allows about 70 times the loop
    "optax": {"ReLU": 1.5, "Tanh": 1.2},
    "machine": {"ReLU": 0.5, "Tanh": 0.5},
}
TOLERANCE, UP_TO = 1e-4, 1e-2  # relative, of the final losses; for learning rates up to this


def rates(members):
    return np.logspace(-4, -1, members)


def flops(width=WIDTH):
    """Of a training's matrix products: forward; backward the gradients of both weights and of the hidden layer."""
    first, second = 2 * BATCH * 64 * width, 2 * BATCH * width * 10
    return STEPS * (2 * first + 3 * second)


def swept(lrs, activation=nn.ReLU, width=WIDTH, executor=None, optimizer=torch.optim.Adam):
    """Losses (members, steps) by scaleinv.sweep."""
    model, data = partial(mlp, width, activation=activation), partial(batches, STEPS, BATCH)
    grid = {"lr": lrs.tolist()}
    result = sweep(model, optimizer, data, grid, executor=executor, progress=False)
    return result.losses.transpose("lr", "seed", "step").values[:, 0]


def looped(lrs, activation, data):
    """Losses (members, steps) by torch.optim, one training after the other."""
    losses = []
    for lr in lrs.tolist():
        model = mlp(WIDTH, activation=activation).to(device())
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for inputs, targets in data:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses).reshape(len(lrs), -1).cpu().numpy()


def on_one_thread(function):
    def run():
        with threads(1):
            return function()

    return run


def products():
    """Matrix products: name → (floating-point operations, function)."""
    found, least = {}, 1e12 if GPU else 4e9
    for m, k, n in [(1024, 1024, 1024), (2048, 2048, 2048), (4096, 64, 64)]:
        a, b = torch.randn(m, k, device=device()), torch.randn(k, n, device=device())
        out, times = torch.empty(m, n, device=device()), int(np.ceil(least / (2 * m * k * n)))

        def multiply(a=a, b=b, out=out, times=times):
            for _ in range(times):
                torch.mm(a, b, out=out)
            if GPU:
                torch.cuda.synchronize()

        work, name = 2 * m * k * n * times, f"product {m}×{k}·{k}×{n}"
        found[name] = work, multiply
        if not GPU:
            found[f"{name} on one thread, times {CORES}"] = work * CORES, on_one_thread(multiply)
    return found


def contestants(activation, rivals, pool):
    """Name → (trainings, function that makes them and returns their losses)."""
    kind, data, lrs = ACTIVATIONS[activation], list(batches(STEPS, BATCH)), rates(MEMBERS)
    loop = partial(looped, lrs[SOME], kind, data)
    found = {"loop": (len(SOME), loop), "sweep": (MEMBERS, partial(swept, lrs, kind))}
    found["sweep of optimizers.adam"] = MEMBERS, partial(swept, lrs, kind, optimizer=optimizers.adam)
    if not GPU:
        found["loop on one thread"] = len(SOME), on_one_thread(loop)
        found["sweep in processes"] = MEMBERS, partial(swept, lrs, kind, executor=pool)
    if rivals:
        parameters = [p.detach().numpy().T for p in mlp(WIDTH, activation=kind).parameters()]
        inputs, targets = (torch.stack(part).cpu().numpy() for part in zip(*data, strict=True))
        by_optax = rivals.optax_sweep(activation, parameters, inputs.reshape(STEPS, BATCH, 64), targets)
        for members in PER_CALL:
            found[f"optax, {members} a call"] = members, partial(by_optax, rates(members))
    return found


def medians(timed):
    """For name → (amount, function): the amount per second, and what the first call returned."""
    results, times = {name: function() for name, (_, function) in timed.items()}, {name: [] for name in timed}
    for _ in range(RUNS):
        for name, (_, function) in timed.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: amount / statistics.median(times[name]) for name, (amount, _) in timed.items()}, results


def check(losses):
    """Raise where contestants' final losses differ; the largest relative differences from the loop's, for each."""
    reference, found = losses["loop"][:, -1], {}
    low = rates(MEMBERS)[SOME] <= UP_TO
    for name, of_all in losses.items():
        if len(of_all) == MEMBERS:
            apart = abs(of_all[SOME, -1] / reference - 1)
            if not apart[low].max() <= TOLERANCE:
                raise AssertionError(f"{name}: the final losses differ from the loop's by {apart[low].max():.1e}")
            found[name] = {f"lr to {UP_TO:g}": apart[low].max(), "above": apart[~low].max()}
    return pd.DataFrame(found).T


def compare(rivals):
    """Print the trainings per second of every contestant and what the machine could do, and the ratios."""
    columns = {}
    with ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("spawn")) as pool:
        for activation in ACTIVATIONS:
            timed, product = contestants(activation, rivals, pool), products()
            found, results = medians(timed | product)
            print(f"\n{activation}: the final losses' relative differences from the loop's")
            print(check({name: results[name] for name in timed}).to_string(float_format="{:.0e}".format))
            best = max(product, key=found.get)
            print(f"{activation}: {best}: {found[best] / 1e9:.0f} Gflop/s, the machine's rate")
            columns[activation] = {name: found[name] for name in timed} | {"machine": found[best] / flops()}
    table = pd.DataFrame(columns)
    print(f"\ntrainings per second ({MEMBERS} members, the loop {len(SOME)}; medians of {RUNS} runs)")
    print(table.to_string(float_format="{:.0f}".format))
    best = table.groupby(lambda name: name.split()[0].rstrip(",")).max()
    found = {rival: table.loc["sweep"] / best.loc[rival] for rival in ("loop", *AIMS) if rival in best.index}
    aims = {rival: {f"aim, {activation}": aim for activation, aim in of.items()} for rival, of in AIMS.items()}
    ratios = {f"sweep / {rival}": {**ratio, **aims.get(rival, {})} for rival, ratio in found.items()}
    print("\nratios of the sweep, with its default executor, to the best of each rival")
    print(pd.DataFrame(ratios).T.to_string(float_format="{:.2f}".format))


class Kept(Executor):
    """Keeps the first job in place of training it."""

    def submit(self, function, job):
        self.job = job
        raise InterruptedError


PARTS = {
    "products": ("mm", "bmm"),
    "activations": ("relu_", "sigmoid_", "threshold_backward", "sigmoid_backward"),
    "softmax and loss": ("_log_softmax", "_log_softmax_backward_data", "gather", "scatter_add", "where"),
    "stored to computed with, and back": ("div", "div_", "cat"),
}


def part_of(operation):
    name = str(operation).split(".")[1]
    return next((part for part, names in PARTS.items() if name in names), "sums and others")


def seconds(function, runs):
    """Of the processor, whatever else it has to do."""
    return statistics.median(timeit(function, timer=time.process_time, number=1) for _ in range(runs))


def parts():
    """Print where the time of a job's step goes: the operations one by one, the optimizer, and what is left."""
    columns = {}
    for activation, kind in ACTIVATIONS.items():
        kept = Kept()
        with suppress(InterruptedError):
            swept(rates(128), kind, executor=kept)
        with threads(1), torch.no_grad():
            ensemble, shares = Ensemble(kept.job), {}
            (optimizer,) = ensemble._optimizers(kept.job)
            steps = [(part_of(operation), partial(operation, *a, **k)) for operation, a, k in ensemble.record._calls]
            for part, function in [*steps, ("optimizer", optimizer.step)]:
                shares[part] = shares.get(part, 0) + seconds(function, 100)
            whole = seconds(partial(ensemble.train, kept.job), 5) / STEPS
        columns[activation] = {**shares, "left: set-up, interpreter, cache": whole - sum(shares.values()), "all": whole}
    print("\nmicroseconds of a step of 128 members on one thread of the CPU")
    print((1e6 * pd.DataFrame(columns)).to_string(float_format="{:.0f}".format))


def first_result(lrs):
    """Seconds to the losses of all members, from nothing but the imports."""
    start = time.perf_counter()
    assert swept(lrs).shape == (len(lrs), STEPS)
    return time.perf_counter() - start


def fresh(module):
    """Seconds until a fresh process has ``module``'s first result: from the process's start, and from its imports."""
    code = f"import numpy, {module}; print({module}.first_result(numpy.logspace(-4, -1, {FIRST})), flush=True)"
    start = time.perf_counter()
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        line = process.stdout.readline()
        return time.perf_counter() - start, float(line)


def compare_first_results(rivals):
    modules = {"sweep": "sweep"} | ({"optax": "rivals"} if rivals else {})
    times = [[fresh(module) for module in modules.values()] for _ in range(FRESH_RUNS)]
    columns = ["from the start", "without imports"]
    table = pd.DataFrame(np.median(times, axis=0), index=list(modules), columns=columns)
    print(f"\nseconds to the first {FIRST} members' losses in a fresh process (ReLU; medians of {FRESH_RUNS} runs)")
    print(table.to_string(float_format="{:.2f}".format))


def growth():
    """Print how the cost of a sweep grows with members and width."""
    rows = []
    for width, members in [(WIDTH, 1000), (WIDTH, 10000), (10 * WIDTH, 200)]:
        swept(rates(64), width=width)
        start = time.perf_counter()
        swept(rates(members), width=width)
        rate = members / (time.perf_counter() - start)
        rows.append((width, members, rate, rate * flops(width) / 1e9))
    table = pd.DataFrame(rows, columns=["width", "members", "trainings/s", "Gflop/s"])
    print("\nhow the cost of a sweep grows (ReLU; one run each, after a small one)")
    print(table.to_string(index=False, float_format="{:.1f}".format))


def main():
    import rivals  # here: neither a worker process nor the fresh process that times the sweep has a use for jax

    if GPU and rivals.jax.default_backend() != "gpu":
        print("jax has no GPU: without optax")
        rivals = None
    print(f"{torch.cuda.get_device_name() if GPU else f'{CORES} cores'}, torch {torch.__version__}")
    compare(rivals)
    compare_first_results(rivals)
    growth()
    if not GPU:
        parts()


if __name__ == "__main__":
    main()
