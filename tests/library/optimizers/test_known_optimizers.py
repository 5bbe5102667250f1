"""The table of known optimizers against torch.optim's real steps and state: a new optimizer is a line of CASES."""

import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn, optim

from scaleinv import UNITS, optimizers, units_of
from scaleinv.known_optimizers import KNOWN, StepContext, known_of, units_of_rule
from scaleinv.laws import equilibrium_rms

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Case:
    """How an optimizer is tried.

    Attributes:
        options: hyperparameters, beside weight_decay=0 where it has one.
        law: relative tolerance of its step law, by the number of steps under noise before the step; none without a law.
        shape: of the parameter whose steps the law predicts.
        scale: RMS of its gradients.
        flags: hyperparameters with which every buffer is in the state.
    """

    options: dict[str, Any] = field(default_factory=dict)
    law: dict[int, float] = field(default_factory=dict)
    shape: tuple[int, ...] = (200, 100)
    scale: float = 1.0
    flags: dict[str, Any] = field(default_factory=dict)


CASES = [
    (optim.SGD, Case({"lr": 0.1, "momentum": 0.9}, {0: 1e-5, 60: 0.03}, flags={"momentum": 0.9})),
    (optim.SGD, Case({"lr": 0.1, "momentum": 0.9, "nesterov": True}, {0: 1e-5, 60: 0.03})),
    (optim.ASGD, Case({"lr": 0.1, "lambd": 0.0}, {0: 1e-5, 9: 1e-5})),
    (optim.Rprop, Case({"lr": 0.1}, {0: 1e-5})),
    (optim.Adagrad, Case({"lr": 0.1, "lr_decay": 0.1}, {0: 1e-5, 99: 0.01})),
    (optim.RMSprop, Case({"lr": 0.1}, {0: 1e-5, 600: 0.02}, flags={"momentum": 0.5, "centered": True})),
    (optim.RMSprop, Case({"lr": 0.1, "momentum": 0.6}, {600: 0.02})),
    (optim.Adadelta, Case({"lr": 1.0})),
    (optim.Adam, Case({"lr": 0.1}, {0: 1e-5, 60: 0.01}, flags={"amsgrad": True})),
    (optim.AdamW, Case({"lr": 0.1, "betas": (0.5, 0.99)}, {0: 1e-5, 600: 0.02}, flags={"amsgrad": True})),
    (optim.SparseAdam, Case({"lr": 0.1}, {0: 1e-5, 60: 0.01})),
    (optim.Adamax, Case({"lr": 0.1}, {0: 1e-5})),
    (optim.NAdam, Case({"lr": 0.1})),
    (optim.RAdam, Case({"lr": 0.1})),
    (optim.Adafactor, Case({"lr": 0.01}, {0: 0.01, 9: 0.01})),
    (optim.Adafactor, Case({"lr": 1.0}, {9: 0.02})),
    (optim.Adafactor, Case({"lr": 0.01}, {0: 1e-5, 2: 0.06, 99: 0.03}, shape=(20_000,))),
    (optim.Adafactor, Case({"lr": 0.01}, {0: 0.01}, scale=1e-5)),
    (optim.Adafactor, Case({"lr": 0.01, "d": 2.5}, {0: 0.01}, scale=2e-4)),
    (optim.Adafactor, Case({"lr": 0.01, "d": 2.5}, {0: 0.01}, scale=1e-4)),
    (optim.Adafactor, Case({"lr": 0.01, "d": 2.5, "eps": (0.1, 10.0)}, {0: 0.01, 9: 0.02}, scale=0.2)),
    (optim.Adafactor, Case({"lr": 0.01, "eps": (0.1, 1e-3)}, {0: 0.01}, scale=1e-3)),
    (optim.Adafactor, Case({"lr": 0.01, "eps": (0.1, 1e-3)}, {0: 0.01}, shape=(20_000,), scale=1e-3)),
    (optim.Muon, Case({"lr": 0.1}, {0: 0.33, 9: 0.33}, shape=(64, 16))),
    (optim.LBFGS, Case()),
]  # fmt: skip
each_case = pytest.mark.parametrize(
    "optimizer_class, case", CASES, ids=[f"{cls.__name__}-{i}" for i, (cls, _) in enumerate(CASES)]
)
each_class = pytest.mark.parametrize("optimizer_class", KNOWN, ids=lambda cls: cls.__name__)


def first_case(optimizer_class):
    return next(case for cls, case in CASES if cls is optimizer_class)


def made(optimizer_class, shape, options, scale=1.0):
    """A parameter of RMS ``scale`` and an optimizer without weight decay."""
    generator = torch.Generator().manual_seed(1)
    parameter = nn.Parameter(scale * torch.randn(shape, generator=generator))
    accepted = inspect.signature(optimizer_class).parameters
    without_decay = {"weight_decay": 0.0} if "weight_decay" in accepted else {}
    return parameter, optimizer_class([parameter], **(without_decay | options))


def noise(parameter, optimizer, steps, scale=1.0, seed=2):
    """Steps under gradients without mean or memory; the last change of the parameter."""
    generator = torch.Generator().manual_seed(seed)
    before = parameter.detach().clone()
    for _ in range(steps):
        before = parameter.detach().clone()
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
        step(parameter, optimizer)
    return parameter.detach() - before


def step(parameter, optimizer):
    if isinstance(optimizer, optim.SparseAdam):
        parameter.grad = parameter.grad.to_sparse()
    optimizer.step(lambda: (parameter * parameter.grad).sum() if isinstance(optimizer, optim.LBFGS) else None)


def rms(tensor):
    return tensor.double().square().mean().sqrt().item()


def predicted_and_made(parameter, optimizer, steps, scale):
    """The RMS of the next step under noise, by the law and as it is made."""
    before = rms(parameter.detach())
    change = noise(parameter, optimizer, 1, scale, seed=3)
    context = StepContext(tuple(parameter.shape), parameter.dtype, steps, before, rms(parameter.grad.to_dense()))
    return known_of(type(optimizer)).step_law(optimizer.param_groups[0], context).rms, rms(change)


# The table and the registry.


def test_the_table_the_registry_and_torch_hold_the_same_classes():
    in_torch = {cls for cls in vars(optim).values() if isinstance(cls, type) and issubclass(cls, optim.Optimizer)}
    assert set(KNOWN) == {cls for cls, _ in CASES} == in_torch - {optim.Optimizer}
    assert UNITS == {cls: known.units for cls, known in KNOWN.items()}


@each_class
def test_a_law_in_the_table_has_a_case(optimizer_class):
    assert bool(KNOWN[optimizer_class].step_law) == any(case.law for cls, case in CASES if cls is optimizer_class)


# Step laws.


@each_case
def test_the_step_law_holds(optimizer_class, case):
    for steps, tolerance in case.law.items():
        parameter, optimizer = made(optimizer_class, case.shape, case.options)
        noise(parameter, optimizer, steps, case.scale)
        law, change = predicted_and_made(parameter, optimizer, steps, case.scale)
        assert change == pytest.approx(law, rel=tolerance), steps


@each_class
def test_a_last_update_is_the_last_step(optimizer_class):
    update = KNOWN[optimizer_class].last_update
    if update is None:
        assert optimizer_class not in (optim.Adam, optim.AdamW)
        return
    for flags in ({}, {"amsgrad": True}, {"weight_decay": 0.1}):
        parameter, optimizer = made(optimizer_class, (50,), {"lr": 1e-4} | flags)
        change = noise(parameter, optimizer, 5)
        group, state = optimizer.param_groups[0], optimizer.state[parameter]
        torch.testing.assert_close(-1e-4 * update(group, state, parameter.detach()), change, rtol=1e-2, atol=1e-7)


def test_the_equilibrium_is_that_of_decoupled_decay_and_exists_only_below_two():
    for optimizer_class in (optim.Adam, optim.AdamW):
        law = KNOWN[optimizer_class].equilibrium
        group = {"lr": 1e-2, "weight_decay": 0.5, "betas": (0.9, 0.999)}
        assert law(group) == pytest.approx(equilibrium_rms(1e-2, 0.5, 0.9).item())
        assert math.isnan(law(group | {"weight_decay": 200.0})) and math.isnan(law(group | {"weight_decay": 0.0}))
    assert {cls for cls, known in KNOWN.items() if known.equilibrium} == {optim.Adam, optim.AdamW}


# State.


def state_of(optimizer_class, shape=(4, 3)):
    case = first_case(optimizer_class)
    parameter, optimizer = made(optimizer_class, shape, case.options | case.flags)
    noise(parameter, optimizer, 2)
    return optimizer.state[parameter]


@each_class
def test_parameter_shaped_names_the_buffers_of_that_shape(optimizer_class):
    shape = (4, 3)
    if optimizer_class is optim.Adafactor:
        shape = (4,)  # matrices have factors instead
    buffers = {name for name, x in state_of(optimizer_class, shape).items() if getattr(x, "shape", None) == shape}
    assert set(KNOWN[optimizer_class].parameter_shaped) == buffers


@each_class
def test_a_gradient_scale_holds_the_power_of_the_gradient_that_its_unit_says(optimizer_class):
    known = KNOWN[optimizer_class]
    state = state_of(optimizer_class)
    for scale in known.gradient_scales:
        assert known.units.state[scale.buffer].loss == scale.power
        assert scale.buffer in known.parameter_shaped and (state[scale.buffer] > 0).all()


@each_class
def test_a_gradient_scale_over_its_bias_correction_is_the_gradients(optimizer_class):
    for scale in KNOWN[optimizer_class].gradient_scales:
        flags = {"amsgrad": True} if scale.buffer == "max_exp_avg_sq" else {}
        parameter, optimizer = made(optimizer_class, (20,), flags)
        noise(parameter, optimizer, 1)
        estimate = optimizer.state[parameter][scale.buffer] ** (1 / scale.power)
        gradient = parameter.grad.to_dense().abs()
        alike = torch.allclose(estimate / math.sqrt(1 - 0.999), gradient, rtol=1e-3)  # β₂ = 0.999
        assert alike == scale.bias_corrected


# How a step depends on its input.


@each_class
def test_elementwise_means_that_a_coordinate_does_not_change_anothers_step(optimizer_class):
    known = KNOWN[optimizer_class]
    if not known.can_be_tried:
        assert optimizer_class is optim.LBFGS
        return
    changes = []
    for factor in (1.0, 3.0):
        parameter, optimizer = made(optimizer_class, (6, 5), first_case(optimizer_class).options)
        before = parameter.detach().clone()
        parameter.grad = torch.linspace(-1, 2, 30).reshape(6, 5)
        parameter.grad[0, 0] *= factor
        step(parameter, optimizer)
        changes.append((parameter.detach() - before).flatten()[1:])
    assert torch.equal(*changes) == known.elementwise


@each_class
def test_a_fused_step_is_the_same_step(optimizer_class):
    if KNOWN[optimizer_class].fused:
        options = first_case(optimizer_class).options
        results = []
        for fused in (False, True):
            parameter, optimizer = made(optimizer_class, (40,), options | {"fused": fused})
            noise(parameter, optimizer, 3)
            results.append(parameter.detach())
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


# Rules.


@each_class
def test_a_rule_takes_the_steps_of_its_class(optimizer_class):
    rule = KNOWN[optimizer_class].rule
    if rule is None:
        return
    parameter, optimizer = made(optimizer_class, (7,), first_case(optimizer_class).options)
    ours = rule(**{k: optimizer.defaults[k] for k in inspect.signature(rule).parameters})
    params = {"w": parameter.detach().clone()}
    state = ours.init(params)
    generator = torch.Generator().manual_seed(2)
    for _ in range(8):
        parameter.grad = torch.randn(7, generator=generator)
        updates, state = ours.update({"w": parameter.grad}, state, params)
        params = optimizers.apply_updates(params, updates)
        optimizer.step()
    torch.testing.assert_close(params["w"], parameter.detach(), rtol=1e-5, atol=1e-6)


def test_every_rule_of_an_optimizer_of_torch_is_in_the_table():
    named = {name for cls in KNOWN if (name := cls.__name__.lower()) in optimizers.__all__}
    assert {known.rule.__name__ for known in KNOWN.values() if known.rule} == named
    for optimizer_class, known in KNOWN.items():
        assert known.rule is None or units_of_rule(known.rule) is units_of(optimizer_class)
    assert units_of_rule(optimizers.lion) is units_of_rule(optimizers.lamb) is None


# Classes that are not in the table.


def test_little_is_assumed_about_a_stranger():
    class Stranger(optim.Optimizer):
        pass

    class Child(optim.Adam):
        pass

    assert known_of(Stranger).step_law is known_of(Child).step_law is None
    assert not known_of(Stranger).can_be_tried and not known_of(Child).can_be_tried
    assert known_of(Stranger).equilibrium is None and known_of(Child).equilibrium is KNOWN[optim.Adam].equilibrium
    assert known_of(Stranger).eps_per_coordinate and not known_of(Stranger, {"ns_steps": 5}).eps_per_coordinate
    scales = {scale for known in KNOWN.values() for scale in known.gradient_scales}
    assert set(known_of(Stranger).gradient_scales) == scales
