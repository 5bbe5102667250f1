"""The formulas by hand, and each exchanged for a wrong one."""

import copy
import math
from dataclasses import replace

import pytest
from torch import nn, optim

from scaleinv import audit, known_optimizers
from scaleinv._audit import measured_step, training
from scaleinv._audit import row as row_module
from scaleinv._audit.decay import Decay
from scaleinv._audit.measured_step import next_step
from scaleinv.book import models
from scaleinv.laws import equilibrium_rms
from tests.library.audit.shared import MAKE, gradients, rms, rows, trained

pytestmark = pytest.mark.usefixtures("one_thread")


def check_clipping_is_tried_along_whether_it_was_done_or_not():
    model = models.mlp(8)
    optimizer = optim.SGD(model.parameters(), 0.1)
    gradients(model)
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    free, loose, tight = (audit(model, optimizer, max_norm=limit) for limit in (None, 2 * norm, norm / 4))
    assert free.gradient_norm == pytest.approx(norm, rel=1e-6) and not free.clipped and not loose.clipped
    assert tight.clipped and "clipping sets the step" in tight.findings[0].text
    nn.utils.clip_grad_norm_(model.parameters(), norm / 4)
    done = audit(model, optimizer, max_norm=norm / 4)
    assert done.clipped
    for a, b, c in zip(free.rows, tight.rows, done.rows):
        assert b.measured == pytest.approx(a.measured / 4, rel=1e-4) == pytest.approx(c.measured, rel=1e-4)
        assert b.predicted == pytest.approx(a.predicted / 4, rel=1e-4)


def check_adams_state_shows_its_last_step():
    for name in ("Adam", "AdamW", "amsgrad"):
        model = models.mlp(8)
        optimizer = MAKE[name](model.parameters())
        trained(model, optimizer, 3)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        gradients(model, 5)
        optimizer.step()
        optimizer.zero_grad()
        for parameter, row in rows(model, optimizer).items():
            change = rms(model.get_parameter(parameter) - before[parameter])
            assert row.source == "state" and row.change == pytest.approx(change, rel=1e-3)


def check_predicted_steps():
    model = models.mlp(8)
    w = rms(model[1].weight)

    def predicted(optimizer, steps=0, grad=False):
        fresh = copy.deepcopy(model)
        optimizer = optimizer(fresh.parameters())
        trained(fresh, optimizer, steps)
        fresh.zero_grad()
        if grad:
            gradients(fresh)
        row = rows(fresh, optimizer)["1.weight"]
        if row.without_gradient > 0:  # no step where a pixel was always 0
            row = replace(row, predicted=row.predicted / math.sqrt(1 - row.without_gradient))
        return row.predicted * row.rms / (rms(fresh[1].weight.grad) if grad else 1)

    assert predicted(lambda p: optim.Adam(p, 2e-3)) == pytest.approx(2e-3)
    assert predicted(lambda p: optim.AdamW(p, 2e-3, betas=(0.9, 0.999)), 4) == pytest.approx(2e-3 / 19**0.5, rel=0.02)
    assert predicted(lambda p: optim.AdamW(p, 2e-3, betas=(0.0, 0.999)), 4) == pytest.approx(2e-3, rel=0.02)
    assert predicted(lambda p: optim.Adagrad(p, 0.1), 3) == pytest.approx(0.05)
    assert predicted(lambda p: optim.Adagrad(p, 0.1, lr_decay=1.0), 3) == pytest.approx(0.0125)
    assert predicted(lambda p: optim.RMSprop(p, 0.1, alpha=0.99)) == pytest.approx(1.0)
    assert predicted(lambda p: optim.RMSprop(p, 0.1, momentum=0.6), 2) == pytest.approx(0.125)
    assert predicted(lambda p: optim.Adafactor(p, 1e-2)) == pytest.approx(1e-2 * w, rel=1e-5)
    assert predicted(lambda p: optim.Adafactor(p, 1e-2, eps=(None, 10 * w))) == pytest.approx(0.1 * w, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1), grad=True) == pytest.approx(0.1, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1, momentum=0.6), 2, grad=True) == pytest.approx(0.125, rel=1e-5)
    assert predicted(lambda p: optim.SGD(p, 0.1, momentum=0.6, dampening=0.6), 2, True) == pytest.approx(0.05, rel=1e-5)
    assert math.isnan(predicted(lambda p: optim.SGD(p, 0.1)))
    assert math.isnan(predicted(lambda p: optim.Adadelta(p)))


def check_decays_share_and_equilibrium():
    model = models.mlp(8)
    gradients(model)
    row = rows(model, optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1))["1.weight"]
    w, g = rms(model[1].weight), rms(model[1].weight.grad)
    assert row.decay == pytest.approx(1e-3 * 0.1 * w / (row.measured * w), rel=1e-5)
    assert row.decay_rate == pytest.approx(1e-4)
    assert row.equilibrium == pytest.approx(math.sqrt(1e-3 / (2 * 0.1)), rel=1e-3)
    row = rows(model, optim.Adam(model.parameters(), 1e-3, weight_decay=0.1))["1.weight"]
    assert row.decay == pytest.approx(0.1 * w / g, rel=1e-5)
    assert math.isnan(row.equilibrium) and math.isnan(row.decay_rate)
    decoupled = optim.Adam(model.parameters(), 1e-3, weight_decay=0.1, decoupled_weight_decay=True)
    assert rows(model, decoupled)["1.weight"].equilibrium == pytest.approx(math.sqrt(0.005), rel=1e-3)
    row = rows(model, optim.Adafactor(model.parameters(), 1e-2, weight_decay=0.1))["1.weight"]
    assert row.decay == pytest.approx(1e-3 / row.measured, rel=1e-5)


def test_coupled_decays_share_is_of_the_gradient_that_clipping_leaves():
    model = models.mlp(8)
    gradients(model)
    optimizer = optim.Adam(model.parameters(), weight_decay=0.1)
    free = audit(model, optimizer)
    clipped = audit(model, optimizer, max_norm=free.gradient_norm / 4)
    for one, other in zip(free.rows, clipped.rows, strict=True):
        assert other.decay == pytest.approx(4 * one.decay, rel=1e-4)


CHECKS = [
    check_clipping_is_tried_along_whether_it_was_done_or_not,
    check_adams_state_shows_its_last_step,
    check_predicted_steps,
    check_decays_share_and_equilibrium,
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_formula_by_hand(check):
    check()


def coupled_as_decoupled(trained, change):
    return Decay(trained.group["lr"] * trained.group["weight_decay"] * trained.rms / change)


def without_bias_correction(trained):
    state = trained.state
    return trained.group["lr"] * rms(state["exp_avg"] / state["exp_avg_sq"].sqrt())


# what it does → what is replaced, its replacement, and the check that fails then
SABOTAGES = {
    "lr for 0.23 lr": (known_optimizers, "_adam_factor", lambda *args: 1.0, check_predicted_steps),
    "equilibrium twice as large": (
        known_optimizers, "_equilibrium", lambda *args: 2 * equilibrium_rms(*args).item(),
        check_decays_share_and_equilibrium,
    ),
    "mean for RMS": (
        training, "rms", lambda t: t.detach().abs().mean().item(), check_decays_share_and_equilibrium
    ),
    "decoupled for coupled": (row_module, "decay_of", coupled_as_decoupled, check_decays_share_and_equilibrium),
    "gradients unclipped": (
        measured_step, "next_step", lambda trained: next_step(replace(trained, clip=1.0)),
        check_clipping_is_tried_along_whether_it_was_done_or_not,
    ),
    "state's step without decay and bias correction": (
        measured_step, "last_step", without_bias_correction, check_adams_state_shows_its_last_step
    ),
}  # fmt: skip


@pytest.mark.parametrize("module, name, wrong, check", SABOTAGES.values(), ids=SABOTAGES)
def test_a_swapped_formula_is_noticed(module, name, wrong, check, monkeypatch):
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(AssertionError):
        check()
