"""What an optimizer sees of a factor of all gradients, by the units of its hyperparameters."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from scaleinv._audit import stepping_class, unwrapped
from scaleinv._entries import entries_of, get_entry
from scaleinv._gradients.factors import factor_text, times_text
from scaleinv.known_optimizers import units_of
from scaleinv.units import Unit, Units

OptimizerOrUnits: TypeAlias = torch.optim.Optimizer | type[torch.optim.Optimizer] | Units


def check_optimizer(optimizer: Any) -> None:
    """Check that the units of an optimizer are known.

    Raises:
        TypeError: if it is not an optimizer, a class of them, or ``Units``.
        ValueError: if its units are not known.
    """
    for settings in _settings(optimizer):
        try:
            units_of(_known(optimizer), settings)
        except ValueError as error:
            raise ValueError(str(error).replace("optimizer_class=", "optimizer=")) from None


def seen_by(optimizer: OptimizerOrUnits, factor: float) -> str:
    """What a factor of all gradients is to an optimizer, and which settings keep the training.

    Args:
        optimizer: an optimizer, whose zeros need no factor; a class; or measured ``Units``.
        factor: a positive number, that of b.

    >>> import torch
    >>> from scaleinv._gradients.seen import seen_by
    >>> print(seen_by(torch.optim.SGD, 8.0))
    SGD sees it: b trains as a does with lr / 8, weight_decay × 8 and max_norm × 8, by
    scaleinv.convert(torch.optim.SGD, settings, changes.loss_times(8)).
    """
    units = [units_of(_known(optimizer), settings) for settings in _settings(optimizer)]
    name, path = _named(optimizer)
    unknown = [reason for each in units if each.hyperparameters.get("lr") is None and (reason := each.reason)]
    if unknown:
        return f"What {name} sees of it is not a matter of one number: {unknown[0]}."
    changed: dict[str, float] = {}
    for each, settings in zip(units, _settings(optimizer), strict=True):
        changed |= _changed(each, settings, factor)
    rates = any(isinstance(each.hyperparameters.get("lr"), Unit) and "lr" in changed for each in units)
    verb = "sees it" if rates else f"does not see it but for {_and([*changed, 'max_norm'])}"
    values = _and([f"{key} {times_text(each)}" for key, each in {**changed, "max_norm": factor}.items()])
    call = f"scaleinv.convert({path}, settings, changes.loss_times({factor_text(factor)}))"
    return f"{name} {verb}: b trains as a does with {values}, by\n{call}."


def _settings(optimizer: Any) -> list[Mapping[str, Any]]:
    """The hyperparameters of each group; of a class, none."""
    if isinstance(optimizer, torch.optim.Optimizer):
        return list(optimizer.param_groups)
    if isinstance(optimizer, Units) or (isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)):
        return [{}]
    raise TypeError(
        f"optimizer={optimizer!r} is not an optimizer; pass one, a class such as torch.optim.AdamW, or the result of "
        "infer_units"
    )


def _known(optimizer: OptimizerOrUnits) -> type[torch.optim.Optimizer] | Units:
    if isinstance(optimizer, Units):
        return optimizer
    return stepping_class(optimizer if isinstance(optimizer, type) else type(unwrapped(optimizer)))


def _named(optimizer: OptimizerOrUnits) -> tuple[str, str]:
    """What it is called in a sentence, and in code."""
    known = _known(optimizer)
    if isinstance(known, Units):
        return getattr(known, "name", "") or "the optimizer", "units"
    return known.__name__, f"torch.optim.{known.__name__}"


def _changed(units: Units, settings: Mapping[str, Any], factor: float) -> dict[str, float]:
    """Hyperparameter, or entry of one → factor of its value, of those that have to change and are not 0."""
    changed = {}
    for name, unit in units.hyperparameters.items():
        for key, each in entries_of(name, unit):
            times = each.factor(loss=factor) if each is not None else 1.0
            if times != 1 and not _is_zero(settings, name, key):
                changed[key] = times
    return changed


def _is_zero(settings: Mapping[str, Any], name: str, key: str) -> bool:
    value = settings.get(name)
    if isinstance(value, tuple | list) and key != name:
        value = get_entry(settings, key)
    return isinstance(value, int | float) and value == 0


def _and(texts: list[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
