"""The gradients of one tensor, compared."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 1 << 18  # coordinates per block: what is converted to float64 at once


@dataclass(frozen=True)
class ComparedGradient:
    """The gradients of one tensor in ``a`` and in ``b``.  A number that is not known is NaN.

    Attributes:
        parameter, shape: its name and shape.
        status: "factor" (b is a multiple of a), "unequal" (it is not), "too_small" (rounding hides it), "zero" (in
            both), "only_a" and "only_b" (none, or zeros, in the other), "not_finite".
        factor: norm of b over norm of a, with the sign of the cosine: 1/factor where a and b change places.
        cosine: of the angle between them.
        rest: the share of b that no multiple of a is: the norm of b less its projection on a, over that of b.
        rms_a, rms_b: of the two gradients, unit L W⁻¹; NaN without one, infinite with a NaN in it.

    >>> import torch
    >>> from scaleinv import compare_gradients
    >>> a = {"w": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    >>> compare_gradients(a, {"w": 8 * a["w"]}).rows[0].factor
    8.0
    """

    parameter: str
    shape: tuple[int, ...]
    status: str
    factor: float = math.nan
    cosine: float = math.nan
    rest: float = math.nan
    rms_a: float = math.nan
    rms_b: float = math.nan

    @property
    def size(self) -> int:
        """The number of its coordinates."""
        return math.prod(self.shape)

    @property
    def norm_a(self) -> float:
        """The norm of the gradient in a."""
        return self.rms_a * math.sqrt(self.size)

    @property
    def norm_b(self) -> float:
        """The norm of the gradient in b."""
        return self.rms_b * math.sqrt(self.size)

    def distance(self, factor: float) -> float:
        """The norm of b − factor·a."""
        return math.hypot(self.norm_b * self.rest, self.cosine * self.norm_b - factor * self.norm_a)


class Together(NamedTuple):
    """``factor``, ``cosine`` and ``rest`` of all tensors as one vector; NaN without one that has a gradient in both."""

    factor: float
    cosine: float
    rest: float


def together(rows: Sequence[ComparedGradient]) -> Together:
    """Those of the tensors that have a gradient in both.

    >>> import torch
    >>> from scaleinv._gradients.row import compare_tensors, together
    >>> together([compare_tensors("v", torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0]))])
    Together(factor=2.0, cosine=1.0, rest=0.0)
    """
    both = [row for row in rows if not math.isnan(row.factor)]
    aa, bb = (sum(norm**2 for norm in norms) for norms in ([r.norm_a for r in both], [r.norm_b for r in both]))
    if not aa or not bb:
        return Together(math.nan, math.nan, math.nan)
    ab = sum(row.cosine * row.norm_a * row.norm_b for row in both)
    rest = math.sqrt(sum(row.distance(ab / aa) ** 2 for row in both) / bb)
    return Together(math.copysign(math.sqrt(bb / aa), ab), max(-1.0, min(1.0, ab / math.sqrt(aa * bb))), rest)


def compare_tensors(name: str, a: Tensor | None, b: Tensor | None) -> ComparedGradient:
    """Compare two gradients of one shape; None stands for no gradient.

    Sums are in float64, block by block.  Of complex tensors the real and the imaginary parts are coordinates.

    >>> import torch
    >>> from scaleinv._gradients.row import compare_tensors
    >>> row = compare_tensors("w", torch.tensor([1.0, 0.0]), torch.tensor([0.0, -3.0]))
    >>> row.factor, row.cosine, round(row.rest, 3)
    (3.0, 0.0, 1.0)
    """
    present = a if a is not None else b
    assert present is not None
    shape, size = tuple(present.shape), max(present.numel(), 1)
    aa = ab = bb = 0.0
    for x, y in _blocks(a, b):
        aa, ab, bb = aa + _square(x), ab + float(x @ y), bb + _square(y)
    squares = {"rms_a": aa if a is not None else math.nan, "rms_b": bb if b is not None else math.nan}
    sizes = {side: math.sqrt(square / size) for side, square in squares.items()}
    if not math.isfinite(aa + bb):
        return ComparedGradient(name, shape, "not_finite", **sizes)
    if aa == 0 or bb == 0:
        status = "zero" if aa == bb else "only_a" if bb == 0 else "only_b"
        return ComparedGradient(name, shape, status, **sizes)
    norms = math.sqrt(aa) * math.sqrt(bb)
    cosine = max(-1.0, min(1.0, ab / norms))
    factor = math.copysign(math.sqrt(bb) / math.sqrt(aa), ab)
    rest = sum(_square(y - ab / aa * x) for x, y in _blocks(a, b))
    return ComparedGradient(name, shape, "unequal", factor, cosine, math.sqrt(rest / bb), **sizes)


def relative_difference(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """‖b − a‖/‖a‖ of all pairs (a, b) together; NaN where all a are zeros.

    >>> import torch
    >>> from scaleinv._gradients.row import relative_difference
    >>> relative_difference([(torch.tensor([3.0]), torch.tensor([3.0])), (torch.tensor([4.0]), torch.tensor([3.0]))])
    0.2
    """
    difference = size = 0.0
    for a, b in pairs:
        for x, y in _blocks(a, b):
            difference, size = difference + _square(y - x), size + _square(x)
    return math.sqrt(difference / size) if size else math.nan


def _square(x: Tensor) -> float:
    """The sum of squares; infinite where an entry is not a number either."""
    square = float(x @ x)
    return math.inf if math.isnan(square) else square


def _blocks(a: Tensor | None, b: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Both in float64, block by block; zeros where there is no gradient."""
    flat = [_flat(each) if each is not None else None for each in (a, b)]
    length = next(len(each) for each in flat if each is not None)
    for start in range(0, length, BLOCK):
        parts = [None if each is None else each[start : start + BLOCK].double() for each in flat]
        known = next(part for part in parts if part is not None)
        x, y = (torch.zeros_like(known) if part is None else part for part in parts)
        yield x, y


def _flat(gradient: Tensor) -> Tensor:
    """The coordinates of a dense or sparse gradient, real numbers in order."""
    dense = gradient if gradient.layout == torch.strided else gradient.to_dense()
    return (torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense).reshape(-1)
