"""An optimizer's hyperparameters as a dict in which the entries of tuples have keys of their own."""

import inspect
import math
from numbers import Integral, Real

import torch


class Values(dict):
    """name → value, where ``betas[0]`` reads the first entry of the tuple ``betas``."""

    def __init__(self, values):
        super().__init__({name: _plain(value) for name, value in values.items()})

    def entries(self):
        for name, value in self.items():
            if type(value) in (tuple, list):
                yield from ((f"{name}[{i}]", entry) for i, entry in enumerate(value))
            else:
                yield name, value

    @property
    def floats(self):
        return [key for key, value in self.entries() if isinstance(value, float) and math.isfinite(value)]

    def is_float(self, name):
        return any(key == name or key.startswith(name + "[") for key in self.floats)

    def __missing__(self, key):
        if not key.endswith("]"):
            raise KeyError(key)
        name, index = key[:-1].split("[")
        return self[name][int(index)]

    def replace(self, key, value):
        if key in self:
            return Values(self | {key: value})
        name, index = key[:-1].split("[")
        entries = list(self[name])
        entries[int(index)] = value
        return Values(self | {name: type(self[name])(entries)})


def _plain(value):
    """A tensor with one element, and any real number other than an integer, as Python's number."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if type(value) in (tuple, list):
        return type(value)(_plain(entry) for entry in value)
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else value


def values_of(factory, hyperparameters):
    """The given values and the factory's defaults for the others; an int where a float is meant becomes one."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    values, defaults = dict(hyperparameters), {}
    for p in parameters:
        if p.default is not p.empty:
            defaults[p.name] = p.default
        if p.name in values or p.name in defaults:
            value = values.get(p.name, p.default)
            values[p.name] = _as_floats(value) if _means_floats(p) else value
    return Values(values), defaults


def _means_floats(parameter):
    """Whether annotation or default say so; a bare default of 0, as in ``weight_decay=0``, counts as 0.0."""
    default = parameter.default
    entries = default if isinstance(default, tuple | list) else [default]
    bare = parameter.annotation is parameter.empty and type(default) is int and default == 0
    return bare or "float" in str(parameter.annotation) or any(isinstance(entry, float) for entry in entries)


def _as_floats(value):
    if type(value) in (tuple, list):
        return type(value)(_as_floats(entry) for entry in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
