"""The values of an optimizer's hyperparameters: those a user passes, completed by the defaults of the optimizer.

An entry of a tuple has a key of its own, such as ``betas[0]``; ``_entries`` makes and reads these keys.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import torch

from scaleinv._entries import entries, split_key

_FLOATS = ("lr", "eps", "weight_decay", "momentum", "betas")  # always floats, even where the default is an integer

Values = dict[str, Any]  # name → value
Factory = Callable[..., Any]  # makes an optimizer from parameters and hyperparameters


def values_of(factory: Factory, hyperparameters: Mapping[str, Any]) -> tuple[Values, Values]:
    """The hyperparameters in use when ``factory`` is called with some of them, and the factory's defaults.

    An integer where the factory expects a float becomes a float; so does a tensor with one element.

    >>> import torch
    >>> from scaleinv._hyperparameters import values_of
    >>> values, defaults = values_of(torch.optim.SGD, {"lr": 1})
    >>> values["lr"], values["momentum"], defaults["lr"]
    (1.0, 0.0, 0.001)
    """
    values, defaults = dict(hyperparameters), {}
    for parameter in _parameters_of(factory):
        name = parameter.name
        if parameter.default is not parameter.empty:
            defaults[name] = parameter.default
        if name in values or name in defaults:
            value = values.get(name, parameter.default)
            values[name] = _as_float(value) if _expects_floats(parameter) else value
    return plain_values(values), defaults


def plain_values(values: Mapping[str, Any]) -> Values:
    """A copy in which every real number, and every tensor with one element, is a number of Python.

    >>> import torch
    >>> from scaleinv._hyperparameters import plain_values
    >>> plain_values({"lr": torch.tensor(0.5), "betas": (torch.tensor(0.25), 0.5)})
    {'lr': 0.5, 'betas': (0.25, 0.5)}
    """
    return {name: _plain(value) for name, value in values.items()}


def floats_of(values: Mapping[str, Any]) -> list[str]:
    """The keys of all finite floats, entries of tuples included.

    >>> from scaleinv._hyperparameters import floats_of
    >>> floats_of({"lr": 0.1, "betas": (0.9, 0.999), "amsgrad": False})
    ['lr', 'betas[0]', 'betas[1]']
    """
    return [key for key, value in entries(values) if isinstance(value, float) and math.isfinite(value)]


def has_floats(values: Mapping[str, Any], key: str) -> bool:
    """Whether ``key``, of a value or of an entry, holds a finite float or is a tuple with one.

    >>> from scaleinv._hyperparameters import has_floats
    >>> has_floats({"betas": (0.9, 0.999), "amsgrad": False}, "betas")
    True
    """
    return any(key in (each, split_key(each)[0]) for each in floats_of(values))


def _parameters_of(factory: Factory) -> list[inspect.Parameter]:
    """All but the first, which takes the parameters to train; none where the signature is unknown."""
    try:
        return list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):
        return []


def _expects_floats(parameter: inspect.Parameter) -> bool:
    """Whether the annotation, the default or, as in ``lr=1``, the name is that of a float; a bare default of 0 is."""
    default = parameter.default
    if parameter.annotation is parameter.empty and parameter.name in _FLOATS:
        return True
    defaults = default if isinstance(default, tuple | list) else [default]
    bare_zero = parameter.annotation is parameter.empty and type(default) is int and default == 0
    return bare_zero or "float" in str(parameter.annotation) or any(isinstance(each, float) for each in defaults)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if type(value) in (tuple, list):
        return type(value)(_plain(entry) for entry in value)
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else value


def _as_float(value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_as_float(entry) for entry in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
