"""The exponents that explain runs: least squares on how a run changes with each scale and hyperparameter.

For the scales c and k and hyperparameters h of unit L^a W^b, see ``scaleinv._infer.infer``:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0,    ∂w/∂log k + Σ b_h ∂w/∂log h = 0
"""

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from scaleinv._hyperparameters import Values
from scaleinv._infer.runs import ByName
from scaleinv._infer.sensitivities import Differentiation
from scaleinv.units import Unit

FIT = 1e-4  # residual, relative to the largest term or the length of the run, up to which exponents explain a run
NO_EFFECT = 1e-7  # length of a column up to which a hyperparameter has no effect
RESOLUTION = 1e-6  # singular value, of columns of length 1, below which a direction has no effect
NOISE = 30  # or below this many times the residual
PART = 1e-3  # of a hyperparameter in a direction, above which it belongs to it
DENOMINATOR = 6  # largest of a simple exponent
SIMPLE = 0.01  # distance to such a fraction, up to which an exponent is that fraction
DECIMAL = 1e-4  # distance to a fraction in hundredths, up to which an exponent that is not simple is that


class Solution(NamedTuple):
    """The units that explain runs best.

    Attributes:
        units: key → unit, for what has an effect.
        certain: the keys whose unit no other would do for; the others are not told apart.
        residual: what the units leave unexplained.
    """

    units: ByName
    certain: set[str]
    residual: float


class Exponents:
    """The units of hyperparameters, as far as the runs explained so far tell; ``units`` and ``certain`` are those of
    the latest ``Solution``."""

    def __init__(self, differentiation: Differentiation) -> None:
        self._differentiation = differentiation
        self._matrices: list[Tensor] = []
        self.units: ByName = {}
        self.certain: set[str] = set()

    def explain(self, values: Values, steps: int | None = None) -> float:
        """The residual when the run with ``values`` is explained too; up to FIT the run counts from now on."""
        matrices = [*self._matrices, self._differentiation.sensitivities(values, steps)]
        units, certain, residual = solve(self._differentiation.keys, matrices)
        if residual <= FIT:
            self._matrices, self.units, self.certain = matrices, units, certain
        return residual

    def uncertain(self, key: str) -> bool:
        """Whether a hyperparameter has an effect, and another unit would do."""
        return key in self.units and key not in self.certain


def solve(keys: list[str], matrices: list[Tensor]) -> Solution:
    """The solution for runs with these sensitivities."""
    matrix = torch.cat(matrices)
    resolution = RESOLUTION
    solution = _solve(keys, matrix, resolution)
    residual, finest = solution.residual, solution.residual
    while resolution < NOISE * residual < NOISE * FIT:  # what is smaller than the misfit tells nothing
        resolution = NOISE * residual
        solution = _solve(keys, matrix, resolution)
        residual = solution.residual
    return solution._replace(residual=finest)


def _solve(keys: list[str], matrix: Tensor, resolution: float) -> Solution:
    scales, columns = matrix[:, :2], matrix[:, 2:]
    norms = columns.norm(dim=0)
    effective = norms > NO_EFFECT
    columns, norms = columns[:, effective], norms[effective]
    scaled = columns / norms
    exponents = _least_squares(scales, scaled, resolution) / norms[:, None]
    nearest = [[fraction(exponent) for exponent in pair] for pair in exponents.tolist()]
    fractions = torch.tensor([[float(f) for f in pair] for pair in nearest], dtype=exponents.dtype).reshape(-1, 2)
    simple = (exponents - fractions).abs().amax(dim=1) < SIMPLE
    determined = simple & ~_not_told_apart(scaled, resolution)
    with_effect = [key for key, matters in zip(keys, effective, strict=True) if matters]
    return Solution(
        units={key: Unit(*pair) for key, pair in zip(with_effect, nearest, strict=True)},
        certain={key for key, certain in zip(with_effect, determined, strict=True) if certain},
        residual=_residual(scales, columns[:, determined, None] * fractions[determined], scaled[:, ~determined]),
    )


def _not_told_apart(scaled: Tensor, resolution: float) -> Tensor:
    """Which hyperparameters have a part in a direction without effect."""
    _, singular, directions = torch.linalg.svd(scaled, full_matrices=False)
    return (directions[singular < resolution].abs() > PART).any(dim=0)


def _least_squares(scales: Tensor, scaled: Tensor, resolution: float) -> Tensor:
    """A coefficient of each column for each scale; of columns that are not told apart, the first take it all."""
    coefficients = torch.zeros(scaled.shape[1], 2, dtype=scaled.dtype)
    first = torch.linalg.qr(scaled).R.diagonal().abs() > resolution
    coefficients[first] = torch.linalg.lstsq(scaled[:, first], -scales, driver="gelsd").solution
    return coefficients


def _residual(scales: Tensor, terms: Tensor, others: Tensor) -> float:
    """What the determined terms leave over of the scales when the other columns explain as much as they can."""
    rest = scales + terms.sum(dim=1)
    misfit = (rest - others @ torch.linalg.lstsq(others, rest, driver="gelsd").solution).norm(dim=0).max().item()
    largest = max(1.0, scales.norm(dim=0).max().item(), *terms.norm(dim=0).flatten().tolist())
    return misfit / largest


def fraction(exponent: float) -> Fraction:
    """The simple fraction that an exponent is, or the number of hundredths; else a simple fraction near it.

    >>> from scaleinv._infer.exponents import fraction
    >>> fraction(0.3333), fraction(0.48)
    (Fraction(1, 3), Fraction(12, 25))
    """
    simple, decimal = Fraction(exponent).limit_denominator(DENOMINATOR), Fraction(round(100 * exponent), 100)
    return decimal if abs(simple - exponent) > SIMPLE and abs(decimal - exponent) < DECIMAL else simple
