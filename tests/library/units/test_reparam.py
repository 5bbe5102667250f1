"""Reparametrisation: the module computes what it did, and a run in other units is the same run."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

from scaleinv import effective_parameters, unscale_parameters, infer_units, rescale, scale_parameters
from scaleinv.book.models import convnet, mlp, transformer
from scaleinv.reparam import Scale
from scaleinv.book.train import optimizer_of
from scaleinv.known_optimizers import UNITS
from scaleinv.units import ONE, G, Units, W

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
# Adafactor's default eps[0] is a constant of the dtype, and follows no unit; 1e-12 stays below every mean square.
GIVEN = {
    optim.SGD: {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    optim.ASGD: {"lr": 0.05, "lambd": 0.01, "weight_decay": 0.01, "t0": 3},
    optim.Adagrad: {"weight_decay": 0.01, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    optim.RMSprop: {"momentum": 0.9, "centered": True, "weight_decay": 0.01},
    optim.Adam: {"amsgrad": True, "weight_decay": 0.01, "lr": 0.01},
    optim.AdamW: {"amsgrad": True, "lr": 0.01},
    optim.NAdam: {"weight_decay": 0.01, "decoupled_weight_decay": True},
    optim.Adafactor: {"eps": (1e-12, 1e-3)},
}
KNOWN = [cls for cls, units in UNITS.items() if not units.reason]


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def run(cls, *, weight=1.0, loss=1.0, at=5, steps=10, dtype=torch.float32, make=network, given=None, units=None):
    """The effective parameters after every step, of a run whose units change before step ``at``."""
    module = make().to(dtype)
    optimizer = optimizer_of(module, cls, **(GIVEN.get(cls, {}) if given is None else given))
    factor, trajectory = 1.0, []
    for step in range(steps):
        if step == at:
            rescale(module, optimizer, weight=weight, loss=loss, units=units)
            factor = loss
        torch.manual_seed(step)
        x = torch.randn(9, 5, dtype=dtype)
        (factor * (module(x) - x[:, :3]).square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
        trajectory.append(effective_parameters(module))
    return trajectory


def same(a, b):
    return all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)


# The module.


@pytest.mark.parametrize("make", [mlp, convnet, transformer])
@pytest.mark.parametrize("train", [True, False])
def test_scaled_by_a_power_of_two_a_module_computes_the_same(make, train):
    images = torch.rand(6, 8, 8)
    plain, scaled = make().train(train), scale_parameters(make(), 2.0**-9).train(train)
    assert torch.equal(plain(images), scaled(images))


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)),
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)),
        lambda: nn.Bilinear(4, 4, 2),
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.PReLU()),
        lambda: nn.LSTMCell(4, 4),
    ],
)
def test_any_module_can_be_scaled_and_folded(make):
    torch.manual_seed(0)
    module = make()
    inputs = [torch.randn(3, 2, 4)] * 3 if isinstance(module, nn.MultiheadAttention) else [torch.randn(2, 4)]
    inputs *= 2 if isinstance(module, nn.Bilinear) else 1

    def output():
        out = module(*inputs)
        return out if torch.is_tensor(out) else out[0]

    before, names = output(), list(module.state_dict())
    scale_parameters(module, 16)
    assert any(isinstance(m, Scale) for m in module.modules())
    assert torch.equal(output(), before)
    unscale_parameters(module)
    assert torch.equal(output(), before)
    assert sorted(module.state_dict()) == sorted(names)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.floats(1e-6, 1e6), st.sampled_from(DTYPES))
def test_scaling_and_folding_gives_the_parameters_back_up_to_rounding(k, dtype):
    module = network().to(dtype)
    before = effective_parameters(module)
    stored = dict(zip(before, module.parameters()))
    scale_parameters(module, k)
    for name, w in before.items():
        assert torch.equal(stored[name].detach(), w * k)  # the same Parameter objects, holding k·w
        torch.testing.assert_close(effective_parameters(module)[name], w)
    unscale_parameters(module)
    for name, p in module.named_parameters():
        assert p is stored[name]
        torch.testing.assert_close(p.detach(), before[name])


def test_only_the_named_parameters_are_scaled():
    module = network()
    before = effective_parameters(module)
    scale_parameters(module, {"0.weight": 8, "2.bias": 0.5})
    assert {n: m.weight for n, m in module.named_modules() if isinstance(m, Scale)} == {
        "0.parametrizations.weight.0": 8,
        "2.parametrizations.bias.0": 0.5,
    }
    assert all(torch.equal(w, before[n]) for n, w in effective_parameters(module).items())


def test_a_state_dict_saved_before_and_one_saved_after_load():
    plain, scaled = network(), scale_parameters(network(), 8)
    with torch.no_grad():
        for p in scaled.parameters():
            p += 1
    after = copy.deepcopy(scaled.state_dict())
    scaled.load_state_dict(plain.state_dict())
    assert same([effective_parameters(scaled)], [effective_parameters(plain)])
    other = scale_parameters(network(), 2)  # the scale is part of what is saved
    other.load_state_dict(after)
    scaled.load_state_dict(after)
    assert same([effective_parameters(other)], [effective_parameters(scaled)])
    assert {m.weight for m in other.modules() if isinstance(m, Scale)} == {8}
    unscale_parameters(scaled).load_state_dict(plain.state_dict())
    assert same([effective_parameters(scaled)], [effective_parameters(plain)])


def test_a_copy_of_a_scaled_module_is_on_its_own():
    module = scale_parameters(network(), 8)
    twin = copy.deepcopy(module)
    rescale(module, optim.Adam(module.parameters()), weight=4)
    twin.load_state_dict(network().state_dict())
    assert same([effective_parameters(twin)], [effective_parameters(network())])
    unscale_parameters(twin)
    twin.load_state_dict(network().state_dict())


# A run.


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", KNOWN, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("weight, loss", [(8.0, 1.0), (1.0, 2.0**-6), (2.0**-10, 2.0**7)])
def test_a_run_goes_on_bit_for_bit_in_other_units(cls, dtype, weight, loss):
    plain = run(cls, dtype=dtype)
    assert not torch.equal(plain[0]["0.weight"], plain[-1]["0.weight"])
    assert same(run(cls, weight=weight, loss=loss, dtype=dtype), plain)


@pytest.mark.parametrize("make", [convnet, transformer])
def test_real_networks_go_on_bit_for_bit(make):
    def trained(weight):
        model = make()
        optimizer = optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(6):
            if step == 3:
                rescale(model, optimizer, weight=weight)
            torch.manual_seed(step)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.rand(8, 8, 8)), torch.randint(10, (8,))).backward()
            optimizer.step()
        return [effective_parameters(model)]

    assert same(trained(2.0**10), trained(1.0))


def test_a_gradient_taken_before_is_converted_too():
    def stepped(weight, loss):
        module = network()
        optimizer = optim.SGD(module.parameters(), lr=0.1)
        module(torch.ones(2, 5)).sum().backward()
        rescale(module, optimizer, weight=weight, loss=loss)
        optimizer.step()
        return [effective_parameters(module)]

    assert same(stepped(8.0, 4.0), stepped(1.0, 1.0))


@pytest.mark.parametrize("cls", [optim.Adam, optim.SGD, optim.Adafactor], ids=lambda cls: cls.__name__)
def test_naming_some_parameters_splits_their_group(cls):
    weight = {"0.weight": 8.0, "2.bias": 0.25}
    assert same(run(cls, weight=weight, loss=4.0), run(cls))
    module = network()
    optimizer = optim.Adam(module.named_parameters(), lr=1e-3)
    rescale(module, optimizer, weight=weight)
    found = {group["lr"]: group["param_names"] for group in optimizer.param_groups}
    assert found == {1e-3: ["0.bias", "2.weight"], 8e-3: ["0.weight"], 0.25e-3: ["2.bias"]}
    assert {len(g["params"]) == len(g["param_names"]) for g in optimizer.param_groups} == {True}


def test_parameters_elsewhere_keep_their_scale_and_follow_the_loss():
    module, other = network(), nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([*module.parameters(), other], lr=0.5)
    rescale(module, optimizer, weight=8, loss=4)
    assert torch.equal(other, torch.ones(3))
    assert {group["lr"]: len(group["params"]) for group in optimizer.param_groups} == {0.5 * 64 / 4: 4, 0.5 / 4: 1}


def test_rescale_again_and_back_and_fold():
    module = network()
    optimizer = optim.Adam(module.parameters(), lr=1e-3)
    before = copy.deepcopy(optimizer.state_dict()), effective_parameters(module)
    rescale(module, optimizer, weight=8, loss=2)
    rescale(module, optimizer, weight=4)
    assert {m.weight for m in module.modules() if isinstance(m, Scale)} == {32}
    unscale_parameters(module, optimizer)
    rescale(module, optimizer, loss=0.5)
    assert optimizer.state_dict() == before[0]
    assert same([effective_parameters(module)], [before[1]])
    assert not any(isinstance(m, Scale) for m in module.modules())


@pytest.mark.parametrize("k", [8.0, 10.0])
def test_folding_in_the_middle_of_a_run_changes_it_by_rounding_only(k):
    def trained(k):
        module = scale_parameters(network(), k)
        optimizer = optim.AdamW(module.parameters(), lr=1e-2 * k, eps=1e-8 / k, weight_decay=1e-2 / k)
        for step in range(8):
            if step == 4:
                unscale_parameters(module, optimizer)
            torch.manual_seed(step)
            optimizer.zero_grad()
            module(torch.randn(4, 5)).square().mean().backward()
            optimizer.step()
        return effective_parameters(module)

    plain, folded = trained(1.0), trained(k)
    for name in plain:
        torch.testing.assert_close(folded[name], plain[name], rtol=0 if k == 8 else 1e-5, atol=0 if k == 8 else 1e-6)


def test_a_scheduler_made_afterwards_goes_on_in_the_new_units():
    module = network()
    optimizer = optim.SGD(module.parameters(), lr=0.1)
    optim.lr_scheduler.StepLR(optimizer, 2)
    del optimizer.step
    rescale(module, optimizer, weight=8)
    assert optimizer.param_groups[0]["initial_lr"] == 0.1 * 64
    scheduler = optim.lr_scheduler.StepLR(optimizer, 2, last_epoch=1)
    assert scheduler.get_last_lr() == [pytest.approx(0.1 * 64 / 10)] or scheduler.base_lrs == [0.1 * 64]


class Nobodys(optim.Optimizer):
    """w ← w − lr·(m/s + decay·w), with a running mean m and a running sum s of sizes, a float: in nobody's library."""

    def __init__(self, params, lr=0.01, decay=0.1, beta=0.9):
        super().__init__(params, {"lr": lr, "decay": decay, "beta": beta})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state.setdefault(p, {})
                mean = state.setdefault("mean", torch.zeros_like(p))
                mean.mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                state["size"] = state.get("size", 0.0) + p.grad.norm().item()
                p.data.add_(mean / state["size"] + group["decay"] * p.data, alpha=-group["lr"])


def test_an_unknown_optimizer_runs_with_the_units_measured():
    units = infer_units(Nobodys, {})
    assert units.hyperparameters == {"lr": W, "decay": ONE / W, "beta": ONE}
    assert units.state == {"mean": G, "size": G}
    assert same(run(Nobodys, weight=8.0, loss=4.0, units=units), run(Nobodys, units=units))


# What makes it fail.


@pytest.mark.parametrize(
    "broken",
    [
        {"hyperparameters": {"lr": ONE}},
        {"hyperparameters": {"eps": ONE}, "given": {"eps": 0.1}},
        {"hyperparameters": {"weight_decay": G / W}},
        {"state": {"exp_avg": ONE}},
        {"state": {"exp_avg_sq": G}},
    ],
    ids=str,
)
def test_with_one_wrong_unit_the_run_is_another(broken):
    right = UNITS[optim.AdamW]
    wrong = Units(right.hyperparameters | broken.get("hyperparameters", {}), right.state | broken.get("state", {}))
    given = broken.get("given", {"lr": 0.01})
    assert same(run(optim.AdamW, weight=8.0, loss=4.0, given=given), run(optim.AdamW, given=given))
    assert not same(run(optim.AdamW, weight=8.0, loss=4.0, given=given, units=wrong), run(optim.AdamW, given=given))


# Errors leave everything as it was.


def tied():
    module = network()
    module.add_module("again", nn.Linear(5, 7))
    module.again.weight = module[0].weight
    return module


def with_gradient_overflow():
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0] = 1e38
    return module


def sparse():
    return nn.Sequential(nn.Embedding(4, 3, sparse=True))


MODULES = [
    (network, 0, ValueError, "weight=0"),
    (network, -2.0, ValueError, "weight=-2.0"),
    (network, float("nan"), ValueError, "weight=nan"),
    (network, float("inf"), ValueError, "weight=inf"),
    (network, "8", TypeError, "weight='8'"),
    (network, True, TypeError, "weight=True"),
    (network, {"0.weigth": 8}, ValueError, "did you mean one of .*'0.weight'"),
    (network, {"0.weight": 0}, ValueError, r"weight\['0.weight'\]=0"),
    (tied, 8, ValueError, "'0.weight' is shared, under the names"),
    (lambda: scale_parameters(network(), {"0.bias": 2}), 8, ValueError, "'0.bias' is already scaled, by 2"),
    (sparse, 8, ValueError, "sparse=False"),
    (with_gradient_overflow, 8, ValueError, "leaves the range of torch.float32"),
    (lambda: nn.LSTM(3, 3), 8, ValueError, "nn.LSTMCell"),
    (lambda: nn.LazyLinear(3), 8, ValueError, "run the module once"),
]


@pytest.mark.parametrize("make, k, error, says", MODULES)
def test_scale_parameters_refuses_and_changes_nothing(make, k, error, says):
    module = make()
    lazy = isinstance(module, nn.LazyLinear)
    before = [] if lazy else copy.deepcopy(list(module.state_dict().items()))
    with pytest.raises(error, match=says):
        scale_parameters(module, k)
    after = [] if lazy else list(module.state_dict().items())
    assert [n for n, _ in after] == [n for n, _ in before]
    assert all(x == y if isinstance(x, float) else torch.equal(x, y) for (_, x), (_, y) in zip(before, after))


def started(cls=optim.Adam, **given):
    """A network after one step, so that there is state."""
    module = network()
    optimizer = cls(module.parameters(), **given)
    module(torch.ones(2, 5)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def with_state(**state):
    module, optimizer = started()
    optimizer.state[module[2].bias].update(state)
    return module, optimizer


def scheduled():
    module, optimizer = started()
    optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    return module, optimizer


def sparse_gradient():
    module, optimizer = started(optim.SGD)
    other = nn.Parameter(torch.ones(3))
    other.grad = torch.ones(3).to_sparse()
    optimizer.add_param_group({"params": [other]})
    return module, optimizer


RUNS = [
    (started, {"weight": -8}, ValueError, "weight=-8"),
    (started, {"loss": 0}, ValueError, "loss=0"),
    (started, {"loss": "2"}, TypeError, "loss='2'"),
    (started, {"weight": {"0.weight": 8, "nothing": 2}}, ValueError, r"weight\['nothing'\]"),
    (started, {"weight": {"0.weight": float("nan")}}, ValueError, r"weight\['0.weight'\]=nan"),
    (lambda: started(Nobodys), {"weight": 8}, ValueError, "infer_units"),
    (lambda: started(optim.RAdam), {"weight": 8}, ValueError, "first five steps"),
    (lambda: started(optim.Adafactor), {"weight": 8}, ValueError, r"eps\[0\]=None"),
    (lambda: with_state(surprise=torch.ones(3)), {"weight": 8}, ValueError, "'surprise'"),
    (lambda: with_state(surprise=1.5), {"weight": 8}, ValueError, "'surprise'"),
    (lambda: with_state(exp_avg=torch.ones(7)), {"weight": 8}, ValueError, "loaded from another model"),
    (lambda: with_state(exp_avg_sq=torch.full((3,), 1e30)), {"loss": 1e10}, ValueError, "leaves the range"),
    (scheduled, {"weight": 8}, ValueError, "scheduler"),
    (sparse_gradient, {"loss": 8}, ValueError, "sparse"),
    (lambda: (network(), None), {"weight": 8}, TypeError, "optimizer=None"),
    (lambda: (started()[0].state_dict(), started()[1]), {"weight": 8}, TypeError, "module="),
]


@pytest.mark.parametrize("make, arguments, error, says", RUNS)
def test_rescale_refuses_and_changes_nothing(make, arguments, error, says):
    module, optimizer = make()

    def everything():
        kept = copy.deepcopy(optimizer.state_dict()) if optimizer else {}
        grads = [p.grad for p in module.parameters()] if isinstance(module, nn.Module) else []
        state = dict(module.state_dict() if isinstance(module, nn.Module) else module)
        return copy.deepcopy(state), kept, copy.deepcopy(grads)

    before = everything()
    with pytest.raises(error, match=says):
        rescale(module, optimizer, **arguments)
    assert str(everything()) == str(before)


def test_fold_refuses_a_parametrization_on_top():
    module = scale_parameters(network(), 8)
    nn.utils.parametrize.register_parametrization(module[0], "weight", nn.Identity())
    with pytest.raises(ValueError, match="'0.weight' has another parametrization"):
        unscale_parameters(module)
    assert isinstance(module[0].parametrizations.weight[0], Scale)
