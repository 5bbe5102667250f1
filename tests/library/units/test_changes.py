"""Common changes of a training: ``convert`` makes the settings for one, ``rescale`` applies it during a run."""

import copy

import pytest
import torch
from torch import nn, optim

from scaleinv import Change, changes, convert, infer_units, rescale
from scaleinv.known_optimizers import UNITS

pytestmark = pytest.mark.usefixtures("one_thread")


class Adapted(nn.Module):
    """W·x + (α/r)·B·A·x, W frozen."""

    def __init__(self, alpha, rank=8):
        super().__init__()
        self.base = nn.Linear(6, 5).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(6, rank, bias=False), nn.Linear(rank, 5, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.scaling = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scaling * self.lora_B(self.lora_A(x))


class Gained(nn.Linear):
    """A layer that multiplies its weights by a gain when it runs."""

    gain = 1.0

    def forward(self, x):
        return nn.functional.linear(x, self.gain * self.weight, self.bias)


FACTORS = {
    "loss_times": (changes.loss_times(8), 1.0, 8.0),
    "sum_over": (changes.sum_over(512), 1.0, 512.0),
    "lora_alpha": (changes.lora_alpha(16, 64), 0.25, 1.0),
    "gain": (changes.gain(64**-0.5), 8.0, 1.0),
    "init_times": (changes.init_times(10), 10.0, 1.0),
}
SETTINGS = {
    optim.SGD: {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    optim.Adam: {"lr": 1e-2, "weight_decay": 0.01},
    optim.AdamW: {"lr": 1e-2, "weight_decay": 0.1},
    optim.RMSprop: {"lr": 1e-2, "momentum": 0.9},
    optim.Adagrad: {"lr": 1e-2},
}


@pytest.mark.parametrize("change, weight, loss", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("cls", SETTINGS)
def test_a_change_converts_as_its_factors_do(cls, change, weight, loss):
    assert (change.weight, change.loss) == (weight, loss)
    assert convert(cls, SETTINGS[cls], change) == convert(cls, SETTINGS[cls], weight=weight, loss=loss)
    assert change.reason and f"{weight if weight != 1 else loss:g}" in change.reason


def steps(model, optimizer, number, loss=1.0, first=0):
    for step in range(first, first + number):
        x = torch.randn(9, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (loss * (model(x) - x[:, :5]).square().mean()).backward()
        optimizer.step()
    return model(x)


@pytest.mark.parametrize("cls", SETTINGS)
def test_alpha_goes_from_16_to_64_in_the_middle_of_a_run(cls):
    torch.manual_seed(0)
    model = Adapted(16)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = cls(trained, **SETTINGS[cls])
    steps(model, optimizer, 5)
    model, optimizer = copy.deepcopy((model, optimizer))
    changed, kept = copy.deepcopy((model, optimizer)), copy.deepcopy((model, optimizer))
    for other, _ in (changed, kept):
        other.scaling = 64 / 8
    rescale(*changed, changes.lora_alpha(16, 64), of=["lora_B.weight"])
    plain = steps(model, optimizer, 5, first=5)
    assert torch.equal(steps(*changed, 5, first=5), plain)
    assert not torch.allclose(steps(*kept, 5, first=5), plain, rtol=0.01)
    names = [name for name, _ in changed[0].named_parameters()]
    assert names == [name for name, _ in model.named_parameters()]  # nothing was parametrized


@pytest.mark.parametrize("cls", SETTINGS)
def test_a_new_adapter_with_another_alpha_is_the_same_training(cls):
    def trained(alpha, settings_of_b):
        torch.manual_seed(0)
        model = Adapted(alpha)
        groups = [{"params": model.lora_A.parameters()}, {"params": model.lora_B.parameters(), **settings_of_b}]
        return steps(model, cls(groups, **SETTINGS[cls]), 10)

    plain = trained(16, {})
    assert torch.equal(trained(64, convert(cls, SETTINGS[cls], changes.lora_alpha(16, 64))), plain)
    assert not torch.allclose(trained(64, {}), plain, rtol=0.01)


@pytest.mark.parametrize("cls", SETTINGS)
def test_a_layer_gets_a_gain_in_the_middle_of_a_run(cls):
    torch.manual_seed(0)
    model = nn.Sequential(Gained(6, 64), nn.Tanh(), nn.Linear(64, 5))
    optimizer = cls(model.parameters(), **SETTINGS[cls])
    steps(model, optimizer, 5)
    other, converted = copy.deepcopy((model, optimizer))
    other[0].gain = 64**-0.5
    rescale(other, converted, changes.gain(64**-0.5), of=["0.weight"])
    assert torch.equal(steps(other, converted, 5, first=5), steps(model, optimizer, 5, first=5))
    assert torch.equal(other[0].weight, 8 * model[0].weight)


@pytest.mark.parametrize("cls", SETTINGS)
@pytest.mark.parametrize("change", [changes.loss_times(8), changes.sum_over(512)], ids=["loss × 8", "sum over 512"])
def test_the_loss_changes_in_the_middle_of_a_run(cls, change):
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    optimizer = cls(model.parameters(), **SETTINGS[cls])
    steps(model, optimizer, 5)
    other, converted = copy.deepcopy((model, optimizer))
    rescale(other, converted, change)
    assert torch.equal(steps(other, converted, 5, change.loss, first=5), steps(model, optimizer, 5, first=5))


def test_ten_times_as_large_at_the_start_is_ten_times_the_step():
    """And the same relative change, whatever the module does with it."""
    old = {"lr": 1e-3}
    for factor, settings in ((1, old), (10, convert(optim.Adam, old, changes.init_times(10)))):
        torch.manual_seed(0)
        model = nn.Linear(6, 5, bias=False)
        model.weight.data *= factor
        before = model.weight.detach().clone()
        steps(model, optim.Adam(model.parameters(), **settings), 1)
        change = ((model.weight - before).norm() / before.norm()).item()
        assert change == pytest.approx(1e-3 / (before / factor).square().mean().sqrt().item(), rel=1e-3)


def test_of_an_optimizer_whose_units_were_measured():
    units = infer_units(optim.SGD, {"lr": 0.1, "momentum": 0.9})
    new = convert(units, {"lr": 0.1, "momentum": 0.9}, changes.loss_times(8))
    assert new == {"lr": 0.0125, "momentum": 0.9}


def check_refused(error, match, *args, **kwargs):
    model = nn.Linear(6, 5)
    optimizer = optim.Adam(model.parameters())
    steps(model, optimizer, 1)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    with pytest.raises(error, match=match):
        rescale(model, optimizer, *args, **kwargs)
    assert all(torch.equal(before[0][n], p) for n, p in model.state_dict().items())
    assert str(before[1]) == str(optimizer.state_dict())


def test_rescale_refuses_and_changes_nothing():
    check_refused(TypeError, "changes.loss_times", 8.0)
    check_refused(ValueError, "not both", changes.loss_times(8), loss=2)
    check_refused(ValueError, "not both", changes.gain(8), weight=2)
    check_refused(ValueError, "different initialisation", changes.init_times(10))
    check_refused(ValueError, "change of optimizer", changes.decay_independent())
    check_refused(ValueError, "here lora_B alone", changes.lora_alpha(16, 64))
    check_refused(ValueError, "list", changes.gain(0.5), of="weight")
    check_refused(ValueError, "did you mean", changes.gain(0.5), of=["wieght"])
    check_refused(ValueError, "weight={name: factor}", of=["weight"])
    check_refused(ValueError, "leaves the range", changes.gain(1e-40), of=["weight"])


@pytest.mark.parametrize("make", [changes.loss_times, changes.sum_over, changes.gain, changes.init_times])
def test_factors_are_checked(make):
    for wrong, error in ((0, ValueError), (-1.0, ValueError), (float("nan"), ValueError), ("8", TypeError)):
        with pytest.raises(error, match="factor=|size="):
            make(wrong)


def test_alphas_are_checked():
    with pytest.raises(ValueError, match="old=0"):
        changes.lora_alpha(0, 16)
    with pytest.raises(TypeError, match="new='16'"):
        changes.lora_alpha(16, "16")


def test_convert_takes_a_change_or_factors():
    with pytest.raises(TypeError, match="change={'weight': 2}"):
        convert(optim.Adam, {}, {"weight": 2})
    with pytest.raises(ValueError, match="not both"):
        convert(optim.Adam, {}, changes.gain(2), weight=2)
    assert convert(optim.Adam, {"lr": 1.0}, Change("mine", weight=2.0)) == {"lr": 2.0, "eps": 0.5e-8}


def test_every_optimizer_of_known_units_takes_every_change():
    for cls, units in UNITS.items():
        for change, *_ in FACTORS.values():
            if not units.reason:
                old = {"eps": (1e-30, 1e-3)} if cls is optim.Adafactor else {}
                convert(cls, old, change)
