"""How large a tensor is, and which share of it is small: of a whole, a sparse or a sharded tensor, in place.

Nothing larger than a block of a tensor is copied.  Each process looks at its own shard of a DTensor, and the sums are
added up over the processes, so all of them have to call these functions, in the same order.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from scaleinv._float64 import finest, in_float64
from scaleinv._norms import norms_of, stored_entries

BLOCK = 1 << 18  # coordinates per block on a CPU: a block and its copies stay in the cache
BLOCK_OF_GPU = 1 << 24  # for each block the program waits for a GPU


class Size(NamedTuple):
    """RMS of a tensor; NaN, and why, where its numbers cannot be read."""

    rms: float
    unknown: str = ""


def size_of(tensor: torch.Tensor) -> Size:
    """The size of any tensor that a model may hold: quantised, packed and without numbers too."""
    name = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        return Size(math.nan, "its size is not known: it is on the meta device and has no numbers")
    if not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized):
        return Size(math.nan, f"its size is not known: its numbers are packed or coded as {name}")
    try:
        is_coded = tensor.is_quantized or (is_traceable_wrapper_subclass(tensor) and not is_sharded(tensor))
        return Size(rms(tensor.dequantize() if is_coded else tensor))
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):  # whatever a subclass does not implement
        return Size(math.nan, f"its size is not known: {type(tensor).__name__} of {name} does not show its numbers")


def rms(tensor: torch.Tensor) -> float:
    """The root mean square of all coordinates, with 0 for those that a sparse tensor does not store; 0 if empty."""
    return math.sqrt(total([square_of(stored_entries(local(tensor)))], tensor)[0] / max(tensor.numel(), 1))


def square_of(tensor: torch.Tensor) -> float:
    """Σ abs(x)², to six digits."""
    if tensor.is_floating_point() and tensor.element_size() == 1:  # float8 has no arithmetic
        return sum(float(norms_of([block.float()])[0]) ** 2 for block in blocks(tensor.detach()))
    return float(norms_of([as_real(tensor)])[0]) ** 2


class Shares(NamedTuple):
    """Of the coordinates of a tensor: the share with 0 < abs(x) < threshold, that of zeros, and the mean of abs(x)."""

    below: float
    zero: float
    mean: float


def shares_below(tensor: torch.Tensor, threshold: float) -> Shares:
    entries = as_real(stored_entries(local(tensor)))
    small = zero = size_sum = 0.0
    for block in blocks(entries):
        magnitudes = block.abs()
        zeros = float((block == 0).sum())
        small += float((magnitudes < threshold).sum()) - (zeros if threshold > 0 else 0)
        zero += zeros
        size_sum += float(magnitudes.sum(dtype=torch.float32))
    small, stored, zero, size_sum = total([small, entries.numel(), zero, size_sum], tensor)
    size = max(tensor.numel(), 1)
    size *= 2 if tensor.is_complex() else 1
    return Shares(small / size, (zero + size - stored) / size, size_sum / size)  # what is not stored is zero


def rms_below(tensor: torch.Tensor, threshold: float, power: int) -> float:
    """The RMS of what ``tensor`` holds the ``power`` of, over its coordinates with 0 < abs(x) < ``threshold``."""
    square = number = 0.0
    for block in blocks(as_real(stored_entries(local(tensor)))):
        magnitudes = block.abs()
        small = in_float64(magnitudes[(magnitudes > 0) & (magnitudes < threshold)])
        square += float((small if power == 2 else small.square()).sum())
        number += small.numel()
    square, number = total([square, number], tensor)
    return math.sqrt(square / number) if number else math.nan


def as_real(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in real floating-point numbers: a complex tensor seen as pairs, integers converted."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor if tensor.is_floating_point() else tensor.float()


def blocks(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Its coordinates in order, in vectors of at most ``BLOCK``; views where it is contiguous."""
    size = BLOCK if tensor.device.type == "cpu" else BLOCK_OF_GPU
    return tensor.reshape(-1).split(size) if tensor.numel() else ()


def is_sharded(tensor: torch.Tensor) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "to_local")


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a DTensor, as ``total`` adds the parts up; any other tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    assert isinstance(tensor, DTensor)
    if any(place.is_partial() for place in tensor.placements):  # its parts are terms of a sum, not shards
        tensor = tensor.redistribute(placements=[Replicate() if p.is_partial() else p for p in tensor.placements])
    return tensor.to_local()


def total(values: Sequence[float], tensor: torch.Tensor) -> Sequence[float]:
    """Floats computed from ``local(tensor)``, added up over the shards of ``tensor``."""
    if not is_sharded(tensor):
        return values
    from torch.distributed.tensor import DTensor, Partial, Replicate

    assert isinstance(tensor, DTensor)
    places = [Replicate() if p.is_replicate() or p.is_partial() else Partial("sum") for p in tensor.placements]
    device = tensor.to_local().device
    exact = torch.tensor(values, dtype=finest(device), device=device)
    return DTensor.from_local(exact, tensor.device_mesh, places, run_check=False).full_tensor().tolist()
