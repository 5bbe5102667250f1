"""Measure the units of any optimizer's hyperparameters: dimensional analysis by experiment.

Let w(t) be the trajectory of a short run, as a function of the loss scale c, the parameter scale k and the
hyperparameters h, always read back in the original units (w'/k).  If h has the unit L^a W^b, changing c together
with every h → c^a·h changes nothing:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0        and likewise for k with the exponents b_h.

The derivatives are central differences of runs in float64 on a small smooth problem; a and b solve two
least-squares problems, are rounded to simple fractions, and are then verified: runs rescaled by powers of two
must give the same trajectory, bit for bit, with the values given, with values that matter, and over a run that is
longer.  What has no effect is undetermined, what no exponents explain is inconsistent; neither is given a unit.
"""

import math
import warnings
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial

import torch

from scaleinv.probe import (
    STEPS,
    Values,
    in_range,
    isolated,
    length,
    precision_of,
    rescaled_runs,
    runner_of,
    switched_on,
    trajectory_of,
    value_that_matters,
    values_of,
)
from scaleinv.units import Unit, Units

STEP = 1e-5  # of the central differences, in log h: truncation 1e-10, rounding 1e-11
FIT = 1e-4  # residual, relative to the largest term or the length of the run, up to which exponents explain a run
DENOMINATOR = 6  # largest of an exponent
SIMPLE = 0.01  # distance to such a fraction, up to which an exponent is that fraction
ROUNDING = 1e-9  # deviation, relative to the lengths of both runs, up to which a rescaled run differs by rounding
LONG = 100  # steps of the longer run, which finds what changes later, such as the end of a warm-up


@dataclass(frozen=True)
class InferredUnits(Units):
    """Units found by ``infer_units``: as in ``Units``, and what supports them.

    Attributes:
        verdict: "bitwise" (rescaled runs agree bit for bit), "rounding" (they agree to 1e-9), or "inconsistent".
        residual: for "inconsistent", the share of the run that no choice of units explains; else the largest
            deviation of a rescaled run, 0 when bitwise.
        undetermined: hyperparameters without effect in any probe, or not told apart; their unit is None.
        inconsistent: hyperparameter → residual that appears when it is made to matter, or, where it is an exponent
            on which the units of others depend, when it is changed; their unit is None.
        probed: the values given, and those with which every hyperparameter was made to matter.
        name: the factory's.
    """

    verdict: str = "inconsistent"
    residual: float = math.inf
    undetermined: tuple = ()
    inconsistent: dict = field(default_factory=dict)
    probed: tuple = ()
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
        given = Values(self.probed[0])
        if not given.is_float(key):
            return f"not probed ({given[key]!r:.30})"
        return "undetermined" if key in self.undetermined else "no unit"

    __repr__ = __str__


def infer_units(factory, hyperparameters):
    """The units of an optimizer's hyperparameters and state, measured.

    Args:
        factory: ``factory(params, **hyperparameters)`` makes an optimizer with torch.optim's interface: an optimizer
            class, one of a third party, or a function.
        hyperparameters: name → value.  Floats, and tuples of them, are probed, as are those that the factory has a
            default for; flags and integers are kept as given, and the units hold for them.  Zeros are switched on,
            and values too small or too large to matter are moved by decades until they do.

    Returns:
        ``InferredUnits``; pass it to ``convert`` or ``rescale`` in place of the class.  A constant that no run comes
        near, such as a clip at 10⁴ times the gradients or a switch after more than 100 steps, is not seen; and an
        optimizer whose step has a jump or a singularity that a run comes near may be called inconsistent wrongly.

    Raises:
        TypeError: for a factory that cannot be called or hyperparameters that are no dict.
        ValueError: for values that are not finite, and for a factory that no probe can run, whose equal runs differ,
            or whose optimizers move no parameter or diverge.

    Random state (of torch on the CPU, numpy and random) and the number of threads are left as they were.
    """
    if not callable(factory):
        raise TypeError(f"factory={factory!r} cannot be called; pass an optimizer class or a function making one")
    if not isinstance(hyperparameters, dict):
        raise TypeError(f"hyperparameters={hyperparameters!r} is not a dict; pass one such as {{'lr': 1e-3}}")
    for key, value in Values(hyperparameters).entries():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"hyperparameters: {key}={value!r} is not finite")
    given, defaults = values_of(factory, hyperparameters)
    with isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = _infer(factory, given)
    units = dict(found.hyperparameters)
    if found.verdict == "inconsistent":  # what may be a number is not to be taken for a flag
        units |= {n: None for n in hyperparameters if n not in {*units, *defaults}}
    # what the factory has no default for is in use only where it is given
    flags = {n: value for n, value in given.items() if n not in units}
    return replace(found, hyperparameters=units, defaults=flags | {n: v for n, v in defaults.items() if n in units})


def _infer(factory, given):
    runner = runner_of(factory, given)
    report = partial(_report, getattr(factory, "__name__", repr(factory)), given)
    on = switched_on(runner, given)
    found = _infer_from(on, given, runner, report)
    if on != given and (found is None or found.verdict == "inconsistent"):
        # the fault may be with a value that was 0: then it is named, and the others keep their units
        off = _infer_from(given, given, runner, report)
        if off and (found is None or any(on[key] != given[key] for key in off.inconsistent)):
            found = off
    if found is None:
        raise ValueError(f"factory={factory!r} with {dict(given)}: {STEPS} steps move nothing, or too far to measure")
    return found


def _infer_from(values, given, runner, report):
    base = in_range(runner, values, LONG)
    if not 1e-9 < length(runner(base)[0]) < 1e99:
        return None
    precision = precision_of(runner, base)
    equations = [_sensitivities(runner, base, precision)]
    scaling, certain, residual = _solve(base.floats, equations)
    if residual > FIT:
        return report("inconsistent", residual, f"no units fit: {residual:.2g} of the run is left unexplained")
    probes, inconsistent = {}, {}
    for name in base.floats:
        matters = value_that_matters(runner, base, name)
        if matters is None:
            continue
        value, beside = matters
        # a value at its bound cannot be varied both ways, but the one beside it can
        probe = base.replace(name, value if value != base[name] or name in certain else beside)
        if probe != base:
            trial = [*equations, _sensitivities(runner, probe, precision)]
            solution = _solve(base.floats, trial)
            if solution[2] > FIT:
                inconsistent[name] = solution[2]
                continue
            equations, (scaling, certain, _) = trial, solution
        probes[name] = (probe, base.replace(name, beside))

    def deviation(values):
        return _deviation(rescaled_runs(runner, values, scaling))

    steps = STEPS if trajectory_of(runner, base, steps=LONG) is None else LONG
    probed = [base, *(probe for probe, _ in probes.values() if probe != base)]
    while True:
        scaling = {name: unit for name, unit in scaling.items() if name not in inconsistent}
        runs = rescaled_runs(runner, base, scaling, steps)
        short, long = max(deviation(given), deviation(base)), _deviation(runs)
        if max(short, long) > ROUNDING:
            reason = f"units that fit small changes do not hold at large ones: runs deviate by {short:.2g}"
            if short <= ROUNDING:
                reason = f"units of the first {STEPS} steps do not hold over {LONG}: runs deviate by {long:.2g}"
            return report("inconsistent", max(short, long), reason, {}, {}, inconsistent, probed)
        worst = {name: max(map(deviation, pair)) for name, pair in probes.items() if name not in inconsistent}
        faults = {name: share for name, share in worst.items() if share > ROUNDING}
        if not faults:
            break
        inconsistent |= faults
    units = {name: unit for name, unit in scaling.items() if name in certain}
    # where hyperparameters are not told apart, the state depends on how they share a unit
    state = _state_units(runs) if units == scaling else {}
    residual = max(short, long, *worst.values())
    return report("rounding" if residual else "bitwise", residual, "", units, state, inconsistent, probed)


def _report(name, given, verdict, residual, reason, units={}, state={}, inconsistent={}, probed=()):
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


# Sensitivities and exponents.


def _sensitivities(runner, values, precision):
    """∂w/∂log of the loss scale, the parameter scale and each hyperparameter: a matrix (STEPS·coordinates, 2 + n)."""

    def difference(change):
        with precision():
            ends = [trajectory_of(runner, *change(math.exp(step))) for step in (STEP, -STEP)]
        if ends[0] is None or ends[1] is None:  # a value at its bound cannot be varied both ways: no effect is seen
            return torch.zeros_like(start).flatten()
        return ((ends[0] - ends[1]) / (2 * STEP)).flatten()

    start, _ = runner(values)
    columns = [difference(lambda factor: (values, 1.0, factor)), difference(lambda factor: (values, factor))]
    for name in values.floats:
        columns.append(difference(lambda factor: (values.replace(name, values[name] * factor),)))
    return torch.stack(columns, dim=1) / length(start)


def _solve(names, matrices):
    """name → unit, for the hyperparameters that have an effect, the set of those determined, and the residual."""
    matrix = torch.cat(matrices)
    scales, columns = matrix[:, :2], matrix[:, 2:]
    norms = columns.norm(dim=0)
    effective = norms > 1e-7
    columns, norms = columns[:, effective], norms[effective]
    scaled = columns / norms
    _, singular, directions = torch.linalg.svd(scaled, full_matrices=False)
    # coordinates in which a direction without effect has a part are not told apart
    loose = (directions[singular < 1e-6].abs() > 1e-3).any(dim=0)
    solution = torch.zeros(len(norms), 2, dtype=scaled.dtype)
    # of such, those named first take the unit
    first = torch.linalg.qr(scaled).R.diagonal().abs() > 1e-6
    solution[first] = torch.linalg.lstsq(scaled[:, first], -scales, driver="gelsd").solution / norms[first, None]
    nearest = [[Fraction(exponent).limit_denominator(DENOMINATOR) for exponent in row] for row in solution.tolist()]
    fractions = torch.tensor([[float(f) for f in row] for row in nearest], dtype=solution.dtype).reshape(-1, 2)
    simple = ~loose & ((solution - fractions).abs().amax(dim=1) < SIMPLE)
    # what is left over when the determined exponents are fractions, and the others as good as can be
    terms = columns[:, simple, None] * fractions[simple]
    rest = scales + terms.sum(dim=1)
    others = scaled[:, ~simple]
    misfit = (rest - others @ torch.linalg.lstsq(others, rest, driver="gelsd").solution).norm(dim=0).max().item()
    largest = max(1.0, scales.norm(dim=0).max().item(), *terms.norm(dim=0).flatten().tolist())
    with_effect = [name for name, matters in zip(names, effective) if matters]
    units = {name: Unit(*pair) for name, pair in zip(with_effect, nearest)}
    return units, {name for name, certain in zip(with_effect, simple) if certain}, misfit / largest


# Verification.


def _deviation(runs):
    """The largest deviation of rescaled runs, relative to the lengths: 0 if bitwise equal, 1 if unlike or refused."""
    (reference, _), *axes = runs
    worst = 0.0
    for axis in axes:
        trajectories = [run[0] for _, run in axis if run]
        for trajectory in trajectories:
            lengths = length(trajectory) + length(reference) + 1e-6 * reference.norm()
            share = ((trajectory - reference).norm() / lengths).item()
            worst = max(worst, share if math.isfinite(share) else 1.0)
        if not trajectories:
            return 1.0
    return worst


def _state_units(runs):
    """The unit of every state buffer, read off from its ratios between rescaled runs, the same for all parameters."""
    (_, plain), *axes = runs
    exponents = {}  # name → a set for the loss, and one for the parameters
    for axis, pairs in enumerate(axes):
        for power, run in pairs:
            for before, after in zip(_states(plain), _states(run[1]) if run else []):
                for key, buffer in before.items():
                    exponents.setdefault(key, (set(), set()))[axis].update(_exponents(buffer, after.get(key), power))
    return {
        key: Unit(*loss, *weight)
        for key, (loss, weight) in exponents.items()
        if len(loss) == len(weight) == 1 and None not in loss | weight
    }


def _states(optimizer):
    state = getattr(optimizer, "state", {})
    return [s for s in state.values() if isinstance(s, dict)] if isinstance(state, dict) else []


def _exponents(before, after, power):
    """The exponents of 2^power by which entries that are not 0 have changed; None among them for any other change."""
    numbers = torch.Tensor | int | float
    if not (isinstance(before, numbers) and isinstance(after, numbers)) or isinstance(before, bool):
        return {None}
    before, after = torch.as_tensor(before), torch.as_tensor(after)
    if before.is_sparse or before.shape != after.shape:
        return {None}
    before, after = before.double(), after.double()
    ratios = (after / before)[(before != 0) | (after != 0)].log2() / power
    found = set()
    for ratio in set(ratios.tolist()):
        fraction = Fraction(ratio).limit_denominator(DENOMINATOR) if math.isfinite(ratio) else None
        found.add(fraction if fraction is not None and abs(fraction - ratio) < 1e-6 else None)
    return found
