"""``infer_units`` measures the units written by hand and those of other optimizers, and says where there are none."""

import functools
import math
import random
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import optim

import scaleinv._infer.exponents
import scaleinv._infer.infer
from scaleinv import UNITS, Unit, convert, infer_units, rescale
from scaleinv._entries import entries_of
from scaleinv._infer.runs import runner_of
from scaleinv.known_optimizers import units_of
from scaleinv.units import ONE, G, L, W

pytestmark = pytest.mark.usefixtures("one_thread")


infer = functools.cache(lambda cls, *items: infer_units(cls, dict(items)))


def inferred(cls, hyperparameters):
    return infer(cls, *hyperparameters.items())


def entries(units):
    """key → unit, with a key such as ``betas[0]`` for the entries of a tuple of units."""
    return {key: entry for name, unit in units.items() for key, entry in entries_of(name, unit)}


# torch.optim: measured units are those written by hand.

CASES = [
    (optim.SGD, {}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 1e-4}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.SGD, {"lr": 1e-8, "momentum": 0.9, "maximize": True}),
    (optim.ASGD, {}),
    (optim.Rprop, {}),
    (optim.Adagrad, {}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.01, "initial_accumulator_value": 0.1, "maximize": True}),
    (optim.RMSprop, {}),
    (optim.RMSprop, {"centered": True, "momentum": 0.9}),
    (optim.Adadelta, {}),
    (optim.Adam, {}),
    (optim.Adam, {"lr": 1e-6, "amsgrad": True, "maximize": True}),
    (optim.Adam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    (optim.Adam, {"foreach": True}),
    (optim.AdamW, {}),
    (optim.AdamW, {"lr": 3.0, "amsgrad": True}),
    (optim.SparseAdam, {}),
    (optim.Adamax, {}),
    (optim.NAdam, {}),
    (optim.NAdam, {"decoupled_weight_decay": True}),
    (optim.Adafactor, {}),
    (optim.Adafactor, {"eps": (0.0, 1e-3), "lr": 0.5, "weight_decay": 0.1}),
    (optim.Muon, {}),
    (optim.Muon, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}),
]
by_case = pytest.mark.parametrize("cls, hyperparameters", CASES, ids=lambda x: x.__name__ if callable(x) else str(x))

NOT_DETERMINED = {
    # only sets when the average of the parameters, which no step reads, begins
    (optim.ASGD, "t0"),
    # None is not probed, and for a number see below
    (optim.Adafactor, "eps[0]"),
}


@by_case
def test_the_measured_units_of_hyperparameters_are_those_of_the_table(cls, hyperparameters):
    measured = entries(inferred(cls, hyperparameters).hyperparameters)
    table = entries(units_of(cls, hyperparameters).hyperparameters)
    not_determined = {name for name, unit in measured.items() if unit is None}
    expected = {name for of, name in NOT_DETERMINED if of is cls}
    if hyperparameters.get("nesterov"):  # allows a dampening of 0 only
        expected |= {"dampening"}
    assert not_determined == expected
    for name in measured.keys() - not_determined:
        assert measured[name] == table.get(name, table.get(name.split("[")[0])), name
    # the table's other entries are integers, which are not probed
    assert table.keys() - {name.split("[")[0] for name in measured} - measured.keys() <= {"ns_steps"}


@by_case
def test_the_measured_units_of_the_state_are_those_of_the_table(cls, hyperparameters):
    measured = inferred(cls, hyperparameters).state
    assert measured
    assert measured == {name: UNITS[cls].state[name] for name in measured}


def test_all_state_of_the_table_is_measured_where_the_flags_create_it():
    for cls in {cls for cls, _ in CASES}:
        result = [inferred(*case).state for case in CASES if case[0] is cls]
        assert {name for state in result for name in state} == set(UNITS[cls].state), cls


@by_case
def test_torch_optim_is_verified_bit_for_bit(cls, hyperparameters):
    assert inferred(cls, hyperparameters).verdict == "bitwise"
    assert inferred(cls, hyperparameters).residual == 0


def test_every_optimizer_of_the_table_is_measured():
    assert {cls for cls, _ in CASES} | {optim.RAdam, optim.LBFGS} == set(UNITS)


@pytest.mark.parametrize("cls", [optim.RAdam, optim.LBFGS])  # the table says why
def test_radam_and_lbfgs_are_inconsistent_with_a_residual_and_have_no_units(cls):
    result = inferred(cls, {})
    assert result.verdict == "inconsistent"
    assert 1e-2 < result.residual < 1
    assert not result.state
    assert set(result.hyperparameters.values()) == {None}
    with pytest.raises(ValueError, match="lr=.* has no known unit"):
        convert(result, {"lr": 0.1}, weight=2)


def test_t0_of_asgd_is_undetermined_and_stays_in_a_conversion():
    result = inferred(optim.ASGD, {})
    assert result.undetermined == ("t0",) and result.hyperparameters["t0"] is None
    assert "t0" in result.reason and result.unit_text("t0", None) == "undetermined, converted as 1"
    assert convert(result, {"lr": 0.1, "t0": 1e6}, weight=2) == {"lr": 0.4, "t0": 1e6, "lambd": 1e-4 / 4}


def test_the_first_eps_of_adafactor_is_not_probed_as_none_and_inconsistent_as_a_number():
    assert "not probed (None), W" in str(inferred(optim.Adafactor, {}))
    result = inferred(optim.Adafactor, {"eps": (1e-15, 1e-3)})
    assert result.verdict == "bitwise"
    assert result.hyperparameters["eps"] == (None, W)
    assert result.inconsistent.keys() == {"eps[0]"} and result.inconsistent["eps[0]"] > 1e-3
    assert "inconsistent, residual" in str(result) and "eps[0]" in result.reason


def train(cls, hyperparameters, weight=1.0, loss=1.0, steps=12):
    """A small network with tanh units, trained on c·L(w'/k) by autograd; w'/k at the end."""
    generator = torch.Generator().manual_seed(5)
    matrices = cls in (optim.Muon, optim.SparseAdam)
    shapes = [(6, 5), (3, 6)] if matrices else [(6, 5), (6,), (3, 6), (3,)]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    x, y = (torch.randn(20, n, generator=generator, dtype=torch.float64) for n in (5, 3))
    parameters = [torch.nn.Parameter(weight * w) for w in start]
    optimizer = cls(parameters, **hyperparameters)
    for _ in range(steps):
        optimizer.zero_grad()
        w = [p / weight for p in parameters]
        hidden, out = (w[0], w[1]) if matrices else (w[0], w[2])
        bias, shift = (0, 0) if matrices else (w[1], w[3])
        error = (x @ hidden.T + bias).tanh() @ out.T + shift - y
        (loss * (error**4).mean()).backward()
        if cls is optim.SparseAdam:
            for p in parameters:
                p.grad = p.grad.to_sparse()
        optimizer.step()
    return [p.detach() / weight for p in parameters]


TRAINED = {
    optim.SGD: {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1},
    optim.ASGD: {"lr": 0.01, "lambd": 0.1, "t0": 0.0, "weight_decay": 0.1},
    optim.Rprop: {"lr": 0.1},
    optim.Adagrad: {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 0.1},
    optim.RMSprop: {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "eps": 0.1},
    optim.Adadelta: {"weight_decay": 0.1, "eps": 0.1},
    optim.Adam: {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "amsgrad": True},
    optim.AdamW: {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1},
    optim.SparseAdam: {"lr": 0.1, "eps": 0.1},
    optim.Adamax: {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1},
    optim.NAdam: {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "momentum_decay": 0.1},
    optim.Adafactor: {"eps": (0.0, 0.1), "weight_decay": 0.1},
    optim.Muon: {"lr": 0.1, "weight_decay": 0.1},
}


@pytest.mark.parametrize("cls", TRAINED, ids=lambda cls: cls.__name__)
def test_another_training_loop_rescaled_by_the_measured_units_agrees_bit_for_bit(cls):
    result = inferred(cls, TRAINED[cls])
    before = train(cls, TRAINED[cls])
    for weight, loss in ((2.0**-6, 1.0), (1.0, 2.0**9), (2.0**7, 2.0**-5)):
        after = train(cls, convert(result, TRAINED[cls], weight=weight, loss=loss), weight, loss)
        assert all(torch.equal(a, b) for a, b in zip(before, after)), (weight, loss)


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay"])
def test_sabotage_the_other_training_loop_exposes_a_wrong_unit(name):
    result = inferred(optim.AdamW, TRAINED[optim.AdamW])
    wrong = replace(result, hyperparameters=result.hyperparameters | {name: result.hyperparameters[name] * W})
    before = train(optim.AdamW, TRAINED[optim.AdamW])
    after = train(optim.AdamW, convert(wrong, TRAINED[optim.AdamW], weight=4.0), 4.0)
    assert not any(torch.allclose(a, b, rtol=1e-3) for a, b in zip(before, after))


# Optimizers of the tests' own: an update rule p, g, state, hyperparameters → what is taken from p.


def optimizer_of(rule):
    class Optimizer(optim.Optimizer):
        def __init__(self, params, **hyperparameters):
            super().__init__(params, hyperparameters)

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    state = self.state[p]
                    state["step"] = state.get("step", 0) + 1
                    p.sub_(rule(p, p.grad, state, group))

    Optimizer.__name__ = Optimizer.__qualname__ = rule.__name__
    return Optimizer


def power(x, exponent):
    return x.sign() * x.abs() ** float(exponent)


def adam(p, g, state, h, eps=0.0):
    """Adam's step / lr, betas (0.9, 0.99), no bias correction."""
    state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + 0.1 * g
    state["v"] = 0.99 * state.get("v", torch.zeros_like(g)) + 0.01 * g * g
    return state["m"] / (state["v"].sqrt() + eps)


# Without effect, or not told apart: undetermined.


def without_effect(p, g, state, h):
    return h["lr"] * g


def at_its_bound(p, g, state, h):
    if not 0 <= h["other"] <= 1:
        raise ValueError("other has to lie between 0 and 1")
    return h["lr"] * g


def nan_above(p, g, state, h):
    return h["lr"] * g * (math.nan if h["other"] > 1 else 1)


@pytest.mark.parametrize("rule", [without_effect, at_its_bound, nan_above])
@pytest.mark.parametrize("value", [1.0, 0.0])
def test_a_hyperparameter_without_effect_is_undetermined_and_not_of_unit_1(rule, value):
    result = infer_units(optimizer_of(rule), {"lr": 0.1, "other": value})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": W / G, "other": None}
    assert result.undetermined == ("other",)
    assert "other" in result.reason and re.search("other +undetermined", str(result))


def test_a_hyperparameter_at_its_bound_that_has_an_effect_is_found():
    def rule(p, g, state, h):
        assert 0 <= h["share"] <= 1
        return h["lr"] * g * h["share"]

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "share": 1.0})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": W / G, "share": ONE}


@pytest.mark.parametrize("value", [0.5, 0.9])
def test_what_acts_in_jumps_only_is_found_by_trial(value):
    def rule(p, g, state, h):
        m = state["m"] = h["beta"] * state.get("m", torch.zeros_like(g)) + (1 - h["beta"]) * g
        return h["lr"] * m.sign()

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "beta": value})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": W, "beta": ONE}


def test_a_threshold_above_which_a_step_is_left_out_is_found_by_trial():
    def rule(p, g, state, h):
        return h["lr"] * g * (g.norm().item() < h["most"])

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "most": 0.7})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": W / G, "most": G}


def noise(p):
    """Bits far behind the point, the same at 2ⁿ·p: smooth nowhere."""
    return torch.frexp((p / p.norm()).sum()).mantissa * 2**20 % 1


def adam_like(p, g, state, h):
    return h["lr"] * noise(p) * g / (g.norm() + h["eps"]) + h["lr"] * h["weight_decay"] * p


def sgd_like(p, g, state, h):
    square = g.square().sum()
    return h["lr"] * noise(p) * square / (square + h["eps"]) * (g + h["weight_decay"] * p)


def relative(p, g, state, h):
    return h["lr"] * noise(p) * (p.norm() ** 2 / (p.norm() + h["eps"]) * g / g.norm() + h["weight_decay"] * p)


def with_shares(p, g, state, h):
    return h["lr"] * noise(p) * (g / g.norm() + h["eps"] * h["share"] * p / p.norm())


USUAL = [
    (adam_like, {"lr": W, "eps": G, "weight_decay": ONE / W}),
    (sgd_like, {"lr": W / G, "eps": G**2, "weight_decay": G / W}),
    (relative, {"lr": ONE, "eps": W, "weight_decay": ONE}),
    (with_shares, {"lr": W, "eps": ONE, "share": ONE}),
]


@pytest.mark.parametrize("rule, units", USUAL, ids=lambda x: getattr(x, "__name__", ""))
def test_an_optimizer_whose_step_is_nowhere_smooth_has_the_usual_units_where_rescaled_runs_agree(rule, units):
    result = infer_units(optimizer_of(rule), dict.fromkeys(units, 0.1))
    assert result.verdict == "bitwise" and result.hyperparameters == units


def test_an_exponent_in_hundredths_is_found():
    def rule(p, g, state, h):
        return h["lr"] * power(g, 0.48)

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert result.verdict == "rounding"
    assert result.hyperparameters["lr"] == W / G ** Fraction(12, 25) and result.degree == Fraction(12, 25)


def test_what_is_redundant_however_long_the_run_is_undetermined():
    def rule(p, g, state, h):
        return h["lr"] * h["scale"] * adam(p, g, state, h) * (1 + 1e-7 * torch.randn((), dtype=g.dtype))

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "scale": 2.0})
    assert result.hyperparameters == {"lr": None, "scale": None} and result.undetermined == ("lr", "scale")


def test_a_product_whose_factors_matter_apart_at_other_values_is_told_apart():
    def rule(p, g, state, h):
        return h["lr"] * (100 * p * g.sign()).clamp(-h["most"], h["most"])

    result = infer_units(optimizer_of(rule), {"lr": 0.01, "most": 0.01})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": ONE, "most": W}


def test_a_small_part_of_the_parameters_counts_as_much_as_the_others():
    def rule(p, g, state, h):
        return h["lr"] * g if p.ndim > 1 else h["bias_lr"] * g / (g.abs() + h["bias_eps"])

    result = infer_units(optimizer_of(rule), {"lr": 1.0, "bias_lr": 1e-5, "bias_eps": 1e-8})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": W / G, "bias_lr": W, "bias_eps": G}


def test_a_deviation_that_disappears_in_float64_is_rounding():
    def rule(p, g, state, h):
        unit = (g / g.norm()).float()
        return (
            (h["lr"] * torch.linalg.inv(unit @ unit.T + torch.eye(len(unit))) @ unit).to(p.dtype)
            if g.ndim > 1
            else 0 * g
        )

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert result.verdict in ("bitwise", "rounding") and result.hyperparameters == {"lr": W}


def test_units_that_hold_nearby_only_are_reported_and_not_converted_by():
    result = infer_units(optimizer_of(small_constant_in_the_denominator), {"lr": 0.1})
    assert result.verdict == "inconsistent" and result.hyperparameters == {"lr": None}
    assert result.nearby == {"lr": W} and "with the loss × 2^-12" in result.reason


def test_the_degree_is_the_power_of_the_gradient_in_a_step():
    assert inferred(optim.SGD, {}).degree == 1 and inferred(optim.Adam, {}).degree == 0
    assert inferred(optim.RAdam, {}).degree is None
    assert infer_units(lambda params, step=0.1: optim.SGD(params, lr=step), {}).degree is None


def test_a_bound_on_a_value_with_a_unit_does_not_keep_it_from_being_found():
    def rule(p, g, state, h):
        assert 0 < h["lr"] <= 1
        return h["lr"] * g

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": W / G}


def test_two_factors_of_one_product_are_not_told_apart_and_a_conversion_moves_the_first():
    def rule(p, g, state, h):
        state["m"] = h["scale"] * g
        return h["lr"] * state["m"] + h["lr"] * h["scale"] * h["decay"] * p

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "scale": 2.0, "decay": 0.1})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": None, "scale": None, "decay": G / W}
    assert result.undetermined == ("lr", "scale")
    # with the factor all in lr, as convert moves it: then this is the state's unit
    assert result.stand_ins == {"lr": W / G, "scale": ONE} and result.state == {"m": G, "step": ONE}
    assert convert(result, {"lr": 0.1, "scale": 2.0}, weight=8) == {"lr": 6.4, "scale": 2.0}


def test_a_hyperparameter_without_effect_does_not_block_the_others():
    def rule(p, g, state, h):
        lr = h["lr"] * (max(h["floor"], p.square().mean().sqrt()) if h["relative"] else 1.0)
        return lr * g / (g.square() + h["eps"]).sqrt()

    result = infer_units(optimizer_of(rule), {"lr": 1e-3, "floor": 1e-3, "eps": 1e-30, "relative": False})
    assert result.undetermined == ("floor",) and result.hyperparameters["floor"] is None
    new = convert(result, {"lr": 1e-3, "floor": 1e-3, "eps": 1e-30}, weight=8)
    assert new == {"lr": 8e-3, "floor": 1e-3, "eps": pytest.approx(1e-30 / 64)}


def test_an_exponent_stays_where_it_was_measured_and_only_there():
    def rule(p, g, state, h):
        return h["lr"] * g / g.abs() ** (2 * h["power"])

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "power": 0.25})
    assert result.kept == {"power": 0.25} and "kept at 0.25" in str(result)
    assert convert(result, {"lr": 0.1, "power": 0.25}, loss=4) == {"lr": 0.05, "power": 0.25}
    with pytest.raises(ValueError, match="power=0.5 has no known unit"):
        convert(result, {"lr": 0.1, "power": 0.5}, loss=4)


def lamb(p, g, state, h):
    """As some write it: without decay there is no trust ratio either."""
    u = g.sign() + h["decay"] * p
    return h["lr"] * u * (p.norm() / u.norm() if h["decay"] and h.get("trust", 1.0) else 1.0)


def test_a_zero_that_switches_something_has_units_of_its_own():
    result = infer_units(optimizer_of(lamb), {"lr": 0.01, "decay": 0.1})
    assert result.hyperparameters == {"lr": ONE, "decay": ONE / W}
    assert result.at_zero.keys() == {"decay"} and result.at_zero["decay"].hyperparameters["lr"] == W
    assert convert(result, {"lr": 0.01, "decay": 0.1}, weight=8) == {"lr": 0.01, "decay": 0.0125}
    assert convert(result, {"lr": 0.01, "decay": 0.0}, weight=8) == {"lr": 0.08, "decay": 0.0}
    assert infer_units(optim.AdamW, {"weight_decay": 0.1, "eps": 1e-3}).at_zero == {}


def test_two_zeros_that_were_not_measured_together_are_refused():
    result = infer_units(optimizer_of(lamb), {"lr": 0.01, "decay": 0.1, "trust": 1.0})
    assert result.at_zero.keys() == {"decay", "trust"}
    with pytest.raises(ValueError, match="decay=0, trust=0: each of these changes the units.*measure again"):
        convert(result, {"lr": 0.01, "decay": 0.0, "trust": 0.0}, weight=8)


def test_groups_with_and_without_a_zero_continue_bit_for_bit():
    units = infer_units(optimizer_of(lamb), {"lr": 0.01, "decay": 0.1})
    make = optimizer_of(lamb)

    def run(weight):
        torch.manual_seed(0)
        module, x = torch.nn.Linear(4, 4), torch.randn(16, 4)
        groups = [{"params": [module.weight]}, {"params": [module.bias], "decay": 0.0}]
        optimizer = make(groups, lr=0.01, decay=0.1)
        for step in range(10):
            if step == 5:
                rescale(module, optimizer, weight=weight, units=units)
            optimizer.zero_grad()
            module(x).square().mean().backward()
            optimizer.step()
        return module(x)

    assert torch.equal(run(8.0), run(1.0))


class Hoarding(optim.Optimizer):
    """Averages gradients in an attribute of its own, which nobody can convert."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
        self.mean = {}

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.mean[p] = 0.9 * self.mean.get(p, torch.zeros_like(p)) + 0.1 * p.grad
                p.sub_(group["lr"] * self.mean[p])


def test_what_cannot_be_rescaled_in_mid_training_is_found_and_refused():
    units = infer_units(Hoarding, {"lr": 0.1})
    assert units.verdict == "bitwise" and units.hyperparameters == {"lr": W / G}
    assert "state that is not in optimizer.state" in units.midway
    module = torch.nn.Linear(2, 2)
    optimizer = Hoarding(module.parameters())
    with pytest.raises(ValueError, match="Hoarding cannot be rescaled in the middle of a training"):
        rescale(module, optimizer, weight=8, units=units)
    assert convert(units, {"lr": 0.1}, weight=8) == {"lr": 6.4}  # from the start it can
    assert infer_units(optim.Adam).midway == ""


def test_numbers_that_an_optimizer_keeps_in_its_groups_have_units():
    class Averaging(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr, "weight_sum": 0.0, "count": 0})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                group["weight_sum"] += group["lr"] ** 2
                group["count"] += 1
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad * group["lr"] ** 2 / group["weight_sum"])

    result = infer_units(Averaging, {"lr": 0.1})
    assert result.state == {"weight_sum": (W / G) ** 2, "count": ONE}


def test_a_compiled_step_is_measured_and_left_alone():
    @torch.compile(fullgraph=True, backend="eager")
    def update(p, g, lr):
        p.sub_(lr * g)

    def rule(p, g, state, h):
        update(p, g, torch.tensor(h["lr"], dtype=p.dtype))
        return torch.zeros_like(p)

    for _ in range(2):
        assert infer_units(optimizer_of(rule), {"lr": 0.1}).hyperparameters == {"lr": W / G}
        p = torch.ones(3)
        update(p, torch.ones(3), torch.tensor(0.5))
        assert p.tolist() == [0.5] * 3


def test_a_float64_mode_in_which_nothing_moves_is_not_taken():
    kernels = {torch.float32: lambda p, g, m, lr: p.sub_(lr * m.lerp_(g, 0.1).sign())}

    def rule(p, g, state, h):
        state.setdefault("m", torch.zeros_like(p, dtype=torch.float32))
        if kernel := kernels.get(state["m"].dtype):
            kernel(p, g.to(torch.float32), state["m"], h["lr"])
        return torch.zeros_like(p)

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert result.hyperparameters == {"lr": W} or result.verdict == "inconsistent"
    assert result.residual <= 0.1 or result.verdict == "inconsistent"


def test_a_buffer_of_another_unit_for_each_parameter_has_no_unit():
    def rule(p, g, state, h):
        state["mixed"], state["mean"] = (g.clone(), g.clone()) if p.dim() == 1 else (p.clone(), g.clone())
        return h["lr"] * g

    assert infer_units(optimizer_of(rule), {"lr": 0.1}).state == {"step": ONE, "mean": G}


# A hidden constant, or two units for one hyperparameter: inconsistent.


def clipped_to_norm_1(p, g, state, h):
    return h["lr"] * g / max(1.0, 10 * g.norm().item())


def adam_with_a_clamped_step(p, g, state, h):
    return (h["lr"] * adam(p, g, state, h)).clamp(-0.05, 0.05)


def adam_after_3_steps_of_sgd(p, g, state, h):
    step = adam(p, g, state, h)
    return h["lr"] * (g if state["step"] <= 3 else step)


def sign_after_50_steps_of_sgd(p, g, state, h):
    return h["lr"] * (g if state["step"] <= 50 else g.sign())


def constant_in_the_denominator(p, g, state, h):
    return h["lr"] * adam(p, g, state, h, eps=1e-2)


def small_constant_in_the_denominator(p, g, state, h):
    return h["lr"] * adam(p, g, state, h, eps=1e-8)


def lr_coupled_and_not(p, g, state, h):
    return h["lr"] * (g + p)


def eps_added_to_two_norms(p, g, state, h):
    return h["lr"] * g * (p.norm() + h["eps"]) / (g.norm() + h["eps"])


def one_sum_of_two_units(p, g, state, h):
    return h["lr"] * (g + 1e-6 * p + h["decay"] * p)


HIDDEN = [
    (clipped_to_norm_1, {"lr": 0.1}, 1e-2),
    (adam_with_a_clamped_step, {"lr": 0.1}, 1e-3),
    (adam_after_3_steps_of_sgd, {"lr": 0.1}, 1e-2),
    (sign_after_50_steps_of_sgd, {"lr": 0.01}, 1e-2),
    (constant_in_the_denominator, {"lr": 0.1}, 1e-2),
    (small_constant_in_the_denominator, {"lr": 0.1}, 1e-9),
    (lr_coupled_and_not, {"lr": 0.1}, 1e-2),
    (one_sum_of_two_units, {"lr": 0.1, "decay": 0.0}, 1e-9),
]


@pytest.mark.parametrize("rule, hyperparameters, least", HIDDEN, ids=lambda x: getattr(x, "__name__", None))
def test_a_hidden_constant_is_inconsistent_with_a_residual_and_leaves_no_units(rule, hyperparameters, least):
    result = infer_units(optimizer_of(rule), hyperparameters)
    assert result.verdict == "inconsistent"
    assert least < result.residual <= 1
    assert result.hyperparameters == dict.fromkeys(hyperparameters)
    assert result.state == {} and result.undetermined == () and result.suspect == ""
    assert result.reason and f"{rule.__name__}: inconsistent, residual" in str(result)
    with pytest.raises(ValueError, match="no known unit"):
        convert(result, hyperparameters, loss=2)


@pytest.mark.parametrize("eps, least", [(0.1, 1e-3), (1e-6, 1e-9)])
def test_a_hyperparameter_that_serves_two_units_is_suspect_and_the_others_have_those_that_hold_without_it(eps, least):
    result = infer_units(optimizer_of(eps_added_to_two_norms), {"lr": 0.1, "eps": eps})
    assert result.verdict == "inconsistent" and least < result.residual <= 1
    assert result.suspect == "eps" and "With eps=0 it is consistent" in result.reason
    assert result.hyperparameters == {"lr": ONE, "eps": None} and result.inconsistent.keys() == {"eps"}
    assert "inconsistent, residual" in str(result)
    with pytest.raises(ValueError, match="eps=.* has no known unit"):
        convert(result, {"lr": 0.1, "eps": eps}, loss=2)
    assert convert(result, {"lr": 0.1, "eps": 0.0}, loss=2) == {"lr": 0.1, "eps": 0.0}


def test_a_suspect_is_seen_where_only_large_changes_of_scale_bring_it_into_play():
    """Then the units that hold nearby, here of a unit other than 1, have to hold without it."""

    def rule(p, g, state, h):
        return h["lr"] * (g + h["eps"] * g**2 + h["eps"] * p)

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "eps": 1e-6})
    assert result.verdict == "inconsistent" and "do not hold at large ones" in result.reason
    assert result.suspect == "eps" and result.hyperparameters == {"lr": W / G, "eps": None}


def test_no_hyperparameter_is_suspect_for_a_constant_that_acts_without_it():
    def rule(p, g, state, h):
        return h["lr"] * adam(p, g, state, h, eps=1e-2) + h["lr"] * h["decay"] * p

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "decay": 0.1})
    assert result.verdict == "inconsistent" and result.suspect == ""


def test_a_clamp_of_a_pure_number_is_consistent():
    def rule(p, g, state, h):
        return h["lr"] * adam(p, g, state, h).clamp(-0.5, 0.5)

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert result.verdict == "bitwise" and result.hyperparameters == {"lr": W}


def test_a_delayed_switch_is_reported_as_one():
    result = infer_units(optimizer_of(sign_after_50_steps_of_sgd), {"lr": 0.01})
    assert "the first 8 steps do not hold over 100" in result.reason


def test_a_hyperparameter_too_small_to_matter_is_inconsistent_by_itself_and_the_others_keep_their_units():
    result = infer_units(optimizer_of(eps_added_to_two_norms), {"lr": 0.1, "eps": 1e-30})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": ONE, "eps": None}
    assert result.inconsistent["eps"] > 1e-4


@pytest.mark.parametrize("value, unit", [(0.0, W), (0.5, W / G ** Fraction(1, 2)), (1.0, W / G)])
def test_an_exponent_on_which_the_unit_of_lr_depends_is_named_and_gets_no_unit(value, unit):
    def rule(p, g, state, h):
        return h["lr"] * power(g, h["exponent"])

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "exponent": value})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": unit, "exponent": None}
    assert result.inconsistent["exponent"] > 1e-3 and "exponent" in result.reason


def test_a_value_that_is_inconsistent_only_when_switched_on_leaves_the_others_their_units():
    def rule(p, g, state, h):
        return h["lr"] * (g + h["mix"] * g.sign() * min(1.0, g.norm().item()))

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "mix": 0.0})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": W / G, "mix": None} and "mix" in result.inconsistent


# Fractions.


@pytest.mark.parametrize(
    "exponent, verdict",
    [("1/2", "bitwise"), ("3/4", "bitwise"), ("1/3", "rounding"), ("4/5", "rounding"), ("5/6", "rounding")],
)
def test_exponents_that_are_fractions_are_found(exponent, verdict):
    exponent = Fraction(exponent)

    def rule(p, g, state, h):
        return h["lr"] * g / (g.abs() ** float(exponent) + h["eps"])

    result = infer_units(optimizer_of(rule), {"lr": 0.1, "eps": 1e-8})
    assert result.hyperparameters == {"lr": W * G**exponent / G, "eps": G**exponent}
    assert result.verdict == verdict and result.residual < 1e-9


def test_the_step_divided_by_the_root_of_the_gradient_has_the_unit_written_in_the_book():
    def rule(p, g, state, h):
        return h["lr"] * g / g.abs().sqrt()

    result = infer_units(optimizer_of(rule), {"lr": 0.1})
    assert str(result.hyperparameters["lr"]) == "L^(-1/2) W^(3/2)" and result.verdict == "bitwise"


# Any factory with torch.optim's interface.

ADAM = {"lr": W, "betas": ONE, "eps": G, "weight_decay": G / W}


class NeedsClosure(optim.SGD):
    def step(self, closure):
        return super().step(closure)


class TwoGradients(optim.Optimizer):
    """A step at the gradient that a step of rho along it leads to: two evaluations."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self, closure):
        (group,) = self.param_groups
        with torch.enable_grad():
            closure()
        ascents = [group["rho"] * p.grad / p.grad.norm() for p in group["params"]]
        for p, ascent in zip(group["params"], ascents):
            p.add_(ascent)
        with torch.enable_grad():
            closure()
        for p, ascent in zip(group["params"], ascents):
            p.sub_(ascent + group["lr"] * p.grad)


class NeedsNames(optim.SGD):
    def __init__(self, params, lr=0.1):
        params = [{"params": [p], "lr": lr * (1 + ("bias" in name))} for name, p in params]
        super().__init__(params)


class NeedsModel(optim.SGD):
    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), lr=lr)


class Newton(optim.Optimizer):
    """The gradient over the curvature along it, g·Hg/g·g, by a second backward pass."""

    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})

    def step(self):
        (group,) = self.param_groups
        parameters = group["params"]
        gradients = [p.grad for p in parameters]
        directions = [g.detach() for g in gradients]
        products = torch.autograd.grad(gradients, parameters, directions)
        square = sum(d.square().sum() for d in directions)
        curvature = sum((d * h).sum() for d, h in zip(directions, products)) / square
        with torch.no_grad():
            for p, d in zip(parameters, directions):
                p.sub_(group["lr"] * d / curvature)


class BackwardInside(optim.Optimizer):
    """Takes its own backward pass, from the loss."""

    def __init__(self, model, lr=0.1):
        super().__init__(model.parameters(), {"lr": lr})

    def step(self, closure):
        (group,) = self.param_groups
        gradients = torch.autograd.grad(closure(), group["params"])
        with torch.no_grad():
            for p, g in zip(group["params"], gradients):
                p.sub_(group["lr"] * g)


class OnlyFloat32(optim.Optimizer):
    """Mixes its buffer with the gradient by an operation that needs one dtype for both."""

    def __init__(self, params, lr=0.1, eps=1e-6):
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p, dtype=torch.float32))
                m.copy_(torch.lerp(m, p.grad, 0.1))
                p.sub_(group["lr"] * m / (m.norm() + group["eps"]))


class Waits(optim.SGD):
    """Does nothing for the first 10 steps."""

    calls = 0

    def step(self):
        self.calls += 1
        return super().step() if self.calls > 10 else None


class OnlyKeywords(optim.AdamW):
    def __init__(self, params, *, lr=1e-3, weight_decay=0.1):
        super().__init__(params, lr=lr, weight_decay=weight_decay, eps=0.0)


class Plain:
    """No torch.optim.Optimizer, no state, and defaults of 0 without annotation."""

    def __init__(self, params, lr=0.1, weight_decay=0):
        self.params, self.lr, self.weight_decay = list(params), lr, weight_decay

    @torch.no_grad()
    def step(self):
        for p in self.params:
            p.sub_(self.lr * (p.grad + self.weight_decay * p))


def in_precision(dtype):
    def rule(p, g, state, h):
        state["m"] = 0.9 * state.get("m", torch.zeros_like(g, dtype=dtype)) + g.to(dtype)
        return (h["lr"] * state["m"] / (state["m"].norm() + h["eps"])).to(p.dtype)

    return optimizer_of(rule)


def drawing(draw):
    def rule(p, g, state, h):
        return h["lr"] * g * draw(p)

    return optimizer_of(rule)


FACTORIES = {
    "lambda": (lambda params, lr, eps=1e-8: optim.Adam(params, lr=lr, eps=eps), {"lr": 0.1}, {"lr": W, "eps": G}),
    "lambda with **": (lambda params, **h: optim.Adam(params, **h), {"lr": 0.1, "eps": 0.1}, {"lr": W, "eps": G}),
    "partial": (functools.partial(optim.Adam, lr=0.01, amsgrad=True), {"eps": 1e-6}, ADAM),
    "closure": (NeedsClosure, {"lr": 0.1}, {"lr": W / G, "momentum": ONE, "dampening": ONE, "weight_decay": G / W}),
    "two evaluations": (TwoGradients, {}, {"lr": W / G, "rho": W}),
    "names": (NeedsNames, {}, {"lr": W / G}),
    "model": (NeedsModel, {}, {"lr": W / G}),
    "second derivatives": (Newton, {}, {"lr": ONE}),
    "a backward pass of its own": (BackwardInside, {}, {"lr": W / G}),
    "no float64": (OnlyFloat32, {}, {"lr": W, "eps": G}),
    "a late start": (Waits, {}, UNITS[optim.SGD].hyperparameters),
    "matrices only": (optim.Muon, {"weight_decay": 0.0, "ns_steps": 3}, UNITS[optim.Muon].hyperparameters),
    "sparse gradients only": (optim.SparseAdam, {}, {"lr": W, "betas": ONE, "eps": G}),
    "keywords only": (OnlyKeywords, {}, {"lr": W, "weight_decay": ONE / W}),
    "no optimizer of torch": (Plain, {}, {"lr": W / G, "weight_decay": G / W}),
    "float32 inside": (in_precision(torch.float32), {"lr": 0.1, "eps": 1e-6}, {"lr": W, "eps": G}),
    "bfloat16 inside": (in_precision(torch.bfloat16), {"lr": 0.1, "eps": 1e-6}, {"lr": W, "eps": G}),
    "draws with torch": (drawing(torch.rand_like), {"lr": 0.1}, {"lr": W / G}),
    "draws with random": (drawing(lambda p: random.random()), {"lr": 0.1}, {"lr": W / G}),
    "draws with numpy": (drawing(lambda p: np.random.rand()), {"lr": 0.1}, {"lr": W / G}),
    "tuple": (optim.Adam, {"betas": (0.5, 0.6)}, ADAM),
    "list": (optim.Adam, {"betas": [0.5, 0.6]}, ADAM),
    "tuple of tensors": (optim.Adam, {"betas": (torch.tensor(0.5), torch.tensor(0.6))}, ADAM),
    "int for a float": (optim.Adam, {"lr": 1, "weight_decay": 1}, ADAM),
    "int for a default that is a float": (Plain, {"lr": 1}, {"lr": W / G, "weight_decay": G / W}),
    "float of numpy": (optim.Adam, {"lr": np.float32(0.1), "eps": np.float64(1e-6)}, ADAM),
    "tensor": (optim.Adam, {"lr": torch.tensor(0.1)}, ADAM),
    "lr of 0": (optim.Adam, {"lr": 0.0}, ADAM),
    "smallest lr": (optim.Adam, {"lr": 1e-12}, ADAM),
    "an lr that diverges": (optim.SGD, {"lr": 1e6}, UNITS[optim.SGD].hyperparameters),
}


@pytest.mark.parametrize("factory, hyperparameters, units", FACTORIES.values(), ids=FACTORIES)
def test_any_factory_is_measured(factory, hyperparameters, units):
    result = infer_units(factory, hyperparameters)
    assert result.verdict == "bitwise" and result.residual == 0
    units = {name: unit for name, unit in units.items() if name != "ns_steps"}
    assert result.hyperparameters == units


def test_a_value_that_no_decade_in_reach_makes_matter_is_undetermined():
    result = infer_units(optim.Adam, {"eps": 1e-320})
    assert result.verdict == "bitwise" and result.undetermined == ("eps",)


class ScheduleFree(optim.Optimizer):
    """Schedule-free SGD: p is the point y where gradients are taken, or, in evaluation, the average x."""

    def __init__(self, params, lr=0.1, beta=0.9, training=True):
        super().__init__(params, {"lr": lr, "beta": beta})
        self.training, self.steps = training, 0

    @torch.no_grad()
    def train(self, to=True):
        if self.training is not to:
            for group in self.param_groups:
                for p in group["params"]:
                    z = self.state[p].get("z", p)  # before the first step there is none
                    p.lerp_(z, 1 - group["beta"] if to else 1 - 1 / group["beta"])
            self.training = to

    def eval(self):
        self.train(False)

    @torch.no_grad()
    def step(self):
        if not self.training:
            raise RuntimeError("call train() before step()")
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, 1 / self.steps)
                p.sub_(p.grad, alpha=group["lr"] * (1 - group["beta"] * (1 - 1 / self.steps)))
                z.sub_(p.grad, alpha=group["lr"])


@pytest.mark.parametrize("training", [True, False])
def test_an_optimizer_with_a_switch_is_measured_in_training(training):
    result = infer_units(ScheduleFree, {"training": training})
    assert result.verdict == "bitwise"
    assert result.hyperparameters == {"lr": W / G, "beta": ONE} and result.state == {"z": W}


def test_infinite_defaults_and_none_are_kept_as_they_are():
    def factory(params, lr=0.1, growth: float = math.inf, clip: float | None = None):
        assert growth == math.inf and clip is None
        return optim.SGD(params, lr=lr)

    assert infer_units(factory, {}).hyperparameters == {"lr": W / G}


# What is converted by measured units.


def test_defaults_that_convert_adds_are_the_factorys_and_not_those_of_the_measurement():
    result = infer_units(optim.AdamW, {"lr": 0.5, "eps": 1e-3, "weight_decay": 0.0})
    assert convert(result, {"lr": 1.0}, weight=8.0) == convert(optim.AdamW, {"lr": 1.0}, weight=8.0)


def test_what_has_no_default_is_converted_only_where_it_is_passed():
    result = infer_units(lambda params, **h: optim.AdamW(params, **h), {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1})
    assert convert(result, {"lr": 1.0}, weight=8.0) == {"lr": 8.0}


def test_an_int_that_may_be_a_flag_is_not_passed_on_where_no_units_fit():
    result = infer_units(lambda params, **h: optim.SGD(params, **h), {"lr": 1})
    assert result.verdict == "inconsistent" and result.hyperparameters == {"lr": None}
    assert "not probed (1)" in str(result)
    with pytest.raises(ValueError, match="lr=1 has no known unit"):
        convert(result, {"lr": 1}, weight=2)


# What stays as it was.


def raising(params):
    torch.rand(1), np.random.rand(), random.random()
    raise RuntimeError("no such thing")


@pytest.mark.parametrize("factory", [optim.Adam, FACTORIES["bfloat16 inside"][0], drawing(torch.rand_like), raising])
def test_random_state_default_dtype_threads_and_the_dict_passed_stay_as_they_were(factory):
    def states():
        rng = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
        return rng, torch.get_default_dtype(), torch.get_num_threads()

    before, hyperparameters = states(), {} if factory is raising else {"lr": torch.tensor(0.1), "eps": 1e-6}
    kept = dict(hyperparameters)
    if factory is raising:
        with pytest.raises(ValueError):
            infer_units(factory, hyperparameters)
    else:
        infer_units(factory, hyperparameters)
    assert states() == before
    assert hyperparameters == kept and all(hyperparameters[name] is kept[name] for name in kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_default_dtype_gives_the_same_units_and_is_left_as_it_was(dtype):
    torch.set_default_dtype(dtype)
    try:
        result = infer_units(optim.Adam, {})
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert result == inferred(optim.Adam, {})


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_modes_without_gradients_do_not_matter(mode):
    with mode():
        assert infer_units(optim.Adam, {}) == inferred(optim.Adam, {})


def test_equal_calls_give_equal_results():
    assert infer_units(optim.AdamW, {}) == infer_units(optim.AdamW, {})


# Errors.


@pytest.mark.parametrize("factory", [None, "Adam", optim.Adam([torch.zeros(1)])])
def test_a_factory_that_cannot_be_called_is_refused(factory):
    with pytest.raises(TypeError, match="(?s)factory=.* cannot be called"):
        infer_units(factory, {})


@pytest.mark.parametrize("hyperparameters", [None, 0.1, [("lr", 0.1)], "lr"])
def test_hyperparameters_that_are_not_a_dict_are_refused(hyperparameters):
    with pytest.raises(TypeError, match="hyperparameters=.* is not a dict"):
        infer_units(optim.Adam, hyperparameters)


def test_a_number_in_place_of_the_hyperparameters_is_shown_as_an_lr():
    with pytest.raises(
        TypeError, match=re.escape("hyperparameters=0.001 is not a dict; pass one such as {'lr': 0.001}")
    ):
        infer_units(optim.Adam, 1e-3)


def test_without_hyperparameters_the_defaults_of_the_factory_are_in_use():
    assert infer_units(optim.Adam) == inferred(optim.Adam, {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    with pytest.raises(ValueError, match=f"eps={value} is not finite"):
        infer_units(optim.Adam, {"eps": value})
    with pytest.raises(ValueError, match=rf"betas\[1\]={value} is not finite"):
        infer_units(optim.Adam, {"betas": (0.9, value)})
    with pytest.raises(ValueError, match=f"lr={value} is not finite"):
        infer_units(optim.Adam, {"lr": torch.tensor(value)})


@pytest.mark.parametrize(
    "factory, hyperparameters, reason",
    [
        (raising, {}, "RuntimeError: no such thing"),
        (optim.Adam, {"learning_rate": 0.1}, "unexpected keyword argument 'learning_rate'"),
        (optim.Adam, {"lr": -1.0}, "Invalid learning rate: -1.0"),
        (optim.Adam, {"lr": 1e308}, "the run is not finite"),
        (lambda params: None, {}, "has no attribute 'step'"),
    ],
)
def test_a_factory_that_cannot_be_run_is_named_with_the_reason(factory, hyperparameters, reason):
    with pytest.raises(ValueError) as error:
        infer_units(factory, hyperparameters)
    assert f"factory={factory!r} could not be run" in str(error.value)
    assert str(error.value).count(reason) == 1


def test_an_optimizer_that_moves_nothing_is_refused():
    with pytest.raises(ValueError, match="standstill.*move nothing"):
        infer_units(optimizer_of(standstill), {"lr": 0.1})


def standstill(p, g, state, h):
    return 0 * g


def test_an_optimizer_that_explodes_is_refused():
    def explosion(p, g, state, h):
        return -1e30 * p

    with pytest.raises(ValueError, match="explosion.*too far to measure"):
        infer_units(optimizer_of(explosion), {"lr": 0.1})


def test_a_factory_that_keeps_something_between_runs_is_refused():
    made = []

    def factory(params, lr=0.1):
        made.append(params)
        return optim.SGD(params, lr=lr / len(made))

    with pytest.raises(ValueError, match="two equal runs differ.*keeps something"):
        infer_units(factory, {})


# A wrong unit is never returned silently.


@functools.cache
def shared_runner(factory, *items):
    return runner_of(factory, dict(items))


@pytest.fixture
def wrong_by(monkeypatch):
    """Makes the solver return one unit that is wrong by a factor.  All sabotages of one optimizer share their runs."""
    solve = scaleinv._infer.exponents.solve

    def sabotage(key, error):
        def wrong(keys, matrices):
            units, certain, residual = solve(keys, matrices)
            assert key in keys
            return units | ({key: units[key] * error} if key in units else {}), certain, residual

        monkeypatch.setattr(scaleinv._infer.exponents, "solve", wrong)

    shared = lambda factory, values, each_run: shared_runner(factory, *values.items())  # noqa: E731
    monkeypatch.setattr(scaleinv._infer.infer, "runner_of", shared)
    return sabotage


@pytest.mark.parametrize(
    "cls, hyperparameters",
    [
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
        (optim.AdamW, {"lr": 0.1, "betas": (0.9,), "eps": 1e-8, "weight_decay": 0.1}),
        (optim.Adagrad, {"eps": 1e-10, "initial_accumulator_value": 0.1}),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
@pytest.mark.parametrize("error", [W, L ** Fraction(1, 6)], ids=str)
def test_sabotage_one_wrong_exponent_makes_the_verdict_inconsistent(wrong_by, cls, hyperparameters, error):
    for name in hyperparameters:
        wrong_by("betas[0]" if name == "betas" else name, error)
        result = infer_units(cls, {n: v for n, v in hyperparameters.items() if n != "betas"})
        assert result.verdict == "inconsistent" and 1e-9 < result.residual <= 1, name
        if result.suspect:  # what the others have holds where that is 0
            assert result.hyperparameters[result.suspect] is None
        with pytest.raises(ValueError, match="no known unit"):
            convert(result, {n: v for n, v in hyperparameters.items() if n != "betas"}, weight=2, loss=2)


@pytest.mark.parametrize("error", [W, L ** Fraction(1, 6)], ids=str)
def test_sabotage_a_wrong_exponent_of_what_is_0_takes_its_unit(wrong_by, error):
    wrong_by("weight_decay", error)
    result = infer_units(optim.SGD, {"lr": 0.1, "weight_decay": 0.0})
    assert result.hyperparameters["weight_decay"] is None and "weight_decay" in result.inconsistent
    assert result.hyperparameters["lr"] == W / G


halves = st.integers(-2, 4).map(lambda n: Fraction(n, 2))
kinds = st.sampled_from(["decay, times lr", "decay", "momentum", "denominator"])
half, one_and_a_half = Fraction(1, 2), Fraction(3, 2)


def power_law(kind, a, b, c, d):
    """An optimizer whose step is lr·sign(g)·|g|^a·|w|^b, with perhaps a second term, and its true units."""
    of = G**a * W**b

    def rule(p, g, state, h):
        if kind == "momentum":
            g = state["m"] = h["beta"] * state.get("m", torch.zeros_like(g)) + g
        step = power(g, a) * p.abs() ** float(b)
        other = power(p, c) * g.abs() ** float(d)
        if kind == "decay, times lr":
            step = step + h["decay"] * other
        if kind == "denominator":
            step = step / (g.abs() ** float(d) + h["eps"])
        return h["lr"] * step + (h["decay"] * other if kind == "decay" else 0)

    if kind == "denominator":
        return rule, {"lr": W * G**d / of, "eps": G**d}
    if kind == "momentum":
        return rule, {"lr": W / of, "beta": ONE}
    decay = {"decay, times lr": of / (W**c * G**d), "decay": W / (W**c * G**d)}
    return rule, {"lr": W / of} | ({"decay": decay[kind]} if kind in decay else {})


@settings(max_examples=12)
@example("alone", -half, -half, 0, 0, -1.6, -1.0)
@example("decay", Fraction(-1), one_and_a_half, 0, Fraction(1), 0.0, -1.0)  # inconsistent, but for decay
@example("denominator", -half, Fraction(-1), Fraction(1), Fraction(2), -2.5, -1.0)  # inconsistent
@example("denominator", 0, 0, 0, 0, 0.0, -1.0)  # eps of unit 1, in a product with lr
@example("momentum", 0, 0, 0, 0, 0.0, -1.0)  # of signs: acts in jumps
@given(kinds, halves, halves, halves, halves, st.floats(-4, 0), st.floats(-4, -0.01))
def test_the_units_of_random_power_laws_are_the_true_ones_or_none(kind, a, b, c, d, lr, other):
    rule, true = power_law(kind, a, b, c, d)
    hyperparameters = {name: 10.0 ** (lr if name == "lr" else other) for name in true}
    try:
        result = infer_units(optimizer_of(rule), hyperparameters)
    except ValueError as error:  # a singular law diverges
        assert "could not be run" in str(error) or "too far to measure" in str(error)
        return
    assert result.hyperparameters.keys() == true.keys()
    for name, unit in result.hyperparameters.items():
        assert unit in (None, true[name]), (name, unit, true[name])


@pytest.mark.parametrize("a", [0, Fraction(1, 2), 1])
@pytest.mark.parametrize("b", [0, Fraction(1, 2), 1])
def test_the_units_of_power_laws_without_singularities_are_all_found(a, b):
    rule, true = power_law("decay, times lr", a, b, 1, Fraction(1, 2))
    result = infer_units(optimizer_of(rule), {"lr": 0.05, "decay": 0.1})
    assert result.hyperparameters == true and result.verdict == "bitwise"


def test_the_sum_of_two_power_laws_under_one_lr_is_consistent_only_where_their_units_agree():
    def summed(a, b, c, d):
        def rule(p, g, state, h):
            return h["lr"] * (power(g, a) * p.abs() ** b + power(p, c) * g.abs() ** d)

        return infer_units(optimizer_of(rule), {"lr": 0.05})

    assert summed(1, 1, 1, 1).hyperparameters == {"lr": Unit(-1, 1)}
    for other in [(1, 0), (0, 1), (1, 0.5)]:
        assert summed(1, 1, *other).verdict == "inconsistent"


def test_measured_units_are_refused_for_another_flag_than_the_measured_one():
    units = infer_units(optim.Adam, {"lr": 1e-3})
    assert convert(units, {"lr": 1e-3, "decoupled_weight_decay": False}, weight=2.0)["lr"] == 2e-3
    with pytest.raises(ValueError, match="decoupled_weight_decay=True: the units were measured with .*False.*again"):
        convert(units, {"lr": 1e-3, "decoupled_weight_decay": True}, weight=2.0)
    parameters = [torch.nn.Parameter(torch.ones(2))]
    decoupled = optim.Adam(parameters, lr=1e-3, decoupled_weight_decay=True)
    module = torch.nn.ParameterList(parameters)
    with pytest.raises(ValueError, match="measured with"):
        rescale(module, decoupled, weight=2.0, units=units)
    assert decoupled.param_groups[0]["lr"] == 1e-3 and torch.equal(parameters[0], torch.ones(2))
