"""A grid of hyperparameters and seeds, every point of it trained: thousands of small trainings as one batched run."""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any

import torch
import xarray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from scaleinv._sweep.ensemble import Training
from scaleinv._sweep.grid import make_grid
from scaleinv._sweep.inspection import inspect_batches, inspect_models
from scaleinv._sweep.jobs import Curves, Workers, train_jobs
from scaleinv._sweep.sources import make_model, tensors_of
from scaleinv._sweep.store import open_store
from scaleinv._sweep.ways import find_way
from scaleinv._threads import threads


def sweep(  # noqa: PLR0913
    model: Callable[..., nn.Module],
    optimizer: Callable[..., Any],
    batches: Callable[..., Iterable[tuple[Tensor, Tensor]]],
    grid: Mapping[str, Any],
    *,
    seeds: Iterable[int] = (0,),
    loss_fn: Callable[[Any, Any], Tensor] = functional.cross_entropy,
    every: int = 1,
    memory: float = 2**30,
    executor: Executor | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> xarray.Dataset:
    """Train a model at every point of a grid, from every seed, and return all loss curves.

    >>> from functools import partial
    >>> from scaleinv import optimizers, sweep
    >>> from scaleinv.book import data, models
    >>> grid = {"lr": [1e-4, 1e-3, 1e-2], "weight": [1.0, 8.0], "eps": lambda weight: 1e-8 / weight}
    >>> result = sweep(models.mlp, optimizers.adam, partial(data.batches, 100), grid, seeds=range(2), every=50)
    >>> dict(result.losses.sizes)
    {'lr': 3, 'weight': 2, 'seed': 2, 'step': 2}

    With an optimizer class, one live optimizer trains members of different lr:

    >>> import torch
    >>> grid = {"lr": [1e-3, 1e-2], "betas[0]": [0.9, 0.5]}
    >>> result = sweep(models.mlp, torch.optim.Adam, partial(data.batches, 20), grid, every=10)
    >>> result["lr"].attrs["trained_by"], result["betas[0]"].attrs["trained_by"]
    ('units', 'stacks')

    Args:
        model: ``function(seed=..., **keywords)`` → nn.Module, which trains in the mode that it comes in.  Parameters
            that are frozen, or that the loss does not depend on, stay.  Each member has its own buffers, such as
            running means.  Random numbers, as of dropout, are those of a single run on a CPU that starts with
            ``torch.manual_seed(seed)``.  All members of a seed see the same ones, as they see the same batches, so
            that only their own values make them differ.
        optimizer: a factory of ``scaleinv.optimizers``, such as ``optimizers.adam``; or a class such as
            ``torch.optim.Adam``, one of a third party, or a function: ``optimizer(params, **hyperparameters)``.  Flags
            may then be axes too.
        batches: function(seed=...) → (inputs, targets), a finite iterable with tensors of the same shapes in each step.
            Members of one seed see the same batches.  They train on the device that holds these.
        grid: name → a list (another sequence, a 1-d array) for an axis of the grid; → one value, for all members; → a
            function whose arguments are names of these, for what follows from them.  Names are hyperparameters of the
            optimizer; entries of a pair, such as "betas[0]"; ``weight``, a scale k (parameters are stored k times as
            large, and the model computes with w/k); ``loss``, a scale c (c times the loss is minimized); and keywords
            of ``model``.  A keyword may change shapes of parameters, as a width does, if the smaller model is the
            larger one with zeros in it.
        seeds: each one the seed of a model's start and of its batches.
        loss_fn: function(outputs, targets) → their mean loss, a 0-d tensor.
        every: a point of a loss curve is the mean loss of that many steps.
        memory: bytes that the members in training may take together, in one process.  Convolutions take more for a
            moment, inside their kernels: 20 % more in a network of 32 channels.
        executor: a ``concurrent.futures.Executor`` to hand jobs to, of a process pool, Dask, submitit, …; ``memory`` is
            then for each of its workers.  By default this process trains, on a CPU in as many threads as torch takes.
        folder: keeps finished members.  A sweep that was stopped continues from there when it is called again.
        progress: whether to show a bar.

    Returns:
        An ``xarray.Dataset`` of ``losses``, in the unit of the loss, with the dimensions of the grid's axes, "seed" and
        "step" (the last one of each mean).  NaN and ∞ are results: a member that diverges harms no other.  With an
        optimizer class the attribute ``trained_by`` of an axis says how: "units", one optimizer for its values, by way
        of the units of its hyperparameters; "stacks", one for each value; "members", one for each member, if members
        would affect each other in one or it treats tensors as wholes.  A trial of each way before the training
        compares it with single runs.

    Raises:
        TypeError, ValueError: if something cannot be trained; before anything is, and with a way out.

    A member is the single run up to rounding: sums are in another order, and a factor lr₀/lr that is no power of two
    rounds the stored parameters.  The numbers do not depend on the executor, nor on memory as long as it has room for
    jobs of 32 members; below, a last bit may differ.
    """
    plan, seeds = make_grid(model, optimizer, grid), _check_seeds(seeds)
    _check_executor(executor)
    data = inspect_batches(batches, seeds, every)
    models = inspect_models(model, plan, seeds[0], loss_fn, data.example)
    largest = tensors_of(make_model(model, seeds[0], models.largest))
    way = find_way(optimizer, plan, {name: largest[name] for name in models.parts.trained}, data.device)
    training = Training(model, optimizer, batches, loss_fn, every, plan.fixed, models, way.alone)
    workers = Workers(_number_of_workers(executor, data.device), data.device, memory)
    size = workers.job_size(training, way.members.points, seeds)
    store = open_store(folder, training, plan, seeds)
    curves = Curves(way.members, seeds, data.steps // every, store.load())
    jobs = curves.missing_jobs(training, size)
    with _bar(curves, progress) as bar, threads(1), _pool(executor, workers.number) as pool:
        for result in train_jobs(pool, jobs):
            curves.add(result)
            store.save(result)
            bar.update(len(result.losses))
    return plan.labelled(curves.values, seeds, every, way.labels(plan))


def _check_seeds(seeds: Iterable[int]) -> list[int]:
    numbers = list(seeds) if isinstance(seeds, Iterable) else []
    if not numbers or not all(isinstance(s, Integral) for s in numbers) or len(set(numbers)) < len(numbers):
        raise ValueError(f"seeds={seeds!r}: give a list of integers, at least one, and none twice")
    return [int(s) for s in numbers]


def _check_executor(executor: Any) -> None:
    if not isinstance(executor, Executor | None):
        raise TypeError(
            f"executor={executor!r} is not a concurrent.futures.Executor; a Dask client's get_executor() returns one"
        )


def _number_of_workers(executor: Executor | None, device: torch.device) -> int:
    """How many jobs train at a time in the memory of one process."""
    return torch.get_num_threads() if executor is None and device.type == "cpu" else 1


def _bar(curves: Curves, progress: bool) -> tqdm:
    quiet = {} if progress else {"disable": True}  # disable=False would overrule the user's TQDM_DISABLE
    done = int((~curves.missing).sum())
    return tqdm(total=curves.missing.size, initial=done, leave=False, unit=" trainings", **quiet)


def _pool(executor: Executor | None, workers: int) -> AbstractContextManager[Executor]:
    """The executor, which stays open, or a pool of threads of the sweep's own."""
    default = torch.get_default_device()  # which each thread has for itself
    return (
        nullcontext(executor)
        if executor
        else ThreadPoolExecutor(
            workers, initializer=torch.set_default_device, initargs=(None if default.type == "cpu" else default,)
        )
    )
