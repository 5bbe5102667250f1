"""What an audit shows: tables, text, a notebook's page."""

import io
import math
import sys

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import nn, optim

from scaleinv import Audit, audit
from scaleinv._audit import findings
from scaleinv._audit.folding import fold_names
from scaleinv._audit.page import as_html
from scaleinv._audit.picture import plot_audit
from scaleinv._audit.report import audit_report
from scaleinv._report import as_text
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
    assert "blocks.0–1.norm1.bias" in text and "\x1b" not in text


def test_it_prints_as_text_and_shows_in_a_notebook():
    model = models.mlp()
    model.add_module("<odd>[red]", nn.Linear(2, 2))
    result = audit(model, adamw(model))
    text, page = str(result), result._repr_html_().replace("<wbr>", "")
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


# Identical blocks share a line.


def deep(layers=74):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(layers)))
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    return model


def lines_of(text, name):
    return [line for line in text.splitlines() if line.startswith(name)]


def test_blocks_are_one_line_with_their_range_and_what_a_finding_names_has_its_own():
    model = deep()
    with torch.no_grad():
        model[70].weight.mul_(200)
    result = audit(model, adamw(model))
    assert {finding.parameters for finding in result.findings} == {("70.weight",)}
    text = str(result)
    steps = [row.relative for row in result.rows if row.parameter.endswith("weight") and row.parameter != "70.weight"]
    (line,) = lines_of(text, "0–69,71–73.weight ")
    assert f"{100 * min(steps):.2g}–{100 * max(steps):.2g} %" in line
    (own,) = lines_of(text, "70.weight ")
    assert (
        own.split()[1] == "1,2" and " 0.0035 % " in own and text.index(own) < text.index(line)
    )  # its finding's number
    assert len(lines_of(text, "0–73.bias ")) == 1 and len(text.splitlines()) < 30
    assert "145 more parameters in these lines" in text and max(map(len, text.splitlines())) <= 80


def test_what_is_not_alike_does_not_share_a_line():
    model = deep(12)
    model[1] = nn.Linear(16, 16, dtype=torch.float64)
    model[2].weight.requires_grad_(False)
    optimizer = optim.AdamW(
        [{"params": [p for i in range(12) if i != 4 for p in model[i].parameters()]}, {"params": model[4].parameters()}]
    )
    for name in ("1.weight", "2.weight", "4.weight", "0,3,5–11.weight"):
        assert len(lines_of(str(audit(model, optimizer)), f"{name} ")) == 1, name


def test_every_parameter_has_a_line_on_demand_and_a_small_model_always():
    small, model = models.mlp(), deep()
    assert all(lines_of(str(audit(small, adamw(small))), f"{name} ") for name, _ in small.named_parameters())
    text = audit(model, adamw(model)).text(folded=False, width=100)
    assert all(len(lines_of(text, f"{name} ")) == 1 for name, _ in model.named_parameters())


def test_at_most_sixty_lines_and_the_rest_is_counted_but_all_that_findings_name_is_there():
    model = nn.Sequential()
    for i in range(100):
        model.add_module(f"part{i}", nn.Linear(2, i + 1))
    nn.init.zeros_(model.part99.bias)
    text = str(audit(model, adamw(model)))
    assert lines_of(text, "part99.bias ") and lines_of(text, "part29.bias ") and not lines_of(text, "part30.weight ")
    assert "139 more parameters without a line" in text  # 200 − 60 − 1


@pytest.mark.parametrize(
    "names, folded",
    [
        (["a.0.w", "a.1.w", "a.2.w"], ["a.0–2.w"]),
        (["a.0.w", "a.1.w", "a.0.b", "b.w"], ["a.0–1.w", "a.0.b", "b.w"]),
        ([f"l.{i}.e.{j}.w" for i in range(3) for j in range(5)], ["l.0–2.e.0–4.w"]),
        (["l.0.e.0.w", "l.0.e.1.w", "l.1.e.1.w"], ["l.0.e.0.w", "l.0–1.e.1.w"]),
        (["0.w", "2.w", "4.w", "6.w", "8.w"], ["0,2,…,8.w"]),
        (["a.00.w", "a.1.w", "a1.w", "a2.w"], ["a.00.w", "a.1.w", "a1.w", "a2.w"]),
        (["w"], ["w"]),
    ],
)
def test_names_fold(names, folded):
    groups = fold_names(names)
    assert sorted(name for name, _ in groups) == sorted(folded)
    assert sorted(place for _, places in groups for place in places) == list(range(len(names)))


def test_all_that_a_finding_is_about_is_named_beside_it_by_block():
    model = deep()
    with torch.no_grad():
        for layer in model:
            layer.bias.zero_()
    result = audit(model, adamw(model))
    assert "in: 0–73.bias" in str(result) and "74 parameters" in result._repr_html_()


def test_the_remedy_stands_beside_its_finding():
    fault, names = findings.Severity.FAULT, ("1.weight", "3.weight")
    finding = findings.Finding(fault, "it moves far.", names, remedy="Lower <lr> for it.")
    model = models.mlp()
    result = audit(model, adamw(model))
    text = as_text(audit_report(result, [finding]))
    assert "1. fault: it moves far.\n   fix: Lower <lr> for it.\n   in: 1,3.weight\n" in text
    assert "Lower &lt;lr&gt; for it." in as_html(result, [finding])


def test_colour_in_a_terminal_only_and_not_where_it_is_unwanted(monkeypatch):
    model = deep()
    with torch.no_grad():
        model[70].weight.mul_(200)
    result = audit(model, adamw(model))
    outputs = []
    for unwanted, options in (("", {"force_terminal": True}), ("1", {"force_terminal": True}), ("", {})):
        monkeypatch.setenv("NO_COLOR", unwanted)
        monkeypatch.setenv("TERM", "xterm-256color")
        console = Console(file=io.StringIO(), width=80, **options)
        console.print(result)
        outputs.append(console.file.getvalue())
    coloured, plain, piped = outputs
    assert "\x1b[1;33mwarning: " in coloured and "\x1b[1;33m70.weight" in coloured
    assert "33m" not in plain and "\x1b" not in piped


# Pictures.


def test_the_picture_shows_every_step_and_rings_what_a_finding_names():
    model = deep()
    with torch.no_grad():
        model[70].weight.mul_(200)
        model[3].bias.zero_()
    result = audit(model, adamw(model))
    figure = result.plot()
    (axes,) = figure.axes
    drawn = {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}
    assert len(drawn["matrices"][0]) == 74 and len(drawn["vectors, scalars"][0]) == 73
    steps = [row.relative for row in result.rows if row.relative > 0]
    assert sorted([*drawn["matrices"][1], *drawn["vectors, scalars"][1]]) == sorted(steps)
    assert list(drawn["in a finding"][0]) == [140] and drawn["in a finding"][1][0] == result.rows[140].relative
    assert "70.weight" in [text.get_text() for text in axes.texts]
    assert figure.get_suptitle().startswith("70.weight moves 0.0035 % a step") and "1 of 148" in axes.get_xlabel()


@pytest.mark.parametrize(
    "severity, kind, ringed",
    [
        (findings.Severity.FAULT, "any", True),
        (findings.Severity.WARNING, "any", True),
        (findings.Severity.REMARK, "any", False),
        (findings.Severity.REMARK, "moves_unlike_the_rest", True),
    ],
)
def test_what_is_grave_or_about_steps_is_ringed(severity, kind, ringed):
    model = deep()
    finding = findings.Finding(severity, "text", ("5.weight", "9.weight"), kind=kind)
    everything = findings.Finding(severity, "text", tuple(name for name, _ in model.named_parameters()), kind=kind)
    result = audit(model, adamw(model))
    (axes,) = plot_audit(result, [everything, finding]).axes
    rings = [line.get_xdata().tolist() for line in axes.lines if line.get_label() == "in a finding"]
    assert rings == ([[10, 18]] if ringed else [])


def test_without_a_step_or_without_matplotlib_there_is_no_picture(monkeypatch):
    model = models.mlp()
    unknown = audit(model, optim.SGD(model.parameters(), 0.1))
    with pytest.raises(ValueError, match="no step is known"):
        unknown.plot()
    assert "<img" not in unknown._repr_html_()
    known = audit(model, adamw(model))
    assert '<img src="data:image/png;base64,' in known._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"scaleinv\[plot\]"):
        known.plot()
    assert "<img" not in known._repr_html_() and "1.<wbr>weight" in known._repr_html_()


def test_a_picture_needs_no_screen_and_changes_no_setting():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(pyplot.rcParams), pyplot.get_fignums()
    model = models.mlp()
    audit(model, adamw(model)).plot().savefig(io.BytesIO())
    assert before == (dict(pyplot.rcParams), pyplot.get_fignums())
