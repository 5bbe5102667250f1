"""Arguments that are numbers in a range: checked, named where they are outside, and made tensors of one shape."""

import math
from numbers import Real
from typing import NamedTuple

import torch


class Range(NamedTuple):
    text: str
    holds: object
    advice: str


_WHOLE = "the whole numbers from 1"
RATE = Range("[0, 1)", lambda x: (x >= 0) & (x < 1), "a decay rate such as 0.9")
POSITIVE_RATE = Range("(0, 1)", lambda x: (x > 0) & (x < 1), "a decay rate such as 0.999")
SLOW_RATE = Range("[0.8, 1]", lambda x: (x >= 0.8) & (x <= 1), "a slow decay rate; for a faster one, simulate")
CORRELATION = Range("[−1, 1]", lambda x: x.abs() <= 1, "a correlation such as 0.5")
POSITIVE = Range("(0, ∞)", lambda x: (x > 0) & x.isfinite(), "a positive number such as 1e-3")
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


def checked(ranges=None, /, **arguments):
    """The arguments as float64 tensors of one shape, each inside its ``Range``: that in ``ranges``, or in RANGES."""
    tensors = {}
    for name, value in arguments.items():
        allowed = (ranges or {}).get(name) or RANGES[name]
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if isinstance(value, torch.Tensor):
            is_number = value.dtype != torch.bool and not value.is_complex()
        if not is_number:
            raise TypeError(f"{name}={value!r} is not a number or a tensor of numbers; pass {allowed.advice}")
        tensor = torch.as_tensor(value, dtype=torch.float64, device="cpu").detach()
        if not (inside := allowed.holds(tensor)).all():
            raise ValueError(f"{name}={tensor[~inside][0].item():g} is outside {allowed.text}; pass {allowed.advice}")
        tensors[name] = tensor
    try:
        return torch.broadcast_tensors(*tensors.values())
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes that do not broadcast: {shapes}; give them one shape, or sides of 1") from None


def check_scale(name, value):
    """``value`` as a float, if it is a positive finite number; else TypeError or ValueError naming ``name``."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} is not a number; pass a positive one, such as 8.0")
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r} is not a scale; it has to be positive and finite")
    return float(value)
