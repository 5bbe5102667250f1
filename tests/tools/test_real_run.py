"""tools/real_run.py goes on where it was killed, and stores what the chapter reads; on a tiny network."""

import importlib.util
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scaleinv.book.real_run import Settings, dataset

TOOL = Path(__file__).resolve().parents[2] / "tools" / "real_run.py"
TINY = Settings(width=8, depth=1, heads=2, length=8, size=4, steps=100, warmup=10)
# The process ends at the worst moment: its third checkpoint is written, and not yet in place.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.tools.test_real_run import TINY, begun, real_run

replace, saved = os.replace, []

def replace_or_die(partial, path):
    saved.append(path)
    if len(saved) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(partial, path)

real_run.SAVED_EVERY, real_run.SNAPSHOTS, os.replace = 0.0, (), replace_or_die
begun(TINY, Path(sys.argv[1])).train()
"""

spec = importlib.util.spec_from_file_location("real_run", TOOL)
real_run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real_run)


def characters():
    return torch.randint(32, 127, (4000,), generator=torch.Generator().manual_seed(0))


def begun(settings, folder):
    folder.mkdir(exist_ok=True)
    return real_run.Run(settings, folder, characters())


def killed(folder):
    """A folder in which a process was killed."""
    folder.mkdir()
    result = subprocess.run([sys.executable, "-c", KILLED, str(folder)], cwd=TOOL.parent.parent, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    return folder


def test_a_killed_run_goes_on_to_the_same_end(tmp_path):
    whole = begun(TINY, tmp_path / "whole")
    whole.train()
    resumed = begun(TINY, killed(tmp_path / "killed"))
    assert resumed.step == 2 * real_run.EVERY
    resumed.train()
    expected, arrays = whole.arrays(), resumed.arrays()
    assert arrays.keys() == expected.keys()
    for key in expected:
        np.testing.assert_array_equal(arrays[key], expected[key], err_msg=key)
    assert len(expected["step: loss"]) == TINY.steps
    assert expected["recorded: recorded"].tolist() == [*range(1, TINY.steps, real_run.EVERY)]
    for p, q in zip(whole.model.parameters(), resumed.model.parameters()):
        assert torch.equal(p, q)


def test_other_settings_are_refused_and_nothing_is_written(tmp_path):
    begun(replace(TINY, steps=20), tmp_path).train()
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(SystemExit, match="other lr, eps; pass another folder"):
        begun(replace(TINY, steps=20, lr=0.1, eps=0.1), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_what_is_stored(tmp_path):
    stored = tmp_path / "stored.npz"
    real_run.main(tmp_path / "run", stored, TINY, characters())
    with np.load(stored) as arrays:
        data = dataset(dict(arrays))
    first = data.sel(recorded=1)
    assert data.loss[0] > data.loss[-10:].mean() > 0
    assert data.attrs["lr"] == TINY.lr and len(data.attrs["sha256"]) == 64
    # Adam's first step is lr·sign(g), which eps shortens where g is near it
    sure = first.eps_share.values < 1e-3
    assert sure.sum() > 10
    np.testing.assert_allclose(first.adam_rms.values[sure], 1, atol=2e-3)
    # w − lr·(m̂/D + λ·w), whose square is known from those of its parts
    lr, decay = (
        data.lr.values[0],
        np.where([name.endswith("bias") or "norm" in name for name in data.parameter.values], 0, 1),
    )
    square = first.adam_rms**2 + 2 * decay * first.along + (decay * first.parameter_rms) ** 2
    np.testing.assert_allclose(first.update_rms, lr * np.sqrt(square), rtol=0.01)
    # the start and the end of the way
    assert (data.moved > 0).all() and data.snapshot.values.tolist() == [100]
    np.testing.assert_allclose(data.sharpness_error / data.sharpness, 0, atol=0.2)
    assert data.attrs["other_units"]["weights that differ"] == data.attrs["other_units"]["losses that differ"] == 0
