"""How far rescaled runs agree, where the rounding of a low precision is told apart from a fault."""

from collections.abc import Iterable

from scaleinv._entries import with_entry
from scaleinv._hyperparameters import Values
from scaleinv._infer.deviation import COARSE, ROUNDING, Deviation
from scaleinv._infer.runs import ByName, Runner


class Agreement:
    """Deviations of an optimizer's rescaled runs.

    Attributes:
        runner: the optimizer under test, as it is.
        exact: the same, as precise as it can be.
        low_precision: the largest deviation so far that disappears in ``exact``.
    """

    def __init__(self, runner: Runner, exact: Runner) -> None:
        self.runner, self.exact = runner, exact
        self.low_precision = 0.0

    def deviation(self, values: Values, units: ByName, steps: int | None = None) -> Deviation:
        """The deviation of rescaled runs; that in float64 where it is coarse rounding that disappears there."""
        deviation = self.runner.rescaled_runs(values, units, steps).deviation()
        if not ROUNDING < deviation.share <= COARSE or self.exact.trajectory(values, steps=steps) is None:
            return deviation
        exact = self.exact.rescaled_runs(values, units, steps).deviation()
        if exact.share > ROUNDING:
            return deviation
        self.low_precision = max(self.low_precision, deviation.share)
        return exact

    def share(self, all_values: Iterable[Values], units: ByName, others: Iterable[str]) -> float:
        """The share by which runs deviate; with others at 0 if it is less then, for it may be their fault."""
        all_values, others = list(all_values), list(others)
        share = self._largest(all_values, units)
        if share <= ROUNDING or not others:
            return share
        without = [_without(values, others) for values in all_values]
        if any(self.runner.trajectory(values) is None for values in without):
            return share
        return min(share, self._largest(without, units))

    def _largest(self, all_values: list[Values], units: ByName) -> float:
        return max((self.deviation(values, units).share for values in all_values), default=0.0)


def _without(values: Values, keys: list[str]) -> Values:
    for key in keys:
        values = with_entry(values, key, 0.0)
    return values
