"""A weight decay from an optimizer that takes lr·λ·w a step to one that takes λ·w, and back."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from scaleinv.changes import Change
from scaleinv.units import Units

_BEFORE = {"times lr": "independent", "independent": "times lr"}  # what changes into what
_WHY_NOT = {
    "times lr": "already takes lr·weight_decay·w a step, as torch.optim.AdamW does; use its value as it is",
    "independent": "already takes weight_decay·w a step, whatever lr is; use its value as it is",
    "coupled": "is added to the gradient, so that a step does not take lr·weight_decay·w; convert that of a decoupled "
    "one, such as torch.optim.AdamW",
    "other": "takes neither lr·weight_decay·w nor weight_decay·w a step, and cannot be converted",
    "": "is missing, or how it acts is not known; pass the result of scaleinv.infer_units",
}


def converted_decay(optimizer_class: Any, units: Units, values: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The new weight decay, by name.

    Args:
        optimizer_class: of the optimizer, for its name.
        units: of the optimizer, with the way in which it decays.
        values: its hyperparameters.
        change: one with ``decay``.

    Raises:
        TypeError: if lr or the weight decay is not a number.
        ValueError: if the optimizer does not decay in the other way, or the result is not defined at this lr.
    """
    if units.decay != _BEFORE[change.decay]:
        name = getattr(optimizer_class, "__name__", "this optimizer")
        raise ValueError(f"weight_decay of {name} {_WHY_NOT[units.decay]}")
    for each in ("lr", "weight_decay"):
        if each not in values:
            raise ValueError(f"{each} is missing; pass it, as in {{'lr': 1e-3, 'weight_decay': 0.1}}")
    lr, decay = _number("lr", values["lr"]), values["weight_decay"]
    if _number("weight_decay", decay) == 0:
        return {}
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(
            f"lr={lr:g}: at this lr a decay of lr·weight_decay is not defined. In a schedule, pass the lr at which its "
            "multiplier is 1, such as initial_lr of the group"
        )
    new = decay / lr if change.decay == "times lr" else lr * decay
    if not 0 < abs(float(new)) < math.inf:
        raise ValueError(f"weight_decay={decay!r} at lr={lr:g} leaves the range of floats")
    return {"weight_decay": new}


def _number(name: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number")
    return float(value)
