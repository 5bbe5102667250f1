"""How a module stores its parameters in another scale, and how its optimizers follow.

Read ``scale`` first: how a module holds w' = k·w and computes with w.  ``slots`` finds where a module keeps each
parameter.  ``plan`` computes everything that a change of units changes in an optimizer before any of it is applied, and
``schedulers`` what it changes in the optimizer's learning-rate schedulers.
"""

from scaleinv._reparam.plan import Conversion, multiplied, plan_conversion
from scaleinv._reparam.scale import is_saved_scale, saved_scale, set_scale
from scaleinv._reparam.slots import Slot, kept_elsewhere, parameter_slots

__all__ = [
    "Conversion", "Slot", "is_saved_scale", "kept_elsewhere", "multiplied", "parameter_slots", "plan_conversion",
    "saved_scale", "set_scale",
]  # fmt: skip
