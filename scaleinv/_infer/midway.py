"""Whether a training can be rescaled in its middle.

Units of hyperparameters and state that all hold are not enough for an optimizer that keeps numbers elsewhere.
"""

from typing import Any

import torch

from scaleinv._hyperparameters import Values
from scaleinv._infer.deviation import ROUNDING, apart
from scaleinv._infer.kinds import kinds_for
from scaleinv._infer.runs import UP_AND_DOWN, Runner
from scaleinv._infer.training import Scale
from scaleinv._reparam import plan_conversion
from scaleinv.units import Units


def fault_midway(runner: Runner, values: Values, units: Units) -> str:
    """Why a run does not continue when loss and parameters are rescaled in its middle; empty if it does."""
    runner = runner.most_precise(values)
    runners = [runner, *(runner.on(kind) for kind in kinds_for(runner) if kind not in units.not_for)]
    if all(_continues(each, values, units) for each in runners):
        return ""
    return "it keeps state that is not in optimizer.state or param_groups, in the old units"


def _continues(runner: Runner, values: Values, units: Units) -> bool:
    """Whether a run continues the same at other scales; True where ``rescale`` refuses it too, and says why."""
    plain = runner.trajectory(values)
    for scale in (scale for scales in UP_AND_DOWN.values() for _, scale in scales):
        change = _Change(scale, units)
        changed = None if plain is None else runner.changed_midway(values, change)
        if plain is None or change.refused:
            return True
        if changed is None or apart(plain, changed) > ROUNDING:
            return False
    return True


class _Change:
    """Rescales a run, as ``rescale`` does; ``refused`` where that cannot be."""

    def __init__(self, scale: Scale, units: Units) -> None:
        self.scale, self.units, self.refused = scale, units, False

    def __call__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> Scale:
        weights = dict.fromkeys(parameters, self.scale.weight)
        try:
            conversion = plan_conversion(optimizer, weights, self.scale.loss, self.units, with_schedulers=False)
        except (TypeError, ValueError):
            self.refused = True
            raise
        with torch.no_grad():
            for p in parameters:
                p.mul_(self.scale.weight)
        conversion.apply()
        return self.scale
