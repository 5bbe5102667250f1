"""The derivatives of a run by the logarithms of the two scales and of each hyperparameter: central differences."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from scaleinv._entries import get_entry, with_entry
from scaleinv._hyperparameters import Values
from scaleinv._infer.runs import AS_IS, Runner
from scaleinv._infer.training import Scale

STEP = 1e-5  # of the central differences, in log h: truncation 1e-10, rounding 1e-11
STILL = 1e-4  # of the length of the coordinate that moves most: what moves less counts as if it moved that far

Change = Callable[[float], tuple[Values, Scale]]  # a factor → the values and the scale changed by it


class Differentiation:
    """Central differences of runs.

    Attributes:
        runner: the optimizer as it is, from whose runs the length of each coordinate's way is taken.
        exact: the same, as precise as it can be; its runs are differentiated.
        keys: the hyperparameters, or entries of them, to differentiate by.
    """

    def __init__(self, runner: Runner, exact: Runner, keys: list[str]) -> None:
        self.runner, self.exact, self.keys = runner, exact, keys

    def sensitivities(self, values: Values, steps: int | None = None) -> Tensor:
        """∂w/∂log of the loss scale, the parameter scale and each hyperparameter, relative to how far each coordinate
        moves: a matrix (steps·coordinates, 2 + n)."""
        start = self.runner.reference(values, steps).trajectory
        moved = (start - start[0]).norm(dim=0)
        moved = moved.clamp(min=STILL * moved.max().item()) * moved.numel() ** 0.5

        def by(change: Change) -> Tensor:
            ends = [self.exact.trajectory(*change(math.exp(step)), steps) for step in (STEP, -STEP)]
            if ends[0] is None or ends[1] is None:  # a value at its bound cannot be varied both ways: no effect is seen
                return torch.zeros_like(start).flatten()
            return ((ends[0] - ends[1]) / (2 * STEP) / moved).flatten()

        columns = [by(lambda factor: (values, Scale(loss=factor))), by(lambda factor: (values, Scale(weight=factor)))]
        columns += [by(_multiplied(values, key)) for key in self.keys]
        return torch.stack(columns, dim=1)


def _multiplied(values: Values, key: str) -> Change:
    return lambda factor: (with_entry(values, key, get_entry(values, key) * factor), AS_IS)
