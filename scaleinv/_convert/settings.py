"""The settings of an optimizer for the same training in other units."""

import inspect
import math
from numbers import Real

from scaleinv._checks import check_scale
from scaleinv.changes import check_change
from scaleinv.known_optimizers import units_of
from scaleinv.units import Units


def convert(optimizer_class, hyperparameters, change=None, *, weight=1.0, loss=1.0):
    """The hyperparameters for the same training with parameters ``weight`` and a loss ``loss`` times as large.

    Args:
        optimizer_class: one of ``torch.optim``'s, or the result of ``infer_units``.
        hyperparameters: name → value (float, tensor, or tuple).
        change: one of ``scaleinv.changes``, instead of weight and loss.
        weight: the factor of the parameters, a positive number.
        loss: the factor of the loss, a positive number.

    Returns:
        A new dict.  A default that the optimizer would use and that has to change is added, for Adam's eps is
        1e-8 in one choice of units only.

    Raises:
        ValueError: for a scale that is not positive and finite, an optimizer or hyperparameter of unknown unit,
            a change besides weight or loss, and a result beyond the range of floats.
        TypeError: for what is no number, and no change.

    >>> convert(torch.optim.Adam, {"lr": 1e-3}, weight=10)
    {'lr': 0.01, 'eps': 1e-09}
    """
    weight, loss = check_scale("weight", weight), check_scale("loss", loss)
    if change is not None:
        weight, loss = check_change(change, weight, loss)
    units = units_of(optimizer_class, hyperparameters)
    defaults = defaults_of(optimizer_class)
    for name in hyperparameters:
        if name not in defaults and name not in units.hyperparameters:
            raise ValueError(f"hyperparameters[{name!r}]: unknown; known are {sorted(defaults)}")
    converted = dict(hyperparameters)
    for name, unit in units.hyperparameters.items():
        if name not in hyperparameters and name not in defaults:
            continue
        old = hyperparameters.get(name, defaults.get(name))
        new = convert_value(name, old, unit, weight, loss, units.reason)
        if name in hyperparameters or new is not old:
            converted[name] = new
    return converted


def defaults_of(optimizer_class):
    """name → the value in use where none is given, of a class, or of ``Units`` as ``infer_units`` finds them."""
    if isinstance(optimizer_class, Units):
        return optimizer_class.defaults
    parameters = inspect.signature(optimizer_class).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def convert_value(name, value, unit, weight, loss, reason=""):
    """``value`` of unit ``unit`` (or a tuple of both) in the new units; the same object where nothing changes."""
    if isinstance(value, tuple | list):
        units = unit if isinstance(unit, tuple) else (unit,) * len(value)
        new = [
            convert_value(f"{name}[{i}]", v, u, weight, loss, reason)
            for i, (v, u) in enumerate(zip(value, units, strict=True))
        ]
        return value if all(a is b for a, b in zip(new, value)) else type(value)(new)
    if unit is None:
        if weight == loss == 1 or (isinstance(value, Real) and value == 0):
            return value
        raise ValueError(f"{name}={value!r} has no known unit and cannot be converted. {reason}".rstrip())
    factor = unit.factor(weight=weight, loss=loss)
    if factor == 1 or (isinstance(value, Real) and value == 0):
        return value
    if value is None:
        raise ValueError(
            f"{name}=None stands for a constant chosen by the optimizer, of unit {unit}, that would have to "
            f"change by a factor of {factor:g}: give {name} as a number"
        )
    if isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a number")
    new = value * factor
    if not math.isfinite(new) or (new == 0 and value != 0):
        raise ValueError(f"{name}={value!r} of unit {unit} times {factor:g} leaves the range of floats")
    return new
