"""Where a module keeps its parameters."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn
from torch.nn.utils import parametrize

from scaleinv._reparam.scale import Scale


@dataclass(frozen=True)
class Slot:
    """The place of a parameter in a module.

    Attributes:
        owner: the submodule that has it.
        attribute: its name there.
        parameter: as it is stored.
        scale: the parametrization that scales it, if it is scaled.
        names: all names that it has in the module, first to last.
        shared: whether it is stored in several places, as a tied parameter is.
    """

    owner: nn.Module
    attribute: str
    parameter: nn.Parameter
    scale: Scale | None
    names: tuple[str, ...]
    shared: bool


def parameter_slots(module: nn.Module) -> dict[str, Slot]:
    """Return name → slot; a scaled parameter keeps the name that it had before it was scaled.

    Raises:
        TypeError: if ``module`` is not a module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} is not a torch.nn.Module")
    places = [(_place(module, path), p) for path, p in module.named_parameters(remove_duplicate=False)]
    by_parameter: dict[nn.Parameter, list[_Place]] = {}
    for place, parameter in places:
        by_parameter.setdefault(parameter, []).append(place)
    slots = {parameter: _slot(parameter, of_one) for parameter, of_one in by_parameter.items()}
    return {place.name: slots[parameter] for place, parameter in places}


class _Place(NamedTuple):
    """One of the places where a parameter is stored."""

    name: str
    owner: nn.Module
    attribute: str
    scale: Scale | None


def _place(module: nn.Module, path: str) -> _Place:
    parent, _, attribute = path.rpartition(".")
    owner = module.get_submodule(parent)
    if not (isinstance(owner, parametrize.ParametrizationList) and isinstance(owner[0], Scale)):
        return _Place(path, owner, attribute, None)
    parametrizations, _, attribute = parent.rpartition(".")  # parent is OWNER.parametrizations.ATTRIBUTE
    parent = parametrizations.removesuffix("parametrizations").removesuffix(".")
    name = f"{parent}.{attribute}".removeprefix(".")
    return _Place(name, module.get_submodule(parent), attribute, owner[0])


def _slot(parameter: nn.Parameter, places: list[_Place]) -> Slot:
    first = places[0]
    shared = any(place.owner is not first.owner or place.attribute != first.attribute for place in places)
    return Slot(first.owner, first.attribute, parameter, first.scale, tuple(place.name for place in places), shared)
