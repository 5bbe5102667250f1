"""How large a step is beside the curvature of the loss: ``sharpness``.

``products`` multiplies vectors by the Hessian, ``lanczos`` finds the largest eigenvalue from such products,
``preconditioner`` is what an optimizer divides a gradient by, with the threshold of its steps, and ``result`` is shown.
"""

from scaleinv._curvature.measure_sharpness import sharpness
from scaleinv._curvature.result import Sharpness

__all__ = ["Sharpness", "sharpness"]
