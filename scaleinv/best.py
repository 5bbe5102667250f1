"""The best learning rate of a sweep, between the points of its grid."""

import numpy as np
import xarray

from scaleinv.levels import is_logarithmic


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
