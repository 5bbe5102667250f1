"""The device that these tests put their tensors on: ``pytest --device cuda tests/library/device``.

Without the option they do not run; test_second_device.py runs them.
"""

import warnings

import pytest
import torch

from tests.library.device import elsewhere


def pytest_ignore_collect(collection_path, config):
    return True if collection_path.name.startswith("test_") and not config.getoption("--device") else None


@pytest.fixture(scope="session")
def device(request):
    name = request.config.getoption("--device")
    if name == elsewhere.NAME:
        elsewhere.register()
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "ieee"  # TF32 has ten bits, and the CPU has none of it
    yield torch.device(name)
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.fixture
def waited(device):
    """function(statement) → how many times the program waits for the device while the statement runs."""
    if device.type not in ("cuda", elsewhere.NAME):
        pytest.skip(f"nobody counts how often the program waits for {device}")

    def count(statement):
        if device.type == elsewhere.NAME:
            elsewhere.waits.clear()
            statement()
            return len(elsewhere.waits)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                statement()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in caught)

    return count
