"""``scaleinv gradients A.pt B.pt``: files of gradients, compared from a terminal."""

import json

import pytest
import torch

from scaleinv import compare_gradients
from scaleinv._cli import main

pytestmark = pytest.mark.usefixtures("one_thread")

A = {"0.weight": torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), "0.bias": torch.arange(4.0)}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """``command("gradients A.pt B.pt")`` is the exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    torch.save(A, "A.pt")
    torch.save({f"module.{name}": 9 * value for name, value in A.items()}, "B.pt")
    torch.save({"lm": A, "aux": A}, "A_terms.pt")
    torch.save({"lm": A, "aux": {name: value / 8 for name, value in A.items()}}, "B_terms.pt")
    torch.save({"w": 3}, "numbers.pt")

    def run(words):
        status = main(words.split())
        return status, *capsys.readouterr()

    return run


def test_a_factor_is_reported_with_what_the_optimizer_sees(command):
    status, out, err = command("gradients A.pt B.pt --optimizer torch.optim.AdamW")
    assert (status, err) == (0, "")
    words = " ".join(out.split())
    assert words.startswith("b is 9 × a in every tensor")
    assert "scaleinv.convert(torch.optim.AdamW, settings, changes.loss_times(9))" in words


def test_an_optimizer_that_is_not_known_is_measured(command):
    status, out, _ = command("gradients A.pt B.pt --optimizer scaleinv.optimizers.Optimizer")
    assert status == 2
    status, out, _ = command("gradients A.pt B.pt --optimizer torch.optim.adamw.AdamW")
    assert status == 0 and "AdamW does not see it" in out


def test_json_is_the_whole_comparison(command):
    status, out, _ = command("gradients A.pt B.pt --json")
    document = json.loads(out)
    assert status == 0 and (document["kind"], document["factor"], document["loss_times"]) == ("factor", 9.0, 9.0)
    assert [tensor["parameter"] for tensor in document["tensors"]] == list(A)
    assert document["noise"] is None


def test_fail_ends_with_1_unless_the_gradients_agree(command):
    assert command("gradients A.pt B.pt --fail")[0] == 1
    assert command("gradients A.pt A.pt --fail")[0] == 0


def test_files_of_several_loss_terms(command):
    status, out, _ = command("gradients A_terms.pt B_terms.pt")
    assert status == 0 and "lm × 1, aux × 1/8" in out


def test_a_tolerance_decides_what_is_unclear(command):
    torch.save({name: value + 1e-2 * value.roll(1, 0) for name, value in A.items()}, "C.pt")
    assert "A tolerance" in command("gradients A.pt C.pt")[1]
    assert "no factor" in command("gradients A.pt C.pt --tolerance 1e-4")[1]


def test_safetensors_are_read_and_python_reads_paths_too(command, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({name: value / 3 for name, value in A.items()}, "C.safetensors")
    assert "b is 1/3 × a" in command("gradients A.pt C.safetensors")[1]
    assert compare_gradients(tmp_path / "A.pt", "C.safetensors").factor == 1 / 3


STEPS = """
import torch

model = torch.nn.Linear(3, 2)

def step(factor=1.0):
    print("running")
    model.zero_grad()
    (factor * model(torch.arange(6.0).view(2, 3)).square().sum()).backward()
    return model

def scaled():
    return step(16.0)

value = 3
"""


def test_functions_run_their_steps(command, tmp_path, monkeypatch):
    (tmp_path / "their_steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(tmp_path)
    status, out, err = command("gradients their_steps:step their_steps:scaled")
    assert status == 0 and out.startswith("b is 16 × a in every tensor") and "running" in err
    assert "has to be package.module:function" in command("gradients A.pt their_steps:none")[2]
    assert "is not a function" in command("gradients A.pt their_steps:value")[2]


@pytest.mark.parametrize(
    "words, error",
    [
        ("gradients A.pt none.pt", "none.pt"),
        ("gradients A.pt numbers.pt", "numbers.pt['w']=3 is not a tensor"),
        ("gradients A.pt A_terms.pt", "a is of one loss and b of 'lm', 'aux'"),
        ("gradients A.pt B.pt --optimizer torch.optim.AdamQ", "did you mean torch.optim.Adam?"),
        ("gradients A.pt B.pt --tolerance 2", "tolerance=2.0 is not a share"),
        ("gradients A.pt B.pt C.pt", "'C.pt' is not understood"),
    ],
)
def test_an_error_is_one_line(command, words, error):
    status, out, err = command(words)
    assert (status, out) == (2, "") and error in err and err.count("\n") == 1
