"""The examples in the docstrings run, each with no names but those that it imports."""

import doctest
import importlib
import io
import pkgutil

import matplotlib
import pytest

import scaleinv

MODULES = ["scaleinv", *(module.name for module in pkgutil.walk_packages(scaleinv.__path__, "scaleinv."))]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """Examples run in an empty folder, print in 80 columns and draw on no screen."""
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    finder = doctest.DocTestFinder(exclude_empty=True)  # finds functions that a decorator has wrapped, too
    runner, report = doctest.DocTestRunner(), io.StringIO()
    for test in finder.find(importlib.import_module(name), globs={}):
        runner.run(test, out=report.write)
    assert runner.failures == 0, report.getvalue()
