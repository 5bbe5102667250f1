"""How far two runs are apart."""

import math
from typing import NamedTuple

from torch import Tensor

ROUNDING = 1e-9  # share of the lengths of both runs, up to which they differ by rounding only
COARSE = 0.1  # up to which they may differ by the rounding of a low precision, if they agree in float64


class Deviation(NamedTuple):
    """The largest deviation among several runs, and the change of scale with which it occurs, in words."""

    share: float = 0.0
    where: str = ""


def length(trajectory: Tensor) -> Tensor:
    """How far the parameters move from the start, over all steps; never 0."""
    return (trajectory - trajectory[0]).norm() + 1e-300


def apart(reference: Tensor, trajectory: Tensor) -> float:
    """How far a trajectory deviates, relative to the lengths of both: 0 if bitwise equal, 1 if unlike."""
    lengths = length(trajectory) + length(reference) + 1e-6 * reference.norm()
    share = ((trajectory - reference).norm() / lengths).item()
    return share if math.isfinite(share) else 1.0


def moves(trajectory: Tensor | None) -> bool:
    """Whether the run was possible and ends elsewhere than it starts."""
    return trajectory is not None and bool((trajectory[0] != trajectory[-1]).any())
