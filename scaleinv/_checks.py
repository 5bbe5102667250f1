"""Checks of arguments that are numbers in a range; errors name the argument, its value and what to pass instead."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Range(NamedTuple):
    """A set of numbers: its name, function(tensor) → which entries are in it, and what to pass instead of others."""

    text: str
    holds: Callable[[Tensor], Tensor]
    advice: str


_WHOLE = "the whole numbers from 1"
RATE = Range("[0, 1)", lambda x: (x >= 0) & (x < 1), "a decay rate such as 0.9")
POSITIVE_RATE = Range("(0, 1)", lambda x: (x > 0) & (x < 1), "a decay rate such as 0.999")
SLOW_RATE = Range("[0.8, 1]", lambda x: (x >= 0.8) & (x <= 1), "a slow decay rate; for a faster one, simulate")
SHARE = Range("[0, 1]", lambda x: (x >= 0) & (x <= 1), "a share such as 0.9")
CORRELATION = Range("[−1, 1]", lambda x: x.abs() <= 1, "a correlation such as 0.5")
POSITIVE = Range("(0, ∞)", lambda x: (x > 0) & x.isfinite(), "a positive number such as 1e-3")
NONNEGATIVE = Range("[0, ∞)", lambda x: (x >= 0) & x.isfinite(), "a number from 0 such as 1e-3")
FINITE = Range("(-∞, ∞)", torch.isfinite, "a finite number such as 0.1")
STEPS_OR_INFINITE = Range(_WHOLE, lambda x: (x >= 1) & (x == x.round()), "a number of steps, or None for the limit")

RANGES = {
    "beta1": RATE,
    "beta2": RATE,
    "snr": Range("[0, ∞]", lambda x: x >= 0, "|mean|/standard deviation of the gradient"),
    "autocorrelation": Range("(−1, 1)", lambda x: x.abs() < 1, "a correlation; a constant gradient has snr=inf"),
    "kappa": Range("the finite numbers", torch.isfinite, "the log of the gradient's growth in one step"),
    "lr": POSITIVE,
    "weight_decay": POSITIVE,
    "steps": Range(_WHOLE, lambda x: (x >= 1) & (x == x.round()) & x.isfinite(), "a number of steps such as 1000"),
}


def checked(ranges: Mapping[str, Range] | None = None, /, **arguments: Any) -> tuple[Tensor, ...]:
    """The arguments as float64 tensors of one shape on the CPU.

    Args:
        ranges: argument → its ``Range``, for arguments whose range is not that in RANGES.
        arguments: numbers, or tensors that broadcast.

    Raises:
        TypeError: if an argument is neither a number nor a tensor of real numbers.
        ValueError: if an entry is outside its range, or shapes do not broadcast.
    """
    tensors = {name: _checked(name, value, {**RANGES, **(ranges or {})}[name]) for name, value in arguments.items()}
    try:
        return tuple(torch.broadcast_tensors(*tensors.values()))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes that do not broadcast: {shapes}; give them one shape, or sides of 1") from None


def _checked(name: str, value: Any, allowed: Range) -> Tensor:
    if isinstance(value, Tensor):
        is_number = value.dtype != torch.bool and not value.is_complex()
    else:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{name}={value!r} is not a number or a tensor of numbers; pass {allowed.advice}")
    tensor = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
    if not (inside := allowed.holds(tensor)).all():
        raise ValueError(f"{name}={tensor[~inside][0].item():g} is outside {allowed.text}; pass {allowed.advice}")
    return tensor


def check_scale(name: str, value: Any) -> float:
    """``value`` as a float.

    Raises:
        TypeError: if it is neither a number nor a tensor of one number.
        ValueError: if it is not positive and finite.
    """
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number; pass a positive one, such as 8.0")
    scale = float(value)
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{name}={value!r} is not a scale; it has to be positive and finite")
    return scale


def check_count(name: str, value: Any) -> int:
    """``value`` as an int.

    Raises:
        TypeError: if it is not a whole number.
        ValueError: if it is below 1.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r} is not a whole number; pass one such as 10")
    if value < 1:
        raise ValueError(f"{name}={value!r} is below 1; pass a whole number such as 10")
    return int(value)
