"""Whether a training can be rescaled in its middle.

Units of hyperparameters and state that all hold are not enough for an optimizer that keeps numbers elsewhere.
"""

from typing import Any

import torch

from scaleinv._hyperparameters import Values
from scaleinv._infer.deviation import ROUNDING, apart
from scaleinv._infer.problem import Scale
from scaleinv._infer.runs import UP_AND_DOWN, Runner
from scaleinv._reparam import plan_conversion
from scaleinv.units import Units


def fault_midway(runner: Runner, values: Values, units: Units) -> str:
    """Why a run does not continue when loss and parameters are rescaled in its middle; empty if it does."""
    runner = runner.most_precise(values)
    plain = runner.reference(values).trajectory
    for scale in (scale for scales in UP_AND_DOWN.values() for _, scale in scales):
        change = _Change(scale, units)
        changed = runner.changed_midway(values, change)
        if change.refused:
            return ""  # rescale refuses it too, and says why
        if changed is None or apart(plain, changed) > ROUNDING:
            return "it keeps state that is not in optimizer.state or param_groups, in the old units"
    return ""


class _Change:
    """Rescales a run, as ``rescale`` does; ``refused`` where that cannot be."""

    def __init__(self, scale: Scale, units: Units) -> None:
        self.scale, self.units, self.refused = scale, units, False

    def __call__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> Scale:
        weights = dict.fromkeys(parameters, self.scale.weight)
        try:
            conversion = plan_conversion(optimizer, weights, self.scale.loss, self.units)
        except (TypeError, ValueError):
            self.refused = True
            raise
        with torch.no_grad():
            for p in parameters:
                p.mul_(self.scale.weight)
        conversion.apply()
        return self.scale
