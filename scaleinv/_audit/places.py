"""Where the parameters of a model are, what the model computes with there, and which optimizer trains them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from scaleinv._audit.amounts import rms
from scaleinv._random_state import kept_random_state
from scaleinv._reparam import Slot, parameter_slots

Group: TypeAlias = tuple[torch.optim.Optimizer, int]  # an optimizer and the number of one of its groups


@dataclass(frozen=True, eq=False)
class Place:
    """A parameter of a model.

    Attributes:
        names: all of its names; several where it is tied.
        layer: the class of the module that it belongs to.
        parameter: as the optimizer holds it, w'.
        weight: the factor k by which it is stored: the model computes with w = w'/k.
        through: the ``ParametrizationList`` through which the model computes with it, if there is one.
    """

    names: tuple[str, ...]
    layer: str
    parameter: torch.Tensor
    weight: float = 1.0
    through: parametrize.ParametrizationList | None = None

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def note(self) -> str:
        """Through what the model computes with it, in words."""
        if self.through is None:
            return ""
        attribute = self.name.rpartition("parametrizations.")[2].partition(".")[0]
        return f"a part of {attribute}, through {', '.join(type(each).__name__ for each in self.through)}"

    def effective_rms(self, stored: float) -> float:
        """RMS of what the model computes with, from that of w'.

        A parametrization is evaluated in evaluation mode, in which it should not change; modes and random state are
        restored.
        """
        if self.through is None:
            return stored / self.weight
        modes = [(module, module.training) for module in self.through.modules()]
        try:
            self.through.eval()
            with kept_random_state(), torch.no_grad():
                return rms(self.through())
        finally:
            for module, mode in modes:
                module.training = mode


def places_of(model: nn.Module) -> list[Place]:
    """The places of a model's parameters, in its order, each once.

    Raises:
        TypeError: if ``model`` is not a module.
        ValueError: if a parameter that requires a gradient has no numbers yet.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is not a torch.nn.Module; pass the one that the optimizer trains")
    slots = {slot.parameter: slot for slot in parameter_slots(model).values()}
    for slot in slots.values():
        if is_lazy(slot.parameter) or (slot.parameter.is_meta and slot.parameter.requires_grad):
            raise ValueError(
                f"model: parameter {slot.names[0]!r} has no numbers yet; run a lazy module once, or load a meta one"
            )
    return [_place(model, slot) for slot in slots.values()]


def _place(model: nn.Module, slot: Slot) -> Place:
    through = slot.owner if isinstance(slot.owner, parametrize.ParametrizationList) else None
    return Place(slot.names, layer_of(model, slot), slot.parameter, slot.weight, through)


def layer_of(model: nn.Module, slot: Slot) -> str:
    """The class of the module that a parameter belongs to."""
    owner = slot.owner
    if isinstance(owner, parametrize.ParametrizationList):
        owner = model.get_submodule(f".{slot.names[0]}".rpartition(".parametrizations.")[0].removeprefix("."))
    return parametrize.type_before_parametrizations(owner).__name__


class Held(NamedTuple):
    """What optimizers hold.

    Attributes:
        groups: parameter of the model → its ``Group``.
        others: the tensors that the model does not have.
        twice: names of the parameters that one optimizer holds more than once, and steps as often.
    """

    groups: dict[torch.Tensor, Group]
    others: list[torch.Tensor]
    twice: list[str]


def held_by(optimizers: Sequence[torch.optim.Optimizer], places: Sequence[Place]) -> Held:
    """What optimizers hold of a model with these places.

    Raises:
        TypeError: if an optimizer is not one.
        ValueError: if two optimizers hold a parameter.
    """
    held = Held({}, [], [])
    names = {place.parameter: place.name for place in places}
    for optimizer, number, parameter in _held(optimizers):
        first = held.groups.get(parameter)
        if parameter not in names:
            held.others.append(parameter)
        elif first is None:
            held.groups[parameter] = optimizer, number
        elif first[0] is optimizer:
            held.twice.append(names[parameter])
        else:
            raise ValueError(
                f"optimizer: {names[parameter]!r} is held by two of them, {type(first[0]).__name__} and "
                f"{type(optimizer).__name__}; give each parameter to one"
            )
    return held


def _held(optimizers: Sequence[torch.optim.Optimizer]) -> list[tuple[torch.optim.Optimizer, int, torch.Tensor]]:
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer={optimizer!r} is not a torch.optim.Optimizer; pass one, or a list of those that train the "
                "model together"
            )
    return [
        (optimizer, number, parameter)
        for optimizer in optimizers
        for number, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
    ]
