"""Level lines and their slopes, on losses whose level lines are known."""

import re

import numpy as np
import pytest
import xarray

from scaleinv.curves import Slope, level_lines, slope

LR = 2.0 ** np.arange(-8, 9)
K = xarray.DataArray([1.0, 2.0, 4.0, 8.0], dims="weight", coords={"weight": [1.0, 2.0, 4.0, 8.0]})
SEEDS = xarray.DataArray([0.0, 0.1, 0.3], dims="seed", coords={"seed": [3, 5, 8]})


def along_lr(values, lr=None):
    """A loss over lr only, by default on the first powers of ten."""
    lr = 10.0 ** np.arange(len(values)) if lr is None else lr
    return xarray.DataArray(np.array(values, dtype=float), {"lr": lr}, "lr")


def scaled(b, lr=LR, seeds=SEEDS):
    """A curved loss that depends on lr and the scale k only by lr / k**b, and falls throughout."""
    return 3.0 - np.tanh(0.3 * np.log(along_lr(lr, lr) / K**b) - seeds)


def lines_of(*exponents):
    """Lines 0.1 * k**b, one for each exponent b, over a dimension "level"."""
    return 0.1 * K ** xarray.DataArray(list(exponents), dims="level")


@pytest.mark.parametrize("b", [0, 1, 2])
def test_the_slope_of_a_loss_of_lr_over_a_power_of_k_is_that_power(b):
    lines = level_lines(scaled(b), [2.9, 3.1, 3.4])
    assert dict(lines.sizes) == {"level": 3, "weight": 4, "seed": 3} and lines.notnull().all()
    fit = slope(lines)
    assert isinstance(fit, Slope) and fit.lines == 9
    assert fit.value == pytest.approx(b, abs=1e-12) and fit.error == pytest.approx(0, abs=1e-12)


def test_a_line_off_the_grid_is_found_exactly_where_the_loss_is_linear_in_log_lr():
    loss = 5.0 - np.log(along_lr(LR, LR) / K**0.7)
    lines = level_lines(loss, [4.1, 5.3])
    for level in (4.1, 5.3):
        assert lines.sel(level=level).values == pytest.approx(np.exp(5.0 - level) * K.values**0.7, rel=1e-12)
    assert slope(lines) == pytest.approx((0.7, 0.0, 2), abs=1e-12)


def test_a_loss_is_linear_in_the_logarithm_between_neighbours_and_exact_on_the_grid():
    line = level_lines(along_lr([3.0, 2.0, 0.0]), [2.75, 2.0, 0.5, 0.0])
    assert line.values == pytest.approx(10.0 ** np.array([0.25, 1.0, 1.75, 2.0]))
    assert level_lines(along_lr([3.0, 1.0], [1.0, 16.0]), 2.0).values == pytest.approx([4.0])


def test_only_the_first_fall_counts():
    loss = along_lr([3.0, 1.0, 3.0, 0.0, 4.0])
    assert level_lines(loss, [2.0]).values == pytest.approx([10.0**0.5])
    assert level_lines(loss, [0.5]).values == pytest.approx([10.0 ** (2 + 2.5 / 3)])


@pytest.mark.parametrize(
    "values",
    [
        [3.0, 2.5, 2.1, 3.0],
        [1.0, 2.5, 1.5, 1.0],
        [2.0, 2.5, 1.5, 1.0],
        [1.0, 1.5, 2.5, 3.0],
        [np.nan, 3.0, 1.0, 1.0],
        [3.0, np.nan, 1.0, 1.0],
        [np.inf, 1.0, 1.0, 3.0],
        [np.nan] * 4,
        [np.inf] * 4,
    ],
    ids="never-fallen from-below from-the-level rising nan-first nan-at-the-fall inf-at-the-fall nan inf".split(),
)
def test_there_is_no_line_where_the_loss_has_not_been_seen_to_fall_to_the_level(values):
    assert np.isnan(level_lines(along_lr(values), [2.0])).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_diverges_after_the_fall_leaves_the_line_alone(bad):
    fallen, not_fallen = level_lines(along_lr([3.0, 1.0, bad, bad]), [2.0, 0.5]).values
    assert fallen == pytest.approx(10.0**0.5) and np.isnan(not_fallen)


def test_one_point_without_a_line_leaves_the_others_alone():
    loss = scaled(1)
    lines, whole = level_lines(loss.where((loss.weight != 2.0) | (loss.seed != 5)), [3.1]), level_lines(loss, [3.1])
    assert np.isnan(lines.sel(weight=2.0, seed=5)).all() and int(lines.isnull().sum()) == 1
    xarray.testing.assert_equal(lines, whole.where((whole.weight != 2.0) | (whole.seed != 5)))
    assert slope(lines) == pytest.approx((1.0, 0.0, 3), abs=1e-12)


def test_the_order_of_the_axes_and_of_their_points_does_not_matter():
    loss, order = scaled(2), np.random.default_rng(0).permutation(len(LR))
    lines = level_lines(loss, [2.9, 3.1])
    for same in (loss.isel(lr=order), loss.transpose("seed", "weight", "lr"), loss.transpose("weight", "lr", "seed")):
        other = level_lines(same, [2.9, 3.1])
        xarray.testing.assert_identical(other.transpose(*lines.dims), lines)
        assert slope(other.isel(weight=[2, 0, 3, 1])) == pytest.approx((2.0, 0.0, 6), abs=1e-12)


def test_levels_and_other_dimensions_keep_their_coordinates_the_name_and_the_unit():
    loss = scaled(1).assign_coords(run=("seed", ["a", "b", "c"]), batch=32, note=("lr", LR))
    loss["lr"].attrs["units"] = "W"
    loss["weight"].attrs["units"] = "m"
    lines = level_lines(loss, [3.4, 2.9])
    assert lines.dims[0] == "level" and lines.level.values.tolist() == [3.4, 2.9]
    assert lines.name == "lr" and lines.attrs == {"units": "W"} and lines.weight.attrs == {"units": "m"}
    assert set(lines.coords) == {"level", "weight", "seed", "run", "batch"}
    for name in ("weight", "seed", "run", "batch"):
        xarray.testing.assert_equal(lines[name].drop_vars("level", errors="ignore"), loss[name])
    one = level_lines(loss.sel(weight=4.0, seed=8), 2.9)
    assert one.dims == ("level",) and one.item() == pytest.approx(lines.sel(level=2.9, weight=4.0, seed=8).item())


def test_another_axis_can_be_named():
    loss = scaled(1).rename(lr="eps", weight="width")
    lines = level_lines(loss, [2.9, 3.1], along="eps")
    assert lines.name == "eps" and slope(lines, over="width") == pytest.approx((1.0, 0.0, 6), abs=1e-12)


def test_the_loss_stays_as_it_was():
    loss = scaled(1).isel(lr=slice(None, None, -1))
    loss["lr"].attrs["units"] = "W"
    before = loss.copy(deep=True)
    level_lines(loss, [3.1]).attrs["units"] = "m"
    xarray.testing.assert_identical(loss, before)


def test_float32_is_as_good():
    assert slope(level_lines(scaled(1).astype(np.float32), [2.9, 3.1])).value == pytest.approx(1.0, abs=1e-4)


def test_a_slope_is_the_mean_over_the_lines_and_its_error_the_standard_error_of_that_mean():
    fit = slope(lines_of(0.5, 1.0, 3.0))
    assert fit == pytest.approx((1.5, (1.75 / 3) ** 0.5, 3))
    assert slope(lines_of(0.5, 1.0, 3.0, 0.5, 1.0, 3.0)).error == pytest.approx((1.4 / 6) ** 0.5)


def test_a_slope_is_fitted_by_least_squares_to_the_points_that_are_there():
    bent = xarray.DataArray([[0.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, np.nan]], {"weight": K.weight}, ["level", "weight"])
    assert slope(2.0**bent) == pytest.approx((0.8, 0.2, 2))


def test_the_error_vanishes_for_exact_lines_and_grows_with_the_noise():
    noise = xarray.DataArray(np.random.default_rng(1).normal(size=(30, 4)), dims=["level", "weight"])
    exact, little, much = (slope(0.1 * K**2 * np.exp(size * noise)) for size in (0.0, 0.01, 0.1))
    assert exact == pytest.approx((2.0, 0.0, 30), abs=1e-12)
    assert 1e-4 < little.error and much.error == pytest.approx(10 * little.error)
    for fit in (little, much):
        assert abs(fit.value - 2.0) < 4 * fit.error


def test_noise_in_the_losses_shows_in_the_error():
    loss = scaled(1)
    noise = xarray.DataArray(np.random.default_rng(2).normal(size=loss.shape), dims=loss.dims)
    errors = [slope(level_lines(loss + size * noise, [2.9, 3.1, 3.4])).error for size in (0.0, 1e-3, 1e-2)]
    assert errors[0] < 1e-12 < errors[1] < errors[2]


BAD_AXES = [
    (lambda a, name: a.rename({name: "other"}), "{!r} is not a dimension of the array; it has ["),
    (lambda a, name: a.isel({name: 0}), "{!r} is not a dimension of the array; it has ["),
    (lambda a, name: a.drop_vars(name), "the coordinate {!r} has to be at least two positive numbers"),
    (lambda a, name: a.assign_coords({name: [0.0, *a[name].values[1:]]}), "{!r} has to be at least two positive"),
    (lambda a, name: a.assign_coords({name: -a[name].values}), "{!r} has to be at least two positive numbers"),
    (lambda a, name: a.assign_coords({name: [np.nan, *a[name].values[1:]]}), "{!r} has to be at least two positive"),
    (lambda a, name: a.assign_coords({name: [*a[name].values[:-1], np.inf]}), "{!r} has to be at least two positive"),
    (lambda a, name: a.isel({name: [1]}), "{!r} has to be at least two positive numbers"),
]
AXIS_IDS = "absent scalar without-coordinate zero negative nan inf one-point".split()


@pytest.mark.parametrize("spoil, message", BAD_AXES, ids=AXIS_IDS)
def test_an_axis_without_logarithm_is_refused_by_name(spoil, message):
    with pytest.raises(ValueError, match=re.escape(message.format("lr"))):
        level_lines(spoil(scaled(1), "lr"), [3.1])
    with pytest.raises(ValueError, match=re.escape(message.format("weight"))):
        slope(spoil(lines_of(1.0, 2.0), "weight"))


def test_a_missing_axis_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=re.escape("'eps' is not a dimension of the array; it has ['lr', 'weight', 'seed']")
    ):
        level_lines(scaled(1), [3.1], along="eps")
    with pytest.raises(
        ValueError, match=re.escape("'width' is not a dimension of the array; it has ['weight', 'level']")
    ):
        slope(lines_of(1.0, 2.0), over="width")


def test_a_single_line_is_refused_as_it_has_no_error():
    message = "lines has one line, whose slope has no error; give several, over "
    with pytest.raises(ValueError, match=re.escape(message + "['level']")):
        slope(lines_of(1.0))
    with pytest.raises(ValueError, match=re.escape(message + "levels")):
        slope(0.1 * K)


def lines_without(missing):
    """Three lines over the weight scale, the second without its points at the ``missing`` scales."""
    lines = lines_of(1.0, 1.0, 1.0).assign_coords(level=[1, 2, 3])
    return lines.where(~(lines.weight.isin(missing) & (lines.level == 2)))


@pytest.mark.parametrize("missing", [[2.0, 4.0], [1.0, 2.0, 4.0, 8.0]])
def test_lines_of_fewer_than_three_points_are_counted_and_refused_with_a_way_out(missing):
    message = (
        "1 of 3 lines have fewer than three points over 'weight'; drop levels that the loss seldom falls to, or widen"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        slope(lines_without(missing))


def test_a_line_of_three_points_is_enough():
    assert slope(lines_without([4.0])) == pytest.approx((1.0, 0.0, 3), abs=1e-12)


@pytest.mark.parametrize("diverged", [np.nan, np.inf])
def test_a_first_fall_next_to_what_diverged_is_nan(diverged):
    loss = xarray.DataArray([3.0, diverged, 1.0, 3.0, 1.0], {"lr": 10.0 ** np.arange(5)}, ["lr"])
    assert level_lines(loss, 2.0).isnull().all()
