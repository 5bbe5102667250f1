"""The exponents that explain runs: least squares on how a run changes with each scale and hyperparameter.

For the scales c and k and hyperparameters h of unit L^a W^b, see ``scaleinv.infer``:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0,    ∂w/∂log k + Σ b_h ∂w/∂log h = 0
"""

import math
from fractions import Fraction

import torch

from scaleinv._infer.probe import trajectory_of
from scaleinv.units import Unit

STEP = 1e-5  # of the central differences, in log h: truncation 1e-10, rounding 1e-11
FIT = 1e-4  # residual, relative to the largest term or the length of the run, up to which exponents explain a run
RESOLUTION = 1e-6  # singular value, of columns of length 1, below which a direction has no effect
NOISE = 30  # or below so many times the residual
STILL = 1e-4  # of the length of the coordinate that moves most: what moves less counts as if it moved so far
DENOMINATOR = 6  # largest of a simple exponent
SIMPLE = 0.01  # distance to such a fraction, up to which an exponent is that fraction
DECIMAL = 1e-4  # distance to a fraction in hundredths, up to which an exponent that is not simple is that


class Exponents:
    """The units of the hyperparameters ``names``, as far as the runs taken in so far tell.

    Attributes:
        units: name → Unit, for what has had an effect.
        certain: names whose unit no other would do for; the others have not been told apart.
    """

    def __init__(self, runner, names, precision):
        self._runner, self._names, self._precision = runner, names, precision
        self._runs, self.units, self.certain = [], {}, set()

    def take_in(self, values, **options):
        """The residual when the run with ``values`` is explained, too; up to FIT the run counts from now on."""
        runs = [*self._runs, sensitivities(self._runner, values, self._precision, **options)]
        units, certain, residual = solve(self._names, runs)
        if residual <= FIT:
            self._runs, self.units, self.certain = runs, units, certain
        return residual


def sensitivities(runner, values, precision, **options):
    """∂w/∂log of the loss scale, the parameter scale and each hyperparameter, for each coordinate relative to how far
    it moves: a matrix (steps·coordinates, 2 + n)."""
    start, _ = runner(values, **options)
    moved = (start - start[0]).norm(dim=0)
    moved = moved.clamp(min=STILL * moved.max().item()) * moved.numel() ** 0.5

    def difference(change):
        with precision():
            ends = [trajectory_of(runner, *change(math.exp(step)), **options) for step in (STEP, -STEP)]
        if ends[0] is None or ends[1] is None:  # a value at its bound cannot be varied both ways: no effect is seen
            return torch.zeros_like(start).flatten()
        return ((ends[0] - ends[1]) / (2 * STEP) / moved).flatten()

    columns = [difference(lambda factor: (values, 1.0, factor)), difference(lambda factor: (values, factor))]
    for name in values.floats:
        columns.append(difference(lambda factor: (values.replace(name, values[name] * factor),)))
    return torch.stack(columns, dim=1)


def solve(names, matrices, resolution=RESOLUTION):
    """name → unit, for the hyperparameters that have an effect, the set of those determined, and the residual."""
    matrix = torch.cat(matrices)
    scales, columns = matrix[:, :2], matrix[:, 2:]
    norms = columns.norm(dim=0)
    effective = norms > 1e-7
    columns, norms = columns[:, effective], norms[effective]
    scaled = columns / norms
    _, singular, directions = torch.linalg.svd(scaled, full_matrices=False)
    # coordinates in which a direction without effect has a part are not told apart
    loose = (directions[singular < resolution].abs() > 1e-3).any(dim=0)
    solution = torch.zeros(len(norms), 2, dtype=scaled.dtype)
    # of such, those named first take the unit
    first = torch.linalg.qr(scaled).R.diagonal().abs() > resolution
    solution[first] = torch.linalg.lstsq(scaled[:, first], -scales, driver="gelsd").solution / norms[first, None]
    nearest = [[fraction(exponent) for exponent in row] for row in solution.tolist()]
    fractions = torch.tensor([[float(f) for f in row] for row in nearest], dtype=solution.dtype).reshape(-1, 2)
    simple = ~loose & ((solution - fractions).abs().amax(dim=1) < SIMPLE)
    # what is left over when the determined exponents are fractions, and the others as good as can be
    terms = columns[:, simple, None] * fractions[simple]
    rest = scales + terms.sum(dim=1)
    others = scaled[:, ~simple]
    misfit = (rest - others @ torch.linalg.lstsq(others, rest, driver="gelsd").solution).norm(dim=0).max().item()
    largest = max(1.0, scales.norm(dim=0).max().item(), *terms.norm(dim=0).flatten().tolist())
    residual = misfit / largest
    if resolution < NOISE * residual < NOISE * FIT:  # what is smaller than the misfit tells nothing
        return *solve(names, matrices, NOISE * residual)[:2], residual
    with_effect = [name for name, matters in zip(names, effective) if matters]
    units = {name: Unit(*pair) for name, pair in zip(with_effect, nearest)}
    return units, {name for name, certain in zip(with_effect, simple) if certain}, residual


def fraction(exponent):
    """The simple fraction that an exponent is, or the number of hundredths, or a simple one that it is not."""
    simple, decimal = Fraction(exponent).limit_denominator(DENOMINATOR), Fraction(round(100 * exponent), 100)
    return decimal if abs(simple - exponent) > SIMPLE and abs(decimal - exponent) < DECIMAL else simple
