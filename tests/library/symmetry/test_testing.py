"""Assertions for authors of optimizers: they hold, fail with what was measured, and refuse what is no assertion."""

import pytest
import torch
from torch import optim

from scaleinv import Unit
from scaleinv._cli import main
from scaleinv.testing import assert_symmetry, assert_units
from scaleinv.units import ONE, G, L, W

pytestmark = pytest.mark.usefixtures("one_thread")


class Rates(optim.Optimizer):
    """SGD and decay, whose rates are a pair, and a number without an effect."""

    def __init__(self, params, rates=(0.1, 0.01), unused=0.5):
        super().__init__(params, {"rates": rates, "unused": unused})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["rates"][0] * p.grad + group["rates"][1] * p)


def test_units_that_hold_are_returned_with_the_others():
    units = assert_units(Rates, {"unused": 0.25}, rates=("W/G", "1"))
    assert units.probed[0] == {"rates": (0.1, 0.01), "unused": 0.25} and units.undetermined == ("unused",)


def test_the_entries_of_a_tuple_are_asserted_together_or_one_by_one():
    with pytest.raises(AssertionError, match=r"rates\[1\] is 1, not L⁻¹ W²; unused is undetermined.*, not 1$"):
        assert_units(Rates, rates="W/G", unused="1")
    with pytest.raises(AssertionError, match=r"rates\[1\] is 1, not W$"):
        assert_units(Rates, **{"rates[1]": W, "rates[0]": "W/G"}, unused=None)
    with pytest.raises(ValueError, match="rates: 3 units are given, and it has 2 entries"):
        assert_units(Rates, rates=("W", "W", "W"))


def test_none_stands_for_no_unit_and_for_nothing_else():
    with pytest.raises(AssertionError, match="lr is L⁻¹ W², not none"):
        assert_units(optim.SGD, lr=None)


def test_units_that_do_not_hold_fail_with_the_reason():
    with pytest.raises(AssertionError, match=r"RAdam has no consistent units. no units fit") as caught:
        assert_units(optim.RAdam, lr="W")
    assert "lr                        no unit" in str(caught.value)


@pytest.mark.parametrize(
    "error, words, expected",
    [
        (ValueError, "no unit is given", {}),
        (ValueError, "SGD has no hyperparameter lrr; did you mean lr?", {"lrr": "W"}),
        (ValueError, "SGD has no hyperparameter unknown; it has lr, momentum", {"unknown": "W"}),
        (ValueError, "nesterov=False is not a float", {"nesterov": "1"}),
        (ValueError, "lr: 'm/s' is not a unit; write one such as", {"lr": "m/s"}),
        (TypeError, r"lr=2 is not a unit; pass a Unit, or a text", {"lr": 2}),
        (TypeError, r"betas\[1\]=2 is not a unit", {"betas": ("1", 2)}),
    ],
)
def test_what_is_no_unit_is_refused(error, words, expected):
    with pytest.raises(error, match=words):
        assert_units(optim.SGD, **expected)


def test_a_wrong_dimension_and_a_wrong_power_are_noticed():
    """Mistakes that lower a loss as well: the norm of the columns, and eps beside the square."""

    class Rows(optim.Optimizer):
        dim, power = 1, 1

        def __init__(self, params, lr=0.01, eps=1e-8):
            super().__init__(params, {"lr": lr, "eps": eps})

        @torch.no_grad()
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    norm = p.grad.norm(dim=min(self.dim, p.ndim - 1), keepdim=True)
                    p.sub_(group["lr"] * p.grad / (norm**self.power + group["eps"]) ** (1 / self.power))

    expected = {"lr": "W", "eps": "G"}
    assert_units(Rows, **expected)
    assert_symmetry(Rows, scales="row", rotations="columns")
    wrong_dimension = type("WrongDimension", (Rows,), {"dim": 0})
    assert_units(wrong_dimension, **expected)
    with pytest.raises(AssertionError, match="its scales are column, not row; its rotations are rows, not columns"):
        assert_symmetry(wrong_dimension, scales="row", rotations="columns")
    wrong_power = type("WrongPower", (Rows,), {"power": 2})
    assert_symmetry(wrong_power, scales="row", rotations="columns")
    with pytest.raises(AssertionError, match="eps is L² W⁻², not L W⁻¹"):
        assert_units(wrong_power, **expected)


def test_symmetries_are_asserted_one_by_one_and_exactly():
    assert assert_symmetry(optim.Muon, rotations=" columns,rows").scales == "tensor"
    with pytest.raises(
        AssertionError, match="Adam does not have these symmetries: its scales are entry, not row\n.*\n  factor"
    ):
        assert_symmetry(optim.Adam, scales="row")


@pytest.mark.parametrize(
    "error, words, expected",
    [
        (ValueError, "no symmetry is given", {}),
        (ValueError, "scales='rows' is not known; pass one of 'global', 'tensor'", {"scales": "rows"}),
        (ValueError, "rotations='row' is not known; pass one of 'rows', 'columns'", {"rotations": "row"}),
        (ValueError, "scales='' is not known", {"scales": ""}),
        (TypeError, "scales=3 is not a text", {"scales": 3}),
        (TypeError, "unexpected keyword argument 'scale'", {"scale": "entry"}),
    ],
)
def test_what_is_no_symmetry_is_refused(error, words, expected):
    with pytest.raises(error, match=words):
        assert_symmetry(optim.SGD, **expected)


# Units as text.


@pytest.mark.parametrize("unit", [ONE, L, W, G, W**2 / L, G**-2, L**0.5 / W**1.5, Unit(-12, 7), Unit(1 / 3, -0.48)])
def test_a_unit_is_read_as_it_is_printed(unit):
    assert Unit.parse(str(unit)) == unit


@pytest.mark.parametrize(
    "text, unit",
    [
        ("L/W", G),
        ("L W^-1", G),
        (" L * W**-1 ", G),
        ("L·W⁻¹", G),
        ("1/W", ONE / W),
        ("W / G", W / G),
        ("W^(1/2)", W**0.5),
        ("W ** ( -3 / 2 )", W**-1.5),
        ("L/W/W", L / W**2),
        ("L/W W", L),  # from left to right
    ],
)
def test_a_unit_is_read_as_it_is_typed(text, unit):
    assert Unit.parse(text) == unit


@pytest.mark.parametrize("text", ["", " ", "w", "lr", "2", "11", "W^", "W^0.5", "W^1/2", "/W", "*W", "L//W", "W^(1/0)"])
def test_what_is_no_unit_is_not_read(text):
    with pytest.raises(ValueError, match="is not a unit; write one such as"):
        Unit.parse(text)


def test_only_a_text_is_read():
    with pytest.raises(TypeError, match="text=1 is not a text"):
        Unit.parse(1)


# The commands.


@pytest.mark.parametrize(
    "words, status, begins",
    [
        ("symmetry Adam", 0, "Adam: a factor for each entry of the gradient leaves the update alone, bit for"),
        (
            "symmetry SGD --lr 0.1 --expect scales=none",
            0,
            "SGD: no factor of the gradient leaves the update alone. The",
        ),
        ("symmetry Adam --json --expect rotations=none", 0, '{\n "name": "Adam",\n "scales": "entry",'),
        ("symmetry SGD --expect scales=entry", 1, "SGD does not have these symmetries: its scales are none, not entry"),
        ("units SGD --expect lr=W^2/L --momentum 0.5", 0, "SGD: consistent."),
        ("units SGD --expect lr=W --expect momentum=1", 1, "SGD does not have these units: lr is L⁻¹ W², not W"),
    ],
)
def test_a_command_reports_and_exits_with_1_where_another_is_measured(words, status, begins, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words.split()) == status
    assert capsys.readouterr().out.startswith(begins)


@pytest.mark.parametrize(
    "words, says",
    [
        ("symmetry Adam --expect scale=entry", "--expect scale: no such symmetry; give scales=entry or rotations=none"),
        ("symmetry Adam --expect scales", "--expect 'scales' is not NAME=VALUE; give one as in --expect scales=entry"),
        ("symmetry Adam --expect scales=all", "scales='all' is not known; pass one of"),
        ("symmetry Adam --lrr 1", "--lrr is unknown: no hyperparameter of Adam; did you mean --lr?"),
        ("symmetry Adam --lr -1", "could not be run with lr=-1: ValueError: Invalid learning rate: -1"),
        ("symmetry --lr 1 Adam", "name the optimizer first, as in symmetry torch.optim.AdamW"),
        ("units Adam --expect lr=W --expect lr=L", "--expect lr is given twice"),
        ("units SGD --expect lr=X", "lr: 'X' is not a unit; write one such as"),
        ("units SGD --expect momentun=1", "SGD has no hyperparameter momentun; did you mean momentum?"),
    ],
)
def test_a_command_that_is_wrong_is_one_line_with_a_way_out(words, says, capsys):
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and says in err


def test_the_report_says_when_eps_acts(capsys):
    main(["symmetry", "Rprop"])
    assert capsys.readouterr().out.split("A factor with 0")[1].strip().endswith("gradients of 1e+18.")
    main(["symmetry", "Adam"])
    assert "where they are about 1, eps, or what" in " ".join(capsys.readouterr().out.split())
