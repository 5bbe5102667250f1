"""How a module stores its parameters in another scale, and how its optimizer follows.

Read ``scale`` first: ``Scale``, the parametrization that stores w' = k·w.  ``slots`` finds where a module keeps each
parameter.  ``plan`` computes everything that a change of units changes in an optimizer before any of it is applied.
"""

from scaleinv._reparam.plan import Conversion, multiplied, plan_conversion
from scaleinv._reparam.scale import Scale
from scaleinv._reparam.slots import Slot, parameter_slots

__all__ = ["Conversion", "Scale", "Slot", "multiplied", "parameter_slots", "plan_conversion"]
