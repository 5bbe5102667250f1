"""Weight decay: its share of a step, and where it leads."""

import math
from typing import NamedTuple

from scaleinv._audit.training import Trained
from scaleinv.units import ONE, G, W


class Decay(NamedTuple):
    """What weight decay does to the stored parameter.

    Attributes:
        share: of the step where it is decoupled, lr·λ·RMS(w)/RMS(Δw); of the gradient where it is not, λ·RMS(w)/RMS(g).
        rate: lr·λ, the share of the parameter that decoupled decay takes at a step.
        equilibrium: RMS(w) to which it leads under noise.
    """

    share: float = math.nan
    rate: float = math.nan
    equilibrium: float = math.nan


def decay_of(trained: Trained, change: float) -> Decay:
    """What weight decay does beside steps of RMS ``change``: its unit tells whether it is decoupled (W⁻¹, or 1) or part
    of the gradient (G W⁻¹)."""
    group, unit = trained.group, trained.unit_of("weight_decay")
    decay = float(group.get("weight_decay", 0) or 0)
    if not decay or "lr" not in group:
        return Decay()
    if unit == G / W:
        return Decay(_ratio(decay * trained.rms, trained.gradient_rms * trained.clip))
    if unit not in (ONE / W, ONE):
        return Decay()
    rate, law = float(group["lr"]) * decay, trained.known.equilibrium
    return Decay(_ratio(rate * trained.rms, change), rate, law(group) if law else math.nan)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan
