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
