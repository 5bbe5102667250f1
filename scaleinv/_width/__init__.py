"""Another width: the settings of each layer there, ``width``, and whether they hold, ``coordinate_check``.

Read ``groups`` first, which has ``width``; a ``row`` of its result is one parameter.  Below it stand ``settings``
(units × alignment × start), ``alignment`` (how far a step moves the outputs of a layer, measured), ``start`` (how large
weights and gradients are) and ``kinds`` (which sides grow).  ``coordinates`` is the check, ``coordinate_report`` and
``coordinate_picture`` what it shows.
"""

from scaleinv._width.coordinates import CoordinateCheck, coordinate_check
from scaleinv._width.groups import Width, width
from scaleinv._width.row import Row

__all__ = ["CoordinateCheck", "Row", "Width", "coordinate_check", "width"]
