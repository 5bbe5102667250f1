"""A value times the factor of its unit."""

import math
from numbers import Real
from typing import Any

import torch

from scaleinv.units import Unit


def multiplied(name: str, value: Any, unit: Unit, factor: float) -> Any:
    """The value times the factor; the same object if the factor is 1.

    Args:
        name: what the value is called in an error.
        value: a number, or a tensor of one.
        unit: its unit, for an error.
        factor: a positive number.

    Raises:
        TypeError: if the value is not a number.
        ValueError: if it is None, or the product leaves the range of floats.
    """
    if factor == 1:
        return value
    if value is None:
        raise ValueError(
            f"{name}=None stands for a constant that the optimizer chooses. Its unit is {unit}, and it would have to "
            f"change by a factor of {factor:g}; pass {name} as a number"
        )
    if not _is_number(value):
        raise TypeError(f"{name}={value!r} is not a number")
    new = value * factor
    if not math.isfinite(new) or (new == 0 and value != 0):
        raise ValueError(f"{name}={value!r} of unit {unit} times {factor:g} leaves the range of floats")
    return new


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and value.dtype != torch.bool and not value.is_complex()
    return isinstance(value, Real) and not isinstance(value, bool)
