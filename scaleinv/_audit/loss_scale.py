"""By which factor gradients are still multiplied: that of a loss scaler, until it divides them."""

from typing import Any

import torch

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
    if scaler is None:
        return 1.0
    if not hasattr(scaler, "get_scale"):
        if isinstance(scaler, bool) or not isinstance(scaler, int | float | torch.Tensor):
            raise TypeError(f"scaler={scaler!r} is not a GradScaler; pass one, or the factor by which it scales")
        return check_scale("scaler", scaler)
    if not scaler.is_enabled() or _has_unscaled(scaler, optimizer):
        return 1.0
    return check_scale("scaler.get_scale()", scaler.get_scale())


def _has_unscaled(scaler: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Whether the scaler has divided the gradients since its last update; it keeps that to itself."""
    state = getattr(scaler, "_per_optimizer_states", {}).get(id(optimizer), {})
    return getattr(state.get("stage"), "name", "READY") != "READY"
