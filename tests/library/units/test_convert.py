"""``convert`` makes the settings for the same training in other units."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import optim

from scaleinv import Unit, Units, convert, units_of
from scaleinv._checks import check_scale
from scaleinv._convert import convert_value
from scaleinv.known_optimizers import UNITS
from scaleinv.units import ONE, L, W
from tests.library.units.shared import problem, text_with

exponents = st.fractions(min_value=-4, max_value=4, max_denominator=4)
units = st.builds(Unit, exponents, exponents)
scales = st.floats(min_value=1e-3, max_value=1e3)
powers_of_two = st.integers(-10, 10).map(lambda n: 2.0**n)

# The same training.

CONVERTIBLE = [
    (optim.SGD, {"lr": 0.01, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}),
    (optim.ASGD, {"lr": 0.01, "lambd": 0.1, "t0": 2.0, "weight_decay": 0.1}),
    (optim.Rprop, {}),
    (optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 0.1}),
    (optim.RMSprop, {"momentum": 0.9, "centered": True, "weight_decay": 0.1, "eps": 0.1}),
    (optim.Adadelta, {"weight_decay": 0.1, "eps": 0.1}),
    (optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "amsgrad": True}),
    (optim.Adam, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "decoupled_weight_decay": True}),
    (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}),
    (optim.SparseAdam, {"lr": 0.1, "eps": 0.1}),
    (optim.Adamax, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "momentum_decay": 0.1}),
    (optim.NAdam, {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1, "decoupled_weight_decay": True}),
    (optim.Adafactor, {"eps": (1e-15, 0.1), "weight_decay": 0.1}),
    (optim.Muon, {"lr": 0.1, "weight_decay": 0.1}),
]


def train(optimizer_class, hyperparameters, weight=1.0, loss=1.0, steps=10):
    parameters, closure = problem(optimizer_class, weight, loss)
    optimizer = optimizer_class(parameters, **hyperparameters)
    for _ in range(steps):
        optimizer.step(closure)
    return [p.detach() / weight for p in parameters]


@pytest.mark.parametrize("optimizer_class, hyperparameters", CONVERTIBLE)
@pytest.mark.parametrize("weight, loss", [(8.0, 1.0), (1.0, 0.25), (2.0**-6, 2.0**9)])
def test_converted_hyperparameters_make_the_same_training_bit_for_bit(optimizer_class, hyperparameters, weight, loss):
    new = convert(optimizer_class, hyperparameters, weight=weight, loss=loss)
    before = train(optimizer_class, hyperparameters)
    after = train(optimizer_class, new, weight, loss)
    assert all(torch.equal(a, b) for a, b in zip(before, after))


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay"])
def test_sabotage_one_hyperparameter_left_as_it_was_makes_another_training(name):
    old = {"lr": 0.1, "weight_decay": 0.1, "eps": 0.1}
    new = convert(optim.AdamW, old, weight=8.0)
    before, after = train(optim.AdamW, old), train(optim.AdamW, new | {name: old[name]}, weight=8.0)
    assert not any(torch.allclose(a, b, rtol=1e-3) for a, b in zip(before, after))


def test_every_optimizer_with_units_is_trained_above():
    without = {c for c, table in UNITS.items() if None in table.hyperparameters.values()}
    assert without == {optim.RAdam, optim.LBFGS}
    assert {c for c, _ in CONVERTIBLE} == set(UNITS) - without


# By example.


def test_adam_at_weight_10_has_lr_10_times_and_eps_a_tenth():
    new = convert(optim.Adam, {"lr": 1e-3, "eps": 1e-6}, weight=10)
    assert new == {"lr": pytest.approx(1e-2), "eps": pytest.approx(1e-7)}


def test_adam_at_loss_10_has_the_same_lr_and_eps_10_times():
    assert convert(optim.Adam, {"lr": 1e-3}, loss=10) == {"lr": 1e-3, "eps": pytest.approx(1e-7)}


def test_sgd_at_weight_10_has_lr_100_times_and_at_loss_10_a_tenth():
    assert convert(optim.SGD, {"lr": 0.1}, weight=10) == {"lr": pytest.approx(10)}
    assert convert(optim.SGD, {"lr": 0.1}, loss=10) == {"lr": pytest.approx(0.01)}


def test_decay_added_to_the_gradient_is_divided_by_the_square_of_the_weight_scale():
    old = {"lr": 1e-3, "weight_decay": 0.1}
    assert convert(optim.Adam, old, weight=10)["weight_decay"] == pytest.approx(1e-3)
    assert convert(optim.Adam, old, loss=10)["weight_decay"] == pytest.approx(1)


def test_decoupled_decay_is_divided_by_the_weight_scale():
    old = {"lr": 1e-3, "weight_decay": 0.1}
    assert convert(optim.AdamW, old, weight=10)["weight_decay"] == pytest.approx(1e-2)
    assert convert(optim.AdamW, old, loss=10)["weight_decay"] == 0.1


@pytest.mark.parametrize("optimizer_class", [optim.Adam, optim.NAdam])
def test_the_flag_decoupled_weight_decay_gives_weight_decay_the_unit_of_adamw(optimizer_class):
    assert units_of(optimizer_class).hyperparameters["weight_decay"] == L / W**2
    assert units_of(optimizer_class, {"decoupled_weight_decay": False}).hyperparameters["weight_decay"] == L / W**2
    decoupled = units_of(optimizer_class, {"decoupled_weight_decay": True})
    assert decoupled.hyperparameters["weight_decay"] == ONE / W
    new = convert(optimizer_class, {"weight_decay": 0.1, "decoupled_weight_decay": True}, weight=10)
    assert new["weight_decay"] == pytest.approx(1e-2) and new["decoupled_weight_decay"] is True


def test_defaults_that_change_are_added_and_no_others():
    assert convert(optim.AdamW, {}, weight=8.0) == {"lr": 8e-3, "eps": 1e-8 / 8, "weight_decay": 1e-2 / 8}
    assert convert(optim.AdamW, {}, loss=8.0) == {"eps": 8e-8}
    assert convert(optim.Rprop, {}, weight=2.0) == {"lr": 2e-2, "step_sizes": (2e-6, 100)}


def test_pure_numbers_and_flags_are_passed_through():
    old = {"lr": 1e-3, "betas": (0.8, 0.95), "amsgrad": True, "foreach": None}
    assert convert(optim.Adam, old, weight=2.0) == old | {"lr": 2e-3, "eps": 5e-9}


def test_a_tuple_is_converted_entry_by_entry():
    new = convert(optim.Adafactor, {"eps": (1e-30, 1e-3)}, weight=2.0, loss=8.0)
    assert new == {"eps": (4e-30, 2e-3)}


def test_a_tensor_stays_a_tensor():
    lr = torch.tensor(1e-3)
    new = convert(optim.Adam, {"lr": lr}, weight=8.0)["lr"]
    assert torch.equal(new, 8 * lr) and lr.item() == pytest.approx(1e-3)


def test_the_dict_that_is_passed_stays_the_same():
    old = {"lr": 1e-3, "betas": (0.9, 0.99)}
    kept = dict(old)
    assert convert(optim.Adam, old, weight=10, loss=3) is not old
    assert old == kept
    assert convert(optim.Adam, old) is not old


def test_scales_of_one_change_nothing_even_without_units():
    assert convert(optim.RAdam, {"lr": 1e-3}) == {"lr": 1e-3}
    assert convert(optim.LBFGS, {}) == {}


def test_units_can_be_passed_in_place_of_the_class():
    own = Units({"lr": W**3, "beta": ONE}, {})
    assert units_of(own) is own
    assert convert(own, {"lr": 0.5, "beta": 0.9}, weight=2.0) == {"lr": 4.0, "beta": 0.9}


@pytest.mark.parametrize("optimizer_class, hyperparameters", CONVERTIBLE)
@settings(max_examples=10)
@given(weight=powers_of_two, loss=powers_of_two)
def test_converting_there_and_back_is_exact_at_powers_of_two(optimizer_class, hyperparameters, weight, loss):
    there = convert(optimizer_class, hyperparameters, weight=weight, loss=loss)
    back = convert(optimizer_class, there, weight=1 / weight, loss=1 / loss)
    assert {name: back[name] for name in hyperparameters} == hyperparameters


@given(weight=scales, loss=scales)
def test_converting_there_and_back_is_rounding_at_any_scale(weight, loss):
    old = {"lr": 1e-3, "eps": 1e-8, "weight_decay": 0.1}
    there = convert(optim.Adam, old, weight=weight, loss=loss)
    back = convert(optim.Adam, there, weight=1 / weight, loss=1 / loss)
    assert all(math.isclose(back[name], old[name], rel_tol=1e-12) for name in old)


# Errors name the argument and its value.


@pytest.mark.parametrize("name", ["weight", "loss"])
@pytest.mark.parametrize("value", [0, 0.0, -1, -2.5, math.nan, math.inf, -math.inf])
def test_a_scale_that_is_not_positive_and_finite_is_refused(name, value):
    with pytest.raises(ValueError, match=text_with(f"{name}={value!r}", "positive and finite")):
        convert(optim.Adam, {}, **{name: value})


@pytest.mark.parametrize("name", ["weight", "loss"])
@pytest.mark.parametrize("value", [True, False, "8", None, [8.0], 8j])
def test_a_scale_that_is_not_a_number_is_refused(name, value):
    with pytest.raises(TypeError, match=text_with(f"{name}={value!r}", "not a number")):
        convert(optim.Adam, {}, **{name: value})


def test_a_scale_tensor_of_several_elements_is_refused():
    with pytest.raises(TypeError, match=text_with("weight=tensor([1., 2.])")):
        check_scale("weight", torch.tensor([1.0, 2.0]))


@pytest.mark.parametrize("value", [8, 8.0, Fraction(8), torch.tensor(8.0), torch.tensor([8])])
def test_a_scale_may_be_any_kind_of_number(value):
    scale = check_scale("weight", value)
    assert scale == 8.0 and type(scale) is float


class Stranger(optim.Adam):
    """A subclass may do anything: it does not inherit its parent's units."""


def test_an_optimizer_of_unknown_units_is_refused_and_infer_units_named():
    with pytest.raises(ValueError, match=text_with("optimizer_class=Stranger", "infer_units")):
        units_of(Stranger)
    with pytest.raises(ValueError, match=text_with("optimizer_class=Stranger", "infer_units")):
        convert(Stranger, {"lr": 1e-3}, weight=2)


@pytest.mark.parametrize("value", ["Adam", None, optim.Adam([torch.zeros(1)])])
def test_something_that_is_not_a_class_is_refused(value):
    with pytest.raises(TypeError, match=text_with("optimizer_class=", repr(value)[:20], "not a class")):
        units_of(value)


def test_an_unknown_hyperparameter_is_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match=text_with("hyperparameters['learning_rate']", "unknown", "'lr'", "'eps'")):
        convert(optim.Adam, {"learning_rate": 1e-3}, weight=2)
    with pytest.raises(ValueError, match=text_with("hyperparameters['eps']")):
        convert(optim.SGD, {"eps": 1e-3})


@pytest.mark.parametrize("scale", [{"weight": 2}, {"loss": 2}])
def test_the_lr_of_radam_is_refused_with_the_reason(scale):
    with pytest.raises(ValueError, match=text_with("lr=0.003", "no known unit", "SGD's steps", "Adam's")):
        convert(optim.RAdam, {"lr": 3e-3}, **scale)


def test_the_lr_of_lbfgs_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=text_with("lr=0.5", "no known unit", "LBFGS starts")):
        convert(optim.LBFGS, {"lr": 0.5}, weight=2)


def test_a_constant_that_adafactor_chooses_itself_is_refused():
    with pytest.raises(ValueError, match=text_with("eps[0]=None", "L W⁻¹", "factor of 4", "as a number")):
        convert(optim.Adafactor, {}, loss=4)


def test_a_hyperparameter_that_is_not_a_number_is_refused():
    with pytest.raises(TypeError, match=text_with("lr='fast'", "not a number")):
        convert(optim.Adam, {"lr": "fast"}, weight=2)


@pytest.mark.parametrize("lr, weight", [(1e300, 1e10), (1e-320, 1e-10)])
def test_a_result_beyond_the_range_of_floats_is_refused(lr, weight):
    with pytest.raises(ValueError, match=text_with(f"lr={lr!r}", "of unit W", f"{weight:g}", "range of floats")):
        convert(optim.Adam, {"lr": lr}, weight=weight)


@pytest.mark.parametrize("weight", [1e200, 1e-200])
def test_a_factor_beyond_the_range_of_floats_is_refused(weight):
    with pytest.raises(ValueError, match=text_with("lr=0.1", "of unit L⁻¹ W²", "range of floats")):
        convert(optim.SGD, {"lr": 0.1}, weight=weight)


@given(st.floats(1e-6, 1e6), units, powers_of_two, powers_of_two)
def test_convert_value_multiplies_by_the_factor_of_the_unit(value, unit, weight, loss):
    assert convert_value("x", value, unit, weight, loss) == value * unit.factor(weight=weight, loss=loss)


@pytest.mark.parametrize("zero", [0, 0.0])
def test_zero_is_zero_in_every_unit(zero):
    assert convert_value("x", zero, W, 8.0, 1.0) is zero
    assert convert_value("x", zero, None, 8.0, 1.0) is zero
