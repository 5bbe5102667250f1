"""The numbers and tensors in an optimizer's state, wherever it keeps them: in lists, dicts and objects too."""

from collections.abc import Iterator
from numbers import Real
from typing import Any, NamedTuple

import torch

_OPAQUE = (type(None), bool, str, torch.dtype, torch.device, torch.nn.Module, torch.optim.Optimizer)


class Leaf(NamedTuple):
    """A number or a tensor, and where it is: ``container[key]``."""

    name: str
    container: Any
    key: Any
    value: Any


def leaves(state: Any, name: str = "", depth: int = 4) -> Iterator[Leaf]:
    """All numbers and tensors in a state; what is in a list has the list's name, in a dict or an object one such as
    ``projector.matrix``.

    What else is found, as a function, is a leaf too; flags and texts are not.

    >>> import torch
    >>> from scaleinv._leaves import leaves
    >>> state = {"step": 1, "factors": [torch.zeros(2), torch.zeros(3)], "projector": {"side": "left", "scale": 0.5}}
    >>> [leaf.name for leaf in leaves(state)]
    ['step', 'factors', 'factors', 'projector.scale']
    """
    for key, value in _items(state):
        inner = name if isinstance(state, list | tuple) else f"{name}.{key}".lstrip(".")
        if isinstance(value, _OPAQUE):
            continue
        nested = not isinstance(value, torch.Tensor | Real) and depth and (_items(value) or _is_empty(value))
        if nested:
            yield from leaves(value, inner, depth - 1)
        else:
            container = state if isinstance(state, dict | list | tuple) else vars(state)
            yield Leaf(inner, container, key, value)


def values_of_buffer(buffer: torch.Tensor) -> torch.Tensor:
    """The numbers that a buffer stands for: itself, but for a tensor of few bits, such as the states of torchao.

    Such a tensor computes little itself; it can be read, and new numbers can be copied into it.
    """
    has_few_bits = type(buffer).dequantize is not torch.Tensor.dequantize  # its class has one of its own
    return buffer.dequantize() if has_few_bits else buffer


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return [] if callable(value) else list(getattr(value, "__dict__", {}).items())


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and not value
