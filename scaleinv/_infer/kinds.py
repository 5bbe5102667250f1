"""Whether units hold for parameters of all kinds, and not only for a matrix and a vector."""

from collections.abc import Iterable, Iterator

from scaleinv._entries import with_entry
from scaleinv._hyperparameters import Values, floats_of
from scaleinv._infer.deviation import COARSE, ROUNDING
from scaleinv._infer.runs import ByName, RescaledRuns, Runner
from scaleinv._kinds import KINDS


def kinds_that_deviate(runner: Runner, exact: Runner, all_values: Iterable[Values], units: ByName) -> dict[str, float]:
    """kind → the share by which rescaled runs deviate, for kinds of ``KINDS`` that the optimizer trains.

    Deviations that disappear in float64 (``exact``) are rounding.  A hyperparameter without a unit is not converted, so
    that it has to be 0 where it matters: it is, if runs deviate less then.
    """
    all_values, shares = list(all_values), {}
    for kind in kinds_for(runner):
        share = max(_share(runner.on(kind), exact.on(kind), values, units) for values in all_values)
        if share > ROUNDING:
            shares[kind] = share
    return shares


def kinds_for(runner: Runner) -> list[str]:
    """The kinds of parameters that can be tried: what takes a matrix only is given matrices."""
    interface = runner.setup.interface.kind
    if interface == "sparse":
        return []
    return [kind for kind, example in KINDS.items() if interface != "matrix" or len(example.shape) == 2]


def runs_of_kinds(runner: Runner, values: Values, units: ByName) -> Iterator[RescaledRuns]:
    """The rescaled runs of each kind that the optimizer trains."""
    for kind in kinds_for(runner):
        if runner.on(kind).trajectory(values) is not None:
            yield runner.on(kind).rescaled_runs(values, units)


def _share(runner: Runner, exact: Runner, values: Values, units: ByName) -> float:
    share = _deviation(runner, exact, values, units)
    without = values
    for key in floats_of(values):
        without = without if key in units else with_entry(without, key, 0.0)
    if share <= ROUNDING or without == values or runner.trajectory(without) is None:
        return share
    return min(share, _deviation(runner, exact, without, units))


def _deviation(runner: Runner, exact: Runner, values: Values, units: ByName) -> float:
    """0 for a kind that the optimizer refuses, or on which it diverges anyway."""
    if runner.trajectory(values) is None:
        return 0.0
    share = runner.rescaled_runs(values, units).deviation().share
    if ROUNDING < share <= COARSE and exact.trajectory(values) is not None:
        return exact.rescaled_runs(values, units).deviation().share
    return share
