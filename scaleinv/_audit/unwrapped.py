"""The ``torch.optim.Optimizer`` inside the wrappers of training libraries."""

from typing import Any

import torch


def unwrapped(optimizer: Any) -> Any:
    """What an object passes its steps on to: its ``optimizer``, as often as that is one; else the object itself.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> from scaleinv._audit.unwrapped import unwrapped
    >>> inner = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])
    >>> unwrapped(SimpleNamespace(optimizer=inner)) is inner
    True
    """
    seen = {id(optimizer)}
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer) and id(inner) not in seen:
        optimizer = inner
        seen.add(id(inner))
    return optimizer


def scaler_of(optimizer: Any) -> Any:
    """The ``GradScaler`` that a wrapper, such as Accelerate's, steps with; None if it has none."""
    scaler = getattr(optimizer, "scaler", None)
    return scaler if hasattr(scaler, "get_scale") and hasattr(scaler, "is_enabled") else None
