"""From the members of a sweep to jobs, and from finished jobs to loss curves."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, as_completed
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from scaleinv._sweep.ensemble import Ensemble, Job, Training, train_job
from scaleinv._sweep.kinds import Point
from scaleinv._sweep.members import Members

MEMBERS = {"cpu": 128, "cuda": 4096}  # in a job at most: on a CPU what fits a core's cache, on a GPU what fills it
BLOCK = 32  # members: in jobs of a multiple of it each has its place and its rounding whatever the shapes


class Place(NamedTuple):
    """Where members stand: the indices of their points in the grid, and the index of their seed."""

    members: NDArray[np.intp]
    seed: int


class Result(NamedTuple):
    """Finished members, and their losses, (members, points of a curve)."""

    place: Place
    losses: NDArray[Any]


class Curves:
    """All loss curves of a sweep, filled job by job.

    Attributes:
        values: (points of the grid, seeds, points of a curve); NaN where members are missing.
        missing: (points of the grid, seeds): whether a member is.
    """

    def __init__(self, members: Members, seeds: Sequence[int], length: int, results: Iterable[Result]) -> None:
        self.members, self.seeds = members, seeds
        self.values = np.full((len(members.points), len(seeds), length), np.nan)
        self.missing = np.ones((len(members.points), len(seeds)), dtype=bool)
        for result in results:
            self.add(result)

    def add(self, result: Result) -> None:
        members, seed = result.place
        self.values[members, seed], self.missing[members, seed] = result.losses, False

    def missing_jobs(self, training: Training, size: int) -> Iterator[tuple[Place, Job]]:
        """The jobs, of ``size`` members at most, that train the missing members, stack by stack."""
        order, points = self.members.order, self.members.points
        for index, seed in enumerate(self.seeds):
            left = order[self.missing[order, index]]
            for start in range(0, len(left), size):
                members = left[start : start + size]
                yield Place(members, index), Job(training, seed, tuple(points[i] for i in members), size)


def train_jobs(executor: Executor, jobs: Iterator[tuple[Place, Job]]) -> Iterator[Result]:
    """The results of the jobs as they are done; an error in one of them cancels the others."""
    futures = {executor.submit(train_job, job): place for place, job in jobs}
    try:
        for future in as_completed(futures):
            yield Result(futures.pop(future), future.result())
    finally:
        for future in futures:
            future.cancel()


class Workers(NamedTuple):
    """What trains the jobs of a sweep: how many at a time, on which device, in how many bytes together."""

    number: int
    device: torch.device
    memory: float

    def job_size(self, training: Training, points: Sequence[Point], seeds: Sequence[int]) -> int:
        """How many members of a sweep to train as one."""
        fitting = members_that_fit(Job(training, seeds[0], (points[0],), 2), self.memory, self.number)
        return job_size(len(points), len(seeds), self.number, most_members(self.device), fitting)


def members_that_fit(sample: Job, memory: float, workers: int) -> int:
    """How many members each of the workers can train at a time in its share of the memory.

    Args:
        sample: a job of two members.
        memory: bytes.
        workers: how many share it.

    Raises:
        ValueError: if the memory is too little for one member each, or not a positive number.
    """
    if not isinstance(memory, Real) or not memory > 0:
        raise ValueError(f"memory={memory!r} is not a number of bytes; pass one, such as 2**30")
    pair = Ensemble(sample)
    shared, of_pair = sum(x.nbytes for batch in pair.batches for x in batch), pair.nbytes_for(sample)
    fitting = int(min((memory / workers - shared) / (of_pair / 2), 2**20))
    if fitting < 1:
        needed = int(workers * (shared + of_pair / 2))
        raise ValueError(f"memory={memory!r} is too little to train {workers} at a time: allow {needed:,} bytes")
    return fitting


def job_size(members: int, seeds: int, workers: int, most: int, fitting: int) -> int:
    """How many members to train as one, in jobs of equal size for all workers.

    Args:
        members: of each seed.
        seeds: how many there are.
        workers: how many train at a time.
        most: the most members that suit the device.
        fitting: the most members that fit the memory.
    """
    size = members
    if size > BLOCK:
        jobs_of_a_seed = max(-(-members // most), -(-workers // seeds))
        size = BLOCK * -(-members // (BLOCK * jobs_of_a_seed))
    return size if size <= fitting else fitting // BLOCK * BLOCK or fitting


def most_members(device: torch.device) -> int:
    """The most members of a job that suit a device."""
    return MEMBERS.get(device.type, MEMBERS["cuda"])
