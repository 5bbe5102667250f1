"""The explorer of book/_static/explorer.js computes what the library computes.

QuickJS, a JavaScript engine in a Python package, runs the script. The page, which needs a browser, is not tested here.
"""

import importlib.util
import json
import re
from pathlib import Path

import nbformat
import pytest
import quickjs
import torch
from matplotlib.testing.compare import compare_images
from torch import optim

from scaleinv import UNITS, convert, optimizers
from scaleinv.book.plots import COLOURS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "book" / "_static" / "explorer.js").read_text()

spec = importlib.util.spec_from_file_location("explorer", ROOT / "tools" / "explorer.py")
explorer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(explorer)

# For each of the script's optimizers, the same rule of the library and its hyperparameters at k = 1.
RULES = {
    "SGD": (optimizers.sgd, {}),
    "Adam": (optimizers.adam, {"eps": 1e-8}),
    "AdamW": (optimizers.adamw, {"eps": 1e-8, "weight_decay": 0.3}),
    "Adagrad": (optimizers.adagrad, {"eps": 1e-10}),
    "LAMB": (optimizers.lamb, {"eps": 1e-6}),
}
every_optimizer = pytest.mark.parametrize("name", RULES)
SCALES, RATES = [1 / 32, 1.0, 3.0, 10.0, 32.0], [1e-3, 1e-2, 0.03, 0.1, 0.3]

# Both compute in float64, and differ where torch fuses a product and a sum into one rounding: a few ulps, 3e-16 of the
# largest parameter of the path, which is what is measured.  The bound leaves room for other machines' fused operations.
# LAMB does not come to rest, and its path is chaotic if lr is large: at lr = 0.1 a hundred steps turn an ulp at the
# start into 1e-10.  It is compared up to lr = 0.03, where they turn it into 2e-13.
TOLERANCE = 1e-12


class Script:
    """The script's functions; their arguments and results are values that JSON can hold."""

    def __init__(self, source=SCRIPT):
        self.context = quickjs.Context()
        self.context.eval(source)

    def __call__(self, function, *arguments):
        call = f"JSON.stringify(explorer.{function}({', '.join(map(json.dumps, arguments))}))"
        return json.loads(self.context.eval(call))

    def get(self, path):
        return json.loads(self.context.eval(f"JSON.stringify(explorer.{path})"))


@pytest.fixture(scope="module")
def script():
    return Script()


def lr_at(name, k, lr):
    """The lr at k that corresponds to ``lr`` at k = 1."""
    return lr * k ** {"SGD": 2, "LAMB": 0}.get(name, 1)


def distance(script, name, k, lr):
    """The distance between the paths of the script and of the library, relative to the largest parameter."""
    rule, hyperparameters = RULES[name]
    factors = {"eps": 1 / k, "weight_decay": 1 / k}
    converted = {key: value * factors[key] for key, value in hyperparameters.items()}
    expected = explorer.train(rule, k, lr=lr_at(name, k, lr), **converted)
    path = torch.tensor(script("train", name, k, lr_at(name, k, lr)), dtype=torch.float64)
    assert path.shape == expected.shape
    return ((path - expected).abs().max() / expected.abs().max()).item()


def farthest(script, name):
    rates = [lr for lr in RATES if name != "LAMB" or lr <= 0.03]
    return max(distance(script, name, k, lr) for k in SCALES for lr in rates)


def test_the_script_offers_these_optimizers(script):
    assert list(script.get("OPTIMIZERS")) == list(RULES)


@every_optimizer
def test_the_script_trains_as_the_library_does(script, name):
    assert farthest(script, name) <= TOLERANCE


SABOTAGES = [
    ("SGD", "step: (g) => g ", "step: (g) => g.map(Math.sign) "),
    ("SGD", "- PROBLEM.minimum[i])) / k)", "- PROBLEM.minimum[i])))"),  # the chain rule's k
    ("Adam", "m: 1 - beta1 ** t", "m: 1"),  # bias correction
    ("Adam", "v: 1 - beta2 ** t", "v: 1"),
    ("Adam", 'eps: [1e-8, -1, "L W⁻¹"] }', 'eps: [1e-8, 0, "L W⁻¹"] }'),  # eps kept
    ("AdamW", "weight_decay: [0.3, -1", "weight_decay: [0.3, 0"),
    ("Adagrad", "sum + g[i] * g[i]", "0.9 * sum + g[i] * g[i]"),
    ("LAMB", "norm(w) / norm(r)", "norm(w)"),
]


@pytest.mark.parametrize("name, old, new", SABOTAGES)
def test_a_script_with_a_mistake_does_not_train_as_the_library_does(name, old, new):
    assert SCRIPT.count(old) == 1
    assert farthest(Script(SCRIPT.replace(old, new)), name) > 1000 * TOLERANCE


@every_optimizer
def test_the_other_hyperparameters_are_converted_as_the_library_does(script, name):
    of_rule = RULES[name][1]
    of_script = script("hyperparameters", name, 1)
    assert {key: value for key, value in of_script.items() if key != "betas"} == of_rule
    assert of_script["betas"] == [0.9, 0.999]
    if hasattr(optim, name):
        converted = convert(getattr(optim, name), of_rule | {"lr": 0.1}, weight=8)
        at_8 = script("hyperparameters", name, 8) | {"lr": script("outOfUnits", name, 8, 0.1)}
        assert {key: value for key, value in at_8.items() if key != "betas"} == converted


@every_optimizer
def test_the_units_are_those_of_the_library(script, name):
    optimizer = script.get(f"OPTIMIZERS.{name}")
    units = {key: [weight, unit] for key, (_, weight, unit) in optimizer["hyperparameters"].items()}
    units["lr"] = [optimizer["weight"], optimizer["unit"]]
    if name == "LAMB":
        assert units == {"lr": [0, ""], "eps": [-1, "L W⁻¹"]}
    else:
        table = UNITS[getattr(optim, name)].hyperparameters
        assert units == {key: [table[key].weight, str(table[key])] for key in units}
    assert script("outOfUnits", name, 8, 0.1) == lr_at(name, 8, 0.1)
    assert script("inUnits", name, 8, lr_at(name, 8, 0.1)) == 0.1


@every_optimizer
@pytest.mark.parametrize("lr", RATES)
def test_k_and_lr_together_change_no_bit_of_the_function(script, name, lr):
    """k is a power of two, as on the slider."""
    one = script("train", name, 1, lr)
    for k in [2.0**n for n in range(-5, 6)]:
        stored = script("train", name, k, lr_at(name, k, lr))
        assert script("functions", stored, k) == one and script("same", script("functions", stored, k), one)
        assert stored == [[x * k for x in w] for w in one]


@every_optimizer
def test_k_alone_changes_the_function_except_under_lamb(script, name):
    one, eight = (script("functions", script("train", name, k, 0.1), k) for k in (1, 8))
    assert script("same", one, eight) == (one == eight) == (name == "LAMB")


def test_the_problem_and_its_loss_are_those_of_the_picture(script):
    problem = script.get("PROBLEM")
    tensors = {"curvature": explorer.CURVATURE, "minimum": explorer.MINIMUM, "start": explorer.START}
    assert problem == {name: x.tolist() for name, x in tensors.items()} | {"steps": explorer.STEPS}
    for w in ([0.5, 3.0], [3.0, 1.0], [-2.0, 0.25]):
        point = torch.tensor(w, dtype=torch.float64, requires_grad=True)
        loss = explorer.loss(point)
        loss.backward()
        assert script("loss", w) == pytest.approx(loss.item(), rel=1e-15)
        assert script("gradient", [8 * x for x in w], 8) == pytest.approx((point.grad / 8).tolist(), rel=1e-15)


@every_optimizer
def test_the_colours_are_those_of_the_figures(script, name):
    assert script.get(f"OPTIMIZERS.{name}.colour") == COLOURS[name]


def test_without_scripts_a_picture_with_a_description_is_shown():
    chapter = nbformat.read(ROOT / "book" / "4_parameter_scale.ipynb", as_version=4)
    pages = [(ROOT / "book" / "intro.md").read_text(), *(cell.source for cell in chapter.cells)]
    pictures = [match for page in pages for match in re.findall(r"!\[(.+?)\]\((\S*explorer\.png)\)", page, re.DOTALL)]
    assert len(pictures) == 2 and all(len(alt) > 100 for alt, _ in pictures)
    assert {path for _, path in pictures} == {"_static/explorer.png"}
    assert explorer.PICTURE == ROOT / "book" / "_static" / "explorer.png"


def test_the_stored_picture_is_the_one_that_its_tool_draws(tmp_path):
    explorer.draw().savefig(tmp_path / "drawn.png")
    (tmp_path / "stored.png").write_bytes(explorer.PICTURE.read_bytes())  # the comparison writes beside it
    assert compare_images(tmp_path / "stored.png", tmp_path / "drawn.png", tol=2) is None
