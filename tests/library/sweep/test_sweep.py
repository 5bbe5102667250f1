"""A sweep against single runs with torch.optim, and against itself: chunked, in other workers, stopped and resumed."""

import doctest
import itertools
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
import torch
import xarray
from torch import nn, optim
from torch.func import functional_call
from torch.nn import functional

from scaleinv import optimizers, scale_parameters, sweep, units_of
from scaleinv.book import data
from scaleinv._sweep.ensemble import Ensemble, Job, Training
from scaleinv.book.models import convnet, mlp, transformer
from scaleinv.book.train import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),  # vmap, of attention on a CPU
]

# Every factory, and its oracle where torch.optim has it; a learning rate at which it trains well, and other options.
RULES = {
    "sgd": (optim.SGD, 0.1, {"momentum": 0.9, "dampening": 0.1, "weight_decay": 1e-3}),
    "adagrad": (optim.Adagrad, 0.01, {"lr_decay": 0.1, "weight_decay": 1e-3}),
    "rmsprop": (optim.RMSprop, 0.003, {"momentum": 0.5, "centered": True}),
    "adadelta": (optim.Adadelta, 1.0, {"rho": 0.8}),
    "adam": (optim.Adam, 0.01, {"weight_decay": 1e-3, "amsgrad": True}),
    "adamw": (optim.AdamW, 0.01, {"weight_decay": 0.1}),
    "adamax": (optim.Adamax, 0.01, {"weight_decay": 1e-3}),
    "nadam": (optim.NAdam, 0.01, {"momentum_decay": 0.01}),
    "radam": (optim.RAdam, 0.01, {"weight_decay": 1e-3}),
    "lamb": (None, 0.01, {"weight_decay": 1e-3}),
    "lion": (None, 0.001, {"weight_decay": 1e-3}),
    "signsgd": (None, 0.001, {}),
}
WITH_ORACLE = [name for name, (oracle, _, _) in RULES.items() if oracle]


def digits(steps=5, size=64, dtype=torch.float32):
    return partial(data.batches, steps, size, dtype=dtype, on="cpu")


def double(seed=0, **keywords):
    return mlp(seed=seed, **keywords).double()


def swept(model=mlp, optimizer=optimizers.adam, batches=digits(), grid=None, **arguments):
    """The loss curves of a sweep without a bar."""
    grid = {"lr": [0.001, 0.01]} if grid is None else grid
    return sweep(model, optimizer, batches, grid, progress=False, **arguments).loss


def alone(model, cls, batches, lr, k=1.0, c=1.0, **h):
    """The losses of a single run with torch.optim, which keeps NAdam's mu_product in the default dtype."""
    scale_parameters(model, k)
    before = torch.get_default_dtype()
    torch.set_default_dtype(next(model.parameters()).dtype)
    try:
        return train(model, cls(model.parameters(), lr=lr, **h), batches, loss=c).losses.numpy()
    finally:
        torch.set_default_dtype(before)


def alone_by_rule(model, rule, batches, lr, k=1.0, c=1.0, **h):
    """The losses of a single run with one of scaleinv.optimizers."""
    lr = torch.tensor([lr], dtype=torch.float64)  # a member of one
    optimizer, losses = rule(lr=lr, **h), []
    params = {name: k * p.detach()[None] for name, p in model.named_parameters()}
    state = optimizer.init(params)
    for x, y in batches:
        leaves = {name: p.clone().requires_grad_() for name, p in params.items()}
        loss = functional.cross_entropy(functional_call(model, {n: p[0] / k for n, p in leaves.items()}, (x,)), y)
        grads = dict(zip(leaves, torch.autograd.grad(c * loss, list(leaves.values()))))
        updates, state = optimizer.update(grads, state, params)
        params = optimizers.apply_updates(params, updates)
        losses.append(loss.item())
    return np.array(losses)


class Inline(Executor):
    """Does each job where it is handed in, and keeps it."""

    def __init__(self):
        self.jobs = []

    def submit(self, function, job):
        self.jobs.append(job)
        future = Future()
        future.set_result(function(job))
        return future


def identical(one, other):
    return one.dtype == other.dtype and one.dims == other.dims and np.array_equal(one, other, equal_nan=True)


# A member is the single run.
#
# Tolerance: the sweep adds in another order, for all members at once, and takes 2σ(2x) − 1 for tanh and 1/(1/√x) for a
# root.  So each step differs by some roundings, which the following ones carry on.  In 15 steps the losses came apart
# by 4e-7 in float32, of which half is the rounding of a loss itself, and by 5e-16 in float64.  Ten times as much is
# allowed for other machines, and several times again for centred RMSprop, which subtracts nearly equal numbers.

SINGLE, DOUBLE = 2e-5, 1e-13


def sample(lr):
    """Of a grid of two learning rates, three k, two c and two seeds some members, so that all pairs (lr, k) occur."""
    for i in range(6):
        yield {"lr": (lr, lr / 10)[i % 2], "k": (1.0, 8.0, 10.0)[i % 3], "c": (1.0, 3.0)[i // 3]}, (4, 5)[i // 2 % 2]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "activation, dtype", [(nn.Tanh, torch.float32), (nn.ReLU, torch.float64)], ids=["tanh32", "relu64"]
)
def test_a_member_is_the_single_run(name, activation, dtype):
    cls, lr, options = RULES[name]

    def model(seed):
        return mlp(16, activation=activation, seed=seed).to(dtype)

    grid = {"lr": [lr / 10, lr], "k": [1.0, 8.0, 10.0], "c": [1.0, 3.0], **options}
    rule, batches = getattr(optimizers, name), digits(15, 16, dtype)
    found = swept(model, rule, batches, grid, seeds=(4, 5))
    single = partial(alone, cls=cls) if cls else partial(alone_by_rule, rule=rule)
    for member, seed in sample(lr):
        losses = single(model(seed), batches=batches(seed=seed), **member, **options)
        assert len(set(losses)) > 10
        rtol = SINGLE if dtype == torch.float32 else DOUBLE
        np.testing.assert_allclose(found.sel({**member, "seed": seed}), losses, rtol=rtol, err_msg=f"{member}, {seed}")


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_member_is_the_single_run_of_a_transformer(name):
    cls, lr, options = RULES[name]
    batches = digits(4, 16)
    found = swept(transformer, getattr(optimizers, name), batches, {"lr": [lr / 10, lr], "k": [1.0, 8.0], **options})
    for member in ({"lr": lr, "k": 8.0}, {"lr": lr / 10, "k": 1.0}):
        losses = alone(transformer(), cls, batches(seed=0), **member, **options)
        np.testing.assert_allclose(found.sel({**member, "seed": 0}), losses, rtol=SINGLE)


@pytest.mark.parametrize(
    "name, activation", [("sgd", nn.ReLU), ("adam", nn.Tanh), ("adamw", nn.Sigmoid), ("lamb", nn.Tanh)]
)
def test_smaller_models_are_their_single_runs(name, activation):
    cls, lr, options = RULES[name]
    rule, batches, model = getattr(optimizers, name), digits(15, 16), partial(mlp, activation=activation)
    grid = {"width": [16, 8, 32], "lr": [lr / 3, lr], "k": [1.0, 8.0], **options}
    found = swept(model, rule, batches, grid)
    single = partial(alone, cls=cls) if cls else partial(alone_by_rule, rule=rule)
    for width, k in itertools.product((8, 16, 32), (1.0, 8.0)):
        losses = single(model(width), batches=batches(seed=0), lr=lr, k=k, **options)
        np.testing.assert_allclose(found.sel(width=width, lr=lr, k=k, seed=0), losses, rtol=SINGLE)


def test_what_is_no_number_at_zero_gradient_stays_out_of_the_rest_of_a_smaller_model():
    """With eps = 0 an update is 0/0 where there is no weight; each pixel here is on in some example."""

    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(4):
            yield torch.rand(16, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator)

    found = swept(mlp, optimizers.adam, batches, {"width": [8, 16], "eps": 0.0})
    for width in (8, 16):
        losses = alone(mlp(width), optim.Adam, batches(seed=0), lr=1e-3, eps=0.0)
        np.testing.assert_allclose(found.sel(width=width, seed=0), losses, rtol=SINGLE)


def test_a_keyword_that_changes_the_start_only():
    def model(gain=1.0, seed=0):
        made = mlp(16, seed=seed)
        with torch.no_grad():
            made[3].weight *= gain
        return made

    found = swept(model, grid={"gain": [0.0, 0.5, 2.0], "lr": [0.01]})
    for gain in (0.0, 0.5, 2.0):
        losses = alone(model(gain), optim.Adam, digits()(seed=0), lr=0.01)
        np.testing.assert_allclose(found.sel(gain=gain, lr=0.01, seed=0), losses, rtol=SINGLE)


class Loose(nn.Module):
    """Parameters of 0, 1 and 3 dimensions, functions called by keyword, and a root whose argument may be tiny."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.zeros(10))
        self.weight = nn.Parameter(torch.linspace(-0.1, 0.1, 640).reshape(10, 8, 8))

    def forward(self, images):
        size = images.square().sum(dim=(1, 2), keepdim=True).sqrt()
        shown = functional.linear(input=(images / size).flatten(1), weight=self.weight.flatten(1), bias=self.shift)
        return torch.tanh(input=shown) * self.scale


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_parameters_of_any_shape_and_functions_called_by_keyword(name):
    rule = getattr(optimizers, name)
    found = swept(lambda seed: Loose(), rule, digits(), {"lr": [0.01, 0.1]})
    losses = alone_by_rule(Loose(), rule, digits()(seed=0), lr=0.1)
    np.testing.assert_allclose(found.sel(lr=0.1, seed=0), losses, rtol=SINGLE)


@pytest.mark.parametrize("tiny, other", [("c", "eps"), ("k", "lr")])
def test_scales_beyond_float32_in_a_model_of_float64(tiny, other):
    """Adam's steps stay what they were where the gradient's unit goes into eps, and the parameter's into lr."""
    factor = {"eps": 1e-8, "lr": 1e-2}[other]
    eps = {"k": {"eps": lambda k: 1e-8 / k}, "c": {"lr": 1e-2}}[tiny]
    follows = {"c": {"eps": lambda c: factor * c}, "k": {"lr": lambda k: factor * k}}[tiny]
    found = swept(double, batches=digits(dtype=torch.float64), grid={tiny: [1e-50, 0.1, 1.0], **eps, **follows})
    np.testing.assert_allclose(found.sel({tiny: 1e-50}), found.sel({tiny: 1.0}), rtol=DOUBLE)
    np.testing.assert_allclose(found.sel({tiny: 0.1}), found.sel({tiny: 1.0}), rtol=DOUBLE)


@optimizers.rule(a=optimizers.zeros, b=optimizers.Buffer(lambda w, h: torch.ones_like(w)))
def leapfrog(g, w, s, at, lr=1e-3):
    s.a, s.b = s.b, s.a + g
    return -lr * (s.a + 2 * s.b)


def test_buffers_may_change_places():
    found = swept(mlp, leapfrog, digits(8), {"lr": [0.001, 0.003]})
    losses = alone_by_rule(mlp(), leapfrog, digits(8)(seed=0), lr=0.003)
    np.testing.assert_allclose(found.sel(lr=0.003, seed=0), losses, rtol=SINGLE)


# The grid.


def test_functions_of_axes_and_of_fixed_values():
    found = swept(grid={"lr": lambda k, c: 0.01 * k * c, "k": [1.0, 8.0], "eps": lambda k: 1e-8 / k, "c": 1.0})
    for k in (1.0, 8.0):
        losses = alone(mlp(), optim.Adam, digits()(seed=0), lr=0.01 * k, k=k, eps=1e-8 / k)
        np.testing.assert_allclose(found.sel(k=k, seed=0), losses, rtol=SINGLE)
    np.testing.assert_allclose(found.sel(k=8.0), found.sel(k=1.0), rtol=SINGLE)  # so the book says


def test_entries_of_a_pair_and_a_pair():
    lr = {"lr": [0.01]}
    axis = swept(grid={**lr, "betas[0]": [0.5, 0.9], "betas[1]": 0.9})
    pair = swept(grid={**lr, "betas": (0.5, 0.9)})
    both = swept(grid={**lr, "betas": (0.1, 0.9), "betas[0]": [0.5, 0.8]})
    for beta in (0.5, 0.9):
        losses = alone(mlp(), optim.Adam, digits()(seed=0), lr=0.01, betas=(beta, 0.9))
        np.testing.assert_allclose(axis.sel({"betas[0]": beta, "lr": 0.01, "seed": 0}), losses, rtol=SINGLE)
    np.testing.assert_allclose(pair, axis.sel({"betas[0]": 0.5}), rtol=SINGLE)
    np.testing.assert_allclose(both.sel({"betas[0]": 0.5}), pair, rtol=SINGLE)


def test_flags_and_keywords_that_are_fixed():
    model, batches = partial(mlp, 8), digits(10)
    options = {"momentum": 0.9, "nesterov": True}
    found = swept(model, optimizers.sgd, batches, {"lr": [0.01, 0.1], "activation": nn.ReLU, **options})
    losses = alone(mlp(8, activation=nn.ReLU), optim.SGD, batches(seed=0), lr=0.1, **options)
    np.testing.assert_allclose(found.sel(lr=0.1, seed=0), losses, rtol=SINGLE)
    bound = swept(model, partial(optimizers.sgd, **options), batches, {"lr": [0.01, 0.1], "activation": nn.ReLU})
    assert identical(bound, found)


def test_a_point_of_a_curve_is_the_mean_over_every_steps_and_its_coordinate_the_last():
    grid = {"lr": [0.001, 0.01]}
    each, means = swept(batches=digits(12), grid=grid), swept(batches=digits(12), grid=grid, every=4)
    assert each["step"].values.tolist() == list(range(1, 13)) and means["step"].values.tolist() == [4, 8, 12]
    np.testing.assert_allclose(means, each.values.reshape(2, 1, 3, 4).mean(-1), rtol=3e-7)


def test_dimensions_are_the_axes_as_given_then_seed_and_step_and_nothing_depends_on_their_order():
    grid = {"lr": [0.01, 0.001, 0.1], "k": [2.0, 1.0], "width": [8, 16]}
    found = swept(grid=grid, seeds=(7, 3))
    assert found.dims == ("lr", "k", "width", "seed", "step") and found.shape == (3, 2, 2, 2, 5)
    assert found.lr.values.tolist() == [0.01, 0.001, 0.1] and found["seed"].values.tolist() == [7, 3]
    turned = swept(grid={name: grid[name][::-1] for name in ("width", "lr", "k")}, seeds=(3, 7))
    assert turned.dims == ("width", "lr", "k", "seed", "step")
    xarray.testing.assert_allclose(turned.transpose(*found.dims).sel(found.coords), found, rtol=SINGLE)
    losses = alone(mlp(8, seed=3), optim.Adam, digits()(seed=3), lr=0.1, k=2.0)
    np.testing.assert_allclose(found.sel(lr=0.1, k=2.0, width=8, seed=3), losses, rtol=SINGLE)


def test_each_seed_has_its_own_start_and_its_own_batches():
    found = swept(seeds=range(3))
    assert len(np.unique(found.sel(lr=0.01).isel(step=0))) == 3
    same_start = swept(lambda seed: mlp(), seeds=range(3)).sel(lr=0.01).isel(step=0)
    same_data = swept(batches=lambda seed: digits()(seed=0), seeds=range(3)).sel(lr=0.01).isel(step=0)
    assert len(np.unique(same_start)) == 3 and len(np.unique(same_data)) == 3


@pytest.mark.parametrize("row", [tuple, np.array, partial(torch.tensor, dtype=torch.float64), xarray.DataArray])
def test_an_axis_is_any_row_of_numbers(row):
    found = swept(grid={"lr": row([0.001, 0.01])})
    assert found.lr.values.tolist() == [0.001, 0.01] and identical(found, swept())


UNITS = {"adam": ("W", "L W⁻¹"), "sgd": ("L⁻¹ W²", None), "adagrad": ("W", "L W⁻¹")}


@pytest.mark.parametrize("name", UNITS)
def test_coordinates_carry_their_units_and_select(name):
    lr, eps = UNITS[name]
    grid = {"lr": [0.001, 0.01], "k": [1.0, 8.0], "width": [8], **({"eps": [1e-8, 1e-6]} if eps else {})}
    dataset = sweep(mlp, getattr(optimizers, name), digits(), grid, progress=False)
    assert isinstance(dataset, xarray.Dataset) and list(dataset.data_vars) == ["loss"]
    assert dataset.loss.attrs["units"] == "L"
    assert dataset.lr.attrs["units"] == lr == str(units_of(RULES[name][0]).hyperparameters["lr"])
    assert dataset.k.attrs["units"] == "1" and "units" not in dataset.width.attrs
    if eps:
        assert dataset.eps.attrs["units"] == eps
    assert dataset.sel(lr=0.01, k=8.0).loss.dims == ("width", *(["eps"] if eps else []), "seed", "step")
    assert dataset.loss.sel(lr=0.01).notnull().all()


def test_the_unit_of_an_entry_of_a_pair_and_of_partial_optimizers():
    grid = {"betas[1]": [0.9, 0.99], "lr": [0.01]}
    dataset = sweep(mlp, partial(optimizers.adamw, weight_decay=0.0), digits(), grid, progress=False)
    assert dataset["betas[1]"].attrs["units"] == "1" and dataset.lr.attrs["units"] == "W"


def test_docstring_example():
    found = doctest.testmod(sys.modules[sweep.__module__])
    assert found.failed == 0 and found.attempted > 2


# The numbers depend neither on memory, nor on who computes them, nor on the other members.

# A kernel may round otherwise at the end of a tensor, or where a member's part of one is not aligned to 64 bytes.  So
# numbers are the same in every bit in jobs of any size for EVEN shapes, in jobs of 32, 64, … members for ODD ones.

EVEN, ODD = (32, 64), (7, 9)  # width and batch


def training(width=32, size=64, activation=nn.Tanh, rule="adam", steps=10):
    return Training(
        model=partial(mlp, width, activation=activation),
        optimizer=getattr(optimizers, rule),
        batches=digits(steps, size),
        loss=functional.cross_entropy,
        every=1,
        fixed={},
        largest={},
        masked=False,
        identity=uuid.uuid4().hex,
    )


def points(number):
    return tuple({"lr": lr} for lr in np.logspace(-3, 0, number).tolist())


def in_jobs(common, points, size):
    """The curves of these members, of seed 0, in jobs of this size, of which the last is made up."""
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


GRID = {"lr": np.logspace(-3, -1, 7).tolist(), "k": [1.0, 8.0]}


@pytest.fixture(scope="module")
def whole(one_thread):
    return swept(batches=digits(10), grid=GRID, seeds=(0, 1))


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def least_memory(**arguments):
    """The bytes that the error for too small a bound asks for."""
    with pytest.raises(ValueError, match="memory=1 ") as caught:
        swept(**arguments, memory=1)
    (number,) = re.findall(r"[\d,]{5,}", str(caught.value))
    return int(number.replace(",", ""))


def test_memory_changes_the_jobs_but_no_bit(whole):
    sizes = set()
    for times in (1, 2.5, 6):
        inline = Inline()
        memory = int(times * least_memory(batches=digits(10), grid=GRID))
        found = swept(batches=digits(10), grid=GRID, seeds=(0, 1), memory=memory, executor=inline)
        sizes.add(max(len(job.points) for job in inline.jobs))
        assert identical(found, whole), times
    assert len(sizes) == 3 and min(sizes) <= 2


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("pool", [False, True])
def test_the_number_of_threads_changes_no_bit(number, pool, whole, threads):
    threads(number)
    with ThreadPoolExecutor(number) as executor:
        found = swept(batches=digits(10), grid=GRID, seeds=(0, 1), executor=executor if pool else None)
    assert torch.get_num_threads() == number
    assert identical(found, whole)


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

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, Client(cluster) as client, client.get_executor() as executor:
        yield executor


@pytest.mark.parametrize("pool", [processes, dask])
def test_other_processes_give_the_same_numbers_in_every_bit(pool, whole):
    with pool() as executor:
        found = swept(batches=digits(10), grid=GRID, seeds=(0, 1), executor=executor)
    assert identical(found, whole)


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
    without = swept(mlp, rule, digits(10), {"lr": sane, "k": [1.0, 8.0]}, seeds=(0, 1))
    beside = swept(mlp, rule, digits(10), {"lr": [huge, sane[0], 2 * huge, sane[1]], "k": [1.0, 8.0]}, seeds=(0, 1))
    assert without.notnull().all() and not np.isfinite(beside.sel(lr=huge)).all()
    assert identical(beside.sel(lr=sane), without)


def test_a_smaller_model_that_diverges_leaves_the_others_as_they_are():
    grid = {"lr": [0.01, 1e38], "width": [16, 32]}
    found = swept(mlp, optimizers.sgd, digits(10), grid)
    assert not np.isfinite(found.sel(lr=1e38).isel(step=-1)).any()
    assert identical(found.sel(lr=[0.01]), swept(mlp, optimizers.sgd, digits(10), {**grid, "lr": [0.01]}))


# Memory.

MEASURE = """
import gc
from functools import partial
from scaleinv import optimizers, sweep
from scaleinv.book import data, models

def resident(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024

def peak(memory, **grid):  # above what the process has before
    gc.collect()
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    sweep(models.mlp, optimizers.adam, partial(data.batches, 2, on="cpu"), grid, memory=memory, progress=False)
    return resident("VmHWM") - before

members = [1e-4 * n for n in range(1, 33)]
peak(2**30, lr=[1e-4, 1e-3], width=2000)
print(peak(2**26, lr=members, width=2000, k=8.0), peak(2**26, lr=members, width=[1000, 2000]))
print(peak(2**40, lr=members, width=2000))
"""


def in_a_process(code, *arguments):
    """A Python process of one thread, with the bar that users see; what it frees is the system's at once."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    environment.pop("TQDM_DISABLE")  # set in conftest.py
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **pipes)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="reads the peak of resident memory from /proc")
def test_the_memory_in_use_stays_below_the_bound_and_no_progress_is_no_bar():
    """Adam on 150 000 parameters, of 32 or 64 members.  Slack: 8 MiB, for what Python and torch keep."""
    with in_a_process(MEASURE) as process:
        shown, errors = process.communicate()
    *bounded, free = (int(number) / 2**20 for number in shown.split())
    assert max(bounded) < 64 + 8 and free > 160, (bounded, free)
    assert errors == ""


def test_too_small_a_bound_is_refused_with_the_bytes_that_it_takes(threads):
    for number in (1, 2):
        threads(number)
        need = least_memory()
        assert identical(swept(memory=need), swept())
        with pytest.raises(ValueError, match=rf"memory={need - 1000} .*{need:,}"):
            swept(memory=need - 1000)
    inline = Inline()
    assert least_memory(executor=inline) < need and not inline.jobs  # the bound is for each of its workers


def test_no_bound_is_infinite():
    assert identical(swept(memory=math.inf), swept())


# A folder to resume from.

KILLED = """
import sys, time
from functools import partial
from scaleinv import optimizers, sweep
from scaleinv.book import data, models

def batches(seed):
    time.sleep(0.15)  # a job of each seed's
    return data.batches(10, seed=seed, on="cpu")

grid = {"lr": [0.001, 0.01], "k": [1.0, 8.0]}
sweep(models.mlp, optimizers.adam, batches, grid, seeds=range(8), folder=sys.argv[1])
"""


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}


def test_a_sweep_that_was_killed_goes_on_where_it_was_and_its_bar_was_on_stderr(tmp_path):
    with in_a_process(KILLED, str(tmp_path)) as process:
        deadline = time.monotonic() + 60
        while len(files(tmp_path)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        shown, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL and shown == "" and "/32 [" in errors
    before, inline = files(tmp_path), Inline()
    assert 2 <= len(before) < 8
    (tmp_path / "7-0.partial").write_bytes(b"half")
    grid = {"lr": [0.001, 0.01], "k": [1.0, 8.0]}
    resumed = swept(batches=digits(10), grid=grid, seeds=range(8), folder=tmp_path, executor=inline)
    assert identical(resumed, swept(batches=digits(10), grid=grid, seeds=range(8)))
    after = files(tmp_path)
    assert len(after) == 8 and before.items() <= after.items()  # what was there was left as it was
    assert sorted(job.seed for job in inline.jobs) == list(range(len(before), 8))


def test_a_finished_folder_trains_nothing_and_other_jobs_go_on_from_it(tmp_path):
    inline, grid = Inline(), {"lr": [0.001, 0.01, 0.1, 1.0]}
    whole = swept(grid=grid, folder=tmp_path, executor=inline, memory=2 * least_memory(grid=grid))
    assert len(inline.jobs) == 2
    min(tmp_path.glob("*.npz")).unlink()
    again = Inline()
    assert identical(swept(grid=grid, folder=str(tmp_path), executor=again), whole)
    assert [job.points for job in again.jobs] == [inline.jobs[0].points]
    last = Inline()
    assert identical(swept(grid=grid, folder=tmp_path, executor=last), whole) and not last.jobs


def relu(seed):
    return mlp(activation=nn.ReLU, seed=seed)


def other_end(seed):
    """The same first batch, but other ones after it."""
    for i, (x, y) in enumerate(digits(4)(seed=seed)):
        yield x * (1 + 0.1 * i), y


def half_loss(outputs, targets):
    return functional.cross_entropy(outputs, targets) / 2


OTHERS = {
    "axis": {"grid": {"lr": [0.001, 0.02]}},
    "fixed value": {"grid": {"lr": [0.001, 0.01], "eps": 1e-6}},
    "function": {"grid": {"lr": [0.001, 0.01], "eps": lambda lr: lr / 100}},
    "order": {"grid": {"lr": [0.01, 0.001]}},
    "optimizer": {"optimizer": optimizers.adamw},
    "option": {"optimizer": partial(optimizers.adam, amsgrad=True)},
    "seeds": {"seeds": (1,)},
    "more seeds": {"seeds": (0, 1)},
    "model": {"model": partial(mlp, 16)},
    "activation": {"model": partial(mlp, activation=nn.ReLU)},
    "forward": {"model": relu},
    "batch size": {"batches": digits(4, 16)},
    "number of steps": {"batches": digits(8)},
    "later batches": {"batches": other_end},
    "loss": {"loss": half_loss},
    "option of a loss": {"loss": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "every": {"every": 2},
}


KEPT = {"batches": digits(4), "every": 4}


@pytest.fixture(scope="module")
def kept(one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    swept(**KEPT, folder=folder)
    return folder


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_folder_of_another_sweep_is_refused(other, kept):
    before, inline = files(kept), Inline()
    with pytest.raises(ValueError, match=rf"folder='{re.escape(str(kept))}' .*another folder"):
        swept(**{**KEPT, **other}, folder=kept, executor=inline)
    assert not inline.jobs and files(kept) == before


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), lambda outputs, targets: functional.cross_entropy(outputs, targets)]
)
def test_any_loss_may_be_kept(loss, tmp_path):
    found, inline = swept(loss=loss, folder=tmp_path), Inline()
    assert identical(found, swept()) and identical(swept(loss=loss, folder=tmp_path, executor=inline), found)
    assert not inline.jobs


def test_a_folder_goes_on_with_functions_made_anew(tmp_path):
    """As another process makes them, at other addresses."""

    class Loss:
        def __call__(self, outputs, targets):
            return functional.cross_entropy(outputs, targets)

    made = [{"model": partial(mlp, activation=lambda: nn.Tanh()), "loss": Loss()} for _ in range(2)]
    found, inline = swept(**made[0], folder=tmp_path), Inline()
    assert identical(swept(**made[1], folder=tmp_path, executor=inline), found) and not inline.jobs


def test_models_with_parameters_of_no_dimension_may_be_kept(tmp_path):
    found = swept(lambda seed: Loose(), folder=tmp_path)
    assert identical(swept(lambda seed: Loose(), folder=tmp_path), found)


# What cannot be trained is refused before anything is: each message names the argument, the value, and the way out.


def of(*batches):
    return lambda seed: list(batches)


def with_(steps, **changes):
    """Digits whose batches of a step or a seed are changed."""

    def batches(seed):
        for i, batch in enumerate(digits(steps, 16)(seed=seed)):
            yield changes.get(f"step{i}", changes.get(f"seed{seed}", lambda x, y: (x, y)))(*batch)

    return batches


def few(x, y):
    return x[:1], y[:1]


class Normed(nn.Module):
    """A width that a LayerNorm averages over, and an output that starts at zero."""

    def __init__(self, width):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(64, width), nn.LayerNorm(width), nn.Linear(width, 10)
        nn.init.zeros_(self.last.weight)

    def forward(self, images):
        return self.last(self.norm(self.first(images.flatten(1))))


def normed(width=8, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Normed(width)


def dropout(seed):
    return nn.Sequential(mlp(seed=seed), nn.Dropout(0.5))


def frozen(seed):
    model = mlp(seed=seed)
    model[1].requires_grad_(False)
    return model


def empty(seed):
    return nn.Flatten()


def mixed(seed):
    model = mlp(seed=seed)
    model[1].double()
    return model


X, Y = torch.zeros(4, 8, 8), torch.zeros(4, dtype=torch.long)
REFUSED = {
    "no axis": ({"grid": {}}, ["grid", "no axis", "list"]),
    "no axis but values": ({"grid": {"lr": 0.1}}, ["grid", "no axis", "list"]),
    "grid of another type": ({"grid": [0.1, 0.2]}, ["grid", "0.1"]),
    "empty axis": ({"grid": {"lr": []}}, ["grid['lr']", "empty", "at least one"]),
    "empty array": ({"grid": {"lr": np.array([])}}, ["grid['lr']", "empty", "at least one"]),
    "unknown name": ({"grid": {"learning_rate": [0.1]}}, ["'learning_rate'", "lr", "betas[0]", "k", "c", "width"]),
    "name of a seed": ({"grid": {"lr": [0.1], "seed": [0, 1]}}, ["'seed'", "names are"]),
    "unknown entry": ({"grid": {"lr": [0.1], "betas[2]": 0.9}}, ["'betas[2]'", "betas[0]"]),
    "function of an unknown name": ({"grid": {"lr": [0.1], "eps": lambda q: q}}, ["grid['eps']", "['q']", "lr"]),
    "function of a function": (
        {"grid": {"lr": [0.1], "eps": lambda lr: lr, "k": lambda eps: eps}},
        ["grid['k']", "['eps']", "lr"],
    ),
    "function to NaN": ({"grid": {"lr": [0.1], "eps": lambda lr: math.nan}}, ["eps", "nan"]),
    "function to a list": ({"grid": {"lr": [0.1], "eps": lambda lr: [lr]}}, ["eps", "[0.1]", "number"]),
    "function to a pair": ({"grid": {"lr": [0.1], "betas": lambda lr: (lr, lr)}}, ["betas", "(0.1, 0.1)"]),
    "NaN": ({"grid": {"lr": [0.1, math.nan]}}, ["lr", "nan"]),
    "infinity": ({"grid": {"lr": [math.inf]}}, ["lr", "inf"]),
    "negative": ({"grid": {"lr": [-0.1]}}, ["lr", "-0.1", "[0, ∞)"]),
    "fixed negative": ({"grid": {"lr": [0.1], "eps": -1.0}}, ["eps", "-1.0"]),
    "beta of 1": ({"grid": {"lr": [0.1], "betas[0]": [0.9, 1.0]}}, ["betas[0]", "1.0", "[0, 1)"]),
    "no number": ({"grid": {"lr": ["0.1"]}}, ["lr", "'0.1'", "number"]),
    "a flag on an axis": ({"grid": {"lr": [0.1], "amsgrad": [True, False]}}, ["amsgrad", "True"]),
    "pairs on an axis": ({"grid": {"lr": [0.1], "betas": [(0.9, 0.9), (0.5, 0.5)]}}, ["betas", "betas[0]"]),
    "k of 0": ({"grid": {"k": [1.0, 0.0]}}, ["grid['k']", "0.0", "positive"]),
    "k negative": ({"grid": {"k": [-1.0]}}, ["grid['k']", "-1.0", "positive"]),
    "k infinite": ({"grid": {"k": [math.inf]}}, ["grid['k']", "inf", "finite"]),
    "k NaN": ({"grid": {"k": [math.nan]}}, ["grid['k']", "nan"]),
    "k fixed": ({"grid": {"lr": [0.1], "k": -2}}, ["grid['k']", "-2"]),
    "c of 0": ({"grid": {"c": [0]}}, ["grid['c']", "0", "positive"]),
    "c no number": ({"grid": {"c": ["1"]}}, ["grid['c']", "'1'", "number"]),
    "doubled values": ({"grid": {"lr": [0.1, 0.2, 0.1]}}, ["grid['lr']", "0.1", "twice"]),
    "2-d list": ({"grid": {"lr": [[0.1], [0.2]]}}, ["grid['lr']", "1-d"]),
    "2-d array": ({"grid": {"lr": np.ones((2, 2))}}, ["grid['lr']", "1-d"]),
    "2-d tensor": ({"grid": {"lr": torch.ones(2, 2)}}, ["grid['lr']", "1-d"]),
    "column": ({"grid": {"lr": torch.tensor([[0.1], [0.2]])}}, ["grid['lr']", "1-d"]),
    "nesterov of some members": (
        {"optimizer": optimizers.sgd, "grid": {"momentum": [0.9, 0.0], "nesterov": True}},
        ["nesterov", "momentum"],
    ),
    "torch's optimizer": ({"optimizer": optim.Adam}, ["optimizer", "Adam", "scaleinv.optimizers"]),
    "seeds empty": ({"seeds": ()}, ["seeds=()", "at least one"]),
    "seeds doubled": ({"seeds": (0, 1, 0)}, ["seeds=(0, 1, 0)", "twice"]),
    "seeds no integers": ({"seeds": (0.5,)}, ["seeds=(0.5,)", "integer"]),
    "seeds one number": ({"seeds": 3}, ["seeds=3", "integer"]),
    "every too long": ({"every": 3}, ["every=3", "5 steps"]),
    "every of 0": ({"every": 0}, ["every=0"]),
    "every no integer": ({"every": 2.5}, ["every=2.5"]),
    "no batches": ({"batches": of()}, ["batches(seed=0)", "0 batches", "(inputs, targets)"]),
    "no pairs": ({"batches": of((X,))}, ["batches(seed=0)", "(inputs, targets)"]),
    "tensors for pairs": ({"batches": of(X, X)}, ["batches(seed=0)", "(inputs, targets)"]),
    "numbers for pairs": ({"batches": of(1.0)}, ["batches(seed=0)", "(inputs, targets)"]),
    "arrays": ({"batches": of((X.numpy(), Y.numpy()))}, ["batches(seed=0)", "tensor"]),
    "a batch of another shape": ({"batches": with_(5, step3=few)}, ["batches", "[16, 8, 8]", "[1, 8, 8]"]),
    "another type": ({"batches": with_(5, step3=lambda x, y: (x.double(), y))}, ["batches", "float64"]),
    "a seed of another shape": ({"batches": with_(5, seed1=few), "seeds": (0, 1)}, ["batches", "[1, 8, 8]"]),
    "a seed of other steps": ({"batches": lambda seed: digits(5 - seed)(seed=0), "seeds": (0, 1)}, ["batches", "4"]),
    "NaN in the data": ({"batches": of((X * math.nan, Y))}, ["nan", "model"]),
    "buffers": ({"model": convnet}, ["model()", "running_mean", "without"]),
    "dropout": ({"model": dropout}, ["model()", "random"]),
    "frozen parameters": ({"model": frozen}, ["model()", "frozen", "1.weight"]),
    "no parameters": ({"model": empty}, ["model()", "parameters"]),
    "parameters of two types": ({"model": mixed, "batches": digits()}, ["model()", "float32", "float64"]),
    "depths": ({"grid": {"depth": [1, 2]}}, ["'depth': 1", "'depth': 2", "by itself"]),
    "activations": ({"grid": {"activation": [nn.ReLU, nn.Tanh]}}, ["ReLU", "Tanh", "by itself"]),
    "widths of a LayerNorm": ({"model": transformer, "grid": {"width": [8, 16]}}, ["'width': 8", "by itself"]),
    "widths before a zero": ({"model": normed, "grid": {"width": [8, 16]}}, ["'width': 8", "by itself"]),
    "a loss for each example": (
        {"loss": partial(functional.cross_entropy, reduction="none")},
        ["loss", "model()", "0-d"],
    ),
    "a loss that is no tensor": ({"loss": lambda outputs, targets: 1.0}, ["loss", "1.0", "0-d"]),
    "memory no number": ({"memory": None}, ["memory=None", "bytes"]),
    "memory NaN": ({"memory": math.nan}, ["memory=nan", "bytes"]),
    "memory negative": ({"memory": -1}, ["memory=-1", "bytes"]),
}


@pytest.mark.parametrize("arguments, parts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_before_anything_is(arguments, parts):
    inline, state = Inline(), torch.get_rng_state()
    with pytest.raises((ValueError, TypeError)) as caught:
        swept(**arguments, executor=inline)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert not inline.jobs and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("executor", [4, ThreadPoolExecutor, "processes", map])
def test_what_is_no_executor_is_refused(executor):
    with pytest.raises(TypeError, match=r"executor=.* concurrent\.futures\.Executor.*get_executor"):
        swept(executor=executor)


# What it leaves behind.


def state():
    return torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state().tolist()


def noisy(seed):
    """A model that seeds the global generator, as careless ones do."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def failing(seed):
    """Fails once training has begun: in the second seed, of which the model is made by the job only."""
    if seed:
        raise ZeroDivisionError("a model's own")
    return noisy(seed)


@pytest.mark.parametrize("grad", [True, False])
def test_torchs_global_state_stays(grad, threads):
    threads(2)
    with torch.set_grad_enabled(grad):
        before = state()
        found = swept(noisy, seeds=(0, 1))
        assert state() == before
        with pytest.raises(ZeroDivisionError, match="a model's own"):
            swept(failing, seeds=(0, 1))
        assert state() == before
        with pytest.raises(ValueError):
            swept(noisy, loss=lambda outputs, targets: outputs)
        assert state() == before
    threads(1)
    assert identical(found, swept(noisy, seeds=(0, 1)))


def test_models_and_batches_stay():
    model, batches = mlp(), list(digits()(seed=0))
    copies = [p.detach().clone() for p in model.parameters()], [(x.clone(), y.clone()) for x, y in batches]
    swept(lambda seed: model, batches=lambda seed: batches)
    assert all(map(torch.equal, model.parameters(), copies[0])) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for old, new in zip(copies[1], batches) for a, b in zip(old, new))


def test_a_given_executor_goes_on_working():
    with ThreadPoolExecutor(1) as executor:
        swept(executor=executor)
        assert executor.submit(sum, [1, 2]).result() == 3


def test_the_rest_is_not_trained_once_a_job_has_failed():
    started = []

    def model(seed):
        started.append(seed)
        return failing(seed)

    with pytest.raises(ZeroDivisionError):
        swept(model, seeds=range(50))
    assert max(started) < 25


def test_a_bar_can_be_turned_off_for_all(capfd):
    assert os.environ["TQDM_DISABLE"] == "1"  # in conftest.py
    sweep(mlp, optimizers.adam, digits(), {"lr": [0.1]})
    assert capfd.readouterr() == ("", "")
