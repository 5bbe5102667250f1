"""The atlas of units: its data is complete, what a measurement gives, and explained by lines of code that exist."""

import importlib.util
import inspect
import json
import math
import re
import runpy
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from scaleinv import Unit, atlas

pytestmark = pytest.mark.usefixtures("one_thread")

TOOL = runpy.run_path(Path(__file__).parents[3] / "tools" / "atlas.py")
from atlas_calls import HYPERPARAMETERS, with_fused_backward, with_gradients, with_muon_groups  # noqa: E402
from atlas_packages import ELSEWHERE, PACKAGES, is_installed  # noqa: E402

LINES = atlas.lines()
SAMPLE = [  # chapter 7 measures all of torch.optim again
    "torch.optim.AdamW",
    "torch.optim.RAdam",  # no units
    "pytorch_optimizer.AdaGO",  # groups for Muon
    "pytorch_optimizer.AdaHessian",  # second derivatives
    "pytorch_optimizer.AdamG",  # an exponent in hundredths
    "pytorch_optimizer.AdamMini",  # a model
    "pytorch_optimizer.DeMo",  # a process group
    "pytorch_optimizer.EmoNavi",  # a closure
    "pytorch_optimizer.Kate",
    "pytorch_optimizer.LOMO",  # a backward pass of its own
    "pytorch_optimizer.LaProp",  # a hidden constant
    "pytorch_optimizer.LoRARite",  # a threshold that acts by a jump
    "pytorch_optimizer.MADGRAD",  # a suspect
    "pytorch_optimizer.SophiaH",
    "torch_optimizer.SGDP",
    "prodigyopt.Prodigy",  # redundant hyperparameters
    "schedulefree.SGDScheduleFree",  # a switch
    "sophia_opt.SophiaG",
    "timm.optim.AdamWLegacy",  # a package without its __init__
    "composer.optim.DecoupledAdamW",  # a decay that is not multiplied by lr
    "optimi.AdamW(decouple_lr)",  # a variant
    "optimi.RAdam",
    "lomo_optim.Lomo",
    "adam_mini.Adam_mini",
    "adopt.ADOPT",
    "dadaptation.DAdaptSGD",
    "SM3.SM3",
    "bitsandbytes.optim.LAMB",  # float32 whatever it is given
    "torchao.optim.AdamW8bit",  # a state of few bits
]
EXACT = (
    "module", "name", "given", "verdict", "floats", "degree", "lr", "units", "nearby", "undetermined", "suspect",
    "decay", "fixed_decay",
)  # fmt: skip


def skip_if_missing(key):
    """Some packages are not in the environment of the project; tools/atlas_packages.py says why."""
    module = LINES[key]["module"]
    if not is_installed(module):
        assert module in ELSEWHERE
        pytest.skip(f"{module} is not installed: {PACKAGES[module]}=={atlas.versions()[module]}")


@pytest.fixture(autouse=True)
def no_process_group_remains():
    """Some optimizers run in a process group, which other tests of this process must not find."""
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_the_atlas_has_every_optimizer_of_the_packages_and_no_other():
    assert list(LINES) == [".".join(key) for key in TOOL["all_optimizers"]()]
    assert len(LINES) > 290


def test_the_measured_versions_are_installed():
    installed = {module: version(name) for module, name in PACKAGES.items() if is_installed(module)}
    assert atlas.versions().keys() == PACKAGES.keys() and atlas.versions().items() >= installed.items()
    assert set(PACKAGES) - set(installed) <= set(ELSEWHERE)


def test_what_is_given_is_given_to_an_optimizer_of_the_atlas():
    assert {".".join(key) for key in HYPERPARAMETERS} <= LINES.keys()


def measured_again(key):
    line = TOOL["measure"](LINES[key]["module"], LINES[key]["name"])
    return {name: line[name] for name in EXACT if name in line}, line


def words_of(line):
    """The symmetries of a line in words, or why there are none."""
    return {name: line["symmetry"][name] for name in ("scales", "rotations", "reason") if name in line["symmetry"]}


@pytest.mark.parametrize("key", SAMPLE)
def test_a_new_measurement_gives_the_stored_line(key):
    skip_if_missing(key)
    stored = LINES[key]
    exact, line = measured_again(key)
    assert exact == {name: stored[name] for name in EXACT if name in stored}
    assert words_of(line) == words_of(stored)
    assert line["inconsistent"].keys() == stored["inconsistent"].keys()
    if stored["verdict"] == "inconsistent":  # the residual depends on rounding
        assert line["residual"] == pytest.approx(stored["residual"], rel=0.5)


def test_sabotage_a_changed_line_is_noticed():
    key = "torch.optim.AdamW"
    changed = LINES[key] | {"units": LINES[key]["units"] | {"weight_decay": "L W⁻²"}}
    assert measured_again(key)[0]["units"] != changed["units"]


@pytest.mark.parametrize("make", [with_muon_groups, with_gradients, with_fused_backward])
def test_a_factory_has_the_name_and_the_defaults_of_its_class(make):
    def init(self, params, lr=0.1, eps=1e-8):
        pass

    cls = type("Some", (), {"__init__": init})
    factory = make(cls)
    assert factory.__name__ == "Some"
    assert [p.default for p in inspect.signature(factory).parameters.values()][1:] == [0.1, 1e-8]


SOURCES = json.loads((atlas.FOLDER / "sources.json").read_text())


def test_a_line_of_code_is_named_for_every_inconsistent_optimizer():
    assert SOURCES.keys() <= LINES.keys()
    assert {key for key, line in LINES.items() if line["verdict"] == "inconsistent"} <= SOURCES.keys()


def source_file(key, name):
    cls = TOOL["class_of"](LINES[key]["module"], LINES[key]["name"])
    package = Path(importlib.util.find_spec(cls.__module__.split(".")[0]).origin).parent
    near = [package / "optimizer", Path(inspect.getsourcefile(cls)).parent, package, package.parent]
    near += [path.parent for path in package.rglob(Path(name).name)]
    return next((folder / name for folder in near if (folder / name).exists()), None)


@pytest.mark.parametrize("key", SOURCES)
def test_the_lines_of_code_exist(key):
    skip_if_missing(key)
    for name, numbers in re.findall(r"([\w/]+\.py)(?::([\d, ]+))?", SOURCES[key]["line"]):
        path = source_file(key, name)
        assert path is not None, name
        length = len(path.read_text().splitlines())
        assert all(0 < int(number) <= length for number in re.findall(r"\d+", numbers))


def test_the_table_shows_units_as_text():
    frame = atlas.atlas()
    assert list(frame.index) == list(LINES)
    adamw = frame.loc["torch.optim.AdamW"]
    assert (adamw.lr, adamw.eps, adamw.weight_decay) == ("W", "L W⁻¹", "W⁻¹")
    assert (adamw.L, adamw.W, adamw.degree) == (0, 1, "0") and adamw.verdict == "bit for bit"
    assert (adamw.scales, adamw.rotations) == ("entry", "none")
    unknown = frame.index[(frame.scales == "?") & (frame.verdict != "not run")]
    assert list(unknown) == ["pytorch_optimizer.LoRARite"]  # it takes pairs of factors
    radam = frame.loc["torch.optim.RAdam"]
    assert radam.lr == "none" and math.isnan(radam.L) and radam.verdict == "inconsistent" and radam.fault
    laprop = frame.loc["pytorch_optimizer.LaProp"]
    assert laprop.lr == "(W)" and (laprop.L, laprop.W) == (0, 1)
    assert frame.loc["torch.optim.SGD"].eps == "–"
    assert frame.loc["pytorch_optimizer.Prodigy"].lr == "?"
    assert frame.loc["pytorch_optimizer.Kate"].other == "delta: L⁻² W²"
    came = frame.loc["came_pytorch.CAME"]
    assert came.eps == "[0] L² W⁻², [1] 1" and came.other == ""
    assert frame.loc["torch.optim.Adafactor"].eps == "[1] W"


def test_the_exponents_of_lr_are_those_of_its_unit():
    frame = atlas.atlas()
    for key, row in frame.dropna(subset="L").iterrows():
        unit = str(Unit(*map(Fraction, LINES[key]["lr"])))
        assert row.lr in (unit, f"({unit})"), key
