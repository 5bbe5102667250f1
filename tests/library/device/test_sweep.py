"""Update rules and sweeps on the device."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from scaleinv import optimizers, sweep
from scaleinv.book import data
from scaleinv.book.models import mlp
from tests.library.device.training import step

RULES = "sgd adagrad rmsprop adadelta adam adamw adamax nadam radam lamb lion signsgd".split()
LIVE = {
    "Adam": (torch.optim.Adam, {}),
    "AdamW, foreach": (partial(torch.optim.AdamW, foreach=True), {}),
    "Adam, fused": (partial(torch.optim.Adam, fused=True), {}),
    "Adam, capturable": (partial(torch.optim.Adam, capturable=True), {}),
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    "RMSprop": (torch.optim.RMSprop, {}),
    "Muon": (torch.optim.Muon, {}),
}
STEPS, LRS = 8, [1e-3, 1e-2]


def start_of(device):
    """Parameters and gradients drawn on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"weight": (6, 5), "bias": (6,), "scalar": ()}
    draws = [{name: torch.randn(s, generator=generator) for name, s in shapes.items()} for _ in range(5)]
    return [{name: x.to(device) for name, x in each.items()} for each in draws]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("members", [None, 2])
def test_a_rule_steps_where_its_parameters_are(device, name, members):
    results = []
    for place in (device, torch.device("cpu")):
        params, *grads = start_of(place)
        lr = 0.01 if members is None else torch.tensor([0.01, 0.02])
        if members is not None:
            params, *grads = ({name: torch.stack([x, x]) for name, x in each.items()} for each in (params, *grads))
        optimizer = getattr(optimizers, name)(lr=lr)
        state = optimizer.init(params)
        for g in grads:
            updates, state = optimizer.update(g, state, params)
            params = optimizers.apply_updates(params, updates)
        assert all(x.device.type == place.type for x in params.values())
        results.append([x.cpu() for x in params.values()])
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6)


def swept(device, optimizer, grid, model=mlp, **arguments):
    batches = partial(data.batches, STEPS, 32, on=device)
    return sweep(model, optimizer, batches, grid, progress=False, **arguments)


def single(device, factory, lr, model=mlp, seed=0):
    made = model(seed=seed).to(device)
    optimizer = factory(made.parameters(), lr=lr)
    return torch.stack([step(made, optimizer, batch) for batch in data.batches(STEPS, 32, seed=seed, on=device)])


def matrices(seed=0):
    """Of an MLP that Muon can train: matrices only."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16, bias=False), nn.Tanh(), nn.Linear(16, 10, bias=False))


@pytest.mark.parametrize("name", LIVE)
def test_members_of_a_live_optimizer_are_its_single_runs(device, name):
    if "capturable" in name and device.type == "cpu":
        pytest.skip("no optimizer is capturable on the CPU")
    factory, settings = LIVE[name]
    model = matrices if name == "Muon" else mlp
    factory = partial(factory, **settings)
    losses = swept(device, factory, {"lr": LRS}, model).losses
    assert losses.dims == ("lr", "seed", "step")
    for lr in LRS:
        expected = single(device, factory, lr, model).cpu().numpy()
        np.testing.assert_allclose(losses.sel(lr=lr, seed=0), expected, rtol=1e-4)


def test_members_of_a_rule_are_the_single_runs(device):
    losses = swept(device, optimizers.adam, {"lr": LRS, "weight": [1.0, 8.0]}, seeds=[0, 1]).losses
    for lr in LRS:
        for seed in (0, 1):
            expected = single(device, torch.optim.Adam, lr, seed=seed).cpu().numpy()
            np.testing.assert_allclose(losses.sel(lr=lr, weight=1.0, seed=seed), expected, rtol=1e-4)


def test_widths_are_trained_side_by_side(device):
    losses = swept(device, torch.optim.Adam, {"lr": LRS, "width": [8, 16]}).losses
    expected = single(device, torch.optim.Adam, LRS[0], partial(mlp, 8)).cpu().numpy()
    np.testing.assert_allclose(losses.sel(lr=LRS[0], width=8, seed=0), expected, rtol=1e-4)


def remembering(seed=0, share=0.5):
    """With dropout, and with running means."""
    torch.manual_seed(seed)
    layers = [nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(share), nn.Linear(16, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def test_dropout_draws_on_the_device_and_again_the_same(device):
    def losses(share):
        return swept(device, torch.optim.Adam, {"lr": LRS}, partial(remembering, share=share)).losses.values

    once, without = losses(0.5), losses(0.0)
    assert np.isfinite(once).all()
    assert np.array_equal(losses(0.5), once)
    assert not np.allclose(without, once, rtol=1e-3)
    expected = single(device, torch.optim.Adam, LRS[0], partial(remembering, share=0.0)).cpu().numpy()
    np.testing.assert_allclose(without[0, 0], expected, rtol=1e-4)


@pytest.mark.parametrize("optimizer", [optimizers.adam, torch.optim.Adam])
def test_no_step_of_a_sweep_waits(device, optimizer, waited):
    counts = []
    for steps in (4, 12):
        pairs = list(data.batches(steps, 32, on=device))

        def sweep_them(pairs=pairs):
            sweep(mlp, optimizer, lambda seed: pairs, {"lr": LRS}, progress=False)

        counts.append(waited(sweep_them))
    assert counts[0] == counts[1]


def test_a_sweep_leaves_the_random_numbers_as_they_are(device):
    torch.manual_seed(0)
    expected = torch.rand(3, device=device)
    torch.manual_seed(0)

    def model(seed):
        torch.manual_seed(seed)
        return mlp(seed=seed)

    swept(device, torch.optim.Adam, {"lr": LRS}, model, seeds=[3])
    assert torch.equal(torch.rand(3, device=device), expected)
