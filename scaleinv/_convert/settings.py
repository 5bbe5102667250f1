"""The settings of an optimizer for the same training in other units."""

import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, TypeAlias

import torch

from scaleinv._checks import check_scale
from scaleinv._convert.decay import converted_decay
from scaleinv._convert.multiplied import multiplied
from scaleinv._convert.time import changed_times
from scaleinv._entries import key_of
from scaleinv.changes import Change, check_change
from scaleinv.known_optimizers import units_of
from scaleinv.units import HyperparameterUnit, Units

OptimizerOrUnits: TypeAlias = type[torch.optim.Optimizer] | Units


class _NoUnitError(ValueError):
    """A value without a unit cannot be converted."""


def convert(
    optimizer_class: OptimizerOrUnits,
    hyperparameters: Mapping[str, Any],
    change: Change | None = None,
    *,
    weight: float = 1.0,
    loss: float = 1.0,
) -> dict[str, Any]:
    """Return the hyperparameters for the same training in other units, or after another change.

    Args:
        optimizer_class: a class of ``torch.optim``, or the result of ``infer_units``.
        hyperparameters: name → value (a number, a tensor, or a tuple of numbers).
        change: one of ``scaleinv.changes``, in place of weight and loss.
        weight: the factor of the stored parameters, a positive number.
        loss: the factor of the loss, a positive number.

    Returns:
        A new dict with the converted values.  It includes each default that has to change, such as Adam's eps, for
        1e-8 is right in one choice of units only.

    Raises:
        TypeError: if ``hyperparameters`` is not a dict, a value or scale is not a number, or ``change`` is not a
            ``Change``.
        ValueError: if a scale is not positive and finite, the optimizer or a hyperparameter is unknown or has no known
            unit, its units do not hold for all kinds of parameters (``not_for``), weight or loss is passed besides
            ``change``, or a result leaves the range of floats.

    >>> import torch, scaleinv
    >>> scaleinv.convert(torch.optim.Adam, {"lr": 1e-3}, weight=10)
    {'lr': 0.01, 'eps': 1e-09}
    """
    weight, loss = check_scale("weight", weight), check_scale("loss", loss)
    if change is not None:
        weight, loss = check_change(change, weight, loss)
    _check_mapping(hyperparameters)
    units = units_of(optimizer_class, hyperparameters)
    if change is not None and (change.decay or change.of_time):
        defaults = defaults_of(optimizer_class)
        _check_names(hyperparameters, {*defaults, *units.hyperparameters})
        new = changed_times if change.of_time else converted_decay
        return {**hyperparameters, **new(optimizer_class, units, {**defaults, **hyperparameters}, change)}
    if units.not_for and not weight == loss == 1:
        raise ValueError(
            f"optimizer_class: its units do not hold for parameters {', or '.join(units.not_for)}; rescale a model and "
            "its optimizer (scaleinv.rescale), which sees whether there are any"
        )
    defaults = defaults_of(optimizer_class)
    _check_names(hyperparameters, {*defaults, *units.hyperparameters})
    converted = convert_values({**defaults, **hyperparameters}, units, weight, loss)
    changed = {name: new for name, new in converted.items() if name in hyperparameters or new is not defaults[name]}
    return {**hyperparameters, **changed}


def _check_mapping(hyperparameters: Mapping[str, Any]) -> None:
    if not isinstance(hyperparameters, Mapping):
        number = isinstance(hyperparameters, Real) and not isinstance(hyperparameters, bool)
        example = {"lr": hyperparameters if number else 1e-3}
        raise TypeError(f"hyperparameters={hyperparameters!r} is not a dict; pass one such as {example}")


def _check_names(names: Mapping[str, Any], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"hyperparameters[{name!r}] is unknown; known are {sorted(known)}")


def defaults_of(optimizer_class: OptimizerOrUnits | Callable[..., Any]) -> Mapping[str, Any]:
    """Return name → default of each hyperparameter that has one."""
    if isinstance(optimizer_class, Units):
        return optimizer_class.defaults
    parameters = inspect.signature(optimizer_class).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def convert_values(values: Mapping[str, Any], units: Units, weight: float, loss: float) -> dict[str, Any]:
    """Return the values that ``units`` lists, converted; an unchanged value is the same object.

    Raises:
        TypeError: if a value that has to change is not a number.
        ValueError: if a value that has to change has no known unit or leaves the range of floats.
    """
    converted = {}
    for name, unit in units.hyperparameters.items():
        if name in values:
            try:
                unit = _complete(units, name, values[name], unit)
                converted[name] = convert_value(name, values[name], unit, weight, loss)
            except _NoUnitError as error:
                raise ValueError(f"{error}. {units.reason}".removesuffix(". ")) from None
    return converted


def _complete(units: Units, key: str, value: Any, unit: HyperparameterUnit) -> HyperparameterUnit:
    """The unit, with what may stand in for one where there is none."""
    if not isinstance(value, tuple | list):
        return units.unit_to_convert(key, value) if unit is None else unit
    each = unit if isinstance(unit, tuple) else (unit,) * len(value)
    if len(each) != len(value):
        return unit
    entries = enumerate(zip(value, each, strict=True))
    return tuple(units.unit_to_convert(key_of(key, i), x) if u is None else u for i, (x, u) in entries)


def convert_value(name: str, value: Any, unit: HyperparameterUnit, weight: float, loss: float) -> Any:
    """Return ``value`` in the new units; the same object if nothing changes.

    Args:
        name: what the value is called in an error.
        value: a number, or a tuple or list of numbers.
        unit: its unit; for a tuple, one unit for all entries or a tuple of units.
        weight: the factor of the stored parameters.
        loss: the factor of the loss.

    Raises:
        TypeError: if the value has to change and is not a number.
        ValueError: if the value has to change and has no unit or leaves the range of floats.
    """
    if isinstance(value, tuple | list):
        units = unit if isinstance(unit, tuple) else (unit,) * len(value)
        if len(units) != len(value):
            raise ValueError(f"{name}={value!r} has {len(value)} entries instead of {len(units)}")
        entries = enumerate(zip(value, units, strict=True))
        new = [convert_value(key_of(name, i), entry, entry_unit, weight, loss) for i, (entry, entry_unit) in entries]
        return value if all(a is b for a, b in zip(new, value, strict=True)) else type(value)(new)
    if isinstance(unit, tuple):
        raise TypeError(f"{name}={value!r} is not a tuple; its {len(unit)} entries have the units {unit}")
    if (isinstance(value, Real) and value == 0) or weight == loss == 1:
        return value
    if unit is None:
        raise _NoUnitError(f"{name}={value!r} has no known unit and cannot be converted")
    return multiplied(name, value, unit, unit.factor(weight=weight, loss=loss))
