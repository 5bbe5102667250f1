"""What the steps of an optimizer depend on, of a tensor that another optimizer trains."""

import math
from typing import Any

import torch

from scaleinv._float64 import in_float64
from scaleinv._norms import norms_of, stored_entries
from scaleinv.known_optimizers import StepContext, known_of


def context_of(p: torch.Tensor, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> StepContext:
    """The shape and RMS of a parameter, and the RMS of its gradient."""
    gradient_rms = _rms_of_past_gradients(optimizer, group, optimizer.state.get(p, {}))
    if math.isnan(gradient_rms) and p.grad is not None:
        gradient_rms = _rms(p.grad)
    return StepContext(shape=tuple(p.shape), dtype=p.dtype, rms=_rms(p), gradient_rms=gradient_rms)


def _rms_of_past_gradients(optimizer: torch.optim.Optimizer, group: dict[str, Any], state: dict[str, Any]) -> float:
    """As the optimizer's state has it, which averages over many; NaN where it does not."""
    for scale in known_of(type(optimizer), group).gradient_scales:
        if scale.buffer in state and scale.bias_corrected and "betas" in group and "step" in state:
            known = 1 - float(group["betas"][1]) ** float(state["step"])
            mean = in_float64(state[scale.buffer]).mean().item()
            return math.sqrt(mean / known) if known else math.nan
    return math.nan


def _rms(x: torch.Tensor) -> float:
    """NaN for a tensor without numbers."""
    if x.is_meta or not x.numel():
        return math.nan
    return norms_of([stored_entries(x.detach())]).item() / math.sqrt(x.numel())
