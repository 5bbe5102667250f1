"""``InferredUnits``: the result of ``infer_units``."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from scaleinv._entries import entries_of, get_entry, key_of, with_entry
from scaleinv._hyperparameters import Values, has_floats
from scaleinv._infer.outcome import Outcome
from scaleinv._infer.runs import ByName
from scaleinv.units import Unit, Units


@dataclass(frozen=True)
class InferredUnits(Units):
    """Units measured by ``infer_units``, and what supports them.

    Attributes:
        hyperparameters, state, reason, defaults, not_for, decay: as in ``Units``.
        verdict: "bitwise" (rescaled runs agree bit for bit), "rounding" (they agree to 1e-9, if need be once the low
            precision in which the optimizer computes inside is replaced by float64), or "inconsistent", if only for
            some parameters (``not_for``).
        residual: for "inconsistent", the share of the run that no choice of units explains; else the largest
            deviation of a rescaled run, 0 when bitwise.
        undetermined: hyperparameters without effect in any probe, or not told apart; their unit is None, and
            ``stand_ins`` has one to convert them by.
        inconsistent: hyperparameter → residual that appears when it is made to matter or, where it is an exponent on
            which the units of others depend, when it is changed; their unit is None.
        suspect: where "inconsistent", a hyperparameter without which (at 0) the rest is consistent; the units of the
            others hold for that.  Empty if there is none: then the fault is with a constant in the code.
        nearby: where "inconsistent", the units that hold for small changes of scale all the same: what a constant in
            the code breaks comes into play further away.  Do not convert by them.
        probed: the values passed, and those with which every hyperparameter was made to matter.
        name: the name of the factory.

    >>> import torch
    >>> from scaleinv import infer_units
    >>> units = infer_units(torch.optim.RMSprop)
    >>> units.verdict, units.hyperparameters["eps"], units.state["square_avg"]
    ('bitwise', L W⁻¹, L² W⁻²)
    """

    verdict: str = "inconsistent"
    residual: float = math.inf
    undetermined: tuple[str, ...] = ()
    inconsistent: dict[str, float] = field(default_factory=dict)
    suspect: str = ""
    nearby: ByName = field(default_factory=dict)
    probed: tuple[Values, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        notes = {"bitwise": "verified bit for bit", "rounding": f"verified to {self.residual:.0e}"}
        lines = [f"{self.name}: {notes.get(self.verdict, f'inconsistent, residual {self.residual:.2g}')}"]
        lines[0] += f" for parameters {', or '.join(self.not_for)}" if self.not_for else ""
        for name, unit in self.hyperparameters.items():
            texts = [self.unit_text(key, each) for key, each in entries_of(name, unit)]
            lines.append(f"  {name:<26}{', '.join(texts)}")
        return "\n".join(lines)

    __repr__ = __str__

    @property
    def degree(self) -> Fraction | None:
        """The power of the gradient's scale with which a step grows while lr stays as it is, where a step is
        proportional to lr: 1 for SGD, 0 for Adam.  None where lr has no unit, or where there is no lr."""
        lr = self.hyperparameters.get("lr")
        return -lr.loss if isinstance(lr, Unit) else None

    def entries(self) -> Iterator[tuple[str, Unit | None]]:
        """(key, unit) of every hyperparameter.  Where the entries of a tuple do not share a unit, each has its own key,
        such as ``eps[0]``.

        >>> import torch
        >>> from scaleinv import infer_units
        >>> dict(infer_units(torch.optim.SparseAdam).entries())
        {'lr': W, 'betas': 1, 'eps': L W⁻¹}
        """
        values = self.probed[0]
        for name, unit in self.hyperparameters.items():
            if unit is None and isinstance(values[name], tuple | list):
                unit = (None,) * len(values[name])
            yield from entries_of(name, unit)

    def unit_text(self, key: str, unit: Unit | None) -> str:
        """The unit of a hyperparameter, or of an entry such as ``betas[0]``, or why there is none, in words.

        >>> import torch
        >>> from scaleinv import infer_units
        >>> infer_units(torch.optim.ASGD).unit_text("t0", None)
        'undetermined, converted as 1'
        """
        if unit is not None:
            return str(unit)
        if key in self.inconsistent:
            note = f", kept at {self.kept[key]:g}" if key in self.kept else ""
            return f"inconsistent, residual {self.inconsistent[key]:.2g}{note}"
        values = self.probed[0]
        if not has_floats(values, key):
            return f"not probed ({get_entry(values, key)!r:.30})"
        if key in self.undetermined:
            return f"undetermined, converted as {self.stand_ins[key]}" if key in self.stand_ins else "undetermined"
        return "no unit"


@dataclass(frozen=True)
class Measured:
    """What was measured: the factory's name, the values in use, those that the user passed, and the defaults."""

    name: str
    values: Values
    passed: Mapping[str, Any]
    defaults: Values


def result_of(measured: Measured, outcome: Outcome) -> InferredUnits:
    """The outcome by hyperparameter, with a tuple of units where the entries of a tuple differ."""
    values, defaults = measured.values, measured.defaults
    units = {name: _unit(name, value, outcome.units) for name, value in values.items() if has_floats(values, name)}
    if not outcome.consistent:  # what may be a number is not to be taken for a flag
        units |= {name: None for name in measured.passed if name not in {*units, *defaults}}
    flags = {name: value for name, value in values.items() if name not in units}
    # what the factory has no default for is in use only where it is passed
    defaults = flags | {name: value for name, value in defaults.items() if name in units}
    return InferredUnits(
        hyperparameters=units,
        state=outcome.state,
        reason=f"{_exceptions(outcome.not_for)} {outcome.reason}".strip(),
        defaults=defaults,
        verdict="inconsistent" if outcome.not_for else outcome.verdict,
        residual=max([outcome.residual, *outcome.not_for.values()]),
        undetermined=outcome.undetermined,
        inconsistent=outcome.inconsistent,
        suspect=outcome.suspect,
        nearby=outcome.nearby,
        probed=(values, *outcome.probed),
        stand_ins=outcome.stand_ins,
        kept=outcome.kept,
        at_zero={
            key: result_of(replace(measured, values=with_entry(values, key, 0.0)), at_zero)
            for key, at_zero in outcome.at_zero.items()
        },
        not_for=outcome.not_for,
        name=measured.name,
    )


def _exceptions(not_for: Mapping[str, float]) -> str:
    kinds = [f"{kind} (by {share:.2g})" for kind, share in not_for.items()]
    return f"Runs deviate for parameters {', or '.join(kinds)}; for others the units hold." if kinds else ""


def _unit(key: str, value: Any, units: ByName) -> Any:
    if type(value) not in (tuple, list):
        return units.get(key)
    entries = tuple(_unit(key_of(key, i), entry, units) for i, entry in enumerate(value))
    return entries[0] if len(set(entries)) == 1 else entries
