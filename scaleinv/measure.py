"""Distances between trajectories, and estimates of what gradients are made of.

Distances compare two trajectories, lists of tensors such as all parameters after each step; a tensor counts as a
trajectory of one entry.  Estimates take the gradients of many steps, stacked, and return the two numbers that the laws
of ``scaleinv.laws`` need: signal-to-noise ratio and autocorrelation.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["autocorrelation", "relative_change", "relative_distance", "signal_to_noise", "ulp_distance"]

Trajectory = Tensor | Sequence[Tensor]


# Distances between trajectories.


def relative_distance(a: Trajectory, b: Trajectory) -> float:
    """max over the trajectory of ‖a − b‖ / ‖b‖, a pure number, computed in float64.

    Returns:
        0 where both are zeros, infinity where only b is, NaN if an entry is NaN.

    Raises:
        ValueError: if the trajectories differ in length or shape, or are empty.

    >>> import torch
    >>> from scaleinv import relative_distance
    >>> relative_distance(torch.tensor([3.0, 5.0]), torch.tensor([3.0, 4.0]))
    0.2
    """
    ratios = []
    for x, y in _pairs(a, b):
        x, y = (t.to(torch.promote_types(t.dtype, torch.float64)) for t in (x, y))
        difference = (x - y).norm()
        ratios.append(difference / y.norm() if difference != 0 else difference)
    return torch.stack(ratios).max().item()  # unlike Python's max, NaN if any is


def ulp_distance(a: Trajectory, b: Trajectory) -> float:
    """How many representable numbers apart ``a`` and ``b`` are, at the entry where they are farthest apart.

    Returns:
        0 when they agree bit for bit (with 0.0 equal to −0.0), 1 for neighbours, infinity when only one is NaN.

    Raises:
        ValueError: if the trajectories differ in length, shape or dtype, are empty, or are not of a floating dtype.

    >>> import torch
    >>> from scaleinv import ulp_distance
    >>> ulp_distance(torch.tensor(1.0), torch.tensor(1.0 + 2**-22))
    2
    """
    largest = 0
    for x, y in _pairs(a, b):
        if x.dtype != y.dtype or x.dtype not in _INTEGER:
            raise ValueError(f"dtypes {x.dtype} and {y.dtype}: ulps need one floating dtype for both")
        if not torch.equal(x.isnan(), y.isnan()):
            return float("inf")
        numbers = ~x.isnan()
        i, j = _positions(x[numbers]).numpy(), _positions(y[numbers]).numpy()
        gaps = np.maximum(i, j).astype(np.uint64) - np.minimum(i, j).astype(np.uint64)  # too large for int64
        largest = max(largest, int(gaps.max(initial=0)))
    return largest


def relative_change(before: Trajectory, after: Trajectory) -> float:
    """RMS of the change over RMS of the parameter, ‖after − before‖ / ‖before‖: by which share a step changes it.

    >>> import torch
    >>> from scaleinv import relative_change
    >>> relative_change(before=torch.tensor([3.0, 4.0]), after=torch.tensor([3.0, 5.0]))
    0.2
    """
    return relative_distance(after, before)


_INTEGER = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}


def _positions(x: Tensor) -> Tensor:
    """The position of each number among all of its dtype, in order: neighbours differ by one."""
    bits = x.contiguous().view(_INTEGER[x.dtype])
    lowest = torch.iinfo(bits.dtype).min
    return torch.where(bits < 0, lowest - bits, bits).long()


def _pairs(a: Trajectory, b: Trajectory) -> list[tuple[Tensor, Tensor]]:
    """The entries of both, side by side on the CPU."""
    a, b = ([t] if isinstance(t, Tensor) else list(t) for t in (a, b))
    if not a and not b:
        raise ValueError("trajectories without an entry: there is nothing to compare")
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=True)):
        shapes = [[tuple(t.shape) for t in trajectory[:3]] for trajectory in (a, b)]
        raise ValueError(
            f"trajectories of {len(a)} and {len(b)} entries, of shapes {shapes[0]} and {shapes[1]}, do not match"
        )
    return [(x.detach().cpu(), y.detach().cpu()) for x, y in zip(a, b, strict=True)]


# Estimates from the gradients of many steps.


def signal_to_noise(gradients: Tensor) -> float:
    r"""s = \|mean\|/standard deviation over time, pooled over coordinates as the law of the update's size needs it.

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
        TypeError: if ``gradients`` is not a real floating tensor.
        ValueError: if T < 2, or a gradient is not finite.

    >>> import torch
    >>> from scaleinv.measure import signal_to_noise
    >>> noise = torch.randn(100, 1000, generator=torch.Generator().manual_seed(0))
    >>> round(signal_to_noise(noise + 2), 2)
    1.99
    """
    g = _stack(gradients, 2)
    steps = len(g)
    share = (steps * g.mean(dim=0).square() / g.square().mean(dim=0) - 1) / (steps - 1)
    p = share.mean().clamp(0, 1)
    return (p / (1 - p)).sqrt().item()


def autocorrelation(gradients: Tensor, lag: int = 1) -> float:
    """ρ over time, averaged over coordinates, each measured from its own mean and by its own variance.

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
        TypeError: if ``gradients`` is not a real floating tensor, or ``lag`` not an int.
        ValueError: if lag < 1, T < lag + 2, or a gradient is not finite.

    >>> import torch
    >>> from scaleinv.measure import autocorrelation
    >>> noise = torch.randn(101, 1000, generator=torch.Generator().manual_seed(0))
    >>> round(autocorrelation(noise[1:] + noise[:-1]), 2)  # neighbours share half of their variance
    0.49
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


def _stack(gradients: Tensor, least: int) -> Tensor:
    """As float64, of shape (T, coordinates that are not always zero), each divided by its largest entry."""
    if not isinstance(gradients, Tensor) or not gradients.is_floating_point():
        raise TypeError(f"gradients={gradients!r} is not a floating tensor; stack them with torch.stack")
    if gradients.dim() == 0 or len(gradients) < least:
        raise ValueError(f"gradients of shape {tuple(gradients.shape)}: needs at least {least} of them, along dim 0")
    if not gradients.isfinite().all():
        raise ValueError("gradients hold infinities or NaN; leave those steps out")
    g = gradients.detach().to("cpu", torch.float64).reshape(len(gradients), -1)
    largest = g.abs().amax(dim=0)
    return g[:, largest > 0] / largest[largest > 0]
