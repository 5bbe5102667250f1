"""The names of the package: public ones resolve when they are used, and ``import scaleinv`` imports nothing else."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import scaleinv

HEAVY = {"IPython", "matplotlib", "pandas", "rich", "scipy", "sklearn", "torch", "tqdm", "xarray"}
SOURCE = Path(scaleinv.__file__).read_text()


def fresh(code):
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_imports_nothing_heavy():
    code = "import sys, scaleinv; print(sorted({name.split('.')[0] for name in sys.modules}))"
    assert HEAVY & set(ast.literal_eval(fresh(code))) == set()


def test_the_small_modules_import_no_tables_or_plots():
    names = "scaleinv.Unit, scaleinv.changes, scaleinv.optimizers, scaleinv.laws"
    code = f"import sys, scaleinv; {names}; print(sorted({{n.split('.')[0] for n in sys.modules}}))"
    assert set(ast.literal_eval(fresh(code))) & {"IPython", "matplotlib", "pandas", "sklearn", "xarray"} == set()


README_NAMES = [
    "scaleinv.atlas.atlas()", "scaleinv.optimizers.adam", "scaleinv.laws.update_rms", "scaleinv.changes.gain(2)",
    "scaleinv.units.W", "scaleinv.convert", "scaleinv.sweep", "scaleinv.reparam.parameter_scales", "scaleinv.audit",
    "scaleinv.book.models",
]  # fmt: skip
RESOLVED = """
import sys
for expression in {expressions}:
    for name in [name for name in sys.modules if name.split(".")[0] == "scaleinv"]:
        del sys.modules[name]
    import scaleinv
    if eval(expression) is None:
        print(expression)
"""


def test_what_the_readme_names_resolves_after_a_bare_import():
    assert fresh(RESOLVED.format(expressions=README_NAMES)) == ""


def test_a_star_import_brings_every_public_name():
    assert fresh("from scaleinv import *; import scaleinv; print(set(scaleinv.__all__) <= set(globals()))") == "True"


def test_every_name_resolves_and_has_the_home_that_is_written():
    modules = [name for name in scaleinv.__all__ if inspect.ismodule(getattr(scaleinv, name))]
    assert {*modules, *scaleinv._HOMES} == set(scaleinv.__all__)
    assert len(scaleinv.__all__) == len(set(scaleinv.__all__))
    for name, home in scaleinv._HOMES.items():
        module = importlib.import_module(f"scaleinv.{home}")
        assert getattr(scaleinv, name) is getattr(module, name)
        assert name in module.__all__


def test_a_type_checker_sees_the_same_names():
    block = next(node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    homes = {name: f"scaleinv.{home}" for name, home in scaleinv._HOMES.items()}
    assert seen == {name: homes.get(name, "scaleinv") for name in scaleinv.__all__}


def test_names_are_listed_once_and_sorted():
    listed = scaleinv.__dir__()
    assert listed == sorted(set(listed))
    assert {name for name in listed if not name.startswith("__")} == set(scaleinv.__all__)
    assert fresh("import scaleinv; print(sorted(set(dir(scaleinv))))") == str(
        sorted(ast.literal_eval(fresh("import scaleinv; print(dir(scaleinv))")))
    )


@pytest.mark.parametrize(
    "name, words",
    [
        ("infer_unit", "did you mean infer_units"),
        ("Unts", "did you mean Units"),
        ("scale_parameter", "did you mean scale_parameters"),
        ("zzzzzz", "it has UNITS, Audit"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_near_ones(name, words):
    with pytest.raises(AttributeError, match=f"module 'scaleinv' has no attribute '{name}'; {words}"):
        getattr(scaleinv, name)
    assert not hasattr(scaleinv, name)


@pytest.mark.parametrize("name", scaleinv._HOMES)
def test_no_module_is_named_as_a_public_name(name):
    with pytest.raises(ModuleNotFoundError, match=f"No module named 'scaleinv.{name}'"):
        importlib.import_module(f"scaleinv.{name}")


def test_the_version_is_that_of_the_package():
    assert scaleinv.__version__ == importlib.import_module("scaleinv._version").__version__
    assert scaleinv.__version__[0].isdigit()
