"""What each step of the way to scaleinv.sweep brings: one job, on one core, done in five ways, in turn.

A job is 100 steps of Adam of an MLP 64-32-10 (ReLU) on digits in batches of 64, for several members at a time; the
number of members that suits a way best counts.  Medians of five runs after one to warm up, in trainings per second.
"""

import statistics
import time
from functools import partial
from unittest import mock

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from scaleinv import optimizers
from scaleinv._sweep import columns
from scaleinv._sweep.ensemble import Ensemble, Job, Training
from scaleinv._sweep.inspection import Models, Parts
from scaleinv._sweep.replay import traced
from scaleinv.book.data import batches
from scaleinv.book.models import mlp

STEPS, RUNS, MEMBERS = 100, 5, (64, 128, 256, 1024)


def ensemble(members):
    model, data = partial(mlp, 32, activation=nn.ReLU), partial(batches, STEPS, on="cpu")
    models = Models({}, False, Parts(tuple(name for name, _ in mlp().named_parameters()), ()))
    training = Training(model, optimizers.adam, data, functional.cross_entropy, STEPS, fixed={}, models=models)
    return Ensemble(Job(training, 0, tuple({"lr": lr} for lr in np.geomspace(1e-4, 1e-1, members)), members))


def called(step, memory):
    """The step as a function, whose results become the memory of the next."""

    def run():
        with torch.no_grad():
            memory.update(step(memory))

    return run


def ways(members):
    """name → a function that takes one step of that many members."""
    plain, fast, graph = (ensemble(members) for _ in range(3))
    operations = traced(graph._step, graph.memory)

    def traced_step(memory):
        return operations((memory,))

    def without_columns():
        with mock.patch.dict(columns.FASTER, clear=True):
            called(plain._step, plain.memory)()

    yield "torch.func: vmap of grad, and of the rule", without_columns
    yield "the same in columns", called(fast._step, fast.memory)
    yield "traced, the graph called", called(traced_step, graph.memory)
    try:
        compiled = called(torch.compile(traced_step, dynamic=False), dict(ensemble(members).memory))
        compiled()
        yield "traced and compiled (torch.compile)", compiled
    except Exception as error:  # no compiler on this machine
        print(f"torch.compile: {type(error).__name__}")
    yield "traced and recorded, on memory that stays", ensemble(members).record


def main():
    torch.set_num_threads(1)
    rates = {}
    for members in MEMBERS:
        taken = dict(ways(members))
        times = {name: [] for name in taken}
        for _ in range(RUNS + 1):
            for name, step in taken.items():
                start = time.perf_counter()
                for _ in range(STEPS):
                    step()
                times[name].append(time.perf_counter() - start)
        rates[members] = {name: members / statistics.median(t[1:]) for name, t in times.items()}
    table = pd.DataFrame(rates).rename_axis("members at a time", axis="columns")
    print(f"one core, torch {torch.__version__}, medians of {RUNS} runs, trainings per second")
    print(table.assign(best=table.max(axis=1)).to_string(float_format="{:.0f}".format))


if __name__ == "__main__":
    main()
