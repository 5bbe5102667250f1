"""A module that stores a parameter in another scale: it holds w' = k·w and computes with w = w'/k.

The parameter stays where it is, under its name and in its place among the module's parameters, so that optimizers,
saved optimizer states, hooks on gradients and tied parameters are not disturbed.  Only what ``module.weight`` shows
changes: reading the attribute divides by k.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils import parametrize

Place: TypeAlias = tuple[nn.Module, str]  # a module and the name of one of its own parameters

_SAVED = "scale_of_"  # and the name of a parameter: the entry of a state_dict that holds its k


def scale_at(place: Place) -> float:
    """The factor k by which a module stores one of its parameters; 1 if it is not scaled."""
    owner, name = place
    return _scales_of(owner).get(name, 1.0)


def set_scale(place: Place, k: float) -> None:
    """From now on the parameter at a place is read as stored k times as large; what is stored does not change."""
    owner, name = place
    scales = {each: factor for each, factor in {**_scales_of(owner), name: k}.items() if factor != 1}
    if not _scales_of(owner):
        _change_class(owner, _scaled_class)
    owner.__dict__["_scales"] = scales
    if not scales:
        del owner.__dict__["_scales"]
        _change_class(owner, _plain_class)
        if isinstance(owner, nn.RNNBase):
            owner._flat_weights = _flat_weights(owner)


def saved_scale(state_dict: Mapping[str, Any], key: str) -> float:
    """The factor k by which a saved parameter is stored; 1 if it is not scaled."""
    path, dot, name = key.rpartition(".")
    saved = state_dict.get(path + dot + _SAVED + name)
    return saved.item() if isinstance(saved, torch.Tensor) else 1.0


def is_saved_scale(state_dict: Mapping[str, Any], key: str) -> bool:
    """Whether an entry of a state_dict is the k of a parameter, which is another entry."""
    path, dot, name = key.rpartition(".")
    return name.startswith(_SAVED) and path + dot + name.removeprefix(_SAVED) in state_dict


def _scales_of(owner: nn.Module) -> dict[str, float]:
    """The names of a module's own scaled parameters, and their k."""
    return owner.__dict__.get("_scales", {})


def _change_class(owner: nn.Module, change: Any) -> None:
    """Change the class that a module has, or had before torch parametrized it."""
    own = type(owner)
    if parametrize.is_parametrized(owner):
        owner.__class__ = type(own.__name__, (change(own.__bases__[0]),), dict(vars(own)))
    else:
        owner.__class__ = change(own)


class Scaled(nn.Module):
    """What a module's class gains while some of its own parameters are stored as k·w.

    A state_dict holds w' and, under ``scale_of_NAME``, k as a 0-dimensional float64 tensor; one without k holds w.
    """

    def __getattr__(self, name: str) -> Any:
        value: Any = super().__getattr__(name)
        k = _scales_of(self).get(name)
        return value if k is None or value is None else value / k

    def __delattr__(self, name: str) -> None:
        if name in _scales_of(self):
            raise ValueError(
                f"{name!r} is stored {_scales_of(self)[name]:g} times as large and cannot be replaced; call "
                "scaleinv.unscale_parameters first, and scale the module again afterwards"
            )
        super().__delattr__(name)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name, k in _scales_of(self).items():
            destination[prefix + _SAVED + name] = torch.tensor(k, dtype=torch.float64, device="cpu")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        scales = _scales_of(self)
        for name, k in scales.items():
            saved = state_dict.pop(prefix + _SAVED + name, None)
            if saved is not None:
                scales[name] = saved.item()
            elif prefix + name in state_dict:
                state_dict[prefix + name] = state_dict[prefix + name] * k
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _replicate_for_data_parallel(self) -> Any:
        raise NotImplementedError(
            "nn.DataParallel copies parameters past the scale of a scaled module; use DistributedDataParallel"
        )

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _scaled_again, (_plain_class(type(self)),), self.__getstate__()


class ScaledRNN(Scaled):
    """An RNN keeps a list of its parameters too, from which it computes."""

    @property
    def _flat_weights(self) -> list[Any]:
        return _flat_weights(self)

    @_flat_weights.setter
    def _flat_weights(self, parameters: list[Any]) -> None:
        """The list is made anew whenever it is read."""


@cache
def _scaled_class(plain: Any) -> type[nn.Module]:
    mixin = ScaledRNN if issubclass(plain, nn.RNNBase) else Scaled
    shown = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(plain.__name__, (mixin, plain), shown)


def _plain_class(scaled: type[Any]) -> type[nn.Module]:
    return scaled.__bases__[1]


def _flat_weights(rnn: Any) -> list[Any]:
    return [getattr(rnn, name, None) for name in rnn._flat_weights_names]


def _scaled_again(plain: Any) -> nn.Module:
    """An empty module of the scaled class; unpickling then sets its attributes."""
    scaled = _scaled_class(plain)
    return scaled.__new__(scaled)
