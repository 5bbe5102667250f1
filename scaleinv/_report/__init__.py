"""What every report shares: tables, hyperparameter values and percentages in ``table``, pictures in ``figure``,
plain text and JSON in ``text``."""

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
from scaleinv._report.text import as_json, as_text, json_value

__all__ = [
    "BLUE",
    "INK",
    "ORANGE",
    "RED",
    "as_image",
    "as_json",
    "as_text",
    "has_matplotlib",
    "json_value",
    "label",
    "legend",
    "new_figure",
    "percent",
    "percent_axis",
    "short_name",
    "table",
    "value_text",
]
