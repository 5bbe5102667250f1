"""Every claim of the book can fail: for each there is a sabotage of its notebook's own code under which it does.

A notebook's cells run once as they are; a sabotage then replaces some text and runs on from the first cell it changed.
"""

import json
from pathlib import Path

import matplotlib
import pytest

from scaleinv import claims

BOOK = Path(__file__).parent.parent / "book"

# notebook → sabotages: the claims that it makes fail, what it means, and text → its replacement.
SABOTAGES = {
    "1_gradient_scale": [
        (["1.1"], "eps is kept", {"follow = convert(cls, given, loss=k)": "follow = given"}),
        (["1.2"], "Adam for RAdam", {"weights(optim.RAdam, {": "weights(optim.Adam, {"}),
        (
            ["1.3 k = 10, distance in float32", "1.3 k = 10, distance in float64"],
            "lr follows the loss, as SGD's would",
            {"convert(optim.Adam, adam, loss=10)": '{"lr": 1e-4}'},
        ),
        (
            ["1.3 k = 10, distance in bfloat16"],
            "a power of two",
            {"convert(optim.Adam, adam, loss=10), k=10.0": "convert(optim.Adam, adam, loss=8), k=8.0"},
        ),
        (["1.4 decades"], "a smaller range", {"2.0**-20, 2.0**-7": "2.0**-19, 2.0**-7"}),
        (["1.4 each tensor"], "eps is kept", {'"eps": 1e-8 * own[name]': '"eps": 1e-8'}),
        (["1.5"], "eps is kept", {"given = convert(optim.Adam, adam, loss=loss * accumulate)": "given = adam"}),
        (["1.6"], "tanh for sigmoid", {"nn.Sigmoid": "nn.Tanh"}),
        (
            ["1.7", "1.8"],
            "Adam and SGD change places",
            {"trained(optim.Adam, 1e-2)": "trained(optim.SGD, 1e-2)", "trained(optim.SGD, 10.0": "trained(optim.Adam, 10.0"},
        ),
        (
            ["1.9"],
            "eps follows",
            {"weights(optim.Adam, adam, k=k,": "weights(optim.Adam, convert(optim.Adam, adam, loss=k), k=k,"},
        ),
    ],
    "4_parameter_scale": [
        (["4.1"], "one scale in all cases", {"scale / r for": "1.0 / r for"}),
        (["4.2"], "lr follows the square of the scale, as SGD's would", {"lr=lr, eps": "lr=scale * lr, eps"}),
        (
            ["4.3 k = 8, distance of cases 1 and 2", "4.3 k = 10"],
            "eps is kept; lr is kept",
            {'{"lr": 8e-3, "eps": 1e-8 / 8}': '{"lr": 8e-3}', '{"lr": 1e-2, "eps": 1e-9}': '{"lr": 1e-3, "eps": 1e-9}'},
        ),
        (
            ["4.3 k = 8, distance of cases 3 and 4", "4.3 k = 8, distance of cases 1 and 3"],
            "lr follows the scale in case 3 too",
            {"run(make, k=8.0), run": 'run(make, k=8.0, given={"lr": 8e-3, "eps": 1e-8 / 8}), run'},
        ),
        (["4.4"], "the queries' bias for the keys'", {"s[16:32]": "s[0:16]"}),
        (["4.5"], "lr × k for lr × k²", {"0.1 * 64": "0.1 * 8", "0.1 * 8": "0.1 * 64"}),
        (
            ["4.6 Adam", "4.6 SGD"],
            "lr follows the scale",
            {"given=KEPT[cls], steps=1": "given=convert(cls, KEPT[cls], weight=k), steps=1"},
        ),
        (["4.6 Adafactor"], "eps sets the scale of every parameter", {"(1e-15, 1e-6)": "(1e-15, 1e4)"}),
        (
            ["4.7"],
            "every optimizer keeps its parameters below a constant",
            {
                "measured = {cls: infer_units(cls,": """
def clamped(cls):
    class Clamped(cls):
        def step(self, closure=None):
            loss = super().step(closure)
            for p in self.param_groups[0]["params"]:
                p.data.clamp_(-0.5, 0.5)
            return loss
    return Clamped
measured = {cls: infer_units(clamped(cls),"""
            },
        ),
        (
            ["4.8 units measured unlike"],
            "a table in which lr is a pure number",
            {"dict(entries(UNITS[cls].hyperparameters))": 'dict(entries(UNITS[cls].hyperparameters)) | {"lr": 1}'},
        ),
        (
            ["4.8 units of the table not found"],
            "a hyperparameter that cannot be switched on: nesterov forbids dampening",
            {"GIVEN = {": 'GIVEN = {optim.SGD: {"momentum": 0.9, "nesterov": True}, '},
        ),
        (
            ["4.9"],
            "the state is forgotten",
            {"weight=2.0**10, loss=2.0**-7)": "weight=2.0**10, loss=2.0**-7)\n            optimizer.state.clear()"},
        ),
        (["4.10"], "eps follows", {'given={"lr": 1e-3 * k}': 'given={"lr": 1e-3 * k, "eps": 1e-8 / k}'}),
        (["4.11"], "8 and 10 change places", {"in (8.0, 10.0)": "in (10.0, 8.0)"}),
    ],
}


class Notebook:
    """The code of a notebook, and what its names meant before each cell."""

    def __init__(self, name):
        cells = json.loads((BOOK / f"{name}.ipynb").read_text())["cells"]
        self.sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        self.before, namespace, self.claims = [], {}, []
        for source in self.sources:
            self.before.append(dict(namespace))
            self.claims += list(run(source, namespace))

    def sabotaged(self, replacements, wanted):
        """claim → whether it held, for the claims made up to the last one wanted."""
        sources = [replaced(source, replacements) for source in self.sources]
        changed = [i for i, source in enumerate(sources) if source != self.sources[i]]
        missing = [text for text in replacements if not any(text in source for source in self.sources)]
        assert not missing, f"not in the notebook any more: {missing}"
        namespace, held = dict(self.before[changed[0]]), {}
        for source in sources[changed[0] :]:
            held |= run(source, namespace)
            if all(any(is_named(made, claim) for made in held) for claim in wanted):
                return held
        raise AssertionError(f"of {wanted} only {list(held)} were made")


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
        patch.setattr(claims, "_show", lambda line: None)
        patch.setattr(claims, "_held", [])
        if "claim" in namespace:
            namespace["claim"] = recording
        exec(source, namespace)
    return held


CLAIM = claims.claim


@pytest.fixture(scope="module")
def notebooks():
    matplotlib.use("Agg")
    cache = {}
    return lambda name: cache.get(name) or cache.setdefault(name, Notebook(name))


@pytest.mark.parametrize(
    "name, fails, replacements",
    [
        pytest.param(name, fails, replacements, id=f"{', '.join(fails)}: {meaning}")
        for name, sabotages in SABOTAGES.items()
        for fails, meaning, replacements in sabotages
    ],
)
def test_a_sabotage_fails_its_claims(notebooks, name, fails, replacements):
    held = notebooks(name).sabotaged(replacements, fails)
    for claim in fails:
        named = {made: holds for made, holds in held.items() if is_named(made, claim)}
        assert named and not any(named.values()), named


def is_named(made, claim):
    """"4.1" names all statements of claim 4.1 and none of 4.10."""
    return made == claim or made.startswith(claim + " " * (" " not in claim))


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_every_claim_has_a_sabotage(notebooks, path):
    named = [claim for fails, _, _ in SABOTAGES.get(path.stem, []) for claim in fails]
    made = notebooks(path.stem).claims
    assert made and not [claim for claim in made if not any(is_named(claim, name) for name in named)]
