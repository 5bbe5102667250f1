"""``python -m scaleinv units``: words become hyperparameters, a report goes to stdout, and errors are one line."""

import subprocess
import sys
import textwrap

import pytest

from scaleinv.__main__ import hyperparameters_of, main

pytestmark = pytest.mark.usefixtures("one_thread")

MINE = """
    import functools

    import torch
    from torch.optim import SGD

    print("importing")

    class Mine(SGD):
        def __init__(self, params, lr=0.5, power=1.0, name="", fast=False):
            print("constructing")
            assert name in ("", "a-b") and not fast
            super().__init__(params, lr=lr, weight_decay=power)

    class Needs(SGD):
        def __init__(self, params, total_steps, lr=0.1):
            super().__init__(params, lr=lr / total_steps)

    def talks(params, lr=0.1):
        raise RuntimeError("a long\\nstory: " + "word " * 1000)

    def decayed(params, lr, decay):
        return SGD(params, lr=lr, weight_decay=decay)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module ``mine`` of the user's, in the current folder."""
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    (tmp_path / "broken.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def command(mine, capsys):
    """``command("units torch.optim.SGD")`` is the exit status, stdout and stderr."""

    def run(words):
        status = main(words.split())
        return status, *capsys.readouterr()

    return run


def row(out, name):
    return next(line.split() for line in out.splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize(
    "words, hyperparameters",
    [
        ("", {}),
        ("--lr 1e-3 --weight-decay 0.1", {"lr": 1e-3, "weight_decay": 0.1}),
        ("--weight_decay=0.1 --beta2_decay -0.8", {"weight_decay": 0.1, "beta2_decay": -0.8}),
        ("--lr -1e-3 --betas 0.9,0.95", {"lr": -1e-3, "betas": (0.9, 0.95)}),
        ("--betas (0.9,0.95) --ns_steps 5", {"betas": (0.9, 0.95), "ns_steps": 5}),
        ("--nesterov --lr 1 --amsgrad", {"nesterov": True, "lr": 1, "amsgrad": True}),
        ("--foreach False --eps None --adjust-lr-fn match_rms_adamw --name a-b",
         {"foreach": False, "eps": None, "adjust_lr_fn": "match_rms_adamw", "name": "a-b"}),
        ("--lr inf", {"lr": float("inf")}),
    ],
)  # fmt: skip
def test_words_become_hyperparameters(words, hyperparameters):
    assert hyperparameters_of(words.split()) == hyperparameters


def test_a_report_goes_to_stdout_and_nothing_else_does(command):
    status, out, err = command("units torch.optim.AdamW --lr 1e-3 --betas 0.9,0.95 --weight-decay 0.1")
    assert status == 0 and err == ""
    assert out.startswith("AdamW: consistent.")
    assert row(out, "lr") == ["lr", "0.001", "W", "same", "0.008"]
    assert row(out, "weight_decay")[:3] == ["weight_decay", "0.1", "W⁻¹"]
    assert row(out, "betas")[1:3] == ["(0.9,", "0.95)"]


def test_words_reach_the_optimizer(command):
    """Negative numbers and flags pass argparse, and a name alone is one of torch.optim's."""
    _, out, _ = command("units Adafactor --beta2_decay -0.7 --maximize")
    assert row(out, "beta2_decay")[1] == "-0.7" and "Measured with maximize=True." in out


def test_what_a_third_party_prints_goes_to_stderr(command):
    status, out, err = command("units mine.Mine --lr 0.25 --name a-b")
    assert status == 0 and out.startswith("Mine: consistent.")
    assert row(out, "lr") == ["lr", "0.25", "L⁻¹", "W²", "0.03125", "16"]
    assert "constructing" in err and "ing\n" not in out


def test_a_function_that_needs_arguments_is_measured_with_them(command):
    _, out, _ = command("units mine.decayed --lr 0.1 --decay 0.01")
    assert row(out, "decay") == ["decay", "0.01", "L", "W⁻²", "0.08", "0.00015625"]


def test_an_inconsistent_optimizer_is_reported_with_status_0(command):
    status, out, _ = command("units torch.optim.RAdam")
    assert status == 0 and out.startswith("RAdam: inconsistent.")


@pytest.mark.parametrize(
    "words, said",
    [
        ("nosuch.Name", ["nosuch.Name: ", "No module named 'nosuch'", "package.module.Name"]),
        ("broken.Name", ["broken.Name: ", "no_such_module_at_all"]),
        ("torch.optim.AdamX", ["torch.optim.AdamX: ", "no attribute 'AdamX'", "package.module.Name"]),
        ("--lr 1e-3 AdamW", ["1e-3: ", "package.module.Name"]),
        ("torch.nn.Linear", ["torch.nn.Linear is no optimizer", "give one such as torch.optim.AdamW"]),
        ("torch.nn", ["torch.nn is no optimizer", "give one such as torch.optim.AdamW"]),
        ("AdamW 1e-3", ["'1e-3' follows no name", "--name value"]),
        ("AdamW --betas 0.9 0.95", ["'0.95' follows no name", "--betas 0.9,0.95"]),
        ("AdamW --lr --amsgrad", ["--lr has no value; give one, as in --lr 0.001"]),
        ("AdamW --lr nan", ["lr=nan is not finite", "give what it takes"]),
        ("AdamW --betas 0.9,1e999", ["betas[1]=inf is not finite"]),
        ("AdamW --lr abc", ["AdamW could not be run with lr='abc': TypeError: ", "give what it takes"]),
        ("AdamW --lr -1", ["AdamW could not be run with lr=-1: ValueError: Invalid learning rate"]),
        ("AdamW --weigth_decay 0.1", ["unexpected keyword argument 'weigth_decay'", "weigth_decay=0.1"]),
        ("mine.Needs --lr 0.1", ["mine.Needs could not be run with lr=0.1", "'total_steps'", "--name value"]),
        (
            "mine.talks",
            ["mine.talks could not be run with its defaults: RuntimeError: a long story:", " ...; give"],
        ),
    ],
)
def test_errors_are_one_line_with_a_way_out(command, words, said):
    status, out, err = command("units " + words)
    err = "".join(line for line in err.splitlines(True) if line not in ("importing\n", "constructing\n"))
    assert (status, out) == (2, "")
    assert err.startswith("python -m scaleinv units: ") and err.count("\n") == 1 and len(err) < 650
    assert "Traceback" not in err and "<class" not in err and "<function" not in err and "{" not in err
    assert [part for part in said if part not in err] == []


def test_help_has_an_example_that_works(command, capsys):
    status, out, err = command("")
    assert status == 2 and out == ""
    for words in ("--help", "units --help"):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        text = capsys.readouterr().out
        assert ended.value.code == 0
        assert "usage: python -m scaleinv units OPTIMIZER" in text
        example = next(line for line in text.splitlines() if line.startswith("python -m scaleinv units torch"))
        assert example in err
    assert command(example.removeprefix("python -m scaleinv "))[0] == 0


@pytest.mark.parametrize("words", ["units", "unitz AdamW"])
def test_a_command_that_is_incomplete_ends_with_status_2(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2 and "usage: python -m scaleinv units" in capsys.readouterr().err


def test_a_module_in_the_current_folder_is_found(mine):
    """As a command of its own, piped, and where the locale has no superscripts."""
    words = [sys.executable, "-m", "scaleinv", "units", "mine.Mine", "--lr", "0.25"]
    environment = {"COLUMNS": "60", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=mine, env=environment, capture_output=True, timeout=60)
    out = done.stdout.decode()
    assert done.returncode == 0 and out.startswith("Mine: consistent.") and "\x1b[" not in out
    assert row(out, "lr")[1:4] == ["0.25", "L⁻¹", "W²"]
    assert max(map(len, out.splitlines())) <= 60
