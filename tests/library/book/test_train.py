"""What the chapters train with: runs, data, networks, and the look of their figures."""

import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn import functional

from scaleinv.book import data, plots
from scaleinv.book.data import batches, device, digits, text, text_batches
from scaleinv.book.models import convnet, mlp, transformer
from scaleinv.book.train import accuracy, optimizer_of, scale_gradients, train

NETWORKS = [mlp, convnet, transformer]


def plain(steps=5, loss=1.0, accumulate=1, make=mlp, change=None):
    """The losses and weights of a loop without any helper; ``change`` is done to the gradients."""
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
            p.grad *= change(name) if change else 1
        optimizer.step()
        losses.append(sum(errors).item() / accumulate)
        weights.append(flat())
    return losses, weights


def helped(steps=5, make=mlp, prepare=lambda model: model, **arguments):
    model = prepare(make())
    run = train(model, optim.Adam(model.parameters(), lr=0.01), batches(steps, on="cpu"), **arguments)
    return run.losses.tolist(), run.weights


def same(a, b, exactly=True):
    if exactly:
        return torch.equal(torch.tensor(a[0]), torch.tensor(b[0])) and all(map(torch.equal, a[1], b[1]))
    return np.allclose(a[0], b[0], rtol=1e-5) and all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a[1], b[1]))


# train


@pytest.mark.parametrize("make", NETWORKS)
def test_a_run_is_that_of_a_plain_loop_in_every_bit(make):
    losses, weights = run = helped(make=make)
    assert len(losses) == 5 and len(weights) == 6
    assert same(run, plain(make=make))
    assert not torch.equal(weights[0], weights[1]) and losses[-1] < losses[0]


def test_the_loss_factor_scales_the_gradient_and_leaves_the_losses_in_their_unit():
    run = helped(loss=1e-6)
    assert same(run, plain(loss=1e-6))
    assert run[0][0] == plain()[0][0]
    assert not same(run, plain(), exactly=False)  # eps is 1e-8 in both


@pytest.mark.parametrize("accumulate", [2, 4, 64])
def test_accumulation_adds_up_the_gradients_of_the_pieces(accumulate):
    run = helped(loss=1e-6, accumulate=accumulate)
    assert same(run, plain(loss=1e-6, accumulate=accumulate), exactly=False)
    assert same(run, plain(loss=accumulate * 1e-6), exactly=False)  # each piece's loss is a mean over fewer
    assert not same(run, plain(loss=1e-6), exactly=False)


@pytest.mark.parametrize("accumulate", [3, 65])
def test_pieces_that_would_not_be_equal_are_refused(accumulate):
    with pytest.raises(ValueError, match=f"accumulate={accumulate} .*batch of 64"):
        helped(accumulate=accumulate)


def test_before_step_comes_before_every_step_and_changes_the_loss_factor_from_then_on():
    seen, factors = [], {2: 1e-6, 4: 0.0}
    run = helped(steps=6, before_step=lambda step: seen.append(step) or factors.get(step))
    assert seen == list(range(6))

    model = mlp()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    weights = []
    for (images, labels), factor in zip(batches(6, on="cpu"), (1, 1, 1e-6, 1e-6, 0, 0)):
        optimizer.zero_grad()
        (factor * functional.cross_entropy(model(images), labels)).backward()
        optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())]))
    assert all(map(torch.equal, run[1][1:], weights))


def test_a_run_trains_in_training_mode():
    assert same(helped(make=convnet, prepare=nn.Module.eval), plain(make=convnet))


@pytest.mark.parametrize("cls", [optim.Adam, optim.Muon, optim.SparseAdam])
def test_an_optimizer_gets_of_a_model_what_it_takes(cls):
    model = mlp()
    optimizer = optimizer_of(model, cls, lr=0.25)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train(model, optimizer, batches(2, on="cpu"))
    assert type(optimizer) is cls and optimizer.param_groups[0]["lr"] == 0.25
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if cls is not optim.Muon or name.endswith("weight")}


# scale_gradients and accuracy


def test_gradients_are_scaled_all_alike_or_each_by_its_own_factor():
    model = mlp()
    own = {name: 10.0**-n for n, (name, _) in enumerate(model.named_parameters())}
    assert scale_gradients(model, own) is model
    assert same(helped(prepare=lambda model: scale_gradients(model, own)), plain(change=own.get))
    assert same(helped(prepare=lambda model: scale_gradients(model, 1e-6)), plain(change=lambda name: 1e-6))
    assert not same(helped(prepare=lambda model: scale_gradients(model, 1e-6)), plain(), exactly=False)


def test_accumulated_gradients_are_scaled_once():
    scaled = helped(accumulate=4, prepare=lambda model: scale_gradients(model, 2.0**-20))
    assert same(scaled, helped(accumulate=4, loss=2.0**-20))


class Fixed(nn.Module):
    """Names 0, 1, 2, … in evaluation mode, and always 0 in training."""

    def forward(self, images):
        names = torch.zeros(len(images), dtype=torch.long) if self.training else torch.arange(len(images)) % 10
        return functional.one_hot(names, 10).float()


@pytest.mark.parametrize("training", [True, False])
def test_the_accuracy_is_that_in_evaluation_mode_and_the_mode_is_kept(training):
    model = Fixed().train(training)
    images, labels = torch.zeros(8, 8, 8), torch.tensor([0, 1, 2, 3, 4, 5, 0, 0])
    assert accuracy(model, images, labels) == 0.75
    assert model.training is training


# data


def test_digits_are_scikit_learns_in_the_unit_interval():
    images, labels = digits(on="cpu")
    assert images.shape == (1797, 8, 8) and images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert labels.shape == (1797,) and labels.dtype == torch.int64 and set(labels.tolist()) == set(range(10))
    assert np.array_equal(16 * images.numpy(), load_digits().images)
    assert np.array_equal(labels.numpy(), load_digits().target)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_digits_come_in_the_dtype_on_the_device_and_belong_to_the_caller(dtype):
    images, labels = digits(dtype)
    assert images.dtype == dtype and images.device.type == labels.device.type == device(dtype).type
    assert torch.equal(images.double().cpu(), digits(torch.float64, "cpu")[0])  # sixteenths are exact in each
    images.zero_(), labels.zero_()
    assert digits(dtype)[0].any() and digits(dtype)[1].any()


def test_the_same_seed_draws_the_same_batches_and_another_seed_others():
    def drawn(**arguments):
        return [torch.cat([images.flatten(), labels.double()]) for images, labels in batches(3, **arguments, **kept)]

    kept = {"dtype": torch.float64, "on": "cpu"}
    before = drawn()
    torch.manual_seed(1)
    assert all(map(torch.equal, before, drawn())) and all(map(torch.equal, before, drawn(seed=0)))
    assert not any(map(torch.equal, before, drawn(seed=1)))
    assert not torch.equal(before[0], before[1])


def test_batches_are_rows_of_the_digits_on_the_device():
    images, labels = digits()
    found = list(batches(3, 7))
    assert len(found) == 3
    for some, named in found:
        assert some.shape == (7, 8, 8) and named.shape == (7,)
        assert some.device.type == named.device.type == device().type
        same_image = (images[:, None] == some).all(dim=(2, 3))
        assert (same_image & (labels[:, None] == named)).any(dim=0).all()


def test_drawing_batches_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    list(batches(2)), list(text_batches(2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_characters_to_predict_are_those_that_follow():
    characters = text()
    assert characters.ndim == 1 and len(characters) > 1e5 and 0 <= characters.min() and characters.max() < 128
    written = bytes(characters.tolist())
    for given, following in text_batches(2, 3, 40, on="cpu"):
        assert given.shape == following.shape == (3, 40)
        for one, next_one in zip(given.tolist(), following.tolist()):
            assert bytes(one + next_one[-1:]) in written and one[1:] == next_one[:-1]


@pytest.mark.parametrize(
    "cuda, mps, dtype, kind",
    [
        (True, True, torch.float32, "cuda"),
        (True, True, torch.float64, "cuda"),
        (False, True, torch.float32, "mps"),
        (False, True, torch.bfloat16, "mps"),
        (False, True, torch.float64, "cpu"),
        (False, False, torch.float32, "cpu"),
    ],
)
def test_the_device_is_the_first_there_is_that_has_the_dtype(monkeypatch, cuda, mps, dtype, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.mps, "is_available", lambda: mps)
    assert data.device(dtype) == torch.device(kind)


# models


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_turns_digits_into_logits(make):
    model = make()
    logits = model(digits(on="cpu")[0][:5])
    assert logits.shape == (5, 10) and logits.isfinite().all() and logits.std() > 0


@pytest.mark.parametrize("make", NETWORKS)
def test_the_same_seed_makes_the_same_network_and_another_seed_another(make):
    def weights(**arguments):
        return torch.cat([p.detach().flatten() for p in make(**arguments).parameters()])

    before = weights()
    torch.manual_seed(1)
    assert torch.equal(before, weights()) and torch.equal(before, weights(seed=0))
    assert not torch.equal(before, weights(seed=1))


@pytest.mark.parametrize("make", NETWORKS)
def test_making_a_network_leaves_the_global_random_state_alone(make):
    torch.manual_seed(7)
    expected = torch.randn(3)
    torch.manual_seed(7)
    make(seed=0)
    assert torch.equal(torch.randn(3), expected)


def test_a_deeper_and_wider_mlp_has_the_layers_asked_for():
    model = mlp(5, depth=3, activation=nn.Sigmoid)
    shapes = [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Linear)]
    assert shapes == [(5, 64), (5, 5), (5, 5), (10, 5)]
    assert sum(isinstance(layer, nn.Sigmoid) for layer in model) == 3


def test_the_mlp_starts_as_pytorch_would_start_it():
    torch.manual_seed(3)
    first, last = nn.Linear(64, 32), nn.Linear(32, 10)
    model = mlp(seed=3)
    assert torch.equal(model[1].weight, first.weight) and torch.equal(model[3].bias, last.bias)


# plots


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """As the Web Content Accessibility Guidelines define it; lines and markers want 3."""
    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def grey(colour):
    """Of 256 levels."""
    y = luminance(colour)
    return 255 * (12.92 * y if y <= 0.0031308 else 1.055 * y ** (1 / 2.4) - 0.055)


def test_contrast_is_as_it_is_defined():
    assert contrast("white", "black") == pytest.approx(21) and contrast("white", "white") == 1
    assert contrast("#777777", "white") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("name", [*plots.COLOURS, "INK"])
@pytest.mark.parametrize("background", ["#ffffff", "#121212"])
def test_every_colour_reads_on_light_and_on_dark(name, background):
    assert contrast(plots.COLOURS.get(name, plots.INK), background) >= 3


def test_every_optimizer_has_a_style_of_its_own():
    assert {"Adam", "AdamW", "SGD"} <= set(plots.COLOURS)
    styles = [plots.style(name) for name in plots.COLOURS]
    assert [style["label"] for style in styles] == list(plots.COLOURS)
    for key in ("color", "marker"):
        assert len({style[key] for style in styles}) == len(styles)
    assert {style["color"] for style in styles}.isdisjoint({plots.INK})


def test_colours_differ_in_grey_too():
    """By a little: within the contrasts above there are fifty levels for all of them. Markers do the rest."""
    assert min(abs(grey(a) - grey(b)) for a, b in itertools.combinations(plots.COLOURS.values(), 2)) >= 4


def test_a_figure_can_be_drawn_in_every_style_and_has_its_labels():
    try:
        _, ax = plots.figure("step (1)", "loss (L)")
        lines = [ax.plot([1, 2], [n, n], **plots.style(name))[0] for n, name in enumerate(plots.COLOURS)]
        assert [line.get_label() for line in lines] == list(plots.COLOURS)
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("step (1)", "loss (L)")
        fig, axes = plots.figure("step (1)", "loss (L)", "change (1)")
        assert [ax.get_ylabel() for ax in axes] == ["loss (L)", "change (1)"]
        assert [ax.get_xlabel() for ax in axes] == ["", "step (1)"]
        assert math.isclose(fig.get_facecolor()[3], 0)  # what lies behind shows through
    finally:
        plt.close("all")
