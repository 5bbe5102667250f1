"""Findings that a user mutes, in an argument or in pyproject.toml, and findings that make the command fail."""

import json

import pytest
import torch
from torch import nn

from scaleinv import Audit, audit, compare
from scaleinv._audit.findings import KINDS, Finding, Severity
from scaleinv._audit.settings import check_mutes, fails, is_muted, project_settings
from scaleinv._cli import main
from tests.library.audit.shared import adamw

pytestmark = pytest.mark.usefixtures("one_thread")

FINDING = Finding(Severity.WARNING, "...", ("0.bias", "1.bias"), size=15.0, kind="much_decay")


@pytest.fixture
def strongly_decayed():
    """A training with a fault: decay that outweighs the gradient."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = adamw(model, lr=0.1, weight_decay=10.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    return model, optimizer


@pytest.fixture
def files(strongly_decayed, tmp_path, monkeypatch):
    """The words of a command that audits it, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name, each in zip(("model.pt", "optimizer.pt"), strongly_decayed):
        torch.save(each.state_dict(), tmp_path / name)
    return ["audit", "model.pt", "optimizer.pt", "--optimizer", "AdamW"]


def project(folder, text):
    (folder / "pyproject.toml").write_text(text)


@pytest.mark.parametrize("mute, muted", [
    ("much_decay", True), ("no_gradient", False), ("*", True),
    ("much_decay:*.bias", True), ("much_decay:0.*", False), ("much_decay:*", True), ("*:*.bias", True),
    ("no_gradient:*.bias", False), ("much_decay:[01].bias", True), ("much_decay:*.BIAS", False),
    ("much_decay<20", True), ("much_decay<15", False), ("much_decay<20:*.bias", True), ("much_decay<20:0.*", False),
    ("*<20", True), ("much_decay < 20", True),
])  # fmt: skip
def test_a_mute_is_a_kind_a_size_and_a_pattern(mute, muted):
    assert check_mutes([mute]) == (mute,)
    assert is_muted(FINDING, [mute]) == muted and is_muted(FINDING, ["no_gradient", mute]) == muted


def test_a_pattern_mutes_nothing_that_is_about_no_parameter():
    about_all = Finding(Severity.WARNING, "...", kind="much_decay")
    assert is_muted(about_all, ["much_decay"]) and not is_muted(about_all, ["much_decay:*"])


@pytest.mark.parametrize("mute, error, words", [
    ("much_decay", TypeError, "mute='much_decay' is not a list of strings"),
    ([1], TypeError, "is not a list of strings"),
    (3, TypeError, "mute=3 is not a list"),
    (["much_dekay"], ValueError, "there is no kind 'much_dekay' of findings; there are .*much_decay"),
    (["much_decay:*.bias", ""], ValueError, "there is no kind ''"),
    (["much_decay<big"], ValueError, "could not convert .*'big'"),
])  # fmt: skip
def test_what_is_not_a_mute_is_refused(mute, error, words, strongly_decayed):
    with pytest.raises(error, match=words):
        audit(*strongly_decayed, mute=mute)


def test_muted_findings_are_counted_never_gone(strongly_decayed):
    everything = audit(*strongly_decayed, mute=())
    kinds = [finding.kind for finding in everything.findings]
    assert "much_decay" in kinds and everything.muted == [] and "muted" not in str(everything)
    result = audit(*strongly_decayed, mute=["much_decay"])
    assert [finding.kind for finding in result.findings] == [kind for kind in kinds if kind != "much_decay"]
    assert [finding.kind for finding in result.muted] == ["much_decay"] * kinds.count("much_decay")
    assert f"{kinds.count('much_decay')} muted" in str(result).splitlines()[0]
    assert " muted" in result._repr_html_() and result.as_dict()["summary"]["muted"] == kinds.count("much_decay")
    assert audit(*strongly_decayed, mute=["much_decay:*.bias"]).muted == []


def test_a_project_mutes_for_all_below_its_folder(strongly_decayed, tmp_path, monkeypatch):
    project(tmp_path, '[tool.scaleinv]\nmute = ["much_decay"]\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    project(tmp_path / "a", "[tool.other]\nx = 1\n")  # has no such table: the search goes on
    monkeypatch.chdir(below)
    assert "much_decay" in {finding.kind for finding in audit(*strongly_decayed).muted}
    assert audit(*strongly_decayed, mute=[]).muted == []
    project(below, "[tool.scaleinv]\n")  # the nearest decides
    assert audit(*strongly_decayed).muted == []


@pytest.mark.parametrize("text, words", [
    ('[tool.scaleinv]\nmutes = ["much_decay"]', r"toml: \[tool.scaleinv\] has mutes; it takes mute and fail-on"),
    ('[tool.scaleinv]\nmute = "much_decay"', r"pyproject.toml: \[tool.scaleinv\]: mute='much_decay' is not a list"),
    ('[tool.scaleinv]\nmute = ["dekay"]', r"mute: 'dekay': there is no kind 'dekay'"),
    ('[tool.scaleinv]\nfail-on = "remark"', "fail-on='remark' is not one of 'fault', 'warning'"),
    ("[tool.scaleinv]\nfail-on = 1", "fail-on=1 is not one of"),
    ("[tool]\nscaleinv = 1", "has 1; it takes"),
    ("tool = 1", "is not TOML"),
    ("[tool", "is not TOML"),
])  # fmt: skip
def test_a_mistake_in_the_table_is_an_error(text, words, tmp_path, files, capsys):
    project(tmp_path, text)
    with pytest.raises((TypeError, ValueError), match=words):
        project_settings()
    assert main(files) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("scaleinv audit: ") and err.count("\n") == 1


def test_the_command_mutes(tmp_path, files, capsys):
    assert main([*files, "--mute", "much_decay", "--mute", "no_gradient:*.bias"]) == 0
    assert " muted" in capsys.readouterr().out.splitlines()[0]
    assert main([*files, "--mute", "dekay"]) == 2
    assert "--mute: 'dekay': there is no kind 'dekay'" in capsys.readouterr().err
    project(tmp_path, '[tool.scaleinv]\nmute = ["much_decay"]\n')
    assert main(files) == 0
    assert " muted" in capsys.readouterr().out.splitlines()[0]
    assert main([*files, "--mute", "no_gradient"]) == 0  # in place of the project's
    assert " muted" not in capsys.readouterr().out.splitlines()[0]


def test_the_command_fails_on_findings(tmp_path, files, capsys):
    assert main(files) == 0
    assert main([*files, "--fail-on", "fault"]) == 1 and main([*files, "--fail-on", "warning"]) == 1
    assert main([*files, "--fail-on", "fault", "--mute", "*"]) == 0
    assert "fault: weight decay" in capsys.readouterr().out
    project(tmp_path, '[tool.scaleinv]\nfail-on = "fault"\n')
    assert main(files) == 1
    project(tmp_path, '[tool.scaleinv]\nfail-on = "fault"\nmute = ["much_decay"]\n')
    assert main(files) == 0
    with pytest.raises(SystemExit) as ended:
        main([*files, "--fail-on", "remark"])
    assert ended.value.code == 2


@pytest.mark.parametrize("severity, on_fault, on_warning", [
    (Severity.FAULT, True, True), (Severity.WARNING, False, True), (Severity.REMARK, False, False),
])  # fmt: skip
def test_a_severity_fails_on_itself_and_on_lower_ones(severity, on_fault, on_warning):
    findings = [Finding(Severity.REMARK, "..."), Finding(severity, "...")]
    assert fails(findings, "fault") == on_fault and fails(findings, "warning") == on_warning
    assert not fails(findings, "") and not fails([], "warning")


def test_json_is_one_document_with_all(strongly_decayed, files, capsys):
    assert main([*files, "--json", "--fail-on", "fault"]) == 1
    out, err = capsys.readouterr()
    document = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert err == "" and {"summary", "findings", "muted", "gradient_norm", "rows"} <= document.keys()
    expected = audit(*strongly_decayed, mute=[])
    assert len(document["rows"]) == 4
    row = document["rows"][0]
    assert (row["parameter"], row["shape"], row["lr"], row["unit"]["weight"]) == ("0.weight", [4, 4], 0.1, "1")
    assert row["gradient_rms"] is None  # not known
    assert document["summary"]["tensors"] == 4 and document["summary"]["optimizers"] == ["AdamW"]
    assert document["summary"]["faults"] == sum(each.severity == Severity.FAULT for each in expected.findings) > 0
    decay = next(each for each in document["findings"] if each["kind"] == "much_decay")
    assert decay["severity"] == "fault" and set(decay["parameters"]) == {row["parameter"] for row in document["rows"]}
    assert decay["remedy"] and decay["kind"] in KINDS and decay["size"] > 0
    assert main([*files, "--json", "--mute", "*"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["findings"] == [] and "much_decay" in {each["kind"] for each in document["muted"]}
    assert document["summary"]["muted"] == len(document["muted"]) > 0


def test_what_the_command_prints_is_a_baseline(strongly_decayed, files, capsys, tmp_path):
    for words in ([], ["--mute", "much_decay"]):
        assert main([*files, "--json", *words]) == 0
        (tmp_path / "baseline.json").write_text(capsys.readouterr().out, encoding="utf-8")
        baseline = Audit.load(tmp_path / "baseline.json")
        live = audit(*strongly_decayed, mute=words[1:])
        assert [str(each) for each in baseline.findings] == [str(each) for each in live.findings]
        assert [each.kind for each in baseline.muted] == [each.kind for each in live.muted]
        assert "0 new findings, 0 gone" in str(compare(baseline, live))
