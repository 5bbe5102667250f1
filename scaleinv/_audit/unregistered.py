"""What a module does not do: register layers in a plain list, and freeze by an attribute."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Unregistered:
    """Parameters in a plain list, tuple or dict of a module.

    Attributes:
        where: the attribute, such as "encoder.layers".
        tensors: how many parameters that require a gradient are in it, and in nothing that the model registers.
        with_gradient: how many of them have a gradient: these are computed with.
    """

    where: str
    tensors: int
    with_gradient: int


def unregistered(model: nn.Module, held: Collection[torch.Tensor]) -> list[Unregistered]:
    """What each attribute holds that neither the model registers nor an optimizer trains.

    >>> import torch
    >>> from scaleinv._audit.unregistered import unregistered
    >>> model = torch.nn.Module()
    >>> model.layers = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
    >>> unregistered(model, [])
    [Unregistered(where='layers', tensors=4, with_gradient=0)]
    """
    known = {id(p) for p in (*model.parameters(), *held)}
    lost = []
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules") or not isinstance(value, list | tuple | dict):
                continue
            found = {id(p): p for p in _parameters_in(value) if p.requires_grad and id(p) not in known}
            if found:
                known |= found.keys()  # of a list that two modules share, once
                with_gradient = sum(p.grad is not None for p in found.values())
                lost.append(Unregistered(f"{path}.{name}".removeprefix("."), len(found), with_gradient))
    return lost


def _parameters_in(value: Any, depth: int = 3) -> Iterator[nn.Parameter]:
    """All parameters in containers of containers, of modules too."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif depth and isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _parameters_in(each, depth - 1)


def not_frozen(model: nn.Module) -> set[str]:
    """Names of the parameters below a module that was given the attribute ``requires_grad = False``.

    >>> import torch
    >>> from scaleinv._audit.unregistered import not_frozen
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False))
    >>> model[0].requires_grad = False
    >>> not_frozen(model)
    {'0.weight'}
    """
    return {
        f"{path}.{name}".removeprefix(".")
        for path, module in model.named_modules()
        if vars(module).get("requires_grad") is False
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }
