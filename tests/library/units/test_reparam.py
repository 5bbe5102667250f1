"""Reparametrisation: a module whose parameters are stored in another scale computes what it did."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scaleinv import effective_parameters, scale_parameters, unscale_parameters
from scaleinv.book.models import convnet, mlp, transformer
from scaleinv.reparam import parameter_scales
from tests.library.units.shared import network, same

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


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
def test_any_module_can_be_scaled_and_unscaled(make):
    torch.manual_seed(0)
    module = make()
    inputs = [torch.randn(3, 2, 4)] * 3 if isinstance(module, nn.MultiheadAttention) else [torch.randn(2, 4)]
    inputs *= 2 if isinstance(module, nn.Bilinear) else 1

    def output():
        out = module(*inputs)
        return out if torch.is_tensor(out) else out[0]

    before, names = output(), list(module.state_dict())
    scale_parameters(module, 16)
    assert parameter_scales(module)
    assert torch.equal(output(), before)
    unscale_parameters(module)
    assert torch.equal(output(), before)
    assert sorted(module.state_dict()) == sorted(names)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.floats(1e-6, 1e6), st.sampled_from(DTYPES))
def test_scaling_and_unscaling_restores_the_parameters_up_to_rounding(k, dtype):
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
    assert parameter_scales(module) == {"0.weight": 8, "2.bias": 0.5}
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
    assert set(parameter_scales(other).values()) == {8}
    unscale_parameters(scaled).load_state_dict(plain.state_dict())
    assert same([effective_parameters(scaled)], [effective_parameters(plain)])


# Errors leave everything as it was.


def with_gradient_overflow():
    module = network()
    with torch.no_grad():
        module[0].weight[0, 0] = 1e38
    return module


MODULES = [
    (network, 0, ValueError, "weight=0"),
    (network, -2.0, ValueError, "weight=-2.0"),
    (network, float("nan"), ValueError, "weight=nan"),
    (network, float("inf"), ValueError, "weight=inf"),
    (network, "8", TypeError, "weight='8'"),
    (network, True, TypeError, "weight=True"),
    (network, {"0.weigth": 8}, ValueError, "did you mean one of .*'0.weight'"),
    (network, {"0.weight": 0}, ValueError, r"weight\['0.weight'\]=0"),
    (lambda: scale_parameters(network(), {"0.bias": 2}), 8, ValueError, "'0.bias' is already scaled, by 2"),
    (with_gradient_overflow, 8, ValueError, "leaves the range of torch.float32"),
    (lambda: nn.LazyLinear(3), 8, ValueError, "run the module once"),
]


@pytest.mark.parametrize("make, k, error, words", MODULES)
def test_scale_parameters_refuses_and_changes_nothing(make, k, error, words):
    module = make()
    lazy = isinstance(module, nn.LazyLinear)
    before = [] if lazy else copy.deepcopy(list(module.state_dict().items()))
    with pytest.raises(error, match=words):
        scale_parameters(module, k)
    after = [] if lazy else list(module.state_dict().items())
    assert [n for n, _ in after] == [n for n, _ in before]
    assert all(x == y if isinstance(x, float) else torch.equal(x, y) for (_, x), (_, y) in zip(before, after))
