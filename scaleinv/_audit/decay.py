"""Weight decay: its share of a step, and where it leads."""

import math
from typing import NamedTuple

import torch

from scaleinv._audit.rounding import decays_by
from scaleinv._audit.training import Trained
from scaleinv.units import ONE, G, W

_FORMATS = torch.bfloat16, torch.float16, torch.float32


class Decay(NamedTuple):
    """What weight decay does to the stored parameter.

    Attributes:
        share: of the step where it is decoupled, lr·λ·RMS(w)/RMS(Δw); of the gradient where it is not, λ·RMS(w)/RMS(g).
        rate: lr·λ, the share of the parameter that decoupled decay takes at a step.
        equilibrium: RMS(w) to which it leads under noise; NaN where rounding loses most of it.
        lost: share of the coordinates where the format of the parameter rounds decoupled decay away.
    """

    share: float = math.nan
    rate: float = math.nan
    equilibrium: float = math.nan
    lost: float = math.nan


def decay_of(trained: Trained, change: float) -> Decay:
    """What weight decay does beside steps of RMS ``change``: its unit tells whether it is decoupled (W⁻¹, or 1) or part
    of the gradient (G W⁻¹)."""
    group, unit = trained.group, trained.unit_of("weight_decay")
    decay = float(group.get("weight_decay", 0) or 0)
    if not decay or group.get("lr") is None:
        return Decay()
    if unit == G / W:
        return Decay(_ratio(decay * trained.rms, trained.gradient_rms * trained.clip))
    if unit not in (ONE / W, ONE):
        return Decay()
    rate, law = float(group["lr"]) * decay, trained.known.equilibrium
    size, lost = _as_stored(trained, rate)
    equilibrium = law(group) if law and not lost > 0.5 else math.nan
    return Decay(_ratio(size, change), rate, equilibrium, lost)


def _as_stored(trained: Trained, rate: float) -> tuple[float, float]:
    """RMS of what decay changes, and the share of the coordinates where rounding leaves nothing of it.

    A fused step rounds decay and update together, so that decay by itself loses nothing.
    """
    dtype = trained.parameter.dtype
    if dtype not in _FORMATS or trained.group.get("fused") or trained.parameter.layout != torch.strided:
        return rate * trained.rms, math.nan
    if not rate or rate > torch.finfo(dtype).eps:  # more than every gap between numbers
        return rate * trained.rms, 0.0
    return decays_by(trained.parameter, rate)


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan
