"""A file of sabotages has the notebook whose name its own name has, and runs it once."""

import matplotlib
import pytest

from tests.book.sabotage import NOTEBOOKS, Notebook, in_order_of_cells


def notebook_of(module):
    return NOTEBOOKS[module.__name__.rpartition(".test_")[2]]


@pytest.fixture(scope="module")
def name(request):
    return notebook_of(request.module)


@pytest.fixture(scope="module")
def notebook(name, request):
    matplotlib.use("Agg")
    return Notebook(name, request.module.SABOTAGES)


def pytest_generate_tests(metafunc):
    if "replacements" in metafunc.fixturenames:
        sabotages = in_order_of_cells(notebook_of(metafunc.module), metafunc.module.SABOTAGES)
        cases = [
            pytest.param(fails, replacements, id=f"{', '.join(fails)}: {meaning}")
            for fails, meaning, replacements in sabotages
        ]
        metafunc.parametrize("fails, replacements", cases)
