"""Hypothesis draws the same examples in every run: what passes here passes in CI."""

import os

# For nbval's kernels too: a progress bar shows times, which differ.  tqdm looks when it is imported, as it is by torch.
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
import torch
from hypothesis import settings

settings.register_profile("scaleinv", deadline=None, derandomize=True)
settings.load_profile("scaleinv")


@pytest.fixture(scope="module")
def one_thread():
    """Tensors of a few thousand entries: more threads only wait for each other, for minutes on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
