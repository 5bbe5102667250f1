"""``convert``: an optimizer's settings for the same training in other units.

Read ``settings`` first: ``convert`` and ``convert_values``, which multiply each value by the factor of its unit.
``report`` then prints a conversion as a table with its reason.
"""

from scaleinv._convert.report import convert_report
from scaleinv._convert.settings import convert, convert_value, convert_values, defaults_of

__all__ = ["convert", "convert_report", "convert_value", "convert_values", "defaults_of"]
