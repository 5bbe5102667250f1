"""Measuring symmetries: ``symmetries_of``, its result ``Symmetries`` and the report on it.

Read ``symmetry`` first: it is the experiment.  Below it stand ``transformations`` (factors and rotations) and
``given`` (a training on gradients that are given); ``result`` and ``report`` are what the user sees.
"""

from scaleinv._symmetry.report import symmetry_report
from scaleinv._symmetry.result import ROTATIONS, SCALES, Symmetries
from scaleinv._symmetry.symmetry import symmetries_of

__all__ = ["ROTATIONS", "SCALES", "Symmetries", "symmetries_of", "symmetry_report"]
