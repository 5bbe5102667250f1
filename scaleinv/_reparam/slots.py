"""Where a module keeps its parameters."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scaleinv._reparam.scale import Place, scale_at


@dataclass(frozen=True)
class Slot:
    """A parameter and its places in a module; it has several if it is tied.

    Attributes:
        parameter: as it is stored.
        names: all names that it has in the module, first to last.
        places: for each of them, the submodule that owns it and its name there.
        weight: the factor by which it is stored; 1 if it is not scaled.
    """

    parameter: nn.Parameter
    names: tuple[str, ...]
    places: tuple[Place, ...]
    weight: float

    @property
    def owner(self) -> nn.Module:
        return self.places[0][0]


def parameter_slots(module: nn.Module) -> dict[str, Slot]:
    """Return name → slot, of all names of all parameters.

    Raises:
        TypeError: if ``module`` is not a module.
        ValueError: if a parameter is scaled in one of its places and not in another, or a submodule is a script.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} is not a torch.nn.Module")
    places: dict[nn.Parameter, dict[str, Place]] = {}
    of_name: dict[str, nn.Parameter] = {}
    for path, submodule in module.named_modules(remove_duplicate=False):
        if isinstance(submodule, torch.jit.ScriptModule):
            raise ValueError("module: a script reads parameters past a scale; scale the module that it was made from")
        for attribute, parameter in submodule._parameters.items():
            if parameter is not None:
                name = f"{path}.{attribute}" if path else attribute
                of_name[name] = parameter
                places.setdefault(parameter, {})[name] = submodule, attribute
    slots = {parameter: _slot(parameter, of_one) for parameter, of_one in places.items()}
    return {name: slots[parameter] for name, parameter in of_name.items()}


def _slot(parameter: nn.Parameter, places: dict[str, Place]) -> Slot:
    weights = {name: scale_at(place) for name, place in places.items()}
    if len(set(weights.values())) > 1:
        stored = ", ".join(f"{name!r} {weight:g} times" for name, weight in weights.items())
        raise ValueError(
            f"a tied parameter is stored in different scales under its names, {stored} as large; it was tied after it "
            "had been scaled. Tie first, then scale"
        )
    return Slot(parameter, tuple(places), tuple(places.values()), next(iter(weights.values())))


def kept_elsewhere(module: nn.Module, parameters: Collection[nn.Parameter]) -> dict[nn.Parameter, str]:
    """Parameters that a submodule keeps in an attribute or a list besides registering them, and where.

    What a module computes from there does not pass through the scale.
    """
    found: dict[nn.Parameter, str] = {}
    wanted = {id(parameter): parameter for parameter in parameters}
    for path, submodule in module.named_modules():
        if isinstance(submodule, nn.RNNBase | nn.parallel.DistributedDataParallel):
            continue  # an RNN's list is handled; the other averages the gradients of what it keeps
        for name, value in vars(submodule).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for each in _items(value):
                if id(each) in wanted:
                    found[wanted[id(each)]] = f"{path}.{name}".removeprefix(".")
    return found


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple | set) else [value]
