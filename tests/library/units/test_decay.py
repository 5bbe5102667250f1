"""The two conventions of decoupled weight decay: measured, known, and converted into each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import optim

from scaleinv import UNITS, Change, changes, convert, infer_units
from scaleinv._infer import measured_decay
from scaleinv.atlas import atlas
from scaleinv.known_optimizers import units_of
from scaleinv.units import ONE, Units, W
from tests.library.units.shared import problem, text_with

pytestmark = pytest.mark.usefixtures("one_thread")

INDEPENDENT = Units({"lr": W, "weight_decay": ONE}, state={}, decay="independent")


class PaperAdamW(optim.Adam):
    """Algorithm 2 of Loshchilov and Hutter: η·λ·w is taken off, where η is a schedule's multiplier."""

    def __init__(self, params, lr=1e-3, eps=1e-8, weight_decay=1e-4):
        super().__init__(params, lr=lr, eps=eps)
        for group in self.param_groups:
            group.update(independent=weight_decay, multiplier=1.0)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["multiplier"] * group["independent"])
        return super().step(closure)


def trained(optimizer_class, hyperparameters, schedule=None, steps=20):
    """The parameters after some steps; ``schedule(step)`` is the multiplier of lr."""
    parameters, closure = problem(optim.AdamW)
    optimizer = optimizer_class(parameters, **hyperparameters)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = hyperparameters["lr"] * (schedule(step) if schedule else 1)
            group["multiplier"] = schedule(step) if schedule else 1.0
        closure()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in parameters])


# How an optimizer decays.


@pytest.mark.parametrize("optimizer_class", UNITS, ids=lambda cls: cls.__name__)
def test_how_each_optimizer_of_torch_decays_is_measured_as_the_table_has_it(optimizer_class):
    expected = "times lr" if optimizer_class in (optim.ASGD, optim.AdamW, optim.Adafactor, optim.Muon) else "coupled"
    if "weight_decay" not in UNITS[optimizer_class].hyperparameters:
        expected = ""
    assert UNITS[optimizer_class].decay == measured_decay(optimizer_class, {}) == expected


@pytest.mark.parametrize("optimizer_class", [optim.Adam, optim.NAdam, optim.RAdam])
def test_a_flag_decouples(optimizer_class):
    flag = {"decoupled_weight_decay": True}
    assert units_of(optimizer_class, flag).decay == measured_decay(optimizer_class, flag) == "times lr"


def test_infer_units_measures_it_too():
    assert infer_units(PaperAdamW).decay == "independent"
    assert infer_units(optim.SGD, {"lr": 0.1, "momentum": 0.9}).decay == "coupled"


class Squared(optim.SGD):
    """Takes lr²·λ·w."""

    def __init__(self, params, lr=0.1, weight_decay=0.1):
        super().__init__(params, lr=lr)
        self.decay = weight_decay

    def decayed(self, w, lr):
        return lr**2 * self.decay * w

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.decayed(p, group["lr"]))
        return super().step(closure)


class Signed(Squared):
    """Takes lr·λ·sign(w)."""

    def decayed(self, w, lr):
        return lr * self.decay * w.sign()


class Late(PaperAdamW):
    """Decays after the step."""

    def step(self, closure=None):
        optim.Adam.step(self, closure)
        with torch.no_grad():
            for p in self.param_groups[0]["params"]:
                p.mul_(1 - self.param_groups[0]["independent"])


class Ignoring(optim.SGD):
    """Has a weight decay that does nothing."""

    def __init__(self, params, lr=0.1, weight_decay=0.1):
        super().__init__(params, lr=lr)


@pytest.mark.parametrize(
    "optimizer_class, decay", [(Squared, "other"), (Signed, "other"), (Late, "independent"), (Ignoring, "")]
)
def test_other_ways_to_decay_are_not_taken_for_one_of_the_conventions(optimizer_class, decay):
    assert measured_decay(optimizer_class, {}) == decay


class TowardsAverage(Squared):
    """Takes lr·λ·(w − share of an average)."""

    def __init__(self, params, lr=0.1, weight_decay=0.1, share=0.0):
        super().__init__(params, lr, weight_decay)
        self.share, self.average = share, {}

    def decayed(self, w, lr):
        average = self.average.setdefault(w, 2 * w.detach())
        return lr * self.decay * (w - self.share * average.lerp_(w, 0.5).abs())


def test_a_switch_that_is_off_does_not_matter():
    assert measured_decay(TowardsAverage, {}) == "times lr"
    assert measured_decay(TowardsAverage, {"share": 0.5}) == "other"


def test_the_atlas_has_it():
    decays = atlas().decays
    for optimizer_class, units in UNITS.items():
        assert decays[f"torch.optim.{optimizer_class.__name__}"] == units.decay
    assert decays["pytorch_optimizer.Lion"] == "times lr; independent with fixed_decay"


# Conversions.

OLD = {"lr": 2.0**-9, "weight_decay": 2.0}


@pytest.mark.parametrize("schedule", [None, lambda step: 2.0 ** -(step // 5)], ids=["constant lr", "schedule"])
def test_both_adamws_train_the_same_bit_for_bit(schedule):
    new = convert(optim.AdamW, OLD, changes.decay_independent())
    assert new == {"lr": 2.0**-9, "weight_decay": 2.0**-8}
    assert torch.equal(trained(optim.AdamW, OLD, schedule), trained(PaperAdamW, new, schedule))
    assert not torch.equal(trained(optim.AdamW, OLD, schedule), trained(PaperAdamW, OLD | {"weight_decay": 2**-7}))


def test_a_decay_that_leaves_the_schedule_out_is_another_training():
    class OutOfSchedule(PaperAdamW):
        def step(self, closure=None):
            self.param_groups[0]["multiplier"] = 1.0
            return super().step(closure)

    def schedule(step):
        return 2.0 ** -(step // 5)

    new = convert(optim.AdamW, OLD, changes.decay_independent())
    assert not torch.equal(trained(optim.AdamW, OLD, schedule), trained(OutOfSchedule, new, schedule))


@given(lr=st.floats(1e-6, 10), decay=st.floats(1e-6, 10))
def test_there_and_back_is_rounding(lr, decay):
    new = convert(optim.AdamW, {"lr": lr, "weight_decay": decay}, changes.decay_independent())
    assert new == {"lr": lr, "weight_decay": lr * decay}
    back = convert(INDEPENDENT, new, changes.decay_times_lr())
    assert back["lr"] == lr and math.isclose(back["weight_decay"], decay, rel_tol=1e-15)


def test_of_measured_units():
    old = {"lr": 0.001, "weight_decay": 0.0001}
    assert convert(infer_units(PaperAdamW, old), old, changes.decay_times_lr()) == {"lr": 0.001, "weight_decay": 0.1}


def test_defaults_are_converted_and_nothing_else_is():
    assert convert(optim.AdamW, {}, changes.decay_independent()) == {"weight_decay": 1e-5}
    old = {"betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.0}
    assert convert(optim.AdamW, old, changes.decay_independent()) == old


def test_tensors():
    new = convert(optim.AdamW, {"lr": torch.tensor(0.5), "weight_decay": 0.25}, changes.decay_independent())
    assert new == {"lr": torch.tensor(0.5), "weight_decay": 0.125}


@pytest.mark.parametrize(
    "error, match, optimizer_class, hyperparameters, change",
    [
        (ValueError, ["lr=0", "multiplier is 1", "initial_lr"], optim.AdamW, {"lr": 0.0}, changes.decay_independent()),
        (ValueError, ["lr=0"], INDEPENDENT, {"lr": 0.0, "weight_decay": 0.1}, changes.decay_times_lr()),
        (ValueError, ["lr=nan"], optim.AdamW, {"lr": math.nan}, changes.decay_independent()),
        (ValueError, ["already takes lr·weight_decay·w"], optim.AdamW, {}, changes.decay_times_lr()),
        (ValueError, ["already takes weight_decay·w"], INDEPENDENT, {}, changes.decay_independent()),
        (ValueError, ["added to the gradient", "AdamW"], optim.Adam, {}, changes.decay_independent()),
        (ValueError, ["added to the gradient"], optim.SGD, {}, changes.decay_independent()),
        (ValueError, ["is missing"], optim.Rprop, {}, changes.decay_independent()),
        (ValueError, ["lr is missing"], INDEPENDENT, {"weight_decay": 0.1}, changes.decay_times_lr()),
        (ValueError, ["hyperparameters['decay']"], optim.AdamW, {"decay": 1.0}, changes.decay_independent()),
        (ValueError, ["leaves the range"], INDEPENDENT, {"lr": 1e-300, "weight_decay": 1e9}, changes.decay_times_lr()),
        (ValueError, ["not both"], optim.AdamW, {}, Change("both", weight=2.0, decay="independent")),
        (ValueError, ["decay='fixed'", "'independent'"], optim.AdamW, {}, Change("wrong", decay="fixed")),
        (TypeError, ["weight_decay='0.1'"], optim.AdamW, {"weight_decay": "0.1"}, changes.decay_independent()),
        (TypeError, ["lr=True"], optim.AdamW, {"lr": True}, changes.decay_independent()),
    ],
)
def test_an_impossible_conversion_is_refused(error, match, optimizer_class, hyperparameters, change):
    with pytest.raises(error, match=text_with(*match)):
        convert(optimizer_class, hyperparameters, change)
