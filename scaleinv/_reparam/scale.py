"""The parametrization that stores a parameter in another scale, and the class of a module that has one."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle


class Scale(nn.Module):
    """Parametrization that stores w' = k·w and shows w = w'/k, where k is ``weight``.

    ``weight`` is saved with the model's state_dict, and a state_dict of unscaled parameters loads as before.

    >>> import torch, scaleinv
    >>> layer = scaleinv.scale_parameters(torch.nn.Linear(2, 2), 8)
    >>> layer.parametrizations.weight[0]
    Scale(weight=8)
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self._load_hook: RemovableHandle | None = None

    def forward(self, stored: torch.Tensor) -> torch.Tensor:
        return stored / self.weight

    def right_inverse(self, shown: torch.Tensor) -> torch.Tensor:
        return shown * self.weight

    def get_extra_state(self) -> float:
        return self.weight

    def set_extra_state(self, state: float) -> None:
        self.weight = state

    def extra_repr(self) -> str:
        return f"weight={self.weight:g}"

    def attach(self, owner: nn.Module, attribute: str) -> None:
        """Store ``owner.attribute`` in this scale."""
        _give_own_class(owner)
        parametrize.register_parametrization(owner, attribute, self)
        _make_picklable(owner)
        self._load_hook = owner.register_load_state_dict_pre_hook(partial(_load_unscaled, attribute))

    def is_alone(self, owner: nn.Module, attribute: str) -> bool:
        """Whether ``owner.attribute`` has no other parametrization."""
        return len(_parametrizations(owner, attribute)) == 1

    def detach(self, owner: nn.Module, attribute: str) -> None:
        """Store ``owner.attribute`` plainly again."""
        if self._load_hook is not None:
            self._load_hook.remove()
        _give_own_class(owner)
        parametrize.remove_parametrizations(owner, attribute, leave_parametrized=True)


def _parametrizations(owner: nn.Module, attribute: str) -> Any:
    return owner.get_submodule(f"parametrizations.{attribute}")


def _load_unscaled(attribute: str, owner: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a state_dict that holds w load into a module that stores w' = k·w."""
    if (unscaled := prefix + attribute) in state_dict:
        weight = _parametrizations(owner, attribute)[0].weight
        state_dict[f"{prefix}parametrizations.{attribute}.original"] = state_dict.pop(unscaled) * weight
        state_dict[f"{prefix}parametrizations.{attribute}.0._extra_state"] = weight


def _give_own_class(module: nn.Module) -> None:
    """Give a parametrized module a class that it shares with no other.

    ``parametrize`` makes a class with a property for each parametrized tensor.  ``copy.deepcopy`` gives the copy the
    same class, so that a property added to or removed from one of the two would be added to or removed from both.
    """
    if parametrize.is_parametrized(module):
        shared = type(module)
        module.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))


def _make_picklable(module: nn.Module) -> None:
    """Let a parametrized module be pickled, which the class that ``parametrize`` makes refuses."""
    own_class: Any = type(module)
    own_class.__reduce_ex__ = _reduce


def _reduce(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Pickle a scaled module as its plain class, the names of its parametrized tensors and its attributes."""
    plain_class: Any = parametrize.type_before_parametrizations(module)
    names = tuple(module.parametrizations)  # type: ignore[arg-type]
    return _parametrized, (plain_class, names), plain_class.__getstate__(module)


def _parametrized(plain_class: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    """An empty module of the parametrized class; unpickling then sets its attributes."""
    module = plain_class.__new__(plain_class)
    nn.Module.__init__(module)
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(module, name, nn.Identity())
    _make_picklable(module)
    return module
