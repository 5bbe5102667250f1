"""The share of coordinates whose gradient is too small for eps."""

import math
from typing import NamedTuple

import torch

from scaleinv._audit.amounts import shares_below
from scaleinv._audit.training import Trained
from scaleinv.known_optimizers import GradientScale
from scaleinv.units import G

_POWERS = {G: 1, G**2: 2}  # unit of eps → the power of the gradient with which the optimizer compares it


class EpsShares(NamedTuple):
    """Shares of the coordinates whose gradient scale is below eps but not 0, and 0; NaN where eps has no such part."""

    below: float = math.nan
    zero: float = math.nan


def eps_shares(trained: Trained) -> EpsShares:
    """The shares by the gradient scale in the optimizer's state; before the first step, by the gradient."""
    value, unit = trained.group.get("eps"), trained.unit_of("eps")
    power = _POWERS.get(unit) if unit else None
    if power is None or not isinstance(value, float | int) or not trained.known.eps_per_coordinate:
        return EpsShares()
    eps = float(value) ** (1 / power)  # Adadelta's is added under the root
    scale = _scale_in_use(trained)
    if scale:
        threshold = eps**scale.power * _bias_correction(trained, scale)
        return EpsShares(*shares_below(trained.state[scale.buffer], threshold))
    gradient = trained.parameter.grad
    return EpsShares() if gradient is None else EpsShares(*shares_below(gradient, eps / trained.clip))


def _scale_in_use(trained: Trained) -> GradientScale | None:
    """What the optimizer divides by, of the buffers that its state has; None before the first step."""
    if not trained.steps:
        return None
    scales = trained.known.gradient_scales
    return next((scale for scale in scales if isinstance(trained.state.get(scale.buffer), torch.Tensor)), None)


def _bias_correction(trained: Trained, scale: GradientScale) -> float:
    """1 − β₂ᵗ, by which the optimizer divides the buffer; 1 where it does not."""
    if not scale.bias_corrected or "betas" not in trained.group or "step" not in trained.state:
        return 1.0
    return 1 - float(trained.group["betas"][1]) ** trained.steps
