"""Two audits side by side, an audit in a file, and its numbers for a logger."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn, optim

from scaleinv import Audit, Unit, audit, compare
from scaleinv._audit import Finding, Row, Severity
from scaleinv._audit.folding import fold_names
from scaleinv._cli import main
from scaleinv.book import models
from tests.library.audit.shared import adamw, gradients, muon_and_adamw

pytestmark = pytest.mark.usefixtures("one_thread")


def stack(layers=30):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    return model


def audited(model, lr=1e-3, **options):
    return audit(model, optim.AdamW(model.parameters(), lr=lr, **options))


def findings_are(*findings):
    result = audited(models.mlp())
    vars(result)["_all_findings"] = list(findings)
    return result


# What has changed.


def test_the_same_audit_has_not_changed():
    model = stack()
    result = compare(audited(model), audited(model))
    assert {row.change for row in result.rows} == {"same"} and not result.new and not result.gone
    assert str(result) == "60 tensors: 60 as before; 0 new findings, 0 gone"
    assert {row.step for row in result.rows} == {1.0}


def test_ratios_are_those_of_the_numbers():
    model = stack()
    before = audited(model)
    with torch.no_grad():
        model[7].weight.mul_(4)
        model[9].weight.grad.mul_(3)
    rows = {row.parameter: row for row in compare(before, audited(model, lr=2e-3)).rows}
    assert len(rows) == 60 and {row.lr for row in rows.values()} == {2.0}
    for name, step, rms, gradient in (("7.weight", 0.5, 4, 1), ("9.weight", 2, 1, 3), ("9.bias", 2, 1, 1)):
        row = rows[name]
        assert (row.rms, row.gradient) == pytest.approx((rms, gradient))
        assert row.step == pytest.approx(step, rel=5e-3) and row.after / row.before == row.step


@pytest.mark.parametrize("factor, changed", [(1.25, 60), (1.5, 0), (1.4, 60)])
def test_what_changes_by_less_than_the_factor_is_as_before(factor, changed):
    model = stack()
    result = compare(audited(model, 1e-3), audited(model, 1.45e-3), factor=factor)
    assert sum(row.change == "changed" for row in result.rows) == changed


def test_what_is_unlike_the_rest_of_its_blocks_has_its_own_line_and_comes_first():
    model = stack()
    before = audited(model)
    with torch.no_grad():
        model[7].weight.mul_(0.01)
    text = str(compare(before, audited(model, 2e-3)))
    lines = [line.split()[0] for line in text.splitlines() if ".weight " in line or ".bias " in line]
    assert lines[-3] == "7.weight" and sorted(lines[-2:]) == ["0–29.bias", "0–6,8–29.weight"]
    assert max(map(len, text.splitlines())) <= 80


def test_parameters_that_came_went_or_are_of_another_kind():
    before, after = stack(3), stack(4)
    del before[1].bias
    before[1].register_parameter("bias", None)
    after[2].half()
    after[0].weight.requires_grad_(False)
    after[3] = nn.Linear(8, 5)
    rows = {row.parameter: row for row in compare(audited(before), audited(after)).rows}
    assert rows["1.bias"].change == rows["3.weight"].change == "new" and rows["3.weight"].shape == (5, 8)
    assert rows["2.weight"].note == "float32 → float16" and rows["0.weight"].note.startswith("trained → frozen")
    assert {row.parameter for row in compare(audited(after), audited(before)).rows if row.change == "gone"} == {
        "1.bias", "3.weight", "3.bias",
    }  # fmt: skip


def test_new_findings_are_those_that_say_more():
    old = Finding(Severity.WARNING, "w", ("a", "b"), kind="k")
    cases = {
        Finding(Severity.WARNING, "w", ("b",), kind="k"): False,
        Finding(Severity.REMARK, "w", ("a",), kind="k"): False,
        Finding(Severity.FAULT, "w", ("a",), kind="k"): True,
        Finding(Severity.WARNING, "w", ("a", "c"), kind="k"): True,
        Finding(Severity.WARNING, "w", ("a",), kind="other"): True,
    }
    for finding, is_new in cases.items():
        result = compare(findings_are(old), findings_are(finding))
        assert list(result.new) == ([finding] if is_new else [])
        assert bool(result.worse) == is_new
        assert list(result.gone) == ([old] if finding.kind == "other" else [])
    assert compare(findings_are(), findings_are(Finding(Severity.REMARK, "r"))).worse == []
    assert compare(findings_are(Finding(Severity.FAULT, "f")), findings_are(Finding(Severity.FAULT, "f"))).new == []


def test_findings_with_their_remedies_and_what_changed_are_shown():
    finding = Finding(Severity.FAULT, "it <breaks>.", ("1.weight",), kind="k", remedy="Repair it.")
    result = compare(findings_are(), findings_are(finding))
    assert "1. fault: it <breaks>.\n   fix: Repair it." in str(result) and "0 gone" in str(result)
    assert "it &lt;breaks&gt;." in result._repr_html_() and "Repair it." in result._repr_html_()
    model = models.mlp()
    page = compare(audited(model), audited(model, 2e-3))._repr_html_()
    assert page.count("<tr>") == 5 and "<img" in page


def test_what_cannot_be_compared_is_refused():
    result = audited(models.mlp())
    for wrong in ([result, None], ["baseline.json", result]):
        with pytest.raises(TypeError, match="is not an Audit"):
            compare(*wrong)
    other = nn.ModuleDict({"other": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="no parameter in common"):
        compare(result, audited(other))
    for factor in (0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="factor="):
            compare(result, result, factor=factor)


def test_the_picture_shows_each_step_before_and_after():
    model = stack(4)
    before = audited(model)
    with torch.no_grad():
        model[2].weight.mul_(0.01)
        model[1].bias.zero_()
    after = audited(model, 2e-3)
    figure = compare(before, after).plot()
    (axes,) = figure.axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    pairs = [[a.relative, b.relative] for a, b in zip(before.rows, after.rows) if b.relative > 0]
    assert drawn["a parameter"] == pairs and len(pairs) == 7
    assert drawn["unlike the median"] == [pairs[3]]  # 0.weight, 0.bias, 1.weight, 2.weight
    assert "2 times as far" in figure.get_suptitle() and "2.weight 200 times" in " ".join(figure.get_suptitle().split())
    unknown = audit(model, optim.SGD(model[2:].parameters(), 0.1))
    unknown = Audit([dataclasses.replace(row, predicted=math.nan, measured=math.nan) for row in unknown.rows])
    with pytest.raises(ValueError, match="nothing can be drawn"):
        compare(unknown, before).plot()


# A baseline in a file.


def same_row(one, other):
    for field in dataclasses.fields(Row):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b)), field.name


def test_an_audit_comes_back_from_its_file(tmp_path):
    model = models.gpt(16, 2)
    optimizers = muon_and_adamw(model)
    gradients(model)
    with torch.no_grad():
        model.blocks[1].up.weight[0, 0] = math.inf
        model.blocks[0].up.weight[0, 0] = math.nan
    result = audit(model, optimizers, max_norm=0.5)
    result.save(tmp_path / "a.json")
    loaded = Audit.load(str(tmp_path / "a.json"))
    assert isinstance(loaded, Audit) and loaded.findings == result.findings and loaded.max_norm == 0.5
    for one, other in zip(result.rows, loaded.rows, strict=True):
        same_row(one, other)
    assert str(loaded) == str(result) and loaded.flat() == result.flat()
    json.loads((tmp_path / "a.json").read_text(), parse_constant=lambda word: pytest.fail(word))  # strict JSON


def test_units_that_are_not_whole_come_back(tmp_path):
    row = dataclasses.replace(audited(models.mlp()).rows[0], unit=Unit(loss=-1, weight=1.5))
    Audit([row]).save(tmp_path / "a.json")
    assert Audit.load(tmp_path / "a.json").rows[0].unit == Unit(loss=-1, weight=1.5)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "scaleinv audit", "version": 2}', '{"format": "x", "version": 1}', "\x00",
                '{"format": "scaleinv audit", "version": 1, "findings": [], "rows": [{"parameter": "a"}]}']
)  # fmt: skip
def test_what_is_not_an_audit_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"path='.*a.json' does not hold an audit"):
        Audit.load(path)
    with pytest.raises(OSError):
        Audit.load(tmp_path / "missing.json")


# For a logger.


class Odd(nn.Module):
    """A model of many tensors with nothing in common."""

    def __init__(self, number=300):
        super().__init__()
        for i in range(number):
            kind = type(f"Layer{i}", (nn.Linear,), {})
            setattr(self, f"part{'x' * (i % 50)}_{chr(97 + i % 26)}{i}", kind(2, 1 + i % 7))


@pytest.mark.parametrize(
    "make, name",
    [
        (models.mlp, "1.weight"),
        (lambda: models.gpt(16, 5), "blocks.0–4.up.weight"),
        (lambda: stack(300), "0–299.weight"),
        (lambda: nn.ModuleDict({f"part{i}": nn.Linear(2, 2) for i in range(90)}), "part*.weight"),
        (Odd, None),
    ],
)
def test_flat_has_at_most_200_finite_numbers(make, name):
    model = make()
    if isinstance(model, models.GPT):
        gradients(model)
    else:
        for p in model.parameters():
            p.grad = torch.randn_like(p)
    result = audit(model, adamw(model), max_norm=1.0)
    flat = result.flat()
    assert len(flat) <= 200 and all(type(value) is float and math.isfinite(value) for value in flat.values())
    assert name is None or f"measured/{name}" in flat
    steps = sorted(row.relative for row in result.rows if math.isfinite(row.relative))
    assert flat["largest_step"] == steps[-1] and flat["findings"] == len(result.findings)
    assert flat["faults"] + flat["warnings"] + flat["remarks"] == flat["findings"] and flat["clipped"] == 1


def test_flat_has_the_median_of_each_block():
    model = stack(31)
    result = audited(model)
    weights = sorted(row.rms for row in result.rows if row.parameter.endswith("weight"))
    assert result.flat()["rms/0–30.weight"] == weights[15]
    assert [name for name, _ in fold_names([row.parameter for row in result.rows])] == ["0–30.weight", "0–30.bias"]


# The command.


@pytest.fixture
def training(tmp_path, monkeypatch):
    """Saves a model and its optimizer; returns the words of the command that audits them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def save(model, lr=1e-3):
        optimizer = adamw(model, lr=lr)
        optimizer.step()
        torch.save(model.state_dict(), "MODEL.pt")
        torch.save(optimizer.state_dict(), "OPTIMIZER.pt")
        return ["audit", "MODEL.pt", "OPTIMIZER.pt", "--optimizer", "AdamW"]

    return save


def test_the_command_has_a_line_for_each_parameter_on_demand(training, capsys):
    words = training(stack())
    assert main(words) == 0
    folded = capsys.readouterr().out
    assert "0–29.weight" in folded and "17.weight" not in folded and "58 more parameters" in folded
    assert main([*words, "--all"]) == 0
    whole = capsys.readouterr().out.splitlines()
    for i in range(30):
        assert sum(line.startswith(f"{i}.weight ") for line in whole) == 1


def test_the_command_compares_with_a_baseline_and_fails_on_new_findings_only(training, capsys, tmp_path):
    model = stack()
    words = training(model)
    assert main([*words, "--json"]) == 0
    (tmp_path / "before.json").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main([*words, "--baseline", "before.json", "--fail-on", "warning"]) == 0
    assert "60 tensors: 60 as before; 0 new findings, 0 gone" in capsys.readouterr().out
    with torch.no_grad():
        model[4].weight[0, 0] = math.nan
    words = training(model)
    assert main([*words, "--baseline", "before.json"]) == 0
    out = capsys.readouterr().out
    assert "fault: 4.weight contains NaN" in out
    assert main([*words, "--baseline", "before.json", "--fail-on", "fault"]) == 1
    assert main([*words, "--baseline", "before.json", "--fail-on", "fault", "--mute", "not_finite"]) == 0
    capsys.readouterr()
    assert main([*words, "--json", "--fail-on", "fault"]) == 1
    (tmp_path / "after.json").write_text(capsys.readouterr().out, encoding="utf-8")
    assert main([*words, "--baseline", "after.json", "--fail-on", "fault"]) == 0  # it was there before


def test_a_baseline_that_is_not_one_is_an_error(training, capsys, tmp_path):
    words = training(stack(3))
    (tmp_path / "other.json").write_text("{}")
    for path, message in (("other.json", "does not hold an audit"), ("missing.json", "No such file")):
        assert main([*words, "--baseline", path]) == 2
        assert message in capsys.readouterr().err
