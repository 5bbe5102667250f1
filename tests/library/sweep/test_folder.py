"""A folder to resume from."""

import re
import signal
import time
from functools import partial

import noise
import pytest
from runs import Inline, Loose, digits, identical, in_a_process, least_memory, swept
from torch import nn
from torch.nn import functional

from scaleinv import optimizers
from scaleinv.book.models import mlp

pytestmark = pytest.mark.usefixtures("one_thread")


KILLED = """
import sys, time
from pathlib import Path
import noise
from scaleinv import optimizers, sweep

folder = Path(sys.argv[1])

def batches(seed):
    while seed == 2 and (folder / "sweep").exists():  # once training has begun
        time.sleep(0.01)
    return noise.make_batches(5, seed)

grid = {"lr": [0.001, 0.01], "weight": [1.0, 8.0]}
sweep(noise.model, optimizers.adam, batches, grid, seeds=range(4), folder=folder)
"""


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npz")}


def test_a_killed_sweep_continues_and_its_bar_was_on_stderr(tmp_path):
    with in_a_process(KILLED, str(tmp_path)) as process:
        deadline = time.monotonic() + 120
        while len(files(tmp_path)) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        shown, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL and shown == "" and "/16 [" in errors
    before, inline = files(tmp_path), Inline()
    assert len(before) == 2
    (tmp_path / "3-0.partial").write_bytes(b"half")
    grid = {"lr": [0.001, 0.01], "weight": [1.0, 8.0]}
    arguments = {"model": noise.model, "batches": noise.batches(5), "grid": grid, "seeds": range(4)}
    resumed = swept(**arguments, folder=tmp_path, executor=inline)
    assert identical(resumed, swept(**arguments))
    after = files(tmp_path)
    assert len(after) == 4 and before.items() <= after.items()  # what was there was left as it was
    assert sorted(job.seed for job in inline.jobs) == [2, 3]


def test_the_folder_and_its_parents_are_made_or_there_already(tmp_path):
    folder = tmp_path / "results" / "adam"
    first = swept(folder=folder)
    assert len(files(folder)) == 1 and identical(swept(folder=folder), first)
    (tmp_path / "empty").mkdir()
    assert identical(swept(folder=tmp_path / "empty"), first) and len(files(tmp_path / "empty")) == 1


def test_a_finished_folder_trains_nothing_and_jobs_of_other_sizes_continue_it(tmp_path):
    inline, grid = Inline(), {"lr": [0.001, 0.01, 0.1, 1.0]}
    whole = swept(grid=grid, folder=tmp_path, executor=inline, memory=2 * least_memory(grid=grid))
    assert len(inline.jobs) == 2
    min(tmp_path.glob("*.npz")).unlink()
    again = Inline()
    assert identical(swept(grid=grid, folder=str(tmp_path), executor=again), whole)
    assert [job.points for job in again.jobs] == [inline.jobs[0].points]
    last = Inline()
    assert identical(swept(grid=grid, folder=tmp_path, executor=last), whole) and not last.jobs


def relu(seed):
    return mlp(activation=nn.ReLU, seed=seed)


def other_end(seed):
    """The same first batch, but other ones after it."""
    for i, (x, y) in enumerate(digits(4)(seed=seed)):
        yield x * (1 + 0.1 * i), y


def half_loss(outputs, targets):
    return functional.cross_entropy(outputs, targets) / 2


OTHERS = {
    "axis": {"grid": {"lr": [0.001, 0.02]}},
    "fixed value": {"grid": {"lr": [0.001, 0.01], "eps": 1e-6}},
    "function": {"grid": {"lr": [0.001, 0.01], "eps": lambda lr: lr / 100}},
    "order": {"grid": {"lr": [0.01, 0.001]}},
    "optimizer": {"optimizer": optimizers.adamw},
    "option": {"optimizer": partial(optimizers.adam, amsgrad=True)},
    "seeds": {"seeds": (1,)},
    "more seeds": {"seeds": (0, 1)},
    "model": {"model": partial(mlp, 16)},
    "activation": {"model": partial(mlp, activation=nn.ReLU)},
    "forward": {"model": relu},
    "batch size": {"batches": digits(4, 16)},
    "number of steps": {"batches": digits(8)},
    "later batches": {"batches": other_end},
    "loss": {"loss_fn": half_loss},
    "option of a loss": {"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.1)},
    "every": {"every": 2},
}


KEPT = {"batches": digits(4), "every": 4}


@pytest.fixture(scope="module")
def kept(one_thread, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    swept(**KEPT, folder=folder)
    return folder


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_the_folder_of_another_sweep_is_refused(other, kept):
    before, inline = files(kept), Inline()
    with pytest.raises(ValueError, match=rf"folder='{re.escape(str(kept))}' .*another folder"):
        swept(**{**KEPT, **other}, folder=kept, executor=inline)
    assert not inline.jobs and files(kept) == before


@pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), lambda outputs, targets: functional.cross_entropy(outputs, targets)]
)
def test_any_loss_may_be_kept(loss_fn, tmp_path):
    result, inline = swept(loss_fn=loss_fn, folder=tmp_path), Inline()
    assert identical(result, swept()) and identical(swept(loss_fn=loss_fn, folder=tmp_path, executor=inline), result)
    assert not inline.jobs


def test_a_folder_continues_with_new_objects_of_the_same_functions(tmp_path):
    """As another process makes them, at other addresses."""

    class Loss:
        def __call__(self, outputs, targets):
            return functional.cross_entropy(outputs, targets)

    made = [{"model": partial(mlp, activation=lambda: nn.Tanh()), "loss_fn": Loss()} for _ in range(2)]
    result, inline = swept(**made[0], folder=tmp_path), Inline()
    assert identical(swept(**made[1], folder=tmp_path, executor=inline), result) and not inline.jobs


def test_models_with_parameters_of_no_dimension_may_be_kept(tmp_path):
    result = swept(lambda seed: Loose(), folder=tmp_path)
    assert identical(swept(lambda seed: Loose(), folder=tmp_path), result)
