"""Where a module keeps its parameters, and the parametrization that stores one in another scale."""

from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize


class Scale(nn.Module):
    """Parametrization by a scaled parameter: stores w' = k·w and shows w = w'/k.  ``k`` is saved with the model."""

    def __init__(self, k):
        super().__init__()
        self.k = k

    def forward(self, scaled):
        return scaled / self.k

    def right_inverse(self, weight):
        return weight * self.k

    def get_extra_state(self):
        return self.k

    def set_extra_state(self, state):
        self.k = state

    def extra_repr(self):
        return f"k={self.k:g}"


@dataclass
class Slot:
    """A parameter's place: ``owner.attribute``, and its ``Scale``, if it has one."""

    owner: nn.Module
    attribute: str
    parameter: nn.Parameter
    scale: Scale | None
    names: list
    shared: bool = False


def parameter_slots(module):
    """name → slot; a scaled parameter keeps the name that it had before it was scaled."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"module={module!r} is not a torch.nn.Module")
    slots, by_parameter = {}, {}
    for full, parameter in module.named_parameters(remove_duplicate=False):
        path, _, attribute = full.rpartition(".")
        owner, scale, name = module.get_submodule(path), None, full
        if isinstance(owner, parametrize.ParametrizationList) and isinstance(owner[0], Scale):
            scale = owner[0]
            path, _, attribute = path.rpartition(".")
            path = path.removesuffix("parametrizations").removesuffix(".")
            owner, name = module.get_submodule(path), f"{path}.{attribute}".removeprefix(".")
        slot = slots[name] = by_parameter.setdefault(parameter, Slot(owner, attribute, parameter, scale, []))
        slot.names.append(name)
        slot.shared |= slot.owner is not owner or slot.attribute != attribute
    return slots
