"""Every claim of the book can fail: for each there is a sabotage of its notebook's own code under which it does.

A notebook's cells run once as they are; a sabotage then replaces some text and runs on from the first cell it changed.
The sabotages lie in ``sabotages/``, in a file named as the notebook without its number.
"""

import json
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

from scaleinv.book import claims

BOOK = Path(__file__).parents[2] / "book"
NOTEBOOKS = {path.stem.partition("_")[2]: path.stem for path in sorted(BOOK.glob("*.ipynb"))}
SABOTAGES = {
    NOTEBOOKS[path.stem]: runpy.run_path(path)["SABOTAGES"]
    for path in sorted((Path(__file__).parent / "sabotages").glob("*.py"))
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
            plt.close("all")
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
        patch.setattr(claims, "_show", lambda text, html: None)
        patch.setattr(claims, "_checked", ["0"])
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
        pytest.param(name, fails, replacements, id=f"{name}: {', '.join(fails)}: {meaning}")
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
    """ "4.1" names all statements of claim 4.1 and none of 4.10."""
    return made == claim or made.startswith(claim + " " * (" " not in claim))


@pytest.mark.parametrize("name", sorted(path.stem for path in BOOK.glob("*.ipynb")))
def test_every_claim_has_a_sabotage(notebooks, name):
    named = [claim for fails, _, _ in SABOTAGES.get(name, []) for claim in fails]
    made = notebooks(name).claims
    assert made and not [claim for claim in made if not any(is_named(claim, name) for name in named)]
