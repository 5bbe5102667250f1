"""The share of coordinates below eps."""

import math

import pytest
import torch
from torch import nn, optim

from scaleinv import audit, units_of
from scaleinv.units import W

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("cls", [optim.Adam, optim.RMSprop, optim.Adagrad, optim.Adamax, optim.Adadelta])
def test_the_share_below_eps_is_of_what_the_optimizer_divides_by(cls):
    p = nn.Parameter(torch.ones(1000))
    model = nn.Module()
    model.p = p
    p.grad = torch.logspace(-6, 2, 1000)
    p.grad[:100] = 0
    power = 2 if cls is optim.Adadelta else 1
    optimizer = cls([p], eps=1e-3**power)
    (row,) = audit(model, optimizer).rows
    assert row.without_gradient == 0.1
    assert row.below_eps == pytest.approx(((0 < p.grad) & (p.grad < 1e-3)).float().mean().item())
    for _ in range(5):
        optimizer.step()
    (row,) = audit(model, optimizer).rows
    scale = {
        optim.Adam: lambda g: g,
        optim.RMSprop: lambda g: g * math.sqrt(1 - 0.99**5),
        optim.Adagrad: lambda g: g * math.sqrt(5),
        optim.Adamax: lambda g: g + 1e-3,  # eps is in it
        optim.Adadelta: lambda g: g * math.sqrt(1 - 0.9**5),
    }[cls](p.grad)
    assert row.below_eps == pytest.approx(((0 < scale) & (scale < 1e-3)).float().mean().item(), abs=2e-3)


def test_the_share_below_eps_is_of_the_gradient_that_clipping_leaves():
    model = nn.Linear(1, 1000, bias=False)
    model.weight.grad = torch.logspace(-6, 2, 1000)[:, None]
    norm = model.weight.grad.norm().item()
    shares = [audit(model, optim.Adam(model.parameters(), eps=e), max_norm=m).rows[0].below_eps
              for e, m in ((1e-3, None), (1e-3, norm / 100), (1e-1, None))]  # fmt: skip
    assert shares[0] < shares[1] == pytest.approx(shares[2], abs=2e-3)


def test_with_amsgrad_the_share_below_eps_is_of_the_largest_scale_so_far():
    p = nn.Parameter(torch.ones(10))
    model = nn.ParameterDict({"p": p})
    for amsgrad, share in ((False, 1.0), (True, 0.0)):
        optimizer = optim.Adam([p], betas=(0.9, 0.5), eps=1e-2, amsgrad=amsgrad)
        for size in (1.0, *[1e-6] * 20):
            p.grad = torch.full_like(p, size)
            optimizer.step()
        assert audit(model, optimizer).rows[0].below_eps == share


def test_muons_eps_is_one_for_a_whole_matrix():
    class Mine(optim.Muon):
        pass

    model = nn.Linear(5, 4, bias=False)
    model.weight.grad = torch.full((4, 5), 1e-12)
    for optimizer, units in ((optim.Muon(model.parameters()), None), (Mine(model.parameters()), units_of(optim.Muon))):
        (row,) = audit(model, optimizer, units=units).rows
        assert row.unit == W and math.isnan(row.below_eps) and math.isnan(row.without_gradient)
