"""What a sweep leaves as it was."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from runs import digits, identical, swept
from torch import nn

from scaleinv import optimizers, sweep
from scaleinv.book.models import mlp

pytestmark = pytest.mark.usefixtures("one_thread")


def state():
    return torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_rng_state().tolist()


def noisy(seed):
    """A model that seeds the global generator, as careless ones do."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def failing(seed):
    """Fails once training has begun: in the second seed, of which the model is made by the job only."""
    if seed:
        raise ZeroDivisionError("a model's own")
    return noisy(seed)


@pytest.mark.parametrize("grad", [True, False])
def test_torchs_global_state_stays(grad, threads):
    threads(2)
    with torch.set_grad_enabled(grad):
        before = state()
        result = swept(noisy, seeds=(0, 1))
        assert state() == before
        with pytest.raises(ZeroDivisionError, match="a model's own"):
            swept(failing, seeds=(0, 1))
        assert state() == before
        with pytest.raises(ValueError):
            swept(noisy, loss_fn=lambda outputs, targets: outputs)
        assert state() == before
    threads(1)
    assert identical(result, swept(noisy, seeds=(0, 1)))


def test_models_and_batches_stay():
    model, batches = mlp(), list(digits()(seed=0))
    copies = [p.detach().clone() for p in model.parameters()], [(x.clone(), y.clone()) for x, y in batches]
    swept(lambda seed: model, batches=lambda seed: batches)
    assert all(map(torch.equal, model.parameters(), copies[0])) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(a, b) for old, new in zip(copies[1], batches) for a, b in zip(old, new))


def test_an_executor_works_on_after_a_sweep():
    with ThreadPoolExecutor(1) as executor:
        swept(executor=executor)
        assert executor.submit(sum, [1, 2]).result() == 3


def test_the_rest_is_not_trained_once_a_job_has_failed():
    started = []

    def model(seed):
        started.append(seed)
        return failing(seed)

    with pytest.raises(ZeroDivisionError):
        swept(model, seeds=range(50))
    assert max(started) < 25


def test_a_bar_can_be_turned_off_for_all(capfd):
    assert os.environ["TQDM_DISABLE"] == "1"  # in conftest.py
    sweep(mlp, optimizers.adam, digits(), {"lr": [0.1]})
    assert capfd.readouterr() == ("", "")
