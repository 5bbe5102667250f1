"""``scaleinv width``: settings from a function of the width, and the check; errors are one line."""

import json
import sys
import textwrap

import pytest

from scaleinv._cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

MINE = """
    import torch
    from torch import nn

    X, Y = torch.randn(32, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 4

    def make_model(width):
        return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.Linear(width, 4))

    def make_training(width):
        model = make_model(width)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        return model, optimizer, lambda: nn.functional.cross_entropy(model(X), Y)

    def raw(width):
        model = nn.Module()
        model.place = nn.Parameter(torch.ones(3, width))
        return model

    def fails(width):
        raise RuntimeError("no")

    text = "no function"
"""


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    (tmp_path / "wide.py").write_text(textwrap.dedent(MINE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wide", raising=False)
    monkeypatch.setenv("COLUMNS", "110")

    def run(words):
        status = main(["width", *words.split()])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


SETTINGS = "--base 16 --width 64 --optimizer torch.optim.AdamW"


def test_settings_for_a_width(command):
    status, out, _ = command(f"wide:make_model {SETTINGS} --lr 1e-3 --weight-decay 0.1 --start standard")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and lines[0] == "4 times as wide as the base (n = 4):"
    assert any(line.startswith("hidden 1 0.00025 5e-09 0.4 ΔW·x adds up") for line in lines)
    status, out, _ = command(f"wide:make_training {SETTINGS} --lr 1e-3 --start μP --json")
    document = json.loads(out)
    assert document["n"] == 4 and document["parameters"][2]["n^lr"] == -1
    status, out, _ = command(f"wide:raw {SETTINGS} --eps 0 --kind place=input")
    assert status == 0 and "input" in out


def test_the_check_and_its_status(command):
    status, out, _ = command("wide:make_training --check 16,64,256")
    assert status == 0 and "grow with the width" in " ".join(out.split())
    assert command("wide:make_training --check 16,64,256 --fail --steps 1")[0] == 1
    status, out, _ = command("wide:make_training --check 16,64,256 --json --steps 1")
    assert status == 0 and json.loads(out)["level"] is False


@pytest.mark.parametrize(
    "words, message",
    [
        ("wide:make_model", "--base is missing; give it, as in --base 64"),
        ("wide:make_model --base 16 --width 64", "--optimizer is missing"),
        (f"wide:make_model {SETTINGS} --lrr 1", "--lrr is unknown"),
        (f"wide:raw {SETTINGS}", "'place' grows from (3, 16) to (3, 64)"),
        (f"wide:raw {SETTINGS} --kind place", "--kind 'place' is not NAME=VALUE; give one as in --kind position=input"),
        (f"wide:fails {SETTINGS}", "wide:fails(64) fails: RuntimeError: no; it has to take the width"),
        (f"wide:text {SETTINGS}", "wide:text is not a function"),
        (f"wide:nothing {SETTINGS}", "no attribute 'nothing'"),
        ("builtins:str --base 1 --width 2 --optimizer SGD", "builtins:str(2) returns str; it has to return a model"),
        ("wide:make_training --check 16,64", "give three widths or more"),
        ("wide:make_training --check a,b", "--check a,b is not a list of widths"),
        ("wide:make_training --check 16,32,64 --lr 1", "'--lr 1' is not understood beside --check"),
        ("wide:make_model --check 16,32,64", "make returns"),
    ],
)
def test_errors_are_one_line(command, words, message):
    status, out, error = command(words)
    assert status == 2 and not out and message in error and error.count("\n") == 1
