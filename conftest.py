"""What all tests share.  Hypothesis draws the same examples in every run, so a test that passes here passes in CI."""

import gc
import os

# Progress bars show times, which differ.  It is set before torch imports tqdm, which reads it then; nbval's kernels
# inherit it.
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
from hypothesis import settings

from scaleinv._threads import threads

settings.register_profile("scaleinv", deadline=None, derandomize=True)
settings.load_profile("scaleinv")


def pytest_addoption(parser):
    parser.addoption("--device", help="run tests/library/device, too, with tensors on this device, such as cuda")


def pytest_collection_finish():
    """Spare what all tests share, some millions of objects, each search for garbage and for what holds an object."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread():
    """For tests on tensors of a few thousand entries."""
    with threads(1):
        yield
