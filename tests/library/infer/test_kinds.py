"""Units are measured on a matrix and a vector, and verified on parameters of other kinds."""

import io

import pytest
import torch
from rich.console import Console

from scaleinv import convert, infer_units, rescale
from scaleinv._infer.report import units_report
from scaleinv.units import ONE, W


def optimizer_of(rule, dtype=None):
    """An optimizer whose step is ``rule(p, group)``."""

    class Optimizer(torch.optim.Optimizer):
        def __init__(self, params, lr=0.01):
            super().__init__(params, {"lr": lr})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if dtype not in (None, p.dtype):
                        raise TypeError(f"{p.dtype} is not supported")
                    p -= rule(p, group, self.param_groups)

    return Optimizer


def trust_ratio(p, group, groups):
    """As LAMB's: 1 for a parameter that is zero."""
    return group["lr"] * p.grad.sign() * (p.norm() if p.norm() > 0 else 1.0)


def signs_unless(condition):
    """Sign descent, but for some parameters a step of which the scale is another."""

    def rule(p, group, groups):
        return group["lr"] * (p.norm() * p.grad.sign() if condition(p, group, groups) else p.grad.sign())

    return rule


RULES = {
    "at zero": trust_ratio,
    "without a dimension": signs_unless(lambda p, *_: p.ndim == 0),
    "of four dimensions": signs_unless(lambda p, *_: p.ndim == 4),
    "of 4096 entries or more": signs_unless(lambda p, *_: p.numel() >= 4096),
    "with rows that have no gradient": signs_unless(lambda p, *_: p.ndim == 2 and p.grad.abs().amin(1).eq(0).any()),
    "in groups of different lr": signs_unless(lambda p, group, groups: group["lr"] != groups[0]["lr"]),
}


@pytest.mark.parametrize("kind", RULES)
def test_units_that_do_not_hold_for_a_kind_of_parameters_are_not_called_verified(kind):
    units = infer_units(optimizer_of(RULES[kind]))
    assert units.verdict == "inconsistent" and units.residual > 0.01 and kind in units.not_for
    assert set(units.not_for) <= {kind, "that are matrices at zero"}
    assert kind in units.reason and kind in str(units)
    assert units.hyperparameters["lr"] == (ONE if kind == "at zero" else W)
    with pytest.raises(ValueError, match=f"parameters {kind}"):
        convert(units, {"lr": 0.01}, weight=8)
    assert convert(units, {"lr": 0.01}) == {"lr": 0.01}


def parameters_of(kind):
    shapes = {"without a dimension": (), "of four dimensions": (1, 1, 2, 2), "of 4096 entries or more": (64, 64)}
    return [torch.nn.Parameter(torch.zeros(3) if kind == "at zero" else torch.ones(shapes.get(kind, (2, 2))))]


@pytest.mark.parametrize("kind", list(RULES)[:4])
def test_a_model_with_parameters_of_that_kind_is_refused_and_another_one_is_not(kind):
    make = optimizer_of(RULES[kind])
    units = infer_units(make)
    for parameters, holds in ((parameters_of(kind), False), (parameters_of(""), True)):
        model = torch.nn.Module()
        model.w = parameters[0]
        optimizer = make(parameters)
        if holds:
            rescale(model, optimizer, weight=8, units=units)
            assert optimizer.param_groups[0]["lr"] == (0.01 if kind == "at zero" else 0.08)
            continue
        before = model.w.detach().clone()
        with pytest.raises(ValueError, match=f"do not hold for parameters {kind}"):
            rescale(model, optimizer, weight=8, units=units)
        assert torch.equal(model.w, before) and optimizer.param_groups[0]["lr"] == 0.01


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.Adafactor, torch.optim.Muon, torch.optim.Rprop])
def test_those_of_torch_hold_for_all_kinds(cls):
    assert infer_units(cls).not_for == {}


def test_an_optimizer_of_float32_is_measured_in_float32():
    units = infer_units(optimizer_of(lambda p, group, groups: group["lr"] * p.grad.sign(), torch.float32))
    assert (units.verdict, units.residual, units.hyperparameters) == ("bitwise", 0.0, {"lr": W})


def test_a_regime_is_found_in_float32_too():
    units = infer_units(optimizer_of(trust_ratio, torch.float32))
    assert units.verdict == "inconsistent"


def test_what_an_optimizer_prints_is_not_shown(capsys):
    infer_units(optimizer_of(lambda p, group, groups: print("step") or group["lr"] * p.grad.sign()))
    assert capsys.readouterr().out == ""


def test_a_report_says_for_which_parameters_and_what_to_do():
    console = Console(file=io.StringIO(), width=200)
    console.print(units_report(infer_units(optimizer_of(RULES["without a dimension"]))))
    text = console.file.getvalue()
    assert "inconsistent for parameters without a dimension: " in text
    assert "For other parameters the units above hold" in text and "Look in the code" not in text
