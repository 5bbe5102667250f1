"""An audit has a line on sharpness where a loss is passed, in every form of the report."""

import pytest
import torch
from torch import nn, optim

import scaleinv


def trained(cls=optim.SGD, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    x = torch.randn(16, 4)
    loss = lambda: model(x).square().mean()  # noqa: E731
    optimizer = cls(model.parameters(), **settings)
    loss().backward()
    optimizer.step()
    return model, optimizer, loss


def test_the_line_is_in_the_report_the_page_the_numbers_and_the_file(tmp_path):
    model, optimizer, loss = trained(lr=0.1)
    result = scaleinv.audit(model, optimizer, loss=loss)
    line = scaleinv.sharpness(model, loss, optimizer).line()
    assert result.text().splitlines()[1] == line and line in result._repr_html_()
    assert result.flat()["lr_sharpness"] == result.lr_sharpness == result.as_dict()["lr_sharpness"] > 0
    result.save(tmp_path / "audit.json")
    assert scaleinv.Audit.load(tmp_path / "audit.json").sharpness == line


def test_without_a_loss_there_is_none():
    model, optimizer, _ = trained(lr=0.1)
    result = scaleinv.audit(model, optimizer)
    assert "λ_max" not in result.text() and "lr_sharpness" not in result.flat()


def test_what_sharpness_refuses_is_refused():
    model, optimizer, loss = trained(optim.Rprop)
    with pytest.raises(ValueError, match="Rprop has no preconditioner"):
        scaleinv.audit(model, optimizer, loss=loss)
    halves = [optim.SGD(layer.parameters()) for layer in (model[0], model[2])]
    with pytest.raises(ValueError, match="one optimizer, not 2"):
        scaleinv.audit(model, halves, loss=loss)
