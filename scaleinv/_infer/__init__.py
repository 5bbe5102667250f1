"""Measuring units: ``infer_units``, its result ``InferredUnits`` and the report on it.

Read ``infer`` first, from top to bottom: it is the experiment.  Below it stand, in this order, ``problem`` (one probing
run), ``runs`` (the same in float64, of ``precision``, or rescaled; ``deviation`` compares two), ``probes`` (values that
matter), ``sensitivities`` and ``exponents`` (differentiate and solve), ``trial`` (what acts in jumps), ``verify`` and
``state_units``; ``decay`` finds out how weight decay acts.  ``outcome`` is what an experiment shows, ``result`` and
``report`` are what the user sees.
"""

from scaleinv._infer.decay import measured_decay
from scaleinv._infer.infer import infer_units
from scaleinv._infer.report import units_report
from scaleinv._infer.result import InferredUnits
from scaleinv._infer.training import isolated

__all__ = ["InferredUnits", "infer_units", "isolated", "measured_decay", "units_report"]
