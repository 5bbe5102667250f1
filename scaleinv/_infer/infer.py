"""Measure the units of any optimizer's hyperparameters: dimensional analysis by experiment.

Let w(t) be the trajectory of a short run, as a function of the loss scale c, the parameter scale k and the
hyperparameters h, always read back in the original units (w'/k).  If h has the unit L^a W^b, changing c together
with every h → c^a·h changes nothing:

    ∂w/∂log c + Σ a_h ∂w/∂log h = 0        and likewise for k with the exponents b_h.

The experiment runs the optimizer on a small smooth problem, differentiates the run by central differences in float64,
solves the two least-squares problems for a and b, and rounds these to simple fractions (``exponents``).  It makes each
hyperparameter matter (``probes``), for what has no effect is undetermined, and tries units for what acts in jumps and
so has no derivatives (``trial``).  Then it verifies (``verify``): runs rescaled by powers of two must give the same
trajectory, bit for bit, with the values passed, with values that matter, and over a run that is longer.  What no
exponents explain is inconsistent; then it looks for the culprit, a hyperparameter without which the rest is not.
Neither the undetermined nor the inconsistent is given a unit.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from types import MappingProxyType
from typing import Any, NamedTuple

from tqdm import tqdm

from scaleinv._entries import entries, get_entry, with_entry
from scaleinv._hyperparameters import Factory, Values, floats_of, plain_values, values_of
from scaleinv._infer.decay import decay_of
from scaleinv._infer.deviation import ROUNDING, length, moves
from scaleinv._infer.exponents import FIT, Exponents
from scaleinv._infer.midway import fault_midway
from scaleinv._infer.outcome import Outcome
from scaleinv._infer.probes import Probe, in_range, switched_on, value_that_matters
from scaleinv._infer.problem import LONG, STEPS
from scaleinv._infer.result import InferredUnits, Measured, result_of
from scaleinv._infer.runs import ByName, Runner, runner_of
from scaleinv._infer.sensitivities import Differentiation
from scaleinv._infer.training import isolated
from scaleinv._infer.trial import unit_by_trial, usual_units
from scaleinv._infer.verify import Bench, Candidate, verified

DEFAULTS: Mapping[str, Any] = MappingProxyType({})  # no hyperparameter passed: all have the factory's defaults


def infer_units(factory: Factory, hyperparameters: Mapping[str, Any] = DEFAULTS) -> InferredUnits:
    """Measure the units of an optimizer's hyperparameters and state.

    Args:
        factory: ``factory(params, **hyperparameters)`` makes an optimizer with torch.optim's interface: an optimizer
            class, one of a third party, or a function.  It receives what it accepts: a matrix and a vector, a matrix
            only, sparse gradients, gradients that can be differentiated again, pairs of names and parameters, or a
            module; ``step`` is called without and, if need be, with a closure, after ``train()`` where there is one.
        hyperparameters: name → value; the factory's defaults for all others.  Floats, and tuples of them, are probed;
            flags and integers stay as they are, and the units hold for them.  Zeros are switched on, and values too
            small or too large to matter are moved by decades until they do.

    Returns:
        ``InferredUnits``; pass it to ``convert`` or ``rescale`` in place of the class.  A constant that no run comes
        near, such as a clip at 10⁴ times the gradients or a switch after more than 100 steps, is not seen.  A step
        that jumps everywhere, so that differences tell nothing, is tried with the units usual for lr, eps and
        weight_decay only, and called inconsistent where these do not hold.

    Raises:
        TypeError: if the factory cannot be called, or the hyperparameters are not a dict.
        ValueError: if a value is not finite, if no probe can run the factory, if equal runs differ, or if the
            optimizer moves no parameter or diverges.

    The random states (of torch, numpy and random) and the number of threads stay as they were.

    >>> import torch
    >>> from scaleinv import infer_units
    >>> units = infer_units(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9})
    >>> units.verdict, units.hyperparameters["lr"], units.hyperparameters["momentum"]
    ('bitwise', L⁻¹ W², 1)
    """
    check_factory(factory, hyperparameters)
    values, defaults = values_of(factory, hyperparameters)
    name = getattr(factory, "__name__", repr(factory))
    with _bar(name) as bar, isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = runner_of(factory, values, bar.update)
        outcome = _measure(runner, values)
        result = result_of(Measured(name, values, hyperparameters, defaults), outcome)
        decay = decay_of(runner, values)
        at_zero = {key: replace(units, decay=decay) for key, units in result.at_zero.items()}
        result = replace(result, decay=decay, at_zero=at_zero)
        return replace(result, midway=fault_midway(runner, values, result)) if outcome.consistent else result


def _bar(name: str) -> tqdm:
    """A bar on a terminal, for what takes longer than a second."""
    return tqdm(desc=f"infer_units({name})", unit=" runs", delay=1, leave=False, disable=None)


def check_factory(factory: Factory, hyperparameters: Mapping[str, Any]) -> None:
    """Raise the errors of a factory that cannot be called, and of hyperparameters that are no finite values by name."""
    if not callable(factory):
        raise TypeError(f"factory={factory!r} cannot be called; pass an optimizer class or a function that makes one")
    if not isinstance(hyperparameters, Mapping):
        number = isinstance(hyperparameters, Real) and not isinstance(hyperparameters, bool)
        example = {"lr": hyperparameters if number else 1e-3}
        raise TypeError(f"hyperparameters={hyperparameters!r} is not a dict; pass one such as {example}")
    for key, value in entries(plain_values(hyperparameters)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"hyperparameters: {key}={value!r} is not finite")


def _measure(runner: Runner, values: Values) -> Outcome:
    """Experiment with the optimizer; where the outcome is inconsistent, find the culprit."""
    on = switched_on(runner, values)
    outcome = Experiment(runner, values, on).outcome()
    if on != values and (outcome is None or not outcome.consistent):
        # the fault may be with a value that was 0: then it is named, and the others keep their units
        off = Experiment(runner, values, values).outcome()
        if off and (outcome is None or any(get_entry(values, key) != get_entry(on, key) for key in off.inconsistent)):
            outcome = off
    if outcome is None:
        raise ValueError(f"factory={runner.factory!r} with {values}: {STEPS} steps move nothing, or too far to measure")
    return _with_zeros(runner, values, outcome) if outcome.consistent else _without_culprit(runner, values, outcome)


class Experiment:
    """The measurement of one optimizer at given values: from a run to verified units.

    Attributes:
        runner: runs the optimizer under test.
        given: the values that the user passed, or what is tested in their place.
        base: the values to measure at, moved such that a run has a length one can measure.
        keys: the hyperparameters, or entries such as ``betas[0]``, whose units are sought.
    """

    def __init__(self, runner: Runner, given: Values, values: Values) -> None:
        self.runner, self.given = runner, given
        self.base = in_range(runner, values)
        self.keys = floats_of(given)

    def outcome(self, may_jump: bool = True) -> Outcome | None:
        """The units that explain the runs, verified; None where no run can be measured.

        Args:
            may_jump: whether the usual units are tried where no exponents explain a run.
        """
        if not 1e-9 < length(self.runner.reference(self.base).trajectory) < 1e99:
            return None
        exact = self.runner.most_precise(self.base)
        exponents = Exponents(Differentiation(self.runner, exact, self.keys))
        residual = exponents.explain(self.base)
        if residual <= FIT:
            candidate = self._explained(exponents, exact)
        else:
            units = usual_units(exact, self.base, self.keys) if may_jump else None
            if units is None:
                reason = f"no units fit: {residual:.2g} of the run is left unexplained"
                return Outcome("inconsistent", residual, reason)
            trials = {key: self._where_it_matters(key) for key in self.keys}
            candidate = self._tried(exact, Candidate(units, set(), {}, {}), trials)
        return verified(Bench(self.runner, exact, self.given, self.base, self.keys), candidate)

    def _explained(self, exponents: Exponents, exact: Runner) -> Candidate:
        """The units that exponents and, where these tell nothing, trials give when each hyperparameter matters."""
        probes, jumps = self._make_each_matter(exponents)
        self._tell_apart(exponents)
        candidate = Candidate(
            exponents.units, exponents.certain, probes, {key: jump.residual for key, jump in jumps.items()}
        )
        # what acts in jumps only, in the run as it is or where it is made to matter
        trials = {key: probes[key].matters if key in probes else self.base for key in self.keys}
        trials = {key: values for key, values in trials.items() if key not in exponents.units}
        trials |= {key: jump.values for key, jump in jumps.items()}
        return self._tried(exact, candidate, trials)

    def _make_each_matter(self, exponents: Exponents) -> tuple[dict[str, Probe], dict[str, "_Jump"]]:
        """Explain a run in which it matters, for each hyperparameter: the probes, and those that no units explain."""
        probes, jumps = {}, {}
        for key in self.keys:
            matters = value_that_matters(self.runner, self.base, key)
            if matters is None:
                continue
            value, beside = matters
            # a value at its bound cannot be varied both ways, but the one beside it can
            at_bound = value == get_entry(self.base, key) and key not in exponents.certain
            values = with_entry(self.base, key, beside if at_bound else value)
            residual = exponents.explain(values) if values != self.base else 0.0
            if residual > FIT:
                jumps[key] = _Jump(values, residual)
            else:
                probes[key] = Probe(values, with_entry(self.base, key, beside))
        return self._only_brought_into_play(exponents, probes, jumps)

    def _where_it_matters(self, key: str) -> Values:
        matters = value_that_matters(self.runner, self.base, key)
        return self.base if matters is None else with_entry(self.base, key, matters[0])

    def _only_brought_into_play(
        self, exponents: Exponents, probes: dict[str, Probe], jumps: dict[str, "_Jump"]
    ) -> tuple[dict[str, Probe], dict[str, "_Jump"]]:
        """Probes and jumps, where a jump that disappears without the others is a probe: the fault is with these."""
        probes, at_fault = dict(probes), dict(jumps)
        for key in jumps if len(jumps) > 1 else ():
            values = jumps[key].values
            for other in at_fault:
                values = with_entry(values, other, 0.0) if other != key else values
            if self.runner.trajectory(values) is not None and exponents.explain(values) <= FIT:
                del at_fault[key]
                probes[key] = Probe(values, values)
        return probes, at_fault

    def _tell_apart(self, exponents: Exponents) -> None:
        """Explain more runs while there are hyperparameters whose unit is not certain: one with the values given, a
        longer one, in which they may have an effect or different ones, and some at other values."""
        if any(exponents.uncertain(key) for key in self.keys):
            exponents.explain(self.given)
        if any(key not in exponents.certain for key in self.keys):
            if self.runner.trajectory(self.base, steps=LONG) is not None:
                exponents.explain(self.base, LONG)
        for key in self.keys:
            for decades in (1, -1, 2, -2, 3, -3):
                values = with_entry(self.base, key, get_entry(self.base, key) * 10.0**decades)
                if exponents.uncertain(key) and self.runner.trajectory(values) is not None:
                    exponents.explain(values)

    def _tried(self, exact: Runner, candidate: Candidate, trials: dict[str, Values]) -> Candidate:
        """The candidate with the units that trials give, each with the values at which it acts."""
        units, certain, inconsistent = dict(candidate.units), set(candidate.certain), dict(candidate.inconsistent)
        for key, values in trials.items():
            unit = unit_by_trial(exact, values, units, key)
            if unit is not None:
                units[key] = unit
                certain.add(key)
                inconsistent.pop(key, None)
        return Candidate(units, certain, candidate.probes, {}).without(inconsistent)


class _Jump(NamedTuple):
    """Values at which no units explain the run, and what is left unexplained."""

    values: Values
    residual: float


def _with_zeros(runner: Runner, values: Values, outcome: Outcome) -> Outcome:
    """The outcome, with another one for each value that is not 0, where a 0 changes the units."""
    at_zero, units = {}, {**outcome.stand_ins, **outcome.units}
    for key in floats_of(values):
        zero = with_entry(values, key, 0.0)
        if get_entry(values, key) == 0 or not moves(runner.trajectory(zero)):
            continue
        others = {name: unit for name, unit in units.items() if name != key}
        if _deviates(runner, zero, others) and _deviates(runner.most_precise(zero), zero, others):
            rest = Experiment(runner, zero, zero).outcome()
            at_zero[key] = rest or Outcome("inconsistent", math.inf, f"with {key}=0 nothing can be measured")
    return replace(outcome, at_zero=at_zero)


def _deviates(runner: Runner, values: Values, units: ByName) -> bool:
    return runner.rescaled_runs(values, units).deviation().share > ROUNDING


def _without_culprit(runner: Runner, values: Values, outcome: Outcome) -> Outcome:
    """What is left of an inconsistent outcome without the hyperparameter at fault; the same outcome if none is."""
    keys = floats_of(values)
    candidates = [key for key in keys if key in values and values[key] != 0]
    for key in sorted(candidates, key=lambda key: ("eps" not in key, key not in outcome.inconsistent)):
        without = with_entry(values, key, 0.0)
        if not moves(runner.trajectory(without)):
            continue
        others = {name: unit for name, unit in outcome.nearby.items() if name != key}
        if outcome.nearby and _deviates(runner, without, others):
            continue
        rest = Experiment(runner, without, without).outcome(may_jump=False)
        if rest is None or not rest.consistent:
            continue
        too_little_is_left = keys[0] in rest.undetermined  # which is lr, as a rule
        if key in rest.inconsistent and not too_little_is_left:
            return outcome.without_suspect(key, rest)
    return outcome
