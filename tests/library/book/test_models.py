"""The small networks of the chapters."""

import pytest
import torch
from torch import nn

from scaleinv.book.data import digits
from scaleinv.book.models import Block, convnet, gpt, mlp, transformer

NETWORKS = [mlp, convnet, transformer]


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_turns_digits_into_logits(make):
    model = make()
    logits = model(digits(on="cpu")[0][:5])
    assert logits.shape == (5, 10) and logits.isfinite().all() and logits.std() > 0


@pytest.mark.parametrize("make", NETWORKS)
def test_the_same_seed_makes_the_same_network_and_another_seed_makes_another(make):
    def weights(**arguments):
        return torch.cat([p.detach().flatten() for p in make(**arguments).parameters()])

    before = weights()
    torch.manual_seed(1)
    assert torch.equal(before, weights()) and torch.equal(before, weights(seed=0))
    assert not torch.equal(before, weights(seed=1))


@pytest.mark.parametrize("make", NETWORKS)
def test_making_a_network_does_not_change_the_global_random_state(make):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    make(seed=0)
    assert torch.equal(torch.randn(3), expected)


def test_an_mlp_has_the_depth_width_and_activation_asked_for():
    model = mlp(5, depth=3, activation=nn.Sigmoid)
    shapes = [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Linear)]
    assert shapes == [(5, 64), (5, 5), (5, 5), (10, 5)]
    assert sum(isinstance(layer, nn.Sigmoid) for layer in model) == 3


def test_the_mlp_starts_as_pytorch_would_start_it():
    torch.manual_seed(3)
    first, last = nn.Linear(64, 32), nn.Linear(32, 10)
    model = mlp(seed=3)
    assert torch.equal(model[1].weight, first.weight) and torch.equal(model[3].bias, last.bias)


def test_a_gpt_maps_characters_to_logits_of_the_next():
    model = gpt(16, length=12)
    logits = model(torch.arange(24).reshape(2, 12))
    assert logits.shape == (2, 128, 12) and logits.isfinite().all()


@pytest.mark.parametrize("last_layer", ["proj", "down"])
def test_a_block_adds_each_branch_to_its_input(last_layer):
    torch.manual_seed(0)
    block, x = Block(8, heads=2).double(), torch.randn(2, 3, 8, dtype=torch.float64)
    other_layer = "down" if last_layer == "proj" else "proj"
    with torch.no_grad():
        getattr(block, other_layer).weight.zero_()
        getattr(block, other_layer).bias.zero_()
        getattr(block, last_layer).weight.zero_()
        getattr(block, last_layer).bias.fill_(3.0)
        torch.testing.assert_close(block(x), x + 3.0)


def test_attention_does_not_look_ahead():
    model, characters = gpt(16), torch.arange(20)[None]
    changed = characters.clone()
    changed[:, 10:] += 1
    before, after = model(characters), model(changed)
    torch.testing.assert_close(before[..., :10], after[..., :10])
    assert not torch.allclose(before[..., 10:], after[..., 10:])


@pytest.mark.parametrize("depth", [1, 8])
def test_a_gpt_starts_as_gpt_2_does(depth):
    """Its residual stream is a sum of 2 * depth branches; dividing by the root keeps its size."""
    for name, p in gpt(64, depth).named_parameters():
        if name.endswith("bias"):
            assert not p.any()
        elif p.ndim == 1:
            assert (p == 1).all()
        else:
            ends_a_branch = name.endswith(("proj.weight", "down.weight"))
            expected = 0.02 / (2 * depth) ** 0.5 if ends_a_branch else 0.02
            assert p.std().item() == pytest.approx(expected, rel=0.05), name  # 4096 entries or more: 1.1 % by chance
