"""Everything runs on a second device, without a tensor on the wrong one and without a wait that nobody sees.

The device is a made-up one (device/elsewhere.py): once known to torch it stays so, and so it has a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch knows no devices that are made in Python", allow_module_level=True)
TESTS = Path(__file__).parent / "device"


def test_everything_runs_on_a_second_device():
    command = [sys.executable, "-m", "pytest", "-q", "--device", "elsewhere", "-n", "0", str(TESTS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS.parents[2])
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
