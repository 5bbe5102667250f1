"""Measure the units of any optimizer's hyperparameters: dimensional analysis by experiment.

Let w(t) be the trajectory of a short run, as a function of the loss scale c, the parameter scale k and the
hyperparameters h, always read back in the original units (w'/k).  If h has the unit L^a W^b, changing c together
with every h → c^a·h changes nothing:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0        and likewise for k with the exponents b_h.

The derivatives are central differences of runs in float64 on a small smooth problem; a and b solve two
least-squares problems, are rounded to simple fractions (``scaleinv.exponents``), and are then verified: runs
rescaled by powers of two must give the same trajectory, bit for bit, with the values given, with values that matter,
and over a run that is longer (``scaleinv.verify``).  What acts in jumps has no derivatives, and is tried.  What has no
effect is undetermined, what no exponents explain is inconsistent; neither is given a unit.
"""

import math
import warnings
from dataclasses import replace
from functools import partial

import torch

from scaleinv._infer.exponents import FIT, Exponents
from scaleinv._infer.result import inferred
from scaleinv._infer.probe import (
    LONG,
    STEPS,
    in_range,
    isolated,
    length,
    precision_of,
    rescaled_runs,
    runner_of,
    switched_on,
    trajectory_of,
    value_that_matters,
)
from scaleinv._hyperparameters import Values, values_of
from scaleinv._infer.verify import ROUNDING, deviation, state_units, unit_by_trial, usual_units


def infer_units(factory, hyperparameters):
    """The units of an optimizer's hyperparameters and state, measured.

    Args:
        factory: ``factory(params, **hyperparameters)`` makes an optimizer with torch.optim's interface: an optimizer
            class, one of a third party, or a function.  It is given what it accepts: a matrix and a vector, a matrix
            only, sparse gradients, gradients that can be differentiated again, pairs of names and parameters, or a
            module; ``step`` is called without and, if need be, with a closure, after ``train()`` where there is one.
        hyperparameters: name → value.  Floats, and tuples of them, are probed, as are those that the factory has a
            default for; flags and integers are kept as given, and the units hold for them.  Zeros are switched on,
            and values too small or too large to matter are moved by decades until they do.

    Returns:
        ``InferredUnits``; pass it to ``convert`` or ``rescale`` in place of the class.  A constant that no run comes
        near, such as a clip at 10⁴ times the gradients or a switch after more than 100 steps, is not seen.  A step
        that jumps everywhere, so that differences tell nothing, is tried with the units usual for lr, eps and
        weight_decay only, and called inconsistent where these do not hold.

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
    report = partial(inferred, getattr(factory, "__name__", repr(factory)), given)
    on = switched_on(runner, given)
    found = _infer_from(on, given, runner, report)
    if on != given and (found is None or found.verdict == "inconsistent"):
        # the fault may be with a value that was 0: then it is named, and the others keep their units
        off = _infer_from(given, given, runner, report)
        if off and (found is None or any(on[key] != given[key] for key in off.inconsistent)):
            found = off
    if found is None:
        raise ValueError(f"factory={factory!r} with {dict(given)}: {STEPS} steps move nothing, or too far to measure")
    return _with_suspect(found, given, runner, report) if found.verdict == "inconsistent" else found


def _with_suspect(found, given, runner, report):
    """``found``, with the hyperparameter without which all is consistent, if one is, and the others' units then."""
    candidates = [key for key in given.floats if key in given and given[key] != 0]
    for key in sorted(candidates, key=lambda key: ("eps" not in key, key not in found.inconsistent)):
        without = given.replace(key, 0.0)
        trajectory = trajectory_of(runner, without)
        if trajectory is None or torch.equal(trajectory[0], trajectory[-1]):
            continue
        others = {name: unit for name, unit in found.nearby.items() if name != key}
        if found.nearby and deviation(rescaled_runs(runner, without, others))[0] > ROUNDING:
            continue
        rest = _infer_from(without, without, runner, report, may_jump=False)
        lr_kept = rest and given.floats[0] not in rest.undetermined  # or too little is left of the optimizer
        if lr_kept and rest.verdict != "inconsistent" and key in rest.inconsistent:
            reason = f"{found.reason}. With {key}=0 it is consistent"
            return replace(rest, verdict="inconsistent", residual=found.residual, suspect=key, reason=reason)
    return found


def _infer_from(values, given, runner, report, may_jump=True):
    base = in_range(runner, values, LONG)
    if not 1e-9 < length(runner(base)[0]) < 1e99:
        return None
    precision = precision_of(runner, base)
    exponents = Exponents(runner, base.floats, precision)
    residual = exponents.take_in(base)
    if residual <= FIT:
        probes, jumps = _probes(runner, base, exponents)
        _tell_apart(runner, base, given, exponents)
        units, certain = dict(exponents.units), set(exponents.certain)
        # what has an effect in jumps only, in the run as it is or where it is made to matter
        probed = {name: pair[0] for name, pair in probes.items()}
        trials = {name: probed.get(name, base) for name in base.floats if name not in units}
        trials |= {name: probe for name, (probe, _) in jumps.items()}
    else:
        with precision():
            units = usual_units(runner, base) if may_jump else None
        if units is None:
            return report("inconsistent", residual, f"no units fit: {residual:.2g} of the run is left unexplained")
        probes, jumps, certain, trials = {}, {}, set(), dict.fromkeys(base.floats, base)
    inconsistent = {name: residual for name, (_, residual) in jumps.items()}
    for name, values in trials.items():
        with precision():
            tried = unit_by_trial(runner, values, units, name)
        if tried is not None:
            units[name] = tried
            certain.add(name)
            inconsistent.pop(name, None)
    return _verified(runner, base, given, units, certain, probes, inconsistent, precision, report)


def _probes(runner, base, exponents):
    """name → values with which it matters, and with which it has changed; and name → the former and the residual, for
    those that no unit explains then."""
    probes, jumps = {}, {}
    for name in base.floats:
        matters = value_that_matters(runner, base, name)
        if matters is None:
            continue
        value, beside = matters
        # a value at its bound cannot be varied both ways, but the one beside it can
        probe = base.replace(name, value if value != base[name] or name in exponents.certain else beside)
        residual = exponents.take_in(probe) if probe != base else 0.0
        if residual > FIT:
            jumps[name] = (probe, residual)
        else:
            probes[name] = (probe, base.replace(name, beside))
    for name in list(jumps) if len(jumps) > 1 else []:
        # the fault may be another's, which name only brings into play
        probe = jumps[name][0]
        for other in jumps.keys() - {name}:
            probe = probe.replace(other, 0.0)
        if trajectory_of(runner, probe) is not None and exponents.take_in(probe) <= FIT:
            del jumps[name]
            probes[name] = (probe, probe)
    return probes, jumps


def _tell_apart(runner, base, given, exponents):
    """Take in more runs while there are hyperparameters whose unit is not certain: one with the values given, a longer
    one, in which they may have an effect or different ones, and some with those not told apart at other values."""
    if any(name not in exponents.certain for name in exponents.units):
        exponents.take_in(given)
    if any(name not in exponents.certain for name in base.floats):
        if trajectory_of(runner, base, steps=LONG) is not None:
            exponents.take_in(base, steps=LONG)
    for name in base.floats:
        for decades in (1, -1, 2, -2, 3, -3):
            values = base.replace(name, base[name] * 10.0**decades)
            loose = name in exponents.units and name not in exponents.certain
            if loose and trajectory_of(runner, values) is not None:
                exponents.take_in(values)


def _verified(runner, base, given, units, certain, probes, inconsistent, precision, report):
    """The report on units: whether rescaled runs agree, of the values given, of those measured with and of all probes,
    where a hyperparameter whose probe alone does not is inconsistent by itself."""

    def deviates(values, runs=None, **options):
        own = deviation(runs or rescaled_runs(runner, values, units, **options))
        if own[0] > ROUNDING:
            with precision():
                exact = deviation(rescaled_runs(runner, values, units, **options))
            if exact[0] <= ROUNDING:
                low.append(own[0])
                return exact
        return own

    def faulty(pair, others):
        """The deviation of a probe, without (at 0) the others, whose fault it may be, if that makes it agree."""
        share = max(deviates(values)[0] for values in pair)
        if share > ROUNDING and others:
            without = list(pair)
            for other in others:
                without = [values.replace(other, 0.0) for values in without]
            if all(trajectory_of(runner, values) is not None for values in without):
                return min(share, max(deviates(values)[0] for values in without))
        return share

    low = []  # deviations that float64 makes good
    options = {} if trajectory_of(runner, base, steps=LONG) is None else {"steps": LONG}
    probed = [base, *(probe for probe, _ in probes.values() if probe != base)]
    while True:
        units = {name: unit for name, unit in units.items() if name not in inconsistent}
        runs = rescaled_runs(runner, base, units, **options)
        short, long = max(deviates(given), deviates(base)), deviates(base, runs, **options)
        if max(short, long)[0] > ROUNDING:
            share, where = max(short, long)
            reason = f"units that fit small changes do not hold at large ones: runs deviate by {share:.2g} with {where}"
            if short[0] <= ROUNDING:
                reason = f"units of the first {STEPS} steps do not hold over {LONG}: runs deviate by {share:.2g}"
            found = report("inconsistent", share, reason, {}, {}, inconsistent, probed)
            return replace(found, nearby={name: unit for name, unit in units.items() if name in certain})
        unknown = [name for name in base.floats if name not in units]
        worst = {name: faulty(pair, {*unknown} - {name}) for name, pair in probes.items() if name not in inconsistent}
        faults = {name: share for name, share in worst.items() if share > ROUNDING}
        if not faults:
            break
        # a constant added to several things is the usual fault, which others only bring into play
        usual = [name for name in base.floats if "eps" in name and name not in inconsistent]
        for name, share in faults.items():
            cured = name not in usual and usual and faulty(probes[name], usual) <= ROUNDING
            inconsistent |= dict.fromkeys(usual, share) if cured else {name: share}
    determined = {name: unit for name, unit in units.items() if name in certain}
    # where hyperparameters are not told apart, the state depends on how they share a unit
    state = state_units(runs) if determined == units else {}
    residual = max(short[0], long[0], *worst.values(), *low)
    return report("rounding" if residual else "bitwise", residual, "", determined, state, inconsistent, probed)
