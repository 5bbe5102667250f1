"""What a learning rate means: units of hyperparameters, derived, measured and applied.

Names resolve when they are first used, so that ``import scaleinv`` itself imports nothing else.

>>> import torch, scaleinv
>>> print(scaleinv.units_of(torch.optim.Adam).hyperparameters["lr"])
W
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scaleinv._version import __version__ as __version__

if TYPE_CHECKING:
    from scaleinv import (
        atlas,
        book,
        changes,
        curves,
        integrations,
        known_optimizers,
        laws,
        measure,
        optimizers,
        recorder,
        reparam,
        testing,
        units,
    )
    from scaleinv._audit import Audit, Comparison, audit, compare
    from scaleinv._convert import convert
    from scaleinv._curvature import Sharpness, sharpness
    from scaleinv._gradients import GradientComparison, compare_gradients
    from scaleinv._infer import InferredUnits, infer_units
    from scaleinv._sweep import sweep
    from scaleinv._switch import Switch, switch_optimizer
    from scaleinv._symmetry import Symmetries, symmetries_of
    from scaleinv._width import CoordinateCheck, Width, coordinate_check, width
    from scaleinv.changes import Change
    from scaleinv.known_optimizers import UNITS, units_of
    from scaleinv.measure import relative_change, relative_distance, ulp_distance
    from scaleinv.recorder import Recorder
    from scaleinv.reparam import (
        effective_parameters,
        fold_parameters,
        parameter_scales,
        rescale,
        scale_parameters,
        unscale_parameters,
    )
    from scaleinv.units import Unit, Units

_HOMES = {  # public name -> the module it is defined in
    "UNITS": "known_optimizers",
    "Audit": "_audit",
    "Change": "changes",
    "Comparison": "_audit",
    "CoordinateCheck": "_width",
    "GradientComparison": "_gradients",
    "InferredUnits": "_infer",
    "Recorder": "recorder",
    "Sharpness": "_curvature",
    "Switch": "_switch",
    "Symmetries": "_symmetry",
    "Unit": "units",
    "Units": "units",
    "Width": "_width",
    "audit": "_audit",
    "compare": "_audit",
    "compare_gradients": "_gradients",
    "convert": "_convert",
    "coordinate_check": "_width",
    "effective_parameters": "reparam",
    "fold_parameters": "reparam",  # deprecated
    "infer_units": "_infer",
    "parameter_scales": "reparam",
    "relative_change": "measure",
    "relative_distance": "measure",
    "rescale": "reparam",
    "scale_parameters": "reparam",
    "sharpness": "_curvature",
    "sweep": "_sweep",
    "switch_optimizer": "_switch",
    "symmetries_of": "_symmetry",
    "ulp_distance": "measure",
    "units_of": "known_optimizers",
    "unscale_parameters": "reparam",
    "width": "_width",
}

__all__ = [
    "UNITS",
    "Audit",
    "Change",
    "Comparison",
    "CoordinateCheck",
    "GradientComparison",
    "InferredUnits",
    "Recorder",
    "Sharpness",
    "Switch",
    "Symmetries",
    "Unit",
    "Units",
    "Width",
    "atlas",
    "audit",
    "book",
    "changes",
    "compare",
    "compare_gradients",
    "convert",
    "coordinate_check",
    "curves",
    "effective_parameters",
    "fold_parameters",
    "infer_units",
    "integrations",
    "known_optimizers",
    "laws",
    "measure",
    "optimizers",
    "parameter_scales",
    "recorder",
    "relative_change",
    "relative_distance",
    "reparam",
    "rescale",
    "scale_parameters",
    "sharpness",
    "sweep",
    "switch_optimizer",
    "symmetries_of",
    "testing",
    "ulp_distance",
    "units",
    "units_of",
    "unscale_parameters",
    "width",
]


if not TYPE_CHECKING:  # so that a type checker reports names that do not exist

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            value = getattr(import_module(f"scaleinv.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        if name in __all__:
            return import_module(f"scaleinv.{name}")
        raise AttributeError(f"module 'scaleinv' has no attribute {name!r}{_hint(name)}", name=name)


def _hint(name: str) -> str:
    """The public names nearest to ``name``, or all of them."""
    if name.startswith("_"):
        return ""
    from difflib import get_close_matches

    near = get_close_matches(name, __all__, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; it has {', '.join(__all__)}"


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
