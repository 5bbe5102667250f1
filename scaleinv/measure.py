"""Distances between trajectories, and how fast parameters change.

A trajectory is a list of tensors of one shape, such as all parameters after each step; every function takes a
tensor as well, as one of a single entry.
"""

import torch


def relative_distance(a, b):
    """max over the trajectory of ‖a − b‖ / ‖b‖, a pure number; 0 for two trajectories of zeros.

    Raises ValueError for trajectories that do not match.
    """
    pairs = _pairs(a, b)
    return max(((x.double() - y.double()).norm() / y.double().norm().clamp(min=1e-300)).item() for x, y in pairs)


def ulp_distance(a, b):
    """The largest number of representable numbers from an entry of ``a`` to the one of ``b``: 0 when they agree
    bit for bit (with 0.0 equal to −0.0), 1 for neighbours, infinity when only one of them is NaN.

    Raises ValueError for trajectories that do not match or are not of one floating dtype.
    """
    largest = 0
    for x, y in _pairs(a, b):
        if x.dtype != y.dtype or x.dtype not in _INTEGER:
            raise ValueError(f"dtypes {x.dtype} and {y.dtype}: ulps need one floating dtype for both")
        if not torch.equal(x.isnan(), y.isnan()):
            return float("inf")
        numbers = ~x.isnan()
        x, y = _index(x[numbers]), _index(y[numbers])
        larger, smaller = torch.maximum(x, y), torch.minimum(x, y)
        gaps = [int(p) - int(q) for p, q in zip(larger[larger != smaller], smaller[larger != smaller])]
        largest = max(largest, *gaps, 0)
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
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b)):
        shapes = [[tuple(t.shape) for t in trajectory[:3]] for trajectory in (a, b)]
        raise ValueError(
            f"trajectories of {len(a)} and {len(b)} entries, of shapes {shapes[0]} and {shapes[1]}, do not match"
        )
    return list(zip(a, b))
