"""Sizes of tensors: Euclidean norms of many at once, in float64 where float32 would lose digits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scaleinv._float64 import finest


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """‖t‖ of each, for tensors of one device and dtype."""
    tensors = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
    device, dtype = tensors[0].device, tensors[0].dtype
    if device.type != "cpu":
        return torch.stack(torch._foreach_norm(tensors, dtype=finest(device)))
    norms = _norms_by_rows(tensors, torch.float64 if dtype == torch.float64 else torch.float32)
    extreme = [i for i, norm in enumerate(norms.tolist()) if not 1e-13 < norm < 1e15]
    if extreme and dtype != torch.float64:  # their squares may be out of the range of float32
        norms[extreme] = _norms_by_rows([tensors[i] for i in extreme], torch.float64)
    return norms


def _norms_by_rows(tensors: Sequence[Tensor], dtype: torch.dtype, row: int = 4096) -> Tensor:
    """‖t‖ of each on the CPU, squares in ``dtype``.  A sum of millions of them in float32 is wrong in the fourth digit;
    so long tensors are cut into rows, and the norm is that of the rows' norms."""
    parts = [t if t.numel() <= row else _row_norms(t, dtype, row) for t in tensors]
    return torch.stack(torch._foreach_norm(parts, dtype=dtype)).double()


def _row_norms(tensor: Tensor, dtype: torch.dtype, row: int, rows: int = 256) -> Tensor:
    in_memory_order = tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    flat = in_memory_order.flatten()  # a view, unless there are gaps
    whole = len(flat) // row * row
    parts = flat[:whole].view(-1, row).split(rows)  # one after another, since each is converted to dtype
    norms = [torch.linalg.vector_norm(part, dim=1, dtype=dtype) for part in parts]
    return torch.cat([*norms, torch.linalg.vector_norm(flat[whole:], dtype=dtype).reshape(1)])


def stored_entries(tensor: Tensor) -> Tensor:
    """A dense tensor as it is; what a sparse one stores, each coordinate once."""
    if tensor.layout == torch.strided:
        return tensor
    return tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
