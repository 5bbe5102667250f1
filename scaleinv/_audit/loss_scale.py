"""By which factor gradients are still multiplied: that of a loss scaler, until it divides them."""

from typing import Any

import torch

from scaleinv._audit.amounts import rms
from scaleinv._checks import check_scale


def loss_scale(scaler: Any, optimizer: torch.optim.Optimizer) -> float:
    """The factor between the gradients of an optimizer as they are and as its next step will see them.

    Args:
        scaler: a ``torch.amp.GradScaler``, or the factor itself; None for 1.
        optimizer: whose gradients they are: the scaler knows whether it has unscaled them.

    Raises:
        TypeError: if it is neither.
        ValueError: if it is a number that is not positive and finite.

    >>> import torch
    >>> from scaleinv._audit.loss_scale import loss_scale
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])
    >>> loss_scale(None, optimizer), loss_scale(1024, optimizer)
    (1.0, 1024.0)
    """
    scale = scale_of(scaler)
    if not hasattr(scaler, "get_scale"):
        return scale
    return 1.0 if _has_unscaled(scaler, optimizer) or _look_unscaled(optimizer, scale) else scale


def scale_of(scaler: Any) -> float:
    """The factor by which a scaler multiplies the loss; 1 for None and for one that is not enabled.

    Raises:
        TypeError, ValueError: as ``loss_scale``.
    """
    if scaler is None:
        return 1.0
    if not hasattr(scaler, "get_scale"):
        if isinstance(scaler, bool) or not isinstance(scaler, int | float | torch.Tensor):
            raise TypeError(f"scaler={scaler!r} is not a GradScaler; pass one, or the factor by which it scales")
        return check_scale("scaler", scaler)
    return check_scale("scaler.get_scale()", scaler.get_scale()) if scaler.is_enabled() else 1.0


def _has_unscaled(scaler: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the scaler has divided the gradients since its last update; it keeps that to itself."""
    state = getattr(scaler, "_per_optimizer_states", {}).get(id(optimizer), {})
    return getattr(state.get("stage"), "name", "READY") != "READY"


def _look_unscaled(optimizer: torch.optim.Optimizer, scale: float) -> bool:
    """After ``scaler.update()`` gradients stay as they were divided, and the scaler has forgotten that.

    Then they are about as large as the average in the optimizer's state; before, as many times as large as the scale.
    """
    if scale < 1024:  # too near to what gradients do by themselves
        return False
    gradients = averages = 0.0
    for parameter, state in optimizer.state.items():
        average = state.get("exp_avg", state.get("momentum_buffer")) if isinstance(state, dict) else None
        gradient = parameter.grad
        if isinstance(average, torch.Tensor) and gradient is not None:
            gradients += rms(gradient) ** 2 * parameter.numel()
            averages += rms(average) ** 2 * average.numel()
    return averages > 0 and gradients < averages * scale
