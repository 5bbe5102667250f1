"""Whether units hold for parameters of all kinds, and not only for a matrix and a vector."""

from collections.abc import Iterable, Iterator, Sequence

from scaleinv._hyperparameters import Values, floats_of
from scaleinv._infer.agreement import Agreement
from scaleinv._infer.runs import ByName, RescaledRuns, Runner
from scaleinv._kinds import KINDS


def shares_of_kinds(agreement: Agreement, all_values: Sequence[Values], units: ByName) -> dict[str, float]:
    """kind → the share by which rescaled runs deviate, for kinds of ``KINDS`` that the optimizer trains.

    A hyperparameter without a unit is not converted, so that it has to be 0 where it matters: it is, if runs deviate
    less then.
    """
    without_unit = [key for key in floats_of(all_values[0]) if key not in units]
    shares = {}
    for kind in kinds_for(agreement.runner):
        of_kind = Agreement(agreement.runner.on(kind), agreement.exact.on(kind))
        possible = _trained(of_kind.runner, all_values)
        shares[kind] = max(of_kind.share([values], units, without_unit) for values in possible) if possible else 0.0
        agreement.low_precision = max(agreement.low_precision, of_kind.low_precision)
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
        if _trained(runner.on(kind), [values]):
            yield runner.on(kind).rescaled_runs(values, units)


def _trained(runner: Runner, all_values: Iterable[Values]) -> list[Values]:
    """The values with which the optimizer takes the parameters and does not diverge."""
    return [values for values in all_values if runner.trajectory(values) is not None]
