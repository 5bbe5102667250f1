"""The share of coordinates whose gradient is too small for eps."""

import math
from typing import NamedTuple

import torch

from scaleinv._audit.amounts import rms, rms_below, shares_below
from scaleinv._audit.training import Trained
from scaleinv.known_optimizers import GradientScale
from scaleinv.units import G

_POWERS = {G: 1, G**2: 2}  # unit of eps → the power of the gradient with which the optimizer compares it


class Eps(NamedTuple):
    """What eps does, coordinate by coordinate; NaN where it has no such part.

    Attributes:
        below, zero: shares of the coordinates whose gradient scale is below eps but not 0, and 0.
        scale: RMS of the gradient scale, L W⁻¹.
        small: the same of the coordinates below eps, where they are a tenth or more.
        rounds_to_zero: whether it is 0 in the format in which it is added.
    """

    below: float = math.nan
    zero: float = math.nan
    scale: float = math.nan
    small: float = math.nan
    rounds_to_zero: bool = False


def eps_of(trained: Trained) -> Eps:
    """By the gradient scale in the optimizer's state; before the first step, by the gradient."""
    value, unit = trained.group.get("eps"), trained.unit_of("eps")
    power = _POWERS.get(unit) if unit else None
    if power is None or not isinstance(value, float | int) or not trained.known.eps_per_coordinate:
        return Eps()
    eps = float(value) ** (1 / power)  # Adadelta's is added under the root
    scale, gradient = scale_in_use(trained), trained.parameter.grad
    if scale:
        correction = _bias_correction(trained, scale)
        return _eps(trained, _Scales(trained.state[scale.buffer], scale.power, correction ** (1 / scale.power)), eps)
    if gradient is None:
        return Eps(rounds_to_zero=_rounds_to_zero(trained, trained.parameter))
    return _eps(trained, _Scales(gradient, 1, 1 / trained.gradient_factor), eps)


class _Scales(NamedTuple):
    """A tensor that holds the ``power`` of gradient scales times ``factor``."""

    tensor: torch.Tensor
    power: int
    factor: float


def _eps(trained: Trained, scales: _Scales, eps: float) -> Eps:
    tensor, power, factor = scales
    threshold = (eps * factor) ** power
    below, zero, mean = shares_below(tensor, threshold)
    if tensor is trained.parameter.grad:
        size = trained.gradient_rms * trained.loss_scale  # known already
    else:
        size = math.sqrt(mean) if power == 2 else rms(tensor)
    small = rms_below(tensor, threshold, power) / factor if below >= 0.1 else math.nan
    return Eps(below, zero, size / factor, small, _rounds_to_zero(trained, trained.parameter))


def _rounds_to_zero(trained: Trained, parameter: torch.Tensor) -> bool:
    """torch.optim adds eps in the format of its state, which is the parameter's; a fused step adds it in float32."""
    if trained.group.get("fused") or parameter.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return False
    return float(torch.tensor(float(trained.group["eps"]), dtype=parameter.dtype, device="cpu")) == 0


def scale_in_use(trained: Trained) -> GradientScale | None:
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
