"""Values to measure at: in reach of differences, and such that a hyperparameter matters."""

import math
from typing import NamedTuple

from scaleinv._entries import get_entry, with_entry
from scaleinv._hyperparameters import Values, floats_of
from scaleinv._infer.deviation import length
from scaleinv._infer.problem import LONG
from scaleinv._infer.runs import Runner

EFFECT = 1e-3  # a hyperparameter matters when a change by e moves the run by this share of its length
LARGEST = 10.0  # up to which a value is raised, by decades, to make it matter; then it is lowered by up to eight
SHORTEST, LONGEST = 1e-5, 1e5  # of a run that differences can be measured on, relative to the parameters
SWITCHED_ON = 0.1  # in place of a 0
NUDGE = 1.1


class Probe(NamedTuple):
    """All values, with one hyperparameter where it matters, and with it at a changed value."""

    matters: Values
    changed: Values


def switched_on(runner: Runner, values: Values) -> Values:
    """The values with 0.1 for every 0 that the optimizer allows to change."""
    for key in floats_of(values):
        if get_entry(values, key) == 0:
            on = with_entry(values, key, SWITCHED_ON)
            if runner.trajectory(on) is not None:
                values = on
    return values


def in_range(runner: Runner, values: Values) -> Values:
    """The values with one moved by decades, the first that will do, so that runs have a length one can measure."""
    for key in floats_of(values):
        value = get_entry(values, key)
        for decades in [*range(20), *range(-1, -20, -1)]:
            moved = value * 10.0**decades
            candidate = with_entry(values, key, moved)
            small = abs(moved) <= max(LARGEST, abs(value))
            if small and _measurable(runner, candidate) and _measurable(runner, candidate, LONG):
                return candidate
    return values


def _measurable(runner: Runner, values: Values, steps: int | None = None) -> bool:
    trajectory = runner.trajectory(values, steps=steps)
    return trajectory is not None and bool(SHORTEST < length(trajectory) / trajectory[0].norm() < LONGEST)


def value_that_matters(runner: Runner, values: Values, key: str) -> tuple[float, float] | None:
    """The value nearest in decades, upwards first, at which a hyperparameter has an effect, and one 10 % beside it.

    None if there is no such value.
    """
    start = get_entry(values, key) or SWITCHED_ON
    raised = min(300, max(0, math.ceil(math.log10(LARGEST) - math.log10(abs(start)))))
    for decades in [*range(raised + 1), *range(-1, -9, -1)]:
        value = start * 10.0**decades
        beside = _effective_neighbour(runner, values, key, value)
        if beside is not None:
            return value, beside
    return None


def _effective_neighbour(runner: Runner, values: Values, key: str, value: float) -> float | None:
    """A value beside ``value`` with another run; None if the optimizer refuses both, or the run hardly changes."""
    here = runner.trajectory(with_entry(values, key, value))
    if here is None:
        return None
    for beside in (value * NUDGE, value * (1 / NUDGE)):  # a value at its upper bound (a beta of 0.99) goes down
        there = runner.trajectory(with_entry(values, key, beside))
        if there is not None:
            return beside if (there - here).norm() > EFFECT * math.log(NUDGE) * length(here) else None
    return None
