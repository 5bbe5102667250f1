"""What the laws need to know of real gradients, estimated from a stack of them: signal-to-noise ratio, autocorrelation.

A stack has the shape (T, ...), T gradients of one parameter in the order of steps.  Its coordinates are taken one by
one, as Adam does, and averaged; those without any gradient are left out.
"""

import torch


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
