"""Read the result of a sweep: the best learning rate, the level lines of a loss, and the slope of these lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray
from numpy.typing import ArrayLike, NDArray

__all__ = ["Slope", "best", "is_logarithmic", "level_lines", "slope"]


class Slope(NamedTuple):
    """The slope of level lines.

    Attributes:
        value: the mean of the lines' slopes, a pure number.
        error: its standard error, from how the lines differ.
        lines: how many there are.

    >>> from scaleinv.curves import Slope
    >>> Slope(value=2.0, error=0.01, lines=15).value
    2.0
    """

    value: float
    error: float
    lines: int


def level_lines(loss: xarray.DataArray, levels: ArrayLike, *, along: str = "lr") -> xarray.DataArray:
    """Find where a loss first falls to each of some levels, as the coordinate ``along`` grows.

    >>> from scaleinv.curves import level_lines
    >>> import xarray
    >>> lr = [0.01, 0.1, 1.0, 10.0]
    >>> loss = xarray.DataArray([2.5, 2.5, 1.5, 3.5], {"lr": lr}, name="loss")
    >>> level_lines(loss, [2.0, 1.0]).values.round(3)
    array([0.316,   nan])

    Between two neighbours on the axis the loss is taken to be linear in the axis's logarithm.

    Args:
        loss: an array with the dimension ``along``, whose coordinate is positive, and any others.
        levels: losses.
        along: the dimension along which to look.

    Returns:
        Values of ``along``, in its unit, with a new dimension "level" and the other dimensions of ``loss``.  NaN where
        the loss does not fall to the level, falls to it from NaN or ∞, or lies below it from the start.

    Raises:
        ValueError: if ``along`` is not a dimension of ``loss`` with at least two positive coordinates.
    """
    _check_axis(loss, along)
    loss = loss.sortby(along).transpose(along, ...)
    levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
    x, y = np.log(loss[along].values), loss.values.astype(np.float64)
    crossings = np.stack([_first_fall(x, y, level) for level in levels])
    coordinates = {name: c for name, c in loss.coords.items() if along not in c.dims}
    lines = xarray.DataArray(np.exp(crossings), coordinates, ["level", *loss.dims[1:]], along)
    lines.attrs.update(loss[along].attrs)
    return lines.assign_coords(level=levels)


def slope(lines: xarray.DataArray, *, over: str = "weight") -> Slope:
    """Fit the slope of level lines in log-log, d log(``lines``) / d log(``over``), to each line by least squares.

    >>> from scaleinv.curves import slope
    >>> import xarray
    >>> k = xarray.DataArray([1.0, 10.0, 100.0], dims="weight", coords={"weight": [1.0, 10.0, 100.0]})
    >>> value, error, lines = slope(xarray.concat([0.1 * k**2, 0.3 * k**2], "level"))
    >>> round(value, 6), round(error, 6), lines
    (2.0, 0.0, 2)

    Args:
        lines: as from ``level_lines``: a line over ``over`` for each point of all other dimensions.
        over: the dimension, with a positive coordinate.

    Returns:
        The mean over the lines, its standard error, and their number.

    Raises:
        ValueError: if ``over`` is not a dimension of ``lines`` with at least two positive coordinates; if a line has
            fewer than three points that are not NaN; if there are fewer than two lines, which have no error.
    """
    _check_axis(lines, over)
    others = [str(dim) for dim in lines.dims if dim != over]
    x = np.log(lines[over].values)
    y = np.log(lines.transpose(*others, over).values).reshape(-1, len(x))
    finite = np.isfinite(y)
    _check_lines(finite, over, others)
    slopes = np.array([np.polyfit(x[known], line[known], 1)[0] for line, known in zip(y, finite, strict=True)])
    return Slope(float(slopes.mean()), float(slopes.std(ddof=1) / len(slopes) ** 0.5), len(slopes))


def _check_lines(finite: NDArray[np.bool_], over: str, others: Sequence[str]) -> None:
    """``finite``: (lines, points), whether a line has this point."""
    if len(finite) < 2:
        raise ValueError(f"lines has one line, whose slope has no error; give several, over {others or 'levels'}")
    if (few := finite.sum(axis=1) < 3).any():
        raise ValueError(
            f"{few.sum()} of {len(finite)} lines have fewer than three points over {over!r}; drop levels that the loss "
            "seldom falls to, or widen the grid"
        )


def _first_fall(x: NDArray[Any], y: NDArray[Any], level: float) -> NDArray[Any]:
    """Where along its first axis y first falls to the level, in terms of x."""
    above = ~(y <= level)  # NaN too: what diverged
    falls = above[:-1] & ~above[1:]
    first = falls.argmax(axis=0)[None]
    high, low = np.take_along_axis(y, first, 0)[0], np.take_along_axis(y, first + 1, 0)[0]
    with np.errstate(all="ignore"):
        crossing = x[first[0]] + (x[first[0] + 1] - x[first[0]]) * (high - level) / (high - low)
    return np.where(falls.any(axis=0) & (y[0] > level), crossing, np.nan)


def _check_axis(array: xarray.DataArray, name: str) -> None:
    if name not in array.dims:
        raise ValueError(f"{name!r} is not a dimension of the array; it has {list(array.dims)}")
    if not is_logarithmic(array, name, least=2):
        raise ValueError(f"the coordinate {name!r} has to be at least two positive numbers, not {array[name].values}")


def is_logarithmic(array: xarray.DataArray, name: str, *, least: int) -> bool:
    """Whether an array has a dimension of this name whose coordinate has a logarithm, at ``least`` points or more.

    >>> from scaleinv.curves import is_logarithmic
    >>> import xarray
    >>> array = xarray.DataArray([0.3, 0.2, 0.4], {"lr": [0.0, 0.1, 0.2]})
    >>> is_logarithmic(array, "lr", least=2), is_logarithmic(array[1:], "lr", least=2)
    (False, True)
    """
    if name not in array.dims or name not in array.coords:
        return False
    values = array[name].values
    return len(values) >= least and bool((np.isfinite(values) & (values > 0)).all())


def best(loss: xarray.DataArray, *, along: str = "lr") -> xarray.DataArray:
    """Find where along an axis a loss is least, for each point of all other axes.

    >>> from scaleinv.curves import best
    >>> import numpy, xarray
    >>> lr = xarray.DataArray([0.01, 0.1, 1.0, 10.0], dims="lr")
    >>> loss = xarray.DataArray(1 + numpy.log(lr / 0.2) ** 2, {"lr": lr})
    >>> round(best(loss).item(), 3)
    0.2

    It is the lowest place of the parabola, in log(``along``), through the least loss and its two neighbours.

    Args:
        loss: an array with the dimension ``along``, whose coordinate is positive.  NaN and ∞ are the losses of what
            diverged, and never the least.
        along: the dimension along which to look.

    Returns:
        Values of ``along``, in its unit, over the other dimensions of ``loss``.  NaN where the loss is least at an end
        of the axis, for beyond it may be less; beside what diverged, the place of the least loss.

    Raises:
        ValueError: if ``along`` is not a dimension of ``loss`` with at least three positive coordinates.
    """
    if not is_logarithmic(loss, along, least=3):
        raise ValueError(f"loss needs a dimension {along!r} of three positive numbers or more; it is {loss}")
    x = loss[along]
    places = xarray.DataArray(np.log(x.to_numpy()), dims=along)
    bare = loss.drop_vars(along)  # apply_ufunc of older xarrays empties the attributes of the coordinate
    lowest = xarray.apply_ufunc(_lowest, bare, places, input_core_dims=[[along], [along]], vectorize=True)
    return np.exp(lowest).rename(along).assign_attrs(x.attrs)


def _lowest(y: NDArray[Any], x: NDArray[Any]) -> float:
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
