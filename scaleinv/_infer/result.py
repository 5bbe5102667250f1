"""What ``infer_units`` has found, and in words."""

import math
from dataclasses import dataclass, field

from scaleinv.units import Unit, Units
from scaleinv._hyperparameters import Values


@dataclass(frozen=True)
class InferredUnits(Units):
    """Units found by ``infer_units``: as in ``Units``, and what supports them.

    Attributes:
        verdict: "bitwise" (rescaled runs agree bit for bit), "rounding" (they agree to 1e-9, if need be once the low
            precision in which the optimizer computes inside is replaced by float64), or "inconsistent".
        residual: for "inconsistent", the share of the run that no choice of units explains; else the largest
            deviation of a rescaled run, 0 when bitwise.
        undetermined: hyperparameters without effect in any probe, or not told apart; their unit is None.
        inconsistent: hyperparameter → residual that appears when it is made to matter, or, where it is an exponent
            on which the units of others depend, when it is changed; their unit is None.
        suspect: where "inconsistent", a hyperparameter without which (at 0) the rest is consistent; the units of the
            others hold for that.  Empty where there is none: then the fault is with a constant in the code.
        nearby: where "inconsistent", the units that hold for small changes of scale all the same: what a constant
            in the code breaks comes into play further away.  Not to be converted by.
        probed: the values given, and those with which every hyperparameter was made to matter.
        name: the factory's.
    """

    verdict: str = "inconsistent"
    residual: float = math.inf
    undetermined: tuple = ()
    inconsistent: dict = field(default_factory=dict)
    suspect: str = ""
    nearby: dict = field(default_factory=dict)
    probed: tuple = ()
    name: str = ""

    def __str__(self):
        note = {"bitwise": "verified bit for bit", "rounding": f"verified to {self.residual:.0e}"}
        lines = [f"{self.name}: {note.get(self.verdict, f'inconsistent, residual {self.residual:.2g}')}"]
        for name, unit in self.hyperparameters.items():
            units = unit if isinstance(unit, tuple) else (unit,)
            keys = [f"{name}[{i}]" for i in range(len(units))] if isinstance(unit, tuple) else [name]
            said = [self.said(key, u) for key, u in zip(keys, units)]
            lines.append(f"  {name:<26}{', '.join(said)}")
        return "\n".join(lines)

    @property
    def degree(self):
        """The power of the gradient's scale with which a step grows while lr stays as it is, where a step is
        proportional to lr: 1 for SGD, 0 for Adam.  None where lr has no unit, or there is none."""
        lr = self.hyperparameters.get("lr")
        return -lr.loss if isinstance(lr, Unit) else None

    def entries(self):
        """(key, unit) of every hyperparameter; where the entries of a tuple do not share a unit, each has its own key,
        such as ``eps[0]``."""
        given = self.probed[0]
        for name, unit in self.hyperparameters.items():
            if unit is None and isinstance(given[name], tuple | list):
                unit = (None,) * len(given[name])
            yield from ((f"{name}[{i}]", u) for i, u in enumerate(unit)) if isinstance(unit, tuple) else [(name, unit)]

    def said(self, key, unit):
        """The unit of the hyperparameter (or entry, ``betas[0]``), or why there is none, in words."""
        if unit is not None:
            return str(unit)
        if key in self.inconsistent:
            return f"inconsistent, residual {self.inconsistent[key]:.2g}"
        given = Values(self.probed[0])
        if not given.is_float(key):
            return f"not probed ({given[key]!r:.30})"
        return "undetermined" if key in self.undetermined else "no unit"

    __repr__ = __str__


def inferred(name, given, verdict, residual, reason, units={}, state={}, inconsistent={}, probed=()):
    """``InferredUnits`` from a unit for every entry of a tuple, with the reason for what has none."""

    def unit(name, value):
        if type(value) in (tuple, list):
            entries = tuple(unit(f"{name}[{i}]", v) for i, v in enumerate(value))
            return entries[0] if len(set(entries)) == 1 else entries
        return units.get(name)

    consistent = verdict != "inconsistent"
    undetermined = tuple(key for key in given.floats if consistent and key not in {*units, *inconsistent})
    if undetermined:
        reason = f"Undetermined, being without effect or not told apart: {', '.join(undetermined)}. "
    if inconsistent and consistent:
        reason += f"Inconsistent when made to matter or changed: {', '.join(inconsistent)}."
    return InferredUnits(
        hyperparameters={name: unit(name, value) for name, value in given.items() if given.is_float(name)},
        state=state,
        reason=reason.strip(),
        verdict=verdict,
        residual=residual,
        undetermined=undetermined,
        inconsistent=inconsistent,
        probed=tuple(map(dict, [given, *probed])),
        name=name,
    )
