"""A copy of the parameters before a step: their norms, those of their gradients, and those of what a step changes.

On a CPU the cost is that of many small calls and of memory that is read again and again.  So small tensors share one
block of memory, in the order of their sizes, in which equal ones are the rows of a matrix with one call for all norms;
long ones are copied and measured piece by piece, while a piece is in the cache.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from scaleinv._norms import norms_of, stored_entries

_ROW = 4096  # entries that are summed in float32: of many more, the sum is wrong in the fourth digit
_SMALL = 16 * _ROW  # entries of a tensor that shares a block with others
_PIECE = 64 * _ROW  # entries that the cache holds
_HUGE, _TINY = 1e15, 1e-13  # norms beyond which squares may leave the range of float32


class Vector(NamedTuple):
    """Norms on one device, and the numbers of the parameters that they belong to."""

    rows: np.ndarray
    norms: Tensor


_Norms: TypeAlias = tuple[list[int], Tensor]  # the same, of a part


class _Part(Protocol):
    """Some of the parameters, with room for a copy of them."""

    rows: list[int]

    def copy(self) -> _Norms: ...
    def gradients(self) -> _Norms: ...
    def changes(self) -> _Norms: ...


class Snapshot:
    """Room for a copy of parameters, to be filled again at each step.

    >>> import torch
    >>> from scaleinv._recording.snapshot import Snapshot
    >>> weight = torch.tensor([3.0, 4.0])
    >>> snapshot = Snapshot([weight])
    >>> snapshot.copy()[0].norms.item()
    5.0
    >>> _ = weight.mul_(2)
    >>> snapshot.changes()[0].norms.item()
    5.0
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self._plain = [p for p in parameters if _is_plain(p)]
        self._pointers = [p.data_ptr() for p in self._plain]
        parts = sorted(_parts(self.parameters), key=self._device)
        self._by_device = [list(group) for _, group in groupby(parts, key=self._device)]
        self._rows = [np.array([row for part in parts for row in part.rows]) for parts in self._by_device]

    def fits(self) -> bool:
        """Whether the parameters still have the memory that they had: else they may have become others."""
        return [p.data_ptr() for p in self._plain] == self._pointers

    @torch.no_grad()
    def copy(self) -> list[Vector]:
        """Copy the parameters; return their norms."""
        return self._joined([[part.copy() for part in parts] for parts in self._by_device])

    @torch.no_grad()
    def gradients(self) -> list[Vector]:
        """Norms of the gradients, of parameters that have one."""
        return self._joined([[part.gradients() for part in parts] for parts in self._by_device])

    @torch.no_grad()
    def changes(self) -> list[Vector]:
        """Norms of what the parameters have changed by since they were copied; the copy is lost."""
        return self._joined([[part.changes() for part in parts] for parts in self._by_device])

    def _device(self, part: _Part) -> str:
        return str(self.parameters[part.rows[0]].device)

    def _joined(self, norms: Sequence[Sequence[_Norms]]) -> list[Vector]:
        vectors = []
        for rows, device in zip(self._rows, norms, strict=True):
            if sum(len(some) for some, _ in device) < len(rows):
                rows = np.array([row for some, _ in device for row in some], dtype=int)
            vectors.append(Vector(rows, torch.cat([norm for _, norm in device])))
        return vectors


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (torch.nn.Parameter, Tensor)


def _is_dense(gradient: Tensor) -> bool:
    return gradient.layout == torch.strided and _is_plain(gradient)


def _parts(parameters: Sequence[Tensor]) -> Iterator[_Part]:
    """The parameters in parts of one device and dtype."""
    kinds: dict[tuple[torch.device, torch.dtype, bool], list[int]] = {}
    for row, p in enumerate(parameters):
        on_cpu = _is_plain(p) and p.device.type == "cpu" and p.is_floating_point() and p.layout == torch.strided
        kinds.setdefault((p.device, p.dtype, on_cpu), []).append(row)
    for (_, dtype, on_cpu), rows in kinds.items():
        if not on_cpu:
            yield _Alike(rows, [parameters[row] for row in rows])
            continue
        small = sorted((row for row in rows if parameters[row].numel() <= _SMALL), key=lambda i: parameters[i].numel())
        blocks = list(_blocks(small, parameters))
        entries = max((sum(parameters[row].numel() for row in block) for block in blocks), default=0)
        shared = torch.empty(entries, dtype=dtype, device="cpu")
        yield from (_Packed(block, [parameters[row] for row in block], shared) for block in blocks)
        yield from (_Long(row, parameters[row]) for row in rows if parameters[row].numel() > _SMALL)


def _blocks(rows: Sequence[int], parameters: Sequence[Tensor]) -> Iterator[list[int]]:
    """Small tensors in blocks that the cache holds."""
    block: list[int] = []
    entries = 0
    for row in rows:
        if entries + parameters[row].numel() > _PIECE:
            yield block
            block, entries = [], 0
        block.append(row)
        entries += parameters[row].numel()
    if block:
        yield block


class _Alike:
    """Tensors of one device and dtype, as the ``foreach`` functions take them: all at once on a GPU."""

    def __init__(self, rows: list[int], tensors: list[Tensor]) -> None:
        self.rows, self._parameters = rows, tensors
        self._copies = [torch.empty_like(t.detach()) for t in tensors]

    def copy(self) -> _Norms:
        torch._foreach_copy_(self._copies, self._parameters)
        return self.rows, norms_of(self._copies)

    def gradients(self) -> _Norms:
        return _gradient_norms(self.rows, self._parameters)

    def changes(self) -> _Norms:
        torch._foreach_sub_(self._copies, self._parameters)
        return self.rows, norms_of(self._copies)


class _Packed:
    """Small tensors of a CPU that share a block of memory, ordered by size; ``shared`` has room for the gradients."""

    def __init__(self, rows: list[int], tensors: list[Tensor], shared: Tensor) -> None:
        self.rows, self._parameters = rows, tensors
        sizes = [t.numel() for t in tensors]
        self._copy, self._gradient = torch.empty_like(shared[: sum(sizes)]), shared[: sum(sizes)]
        self._copies, self._gradients = (
            [part.view(t.shape) for part, t in zip(block.split(sizes), tensors, strict=True)]
            for block in (self._copy, self._gradient)
        )
        self._runs: list[tuple[slice, int, int]] = []  # where tensors of one size are, their number, and their size
        start = 0
        for size, run in groupby(sizes):
            number = len(list(run))
            self._runs.append((slice(start, start + number * size), number, size))
            start += number * size

    def copy(self) -> _Norms:
        torch._foreach_copy_(self._copies, self._parameters)
        return self._norms(self._copy)

    def gradients(self) -> _Norms:
        gradients: list[Any] = [p.grad for p in self._parameters]
        if {*map(type, gradients)} != {Tensor} or {g.layout for g in gradients} != {torch.strided}:
            return _gradient_norms(self.rows, self._parameters)
        torch._foreach_copy_(self._gradients, gradients)
        return self._norms(self._gradient)

    def changes(self) -> _Norms:
        torch._foreach_sub_(self._copies, self._parameters)
        return self._norms(self._copy)

    def _norms(self, block: Tensor) -> _Norms:
        norms = [_norms_of_rows(block[where].view(number, size)) for where, number, size in self._runs]
        return self.rows, torch.cat(norms)


class _Long:
    """A long tensor of a CPU, piece by piece."""

    def __init__(self, row: int, tensor: Tensor) -> None:
        self.rows, self._parameter = [row], tensor
        self._copy = torch.empty(tensor.numel(), dtype=tensor.dtype, device="cpu")

    def copy(self) -> _Norms:
        return self._with_each_piece(Tensor.copy_)

    def gradients(self) -> _Norms:
        gradient = self._parameter.grad
        if gradient is None or not _is_dense(gradient):
            return _gradient_norms(self.rows, [self._parameter])
        return self.rows, _norm_of_norms(map(_norm_of, _in_memory_order(gradient).split(_PIECE)))

    def changes(self) -> _Norms:
        return self._with_each_piece(Tensor.sub_)

    def _with_each_piece(self, change: Callable[[Tensor, Tensor], Tensor]) -> _Norms:
        """Change the copy by the parameter; return its norm."""
        pieces = zip(self._copy.split(_PIECE), _in_memory_order(self._parameter).split(_PIECE), strict=True)
        return self.rows, _norm_of_norms(_norm_of(change(copy, piece)) for copy, piece in pieces)


def _in_memory_order(tensor: Tensor) -> Tensor:
    """The entries as a vector: a view, unless there are gaps between them."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).flatten()


def _norms_of_rows(matrix: Tensor) -> Tensor:
    """‖row‖ of each row of a contiguous matrix."""
    norms = _norms_by_parts(matrix, torch.float64 if matrix.dtype == torch.float64 else torch.float32)
    if matrix.dtype != torch.float64 and len(norms):
        least, greatest = torch.aminmax(norms)
        if not (_TINY < least.item() and greatest.item() < _HUGE):  # or NaN
            return _norms_by_parts(matrix, torch.float64)
    return norms


def _norms_by_parts(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The norm of the norms of a row's parts, each short enough to be summed in ``dtype``."""
    number, size = matrix.shape
    if size <= _ROW:
        return torch.linalg.vector_norm(matrix, dim=1, dtype=dtype)
    whole = size // _ROW * _ROW
    parts = torch.linalg.vector_norm(matrix[:, :whole].unflatten(1, (-1, _ROW)), dim=2, dtype=dtype)
    if whole < size:
        rest = torch.linalg.vector_norm(matrix[:, whole:], dim=1, dtype=dtype)
        parts = torch.cat([parts, rest[:, None]], dim=1)
    return torch.linalg.vector_norm(parts, dim=1)


def _norm_of(piece: Tensor) -> Tensor:
    return _norms_of_rows(piece[None])


def _norm_of_norms(norms: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.cat([*norms]).double()).reshape(1)


def _gradient_norms(rows: list[int], parameters: Sequence[Tensor]) -> _Norms:
    """Norms of gradients of any kind, of which some may be missing."""
    present = {row: stored_entries(p.grad) for row, p in zip(rows, parameters, strict=True) if p.grad is not None}
    if not present:
        return [], torch.empty(0, device=parameters[0].device)
    return [*present], norms_of([*present.values()])
