"""Measured steps: tried, recorded, or read from the state; they are the steps that are made."""

import math

import pytest
import torch
from torch import nn, optim

from scaleinv import Recorder, audit
from scaleinv.book import models
from scaleinv.units import W
from tests.library.audit.shared import MAKE, gradients, muon_and_adamw, rms, rows, trained

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_the_step_that_gradients_make_is_the_step_that_is_made(make, steps):
    model = models.mlp(8)
    optimizer = make(model.parameters())
    trained(model, optimizer, steps)
    gradients(model, 9)
    result = rows(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.step()
    for name, p in model.named_parameters():
        row = result[name]
        assert row.source == "gradients"
        assert row.rms == pytest.approx(rms(before[name]), rel=1e-6)
        assert row.gradient_rms == pytest.approx(rms(p.grad), rel=1e-6)
        assert row.measured == pytest.approx(rms(p - before[name]) / rms(before[name]), rel=1e-4)
        assert row.change == pytest.approx(rms(p - before[name]), rel=1e-4)


def test_the_step_of_a_gpt_under_muon_and_adamw():
    model = models.gpt(16, 1)
    optimizers = muon_and_adamw(model)
    trained(model, optimizers, 2)
    gradients(model)
    result = audit(model, optimizers)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for optimizer in optimizers:
        optimizer.step()
    assert {row.optimizer for row in result.rows} == {"Muon", "AdamW"} and {row.unit for row in result.rows} == {W}
    for row, (name, p) in zip(result.rows, model.named_parameters(), strict=True):
        assert row.parameter == name
        assert row.change == pytest.approx(rms(p - before[name]), rel=1e-3)


def test_a_recorder_is_believed():
    model = models.mlp(8)
    optimizer = optim.AdamW(model.parameters(), 1e-2)
    with Recorder(model, optimizer) as recorder:
        trained(model, optimizer, 13)
    changes = recorder.frame().groupby("parameter")["update_rms"].apply(lambda all: all.iloc[-10:].median())
    for name, row in rows(model, optimizer, recorder=recorder).items():
        assert row.source == "recorder"
        assert row.measured == pytest.approx(changes[name] / rms(model.get_parameter(name)), rel=1e-5)
    assert rows(model, optimizer, recorder=[recorder])["1.bias"].source == "recorder"


@pytest.mark.parametrize("name", ["NAdam", "RAdam", "RMSprop", "SGD"])
def test_other_states_do_not_tell_the_last_step(name):
    model = models.mlp(8)
    optimizer = MAKE[name](model.parameters())
    trained(model, optimizer, 3)[1].zero_grad()
    for row in audit(model, optimizer).rows:
        assert math.isnan(row.measured) and row.source == ""


def test_a_step_that_cannot_be_tried_is_not_measured():
    class Stranger(optim.SGD):
        def step(self, closure=None):
            raise AssertionError("its step may do anything: it is not to be called")

    model = models.mlp(8)
    gradients(model)
    for optimizer in (Stranger(model.parameters(), 0.1), optim.LBFGS(model.parameters())):
        for row in audit(model, optimizer).rows:
            assert math.isnan(row.measured) and row.source == ""


def test_without_gradient_and_steps_nothing_is_measured():
    model = models.mlp(8)
    for name in ("Adam", "SGD", "Adafactor"):
        for row in audit(model, MAKE[name](model.parameters())).rows:
            assert math.isnan(row.measured) and row.source == ""


def test_adams_state_does_not_show_the_last_step_of_a_complex_parameter():
    model = nn.ParameterDict({"complex": torch.full((5,), 3 + 4j), "real": torch.ones(5)})
    optimizer = optim.Adam(model.parameters(), 0.5)
    for p in model.values():
        p.grad = torch.ones_like(p)
    optimizer.step()
    optimizer.zero_grad()
    result = rows(model, optimizer)
    assert math.isnan(result["complex"].measured) and result["complex"].source == ""
    assert result["real"].source == "state" and result["real"].change == pytest.approx(0.5, rel=1e-5)


def test_a_gradient_of_nan_leaves_the_state_to_show_the_last_step():
    model = models.mlp(8)
    optimizer = optim.Adam(model.parameters())
    trained(model, optimizer, 2)
    gradients(model)
    model[1].weight.grad[0, 0] = math.nan
    result = rows(model, optimizer)
    assert result["1.weight"].source == "state" and result["1.bias"].source == "gradients"
