"""``changes.batch`` and ``changes.horizon``: half-lives, memory and noise per example, and how far that reaches."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from scaleinv import UNITS, Change, changes, convert, infer_units, rescale
from scaleinv.laws import equilibrium_rms
from tests.library.units.shared import text_with

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = {
    optim.SGD: {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2},
    optim.Adam: {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 1e-2},
    optim.AdamW: {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    optim.RMSprop: {"lr": 1e-2, "alpha": 0.99, "eps": 1e-6, "momentum": 0.5, "weight_decay": 1e-2},
}
BETAS = pytest.approx((0.6561, 0.99**4), rel=1e-12)
TIMES_FOUR = {  # what is new at four times the batch
    optim.SGD: {"lr": 0.4 * 3.439, "momentum": 0.6561},
    optim.Adam: {"lr": 0.02, "betas": BETAS, "eps": 5e-7},
    optim.AdamW: {"lr": 0.02, "betas": BETAS, "eps": 5e-7, "weight_decay": 0.2},
    optim.RMSprop: {"lr": 0.02 * (1 - 0.0625) / 0.5, "alpha": 0.99**4, "eps": 5e-7, "momentum": 0.0625},
}
CLASSES = pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)


def flat(settings):
    """The numbers of some settings, in order."""
    return [
        x for name in sorted(settings) for x in torch.tensor(settings[name], dtype=torch.float64).reshape(-1).tolist()
    ]


@CLASSES
def test_a_batch_four_times_as_large(cls):
    new, expected = convert(cls, SETTINGS[cls], changes.batch(64, 256)), {**SETTINGS[cls], **TIMES_FOUR[cls]}
    assert new.keys() == expected.keys()
    for name, value in expected.items():
        assert new[name] == (value if name == "betas" else pytest.approx(value, rel=1e-12))


@CLASSES
@given(batches=st.lists(st.floats(1, 512), min_size=3, max_size=3))
def test_by_way_of_another_batch_it_is_the_same(cls, batches):
    a, b, c = batches
    straight = convert(cls, SETTINGS[cls], changes.batch(a, c))
    detour = convert(cls, convert(cls, SETTINGS[cls], changes.batch(a, b)), changes.batch(b, c))
    assert flat(detour) == pytest.approx(flat(straight), rel=1e-6)


def path(cls, settings, batch, examples):
    """RMS of w after so many examples of pure noise, over 20000 coordinates, and the optimizer's v if it has one."""
    noise = torch.Generator().manual_seed(int(batch))
    w = nn.Parameter(torch.zeros(20000))
    optimizer = cls([w], **settings)
    for _ in range(examples // batch):
        w.grad = torch.randn(w.shape, generator=noise) / batch**0.5
        optimizer.step()
    return w.detach().square().mean().sqrt().item()


@pytest.mark.parametrize("kept", ["", "momentum", "lr"])
def test_under_noise_w_goes_as_far_over_the_same_examples(kept):
    """4 standard errors of 20000 coordinates are 2 %; a momentum that lasts three of a few hundred steps takes 1 %."""
    for cls in (optim.SGD, optim.AdamW):
        old = {"lr": 1e-3, **({"momentum": 0.5} if cls is optim.SGD else {"betas": (0.5, 0.998), "weight_decay": 2.0})}
        new = convert(cls, old, changes.batch(1, 4))
        small, large = (
            path(cls, old, 1, 2000),
            path(cls, new | {name: old[name] for name in [kept] if name in old}, 4, 2000),
        )
        if kept in old:
            assert abs(large / small - 1) > 0.2
        else:
            assert large == pytest.approx(small, rel=0.03)


def test_the_equilibrium_of_adamw_stays():
    old = {"lr": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.999)}
    for batch in (4, 16, 1024):
        new = convert(optim.AdamW, old, changes.batch(64, batch))
        before, after = (equilibrium_rms(s["lr"], s["weight_decay"], s["betas"][0]) for s in (old, new))
        assert after.item() == pytest.approx(before.item(), rel=1e-3)
        assert new["lr"] * new["weight_decay"] / batch == pytest.approx(1e-4 / 64)


def test_a_longer_training_forgets_more_slowly():
    for cls in (optim.AdamW, optim.SGD):
        new = convert(cls, SETTINGS[cls], changes.horizon(1000, 4000))
        assert new == {**SETTINGS[cls], "weight_decay": SETTINGS[cls]["weight_decay"] / 4}
    decoupled = {"weight_decay": 0.1, "decoupled_weight_decay": True}
    assert convert(optim.Adam, decoupled, changes.horizon(2, 1)) == {**decoupled, "weight_decay": 0.2}
    assert convert(optim.Adam, {"lr": 0.1}, changes.horizon(2, 1)) == {"lr": 0.1}


def test_zeros_stay_and_tensors_stay_tensors():
    new = convert(optim.Adam, {"lr": torch.tensor(0.5), "betas": (0.0, 0.5), "eps": 0}, changes.batch(1, 4))
    assert torch.equal(new.pop("lr"), torch.tensor(1.0))
    assert new == {"betas": (0.0, 0.0625), "eps": 0}


@CLASSES
def test_a_ratio_of_one_changes_nothing(cls):
    for change in (changes.batch(64, 64), changes.horizon(10, 10)):
        assert change.exact and convert(cls, SETTINGS[cls], change) == SETTINGS[cls]


def test_gradients_tell_how_far_it_reaches():
    """s is 0.1 at a batch of 64 (0.25 in the second tensor): signal and noise are alike at 64/0.25² examples."""
    noise = torch.randn(400, 5000, generator=torch.Generator().manual_seed(0))
    plain = changes.batch(64, 1024)
    common, reach = changes.batch(64, 1024, {"a": noise + 0.1, "b": noise + 0.25}).limits
    assert plain.limits == (common,)
    assert "s = 0.25 at 64" in reach and "alike at 1e+03" in reach
    assert "times 1.37 for Adam, 1.87 for SGD" in reach  # near (1 + 1)/(1 + 1/16), and its root
    assert "no signal" in changes.batch(64, 1024, torch.tensor([[1.0], [-1.0]])).limits[1]
    assert "does not hold" in changes.batch(64, 1024, torch.ones(5, 2)).limits[1]


def test_what_is_not_known_is_refused():
    for cls in UNITS.keys() - SETTINGS:
        for change in (changes.batch(64, 256), changes.horizon(10, 20)):
            with pytest.raises(ValueError, match=text_with(cls.__name__, "SGD", "RMSprop", "Adam", "AdamW")):
                convert(cls, {}, change)
    with pytest.raises(ValueError, match="this optimizer"):
        convert(infer_units(optim.SGD, {"lr": 0.1}), {"lr": 0.1}, changes.batch(64, 256))


@pytest.mark.parametrize(
    "hyperparameters, change, error, words",
    [
        ({"betas": (1.0, 0.9)}, changes.batch(1, 4), ValueError, ["betas[0]=1.0", "[0, 1)"]),
        ({"betas": ("0.9", 0.9)}, changes.batch(1, 4), TypeError, ["betas[0]='0.9'", "number"]),
        ({"betas": (0.9, 0.9)}, changes.batch(1, 1e6), ValueError, ["betas[0]=0.9", "power 1e+06"]),
        ({"lr": None}, changes.batch(1, 4), ValueError, ["lr=None"]),
        ({"weight_decay": 0.1}, changes.horizon(1, 4), ValueError, ["weight_decay=0.1", "gradient", "AdamW"]),
        ({}, Change("both", batch=4.0, horizon=4.0), ValueError, ["the horizon, not both; convert twice"]),
        ({}, Change("both", batch=4.0, loss=4.0), ValueError, ["units and time, not both; convert twice"]),
    ],
)
def test_bad_settings_are_named(hyperparameters, change, error, words):
    with pytest.raises(error, match=text_with(*words)):
        convert(optim.Adam, hyperparameters, change)


@pytest.mark.parametrize("make", [changes.batch, changes.horizon])
def test_sizes_are_checked(make):
    with pytest.raises(ValueError, match="old=0"):
        make(0, 16)
    with pytest.raises(TypeError, match="new='16'"):
        make(16, "16")


def test_gradients_are_checked():
    with pytest.raises(TypeError, match="gradients="):
        changes.batch(1, 4, [1.0, 2.0])
    for none in (torch.zeros(5, 2), {}):
        with pytest.raises(ValueError, match="gradients"):
            changes.batch(1, 4, none)


@pytest.mark.parametrize("change", [changes.batch(64, 256), changes.horizon(1, 2)], ids=["batch", "horizon"])
def test_rescale_refuses_and_changes_nothing(change):
    model = nn.Linear(6, 5)
    optimizer = optim.Adam(model.parameters())
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    with pytest.raises(ValueError, match=text_with("not a change of units", "convert")):
        rescale(model, optimizer, change)
    assert all(torch.equal(before[0][n], p) for n, p in model.state_dict().items())
    assert str(before[1]) == str(optimizer.state_dict())
