"""The command line: words become hyperparameters, a report goes to stdout, and errors are one line."""

import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch

import scaleinv
from scaleinv._cli import main, parse_hyperparameters

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = "-c import scaleinv._cli; scaleinv._cli.run()"  # what the console script does

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
    assert parse_hyperparameters(words.split()) == hyperparameters


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


def test_what_a_third_party_prints_is_not_part_of_the_report(command):
    """As it is imported, it may have something to say; what it prints at each step is not shown at all."""
    status, out, err = command("units mine.Mine --lr 0.25 --name a-b")
    assert status == 0 and out.startswith("Mine: consistent.")
    assert row(out, "lr") == ["lr", "0.25", "L⁻¹", "W²", "0.03125", "16"]
    assert err == "importing\n" and "ing\n" not in out


def test_a_function_that_needs_arguments_is_measured_with_them(command):
    _, out, _ = command("units mine.decayed --lr 0.1 --decay 0.01")
    assert row(out, "decay") == ["decay", "0.01", "L", "W⁻²", "0.08", "0.00015625"]


def test_an_inconsistent_optimizer_is_reported_with_status_0(command):
    status, out, _ = command("units torch.optim.RAdam")
    assert status == 0 and out.startswith("RAdam: inconsistent.")


@pytest.mark.parametrize(
    "words, expected",
    [
        ("nosuch.Name", ["nosuch.Name: ", "No module named 'nosuch'", "package.module.Name"]),
        ("broken.Name", ["broken.Name: ", "no_such_module_at_all"]),
        ("torch.optim.AdamX", ["torch.optim.AdamX: ", "no attribute 'AdamX'", "package.module.Name", "torch.optim.Ad"]),
        ("adamw", ["no attribute 'adamw'", "did you mean torch.optim.AdamW?"]),
        ("torch.optim.adamw", ["torch.optim.adamw: ", "did you mean torch.optim.AdamW?"]),
        ("torch.optim.Optimizers", ["no attribute 'Optimizers'", "package.module.Name"]),
        ("adam_w", ["adam_w: ", "no attribute 'adam_w'", "did you mean torch.optim.AdamW?"]),
        ("--lr 1e-3 AdamW", ["name the optimizer first, as in units torch.optim.AdamW --lr 1e-3"]),
        ("torch.nn.Linear", ["torch.nn.Linear is not an optimizer", "give one such as torch.optim.AdamW"]),
        ("torch.nn", ["torch.nn is not an optimizer", "give one such as torch.optim.AdamW"]),
        ("AdamW 1e-3", ["'1e-3' follows no name", "--name value"]),
        ("AdamW --betas 0.9 0.95", ["'0.95' follows no name", "--betas 0.9,0.95"]),
        ("AdamW --lr --amsgrad", ["--lr has no value; give one, as in --lr 0.001"]),
        ("AdamW --lr nan", ["lr=nan is not finite", "pass what it needs"]),
        ("AdamW --betas 0.9,1e999", ["betas[1]=inf is not finite"]),
        ("AdamW --lr abc", ["AdamW could not be run with lr='abc': TypeError: ", "pass what it needs"]),
        ("AdamW --lr -1", ["AdamW could not be run with lr=-1: ValueError: Invalid learning rate"]),
        ("AdamW --weigth_decay 0.1", ["--weigth-decay is unknown", "did you mean --weight-decay?"]),
        ("AdamW --weight 8", ["--weight is unknown: no hyperparameter of AdamW"]),
        ("mine.Needs --lr 0.1", ["mine.Needs could not be run with lr=0.1", "'total_steps'", "--name value"]),
        (
            "mine.talks",
            ["mine.talks could not be run with its defaults: RuntimeError: a long story:", " ...; pass"],
        ),
    ],
)
def test_errors_are_one_line_with_a_way_out(command, words, expected):
    status, out, err = command("units " + words)
    err = "".join(line for line in err.splitlines(True) if line not in ("importing\n", "constructing\n"))
    assert (status, out) == (2, "")
    assert err.startswith("scaleinv units: ") and err.count("\n") == 1 and len(err) < 650
    assert "Traceback" not in err and "<class" not in err and "<function" not in err and "{" not in err
    assert [part for part in expected if part not in err] == []


@pytest.mark.parametrize(
    "words, reason, rows, notes",
    [
        (
            "AdamW --lr 1e-3 --loss-times 8",
            "For all parameters: the loss is 8 times as large",
            {"eps": "1e-08 8e-08 L W⁻¹ 8"},
            ["Unchanged: lr, betas, weight_decay.", "The max_norm of clip_grad_norm_, of unit L W⁻¹: times 8."],
        ),
        (
            "torch.optim.SGD --lr 0.5 --sum-over 512",
            "For all parameters: a sum over 512 examples is 512 times their mean.",
            {"lr": "0.5 0.000976562 L⁻¹ W² 0.001953"},
            ["Unchanged: momentum, dampening, weight_decay.", "times 512."],
        ),
        (
            "SGD --lr 0.5 --weight-decay 1e-4 --lora-alpha 16,64",
            "For lora_B alone: α is 4 times as large",
            {"lr": "0.5 0.03125 L⁻¹ W² 0.0625", "weight_decay": "0.0001 0.0016 L W⁻² 16"},
            ["multiplies the parameters (zeros stay zeros) by 0.25 and the optimizer's state"],
        ),
        (
            "Adam --lr 1e-3 --gain 1/sqrt(256)",
            "For the parameters with the gain alone: with a gain of 0.0625, parameters stored 16 times as large",
            {"lr": "0.001 0.016 W 16", "eps": "1e-08 6.25e-10 L W⁻¹ 0.0625"},
            ["multiplies the parameters (zeros stay zeros) by 16 and the optimizer's state"],
        ),
        (
            "AdamW --init-times 10",
            "For all parameters: parameters 10 times as large need steps 10 times as large",
            {"lr": "0.001 0.01 W 10", "weight_decay": "0.01 0.001 W⁻¹ 0.1"},
            ["The training is the same only if the module divides by 10 again."],
        ),
        (
            "Adafactor --eps 1e-30,1e-3 --loss-times 8",
            "For all parameters:",
            {"eps": "(1e-30, 0.001) (8e-30, 0.001) (L W⁻¹, W) (8, 1)"},
            ["Unchanged: lr, beta2_decay, d, weight_decay."],
        ),
        ("AdamW --eps 0 --loss-times 1", "For all parameters: the loss is as large as before", {}, ["Unchanged: lr"]),
        (
            "AdamW --lr 1e-3 --weight-decay 0.1 --decay-independent",
            "For all parameters: a step now takes λ·w in place of lr·λ·w.",
            {"weight_decay": "0.1 0.0001 W⁻¹ lr"},
            ["Unchanged: lr, betas, eps.", "With a schedule, lr is that at which its multiplier is 1"],
        ),
        (
            "AdamW --betas 0.5,0.9 --batch 64,256",
            "For all parameters: a step sees 4 times as many examples; half-lives, memory and noise stay",
            {
                "lr": "0.001 0.002 W 2",
                "betas": "(0.5, 0.9) (0.0625, 0.6561) 1 power 4",
                "weight_decay": "0.01 0.02 W⁻¹ 2",
            },
            ["Not exact. It holds where noise dominates the gradient"],
        ),
        (
            "AdamW --horizon 1000,4000",
            "For all parameters: the training sees 4 times as many examples",
            {"weight_decay": "0.01 0.0025 W⁻¹ 0.25"},
            ["Unchanged: lr, betas, eps. Not exact."],
        ),
        (
            "mine.Mine --lr 0.5 --loss-times 4",  # its units are measured
            "For all parameters: the loss is 4 times as large",
            {"lr": "0.5 0.125 L⁻¹ W² 0.25", "power": "1 4 L W⁻² 4"},
            [],
        ),
    ],
)
def test_a_change_is_converted_with_its_reason(command, words, reason, rows, notes):
    status, out, _ = command("convert " + words)
    text = " ".join(out.split())
    assert status == 0 and text.startswith(reason)
    assert {name: " ".join(row(out, name)[1:]) for name in rows} == rows
    assert [note for note in notes if note not in text] == []
    assert "hyperparameter before after unit factor" in text or not rows
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "words, expected",
    [
        ("AdamW", ["no changes are given", "--loss-times 8, --sum-over 512, --lora-alpha 16,64"]),
        ("AdamW --loss-times 8 --gain 2", ["2 changes are given; give one"]),
        ("AdamW --loss-times abc", ["loss_times='abc' is not such a change; give one as in --loss-times 8"]),
        ("AdamW --lora-alpha 16", ["lora_alpha=16 is not such a change; give one as in --lora-alpha 16,64"]),
        ("AdamW --sum-over", ["sum_over=True is not such a change; give one as in --sum-over 512"]),
        ("AdamW --decay-times-lr", ["weight_decay of AdamW already takes lr·weight_decay·w a step"]),
        ("AdamW --lr 0 --decay-independent", ["lr=0: at this lr", "initial_lr"]),
        (
            "AdamW --decay-independent 2",
            ["decay_independent=2 is not such a change", "--decay-independent"],
        ),
        ("AdamW --gain 0", ["factor=0 is not a scale"]),
        ("AdamW --gain 1/sqrt(0)", ["gain='1/sqrt(0)'", "--gain 1/sqrt(512)"]),
        ("RAdam --loss-times 8", ["lr=0.001 has no known unit", "SGD's steps"]),
        ("AdamW --weigth-decay 1 --gain 2", ["--weigth-decay is unknown", "did you mean --weight-decay?"]),
        ("SGD --weight 8", ["--weight is unknown: no hyperparameter of SGD and no change (--loss-times 8"]),
        ("SGD --factor 8", ["--factor is unknown", "it takes --lr, --momentum"]),
        ("--lr 1e-3 AdamW --gain 2", ["name the optimizer first, as in convert torch.optim.AdamW --lr 1e-3"]),
        ("--nesterov SGD --gain 2", ["name the optimizer first"]),
        ("torch.nn.Linear --gain 2", ["torch.nn.Linear is not an optimizer"]),
    ],
)
def test_an_impossible_conversion_is_one_line_with_a_way_out(command, words, expected):
    status, out, err = command("convert " + words)
    assert (status, out) == (2, "")
    assert err.startswith("scaleinv convert: ") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == []


@pytest.mark.parametrize(
    "words, rows, notes",
    [
        (
            "AdamW --lr 1e-3 --weight-decay 0.1 --to Muon --shape 512,2048 --to-momentum 0.9",
            {"lr": "0.001 0.0104", "weight_decay": "0.1 0.00961538"},
            ["an RMS of 0.000229, of which decay takes 0.0001", "This is not exact.", "Muon is not for embeddings"],
        ),
        (
            "AdamW --lr 1e-3 --to SGD --to-momentum 0.9 --gradient-rms 1e-3",
            {"lr": "0.001 0.1", "weight_decay": "0.01 1e-05"},
            ["A step of SGD is proportional to the gradient"],
        ),
        ("AdamW --lr 1e-3 --to Adafactor --rms 0.0229", {"lr": "0.001 0.01"}, ["Adafactor's lr is at most 1/√step"]),
    ],
)
def test_another_optimizer(command, words, rows, notes):
    status, out, _ = command("convert " + words)
    assert status == 0
    assert {name: " ".join(row(out, name)[1:]) for name in rows} == rows
    assert [note for note in notes if note not in " ".join(out.split())] == []
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "words, expected",
    [
        ("AdamW --to Muon", ["depends on the tensor's shape; give it, as in --shape 512,2048"]),
        ("AdamW --to SGD", ["depends on the tensor's gradient rms", "--gradient-rms 1e-4"]),
        ("AdamW --to Adafactor --rms 0", ["rms=0 is not a positive number"]),
        ("AdamW --to Muon --shape 0,2", ["shape=(0, 2) is not a shape"]),
        ("AdamW --to SGD --to-lr 1", ["settings['lr']=1 is what is computed"]),
        ("AdamW --to", ["True", "package.module.Name"]),
        ("AdamW --weigth-decay 1 --to SGD", ["--weigth-decay is unknown", "did you mean --weight-decay?"]),
    ],
)
def test_another_optimizer_that_cannot_be_matched(command, words, expected):
    status, out, err = command("convert " + words)
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert [part for part in expected if part not in err] == []


def test_help_has_an_example_that_works(command, capsys):
    status, out, err = command("")
    assert status == 2 and out == ""
    for words in ("--help", "units --help", "symmetry --help", "convert --help"):
        with pytest.raises(SystemExit) as ended:
            main(words.split())
        text = capsys.readouterr().out
        assert ended.value.code == 0
        assert any(f"scaleinv {name} OPTIMIZER" in text for name in ("units", "symmetry", "convert"))
        examples = [line for line in text.splitlines() if line.startswith("scaleinv") and "torch" in line]
        assert len(examples) == 8 and not [example for example in examples if example not in err]
    for example in examples[:3]:  # the others read files
        assert command(example.removeprefix("scaleinv "))[0] == 0


@pytest.mark.parametrize("words", ["units", "unitz AdamW"])
def test_a_command_that_is_incomplete_ends_with_status_2(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2 and "usage: scaleinv units" in capsys.readouterr().err


def test_a_module_in_the_current_folder_is_imported(mine):
    """As a command of its own, piped, and where the locale has no superscripts."""
    words = [sys.executable, "-m", "scaleinv", "units", "mine.Mine", "--lr", "0.25"]
    environment = {"COLUMNS": "60", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=mine, env=environment, capture_output=True, timeout=60)
    out = done.stdout.decode()
    assert done.returncode == 0 and out.startswith("Mine: consistent.") and "\x1b[" not in out
    assert row(out, "lr")[1:4] == ["0.25", "L⁻¹", "W²"]
    assert max(map(len, out.splitlines())) <= 60


def test_the_script_imports_a_module_in_the_current_folder_too(mine):
    code = "import sys, scaleinv._cli; sys.argv[1:] = ['units', 'mine.Mine', '--lr', '0.25']; scaleinv._cli.run()"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=mine, capture_output=True, timeout=60)
    assert done.returncode == 0 and b"Mine: consistent." in done.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["units", "--help"]], ids=" ".join)
def test_help_and_version_import_nothing_heavy(words):
    code = f"""if True:
        import sys
        from scaleinv._cli import main
        try:
            main({words})
        finally:
            print(sorted({{"torch", "numpy", "pandas", "xarray", "rich", "matplotlib"}} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"scaleinv {scaleinv.__version__}\n"


@pytest.mark.parametrize("start, prog", [("-m scaleinv", "python -m scaleinv"), (SCRIPT, "scaleinv")])
def test_a_command_calls_itself_as_it_was_called(start, prog):
    done = subprocess.run([sys.executable, *start.split(maxsplit=1), "convert", "SGD"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{prog} convert: no changes are given")
    usage = subprocess.run([sys.executable, *start.split(maxsplit=1)], capture_output=True, text=True)
    assert usage.stderr.startswith(f"usage: {prog} units OPTIMIZER") and f"\n{prog} audit MODEL.pt" in usage.stderr


def test_the_old_name_of_a_change_still_works(command):
    new, old = (command(f"convert AdamW --{name}-times 10") for name in ("init", "start"))
    assert new == old and new[0] == 0


# A file's code does not run.


class Attack:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


ATTACKS = {
    "alone": lambda attack: attack,
    "in a state_dict": lambda attack: {"weight": torch.ones(2, 3), "bias": attack},
    "deep inside": lambda attack: {"weight": torch.ones(2, 3), "state": {0: {"exp_avg": [(attack,)]}}},
}


@pytest.fixture
def training(tmp_path):
    """The paths of a saved model and of its saved optimizer."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    paths = tmp_path / "model.pt", tmp_path / "optimizer.pt"
    for path, value in zip(paths, (model, optimizer)):
        torch.save(value.state_dict(), path)
    return paths


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))], ids=["torch.save", "pickle"]
)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.parametrize("number", [0, 1], ids=["model", "optimizer"])
def test_code_in_a_file_does_not_run(training, tmp_path, capsys, number, attack, save):
    marker = tmp_path / "the code ran"
    words = ["audit", *map(str, training), "--optimizer", "torch.optim.AdamW"]
    assert main(words) == 0 and "weight" in capsys.readouterr().out
    save(attack(Attack(marker)), training[number])
    status = main(words)
    out, err = capsys.readouterr()
    assert not marker.exists()
    assert (status, out) == (2, "") and err.count("\n") == 1 and len(err) < 500
    assert err.startswith(f"scaleinv audit: {training[number]} cannot be loaded as tensors and plain data: ")
    assert "mkdir" in err or save is not torch.save
    assert "weights_only" not in err  # no advice to load it all the same


def test_the_attack_is_one(tmp_path):
    """Loaded without care, it would run."""
    torch.save(ATTACKS["deep inside"](Attack(tmp_path / "ran")), tmp_path / "file.pt")
    torch.load(tmp_path / "file.pt", weights_only=False)
    assert (tmp_path / "ran").exists()
