"""The types of an optimizer's parts, and the buffers that a rule declares."""

from collections.abc import Callable, Mapping
from typing import Any, Concatenate, NamedTuple, ParamSpec

import torch
from torch import Tensor

Scalar = float | Tensor
"""A float hyperparameter: one number, or a 1-d tensor with one entry for each member of an ensemble."""

Pair = tuple[Scalar, Scalar]
"""Two float hyperparameters under one name, such as betas."""

Hyperparameters = dict[str, Any]
"""Checked hyperparameters: name → bool, float64 tensor, or pair of float64 tensors."""

Tensors = Mapping[str, Tensor]
"""Name of a parameter → its value, gradient, update or buffer."""

State = dict[str, Any]
"""``"step"`` → an int, and buffer → ``Tensors``."""

StepScalars = Callable[[int, Hyperparameters], Mapping[str, Any]]
"""What follows from the step t = 1, 2, … and the hyperparameters alone: name → float64 tensor, or tuple of them."""

Check = Callable[[Mapping[str, Any], Hyperparameters], None]
"""Raises ValueError if hyperparameters do not go together: function(as the caller passed them, checked)."""

P = ParamSpec("P")

Body = Callable[Concatenate[Tensor, Tensor, Any, Any, P], Tensor]
"""A rule for one tensor: body(g, w, s, at, …hyperparameters) → update; see ``rule``."""


class Buffer(NamedTuple):
    """State that a rule keeps for each parameter.

    Attributes:
        start: function(w, h) → what it is before the first step, for a parameter w and hyperparameters h.
        flag: the hyperparameter that has to be True for a rule to keep the buffer; None for a buffer always kept.
        scalar: whether it is one number, of its own dtype, instead of a tensor like the parameter.

    >>> import torch
    >>> from scaleinv.optimizers import Buffer, rule
    >>> @rule(largest=Buffer(lambda w, h: torch.ones_like(w)))
    ... def sgd_of_shares(g, w, s, at, lr=0.1):
    ...     s.largest = torch.maximum(s.largest, g.abs())
    ...     return -lr * g / s.largest
    >>> sgd_of_shares().init({"w": torch.zeros(2)})
    {'step': 0, 'largest': {'w': tensor([1., 1.])}}
    """

    start: Callable[[Tensor, Hyperparameters], Tensor]
    flag: str | None = None
    scalar: bool = False


def _zeros_like(w: Tensor, h: Hyperparameters) -> Tensor:
    return torch.zeros_like(w)


zeros = Buffer(_zeros_like)


def zeros_if(flag: str) -> Buffer:
    """A buffer of zeros for a rule whose hyperparameter ``flag`` is True."""
    return Buffer(_zeros_like, flag=flag)
