"""Units found by trial, with rescaled runs: for what acts in jumps, so that small changes tell nothing."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

from torch import Tensor

from scaleinv._hyperparameters import Values
from scaleinv._infer.deviation import ROUNDING, apart
from scaleinv._infer.runs import UP_AND_DOWN, ByName, Runner
from scaleinv.units import ONE, G, Unit, W

TRIED = [Fraction(n, 2) for n in (0, 2, -2, 4, -4, 1, -1)]
USUAL = {
    "lr": (W, W / G, ONE),
    "eps": (G, G**2, W, ONE),
    "weight_decay": (ONE / W, G / W, ONE),
    "norm": (ONE, G, W, ONE / W, G / W),  # a bound of a norm, of what is moved or of a gradient, or of their ratio
}


def unit_by_trial(runner: Runner, values: Values, units: ByName, key: str) -> Unit | None:
    """The one unit, of those with exponents in TRIED, with which rescaled runs agree; None for none or several."""
    trial = _Trial(runner, values)
    loss = trial.exponent(units, key, "loss")
    weight = None if loss is None else trial.exponent(units, key, "weight")
    return None if loss is None or weight is None else Unit(loss, weight)


def usual_units(runner: Runner, values: Values, keys: list[str]) -> ByName | None:
    """key → unit for all hyperparameters, if rescaled runs agree with some choice; else None.

    The choice is among the units that lr, eps and weight_decay have in ``torch.optim``, and 1 for the others.
    """
    trial = _Trial(runner, values)
    choices = {key: next((USUAL[word] for word in USUAL if word in key), (ONE,)) for key in keys}
    loss = trial.choice(choices, "loss")
    weight = None if loss is None else trial.choice(choices, "weight")
    return None if loss is None or weight is None else {key: loss[key] * weight[key] for key in keys}


class _Trial:
    """Trials on one axis, "loss" or "weight", at a time."""

    def __init__(self, runner: Runner, values: Values) -> None:
        self.runner, self.values = runner, values
        self.reference = runner.reference(values).trajectory

    def exponent(self, units: ByName, key: str, axis: str) -> Fraction | None:
        """The only exponent to agree bit for bit or, if none does, up to rounding."""
        exact, close = [], []
        for exponent in TRIED:
            runs = self._runs(units | {key: _unit(axis, exponent)}, axis)
            finite = [run for run in runs if run is not None and run.isfinite().all()]  # a bound tells nothing
            share = max((apart(self.reference, trajectory) for trajectory in finite), default=1.0)
            exact += [exponent] if share == 0 else []
            close += [exponent] if share <= ROUNDING else []
            if len(exact) > 1:
                return None
        agreeing = exact or close
        return agreeing[0] if len(agreeing) == 1 else None

    def choice(self, choices: dict[str, tuple[Unit, ...]], axis: str) -> ByName | None:
        """The first choice of exponents on this axis with which both rescaled runs agree up to rounding."""
        exponents = [list(dict.fromkeys(getattr(unit, axis) for unit in units)) for units in choices.values()]
        for chosen in product(*exponents):
            units = {key: _unit(axis, exponent) for key, exponent in zip(choices, chosen, strict=True)}
            runs = self._runs(units, axis)
            if all(run is not None and apart(self.reference, run) <= ROUNDING for run in runs):
                return units
        return None

    def _runs(self, units: ByName, axis: str) -> Iterator[Tensor | None]:
        for _, scale in UP_AND_DOWN[axis]:
            run = self.runner.rescaled(self.values, units, scale)
            yield None if run is None else run.trajectory


def _unit(axis: str, exponent: Fraction) -> Unit:
    return Unit(loss=exponent) if axis == "loss" else Unit(weight=exponent)
