"""Measuring units: ``infer_units``, its result ``InferredUnits`` and the report on it.

Read ``infer`` first, from top to bottom: it is the experiment.  Below it stand, in this order, ``problem`` (one probing
run), ``runs`` (the same in float64, of ``precision``, or rescaled; ``deviation`` compares two), ``probes`` (values that
matter), ``sensitivities`` and ``exponents`` (differentiate and solve), ``trial`` (what acts in jumps), ``verify`` (do
rescaled runs agree: ``agreement``; for ``kinds`` of parameters too) and ``state_units``; ``decay`` finds out how weight
decay acts.  ``outcome`` is what an experiment shows, ``result`` and ``report`` are what the user sees.  What else is
exported runs an optimizer on another problem.
"""

from scaleinv._infer.decay import measured_decay
from scaleinv._infer.deviation import ROUNDING, moves
from scaleinv._infer.infer import DEFAULTS, check_factory, infer_units
from scaleinv._infer.precision import LowPrecisionWatch
from scaleinv._infer.problem import STEPS, Evaluation, Problem
from scaleinv._infer.report import units_report
from scaleinv._infer.result import InferredUnits
from scaleinv._infer.runs import Runner, runner_of
from scaleinv._infer.training import isolated

__all__ = [
    "DEFAULTS",
    "ROUNDING",
    "STEPS",
    "Evaluation",
    "InferredUnits",
    "LowPrecisionWatch",
    "Problem",
    "Runner",
    "check_factory",
    "infer_units",
    "isolated",
    "measured_decay",
    "moves",
    "runner_of",
    "units_report",
]
