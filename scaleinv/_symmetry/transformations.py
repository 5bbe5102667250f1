"""What is done to the gradients: a factor for each of some parts, powers of two, or a rotation.

All maps take and return one matrix for each tensor.  They are linear, fixed by a seed, and computed in float64.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = list[Tensor]
Shapes: TypeAlias = tuple[tuple[int, int], ...]
Map: TypeAlias = Callable[[Tensors], Tensors]

POWERS = (-3, -2, -1, 1, 2, 3)  # factors are powers of two from 1/8 to 8


def same(tensors: Tensors) -> Tensors:
    """The identity."""
    return tensors


class Transformation(NamedTuple):
    """A linear change of the gradients, and of the parameters with it.

    Attributes:
        of_gradients: gradients → the gradients given instead.
        of_parameters: the start → the start instead; a factor leaves it as it is, a rotation rotates it too.
        back: what undoes ``of_parameters``.
        sum_of_factors: how many times as large a loss is whose every entry has a term of 1, and its factor.
    """

    of_gradients: Map = same
    of_parameters: Map = same
    back: Map = same
    sum_of_factors: float = 1.0


def scalings(shapes: Shapes) -> dict[str, list[Transformation]]:
    """Which entries share a factor → two changes of the gradients, by factors and by their inverses."""
    draw = _powers()
    of_each = {
        "global": lambda: [draw(1, 1)] * len(shapes),
        "tensor": lambda: [draw(1, 1) for _ in shapes],
        "column": lambda: [draw(1, columns) for _, columns in shapes],
        "row": lambda: [draw(rows, 1) for rows, _ in shapes],
        "entry": lambda: [draw(*shape) for shape in shapes],
    }
    return {name: list(_by_factors(powers(), shapes)) for name, powers in of_each.items()}


def _by_factors(powers: Tensors, shapes: Shapes) -> Iterator[Transformation]:
    for sign in (1, -1):
        factors = [(2.0 ** (sign * each)).expand(shape) for each, shape in zip(powers, shapes, strict=True)]

        def multiplied(tensors: Tensors, factors: Tensors = factors) -> Tensors:
            return [factor * tensor for factor, tensor in zip(factors, tensors, strict=True)]

        entries = sum(factor.numel() for factor in factors)
        total = sum(factor.sum().item() for factor in factors)
        yield Transformation(of_gradients=multiplied, sum_of_factors=total / entries)


def rotations(shapes: Shapes) -> dict[str, list[Transformation]]:
    """What is rotated → a rotation of it: the rows (QG), the columns (GQ), all entries of a tensor, or of all."""
    by_rows, by_columns, again = _sides(shapes, "rows"), _sides(shapes, "columns"), _sides(shapes, "both")
    # Rotated rows and columns, shuffled entries, and rows and columns rotated again: this mixes all that is shuffled.
    mixed = {
        name: _chain(by_rows, by_columns, shuffled, again)
        for name, shuffled in {"tensor": _shuffled(shapes, False), "global": _shuffled(shapes, True)}.items()
    }
    pairs = {"rows": by_rows, "columns": by_columns, **mixed}
    return {name: [Transformation(there, there, back)] for name, (there, back) in pairs.items()}


def _sides(shapes: Shapes, which: str) -> tuple[Map, Map]:
    """A rotation of rows, of columns, or of both, and its inverse."""
    left = [_rotation(rows if which != "columns" else 0, rows) for rows, _ in shapes]
    right = [_rotation(columns if which != "rows" else 0, columns, seed=1) for _, columns in shapes]

    def there(tensors: Tensors) -> Tensors:
        return [q @ t @ r for q, t, r in zip(left, tensors, right, strict=True)]

    def back(tensors: Tensors) -> Tensors:
        return [q.T @ t @ r.T for q, t, r in zip(left, tensors, right, strict=True)]

    return there, back


def _rotation(mixed: int, size: int, seed: int = 0) -> Tensor:
    """A random rotation of ``size`` dimensions; the identity where ``mixed`` is 0."""
    if not mixed:
        return torch.eye(size, dtype=torch.float64, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((size, size), generator=generator, dtype=torch.float64, device="cpu")
    q, _ = torch.linalg.qr(normal)
    q[:, 0] *= torch.linalg.det(q).sign()
    return q


def _shuffled(shapes: Shapes, across: bool) -> tuple[Map, Map]:
    """Entries change places, within each tensor or ``across`` all of them, and back."""
    generator = torch.Generator().manual_seed(2)
    sizes = [rows * columns for rows, columns in shapes]
    if across:
        order = torch.randperm(sum(sizes), generator=generator)
    else:
        firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        parts = [torch.randperm(size, generator=generator) + first for size, first in zip(sizes, firsts, strict=True)]
        order = torch.cat(parts)

    def put(order: Tensor) -> Map:
        return lambda tensors: split(torch.cat([t.flatten() for t in tensors])[order], shapes)

    return put(order), put(order.argsort())


def split(vector: Tensor, shapes: Shapes) -> Tensors:
    """The tensors whose entries stand one after another in a vector, or in the last dimension of a trajectory.

    >>> import torch
    >>> from scaleinv._symmetry.transformations import split
    >>> [tensor.tolist() for tensor in split(torch.arange(5), ((1, 2), (3, 1)))]
    [[[0, 1]], [[2], [3], [4]]]
    """
    parts = vector.split([rows * columns for rows, columns in shapes], dim=-1)
    return [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]


def _chain(*pairs: tuple[Map, Map]) -> tuple[Map, Map]:
    """One map after another, and back."""

    def there(tensors: Tensors) -> Tensors:
        for each, _ in pairs:
            tensors = each(tensors)
        return tensors

    def back(tensors: Tensors) -> Tensors:
        for _, each in reversed(pairs):
            tensors = each(tensors)
        return tensors

    return there, back


def _powers() -> Callable[..., Tensor]:
    generator, powers = torch.Generator().manual_seed(0), torch.tensor(POWERS, dtype=torch.float64, device="cpu")
    return lambda *shape: powers[torch.randint(len(powers), shape, generator=generator)]
