"""tools/device_check.py runs its parts one by one, keeps what they found, and goes on after one that fails."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load("device_check")


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """Name of a part → the Python code that stands in for it; with parts and limits of these names only."""
    codes = {}
    monkeypatch.setattr(check, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(check, "LIMITS", dict.fromkeys(("good", "wrong", "broken", "endless", "last"), 30))
    monkeypatch.setattr(check, "command_of", lambda name, kind: [sys.executable, "-c", codes[name]])
    return codes


def test_a_part_that_fails_is_reported_and_the_others_run(commands, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(check.LIMITS, "endless", 0.5)
    commands["good"] = "print('on the way'); print('{\"rate\": 3.5}')"
    commands["wrong"] = 'print(\'{"held": 1, "failures": ["claim 1.1: expected 0"]}\')'
    commands["broken"] = "raise RuntimeError('no such kernel')"
    commands["endless"] = "import time; print('begun', flush=True); time.sleep(60)"
    commands["last"] = "print('{}')"
    failed = check.check(list(commands), 1.0, tmp_path)
    assert failed == ["wrong", "broken", "endless"]
    (path,) = tmp_path.glob("*.json")
    document = json.loads(path.read_text())
    parts = document["parts"]
    assert document["slug"] == path.stem and document["torch"]
    assert {name: part["state"] for name, part in parts.items()} == {
        "good": "passed", "wrong": "failed", "broken": "failed", "endless": "timed out", "last": "passed",
    }  # fmt: skip
    assert parts["good"]["result"] == {"rate": 3.5}
    assert parts["wrong"]["message"] == ["claim 1.1: expected 0"] and parts["wrong"]["result"] == {"held": 1}
    assert parts["broken"]["message"].endswith("RuntimeError: no such kernel")
    assert parts["endless"]["message"] == "begun" and parts["endless"]["seconds"] < 30
    assert "endless: timed out" in capsys.readouterr().out


def test_results_are_written_before_and_after_each_part(commands, tmp_path, monkeypatch):
    seen = []

    def write(path, document):
        seen.append({name: part["state"] for name, part in document["parts"].items()})

    monkeypatch.setattr(check, "write", write)
    commands |= {"good": "print('{}')", "last": "print('{}')"}
    check.check(["good", "last"], 1.0, tmp_path)
    assert [tuple(each.values()) for each in seen] == [
        ("running", "not run"), ("passed", "not run"), ("passed", "running"), ("passed", "passed")
    ]  # fmt: skip


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "device.json"
    check.write(path, {"parts": 1})
    with pytest.raises(TypeError):
        check.write(path, {"parts": object()})
    assert json.loads(path.read_text()) == {"parts": 1}


def test_no_part_begins_when_the_time_is_over(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 0)
    assert check.check(["good"], 1.0, tmp_path) == ["good"]
    (document,) = check.stored(tmp_path)
    assert document["parts"]["good"] == {"state": "not run", "seconds": 0.0, "message": "no time was left"}


def test_all_parts_together_take_less_than_eight_minutes():
    assert check.SECONDS < 8 * 60
    assert sum(check.LIMITS.values()) <= 1.1 * check.SECONDS


@pytest.mark.parametrize("name", ["tests", "chapter 1", "sweep"])
def test_each_part_has_a_command(name):
    command = check.command_of(name, "cuda")
    assert Path(command[-1] if name == "tests" else command[1]).exists()
    assert ("cuda" in command) == (name == "tests")


def test_tests_of_the_library_run_on_a_device_and_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "LOGS", tmp_path)
    monkeypatch.setattr(check, "PYTEST", [*check.PYTEST, "-k", "loss_scale_on_the_device"])
    part = check.run("tests", 120, "cpu")
    assert part["state"] == "passed", part
    assert part["result"] == {"passed": 1, "failed": 0, "skipped": 0}


def test_a_chapter_runs_and_its_claims_are_counted(monkeypatch, tmp_path):
    notebook = {"cells": [
        code("from scaleinv.book.claims import claim"),
        code("x = 2", "claim('0.1', 'two', x, kind='identity', equals=2)", shown="claim 0.1 (identity): two ✓"),
        code("claim('0.2', 'three', x, kind='identity', equals=3)", shown="claim 0.2 (identity): three ✓"),
        code("1 / 0"),
        code("claim('0.3', 'four', 2 * x, kind='identity', equals=4)", shown="claim 0.3 (identity): four ✓"),
    ]}  # fmt: skip
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "0_small.ipynb").write_text(json.dumps(notebook))
    parts = load("device_parts")
    monkeypatch.setattr(parts, "ROOT", tmp_path)
    monkeypatch.setattr(parts.claims, "claim", parts.claims.claim)
    monkeypatch.setattr(parts.claims, "_show", parts.claims._show)
    result = parts.chapter("0_small")
    assert (result["claims"], result["held"]) == (3, 2)
    assert result["failures"] == [
        "claim 0.2: three: expected 3, measured 2",
        "cell 4: ZeroDivisionError: division by zero",
    ]


def code(*lines, shown=None):
    outputs = [{"data": {"text/plain": [shown]}}] if shown else []
    return {"cell_type": "code", "source": ["\n".join(lines)], "outputs": outputs}


def test_the_benchmarks_measure_what_single_runs_give(monkeypatch):
    parts = load("device_parts")
    monkeypatch.setattr(parts, "RUNS", 1)
    monkeypatch.setattr(parts, "members", lambda: 32)
    result = parts.graph_rates()
    assert result["apart"] <= parts.CLOSE and min(result["trainings_per_second"].values()) > 0
    result = parts.audit_seconds(width=24, depth=1)
    assert result["state"]["seconds"] > 0 and result["parameters"] > 0


def test_the_readme_shows_the_stored_results():
    (shown,) = check.TABLE.findall(check.README.read_text())
    assert shown.strip() == check.table(check.stored()).strip()
    assert check.stored(), "benchmarks/results is empty"
