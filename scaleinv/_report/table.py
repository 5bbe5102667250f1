"""Tables and numbers as every report prints them."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def table(
    headings: Iterable[str],
    rows: Iterable[Iterable[Any]],
    *,
    words: Collection[str] | None = None,
    styles: Sequence[str] = (),
) -> Table:
    """A table without lines whose first column is never cut off.

    ``words`` are the headings of columns of words, to the left and folded where they are too long; the other columns
    are then to the right, each number in one line.  ``styles`` are those of the first cell of each row.

    >>> from scaleinv._report.table import table
    >>> from rich.console import Console
    >>> rows = [["lr", 0.1], ["eps", 1e-08]]
    >>> Console(width=20).print(table(["name", "value"], rows))  # doctest: +NORMALIZE_WHITESPACE
    name  value
    lr    0.1
    eps   1e-08
    """
    result = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, heading in enumerate(headings):
        to_right = words is not None and heading not in words
        whole = to_right or (i == 0 and words is None)  # in one line; a number is never cut off
        result.add_column(heading, overflow="fold", no_wrap=whole, justify="right" if to_right else "left")
    for number, row in enumerate(rows):
        cells = [Text(str(cell)) for cell in row]  # shown as they are: "[a]" is not markup
        cells[0].stylize(styles[number] if styles else "")
        result.add_row(*cells)
    return result


def value_text(value: Any) -> str:
    """A hyperparameter's value in at most 30 characters.

    >>> from scaleinv._report.table import value_text
    >>> value_text((0.9, 0.9990))
    '(0.9, 0.999)'
    """
    if isinstance(value, tuple | list):
        return f"({', '.join(map(value_text, value))})"
    return f"{value:g}" if isinstance(value, float) else f"{value!s:.30}"


def percent(share: float) -> str:
    """A share in percent with two digits, from 99.5 % on a whole number; NaN as an empty text.

    >>> from scaleinv._report.table import percent
    >>> percent(0.01234), percent(1.0), percent(float("nan"))
    ('1.2 %', '100 %', '')
    """
    if math.isnan(share):
        return ""
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
