"""What every report shares: tables, hyperparameter values and percentages in ``table``, pictures in ``figure``."""

from scaleinv._report.figure import (
    BLUE,
    INK,
    ORANGE,
    RED,
    as_image,
    has_matplotlib,
    label,
    legend,
    new_figure,
    percent_axis,
    short_name,
)
from scaleinv._report.table import percent, table, value_text

__all__ = [
    "BLUE",
    "INK",
    "ORANGE",
    "RED",
    "as_image",
    "has_matplotlib",
    "label",
    "legend",
    "new_figure",
    "percent",
    "percent_axis",
    "short_name",
    "table",
    "value_text",
]
