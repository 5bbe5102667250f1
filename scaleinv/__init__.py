"""What a learning rate means: units of hyperparameters, derived, measured and applied.

>>> import torch, scaleinv
>>> print(scaleinv.units_of(torch.optim.Adam).hyperparameters["lr"])
W
"""

from scaleinv import changes
from scaleinv.audit import Audit, audit
from scaleinv.infer import infer_units
from scaleinv.inferred import InferredUnits
from scaleinv.measure import relative_change, relative_distance, ulp_distance
from scaleinv.record import Recorder
from scaleinv.reparam import effective_parameters, fold_parameters, rescale, scale_parameters
from scaleinv.sweep import sweep
from scaleinv.units import UNITS, Change, Unit, Units, convert, units_of

__all__ = [
    "UNITS",
    "Audit",
    "Change",
    "InferredUnits",
    "Recorder",
    "Unit",
    "Units",
    "audit",
    "changes",
    "convert",
    "effective_parameters",
    "fold_parameters",
    "infer_units",
    "relative_change",
    "relative_distance",
    "rescale",
    "scale_parameters",
    "sweep",
    "ulp_distance",
    "units_of",
]
