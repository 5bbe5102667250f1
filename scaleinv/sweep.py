"""A grid of hyperparameters and seeds, every point of it trained: thousands of small trainings as one batched run."""

import hashlib
import os
import uuid
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional
from tqdm.auto import tqdm

from scaleinv.ensemble import Ensemble, Job, Training, batches_of, embedded, losses
from scaleinv.grid import Grid

MEMBERS = {"cpu": 64, "cuda": 4096}  # of a job at most: on a CPU what fits a core's cache, on a GPU what fills it


def sweep(
    model,
    optimizer,
    batches,
    grid,
    *,
    seeds=(0,),
    loss=functional.cross_entropy,
    every=1,
    memory=2**30,
    executor=None,
    folder=None,
    progress=True,
):
    """Train a model at every point of a grid, from every seed, and return all loss curves.

    >>> from functools import partial
    >>> from scaleinv import data, models, optimizers, sweep
    >>> grid = {"lr": [1e-4, 1e-3, 1e-2], "k": [1.0, 8.0], "eps": lambda k: 1e-8 / k}
    >>> found = sweep(models.mlp, optimizers.adam, partial(data.batches, 100), grid, seeds=range(2), every=50)
    >>> dict(found.loss.sizes)
    {'lr': 3, 'k': 2, 'seed': 2, 'step': 2}

    Args:
        model: function(seed=..., **keywords) → nn.Module with parameters only (no buffers, such as running means).
        optimizer: a factory of ``scaleinv.optimizers``, such as ``optimizers.adam``.
        batches: function(seed=...) → (inputs, targets), a finite iterable with tensors of the same shapes in each step.
            Members of one seed see the same batches.  They train on the device on which these lie.
        grid: name → a list (or another sequence, or 1-d array) for an axis of the grid; → one value, for all members;
            or → a function whose arguments are names of axes, for what follows from them.  Names are hyperparameters of
            the optimizer, entries of a pair such as "betas[0]", ``k`` (parameters are stored k times as large, the model
            computes with w/k), ``c`` (the loss is multiplied by c) and keywords of ``model``.  A keyword may change the
            shapes of parameters, as a width does, where the smaller model is the larger one with zeros in it.
        seeds: each one the seed of a model's start and of its batches.
        loss: function(outputs, targets) → their mean loss, a 0-d tensor.
        every: a point of a loss curve is the mean loss of so many steps.
        memory: bytes that the members in training may take together, in one process.
        executor: a ``concurrent.futures.Executor`` to hand jobs to, of a process pool, Dask, submitit, …; ``memory`` is then
            for each of its workers.  By default this process trains, on a CPU in as many threads as torch would take.
        folder: where finished members are kept.  A sweep that was stopped goes on from there when called again.
        progress: whether to show a bar.

    Returns:
        xarray.Dataset: ``loss``, float32 in the unit of the loss, with the dimensions of the grid's axes, "seed" and
        "step" (the last one of each mean).  NaN and ∞ are results: a member that diverges harms no other.

    Raises:
        TypeError, ValueError: for what cannot be trained; before anything is, and with what to do about it.

    The numbers depend neither on memory nor executor.
    """
    grid, seeds = Grid(model, optimizer, grid), _seeds(seeds)
    training = Training(model, optimizer, batches, loss, every, grid.fixed, {}, uuid.uuid4().hex)
    training, steps = _checked(training, grid, seeds)
    size = _members(training, grid, seeds, memory, executor)
    curves = np.full((len(grid.points), len(seeds), steps // every), np.nan, dtype=np.float32)
    missing = np.ones(curves.shape[:2], dtype=bool)
    store = _Store(folder, training, grid, seeds) if folder is not None else None
    for members, at, found in store.load() if store else ():
        curves[members, at], missing[members, at] = found, False
    jobs = []
    for at, seed in enumerate(seeds):
        left = np.flatnonzero(missing[:, at])
        for members in np.split(left, range(size, len(left), size)) if len(left) else ():
            jobs.append(((members, at), Job(training, seed, tuple(grid.points[i] for i in members), size)))
    bar = tqdm(total=missing.size, initial=int((~missing).sum()), disable=not progress, leave=False, unit=" trainings")
    with bar, _pool(executor, training, seeds) as pool:
        for (members, at), found in _results(pool, jobs):
            curves[members, at] = found
            if store:
                store.save(members, at, found)
            bar.update(len(members))
    return grid.labelled(curves, seeds, every)


def _seeds(seeds):
    seeds = list(seeds)
    if not seeds or len(set(seeds)) < len(seeds) or not all(isinstance(s, Integral) for s in seeds):
        raise ValueError(f"seeds={seeds!r}: give at least one integer, and none twice")
    return [int(s) for s in seeds]


def _checked(training, grid, seeds):
    """The training, with the largest model's keywords, and its number of steps; after a look at its first batch."""
    batches = batches_of(training, seeds[0])
    if not batches or any(len(batch) != 2 for batch in batches):
        raise ValueError(
            f"batches(seed={seeds[0]}) gave {len(batches)} batches; give at least one pair (inputs, targets)"
        )
    shapes = {tuple((x.shape, x.dtype) for x in batch) for batch in batches}
    if len(shapes) > 1:
        raise ValueError(f"batches(seed={seeds[0]}) are of different shapes or types, {shapes}; make them all alike")
    if not isinstance(training.every, Integral) or training.every < 1 or len(batches) % training.every:
        raise ValueError(f"every={training.every!r} does not divide the {len(batches)} steps; pass one that does")
    combinations = {tuple((grid.fixed | point)[n] for n in grid.keywords): None for point in grid.points}
    models = [(c := dict(zip(grid.keywords, values)), training.model(seed=seeds[0], **c)) for values in combinations]
    for keywords, model in models:
        _check_model(keywords, model, training.loss, batches[0])
    largest, big = max(models, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))
    for keywords, model in models:
        _check_fits(keywords, model, largest, big, batches[0][0])
    return replace(training, largest=largest), len(batches)


def _check_model(keywords, model, loss, batch):
    label = f"model({', '.join(f'{n}={x!r}' for n, x in keywords.items())})"
    buffers = [name for name, _ in model.named_buffers()]
    if buffers:
        raise ValueError(f"{label} has buffers, {buffers}, which a step would change; sweep a model without")
    kinds = {p.dtype for p in model.parameters()}
    if len(kinds) != 1 or not next(iter(kinds)).is_floating_point:
        raise ValueError(
            f"{label} has parameters of types {sorted(map(str, kinds))}; they have to be of one float type"
        )
    with torch.no_grad():
        value = loss(model.to(batch[0].device)(batch[0]), batch[1])
    if not torch.is_tensor(value) or value.ndim:
        raise ValueError(f"loss gave {value!r} for {label}; it has to be a 0-d tensor, the mean over the batch")
    if not value.isfinite():
        raise ValueError(f"loss is {value.item()} for {label} before any training; mend the model or the data")


def _check_fits(keywords, model, largest, big, inputs):
    """A model, and the largest with its tensors in the first corner of zeros, have to be the same function."""
    if model is big:
        return
    small, room = dict(model.named_parameters()), {name: p.shape for name, p in big.named_parameters()}
    fits = small.keys() == room.keys() and all(
        p.ndim == len(room[n]) and all(a <= b for a, b in zip(p.shape, room[n])) for n, p in small.items()
    )
    if fits:
        parts = embedded(small, room)[0].split([shape.numel() for shape in room.values()])
        with torch.no_grad():
            shown = functional_call(big, {n: x.view(room[n]) for n, x in zip(room, parts)}, (inputs,))
            fits = torch.allclose(shown, model(inputs), rtol=1e-3, atol=1e-4)
    if not fits:
        raise ValueError(
            f"model({keywords}) is not model({largest}) with zeros in it, so that they cannot be trained as one; "
            "sweep each by itself"
        )


def _workers(executor, device):
    """How many jobs share the memory: the threads of this process where it trains itself."""
    return torch.get_num_threads() if executor is None and device.type == "cpu" else 1


def _members(training, grid, seeds, memory, executor):
    """How many members a job has: what memory allows and the device likes, in jobs of equal size."""
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            f"executor={executor!r} is no concurrent.futures.Executor; of a Dask client pass get_executor()"
        )
    few = Ensemble(Job(training, seeds[0], (grid.points[0],), 2))
    device = few.batches[0][0].device
    workers = _workers(executor, device)
    shared = sum(x.nbytes for batch in few.batches for x in batch)
    allowed = int((memory / workers - shared) // (few.nbytes / 2))
    if allowed < 1:
        need = workers * (shared + few.nbytes // 2)
        raise ValueError(f"memory={memory!r}: {workers} members at a time take {need:,} bytes; allow at least that")
    jobs = max(-(-len(grid.points) // min(allowed, MEMBERS[device.type])), -(-workers // len(seeds)))
    return -(-len(grid.points) // jobs)


@contextmanager
def _pool(executor, training, seeds):
    """The given executor; or a thread for each of torch's, in which torch then takes one."""
    if executor is not None:
        yield executor
        return
    threads = torch.get_num_threads()
    device = batches_of(training, seeds[0])[0][0].device
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads if device.type == "cpu" else 1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _results(executor, jobs):
    """Where, and the loss curves, of each job as it is done."""
    futures = {executor.submit(losses, job): where for where, job in jobs}
    try:
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        for future in futures:
            future.cancel()


class _Store:
    """A folder in which a sweep keeps the members that are done, a file for each job."""

    def __init__(self, folder, training, grid, seeds):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(repr((grid.axes, grid.fixed, grid.points, seeds, training.every)).encode())
        digest.update(repr((_name(training.optimizer), _name(training.loss))).encode())
        for seed in seeds:
            for x in (
                *next(iter(training.batches(seed=seed))),
                *training.model(seed=seed, **training.largest).parameters(),
            ):
                digest.update(x.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        mark = self.folder / "sweep"
        if mark.exists() and mark.read_text() != digest.hexdigest():
            raise ValueError(f"folder={str(folder)!r} holds another sweep; pass another folder, or empty it")
        mark.write_text(digest.hexdigest())

    def load(self):
        for path in self.folder.glob("*.npz"):
            with np.load(path) as done:
                yield done["members"], int(done["at"]), done["losses"]

    def save(self, members, at, found):
        path = self.folder / f"{at}-{members[0]}.npz"
        partial_path = path.with_suffix(".partial")
        with open(partial_path, "wb") as file:
            np.savez(file, members=members, at=at, losses=found)
        os.replace(partial_path, path)  # whole, or not there


def _name(function):
    return (
        repr((_name(function.func), function.args, function.keywords))
        if isinstance(function, partial)
        else (f"{function.__module__}.{function.__qualname__}")
    )
