"""The names and values of a grid, and the labels of the result."""

from functools import partial

import numpy as np
import pytest
import torch
import xarray
from runs import RULES, SINGLE, alone, digits, identical, swept
from torch import nn, optim

from scaleinv import optimizers, sweep, units_of
from scaleinv.book.models import mlp

pytestmark = pytest.mark.usefixtures("one_thread")


def test_functions_of_axes_and_of_fixed_values():
    result = swept(
        grid={
            "lr": lambda weight, loss: 0.01 * weight * loss,
            "weight": [1.0, 8.0],
            "eps": lambda weight: 1e-8 / weight,
            "loss": 1.0,
        }
    )
    for weight in (1.0, 8.0):
        losses = alone(mlp(), optim.Adam, digits()(seed=0), lr=0.01 * weight, weight=weight, eps=1e-8 / weight)
        np.testing.assert_allclose(result.sel(weight=weight, seed=0), losses, rtol=SINGLE)
    np.testing.assert_allclose(result.sel(weight=8.0), result.sel(weight=1.0), rtol=SINGLE)  # so the book says


def test_entries_of_a_pair_and_a_pair():
    lr = {"lr": [0.01]}
    axis = swept(grid={**lr, "betas[0]": [0.5, 0.9], "betas[1]": 0.9})
    pair = swept(grid={**lr, "betas": (0.5, 0.9)})
    both = swept(grid={**lr, "betas": (0.1, 0.9), "betas[0]": [0.5, 0.8]})
    for beta in (0.5, 0.9):
        losses = alone(mlp(), optim.Adam, digits()(seed=0), lr=0.01, betas=(beta, 0.9))
        np.testing.assert_allclose(axis.sel({"betas[0]": beta, "lr": 0.01, "seed": 0}), losses, rtol=SINGLE)
    np.testing.assert_allclose(pair, axis.sel({"betas[0]": 0.5}), rtol=SINGLE)
    np.testing.assert_allclose(both.sel({"betas[0]": 0.5}), pair, rtol=SINGLE)


def test_flags_and_keywords_that_are_fixed():
    model, batches = partial(mlp, 8), digits(10)
    options = {"momentum": 0.9, "nesterov": True}
    result = swept(model, optimizers.sgd, batches, {"lr": [0.01, 0.1], "activation": nn.ReLU, **options})
    losses = alone(mlp(8, activation=nn.ReLU), optim.SGD, batches(seed=0), lr=0.1, **options)
    np.testing.assert_allclose(result.sel(lr=0.1, seed=0), losses, rtol=SINGLE)
    bound = swept(model, partial(optimizers.sgd, **options), batches, {"lr": [0.01, 0.1], "activation": nn.ReLU})
    assert identical(bound, result)


def test_a_point_of_a_curve_is_the_mean_over_every_steps_and_its_coordinate_the_last():
    grid = {"lr": [0.001, 0.01]}
    each, means = swept(batches=digits(12), grid=grid), swept(batches=digits(12), grid=grid, every=4)
    assert each["step"].values.tolist() == list(range(1, 13)) and means["step"].values.tolist() == [4, 8, 12]
    np.testing.assert_allclose(means, each.values.reshape(2, 1, 3, 4).mean(-1), rtol=3e-7)


def test_dimensions_are_the_axes_in_order_then_seed_and_step_and_no_number_depends_on_the_order():
    grid = {"lr": [0.01, 0.001, 0.1], "weight": [2.0, 1.0], "width": [8, 16]}
    result = swept(grid=grid, seeds=(7, 3))
    assert result.dims == ("lr", "weight", "width", "seed", "step") and result.shape == (3, 2, 2, 2, 5)
    assert result.lr.values.tolist() == [0.01, 0.001, 0.1] and result["seed"].values.tolist() == [7, 3]
    turned = swept(grid={name: grid[name][::-1] for name in ("width", "lr", "weight")}, seeds=(3, 7))
    assert turned.dims == ("width", "lr", "weight", "seed", "step")
    xarray.testing.assert_allclose(turned.transpose(*result.dims).sel(result.coords), result, rtol=SINGLE)
    losses = alone(mlp(8, seed=3), optim.Adam, digits()(seed=3), lr=0.1, weight=2.0)
    np.testing.assert_allclose(result.sel(lr=0.1, weight=2.0, width=8, seed=3), losses, rtol=SINGLE)


def test_each_seed_has_its_own_start_and_its_own_batches():
    result = swept(seeds=range(3))
    assert len(np.unique(result.sel(lr=0.01).isel(step=0))) == 3
    same_start = swept(lambda seed: mlp(), seeds=range(3)).sel(lr=0.01).isel(step=0)
    same_data = swept(batches=lambda seed: digits()(seed=0), seeds=range(3)).sel(lr=0.01).isel(step=0)
    assert len(np.unique(same_start)) == 3 and len(np.unique(same_data)) == 3


@pytest.mark.parametrize("row", [tuple, np.array, partial(torch.tensor, dtype=torch.float64), xarray.DataArray])
def test_an_axis_is_any_row_of_numbers(row):
    result = swept(grid={"lr": row([0.001, 0.01])})
    assert result.lr.values.tolist() == [0.001, 0.01] and identical(result, swept())


UNITS = {"adam": ("W", "L W⁻¹"), "sgd": ("L⁻¹ W²", None), "adagrad": ("W", "L W⁻¹")}


@pytest.mark.parametrize("name", UNITS)
def test_coordinates_carry_their_units_and_select(name):
    lr, eps = UNITS[name]
    grid = {"lr": [0.001, 0.01], "weight": [1.0, 8.0], "width": [8], **({"eps": [1e-8, 1e-6]} if eps else {})}
    dataset = sweep(mlp, getattr(optimizers, name), digits(), grid, progress=False)
    assert isinstance(dataset, xarray.Dataset) and list(dataset.data_vars) == ["losses"]
    assert dataset.losses.attrs["units"] == "L"
    assert dataset.lr.attrs["units"] == lr == str(units_of(RULES[name][0]).hyperparameters["lr"])
    assert dataset.weight.attrs["units"] == "1" and "units" not in dataset.width.attrs
    if eps:
        assert dataset.eps.attrs["units"] == eps
    assert dataset.sel(lr=0.01, weight=8.0).losses.dims == ("width", *(["eps"] if eps else []), "seed", "step")
    assert dataset.losses.sel(lr=0.01).notnull().all()


def test_the_unit_of_an_entry_of_a_pair_and_of_partial_optimizers():
    grid = {"betas[1]": [0.9, 0.99], "lr": [0.01]}
    dataset = sweep(mlp, partial(optimizers.adamw, weight_decay=0.0), digits(), grid, progress=False)
    assert dataset["betas[1]"].attrs["units"] == "1" and dataset.lr.attrs["units"] == "W"


def keyword_model(k=1.0, weight=1.0, loss=1.0, lr=1.0, seed=0):
    """A model whose keywords have names of other things."""
    model = mlp(8, seed=seed)
    with torch.no_grad():
        model[3].weight *= k * weight * loss * lr
    return model


@pytest.mark.parametrize("old, new", [("k", "weight"), ("c", "loss")])
def test_former_names_of_the_scales_are_refused_with_the_new_ones(old, new):
    with pytest.raises(ValueError, match=f"grid has '{old}'; the scale of the .* is now called '{new}': pass "):
        swept(grid={old: [1.0, 8.0]})
    with pytest.raises(ValueError, match=rf"a function of \['{old}'\], .*; '{old}' is now called '{new}'$"):
        swept(grid={new: [1.0, 8.0], "lr": eval(f"lambda {old}: 0.01 * {old}")})


def test_a_keyword_of_the_model_may_have_a_former_name():
    losses = swept(lambda k, seed: keyword_model(k=k, seed=seed), grid={"k": [0.5, 2.0], "lr": [0.01]})
    for k in (0.5, 2.0):
        single = alone(keyword_model(k), optim.Adam, digits()(seed=0), lr=0.01)
        np.testing.assert_allclose(losses.sel(k=k, lr=0.01, seed=0), single, rtol=SINGLE)


@pytest.mark.parametrize(
    "name, meaning",
    [
        ("weight", "the scale of the stored parameters"),
        ("loss", "the scale of the loss"),
        ("lr", "a hyperparameter of the optimizer"),
    ],
)
def test_a_name_of_two_things_is_refused_with_a_way_out(name, meaning):
    grid = {name: [0.01, 0.02]}
    with pytest.raises(ValueError, match=f"grid has '{name}', which is both {meaning} and an argument of model; .*="):
        swept(keyword_model, grid=grid)
    assert swept(lambda seed, other=1.0: keyword_model(seed=seed, **{name: other}), grid=grid).dims[0] == name


def test_two_axes_of_scales_and_losses_are_in_one_dataset():
    result = sweep(mlp, optimizers.adam, digits(), {"loss": [1.0, 2.0], "weight": [1.0]}, progress=False)
    assert result.losses.dims == ("loss", "weight", "seed", "step")
    assert result.loss.values.tolist() == [1.0, 2.0] and result.loss.attrs["units"] == "1"
