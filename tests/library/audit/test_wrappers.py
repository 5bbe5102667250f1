"""Optimizers in wrappers, subclasses, and of third parties: unwrapped, known by their steps, or tried on a copy."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scaleinv import audit
from scaleinv._audit.findings import Severity
from scaleinv._audit.tried_step import tried_steps
from scaleinv.book import models
from scaleinv.units import W
from tests.library.audit.shared import adamw, gradients, rms, rows

pytestmark = pytest.mark.usefixtures("one_thread")


class Wrapper(optim.Optimizer):
    """As AcceleratedOptimizer: an optimizer by class, with the real one inside."""

    def __init__(self, optimizer, scaler=None):
        self.optimizer, self.scaler = optimizer, scaler

    @property
    def param_groups(self):
        return self.optimizer.param_groups


@pytest.mark.parametrize("wrap", [Wrapper, lambda o: SimpleNamespace(optimizer=o), lambda o: Wrapper(Wrapper(o))])
def test_a_wrapper_is_audited_as_what_it_wraps(wrap):
    model = models.mlp(8)
    optimizer = adamw(model)
    gradients(model)
    assert str(audit(model, wrap(optimizer))) == str(audit(model, optimizer))
    assert rows(model, wrap(optimizer))["1.weight"].measured == rows(model, optimizer)["1.weight"].measured > 0


def test_a_subclass_that_keeps_the_steps_keeps_the_laws():
    class Renamed(optim.AdamW):
        def __init__(self, params, lr=1e-3):
            super().__init__(params, lr=lr)

    model = models.mlp(8)
    gradients(model)
    mine, plain = (rows(model, cls(model.parameters(), lr=1e-3)) for cls in (Renamed, optim.AdamW))
    for name, row in plain.items():
        other = mine[name]
        assert (other.predicted, other.measured, other.decay, other.unit) == (
            row.predicted, row.measured, row.decay, W
        )  # fmt: skip
        assert other.optimizer == "Renamed"


def test_a_subclass_with_steps_of_its_own_is_tried_on_a_copy():
    class Doubled(optim.AdamW):
        @torch.no_grad()
        def step(self, closure=None):
            super().step(closure)
            super().step(closure)

    model = models.mlp(8)
    optimizer = Doubled(model.parameters(), lr=1e-3)
    gradients(model)
    result = rows(model, optimizer)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    assert not optimizer.state
    optimizer.step()
    for name, p in model.named_parameters():
        assert result[name].source == "gradients" and math.isnan(result[name].predicted)
        assert result[name].change == pytest.approx(rms(p - before[name]), rel=1e-4)


class Counting(optim.Optimizer):
    """Its step looks at all parameters at once, counts, and is random."""

    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})
        self.count = 0

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        params = [p for group in self.param_groups for p in group["params"]]
        norm = sum(p.grad.square().sum() for p in params).sqrt()
        for p in params:
            self.state[p]["calls"] = self.state[p].get("calls", 0) + 1
            p.sub_(0.1 * p.grad / norm + 0 * torch.rand(()) * random.random() * np.random.rand())


def test_a_strange_step_is_tried_whole_and_leaves_everything():
    model = models.mlp(8)
    optimizer = Counting(model.parameters())
    gradients(model)
    optimizer.step()
    hooks = [register_optimizer_step_pre_hook(lambda *args: pytest.fail("a hook saw the trial"))]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    result = rows(model, optimizer, max_norm=1e-3)
    hooks[0].remove()
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()
    assert optimizer.count == 1 and all(state == {"calls": 1} for state in optimizer.state.values())
    before = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    for (name, p), q in zip(model.named_parameters(), before, strict=True):
        assert result[name].change == pytest.approx(rms(p - q), rel=1e-4)


def test_a_step_that_fails_on_a_copy_is_said_to_be_unknown():
    class Stubborn(optim.Optimizer):
        def step(self, closure=None):
            raise RuntimeError("only with a closure\nand more")

    model = models.mlp(8)
    gradients(model)
    result = audit(model, Stubborn(model.parameters(), {"lr": 1.0}))
    assert all(math.isnan(row.change) for row in result.rows)
    text = " ".join(finding.text for finding in result.findings)
    assert "could not be tried on a copy (RuntimeError: only with a closure)" in text
    assert "no step is known of 4 of 4 tensors, so none was checked" in text


def test_too_much_to_copy_is_not_copied(monkeypatch):
    monkeypatch.setattr("scaleinv._audit.tried_step.LARGEST", 100)
    model = models.mlp(8)
    gradients(model)
    result = tried_steps(Counting(model.parameters()))
    assert result.changes == {} and "Recorder" in result.failure


def test_an_lr_without_one_unit_is_said_and_nothing_is_called_checked():
    model = models.mlp(8)
    for optimizer in (optim.SGD(model.parameters(), 0.1), optim.RAdam(model.parameters())):
        kinds = {finding.kind for finding in audit(model, optimizer).findings}
        assert "not_checked" in kinds
    assert "unit_not_known" in kinds  # RAdam's


def scaled(scale=1024.0, **options):
    model = models.mlp(8)
    gradients(model)
    for p in model.parameters():
        p.grad *= scale
    return model, optim.SGD(model.parameters(), 0.1, **options)


def test_scaled_gradients_are_unscaled_by_a_scaler_or_a_number():
    model, optimizer = scaled()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(torch.ones(()))
    by_scaler, by_number, by_wrapper = (
        audit(model, *given, **options)
        for given, options in (
            ((optimizer,), {"scaler": scaler}), ((optimizer,), {"scaler": 1024}), ((Wrapper(optimizer, scaler),), {})
        )
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    scaler.step(optimizer)  # unscales the gradients in place
    stepped = audit(model, optimizer, scaler=scaler)
    for name, p in model.named_parameters():
        change = rms(p - before[name])
        for result in (by_scaler, by_number, by_wrapper):
            row = next(row for row in result.rows if row.parameter == name)
            assert row.change == pytest.approx(change, rel=1e-4)
            assert row.gradient_rms == pytest.approx(rms(p.grad), rel=1e-5)
    assert stepped.gradient_norm == pytest.approx(by_scaler.gradient_norm, rel=1e-5)


def test_without_a_scaler_large_gradients_are_asked_about():
    model, optimizer = scaled(2.0**16)
    (finding,) = [f for f in audit(model, optimizer).findings if f.kind == "large_gradients"]
    assert finding.severity == Severity.WARNING and "scaler=" in finding.remedy
    (finding,) = [f for f in audit(model, adamw(model)).findings if f.kind == "large_gradients"]
    assert finding.severity == Severity.REMARK and "does not depend on it" in finding.text


def test_an_overflow_that_the_scaler_skips_is_a_remark():
    model, optimizer = scaled()
    model[1].weight.grad[0, 0] = math.inf
    for scaler, severity in ((None, Severity.FAULT), (1024, Severity.REMARK)):
        (finding,) = [f for f in audit(model, optimizer, scaler=scaler).findings if f.kind == "not_finite"]
        assert finding.severity == severity


def test_clipping_before_unscaling_shows_in_the_norm_or_in_the_state():
    model, optimizer = scaled(momentum=0.9)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    kinds = [f.kind for f in audit(model, optimizer, scaler=1024, max_norm=1.0).findings]
    assert kinds[0] == "clipped_before_unscaling"
    for p in model.parameters():
        p.grad /= 1024
    optimizer.step()
    gradients(model)
    for p in model.parameters():
        p.grad *= 1024
    assert "clipped_before_unscaling" in [f.kind for f in audit(model, optimizer, scaler=1024, max_norm=1.0).findings]
    assert "clipped_before_unscaling" not in [f.kind for f in audit(*scaled(), scaler=1024, max_norm=1.0).findings]
