"""What an audit shows: tables, text, a notebook's page."""

import io
import math

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import nn, optim

from scaleinv import Audit, audit
from scaleinv.book import models
from tests.library.audit.shared import adamw, gradients, muon_and_adamw, rms

pytestmark = pytest.mark.usefixtures("one_thread")


def test_frame_summary_and_flat():
    model = models.gpt(16, 2)
    optimizers = muon_and_adamw(model)
    gradients(model)
    result = audit(model, optimizers)
    frame, summary, flat = result.frame(), result.summary(), result.flat()
    assert isinstance(result, Audit) and len(frame) == len(result.rows) == len(list(model.parameters()))
    assert frame.loc[0, "unit"] == "W"
    assert summary["layer"].tolist() == ["Embedding", "LayerNorm", "Linear"]
    assert summary["coordinates"].sum() == sum(p.numel() for p in model.parameters())
    linear = torch.cat([p.flatten() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters()])
    assert summary.loc[2, "rms"] == pytest.approx(rms(linear), rel=1e-6)
    assert summary.loc[2, "predicted"] == frame[frame["layer"] == "Linear"]["predicted"].median()
    assert all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert flat["rms/token.weight"] == result.rows[0].rms
    assert "measured/norm.bias" not in flat and "rms/norm.bias" in flat


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_prints_in_any_width(width):
    model = models.gpt(16, 2)
    optimizers = muon_and_adamw(model)
    gradients(model)
    console = Console(file=io.StringIO(), width=width)
    console.print(audit(model, optimizers))
    text = console.file.getvalue()
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text and "nan" not in text and "None" not in text
    assert "blocks.0.norm1.bias" in text and "\x1b" not in text


def test_it_prints_as_text_and_shows_in_a_notebook():
    model = models.mlp()
    model.add_module("<odd>[red]", nn.Linear(2, 2))
    result = audit(model, adamw(model))
    text, page = str(result), result._repr_html_()
    assert "<odd>[red].weight" in text and repr(result) == text
    assert "&lt;odd&gt;[red].weight" in page and page.count("<tr>") == 2 + 1 + len(result.rows)


def test_in_a_notebook_it_is_shown_once(monkeypatch):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *args: pytest.fail("displayed by rich besides"))
    model = models.mlp()
    assert "1.weight" in str(audit(model, adamw(model)))


def test_the_summarys_share_below_eps_is_over_the_coordinates_that_have_one():
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 5, bias=False), nn.Linear(5, 30, bias=False))
    for layer, small in zip(model, (10, 40, 30), strict=True):
        layer.weight.grad = torch.ones_like(layer.weight)
        layer.weight.grad.view(-1)[:small] = 1e-12
    optimizers = [optim.Adam(model[:2].parameters()), optim.SGD(model[2].parameters(), 0.1)]
    result = audit(model, optimizers)
    assert [row.below_eps for row in result.rows] == [0.1, 0.8, pytest.approx(math.nan, nan_ok=True)]
    (layer,) = result.summary().to_dict("records")
    assert (layer["tensors"], layer["coordinates"]) == (3, 300)
    assert layer["below_eps"] == pytest.approx((10 + 40) / 150)
    assert layer["measured"] == result.frame()["measured"].median()
