"""A grid of hyperparameters and seeds, every point of it trained: thousands of small trainings as one batched run."""

import uuid
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import replace
from numbers import Integral, Real

import numpy as np
import torch
from torch.func import functional_call
from torch.nn import functional
from tqdm import tqdm

from scaleinv._sweep.ensemble import Ensemble, Job, Training, batches_of, embedded, losses, model_of, separated
from scaleinv._sweep.grid import Grid
from scaleinv._sweep.store import Store
from scaleinv._threads import threads

MEMBERS = {"cpu": 128, "cuda": 4096}  # of a job at most: on a CPU what fits a core's cache, on a GPU what fills it
BLOCK = 32  # members: in jobs of so many times a whole number each has its place and its rounding whatever the shapes


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
    >>> from scaleinv import optimizers, sweep
    >>> from scaleinv.book import data, models
    >>> grid = {"lr": [1e-4, 1e-3, 1e-2], "k": [1.0, 8.0], "eps": lambda k: 1e-8 / k}
    >>> found = sweep(models.mlp, optimizers.adam, partial(data.batches, 100), grid, seeds=range(2), every=50)
    >>> dict(found.loss.sizes)
    {'lr': 3, 'k': 2, 'seed': 2, 'step': 2}

    Args:
        model: ``function(seed=..., **keywords)`` → nn.Module with parameters only (no buffers, such as running means).
        optimizer: a factory of ``scaleinv.optimizers``, such as ``optimizers.adam``.
        batches: function(seed=...) → (inputs, targets), a finite iterable with tensors of the same shapes in each step.
            Members of one seed see the same batches.  They train on the device on which these lie.
        grid: name → a list (another sequence, a 1-d array) for an axis of the grid; → one value, for all members; → a
            function whose arguments are names of these, for what follows from them.  Names are hyperparameters of the
            optimizer; entries of a pair, such as "betas[0]"; ``k`` (parameters are stored k times as large, and the
            model computes with w/k); ``c`` (the loss is multiplied by c); and keywords of ``model``.  A keyword may
            change shapes of parameters, as a width does, where the smaller model is the larger one with zeros in it.
        seeds: each one the seed of a model's start and of its batches.
        loss: function(outputs, targets) → their mean loss, a 0-d tensor.
        every: a point of a loss curve is the mean loss of so many steps.
        memory: bytes that the members in training may take together, in one process.
        executor: a ``concurrent.futures.Executor`` to hand jobs to, of a process pool, Dask, submitit, …; ``memory`` is
            then for each of its workers.  By default this process trains, on a CPU in as many threads as torch takes.
        folder: where finished members are kept.  A sweep that was stopped goes on from there when called again.
        progress: whether to show a bar.

    Returns:
        An ``xarray.Dataset`` of ``loss``, in the unit of the loss, with the dimensions of the grid's axes, "seed" and
        "step" (the last one of each mean).  NaN and ∞ are results: a member that diverges harms no other.

    Raises:
        TypeError, ValueError: for what cannot be trained; before anything is, and with what to do about it.

    The numbers do not depend on the executor, nor on memory as long as it has room for jobs of 32 members; below, a
    last bit may differ.
    """
    grid, seeds = Grid(model, optimizer, grid), _seeds(seeds)
    training = Training(model, optimizer, batches, loss, every, grid.fixed, {}, False, uuid.uuid4().hex)
    training, steps, device = _checked(training, grid, seeds)
    if not isinstance(executor, Executor | None):
        raise TypeError(
            f"executor={executor!r} is not a concurrent.futures.Executor; of a Dask client, get_executor() is"
        )
    workers = torch.get_num_threads() if executor is None and device.type == "cpu" else 1
    size = _size_of_jobs(training, grid, seeds, memory, workers, device)
    curves = np.full((len(grid.points), len(seeds), steps // every), np.nan)
    missing = np.ones(curves.shape[:2], dtype=bool)
    store = Store(folder, training, grid, seeds) if folder is not None else None
    for members, at, found in store.load() if store else ():
        curves[members, at], missing[members, at] = found, False
    jobs = []
    for at, seed in enumerate(seeds):
        left = np.flatnonzero(missing[:, at])
        for members in np.split(left, range(size, len(left), size)) if len(left) else ():
            jobs.append(((members, at), Job(training, seed, tuple(grid.points[i] for i in members), size)))
    quiet = {} if progress else {"disable": True}  # disable=False would overrule the user's TQDM_DISABLE
    bar = tqdm(total=missing.size, initial=int((~missing).sum()), leave=False, unit=" trainings", **quiet)
    with bar, threads(1), nullcontext(executor) if executor else ThreadPoolExecutor(workers) as pool:
        for (members, at), found in _results(pool, jobs):
            curves[members, at] = found
            if store:
                store.save(members, at, found)
            bar.update(len(members))
    return grid.labelled(curves, seeds, every)


def _seeds(seeds):
    found = list(seeds) if isinstance(seeds, Iterable) else []
    if not found or not all(isinstance(s, Integral) for s in found) or len(set(found)) < len(found):
        raise ValueError(f"seeds={seeds!r}: give a list of integers, at least one, and none twice")
    return [int(s) for s in found]


def _checked(training, grid, seeds):
    """The training, with the largest model's keywords; the number of steps; the device.  ValueError for what cannot."""
    kinds = {}
    for seed in seeds:
        batches = batches_of(training, seed)
        kinds |= {(len(batches), *((x.shape, x.dtype) for x in batch)): seed for batch in batches}
    if len(kinds) > 1:
        raise ValueError(
            f"batches differ in number, shape or type: {list(kinds)}; make them alike in all steps and seeds"
        )
    if not isinstance(training.every, Integral) or training.every < 1 or len(batches) % training.every:
        raise ValueError(f"every={training.every!r} does not divide the {len(batches)} steps; pass one that does")
    combinations = {tuple((grid.fixed | point)[name] for name in grid.keywords): None for point in grid.points}
    keywords = [dict(zip(grid.keywords, values)) for values in combinations]
    models = [model_of(training, seeds[0], given).to(batches[0][0].device) for given in keywords]
    for given, model in zip(keywords, models):
        _check_model(given, model, training.loss, batches[0])
    largest, big = max(zip(keywords, models), key=lambda pair: sum(p.numel() for p in pair[1].parameters()))
    for given, model in zip(keywords, models):
        _check_fits(given, model, largest, big, batches[0][0])
    masked = any([p.shape for p in m.parameters()] != [p.shape for p in big.parameters()] for m in models)
    return replace(training, largest=largest, masked=masked), len(batches), batches[0][0].device


def _check_model(keywords, model, loss, batch):
    label = f"model({', '.join(f'{n}={x!r}' for n, x in keywords.items())})"
    buffers = [name for name, _ in model.named_buffers()]
    if buffers:
        raise ValueError(f"{label} has buffers, {buffers}, which a step would change; sweep a model without")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise ValueError(f"{label} has frozen parameters, {frozen}, which a sweep would train; sweep a model without")
    kinds = {p.dtype for p in model.parameters()}
    if len(kinds) != 1 or not next(iter(kinds)).is_floating_point:
        raise ValueError(
            f"{label} has parameters of types {sorted(map(str, kinds))}; they have to be of one float type"
        )
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        value = loss(model(batch[0]), batch[1])
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError(f"{label} draws random numbers, as dropout does; sweep a model without")
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
        generator = torch.Generator().manual_seed(0)  # parameters of which none is zero, as a last layer's often are
        small = {n: p + 0.1 * torch.randn(p.shape, generator=generator).to(p) for n, p in small.items()}
        with torch.no_grad():
            shown = functional_call(big, separated(embedded(small, room), room), (inputs,))
            fits = torch.allclose(shown, functional_call(model, small, (inputs,)), rtol=1e-3, atol=1e-4)
    if not fits:
        raise ValueError(
            f"model({keywords}) is not model({largest}) with zeros in it, so that they cannot be trained as one; "
            "sweep each by itself"
        )


def _size_of_jobs(training, grid, seeds, memory, workers, device):
    """How many members train as one: what memory allows and the device likes, in jobs of equal size for all workers."""
    if not isinstance(memory, Real) or not memory > 0:
        raise ValueError(f"memory={memory!r} is not a number of bytes; pass one, such as 2**30")
    two = Ensemble(Job(training, seeds[0], (grid.points[0],), 2))
    shared = sum(x.nbytes for batch in two.batches for x in batch)
    allowed = int(min((memory / workers - shared) / (two.nbytes / 2), 2**20))
    if allowed < 1:
        need = int(workers * (shared + two.nbytes / 2))
        raise ValueError(f"memory={memory!r} is too little to train {workers} at a time: allow {need:,} bytes")
    most = MEMBERS.get(device.type, MEMBERS["cuda"])
    jobs_of_a_seed = max(-(-len(grid.points) // most), -(-workers // len(seeds)))
    size = len(grid.points)
    if size > BLOCK:
        size = BLOCK * -(-size // (BLOCK * jobs_of_a_seed))
    return size if size <= allowed else allowed // BLOCK * BLOCK or allowed


def _results(executor, jobs):
    """Where, and the loss curves, of each job as it is done."""
    futures = {executor.submit(losses, job): where for where, job in jobs}
    try:
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        for future in futures:
            future.cancel()
