"""Read the result of a sweep: the best learning rate, the level lines of a loss, and the slope of these lines."""

from typing import NamedTuple

import numpy as np
import xarray


class Slope(NamedTuple):
    """The slope of level lines.

    Attributes:
        value: the mean of the lines' slopes, a pure number.
        error: its standard error, from how the lines differ.
        lines: how many there are.
    """

    value: float
    error: float
    lines: int


def level_lines(loss, levels, *, along="lr"):
    """Where a loss first falls to each of some levels, as the coordinate ``along`` grows.

    >>> lr = [0.01, 0.1, 1.0, 10.0]
    >>> loss = xarray.DataArray([2.5, 2.5, 1.5, 3.5], {"lr": lr}, name="loss")
    >>> level_lines(loss, [2.0, 1.0]).values.round(3)
    array([0.316,   nan])

    Between two neighbours on the axis the loss is taken to be linear in the axis's logarithm.

    Args:
        loss: ``xarray.DataArray`` with the dimension ``along``, whose coordinate is positive, and any others.
        levels: losses.
        along: the dimension along which to look.

    Returns:
        An ``xarray.DataArray`` of values of ``along``, in its unit, with a new dimension "level" and ``loss``'s others.
        NaN where the loss does not fall to the level, falls to it from NaN or ∞, or lies below it from the start.

    Raises:
        ValueError: for an axis on which nothing can be found.
    """
    _check_axis(loss, along)
    loss = loss.sortby(along).transpose(along, ...)
    levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    x, y = np.log(loss[along].values), loss.values.astype(np.float64)
    found = np.stack([_first_fall(x, y, level) for level in levels])
    coordinates = {name: c for name, c in loss.coords.items() if along not in c.dims}
    lines = xarray.DataArray(np.exp(found), coordinates, ["level", *loss.dims[1:]], along)
    lines.attrs.update(loss[along].attrs)
    return lines.assign_coords(level=levels)


def slope(lines, *, over="k"):
    """The slope of level lines in log-log: d log(``lines``) / d log(``over``), fitted to each line by least squares.

    >>> k = xarray.DataArray([1.0, 10.0, 100.0], dims="k", coords={"k": [1.0, 10.0, 100.0]})
    >>> value, error, lines = slope(xarray.concat([0.1 * k**2, 0.3 * k**2], "level"))
    >>> round(value, 6), round(error, 6), lines
    (2.0, 0.0, 2)

    Args:
        lines: as from ``level_lines``: a line over ``over`` for each point of all other dimensions.
        over: the dimension, with a positive coordinate.

    Returns:
        Slope: the mean over the lines, its standard error, and their number.

    Raises:
        ValueError: for an axis without a slope; for a line with fewer than three points that are not NaN; for fewer
            than two lines, which have no error.
    """
    _check_axis(lines, over)
    others = [dim for dim in lines.dims if dim != over]
    x = np.log(lines[over].values)
    y = np.log(lines.transpose(*others, over).values).reshape(-1, len(x))
    there = np.isfinite(y)
    if len(y) < 2:
        raise ValueError(f"lines has one line, whose slope has no error; give several, over {others or 'levels'}")
    if (few := there.sum(axis=1) < 3).any():
        raise ValueError(
            f"{few.sum()} of {len(y)} lines have fewer than three points over {over!r}; drop levels that the loss "
            "seldom falls to, or widen the grid"
        )
    slopes = np.array([np.polyfit(x[ok], line[ok], 1)[0] for line, ok in zip(y, there)])
    return Slope(float(slopes.mean()), float(slopes.std(ddof=1) / len(slopes) ** 0.5), len(slopes))


def _first_fall(x, y, level):
    """Where along its first axis y first falls to the level, in terms of x."""
    above = ~(y <= level)  # NaN too: what diverged
    falls = above[:-1] & ~above[1:]
    at = falls.argmax(axis=0)[None]
    high, low = np.take_along_axis(y, at, 0)[0], np.take_along_axis(y, at + 1, 0)[0]
    with np.errstate(all="ignore"):
        found = x[at[0]] + (x[at[0] + 1] - x[at[0]]) * (high - level) / (high - low)
    return np.where(falls.any(axis=0) & (y[0] > level), found, np.nan)


def _check_axis(array, name):
    if name not in array.dims:
        raise ValueError(f"{name!r} is no dimension of the array; it has {list(array.dims)}")
    if not is_logarithmic(array, name, least=2):
        raise ValueError(f"the coordinate {name!r} has to be at least two positive numbers, not {array[name].values}")


def is_logarithmic(array, name, *, least):
    """Whether an array has a dimension of this name whose coordinate has a logarithm, at so many points at least."""
    if name not in array.dims or name not in array.coords:
        return False
    values = array[name].values
    return len(values) >= least and bool((np.isfinite(values) & (values > 0)).all())


def best(loss, *, along="lr"):
    """Where along an axis a loss is least, for each point of all other axes.

    >>> lr = xarray.DataArray([0.01, 0.1, 1.0, 10.0], dims="lr")
    >>> loss = xarray.DataArray(1 + np.log(lr / 0.2) ** 2, {"lr": lr})
    >>> round(best(loss).item(), 3)
    0.2

    It is the lowest place of the parabola, in log(``along``), through the least loss and its two neighbours.

    Args:
        loss: ``xarray.DataArray`` with the dimension ``along``, whose coordinate is positive.  NaN and ∞ are the losses
            of what diverged, and never the least.
        along: the dimension along which to look.

    Returns:
        An ``xarray.DataArray`` of values of ``along``, in its unit, over the other dimensions of ``loss``.  NaN where
        the loss is least at an end of the axis, for beyond it may be less; beside what diverged, the place of the
        least loss.

    Raises:
        ValueError: for an axis on which nothing can be found.
    """
    if not is_logarithmic(loss, along, least=3):
        raise ValueError(f"loss needs a dimension {along!r} of three positive numbers or more; it is {loss}")
    x = np.log(loss[along])
    found = xarray.apply_ufunc(_lowest, loss, x, input_core_dims=[[along], [along]], vectorize=True)
    return np.exp(found).rename(along).assign_attrs(loss[along].attrs)


def _lowest(y, x):
    """Where y is least, in terms of x."""
    order = x.argsort()
    x, y = x[order], np.where(np.isfinite(y), y, np.inf)[order].astype(np.float64)
    i = y.argmin()
    if i in (0, len(x) - 1):
        return np.nan
    rise = np.diff(y[i - 1 : i + 2]) / np.diff(x[i - 1 : i + 2])
    if not np.isfinite(rise).all() or rise[0] == rise[1]:
        return x[i]
    middles = (x[i - 1 : i + 1] + x[i : i + 2]) / 2
    return middles[0] - rise[0] * (middles[1] - middles[0]) / (rise[1] - rise[0])
