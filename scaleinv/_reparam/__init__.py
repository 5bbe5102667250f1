from scaleinv._reparam.conversion import Conversion, multiplied
from scaleinv._reparam.slots import Scale, Slot, parameter_slots

__all__ = ["Conversion", "Scale", "Slot", "multiplied", "parameter_slots"]
