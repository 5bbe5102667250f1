"""From one optimizer to another: ``switch_optimizer``, which is not exact.

Read ``switch`` first.  ``carried`` has the settings of one tensor; below it, ``steps`` are how large steps are under
noise, ``decays`` what share of a parameter weight decay takes, ``tensors`` what both depend on; ``limits`` says where
this ends.
"""

from scaleinv._switch.carried import Settings, carried, check_proportional, completed, depends_on
from scaleinv._switch.limits import limits
from scaleinv._switch.switch import Switch, new_settings, switch_optimizer

__all__ = [
    "Settings", "Switch", "carried", "check_proportional", "completed", "depends_on", "limits", "new_settings",
    "switch_optimizer",
]  # fmt: skip
