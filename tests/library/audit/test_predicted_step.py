"""Predicted steps under noise."""

import math

import pytest
import torch
from torch import nn, optim

from scaleinv import audit

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_sgds_law_holds_under_noise(momentum):
    p = nn.Parameter(torch.ones(20_000))
    model = nn.Module()
    model.p = p
    optimizer = optim.SGD([p], 1e-3, **momentum)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()
    p.grad = torch.randn(p.shape, generator=generator)
    (row,) = audit(model, optimizer).rows
    assert row.measured == pytest.approx(row.predicted, rel=0.03)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(64, 16), (16, 64), (40, 40)])
def test_muons_law_holds_to_a_third(adjust, shape):
    model = nn.Linear(*shape, bias=False)
    optimizer = optim.Muon(model.parameters(), 0.01, weight_decay=0, adjust_lr_fn=adjust)
    model.weight.grad = torch.randn(model.weight.shape, generator=torch.Generator().manual_seed(0))
    (row,) = audit(model, optimizer).rows
    assert row.measured == pytest.approx(row.predicted, rel=0.33)


def test_large_matrices_of_muon_have_the_law_only():
    model = nn.Linear(300, 300, bias=False)
    model.weight.grad = torch.ones(300, 300)
    result = audit(model, optim.Muon(model.parameters()))
    assert math.isnan(result.rows[0].measured) and result.rows[0].predicted > 0
    assert "Not measured: 1 of 1; a Recorder" in " ".join(str(result).split())
