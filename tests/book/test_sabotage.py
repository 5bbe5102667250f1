"""The sabotages of the book start from copies of what its cells have made, and no notebook is without sabotages."""

import json
from pathlib import Path

import pytest
import torch

from tests.book.sabotage import NOTEBOOKS, Notebook, Snapshot
from tests.book.slices import cells_for


def test_every_notebook_has_a_file_of_sabotages():
    files = (Path(__file__).parent / "sabotages").glob("test_*.py")
    assert sorted(path.stem.removeprefix("test_") for path in files) == sorted(NOTEBOOKS)


# What one sabotage changes is not changed for the next.

CELLS = [
    "import torch\nfrom scaleinv.book.claims import claim\nseen, model = {'all': []}, torch.nn.Linear(2, 1)\n"
    "torch.nn.init.zeros_(model.weight)\nalias, START = seen['all'], 0\ndef note(x):\n    seen['all'].append(x+START)",
    "note(1)\nbefore = model.weight.detach().clone()\nstream = (x for x in [9])\nmodel(torch.ones(2)).sum().backward()",
    "torch.optim.SGD(model.parameters(), lr=1).step()\nseen['two'] = {2}\nalias.append(2)",
    "claim('0.1', 'notes', len(seen['all']), kind='identity', equals=2)\n"
    "claim('0.2', 'sum', sum(alias), kind='identity', equals=3)\n"
    "claim('0.3', 'moved', (model.weight.detach() - before).abs().max(), kind='identity', equals=1)",
]

TEXTS = ["import torch", "note(1)", "{2}", "'sum'"]  # one of each cell
UNCHANGED = {"0.1 notes": True, "0.2 sum": True, "0.3 moved": True}


@pytest.fixture
def small_notebook(tmp_path, monkeypatch):
    cells = [{"cell_type": "code", "source": [cell]} for cell in CELLS]
    (tmp_path / "small.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr("tests.book.sabotage.BOOK", tmp_path)
    everything = [(list(UNCHANGED), "", {text: text + " "}) for text in TEXTS]
    return Notebook("small", everything)


@pytest.mark.parametrize("text", TEXTS)
def test_a_run_from_any_cell_repeats_the_notebook_however_often(small_notebook, text):
    for _ in range(3):
        held = small_notebook.sabotaged({text: text + " "}, list(UNCHANGED))
        assert held == UNCHANGED


def test_a_function_of_an_earlier_cell_sees_what_a_later_one_defines(small_notebook):
    assert not small_notebook.sabotaged({"note(1)": "START = 5\nnote(1)"}, ["0.2"])["0.2 sum"]
    assert small_notebook.sabotaged({"{2}": "{2} "}, ["0.2"]) == UNCHANGED


def test_two_names_of_one_object_stay_two_names_of_one_object():
    weights = torch.ones(4)
    names = {"a": [1], "view": weights[1:], "weights": weights, "module": json, "model": torch.nn.Linear(2, 1)}
    names |= {"b": {"a": names["a"]}, "parameters": list(names["model"].parameters())}
    snapshot, restored = Snapshot(names), {"other": 1}
    names["a"].append(2)
    weights.zero_()
    snapshot.restore(restored)
    assert set(restored) == set(names) and restored["module"] is json
    assert restored["a"] == [1] and restored["b"]["a"] is restored["a"]
    assert all(map(torch.is_tensor, restored["parameters"])) and restored["parameters"][0] is restored["model"].weight
    assert restored["weights"].sum() == 4
    restored["weights"].fill_(5)
    assert (restored["view"] == 5).all()


# Only what the claims need runs again.

SLICED = [
    "def scaled(x):\n    return FACTOR * x",
    "FACTOR, other, seen, results = 2, 3, [], {}",
    "seen.append(1)",
    "results['a'] = 1",
    "for i in seen:\n    print(other)",
    "note(results)",
    "claim('1.1', 'scaled', scaled(1))",
    "claim('1.2', 'seen', seen)",
    "claim('1.3', 'results', results)",
    "claim('1.3', 'other', other)",
    "claim('1.5', f'{other}', other)",
    "import plots\nresults, total = {}, 0\nplots.draw(results)",
    "plots.draw(other)",
    "for seen in [FACTOR]:\n    total += seen",
    "claim('1.6', 'total', total + sum(results))",
    "label, four = 'four', 4\nwords = f'{label} is'\nclaim('1.8', words, four)\nlabel = 'five'",
    "label = 'six'\nclaim('1.8', label, other)",
    "def scaled(x):\n    return x",
    "claim('1.9', 'scaled anew', scaled(1))",
]


@pytest.mark.parametrize(
    "claims, cells",
    [
        (["1.1 scaled"], [1, 6]),  # by way of a function
        (["1.2"], [1, 2, 7]),  # changed in place
        (["1.3"], [1, 3, 5, 8, 9]),
        (["1.3 res"], [1, 3, 5, 8]),
        (["1.5 3"], [1, 10]),
        (["1.1", "1.2 seen"], [1, 2, 6, 7]),
        (["1.9"], [17, 18]),
        (["1.8 four"], [15]),  # by way of names
        (["1.6"], [1, 11, 13, 14]),  # not what is assigned anew, nor what only draws
        (["1.4"], list(range(1, len(SLICED)))),  # made nowhere that can be told: all of them
    ],
)
def test_the_cells_that_claims_need(claims, cells):
    assert list(cells_for(SLICED, 1, claims)) == cells
