"""Distances between trajectories, and how fast parameters change.

A trajectory is a list of tensors of one shape, such as all parameters after each step; every function takes a
tensor as well, as one of a single entry.
"""

import numpy as np
import torch


def relative_distance(a, b):
    """max over the trajectory of ‖a − b‖ / ‖b‖, a pure number, computed in float64: 0 where both are zeros, infinity
    where only b is, NaN where an entry is.

    Raises ValueError for trajectories that do not match or are empty.
    """
    ratios = []
    for x, y in _pairs(a, b):
        x, y = (t.to(torch.promote_types(t.dtype, torch.float64)) for t in (x, y))
        difference = (x - y).norm()
        ratios.append(difference / y.norm() if difference != 0 else difference)
    return torch.stack(ratios).max().item()  # unlike Python's max, NaN if any is


def ulp_distance(a, b):
    """The largest number of representable numbers from an entry of ``a`` to the one of ``b``: 0 when they agree
    bit for bit (with 0.0 equal to −0.0), 1 for neighbours, infinity when only one of them is NaN.

    Raises ValueError for trajectories that do not match, are empty, or are not of one floating dtype.
    """
    largest = 0
    for x, y in _pairs(a, b):
        if x.dtype != y.dtype or x.dtype not in _INTEGER:
            raise ValueError(f"dtypes {x.dtype} and {y.dtype}: ulps need one floating dtype for both")
        if not torch.equal(x.isnan(), y.isnan()):
            return float("inf")
        numbers = ~x.isnan()
        x, y = _index(x[numbers]).numpy(), _index(y[numbers]).numpy()
        gaps = np.maximum(x, y).astype(np.uint64) - np.minimum(x, y).astype(np.uint64)  # too large for int64
        largest = max(largest, int(gaps.max(initial=0)))
    return largest


def relative_change(before, after):
    """RMS of the change over RMS of the parameter, ‖after − before‖ / ‖before‖: by which share a step changes it."""
    return relative_distance(after, before)


_INTEGER = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def _index(x):
    """The position of each number among all of its dtype, in order: neighbours differ by one."""
    bits = x.contiguous().view(_INTEGER[x.dtype])
    lowest = torch.iinfo(bits.dtype).min
    return torch.where(bits < 0, lowest - bits, bits).long()


def _pairs(a, b):
    a, b = ([t] if isinstance(t, torch.Tensor) else list(t) for t in (a, b))
    if not a and not b:
        raise ValueError("trajectories without an entry: there is nothing to compare")
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b)):
        shapes = [[tuple(t.shape) for t in trajectory[:3]] for trajectory in (a, b)]
        raise ValueError(
            f"trajectories of {len(a)} and {len(b)} entries, of shapes {shapes[0]} and {shapes[1]}, do not match"
        )
    return [(x.detach().cpu(), y.detach().cpu()) for x, y in zip(a, b)]


def signal_to_noise(gradients):
    r"""s = \|mean\|/standard deviation over time, pooled over coordinates as the update-size law needs it.

    ::

        s = √[p/(1−p)],    p = average over coordinates of (T·ḡ²/q − 1)/(T − 1),    ḡ = mean of g, q = mean of g²

    p estimates μ²/E[g²] = s²/(s²+1), the signal's share, through which s enters ``update_rms``.

    Args:
        gradients: a tensor of shape (T, ...), T ≥ 2.

    Returns:
        A float, 0 where p is negative, infinity for gradients that never change, NaN for those that are all zero.

    Bias: that of p is 0 at s = 0 (for independent gradients of symmetric distribution) and at s = ∞, and of order
    1/T between.  Since p < 0 reads as s = 0, pure noise shows some s on average: 0.4/√T for one coordinate, less
    for many.  Autocorrelated noise passes for signal: at s = 0, p is too large by about 2ρ/(1−ρ)/T.  A mean that
    changes over the stack counts as noise.

    Raises:
        TypeError: for what is not a real floating tensor.
        ValueError: for T < 2, or gradients that are not finite.
    """
    g = _stack(gradients, 2)
    steps = len(g)
    share = (steps * g.mean(dim=0).square() / g.square().mean(dim=0) - 1) / (steps - 1)
    p = share.mean().clamp(0, 1)
    return (p / (1 - p)).sqrt().item()


def autocorrelation(gradients, lag=1):
    """ρ over time, each coordinate measured from its own mean and by its own variance; their average.

    ::

        ρ = average over coordinates of T/(T−lag)·Σₜ dₜ·dₜ₊lag / Σₜ dₜ²  +  1/(T−1),    d = g − ḡ

    The last term makes up for the mean being estimated as well.

    Args:
        gradients: a tensor of shape (T, ...), T ≥ lag + 2.
        lag: a positive whole number of steps.

    Returns:
        A float; NaN where no coordinate changes.  Those that do not change are left out.

    Bias: none without autocorrelation; else towards 0, at lag one by about 3ρ/T for AR(1) (Kendall, 1954, Biometrika
    41:403).  A mean that changes over the stack counts as autocorrelation.

    Raises:
        TypeError: for what is not a real floating tensor, or a lag that is no whole number.
        ValueError: for a lag below 1, T < lag + 2, or gradients that are not finite.
    """
    if isinstance(lag, bool) or not isinstance(lag, int):
        raise TypeError(f"lag={lag!r} is not a whole number; pass one such as 1")
    if lag < 1:
        raise ValueError(f"lag={lag} is not positive; pass a number of steps such as 1")
    g = _stack(gradients, lag + 2)
    steps = len(g)
    d = g - g.mean(dim=0)
    d = d[:, (g != g[0]).any(dim=0)]
    products = (d[:-lag] * d[lag:]).sum(dim=0) / d.square().sum(dim=0)
    return (steps / (steps - lag) * products + 1 / (steps - 1)).mean().item()


def _stack(gradients, least):
    """As float64, of shape (T, coordinates that are not always zero), each divided by its largest entry."""
    if not isinstance(gradients, torch.Tensor) or not gradients.is_floating_point():
        raise TypeError(f"gradients={gradients!r} is not a floating tensor; stack them with torch.stack")
    if gradients.dim() == 0 or len(gradients) < least:
        raise ValueError(f"gradients of shape {tuple(gradients.shape)}: needs at least {least} of them, along dim 0")
    if not gradients.isfinite().all():
        raise ValueError("gradients hold infinities or NaN; leave those steps out")
    g = gradients.detach().to("cpu", torch.float64).reshape(len(gradients), -1)
    largest = g.abs().amax(dim=0)
    return g[:, largest > 0] / largest[largest > 0]
