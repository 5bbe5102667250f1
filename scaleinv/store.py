"""The results of a sweep, kept in a folder as they come, so that one that was stopped can go on."""

import hashlib
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scaleinv.ensemble import batches_of, model_of


class Store:
    """A folder with a file for each job that is done, and a digest of the sweep that they belong to.

    Args:
        folder: made where it is missing.
        training, grid, seeds: the sweep, of which the digest takes in the values, the names of optimizer and loss, and
            for each seed the largest model's start and the first batch.

    Raises:
        ValueError: for a folder of another sweep.
    """

    def __init__(self, folder, training, grid, seeds):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(repr((grid.axes, grid.fixed, grid.points, seeds, training.every)).encode())
        digest.update(f"{_name(training.optimizer)} {_name(training.loss)}".encode())
        for seed in seeds:
            model = model_of(training, seed, training.largest)
            for x in (*batches_of(training, seed)[0], *model.parameters()):
                digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        mark = self.folder / "sweep"
        if mark.exists() and mark.read_text() != digest.hexdigest():
            raise ValueError(f"folder={str(folder)!r} holds another sweep; pass another folder, or empty it")
        mark.write_text(digest.hexdigest())

    def load(self):
        """For each job that is done its members, the index of their seed, and their losses."""
        for path in self.folder.glob("*.npz"):
            with np.load(path) as done:
                yield done["members"], int(done["at"]), done["losses"]

    def save(self, members, at, losses):
        """Keep them; whole or not at all, whenever the process is killed."""
        path = self.folder / f"{at}-{members[0]}.npz"
        part = path.with_suffix(".partial")
        with open(part, "wb") as file:
            np.savez(file, members=members, at=at, losses=losses)
        os.replace(part, path)


def _name(function):
    if isinstance(function, partial):
        return f"{_name(function.func)} {function.args} {function.keywords}"
    return f"{function.__module__}.{function.__qualname__}"
