"""One live optimizer trains many members: each is the single run, and the sweep knows when it would not be."""

from functools import partial

import numpy as np
import pytest
import torch
from runs import DOUBLE, SINGLE, Inline, alone, digits, double, identical, swept
from torch import nn, optim

from scaleinv import sweep
from scaleinv.book.models import mlp

pytestmark = pytest.mark.usefixtures("one_thread")


class Lion(optim.Optimizer):
    """Chen et al. 2023 with decoupled decay, as third parties write it: its units are measured."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - lr * group["weight_decay"]).add_(torch.sign(beta1 * m + (1 - beta1) * p.grad), alpha=-lr)
                m.lerp_(p.grad, 1 - beta2)


class Stranger(optim.Optimizer):
    """SGD with something added to it."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def gradients(self):
        return [p.grad for p in self.param_groups[0]["params"]]

    @torch.no_grad()
    def step(self):
        for p, g in zip(self.param_groups[0]["params"], self.gradients()):
            p.add_(g, alpha=-self.param_groups[0]["lr"])


class Clipped(Stranger):
    """By the norm of all gradients, where that is large."""

    def gradients(self):
        grads = super().gradients()
        norm = torch.stack([g.norm() for g in grads]).norm()
        return [g / norm.clamp(min=1e-3) for g in grads]


class Skipping(Stranger):
    """Makes no step at all if some gradient is not finite."""

    def gradients(self):
        grads = super().gradients()
        finite = all(g.isfinite().all() for g in grads)
        return grads if finite else [torch.zeros_like(g) for g in grads]


class MatricesOnly(Stranger):
    """Treats matrices in another way than vectors."""

    def gradients(self):
        return [g if g.ndim == 2 else g.sign() / 16 for g in super().gradients()]


class Noisy(Stranger):
    def gradients(self):
        return [g + 0.01 * torch.randn_like(g) for g in super().gradients()]


class Failing(Stranger):
    def gradients(self):
        if any(g.isnan().any() for g in super().gradients()):
            raise FloatingPointError("a gradient is not a number")
        return super().gradients()


class Replacing(Stranger):
    """Puts new tensors in the place of the parameters' memory."""

    def step(self):
        for p in self.param_groups[0]["params"]:
            p.data = p.data - self.param_groups[0]["lr"] * p.grad


LR, DECADE = {"lr": "units"}, [1e-3, 1e-2]
# For each optimizer: the grid, and how its axes are trained.
TRAINED = {
    "adam": (optim.Adam, {"lr": DECADE, "eps": [1e-8, 1e-4]}, {"lr": "units", "eps": "units"}),
    "flags": (
        optim.Adam,
        {"lr": DECADE, "amsgrad": [False, True], "betas[0]": [0.9, 0.5]},
        {"lr": "units", "amsgrad": "stacks", "betas[0]": "stacks"},
    ),
    "adamw": (optim.AdamW, {"lr": DECADE}, {"lr": "stacks"}),  # each has its own lr·λ
    "adamw, one decay a step": (optim.AdamW, {"lr": DECADE, "weight_decay": lambda lr: 1e-4 / lr}, LR),
    "sgd": (optim.SGD, {"lr": [0.01, 0.1], "momentum": 0.9}, LR),
    "sgd with decay": (
        partial(optim.SGD, momentum=0.9),
        {"lr": [0.01, 0.1], "weight_decay": [0.0, 1e-3, 1e-2]},
        {"lr": "units", "weight_decay": "units"},
    ),
    "rmsprop": (optim.RMSprop, {"lr": DECADE, "momentum": 0.5}, LR),
    "nadam": (optim.NAdam, {"lr": DECADE}, LR),
    "radam": (optim.RAdam, {"lr": DECADE}, {"lr": "stacks"}),  # lr has no unit
    "adafactor": (optim.Adafactor, {"lr": [0.01, 0.1]}, {"lr": "members"}),
    "lion": (Lion, {"lr": DECADE, "weight_decay": lambda lr: 1e-4 / lr}, LR),
    "clipped": (Clipped, {"lr": DECADE}, {"lr": "members"}),
    "skipping": (Skipping, {"lr": [0.01, 0.1]}, {"lr": "members"}),
    "matrices": (MatricesOnly, {"lr": [0.01, 0.1]}, {"lr": "members"}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_a_member_is_the_single_run_whichever_way_it_is_trained(name):
    optimizer, grid, ways = TRAINED[name]
    batches = digits(12, 16)
    result = sweep(partial(mlp, 16), optimizer, batches, {**grid, "weight": [1.0, 3.0]}, progress=False)
    assert {axis: result[axis].attrs["trained_by"] for axis in ways} == ways
    axes = [axis for axis in result.losses.dims if axis not in ("seed", "step")]
    members = result.losses.isel(seed=0).stack(member=axes)
    for i in range(0, members.sizes["member"], 3):
        curve = members.isel(member=i)
        h = {axis: curve[axis].item() for axis in axes}
        decay = {"weight_decay": 1e-4 / h["lr"]} if callable(grid.get("weight_decay")) else {}
        fixed = {axis: x for axis, x in grid.items() if not callable(x) and not isinstance(x, list)}
        pair = {"betas": (h.pop("betas[0]"), 0.999)} if "betas[0]" in h else {}
        losses = alone(mlp(16), optimizer, batches(seed=0), **h, **decay, **fixed, **pair)
        assert len(set(losses)) > 8
        np.testing.assert_allclose(curve, losses, rtol=SINGLE, err_msg=str(h))


POWERS = [2.0**-n for n in (12, 10, 7)]
SHARED = {
    "adam": (optim.Adam, {"lr": POWERS}),
    "adamw": (optim.AdamW, {"lr": POWERS, "weight_decay": lambda lr: 2**-12 / lr}),
    "sgd": (partial(optim.SGD, momentum=0.9), {"lr": POWERS}),
    "nadam": (optim.NAdam, {"lr": POWERS}),
}


@pytest.mark.parametrize("name", SHARED)
def test_at_powers_of_two_a_member_in_common_units_is_the_member_alone_in_every_bit(name):
    """Alone there are no common units: the member keeps its own lr, and no scale is in its graph."""
    optimizer, grid = SHARED[name]
    together = sweep(mlp, optimizer, digits(8), grid, progress=False)
    assert together.lr.attrs["trained_by"] == "units"
    for lr in POWERS[::2]:
        assert identical(together.losses.sel(lr=[lr]), swept(mlp, optimizer, digits(8), {**grid, "lr": [lr]}))


class Bench(nn.Module):
    """y = w·x, the book's test bench: one product for each output, which rounds the same way everywhere."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(-1, 1, 16))

    def forward(self, x):
        return self.w * x


@pytest.mark.parametrize("optimizer", [optim.SGD, partial(optim.Adam, fused=True), Lion])
def test_at_powers_of_two_a_member_is_the_single_run_in_every_bit(optimizer):
    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        return [(torch.randn(16, generator=generator), torch.zeros(16)) for _ in range(20)]

    def half_square(outputs, targets):
        return (0.5 * (outputs - 1).square()).sum()

    ends = sweep(lambda seed: Bench(), optimizer, batches, {"lr": POWERS}, loss_fn=half_square, progress=False)
    assert ends.lr.attrs["trained_by"] == "units"
    for lr in POWERS:
        model, losses = Bench(), []
        single = optimizer(model.parameters(), lr=lr)
        for x, y in batches(0):
            loss = half_square(model(x), y)
            losses.append(loss.item())
            single.zero_grad()
            loss.backward()
            single.step()
        assert ends.losses.sel(lr=lr, seed=0).values.tolist() == losses


def test_other_ratios_cost_rounding_only():
    grid = {"lr": [1e-3, 3e-3, 7e-2], "eps": [1e-8, 3e-5]}
    result = sweep(double, optim.Adam, digits(15, dtype=torch.float64), grid, progress=False)
    assert result.eps.attrs == {"units": "L W⁻¹", "trained_by": "units"}
    for lr in grid["lr"]:
        losses = alone(double(), optim.Adam, digits(15, dtype=torch.float64)(seed=0), lr=lr, eps=3e-5)
        np.testing.assert_allclose(result.losses.sel(lr=lr, eps=3e-5, seed=0), losses, rtol=DOUBLE)


def test_a_model_of_low_precision_keeps_its_units():
    """bfloat16 would round a factor of 0.3 by 0.2 %, and with it lr."""

    def model(seed):
        return mlp(8, seed=seed).bfloat16()

    result = sweep(model, optim.SGD, digits(4, 8, torch.bfloat16), {"lr": [0.03, 0.1]}, progress=False)
    assert result.lr.attrs["trained_by"] == "stacks" and result.losses.notnull().all()


def test_smaller_models_are_their_single_runs():
    """With eps = 0 an update of Adam is 0/0 where there is no weight; each pixel here is on in some example."""

    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(6):
            yield torch.rand(16, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator)

    for optimizer, options in ((optim.Adam, {"eps": 0.0}), (optim.Adafactor, {})):
        result = swept(mlp, optimizer, batches, {"width": [8, 16], "lr": [0.01, 0.1], **options})
        for width in (8, 16):
            losses = alone(mlp(width), optimizer, batches(seed=0), lr=0.1, **options)
            np.testing.assert_allclose(result.sel(width=width, lr=0.1, seed=0), losses, rtol=SINGLE)


class Rooted(nn.Module):
    """Where start is 0 the root's slope is infinite: the first loss is finite, and no other."""

    def __init__(self, start):
        super().__init__()
        self.network, self.start = mlp(16), nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return self.network(x) * (1 + self.start.abs().sqrt())


@pytest.mark.parametrize("optimizer, way", [(optim.SGD, "units"), (optim.Adam, "units"), (Clipped, "members")])
def test_members_that_diverge_leave_the_others_of_their_stack_as_they_are_in_every_bit(optimizer, way):
    def model(start, seed):
        return Rooted(start)

    grid = {"lr": POWERS[:2], "start": [1.0]}
    without = swept(model, optimizer, digits(6, 32), grid)
    beside = sweep(model, optimizer, digits(6, 32), {**grid, "start": [0.0, 1.0]}, progress=False)
    assert beside.lr.attrs["trained_by"] == way
    assert beside.losses.sel(start=0.0).isel(step=slice(1, None)).isnull().all()
    assert without.notnull().all() and identical(beside.losses.sel(start=[1.0]), without)


def test_neither_jobs_nor_threads_nor_a_folder_change_a_bit(tmp_path, threads):
    grid = {"lr": np.logspace(-4, -1, 24), "betas[0]": [0.9, 0.5]}
    arguments = {"model": partial(mlp, 7), "optimizer": optim.NAdam, "batches": digits(6, 7), "grid": grid}
    whole, inline = swept(**arguments), Inline()
    assert identical(swept(**arguments, executor=inline, memory=2**20), whole)
    assert len(inline.jobs) > 1 and {len({p["betas[0]"] for p in job.points}) for job in inline.jobs} == {1, 2}
    threads(2)
    assert identical(swept(**arguments, folder=tmp_path), whole)
    files = list(tmp_path.glob("*.npz"))
    assert len(files) == 2
    files[0].unlink()
    assert identical(swept(**arguments, folder=tmp_path), whole)


REFUSED = {
    "closure": (optim.LBFGS, {"lr": [0.1, 1.0]}, ["LBFGS", "closure", "loop"]),
    "sparse": (optim.SparseAdam, {"lr": [0.1, 1.0]}, ["SparseAdam", "dense", "loop"]),
    "vectors": (optim.Muon, {"lr": [0.1, 1.0]}, ["Muon", "2D", "loop"]),
    "random": (Noisy, {"lr": [0.1, 1.0]}, ["Noisy", "not the same", "loop"]),
    "raising": (Failing, {"lr": [0.1, 1.0]}, ["Failing", "FloatingPointError", "loop"]),
    "replacing": (Replacing, {"lr": [0.1, 1.0]}, ["Replacing", "not the same", "loop"]),
    "negative": (optim.Adam, {"lr": [0.1, -1.0, 1.0]}, ["Adam", "'lr': -1.0", "Invalid learning rate"]),
    "NaN": (optim.Adam, {"lr": [0.1, float("nan")]}, ["grid['lr']", "nan", "finite"]),
    "infinite": (optim.Adam, {"lr": [0.1], "eps": float("inf")}, ["grid['eps']", "inf", "finite"]),
    "unknown": (optim.Adam, {"lr": [0.1], "momentum": 0.9}, ["'momentum'", "betas[0]", "weight_decay"]),
    "flags that exclude each other": (optim.Adam, {"fused": [True], "foreach": True}, ["Adam", "fused"]),
    "a word": (optim.Adam, {"lr": ["fast"]}, ["Adam", "'fast'"]),
    "an optimizer": (optim.SGD([torch.zeros(1)]), {"lr": [0.1]}, ["optimizer", "class such as torch.optim.Adam"]),
    "a name": ("adam", {"lr": [0.1]}, ["optimizer='adam'", "torch.optim.Adam", "optimizers.adam"]),
}


@pytest.mark.parametrize("optimizer, grid, parts", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_before_anything_is(optimizer, grid, parts):
    inline, state = Inline(), torch.get_rng_state()
    with pytest.raises((ValueError, TypeError)) as caught:
        swept(partial(mlp, 8), optimizer, digits(2, 8), grid, executor=inline)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert not inline.jobs and torch.equal(torch.get_rng_state(), state)
