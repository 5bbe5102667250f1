"""A member of a sweep is the single run with torch.optim."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from runs import DOUBLE, RULES, SINGLE, Loose, alone, alone_by_rule, digits, double, swept
from torch import nn, optim

from scaleinv import optimizers
from scaleinv.book.models import mlp, transformer

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),  # vmap, of attention on a CPU
]


def sample(lr):
    """Some members of a grid of two lr, three weight and two loss scales and two seeds, with all pairs (lr, weight)."""
    for i in range(6):
        yield (
            {"lr": (lr, lr / 10)[i % 2], "weight": (1.0, 8.0, 10.0)[i % 3], "loss": (1.0, 3.0)[i // 3]},
            (4, 5)[i // 2 % 2],
        )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "activation, dtype", [(nn.Tanh, torch.float32), (nn.ReLU, torch.float64)], ids=["tanh32", "relu64"]
)
def test_a_member_is_the_single_run(name, activation, dtype):
    cls, lr, options = RULES[name]

    def model(seed):
        return mlp(16, activation=activation, seed=seed).to(dtype)

    grid = {"lr": [lr / 10, lr], "weight": [1.0, 8.0, 10.0], "loss": [1.0, 3.0], **options}
    rule, batches = getattr(optimizers, name), digits(15, 16, dtype)
    result = swept(model, rule, batches, grid, seeds=(4, 5))
    single = partial(alone, cls=cls) if cls else partial(alone_by_rule, rule=rule)
    for member, seed in sample(lr):
        losses = single(model(seed), batches=batches(seed=seed), **member, **options)
        assert len(set(losses)) > 10
        rtol = SINGLE if dtype == torch.float32 else DOUBLE
        np.testing.assert_allclose(result.sel({**member, "seed": seed}), losses, rtol=rtol, err_msg=f"{member}, {seed}")


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_member_is_the_single_run_of_a_transformer(name):
    cls, lr, options = RULES[name]
    batches = digits(4, 16)
    result = swept(
        transformer, getattr(optimizers, name), batches, {"lr": [lr / 10, lr], "weight": [1.0, 8.0], **options}
    )
    for member in ({"lr": lr, "weight": 8.0}, {"lr": lr / 10, "weight": 1.0}):
        losses = alone(transformer(), cls, batches(seed=0), **member, **options)
        np.testing.assert_allclose(result.sel({**member, "seed": 0}), losses, rtol=SINGLE)


@pytest.mark.parametrize(
    "name, activation", [("sgd", nn.ReLU), ("adam", nn.Tanh), ("adamw", nn.Sigmoid), ("lamb", nn.Tanh)]
)
def test_smaller_models_are_their_single_runs(name, activation):
    cls, lr, options = RULES[name]
    rule, batches, model = getattr(optimizers, name), digits(15, 16), partial(mlp, activation=activation)
    grid = {"width": [16, 8, 32], "lr": [lr / 3, lr], "weight": [1.0, 8.0], **options}
    result = swept(model, rule, batches, grid)
    single = partial(alone, cls=cls) if cls else partial(alone_by_rule, rule=rule)
    for width, weight in itertools.product((8, 16, 32), (1.0, 8.0)):
        losses = single(model(width), batches=batches(seed=0), lr=lr, weight=weight, **options)
        np.testing.assert_allclose(result.sel(width=width, lr=lr, weight=weight, seed=0), losses, rtol=SINGLE)


def test_updates_that_are_nan_without_gradient_stay_out_of_a_smaller_model():
    """With eps = 0 an update is 0/0 where there is no weight; each pixel here is on in some example."""

    def batches(seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(4):
            yield torch.rand(16, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator)

    result = swept(mlp, optimizers.adam, batches, {"width": [8, 16], "eps": 0.0})
    for width in (8, 16):
        losses = alone(mlp(width), optim.Adam, batches(seed=0), lr=1e-3, eps=0.0)
        np.testing.assert_allclose(result.sel(width=width, seed=0), losses, rtol=SINGLE)


def test_a_keyword_that_changes_the_start_only():
    def model(gain=1.0, seed=0):
        made = mlp(16, seed=seed)
        with torch.no_grad():
            made[3].weight *= gain
        return made

    result = swept(model, grid={"gain": [0.0, 0.5, 2.0], "lr": [0.01]})
    for gain in (0.0, 0.5, 2.0):
        losses = alone(model(gain), optim.Adam, digits()(seed=0), lr=0.01)
        np.testing.assert_allclose(result.sel(gain=gain, lr=0.01, seed=0), losses, rtol=SINGLE)


@pytest.mark.parametrize("name", ["adam", "lamb"])
def test_parameters_of_any_shape_and_functions_called_by_keyword(name):
    rule = getattr(optimizers, name)
    result = swept(lambda seed: Loose(), rule, digits(), {"lr": [0.01, 0.1]})
    losses = alone_by_rule(Loose(), rule, digits()(seed=0), lr=0.1)
    np.testing.assert_allclose(result.sel(lr=0.1, seed=0), losses, rtol=SINGLE)


@pytest.mark.parametrize(
    "tiny, others",
    [
        ("loss", {"lr": [1e-2], "eps": lambda loss: 1e-8 * loss}),
        ("weight", {"lr": lambda weight: 1e-2 * weight, "eps": lambda weight: 1e-8 / weight}),
    ],
)
def test_scales_beyond_float32_in_a_model_of_float64(tiny, others):
    """Adam's steps stay what they were where the gradient's unit goes into eps, and the parameter's into lr."""
    losses = swept(double, batches=digits(dtype=torch.float64), grid={tiny: [1e-50, 0.1, 1.0], **others})
    np.testing.assert_allclose(losses.sel({tiny: 1e-50}), losses.sel({tiny: 1.0}), rtol=DOUBLE)
    np.testing.assert_allclose(losses.sel({tiny: 0.1}), losses.sel({tiny: 1.0}), rtol=DOUBLE)


@optimizers.rule(a=optimizers.zeros, b=optimizers.Buffer(lambda w, h: torch.ones_like(w)))
def leapfrog(g, w, s, at, lr=1e-3):
    s.a, s.b = s.b, s.a + g
    return -lr * (s.a + 2 * s.b)


def test_buffers_may_change_places():
    result = swept(mlp, leapfrog, digits(8), {"lr": [0.001, 0.003]})
    losses = alone_by_rule(mlp(), leapfrog, digits(8)(seed=0), lr=0.003)
    np.testing.assert_allclose(result.sel(lr=0.003, seed=0), losses, rtol=SINGLE)
