"""Everything runs on a device that has no float64, as Apple's GPUs."""

from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

import scaleinv
from scaleinv import _float64, optimizers
from scaleinv.book import data
from scaleinv.book.models import mlp
from tests.library.device import elsewhere
from tests.library.device.test_sweep import RULES
from tests.library.device.training import all_on, batches, network, optimizer_of, step


@pytest.fixture(autouse=True)
def without(device, monkeypatch):
    if device.type == elsewhere.NAME:
        monkeypatch.setattr(_float64, "WITHOUT", {"mps", elsewhere.NAME})
        monkeypatch.setattr(elsewhere, "without_float64", True)
    elif device.type not in _float64.WITHOUT:
        pytest.skip(f"{device} has float64")


def test_there_is_none(device):
    with pytest.raises(TypeError):
        torch.ones(2, device=device).double()


@pytest.mark.parametrize("cls", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
@pytest.mark.parametrize("lr", [1e-2, 1e-8])  # of the small one, float32 loses most
def test_a_training_is_recorded_audited_and_rescaled(device, cls, lr):
    frames = []
    for place in (device, torch.device("cpu")):
        model = network(place)
        optimizer = optimizer_of(model, cls=partial(cls, weight_decay=0.1), lr=lr)
        with scaleinv.Recorder(model, optimizer) as recorder:
            for batch in batches(place, 3):
                step(model, optimizer, batch)
        assert recorder.frame()["parameter_rms"].notna().all()
        frames.append(scaleinv.audit(model, optimizer).frame())
        scaleinv.rescale(model, optimizer, weight=8)
        assert all_on(place, *model.parameters())
    for column in ("gradient_rms", "measured", "below_eps", "decay_lost", "lost"):
        one, other = (frame[column].tolist() for frame in frames)
        assert one == pytest.approx(other, rel=0.01, abs=1e-6, nan_ok=True), column


def test_gradients_are_compared_and_optimizers_switched(device):
    model = network(device)
    optimizer = optimizer_of(model)
    inputs, labels = batches(device, 1)[0]
    step(model, optimizer, (inputs, labels))

    def mean():
        return cross_entropy(model(inputs), labels)

    assert scaleinv.compare_gradients(mean, lambda: 2 * mean(), model).factor == 2
    assert scaleinv.switch_optimizer(optimizer, torch.optim.SGD).groups


@pytest.mark.parametrize("name", RULES)
def test_a_rule_steps(device, name):
    params = {"w": torch.linspace(1, 2, 6, device=device).view(2, 3)}
    optimizer = getattr(optimizers, name)(lr=0.01)
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(params, state, params)
    assert updates["w"].device == params["w"].device
    assert updates["w"].isfinite().all()


def test_a_sweep_trains_on_the_cpu(device):
    pairs = partial(data.batches, 4, on=device)
    losses = scaleinv.sweep(mlp, torch.optim.Adam, pairs, {"lr": [1e-3, 1e-2]}, progress=False).losses
    assert losses.notnull().all()
