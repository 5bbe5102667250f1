"""Every claim of the book can fail: for each there is a sabotage of its notebook's own code that makes it fail.

A notebook's cells run once as they are, those that a sabotage needs (``slices``). Before a cell that a sabotage changes
first, the run pauses, and the sabotaged cells run on from there, in a copy of what the names mean; again those that the
claims need.
The sabotages are in ``sabotages/``, in a test file named like the notebook without its number; these files import the
tests at the end of this one.

A sabotage changes what is measured (the data, the model, the optimizer, the rule), never the claim itself or what it
predicted: text inside a call of ``claim`` or ``predict`` is left alone.
"""

import ast
import copy
import io
import json
import pickle
import re
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, GeneratorType, ModuleType

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.artist import Artist

from scaleinv.book import claims
from tests.book.slices import cells_for, is_named

BOOK = Path(__file__).parents[2] / "book"
NOTEBOOKS = {path.stem.partition("_")[2]: path.stem for path in sorted(BOOK.glob("*.ipynb"))}


def code_cells(name):
    return [cell for cell in json.loads((BOOK / f"{name}.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]


def sources_of(name):
    """The code cells of a notebook."""
    return ["".join(cell["source"]) for cell in code_cells(name)]


def claims_made(name):
    """Number and statement, and what was measured, of each claim that a notebook's stored outputs show.

    That a run shows the same is another test (nbval).
    """
    outputs = [output for cell in code_cells(name) for output in cell["outputs"]]
    lines = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    found = [re.match(r"claim (\S+) \(\w+\): (.*)", line) for line in lines]
    return [f"{match[1]} {match[2]}" for match in found if match]


def stated(source):
    """The calls of claim and predict in a cell, as (first character, last) of its text."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    return [
        (starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("claim", "predict")
    ]


def inside_a_claim(source, text):
    """Whether the text occurs inside a call of claim or predict."""
    encoded, wanted = source.encode(), text.encode()
    places = [match.span() for match in re.finditer(re.escape(wanted), encoded)]
    return any(first < end and start < last for start, end in places for first, last in stated(source))


def first_changed(sources, replacements):
    """The index of the first cell that the replacements change; 0 if there is none."""
    return next((i for i, source in enumerate(sources) if source != replaced(source, replacements)), 0)


class Notebook:
    """The code of a notebook, which has run up to some cell, and a copy of what its names then meant.

    Args:
        name: the notebook's file, without its suffix.
        sabotages: those that will be made, as (claims, meaning, replacements); cells that none of them needs as they
            are do not run.
    """

    def __init__(self, name, sabotages):
        self.sources = sources_of(name)
        self.needed = {i for wanted, _, replacements in sabotages for i in self.before(replacements, wanted)}
        self.namespace = {}  # for all runs: the functions that the notebook defines have this dict as their globals
        self.begin()

    def begin(self):
        self.position, self.snapshot = 0, Snapshot({})

    def before(self, replacements, wanted):
        """The cells before the first one that the replacements change, that the wanted claims need."""
        start = first_changed(self.sources, replacements)
        cells = cells_for([replaced(source, replacements) for source in self.sources], 0, wanted)
        return [i for i in cells if i < start]

    def run_to(self, position):
        """Make the names what they are before the cell at ``position``, by running the cells that have not run yet."""
        if position < self.position:
            self.begin()
        self.snapshot.restore(self.namespace)
        if position > self.position:
            for i in range(self.position, position):
                if i in self.needed:
                    run(self.sources[i], self.namespace)
            self.position, self.snapshot = position, Snapshot(self.namespace)

    def sabotaged(self, replacements, wanted):
        """claim → whether it held, for the claims of the cells that the wanted ones need."""
        missing = [text for text in replacements if not any(text in source for source in self.sources)]
        assert not missing, f"not in the notebook any more: {missing}"
        start, held = first_changed(self.sources, replacements), {}
        self.run_to(start)
        for i in cells_for([replaced(source, replacements) for source in self.sources], start, wanted):
            held |= run(replaced(self.sources[i], replacements), self.namespace)
        missing = [claim for claim in wanted if not any(is_named(made, claim) for made in held)]
        assert not missing, f"of {wanted} only {list(held)} were made"
        return held


class Snapshot:
    """A copy of a namespace, so that what a run changes in place is not changed for the next one.

    What cannot be copied, or is not changed, is shared: modules, classes, functions, generators and figures, and
    tensors with hooks, which a copy would lose. Two names of one object are two names of its copy.
    """

    SHARED = (ModuleType, type, FunctionType, BuiltinFunctionType, GeneratorType, Artist, torch.finfo)

    def __init__(self, namespace):
        self.kept, self.copied, memo, file = [], [], {}, io.BytesIO()
        places = {}

        def persistent_id(value):
            """The place of a value that is not pickled; pickle asks for that of every value it meets."""
            if id(value) not in places:
                if isinstance(value, self.SHARED) or (torch.is_tensor(value) and not is_copyable(value)):
                    places[id(value)] = ("kept", len(self.kept))
                    self.kept.append(value)
                elif torch.is_tensor(value):
                    places[id(value)] = ("copied", len(self.copied))
                    self.copied.append(copied(value, memo))
                    alive.append(value)  # or another value may get its id
                else:
                    return None
            return places[id(value)]

        alive = []
        pickler = pickle.Pickler(file)
        pickler.persistent_id = persistent_id
        pickler.dump({name: value for name, value in namespace.items() if name != "__builtins__"})
        self.pickled = file.getvalue()

    def restore(self, namespace):
        """Make the namespace what it was, with a new copy of everything that can change."""
        memo, unpickler = {}, pickle.Unpickler(io.BytesIO(self.pickled))

        def persistent_load(place):
            kind, i = place
            return self.kept[i] if kind == "kept" else copied(self.copied[i], memo)

        unpickler.persistent_load = persistent_load
        names = unpickler.load()
        namespace.clear()
        namespace.update(names)


def is_copyable(tensor):
    hooks = tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None)
    return tensor.is_leaf and not hooks


def copied(tensor, memo):
    """A copy of a tensor with its gradient; once for each memo."""
    new = copy.deepcopy(tensor, memo)
    if tensor.grad is not None and new.grad is None:
        new.grad = copy.deepcopy(tensor.grad, memo)
    return new


def replaced(source, replacements):
    """Every text replaced by its own replacement, once: two may change places."""
    for i, text in enumerate(replacements):
        source = source.replace(text, f"\0{i}\0")
    for i, new in enumerate(replacements.values()):
        source = source.replace(f"\0{i}\0", new)
    return source


def run(source, namespace):
    """claim → whether it held, for those that this cell makes."""
    held = {}

    def recording(identity, statement, *args, **kwargs):
        try:
            CLAIM(identity, statement, *args, **kwargs)
        except claims.ClaimFailed:
            held[f"{identity} {statement}"] = False
        else:
            held[f"{identity} {statement}"] = True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(claims, "claim", recording)
        patch.setattr(claims, "_show", lambda text, html: None)
        patch.setattr(claims, "_checked", [("0", "identity")])
        if "claim" in namespace:
            namespace["claim"] = recording
        exec(source, namespace)
    plt.close("all")
    return held


CLAIM = claims.claim


def in_order_of_cells(name, sabotages):
    """The sabotages of a notebook in the order of the cells from which they run, so that the notebook runs once."""
    sources = sources_of(name)
    return sorted(sabotages, key=lambda sabotage: first_changed(sources, sabotage[2]))


def test_a_sabotage_fails_its_claims(notebook, fails, replacements):
    held = notebook.sabotaged(replacements, fails)
    for claim in fails:
        named = {made: holds for made, holds in held.items() if is_named(made, claim)}
        assert named and not any(named.values()), named


def test_a_sabotage_does_not_change_a_claim_itself(notebook, request):
    texts = [text for _, _, replacements in request.module.SABOTAGES for text in replacements]
    assert [text for text in texts if any(inside_a_claim(source, text) for source in notebook.sources)] == []


def test_every_claim_has_a_sabotage(name, request):
    named = [claim for fails, _, _ in request.module.SABOTAGES for claim in fails]
    made = claims_made(name)
    assert made and not [claim for claim in made if not any(is_named(claim, name) for name in named)]
