"""Where the parameters of a model are, what it computes with there, and which optimizer trains them."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from scaleinv._audit.amounts import rms
from scaleinv._reparam import parameter_slots


@dataclass(eq=False)
class Place:
    """A parameter of a model.

    Attributes:
        names: all of its names; several where it is tied.
        layer: the class of the module that it belongs to.
        parameter: as the optimizer holds it, w'.
        k: its ``Scale``, for which the model computes with w = w'/k.
        through: the ``ParametrizationList`` through which the model computes with it, where that is not a ``Scale``
            alone.
    """

    names: list
    layer: str
    parameter: torch.Tensor
    k: float = 1.0
    through: nn.Module | None = None

    @property
    def note(self):
        """Through what the model computes with it, in words."""
        if self.through is None:
            return ""
        attribute = self.names[0].rpartition("parametrizations.")[2].partition(".")[0]
        return f"a part of {attribute}, through {', '.join(type(each).__name__ for each in self.through)}"

    def effective_rms(self, stored):
        """RMS of what the model computes with, given that of w'.  A parametrization is evaluated in evaluation mode,
        in which it should not change; modes and random state are put back."""
        if self.through is None:
            return stored / self.k
        modes = [(module, module.training) for module in self.through.modules()]
        try:
            self.through.eval()
            with torch.random.fork_rng(), torch.no_grad():
                return rms(self.through())
        finally:
            for module, mode in modes:
                module.training = mode


def places_of(model):
    """The places of a model's parameters, in its order, each once.

    Raises:
        TypeError: for what is no module.
        ValueError: for parameters that have no numbers yet.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is not a torch.nn.Module")
    places = {}
    for name, slot in parameter_slots(model).items():
        p = slot.parameter
        if is_lazy(p) or p.is_meta:
            raise ValueError(
                f"model: parameter {name!r} has no numbers yet; run a lazy module once, or load a meta one"
            )
        if p not in places:
            places[p] = Place(slot.names, _layer(model, slot), p, slot.scale.k if slot.scale else 1.0, _through(slot))
    return list(places.values())


def _through(slot):
    if isinstance(slot.owner, parametrize.ParametrizationList):
        return slot.owner
    lists = getattr(slot.owner, "parametrizations", {}) if slot.scale else {}
    parametrizations = lists[slot.attribute] if slot.attribute in lists else ()
    return parametrizations if len(parametrizations) > 1 else None


def _layer(model, slot):
    owner = slot.owner
    if isinstance(owner, parametrize.ParametrizationList):
        owner = model.get_submodule(f".{slot.names[0]}".rpartition(".parametrizations.")[0].removeprefix("."))
    return parametrize.type_before_parametrizations(owner).__name__


@dataclass
class Holder:
    """What trains a parameter: an optimizer, the number of its group and the group."""

    optimizer: torch.optim.Optimizer
    number: int
    group: dict

    @property
    def name(self):
        return type(self.optimizer).__name__


def holders_of(optimizers, places):
    """Parameter → its ``Holder``, and the number of tensors that the optimizers hold and ``places`` has not.

    Raises:
        TypeError: for what is no optimizer.
        ValueError: for a parameter in two optimizers, and where no optimizer holds any.
    """
    holders, unknown = {}, 0
    known = {place.parameter: place.names[0] for place in places}
    for optimizer in optimizers:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer={optimizer!r} is not a torch.optim.Optimizer; pass one, or a list of those that train the "
                "model together"
            )
        for number, group in enumerate(optimizer.param_groups):
            for p in group["params"]:
                if p in holders:
                    raise ValueError(
                        f"optimizer: {known.get(p, 'a tensor')!r} is held by two of them, {holders[p].name} and "
                        f"{type(optimizer).__name__}; give each parameter to one"
                    )
                if p in known:
                    holders[p] = Holder(optimizer, number, group)
                unknown += p not in known
    if not holders:
        raise ValueError(
            f"optimizer={', '.join(type(o).__name__ for o in optimizers)} holds none of the {len(known)} parameters of "
            "model; make it from model.parameters()"
        )
    return holders, unknown
