"""Tables and numbers as all reports print them."""

from rich.table import Table
from rich.text import Text


def table(headings, rows):
    """A table whose first column is never cut off."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, heading in enumerate(headings):
        made.add_column(heading, overflow="fold", no_wrap=i == 0)  # a number is never cut off
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))  # as they are: "[a]" is no markup
    return made


def value_text(value):
    """A value of a hyperparameter in at most 30 characters."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(value_text, value))})"
    return f"{value:g}" if isinstance(value, float) else f"{value!s:.30}"
