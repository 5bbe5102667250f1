"""How large a tensor is, and which share of it is small: of a whole, a sparse or a sharded one, in place.

Nothing larger than a block of a tensor is copied.  Of a DTensor each process looks at its own shard, and the sums
are added up over the processes: so all of them have to call these functions, in the same order.
"""

import math

import torch

from scaleinv._norms import entries_of, norms_of

BLOCK = 1 << 18  # coordinates looked at in one go: they stay in the cache


def rms(tensor):
    """The root mean square over all coordinates, those that a sparse tensor does not store being 0; 0 of none."""
    return math.sqrt(total([square_of(entries_of(local(tensor)))], tensor)[0] / max(tensor.numel(), 1))


def square_of(tensor):
    """Σ abs(x)², a float, to six digits."""
    return norms_of([numbers(tensor)])[0].item() ** 2


def shares_below(tensor, threshold):
    """The share of coordinates with 0 < abs(x) < ``threshold``, and that of zeros."""
    entries = numbers(entries_of(local(tensor)))
    small = zero = 0
    for block in blocks(entries):
        zeros = (block == 0).sum().item()
        small += (block.abs() < threshold).sum().item() - (zeros if threshold > 0 else 0)
        zero += zeros
    small, stored, zero = total([small, entries.numel(), zero], tensor)
    size = max(tensor.numel(), 1)
    size *= 2 if tensor.is_complex() else 1
    return small / size, (zero + size - stored) / size  # what a sparse tensor does not store is zero


def numbers(tensor):
    """The tensor as one of real floating numbers: a complex one seen as pairs, one of integers converted."""
    tensor = tensor.detach()
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor if tensor.is_floating_point() else tensor.float()


def blocks(tensor):
    """Its coordinates in order, in vectors of at most ``BLOCK``; views where it is contiguous."""
    return tensor.reshape(-1).split(BLOCK) if tensor.numel() else ()


def is_sharded(tensor):
    """Whether it is a DTensor."""
    return hasattr(tensor, "to_local")


def local(tensor):
    """This process's part of a DTensor, as ``total`` adds them up; another tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import Replicate

    if any(place.is_partial() for place in tensor.placements):  # its parts are terms of a sum, not shards
        tensor = tensor.redistribute(placements=[Replicate() if p.is_partial() else p for p in tensor.placements])
    return tensor.to_local()


def total(values, tensor):
    """Floats computed from ``local(tensor)``, added up over the shards of ``tensor``."""
    if not is_sharded(tensor):
        return values
    from torch.distributed.tensor import DTensor, Partial, Replicate

    places = [Replicate() if p.is_replicate() or p.is_partial() else Partial("sum") for p in tensor.placements]
    device = tensor.to_local().device
    exact = torch.tensor(values, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    return DTensor.from_local(exact, tensor.device_mesh, places, run_check=False).full_tensor().tolist()
