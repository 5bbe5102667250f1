"""An audit of a saved training instead of a live one.

``checkpoints`` finds the model and its optimizers in ``files``.  ``class_check`` shows whether a state is of the class
that it is said to be, ``outline`` takes names and order from the code of the model, and ``matching`` finds out which
parameter is which.  ``saved_audit`` puts them together: ``audit_saved``.
"""

from scaleinv._audit.saved.checkpoints import read_checkpoint
from scaleinv._audit.saved.class_check import fitting_classes
from scaleinv._audit.saved.files import load_plain, load_safetensors
from scaleinv._audit.saved.outline import Outline, build_outline, outline_of_transformers
from scaleinv._audit.saved.saved_audit import audit_saved

__all__ = [
    "Outline",
    "audit_saved",
    "build_outline",
    "fitting_classes",
    "load_plain",
    "load_safetensors",
    "outline_of_transformers",
    "read_checkpoint",
]
