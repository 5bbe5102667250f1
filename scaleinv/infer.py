"""Measure the units of any optimizer's hyperparameters: dimensional analysis by experiment.

Let w(t) be the trajectory of a short run, as a function of the loss scale c, the parameter scale k and the
hyperparameters h, always read back in the original units (w'/k).  If h has the unit L^a W^b, changing c together
with every h → c^a·h changes nothing:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0        and likewise for k with the exponents b_h.

The derivatives are central differences of runs in float64 on a small smooth problem; a and b solve two
least-squares problems, are rounded to simple fractions, and are then verified: runs rescaled by powers of two
must give the same trajectory, bit for bit.  What has no effect is undetermined, what no exponents explain is
inconsistent; neither is ever given a unit.
"""

import math
import warnings
from dataclasses import dataclass, field
from fractions import Fraction

import torch

from scaleinv.probe import in_float64, runner_of, trajectory_of, uses_low_precision, values_of
from scaleinv.units import Unit, Units

STEP = 1e-5  # of the central differences, in log h: truncation 1e-10, rounding 1e-11
EFFECT = 1e-3  # a hyperparameter matters when a change by e moves the run by this share of its length
FIT = 1e-4  # residual, relative to the largest term or the length of the run, up to which exponents explain a run
SIMPLE = 0.01  # distance to a fraction with a denominator of at most 4, up to which an exponent is that fraction
POWER = 12  # verification scales by 2^±12, so that exponents in halves, thirds and quarters stay exact
ROUNDING = 1e-9  # deviation, relative to the length of the run, up to which a rescaled run differs by rounding
LARGEST = 10.0  # up to which a value is raised, by decades, to make it matter; then lowered by up to eight


@dataclass(frozen=True)
class InferredUnits(Units):
    """Units found by ``infer_units``: as in ``Units``, and what supports them.

    Attributes:
        verdict: "bitwise" (rescaled runs agree bit for bit), "rounding" (they agree to 1e-9), or "inconsistent".
        residual: for "inconsistent", the share of the run that no choice of units explains; else the largest
            deviation of a rescaled run, 0 when bitwise.
        undetermined: hyperparameters without effect in any probe, or not told apart; their unit is None.
        inconsistent: hyperparameter → residual that appears when it is made to matter; their unit is None.
        probed: the values with which every hyperparameter was made to matter.
        defaults: the hyperparameters as given, with the factory's defaults.
        name: the factory's.
    """

    verdict: str = "inconsistent"
    residual: float = math.inf
    undetermined: tuple = ()
    inconsistent: dict = field(default_factory=dict)
    probed: tuple = ()
    defaults: dict = field(default_factory=dict)
    name: str = ""

    def __str__(self):
        note = {"bitwise": "verified bit for bit", "rounding": f"verified to {self.residual:.0e}"}
        lines = [f"{self.name}: {note.get(self.verdict, f'inconsistent, residual {self.residual:.2g}')}"]
        for name, unit in self.hyperparameters.items():
            units = unit if isinstance(unit, tuple) else (unit,)
            keys = [f"{name}[{i}]" for i in range(len(units))] if isinstance(unit, tuple) else [name]
            said = [self._said(key, u) for key, u in zip(keys, units)]
            lines.append(f"  {name:<26}{', '.join(said)}")
        return "\n".join(lines)

    def _said(self, key, unit):
        if unit is not None:
            return str(unit)
        if key in self.inconsistent:
            return f"inconsistent, residual {self.inconsistent[key]:.2g}"
        return "undetermined" if key in self.undetermined else "no unit"

    __repr__ = __str__


def infer_units(factory, hyperparameters):
    """The units of an optimizer's hyperparameters and state, measured.

    Args:
        factory: ``factory(params, **hyperparameters)`` makes an optimizer with torch.optim's interface: an optimizer
            class, one of a third party, or a function.
        hyperparameters: name → value.  Floats, and tuples of them, are probed, as are those that the factory has a
            default for; flags and integers are kept as given.  Zeros are switched on, and values too small or too
            large to matter are moved by decades until they do.

    Returns:
        ``InferredUnits``; pass it to ``convert`` or ``rescale`` in place of the class.

    Raises:
        TypeError: for a factory that cannot be called or hyperparameters that are no dict.
        ValueError: for values that are not finite, and for a factory that no probe can run.

    Random state is left as it was.
    """
    if not callable(factory):
        raise TypeError(f"factory={factory!r} cannot be called; pass an optimizer class or a function making one")
    if not isinstance(hyperparameters, dict):
        raise TypeError(f"hyperparameters={hyperparameters!r} is not a dict; pass one such as {{'lr': 1e-3}}")
    given = values_of(factory, hyperparameters)
    for key in given.floats:
        if not math.isfinite(given[key]):
            raise ValueError(f"hyperparameters: {key}={given[key]!r} is not finite")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _infer(factory, given)


def _infer(factory, given):
    runner = runner_of(factory, given)
    base = _switch_on(runner, given)
    names = base.floats
    promote = uses_low_precision(runner, base)
    equations = [_sensitivities(runner, base, names, promote)]
    exponents, residual = _solve(equations)
    if residual > FIT:
        return _report(factory, given, {}, {}, "inconsistent", residual, {})
    probes, inconsistent = [given, base] if given != base else [given], {}
    for name in names:
        value = _value_that_matters(runner, base, name)
        if value is None or value == base[name]:
            continue
        probe = base.replace(name, value)
        trial = [*equations, _sensitivities(runner, probe, names, promote)]
        solution, misfit = _solve(trial)
        if misfit > FIT:
            inconsistent[name] = misfit
        else:
            equations, exponents = trial, solution
            probes.append(probe)
    units = {
        name: Unit(*pair)
        for name, pair in zip(names, exponents)
        if pair is not None and name not in inconsistent
    }
    deviation = max(_verify(runner, probe, units) for probe in probes)
    state = _state_units(runner, base, units) if deviation <= ROUNDING else {}
    verdict = "bitwise" if deviation == 0 else "rounding" if deviation <= ROUNDING else "inconsistent"
    if verdict == "inconsistent":
        units = {}
    return _report(factory, given, units, state, verdict, deviation, inconsistent, tuple(map(dict, probes)))


def _report(factory, given, units, state, verdict, residual, inconsistent, probed=()):
    def unit(name, value):
        if isinstance(value, tuple | list):
            entries = tuple(unit(f"{name}[{i}]", v) for i, v in enumerate(value))
            return entries[0] if len(set(entries)) == 1 else entries
        return units.get(name)

    hyperparameters = {name: unit(name, value) for name, value in given.items() if given.is_float(name)}
    reason = ""
    if verdict == "inconsistent":
        reason = f"no units fit: a share of {residual:.2g} of the run is left unexplained"
    return InferredUnits(
        hyperparameters=hyperparameters,
        state=state,
        reason=reason,
        verdict=verdict,
        residual=residual,
        undetermined=tuple(
            name for name in given.floats if verdict != "inconsistent" and name not in {*units, *inconsistent}
        ),
        inconsistent=inconsistent,
        probed=probed,
        defaults=dict(given),
        name=getattr(factory, "__name__", repr(factory)),
    )


# Probes in which every hyperparameter matters.


def _switch_on(runner, values):
    """``values`` with 0.1 for every 0 that the optimizer lets one change."""
    for key in values.floats:
        if values[key] == 0:
            on = values.replace(key, 0.1)
            if trajectory_of(runner, on) is not None:
                values = on
    return values


def _value_that_matters(runner, values, name):
    """The value, decades away at most from the given one, at which ``name`` has an effect; None if there is none."""
    value = values[name]
    raised = max(0, math.ceil(math.log10(LARGEST / abs(value)))) if value else 0
    for decades in [*range(raised + 1), *range(-1, -9, -1)]:
        value = values[name] * 10.0**decades
        here = trajectory_of(runner, values.replace(name, value))
        # upwards first; a value at its upper bound (a beta of 0.99) is changed downwards
        for nudge in (1.1, 1 / 1.1):
            there = trajectory_of(runner, values.replace(name, value * nudge))
            if here is not None and there is not None:
                if (there - here).norm() > EFFECT * math.log(1.1) * _length(here):
                    return value
                break
    return None


def _length(trajectory):
    return (trajectory - trajectory[0]).norm() + 1e-300


# Sensitivities and exponents.


def _sensitivities(runner, values, names, promote):
    """∂w/∂log of the loss scale, the parameter scale and each hyperparameter: a matrix (STEPS·coordinates, 2 + n)."""

    def difference(run):
        with in_float64(promote):
            return ((run(math.exp(STEP)) - run(math.exp(-STEP))) / (2 * STEP)).flatten()

    columns = [
        difference(lambda factor: runner(values, loss=factor)[0]),
        difference(lambda factor: runner(values, weight=factor)[0]),
    ]
    for name in names:
        columns.append(difference(lambda factor: _run_or_zero(runner, values.replace(name, values[name] * factor))))
    matrix = torch.stack(columns, dim=1)
    return matrix / _length(runner(values)[0])


def _run_or_zero(runner, values):
    """A value at its bound cannot be varied: no effect, hence undetermined."""
    trajectory = trajectory_of(runner, values)
    return torch.zeros(()) if trajectory is None else trajectory


def _solve(matrices):
    """The exponents (of L, of W) of each hyperparameter, None where undetermined, and the residual they leave."""
    matrix = torch.cat(matrices)
    scales, columns = matrix[:, :2], matrix[:, 2:]
    norms = columns.norm(dim=0)
    effective = norms > 1e-7
    scaled = columns[:, effective] / norms[effective]
    _, singular, directions = torch.linalg.svd(scaled, full_matrices=False)
    # coordinates in which a direction without effect has a part are not told apart
    loose = (directions[singular < 1e-6].abs() > 1e-3).any(dim=0)
    solution = _least_squares(scaled, -scales) / norms[effective, None]
    nearest = [[Fraction(exponent).limit_denominator(4) for exponent in row] for row in solution.tolist()]
    fractions = torch.tensor([[float(f) for f in row] for row in nearest], dtype=solution.dtype).reshape(-1, 2)
    simple = ~loose & ((solution - fractions).abs().amax(dim=1) < SIMPLE)
    exponents = [None] * len(norms)
    for row, column in enumerate(effective.nonzero().flatten().tolist()):
        if simple[row]:
            exponents[column] = nearest[row]
    # what is left over when the determined exponents are fractions, and the others as good as can be
    terms = columns[:, effective][:, simple, None] * fractions[simple]
    rest = scales + terms.sum(dim=1)
    others = scaled[:, ~simple]
    misfit = (rest - others @ _least_squares(others, rest)).norm(dim=0).max().item()
    largest = max(1.0, scales.norm(dim=0).max().item(), *terms.norm(dim=0).flatten().tolist())
    return exponents, misfit / largest


def _least_squares(matrix, right):
    if matrix.shape[1] == 0:
        return right.new_zeros(0, right.shape[1])
    return torch.linalg.lstsq(matrix, right, driver="gelsd").solution


# Verification.


def _rescaled(values, units, weight, loss):
    for name, unit in units.items():
        values = values.replace(name, values[name] * unit.factor(weight=weight, loss=loss))
    return values


def _verify(runner, values, units):
    """The largest deviation of runs rescaled by powers of two, relative to the length of the run."""
    reference, _ = runner(values)
    up, down = 2.0**POWER, 2.0**-POWER
    deviation = 0.0
    for weight, loss in ((1.0, up), (1.0, down), (up, 1.0), (down, up)):
        try:
            trajectory, _ = runner(_rescaled(values, units, weight, loss), weight, loss)
        except Exception:  # the rescaled values are refused: not verified
            return math.inf
        difference = ((trajectory - reference).norm() / _length(reference)).item()
        deviation = max(deviation, math.inf if math.isnan(difference) else difference)
    return deviation


def _state_units(runner, values, units):
    """The unit of every state buffer, read off from its ratio between rescaled runs."""
    scale = 2.0**POWER
    _, plain = runner(values)
    _, louder = runner(_rescaled(values, units, 1.0, scale), 1.0, scale)
    _, larger = runner(_rescaled(values, units, scale, 1.0), scale, 1.0)
    found = {}
    for before, *after in zip(plain.state.values(), louder.state.values(), larger.state.values()):
        for key, buffer in before.items():
            exponents = [_exponent(buffer, state.get(key)) for state in after]
            if None not in exponents:
                found[key] = Unit(*exponents)
    return found


def _exponent(before, after):
    """log of the ratio after/before to base 2^POWER, if all entries agree on one; else None."""
    if isinstance(before, bool) or not isinstance(before, torch.Tensor | int | float):
        return None
    before, after = torch.as_tensor(before).double(), torch.as_tensor(after).double()
    if before.is_sparse or before.shape != after.shape:
        return None
    ratios = (after / before)[before != 0].log2() / POWER
    if ratios.numel() == 0 or not ratios.isfinite().all() or ratios.max() - ratios.min() > 1e-6:
        return None
    fraction = Fraction(ratios.mean().item()).limit_denominator(4)
    return fraction if abs(float(fraction) - ratios.mean().item()) < 1e-6 else None
