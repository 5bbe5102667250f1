"""What all tests share.  Hypothesis draws the same examples in every run: what passes here passes in CI."""

import os

# For nbval's kernels too: a progress bar shows times, which differ.  tqdm looks when it is imported, as it is by torch.
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
from hypothesis import settings

from scaleinv._threads import threads

settings.register_profile("scaleinv", deadline=None, derandomize=True)
settings.load_profile("scaleinv")


@pytest.fixture(scope="module")
def one_thread():
    """For tests on tensors of a few thousand entries."""
    with threads(1):
        yield
