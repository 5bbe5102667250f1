"""The report says what was measured: the verdict, the numbers of ``convert``, and what to do next, at any width."""

import functools
import io
import re

import pytest
import torch
from rich.cells import cell_len
from rich.console import Console
from torch import optim

from scaleinv import convert, infer_units
from scaleinv._infer.report import units_report

pytestmark = pytest.mark.usefixtures("one_thread")


def stepping(step, **defaults):
    """A factory of optimizers that subtract ``step(p, grad, **hyperparameters)``, and its defaults."""

    class Stepping(optim.Optimizer):
        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    p -= step(p, p.grad, **{name: group[name] for name in defaults})

    def made(params, **values):
        return Stepping(params, defaults | values)

    return made, defaults


def added_twice(p, grad, lr, eps):
    return lr * (grad + eps * grad**2 + eps * p)


CASES = {
    "bitwise": (optim.AdamW, {"lr": 2e-3, "weight_decay": 0.1}),
    "open": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "rounding": stepping(lambda p, grad, lr: lr * grad.sign() * grad.abs() ** (1 / 3), lr=0.01),
    "suspect": stepping(added_twice, lr=0.1, eps=1e-12),
    "off": stepping(added_twice, lr=0.1, eps=0.0),
    "nearby": stepping(lambda p, grad, lr: lr * grad / max(grad.norm().item(), 1e-3), lr=0.01),
    "no units": stepping(lambda p, grad, lr: lr * (grad + grad**2 + p), lr=0.1),
    "undetermined": stepping(lambda p, grad, lr, boost: lr * boost * grad, lr=0.1, boost=2.0),
    "entries": stepping(lambda p, grad, lr, parts: lr * parts[0] * grad, lr=0.1, parts=(2.0, 3.0)),
    "odd": stepping(lambda p, grad, lr, kind: lr * (grad + grad**2), lr=0.1, kind="[red]b[/red]"),
    "kind": stepping(lambda p, grad, lr, kind: lr * grad, lr=0.1, kind="[red]b[/red]"),
    "none": (lambda params: optim.SGD(params, lr=0.1), {}),
}


@functools.cache
def measured(case):
    factory, hyperparameters = CASES[case]
    return infer_units(factory, hyperparameters)


def printed(case, width=80, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    console.print(units_report(measured(case)))
    return console.file.getvalue()


def rows(text):
    """name → the cells of its row: value, unit, and the values for a loss and for parameters 8 times as large."""
    table = next(part for part in text.split("\n\n") if "hyperparameter" in part)
    cells = [re.split(r" {2,}", line.strip()) for line in table.splitlines()[2:]]
    return {name: rest for name, *rest in cells}


def unwrapped(text):
    return " ".join(text.split())


@pytest.mark.parametrize(
    "case, beginning",
    [
        ("bitwise", "AdamW: consistent. Runs rescaled by these units agree bit for bit. "),
        ("open", "SGD: consistent; no unit for dampening. Runs rescaled by these units agree bit for bit. "),
        ("rounding", "made: consistent. Runs rescaled by these units agree within rounding, to "),
        ("suspect", "made: inconsistent. No units explain "),
        ("off", "made: consistent; no unit for eps. "),
        ("nearby", "made: inconsistent. No units explain "),
        ("no units", "made: inconsistent. No units explain "),
        ("undetermined", "made: consistent; no unit for lr, boost. "),
    ],
)
def test_the_verdict_comes_first(case, beginning):
    assert unwrapped(printed(case)).startswith(beginning)


def test_the_share_that_no_units_explain_is_in_percent():
    assert f"explain {100 * measured('no units').residual:.2g} % of" in unwrapped(printed("no units"))
    assert "100 %" in unwrapped(printed("none")) and "e+02" not in printed("none")


# The table.


@pytest.mark.parametrize("case", ["bitwise", "open", "rounding"])
def test_the_table_has_the_units_and_the_numbers_of_convert(case):
    result = measured(case)
    values = result.defaults | CASES[case][1]
    loss, weight = convert(result, values, loss=8), convert(result, values, weight=8)
    table = rows(printed(case))
    assert list(table) == list(result.hyperparameters)
    for name, (value, unit, for_loss, for_weight) in table.items():
        assert unit == result.unit_text(name, result.hyperparameters[name]).split(",")[0]
        if name == "betas":
            assert (value, for_loss, for_weight) == (str(values[name]), "same", "same")
            continue
        assert float(value) == pytest.approx(values[name], rel=1e-5)
        for text, converted in ((for_loss, loss), (for_weight, weight)):
            unchanged = converted.get(name, values[name]) == values[name]
            assert text == "same" if unchanged else float(text) == pytest.approx(converted[name], rel=1e-5)


def test_the_columns_of_the_loss_and_of_the_parameters_are_not_exchanged():
    """By hand: SGD's lr is in L⁻¹ W², Adam's eps in L W⁻¹."""
    assert rows(printed("open"))["lr"] == ["0.1", "L⁻¹ W²", "0.0125", "6.4"]
    assert rows(printed("bitwise"))["eps"] == ["1e-08", "L W⁻¹", "8e-08", "1.25e-09"]
    assert re.search(r"loss +parameters\nhyperparameter +value +unit +× 8 +× 8\s*\n", printed("open"))


def test_what_has_no_unit_is_not_converted():
    assert rows(printed("suspect"))["eps"] == ["1e-12", "inconsistent", "?", "?"]
    assert rows(printed("nearby"))["lr"] == ["0.01", "W (nearby)", "?", "?"]
    assert rows(printed("no units"))["lr"] == ["0.1", "no unit", "?", "?"]


def test_of_a_product_the_first_factor_is_converted():
    table = rows(printed("undetermined"))
    assert table["lr"] == ["0.1", "undetermined", "0.0125", "6.4"]
    assert table["boost"] == ["2", "undetermined", "same", "same"]
    assert rows(printed("open"))["dampening"] == ["0", "undetermined", "same", "same"]
    table = rows(printed("entries"))
    assert table["parts[0]"] == ["2", "undetermined", "same", "same"] and table["parts[1]"][0] == "3"


def test_the_states_units_follow():
    parts = printed("bitwise").split("\n\n")
    lines = [re.split(r" {2,}", line.strip()) for line in parts[2].splitlines()]
    assert lines == [["state", "unit"], ["step", "1"], ["exp_avg", "L W⁻¹"], ["exp_avg_sq", "L² W⁻²"]]
    assert not any(part.startswith("state") for part in printed("suspect").split("\n\n"))


# The sentences.


def test_what_lr_means_stands_in_numbers():
    """A step of SGD grows with the loss, one of Adam does not; parameters × 8 need lr × 64 and lr × 8."""
    text = unwrapped(printed("open"))
    assert "With lr as it is, a loss 8 times as large makes steps 8 times as large (degree 1)" in text
    assert "needs lr × 0.125 to train the same. Parameters stored 8 times as large need lr × 64" in text
    assert "Measured with nesterov=True." in text
    text = unwrapped(printed("bitwise"))
    assert "makes steps as large as before (degree 0). Parameters stored 8 times as large need lr × 8 to" in text
    text = unwrapped(printed("rounding"))
    assert "makes steps 2 times as large (degree 1/3) and needs lr × 0.5 to" in text and "need lr × 16 to" in text


@pytest.mark.parametrize("case", ["nearby", "no units", "undetermined", "none"])
def test_an_lr_without_a_unit_is_not_explained(case):
    assert "degree" not in printed(case)


def test_the_suspect_is_named_with_what_to_do():
    text = unwrapped(printed("suspect"))
    assert "With eps=0 and lr as it is" in text
    assert "The units and numbers above hold for eps=0 only: give that, or find where in the code eps meets" in text
    assert "When made to matter or changed, eps leaves" in text
    assert "constant" not in text


def test_what_is_inconsistent_only_when_made_to_matter_leaves_the_others():
    text = unwrapped(printed("off"))
    assert "When made to matter or changed, eps leaves" in text
    assert "The other units hold for the values given." in text


def test_where_there_is_no_suspect_the_report_says_where_to_look():
    for case in ("nearby", "no units"):
        text = unwrapped(printed(case))
        reason = unwrapped(measured(case).reason)
        assert reason[0].upper() + reason[1:] + ". " in text
        assert "Look in the code for a constant" in text and "measure again" in text
        assert ("Units marked nearby hold for small changes of scale only" in text) == (case == "nearby")


@pytest.mark.parametrize(
    "case, beginnings",
    [
        ("bitwise", ["L is", "With lr", "Weight decay takes lr·weight_decay·w from a parameter w at each step."]),
        ("rounding", ["L is", "With lr"]),
        ("kind", ["L is", "With lr"]),
        ("open", ["L is", "With lr", "Weight decay is coupled: weight_decay·w is added", "Undetermined"]),
        ("undetermined", ["L is", "Undetermined"]),
        ("entries", ["L is", "Undetermined"]),
        ("off", ["L is", "With lr", "When made to matter"]),
        ("suspect", ["L is", "With eps=0 and lr", "Units that fit small changes"]),
        ("nearby", ["L is", "Units that fit small changes"]),
        ("no units", ["L is", "No units fit"]),
        ("none", ["L is", "No units fit"]),
    ],
)
def test_every_paragraph_is_there_where_it_is_due_and_nowhere_else(case, beginnings):
    paragraphs = [unwrapped(part) for part in printed(case, 300).split("\n\n")[1:]]
    paragraphs = [text for text in paragraphs if not re.match("loss|hyperparameter|state", text)]
    assert [text[: len(beginning)] for text, beginning in zip(paragraphs, beginnings)] == beginnings
    assert len(paragraphs) == len(beginnings)


def test_what_is_undetermined_is_listed():
    assert "Undetermined: lr, boost. No run shows an effect" in unwrapped(printed("undetermined"))
    assert "Undetermined" not in printed("bitwise")


# The terminal.


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_overflows_and_nothing_is_cut_off(case, width):
    text = printed(case, width)
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text and "None" not in text and "\n\n\n" not in text
    if width >= 60:  # wide enough for names, numbers and units of these
        assert text.count("\n\n") == printed(case, 300).count("\n\n")
        assert unwrapped(text) == unwrapped(printed(case, 300))


def test_colours_are_for_terminals_only():
    assert "\x1b[" not in printed("bitwise")
    terminal = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[1;32mconsistent" in printed("bitwise", **terminal)
    assert "\x1b[1;31minconsistent" in printed("nearby", **terminal)


def test_values_are_shown_as_they_are():
    assert rows(printed("odd"))["kind"] == ["[red]b[/red]", "not probed", "?", "?"]
    assert "Measured with kind=[red]b[/red]." in printed("kind")


@pytest.mark.parametrize("case", CASES)
def test_sentences_start_with_capitals_and_end_with_full_stops(case):
    verdict, *parts = printed(case, 300).strip().split("\n\n")
    for sentences in (verdict, *parts):
        if "hyperparameter " not in sentences and not sentences.startswith("state "):
            assert sentences.strip().endswith(".")
            assert all(each[0].isupper() or each[0].isdigit() for each in sentences.split(". ")[1:] if each)
