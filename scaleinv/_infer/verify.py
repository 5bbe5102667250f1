"""Runs rescaled by powers of two: whether units hold, which of several hold, and which the state has."""

import math
from fractions import Fraction
from itertools import product

import torch

from scaleinv._infer.exponents import DENOMINATOR
from scaleinv._infer.probe import POWER, length, rescaled_run
from scaleinv.units import ONE, G, Unit, W

ROUNDING = 1e-9  # deviation, relative to the lengths of both runs, up to which a rescaled run differs by rounding
TRIED = [Fraction(n, 2) for n in (0, 2, -2, 4, -4, 1, -1)]  # exponents, where differences tell nothing
USUAL = {"lr": (W, W / G, ONE), "eps": (G, G**2, W, ONE), "weight_decay": (ONE / W, G / W, ONE)}


def deviation(runs):
    """The largest deviation of rescaled runs, and in words which run's it is: 1 where all of an axis are refused."""
    (reference, _), *axes = runs
    worst, where = 0.0, ""
    for axis, scaled in zip(axes, ("the loss", "the parameters")):
        shares = {f"{scaled} × 2^{power}": apart(reference, run[0]) for power, run in axis if run}
        shares = shares or {f"{scaled} × 2^±{POWER}, which it refuses": 1.0}
        for name, share in shares.items():
            if share > worst:
                worst, where = share, name
    return worst, where


def apart(reference, trajectory):
    """How far a trajectory deviates, relative to the lengths of both: 0 if bitwise equal, 1 if unlike."""
    lengths = length(trajectory) + length(reference) + 1e-6 * reference.norm()
    share = ((trajectory - reference).norm() / lengths).item()
    return share if math.isfinite(share) else 1.0


def unit_by_trial(runner, values, units, name):
    """The one unit with which rescaled runs agree, of those with an exponent in TRIED, or None for none or several: for
    what acts in jumps, so that small changes tell nothing.  Agreement bit for bit counts before that up to rounding."""
    reference, _ = runner(values)
    exponents = []
    for axis in ("loss", "weight"):
        exact, close = [], []
        for exponent in TRIED:
            changed = units | {name: Unit(**{axis: exponent})}
            runs = [rescaled_run(runner, values, changed, axis, power) for power in (POWER, -POWER)]
            finite = [run[0] for run in runs if run and run[0].isfinite().all()]  # a bound tells nothing
            share = max((apart(reference, trajectory) for trajectory in finite), default=1.0)
            exact += [exponent] if share == 0 else []
            close += [exponent] if share <= ROUNDING else []
            if len(exact) > 1:
                return None
        if len(exact or close) != 1:
            return None
        exponents += exact or close
    return Unit(*exponents)


def usual_units(runner, values):
    """name → unit for all float hyperparameters, of those that lr, eps and weight_decay have in ``torch.optim`` and 1
    for the others, if rescaled runs agree with some; else None."""
    reference, _ = runner(values)

    def agrees(units, axis, power):
        run = rescaled_run(runner, values, units, axis, power)
        return run is not None and apart(reference, run[0]) <= ROUNDING

    choices = [next((USUAL[word] for word in USUAL if word in name), (ONE,)) for name in values.floats]
    found = {}
    for axis in ("loss", "weight"):
        exponents = [list(dict.fromkeys(getattr(unit, axis) for unit in units)) for units in choices]
        for chosen in product(*exponents):
            units = {name: Unit(**{axis: exponent}) for name, exponent in zip(values.floats, chosen)}
            if agrees(units, axis, -POWER) and agrees(units, axis, POWER):
                found[axis] = units
                break
        else:
            return None
    return {name: found["loss"][name] * found["weight"][name] for name in values.floats}


def state_units(runs):
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
