"""The training loop of the chapters and the helpers around it."""

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.nn import functional

from scaleinv.book.data import batches
from scaleinv.book.models import convnet, mlp, transformer
from scaleinv.book.train import accuracy, optimizer_of, scale_gradients, train

NETWORKS = [mlp, convnet, transformer]


def plain(steps=5, loss=1.0, accumulate=1, make=mlp, factor_of=None):
    """The losses and weights of a loop without helpers. ``factor_of`` gives a factor for each parameter's gradient."""
    model = make()
    model.train()
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def flat():
        return torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())])

    losses, weights = [], [flat()]
    for images, labels in batches(steps, on="cpu"):
        for p in model.parameters():
            p.grad = None
        pieces = [slice(n, n + 64 // accumulate) for n in range(0, 64, 64 // accumulate)]
        errors = [functional.cross_entropy(model(images[piece]), labels[piece]) for piece in pieces]
        sum(loss * error for error in errors).backward()
        for name, p in model.named_parameters():
            p.grad *= factor_of(name) if factor_of else 1
        optimizer.step()
        losses.append(sum(errors).item() / accumulate)
        weights.append(flat())
    return losses, weights


def trained(steps=5, make=mlp, prepare=lambda model: model, **arguments):
    model = prepare(make())
    run = train(model, optim.Adam(model.parameters(), lr=0.01), batches(steps, on="cpu"), **arguments)
    return run.losses.tolist(), run.weights


def are_equal(a, b, exactly=True):
    if exactly:
        return torch.equal(torch.tensor(a[0]), torch.tensor(b[0])) and all(map(torch.equal, a[1], b[1]))
    return np.allclose(a[0], b[0], rtol=1e-5) and all(
        torch.allclose(x, y, atol=1e-5) for x, y in zip(a[1], b[1], strict=True)
    )


@pytest.mark.parametrize("make", NETWORKS)
def test_a_run_equals_a_plain_loop_bit_for_bit(make):
    losses, weights = run = trained(make=make)
    assert len(losses) == 5 and len(weights) == 6
    assert are_equal(run, plain(make=make))
    assert not torch.equal(weights[0], weights[1]) and losses[-1] < losses[0]


def test_the_loss_factor_scales_the_gradient_and_not_the_recorded_losses():
    run = trained(loss=1e-6)
    assert are_equal(run, plain(loss=1e-6))
    assert run[0][0] == plain()[0][0]
    assert not are_equal(run, plain(), exactly=False)  # eps is 1e-8 in both


@pytest.mark.parametrize("accumulate", [2, 4, 64])
def test_accumulation_adds_up_the_gradients_of_the_pieces(accumulate):
    run = trained(loss=1e-6, accumulate=accumulate)
    assert are_equal(run, plain(loss=1e-6, accumulate=accumulate), exactly=False)
    assert are_equal(run, plain(loss=accumulate * 1e-6), exactly=False)  # each piece's loss is a mean over fewer
    assert not are_equal(run, plain(loss=1e-6), exactly=False)


@pytest.mark.parametrize("accumulate", [3, 65])
def test_a_batch_that_cannot_be_cut_into_equal_pieces_is_an_error(accumulate):
    with pytest.raises(ValueError, match=f"accumulate={accumulate} .*batch of 64"):
        trained(accumulate=accumulate)


def test_before_step_is_called_before_every_step_and_sets_the_loss_factor_from_then_on():
    seen, factors = [], {2: 1e-6, 4: 0.0}
    run = trained(steps=6, before_step=lambda step: seen.append(step) or factors.get(step))
    assert seen == list(range(6))

    model = mlp()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    weights = []
    for (images, labels), factor in zip(batches(6, on="cpu"), (1, 1, 1e-6, 1e-6, 0, 0), strict=True):
        optimizer.zero_grad()
        (factor * functional.cross_entropy(model(images), labels)).backward()
        optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())]))
    assert all(map(torch.equal, run[1][1:], weights))


def test_a_run_trains_in_training_mode():
    assert are_equal(trained(make=convnet, prepare=nn.Module.eval), plain(make=convnet))


@pytest.mark.parametrize("cls", [optim.Adam, optim.Muon, optim.SparseAdam])
def test_an_optimizer_gets_the_parameters_that_it_can_train(cls):
    model = mlp()
    optimizer = optimizer_of(model, cls, lr=0.25)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, batches(2, on="cpu"))
    assert type(optimizer) is cls and optimizer.param_groups[0]["lr"] == 0.25
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if cls is not optim.Muon or name.endswith("weight")}


def test_gradients_are_scaled_by_one_factor_or_each_by_its_own():
    model = mlp()
    own = {name: 10.0**-n for n, (name, _) in enumerate(model.named_parameters())}
    assert scale_gradients(model, own) is model
    assert are_equal(trained(prepare=lambda model: scale_gradients(model, own)), plain(factor_of=own.get))
    assert are_equal(trained(prepare=lambda model: scale_gradients(model, 1e-6)), plain(factor_of=lambda name: 1e-6))
    assert not are_equal(trained(prepare=lambda model: scale_gradients(model, 1e-6)), plain(), exactly=False)


def test_accumulated_gradients_are_scaled_once():
    scaled = trained(accumulate=4, prepare=lambda model: scale_gradients(model, 2.0**-20))
    assert are_equal(scaled, trained(accumulate=4, loss=2.0**-20))


class Fixed(nn.Module):
    """Predicts 0, 1, 2, … in evaluation mode, and always 0 in training mode."""

    def forward(self, images):
        classes = torch.zeros(len(images), dtype=torch.long) if self.training else torch.arange(len(images)) % 10
        return functional.one_hot(classes, 10).float()


@pytest.mark.parametrize("training", [True, False])
def test_accuracy_is_measured_in_evaluation_mode_and_the_mode_restored(training):
    model = Fixed().train(training)
    images, labels = torch.zeros(8, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5, 0, 0])
    assert accuracy(model, images, labels) == 0.75
    assert model.training is training
