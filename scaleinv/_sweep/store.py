"""The results of a sweep, kept in a folder as they come, so that a stopped sweep can continue."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from scaleinv._sweep.ensemble import Training
from scaleinv._sweep.grid import Grid
from scaleinv._sweep.inspection import loss_of
from scaleinv._sweep.jobs import Place, Result
from scaleinv._sweep.sources import make_batches, make_model, tensors_of


class Store(Protocol):
    """Where the results of a sweep are kept."""

    def load(self) -> Iterator[Result]:
        """The results of all finished jobs."""

    def save(self, result: Result) -> None:
        """Keep a result; whole or not at all, whenever the process is killed."""


def open_store(folder: str | os.PathLike[str] | None, training: Training, grid: Grid, seeds: Sequence[int]) -> Store:
    """A store in this folder, or one that keeps nothing if it is None.

    Raises:
        ValueError: if the folder belongs to another sweep.
    """
    return NoStore() if folder is None else FolderStore(folder, digest_of(training, grid, seeds))


class NoStore:
    """Keeps nothing."""

    def load(self) -> Iterator[Result]:
        return iter(())

    def save(self, result: Result) -> None:
        pass


class FolderStore:
    """A folder with a file for each finished job, and a digest of the sweep that they belong to.

    Args:
        folder: made if it is missing.
        digest: see ``digest_of``.

    Raises:
        ValueError: if the folder belongs to another sweep.
    """

    def __init__(self, folder: str | os.PathLike[str], digest: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / "sweep"
        if mark.exists() and mark.read_text() != digest:
            raise ValueError(f"folder={str(folder)!r} holds another sweep; pass another folder, or empty it")
        mark.write_text(digest)

    def load(self) -> Iterator[Result]:
        for path in self.folder.glob("*.npz"):
            with np.load(path) as file:
                yield Result(Place(file["members"], int(file["at"])), file["losses"])

    def save(self, result: Result) -> None:
        members, seed = result.place
        path = self.folder / f"{seed}-{members[0]}.npz"
        part = path.with_suffix(".partial")
        with open(part, "wb") as file:
            np.savez(file, members=members, at=seed, losses=result.losses)
        os.replace(part, path)


def digest_of(training: Training, grid: Grid, seeds: Sequence[int]) -> str:
    """A digest of a sweep: its values, the names of model, optimizer and loss, and for each seed its batches, the
    largest model's initial parameters and buffers and their first loss."""
    text = repr((grid.axes, grid.fixed, grid.points, list(seeds), training.every))
    text += " ".join(map(_name, (training.model, training.optimizer, training.loss_fn)))
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", text).encode())  # addresses, new in each process
    for seed in seeds:
        for x in _tensors_of(training, seed):
            digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors_of(training: Training, seed: int) -> list[Tensor]:
    batches = make_batches(training.batches, seed)
    model = make_model(training.model, seed, training.models.largest).to(batches[0][0].device)
    first_loss = loss_of(model, training.loss_fn, batches[0], seed)
    return [*(x for batch in batches for x in batch), *tensors_of(model).values(), first_loss]


def _name(function: Callable[..., Any]) -> str:
    if isinstance(function, partial):
        return f"{_name(function.func)} {function.args} {function.keywords}"
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}" + ("" if named is function else f" {function!r}")
