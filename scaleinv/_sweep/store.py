"""The results of a sweep, kept in a folder as they come, so that one that was stopped can go on."""

import hashlib
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import torch

from scaleinv._sweep.ensemble import batches_of, model_of


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
        said = repr((grid.axes, grid.fixed, grid.points, seeds, training.every))
        said += " ".join(map(_name, (training.model, training.optimizer, training.loss)))
        digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", said).encode())  # addresses, new in each process
        for seed in seeds:
            model = model_of(training, seed, training.largest)
            batches = batches_of(training, seed)
            with torch.no_grad():
                first = training.loss(model.to(batches[0][0].device)(batches[0][0]), batches[0][1])
            for x in (*(x for batch in batches for x in batch), *model.parameters(), first):
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
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}" + ("" if kind is function else f" {function!r}")
