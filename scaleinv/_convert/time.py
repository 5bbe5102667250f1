"""The settings of an optimizer for another batch or another length of the training."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from scaleinv._convert.multiplied import multiplied
from scaleinv._entries import key_of
from scaleinv.changes import Change
from scaleinv.known_optimizers import KNOWN
from scaleinv.units import Unit, Units

_NAMES = ", ".join(cls.__name__ for cls, known in KNOWN.items() if known.rates)


def changed_times(optimizer_class: Any, units: Units, values: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The settings that a change of time changes, by name.

    Args:
        optimizer_class: of the optimizer.
        units: of it, with the way in which it decays.
        values: its hyperparameters, defaults included.
        change: one of ``batch`` and ``horizon``.

    Raises:
        TypeError: if a value that has to change is not a number.
        ValueError: if it is not known how the optimizer follows time, a rate is none, the change is of both, or a
            result leaves the range of floats.
    """
    known = KNOWN.get(optimizer_class) if isinstance(optimizer_class, type) else None
    if known is None or not known.rates:
        name = getattr(optimizer_class, "__name__", "this optimizer")
        raise ValueError(
            f"optimizer_class: how the settings of {name} follow batch and horizon is not known; it is of {_NAMES}"
        )
    if change.batch != 1 and change.horizon != 1:
        raise ValueError(f"change={change!r} changes the batch and the horizon, not both; convert twice")
    rates = {name: _to_the_power(name, values[name], change.batch) for name in known.rates}
    if change.horizon != 1:
        factors = {"weight_decay": _decay_over(units, values, change.horizon)}
    else:
        factors = _for_batch(units, values, rates, change.batch)
    for name, factor in factors.items():
        unit = units.hyperparameters.get(name)
        if isinstance(unit, Unit) and (not isinstance(values[name], Real) or values[name] != 0):
            rates[name] = multiplied(name, values[name], unit, factor)
    return {name: new for name, new in rates.items() if new is not values[name]}


def _for_batch(units: Units, values: Mapping[str, Any], rates: Mapping[str, Any], batch: float) -> dict[str, float]:
    """The factors of all but the rates.

    A step is lr·g/RMS(g)^(1 − degree), and under noise RMS(g) goes as 1/√batch: in lr/batch^((1 + degree)/2) both
    cancel what the batch changes.  A decay that is in the gradient is a signal, and stays.
    """
    lr = batch ** ((1 + _degree(units)) / 2)
    decay = batch / lr if units.decay == "times lr" else 1.0
    if "momentum" in rates:
        lr *= (1 - float(rates["momentum"])) / (1 - float(values["momentum"]))
    return {"lr": lr, "eps": batch**-0.5, "weight_decay": decay}


def _decay_over(units: Units, values: Mapping[str, Any], horizon: float) -> float:
    """The factor of weight decay, where decay takes a share of the parameter."""
    if units.decay == "coupled" and _degree(units) == 0 and values["weight_decay"] != 0:
        raise ValueError(
            f"weight_decay={values['weight_decay']!r} is added to the gradient: it takes no share of the parameter, "
            "which would have a length in time; use torch.optim.AdamW's"
        )
    return 1 / horizon


def _degree(units: Units) -> float:
    """The power of the gradient's scale with which a step grows: 1 for SGD, 0 for Adam."""
    unit = units.hyperparameters["lr"]
    assert isinstance(unit, Unit)
    return -float(unit.loss)


def _to_the_power(name: str, rate: Any, power: float) -> Any:
    """A decay rate, or each of a pair: that of so many steps."""
    if isinstance(rate, tuple | list):
        each = [_to_the_power(key_of(name, i), entry, power) for i, entry in enumerate(rate)]
        return rate if all(a is b for a, b in zip(each, rate, strict=True)) else type(rate)(each)
    if isinstance(rate, bool) or not (isinstance(rate, Real) or isinstance(rate, Tensor) and rate.numel() == 1):
        raise TypeError(f"{name}={rate!r} is not a number; pass a decay rate such as 0.9")
    number = float(rate)
    if not 0 <= number < 1:
        raise ValueError(f"{name}={rate!r} is outside [0, 1); pass a decay rate such as 0.9")
    if number == 0 or power == 1:
        return rate
    new: Any = rate**power
    if not 0 < float(new) < 1:
        raise ValueError(f"{name}={rate!r} to the power {power:g} leaves the range of decay rates")
    return new
