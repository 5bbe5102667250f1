"""lr, eps and weight decay of one parameter at another width: units × alignment × start."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleinv._width.alignment import Trial
from scaleinv._width.kinds import SIDES, Sized
from scaleinv._width.start import Start
from scaleinv.known_optimizers import known_of
from scaleinv.units import ONE, Unit, Units


@dataclass(frozen=True)
class Tuned:
    """An optimizer and the hyperparameters that were found at the base width.

    Attributes:
        trial: how its steps go with the shape.
        units: of its hyperparameters.
        values: name → value, defaults included.
    """

    trial: Trial
    units: Units
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.trial.name


@dataclass(frozen=True)
class Powers:
    """The powers of n by which the settings of one parameter change, and why.

    Attributes:
        lr, eps, weight_decay: their powers; for a pair such as Adafactor's eps, one of each entry.
        reason: a sentence.
    """

    lr: float
    eps: float | tuple[float, ...]
    weight_decay: float
    reason: str


def powers_of(tuned: Tuned, start: Start, sized: Sized) -> Powers:
    """The powers of n for one parameter.

    ::

        Δ(W·x) ∝ lr · RMS(g)^a · RMS(w)^b · n^alignment   is to stay, whatever n is

    Raises:
        ValueError: if one is not known.
    """
    trial = tuned.trial
    alignment = trial.exponent(sized)
    per_g, per_w = trial.per_gradient, trial.per_weight
    g = start.gradient(sized) if per_g else 0.0
    w = start.weight(sized) if per_w else 0.0
    lr = 0.0 - alignment - per_g * g - per_w * w
    eps, why_eps = _eps(tuned, start, sized)
    decay, why_decay = _decay(tuned, start, sized, lr, alignment)
    reasons = [_why_lr(sized, alignment, per_g * g, per_w * w), why_eps, why_decay]
    return Powers(lr, eps, decay, "; ".join(reason for reason in reasons if reason))


def check_others(tuned: Tuned) -> None:
    """Check that no other hyperparameter has a unit.

    Raises:
        ValueError: if one has, and is not 0.
    """
    for name, unit in tuned.units.hyperparameters.items():
        value = tuned.values.get(name)
        if name in ("lr", "eps", "weight_decay") or unit == ONE or value in (None, 0, False):
            continue
        if isinstance(unit, tuple) and all(each == ONE for each in unit):
            continue
        raise ValueError(
            f"{tuned.name}: {name}={value!r} has the unit {unit or '?'}, and how it goes with the width is not known; "
            "set it by hand, or to 0"
        )


def _eps(tuned: Tuned, start: Start, sized: Sized) -> tuple[float | tuple[float, ...], str]:
    value, unit = tuned.values.get("eps"), tuned.units.hyperparameters.get("eps")
    if unit is None or value in (None, 0):
        return 0.0, ""
    if not isinstance(value, tuple | list):
        assert isinstance(unit, Unit)
        power = _power_of(unit, tuned, start, sized)
        return power, f"eps goes with the gradient, n^{power:g}" if power else ""
    units = unit if isinstance(unit, tuple) else (unit,) * len(value)
    powers = tuple(
        _power_of(each, tuned, start, sized) if each is not None and entry not in (None, 0) else 0.0
        for each, entry in zip(units, value, strict=True)
    )
    words = ", ".join(f"n^{power:g}" for power in powers)
    return powers, f"eps goes with RMS(g) and RMS(w), {words}" if any(powers) else ""


def _power_of(unit: Unit, tuned: Tuned, start: Start, sized: Sized) -> float:
    """Of a quantity that is compared with gradients and weights; L is G·W."""
    of_g, of_w = float(unit.loss), float(unit.loss + unit.weight)
    power = (of_g * start.gradient(sized) if of_g else 0.0) + (of_w * start.weight(sized) if of_w else 0.0)
    if of_g and not known_of(_class_of(tuned), tuned.values).eps_per_coordinate:
        power += of_g * sum(SIDES[sized.kind]) / 2  # compared with the norm of a whole matrix
    return power + 0.0


def _class_of(tuned: Tuned) -> type:
    return tuned.trial.factory if isinstance(tuned.trial.factory, type) else object


def _decay(tuned: Tuned, start: Start, sized: Sized, lr: float, alignment: float) -> tuple[float, str]:
    if not tuned.values.get("weight_decay"):
        return 0.0, ""
    way = tuned.units.decay
    if way == "independent":
        return 0.0, ""
    if way == "times lr" or way == "coupled" and tuned.trial.per_gradient == 1:
        return 0.0 - lr, f"lr·λ stays, so λ is n^{-lr:g}" if lr else ""
    if way == "coupled":  # λ·w is added to the gradient, and divided by its size: λ·Δw/g stays
        power = start.gradient(sized) + alignment
        return power, f"λ·w keeps its share of the gradient, so λ is n^{power:g}" if power else ""
    raise ValueError(
        f"{tuned.name}: weight_decay={tuned.values['weight_decay']!r} acts in a way of its own; set it to 0, and "
        "choose it by hand"
    )


def _why_lr(sized: Sized, alignment: float, of_g: float, of_w: float) -> str:
    parts = []
    if alignment:
        inputs = alignment == SIDES[sized.kind][1]
        words = "ΔW·x adds up over n times the inputs" if inputs else f"a step moves ΔW·x by n^{alignment:g}"
        parts.append(words)
    if of_g:
        parts.append(f"a step goes with RMS(g), n^{of_g:g}")
    if of_w:
        parts.append(f"a step goes with RMS(w), n^{of_w:g}")
    return ", ".join(parts) or "a step moves the output as far as at the base"
