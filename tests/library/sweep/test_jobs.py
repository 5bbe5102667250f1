"""The losses depend neither on memory, nor on who computes them, nor on the other members."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import noise
import numpy as np
import pytest
import torch
from runs import SINGLE, Inline, digits, identical, least_memory, swept
from torch import nn
from torch.nn import functional

from scaleinv import optimizers
from scaleinv._sweep.ensemble import Ensemble, Job, Training
from scaleinv._sweep.inspection import Models, Parts
from scaleinv._sweep.jobs import job_size, members_that_fit, most_members
from scaleinv.book.models import mlp

pytestmark = pytest.mark.usefixtures("one_thread")


# A kernel may round otherwise at the end of a tensor, or where a member's part of one is not aligned to 64 bytes.  So
# numbers are the same in every bit in jobs of any size for EVEN shapes, in jobs of 32, 64, … members for ODD ones.

EVEN, ODD = (32, 64), (7, 9)  # width and batch


def training(width=32, size=64, activation=nn.Tanh, rule="adam", steps=10):
    return Training(
        model=partial(mlp, width, activation=activation),
        optimizer=getattr(optimizers, rule),
        batches=digits(steps, size),
        loss_fn=functional.cross_entropy,
        every=1,
        fixed={},
        models=Models({}, False, Parts(("1.weight", "1.bias", "3.weight", "3.bias"), ())),
    )


def points(number):
    return tuple({"lr": lr} for lr in np.logspace(-3, 0, number).tolist())


def in_jobs(common, points, size):
    """The curves of these members, of seed 0, in jobs of this size; copies fill up the last."""
    jobs = [Job(common, 0, points[i : i + size], size) for i in range(0, len(points), size)]
    ensemble = Ensemble(jobs[0])
    return np.concatenate([ensemble.train(job) for job in jobs])


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_jobs_of_any_size_give_the_same_numbers_in_every_bit(activation):
    common = training(*EVEN, activation)
    whole = in_jobs(common, points(10), 64)
    assert whole.shape == (10, 10)
    for size in (1, 2, 3, 7):
        assert np.array_equal(in_jobs(common, points(10), size), whole), size


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_jobs_of_a_multiple_of_32_give_the_same_numbers_in_every_bit_for_any_shape(activation):
    common = training(*ODD, activation)
    whole = in_jobs(common, points(70), 96)
    assert np.array_equal(in_jobs(common, points(70), 64), whole)
    assert np.array_equal(in_jobs(common, points(70), 32), whole)
    np.testing.assert_allclose(in_jobs(common, points(70)[:7], 3), whole[:7], rtol=SINGLE)  # and else up to rounding


@pytest.mark.parametrize("name", ["sgd", "nadam", "lamb"])
def test_jobs_of_other_rules_too(name):
    common = training(rule=name)
    assert np.array_equal(in_jobs(common, points(10), 4), in_jobs(common, points(10), 64))


def test_an_ensemble_trains_every_job_as_its_first():
    common = training(rule="nadam")
    first = Job(common, 0, points(3), 3)
    others = [Job(common, 1, points(6)[3:], 3), Job(common, 0, ({"lr": 1e38},), 3)]
    ensemble = Ensemble(first)
    before = ensemble.train(first)
    for job in others:
        assert not np.array_equal(ensemble.train(job)[0], before[0])
        assert np.array_equal(ensemble.train(first), before)


GRID = {"lr": np.logspace(-3, -1, 7).tolist(), "weight": [1.0, 8.0]}


@pytest.fixture(scope="module")
def whole(one_thread):
    return swept(batches=digits(10), grid=GRID, seeds=(0, 1))


@pytest.mark.parametrize(
    "members, seeds, workers, most, fitting, size",
    [
        (20, 1, 1, 128, 1000, 20),  # a few train as one, for any number of workers
        (32, 1, 4, 128, 1000, 32),
        (33, 1, 1, 128, 1000, 64),  # more in blocks
        (140, 1, 1, 128, 1000, 96),  # two jobs of equal size
        (128, 1, 1, 128, 1000, 128),
        (128, 1, 2, 128, 1000, 64),  # a job for each worker
        (128, 2, 2, 128, 1000, 128),  # who has a seed
        (140, 2, 3, 128, 1000, 96),
        (140, 1, 3, 128, 1000, 64),
        (5000, 1, 1, 4096, 10**6, 2528),
        (140, 1, 1, 128, 96, 96),  # the memory is enough
        (140, 1, 1, 128, 95, 64),  # for whole blocks
        (140, 1, 1, 128, 31, 31),  # for less than one
        (20, 1, 1, 128, 7, 7),
        (20, 1, 1, 128, 20, 20),
    ],
)
def test_jobs_have_equal_sizes_in_blocks_for_all_workers_within_the_memory(
    members, seeds, workers, most, fitting, size
):
    assert job_size(members, seeds, workers, most, fitting) == size


def test_the_members_that_fit_are_counted_in_bytes_for_each_worker():
    sample = Job(training(), 0, points(1), 2)
    ensemble = Ensemble(sample)
    member, batches = ensemble.nbytes_for(sample) / 2, 10 * 64 * (64 * 4 + 8)  # images in float32 and labels
    for workers, number in ((1, 1), (1, 10), (3, 10)):
        memory = workers * (batches + number * member)
        assert members_that_fit(sample, memory, workers) == number
        assert members_that_fit(sample, memory + workers * 0.9 * member, workers) == number
    assert members_that_fit(sample, 1e300, 1) == 2**20
    with pytest.raises(ValueError, match=f"train 3 at a time: allow {int(3 * (batches + member)):,} bytes"):
        members_that_fit(sample, 3 * batches, 3)


def test_a_job_has_as_many_members_as_suit_the_device():
    assert [most_members(torch.device(device)) for device in ("cpu", "cuda", "xpu")] == [128, 4096, 4096]


def test_memory_changes_the_jobs_but_no_bit(whole):
    sizes = set()
    for times in (1, 2.5, 6):
        inline = Inline()
        memory = int(times * least_memory(batches=digits(10), grid=GRID))
        result = swept(batches=digits(10), grid=GRID, seeds=(0, 1), memory=memory, executor=inline)
        sizes.add(max(len(job.points) for job in inline.jobs))
        assert identical(result, whole), times
    assert len(sizes) == 3 and min(sizes) <= 2


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("pool", [False, True])
def test_the_number_of_threads_changes_no_bit(number, pool, whole, threads):
    threads(number)
    with ThreadPoolExecutor(number) as executor:
        result = swept(batches=digits(10), grid=GRID, seeds=(0, 1), executor=executor if pool else None)
    assert torch.get_num_threads() == number
    assert identical(result, whole)


@pytest.mark.parametrize("pool", [False, True])
def test_nor_does_it_for_odd_shapes(pool, threads):
    arguments = {"model": partial(mlp, ODD[0]), "batches": digits(10, ODD[1]), "grid": {"lr": np.logspace(-3, 0, 140)}}
    one = swept(**arguments)
    threads(3)
    with ThreadPoolExecutor(3) as executor:
        assert identical(swept(**arguments, executor=executor if pool else None), one)


@contextmanager
def processes():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def dask():
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client, client.get_executor() as executor:
        yield executor


@pytest.mark.parametrize("pool", [processes, dask])
def test_other_processes_give_the_same_numbers_in_every_bit(pool):
    rule = {"model": noise.model, "batches": noise.batches(10), "grid": GRID, "seeds": (0, 1)}
    live = {**rule, "optimizer": torch.optim.Adam, "grid": {**GRID, "p": 0.1}}
    with pool() as executor:
        results = [swept(**arguments, executor=executor) for arguments in (rule, live)]
    assert identical(results[0], swept(**rule)) and identical(results[1], swept(**live))


def test_threads_do_not_draw_from_each_others_random_numbers(threads):
    """Two threads make models at the same time, from the one generator that torch has."""

    def model(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            time.sleep(0.003)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def batches(seed):
        torch.manual_seed(seed)
        for _ in range(2):
            time.sleep(0.001)
            yield torch.randn(16, 8, 8), torch.randint(10, (16,))

    before = torch.get_rng_state()
    one = swept(model, batches=batches, seeds=range(6))
    threads(2)
    assert identical(swept(model, batches=batches, seeds=range(6)), one)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name, huge", [("sgd", 1e38), ("adam", 1e38), ("lamb", 1e38)])
def test_members_that_diverge_leave_the_others_as_they_are_in_every_bit(name, huge):
    rule, sane = getattr(optimizers, name), [0.01, 0.001]
    without = swept(mlp, rule, digits(10), {"lr": sane, "weight": [1.0, 8.0]}, seeds=(0, 1))
    beside = swept(
        mlp, rule, digits(10), {"lr": [huge, sane[0], 2 * huge, sane[1]], "weight": [1.0, 8.0]}, seeds=(0, 1)
    )
    assert without.notnull().all() and not np.isfinite(beside.sel(lr=huge)).all()
    assert identical(beside.sel(lr=sane), without)


def test_a_smaller_model_that_diverges_leaves_the_others_as_they_are():
    grid = {"lr": [0.01, 1e38], "width": [16, 32]}
    result = swept(mlp, optimizers.sgd, digits(10), grid)
    assert not np.isfinite(result.sel(lr=1e38).isel(step=-1)).any()
    assert identical(result.sel(lr=[0.01]), swept(mlp, optimizers.sgd, digits(10), {**grid, "lr": [0.01]}))
