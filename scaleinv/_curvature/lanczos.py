"""The largest eigenvalue of a symmetric matrix of which only products with vectors are known."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

_FEWEST = 10  # products before a small residual is believed: a start can look like an eigenvector for a while


class Eigenvalue(NamedTuple):
    """An eigenvalue to within ``error``, and after how many products."""

    value: float
    error: float
    products: int

    def times(self, factor: float) -> "Eigenvalue":
        """That of the matrix times a factor from 0."""
        return Eigenvalue(self.value * factor, self.error * factor, self.products)


def largest_eigenvalue(multiply: Callable[[Tensor], Tensor], start: Tensor, accuracy: float, most: int) -> Eigenvalue:
    """The largest eigenvalue, by Lanczos' method with full reorthogonalisation.

    The symmetric matrix S is seen in the orthonormal basis Q that ``start``, S·start, S²·start, … span:
    S·Q = Q·B + r·eᵀ.  Of the symmetric part of B, let θ be the largest eigenvalue and y its unit vector.  Then Q·y
    has the residual ‖S·Q·y − θ·Q·y‖ = √(‖B·y − θ·y‖² + (‖r‖·yₘ)²), and an eigenvalue of S lies within that of θ: S − θ
    multiplies each part of a unit vector by λ − θ, of an eigenvalue λ.  B is computed whole, so that products that are
    not those of a symmetric matrix, by rounding or otherwise, enlarge the residual.

    Args:
        multiply: function(vector) → S·vector.
        start: a vector with a part along the eigenvector, such as a random one.
        accuracy: share of the value at which the error is small enough.
        most: products at most.

    Powers of two by which S is multiplied appear in the value and its error, and change no other bit.

    >>> import torch
    >>> from scaleinv._curvature.lanczos import largest_eigenvalue
    >>> diagonal = torch.tensor([1.0, -7.0, 3.0])
    >>> round(largest_eigenvalue(lambda v: diagonal * v, torch.ones(3), 1e-3, 10).value, 4)
    3.0
    """
    size, most = len(start), min(most, len(start))
    basis = start.new_empty(min(16, most), size)
    basis[0] = start / torch.linalg.vector_norm(start)
    matrix = torch.zeros(most, most, dtype=torch.float64, device="cpu")
    for count in range(1, most + 1):
        vector = multiply(basis[count - 1])
        known = basis[:count]
        for _ in range(2):  # once leaves as much of the basis in the vector as rounding makes of its norm
            parts = known @ vector
            vector = vector - parts @ known
            matrix[:count, count - 1] += parts.cpu().double()
        rest = float(torch.linalg.vector_norm(vector))
        found = _largest(matrix[:count, :count], rest if count < size else 0.0)
        enough = count >= _FEWEST and found.error <= accuracy * abs(found.value)
        if enough or count == most or rest == 0 or not math.isfinite(found.error):
            break
        if count == len(basis):
            basis = torch.cat([basis, torch.empty_like(basis)[: most - count]])
        basis[count] = vector / rest
        matrix[count, count - 1] = rest
    return found


def _largest(matrix: Tensor, rest: float) -> Eigenvalue:
    """θ and the norm of its residual; the matrix is first divided by a power of two, so that its unit has no effect."""
    count = len(matrix)
    largest = float(matrix.abs().max())
    if largest == 0 or not math.isfinite(largest + rest):
        return Eigenvalue(largest, rest, count)
    unit = 2.0 ** math.frexp(largest)[1]
    scaled = matrix / unit
    values, vectors = torch.linalg.eigh((scaled + scaled.T) / 2)
    value, y = values[-1], vectors[:, -1]
    inside = torch.linalg.vector_norm(scaled @ y - value * y)
    return Eigenvalue(float(value) * unit, math.hypot(float(inside), rest / unit * float(y[-1])) * unit, count)
