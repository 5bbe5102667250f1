"""``rescale``: a run continues in other units, bit for bit at powers of two."""

import copy
from functools import cache

import pytest
import torch
from torch import nn, optim

from scaleinv import effective_parameters, infer_units, rescale, scale_parameters, unscale_parameters
from scaleinv.book.models import convnet, transformer
from scaleinv.book.train import optimizer_of
from scaleinv.known_optimizers import UNITS
from scaleinv.reparam import parameter_scales
from scaleinv.units import ONE, G, Units, W
from tests.library.units.shared import network, same

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# Adafactor's default eps[0] is a constant of the dtype, and follows no unit; 1e-12 stays below every mean square.
SETTINGS = {
    optim.SGD: {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    optim.ASGD: {"lr": 0.05, "lambd": 0.01, "weight_decay": 0.01, "t0": 3},
    optim.Adagrad: {"weight_decay": 0.01, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    optim.RMSprop: {"momentum": 0.9, "centered": True, "weight_decay": 0.01},
    optim.Adam: {"amsgrad": True, "weight_decay": 0.01, "lr": 0.01},
    optim.AdamW: {"amsgrad": True, "lr": 0.01},
    optim.NAdam: {"weight_decay": 0.01, "decoupled_weight_decay": True},
    optim.Adafactor: {"eps": (1e-12, 1e-3)},
}
KNOWN = [cls for cls, units in UNITS.items() if not units.reason]


def run(cls, *, weight=1.0, loss=1.0, at=5, steps=10, dtype=torch.float32, make=network, options=None, units=None):
    """The effective parameters after every step, of a run whose units change before step ``at``."""
    module = make().to(dtype)
    optimizer = optimizer_of(module, cls, **(SETTINGS.get(cls, {}) if options is None else options))
    held = {p for group in optimizer.param_groups for p in group["params"]}
    for p in module.parameters():
        p.requires_grad_(p in held)
    factor, trajectory = 1.0, []
    for step in range(steps):
        if step == at:
            rescale(module, optimizer, weight=weight, loss=loss, units=units)
            factor = loss
        torch.manual_seed(step)
        x = torch.randn(9, 5, dtype=dtype)
        (factor * (module(x) - x[:, :3]).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        trajectory.append(effective_parameters(module))
    return trajectory


@cache
def plain_run(cls, dtype):
    return run(cls, dtype=dtype)


SCALES = [(8.0, 1.0), (1.0, 2.0**-6), (2.0**-10, 2.0**7)]
# Each optimizer with each dtype and each change of units, in pairs that turn from optimizer to optimizer.
RUNS = [
    pytest.param(cls, DTYPES[(row + column) % 3], *scales, id=f"{cls.__name__}-{column}")
    for row, cls in enumerate(KNOWN)
    for column, scales in enumerate(SCALES)
]


@pytest.mark.parametrize("cls, dtype, weight, loss", RUNS)
def test_a_run_continues_bit_for_bit_in_other_units(cls, dtype, weight, loss):
    plain = plain_run(cls, dtype)
    assert not torch.equal(plain[0]["0.weight"], plain[-1]["0.weight"])
    assert same(run(cls, weight=weight, loss=loss, dtype=dtype), plain)


@pytest.mark.parametrize("make", [convnet, transformer])
def test_real_networks_continue_bit_for_bit(make):
    def trained(weight):
        model = make()
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(6):
            if step == 3:
                rescale(model, optimizer, weight=weight)
            torch.manual_seed(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.rand(8, 8, 8)), torch.randint(10, (8,))).backward()
            optimizer.step()
        return [effective_parameters(model)]

    assert same(trained(2.0**10), trained(1.0))


def test_a_gradient_taken_before_is_converted_too():
    def stepped(weight, loss):
        module = network()
        optimizer = optim.SGD(module.parameters(), lr=0.1)
        module(torch.ones(2, 5)).sum().backward()
        rescale(module, optimizer, weight=weight, loss=loss)
        optimizer.step()
        return [effective_parameters(module)]

    assert same(stepped(8.0, 4.0), stepped(1.0, 1.0))


@pytest.mark.parametrize("cls", [optim.Adam, optim.SGD, optim.Adafactor], ids=lambda cls: cls.__name__)
def test_naming_some_parameters_splits_their_group(cls):
    weight = {"0.weight": 8.0, "2.bias": 0.25}
    assert same(run(cls, weight=weight, loss=4.0), run(cls))
    module = network()
    optimizer = optim.Adam(module.named_parameters(), lr=1e-3)
    rescale(module, optimizer, weight=weight)
    names = {group["lr"]: group["param_names"] for group in optimizer.param_groups}
    assert names == {1e-3: ["0.bias", "2.weight"], 8e-3: ["0.weight"], 0.25e-3: ["2.bias"]}
    assert {len(g["params"]) == len(g["param_names"]) for g in optimizer.param_groups} == {True}


def test_parameters_elsewhere_keep_their_scale_and_follow_the_loss():
    module, other = network(), nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([*module.parameters(), other], lr=0.5)
    rescale(module, optimizer, weight=8, loss=4)
    assert torch.equal(other, torch.ones(3))
    assert {group["lr"]: len(group["params"]) for group in optimizer.param_groups} == {0.5 * 64 / 4: 4, 0.5 / 4: 1}


def test_rescale_again_and_back_and_unscale():
    module = network()
    optimizer = optim.Adam(module.parameters(), lr=1e-3)
    before = copy.deepcopy(optimizer.state_dict()), effective_parameters(module)
    rescale(module, optimizer, weight=8, loss=2)
    rescale(module, optimizer, weight=4)
    assert set(parameter_scales(module).values()) == {32}
    unscale_parameters(module, optimizer)
    rescale(module, optimizer, loss=0.5)
    assert optimizer.state_dict() == before[0]
    assert same([effective_parameters(module)], [before[1]])
    assert not parameter_scales(module)


@pytest.mark.parametrize("k", [8.0, 10.0])
def test_unscaling_in_the_middle_of_a_run_changes_it_by_rounding_only(k):
    def trained(k):
        module = scale_parameters(network(), k)
        optimizer = optim.AdamW(module.parameters(), lr=1e-2 * k, eps=1e-8 / k, weight_decay=1e-2 / k)
        for step in range(8):
            if step == 4:
                unscale_parameters(module, optimizer)
            torch.manual_seed(step)
            optimizer.zero_grad()
            module(torch.randn(4, 5)).square().mean().backward()
            optimizer.step()
        return effective_parameters(module)

    plain, unscaled = trained(1.0), trained(k)
    for name in plain:
        torch.testing.assert_close(unscaled[name], plain[name], rtol=0 if k == 8 else 1e-5, atol=0 if k == 8 else 1e-6)


class Unlisted(optim.Optimizer):
    """w ← w − lr·(m/s + decay·w), with a running mean m and a running sum s of sizes, a float: in no library."""

    def __init__(self, params, lr=0.01, decay=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "decay": decay, "beta": beta})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                mean = state.setdefault("mean", torch.zeros_like(p))
                mean.mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                state["size"] = state.get("size", 0.0) + p.grad.norm().item()
                p.data.add_(mean / state["size"] + group["decay"] * p.data, alpha=-group["lr"])


def test_an_unknown_optimizer_runs_with_the_units_measured():
    units = infer_units(Unlisted, {})
    assert units.hyperparameters == {"lr": W, "decay": ONE / W, "beta": ONE}
    assert units.state == {"mean": G, "size": G}
    assert same(run(Unlisted, weight=8.0, loss=4.0, units=units), run(Unlisted, units=units))


# What makes it fail.


@pytest.mark.parametrize(
    "broken",
    [
        {"hyperparameters": {"lr": ONE}},
        {"hyperparameters": {"eps": ONE}, "options": {"eps": 0.1}},
        {"hyperparameters": {"weight_decay": G / W}},
        {"state": {"exp_avg": ONE}},
        {"state": {"exp_avg_sq": G}},
    ],
    ids=str,
)
def test_with_one_wrong_unit_the_run_is_another(broken):
    right = UNITS[optim.AdamW]
    wrong = Units(right.hyperparameters | broken.get("hyperparameters", {}), right.state | broken.get("state", {}))
    options = broken.get("options", {"lr": 0.01})
    assert same(run(optim.AdamW, weight=8.0, loss=4.0, options=options), run(optim.AdamW, options=options))
    assert not same(
        run(optim.AdamW, weight=8.0, loss=4.0, options=options, units=wrong), run(optim.AdamW, options=options)
    )


def test_an_lr_tensor_is_changed_in_place_where_its_groups_agree():
    def made(lr):
        module = network()
        return module, optim.Adam([{"params": module[0].parameters()}, {"params": module[2].parameters()}], lr=lr)

    lr = torch.tensor(0.25)
    module, optimizer = made(lr)
    rescale(module, optimizer, weight=8)
    assert lr == 2 and all(group["lr"] is lr for group in optimizer.param_groups)
    lr = torch.tensor(0.25)
    module, optimizer = made(lr)
    rescale(module, optimizer, weight={"0.weight": 8, "0.bias": 8})
    assert [group["lr"].item() for group in optimizer.param_groups] == [2, 0.25] and lr == 0.25


def test_a_group_added_later_gets_the_converted_default():
    module = network()
    optimizer = optim.Adam(module[0].parameters(), lr=1e-2)
    module[2].requires_grad_(False)
    rescale(module, optimizer, weight=8)
    optimizer.add_param_group({"params": module[2].requires_grad_(True).parameters()})
    assert [group["lr"] for group in optimizer.param_groups] == [0.08, 0.08]


def test_two_optimizers_are_converted_together():
    def trained(weight):
        module = network()
        muon = optim.Muon([p for p in module.parameters() if p.ndim == 2], lr=1e-2)
        adam = optim.AdamW([p for p in module.parameters() if p.ndim < 2], lr=1e-2)
        for step in range(8):
            if step == 4:
                rescale(module, [muon, adam], weight=weight)
            module.zero_grad()
            torch.manual_seed(step)
            module(torch.randn(4, 5)).square().mean().backward()
            muon.step()
            adam.step()
        return [effective_parameters(module)]

    assert same(trained(8.0), trained(1.0))


def test_units_of_several_optimizers_are_passed_by_class():
    module = network()
    units = infer_units(Unlisted, {"lr": 0.01})
    optimizers = [Unlisted(module[0].parameters()), optim.Adam(module[2].parameters())]
    rescale(module, optimizers, weight=8, units={Unlisted: units})
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.08, 0.008]


# Errors leave everything as it was.


def started(cls=optim.Adam, **options):
    """A network after one step, so that there is state."""
    module = network()
    optimizer = cls(module.parameters(), **options)
    module(torch.ones(2, 5)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def with_state(**state):
    module, optimizer = started()
    optimizer.state[module[2].bias].update(state)
    return module, optimizer


class HalvingLR(optim.lr_scheduler.LRScheduler):
    def get_lr(self):
        return [group["lr"] / 2 for group in self.optimizer.param_groups]


SCHEDULERS = []  # kept alive


def scheduled():
    module, optimizer = started()
    SCHEDULERS.append(HalvingLR(optimizer))
    return module, optimizer


def partly_held():
    module = network()
    return module, optim.Adam(module[0].parameters())


class Wrapper(optim.Optimizer):
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def state_dict(self):
        return self.optimizer.state_dict()


def wrapped():
    module, optimizer = started()
    return module, Wrapper(optimizer)


def with_number():
    module, optimizer = started()
    optimizer.param_groups[0]["average"] = 0.5
    return module, optimizer


RUNS = [
    (started, {"weight": -8}, ValueError, "weight=-8"),
    (started, {"loss": 0}, ValueError, "loss=0"),
    (started, {"loss": "2"}, TypeError, "loss='2'"),
    (started, {"weight": {"0.weight": 8, "nothing": 2}}, ValueError, r"weight\['nothing'\]"),
    (started, {"weight": {"0.weight": float("nan")}}, ValueError, r"weight\['0.weight'\]=nan"),
    (lambda: started(Unlisted), {"weight": 8}, ValueError, "infer_units"),
    (lambda: started(optim.RAdam), {"weight": 8}, ValueError, "first five steps"),
    (lambda: started(optim.Adafactor), {"weight": 8}, ValueError, r"eps\[0\]=None"),
    (lambda: with_state(surprise=torch.ones(3)), {"weight": 8}, ValueError, "'surprise'"),
    (lambda: with_state(surprise=1.5), {"weight": 8}, ValueError, "'surprise'"),
    (lambda: with_state(exp_avg=torch.ones(7)), {"weight": 8}, ValueError, "loaded from another model"),
    (lambda: with_state(exp_avg_sq=torch.full((3,), 1e30)), {"loss": 1e10}, ValueError, "leaves the range"),
    (scheduled, {"weight": 8}, ValueError, "scheduler HalvingLR is not one of torch.optim"),
    (partly_held, {"weight": 8}, ValueError, r"holds the trainable parameters \['2.weight', '2.bias'\]; pass a list"),
    (wrapped, {"weight": 8}, TypeError, "Wrapper wraps Adam; pass that one, optimizer.optimizer"),
    (with_number, {"weight": 8}, ValueError, "'average' in a parameter group of Adam has no known unit"),
    (started, {"weight": 8, "copies": [nn.Linear(2, 2)]}, ValueError, "copies: Linear has no parameter '0.weight'"),
    (lambda: (network(), None), {"weight": 8}, TypeError, "optimizer=None"),
    (lambda: (started()[0].state_dict(), started()[1]), {"weight": 8}, TypeError, "module="),
]


@pytest.mark.parametrize("make, arguments, error, words", RUNS)
def test_rescale_refuses_and_changes_nothing(make, arguments, error, words):
    module, optimizer = make()

    def everything():
        kept = copy.deepcopy(optimizer.state_dict()) if optimizer else {}
        grads = [p.grad for p in module.parameters()] if isinstance(module, nn.Module) else []
        state = dict(module.state_dict() if isinstance(module, nn.Module) else module)
        return copy.deepcopy(state), kept, copy.deepcopy(grads)

    before = everything()
    with pytest.raises(error, match=words):
        rescale(module, optimizer, **arguments)
    assert str(everything()) == str(before)
