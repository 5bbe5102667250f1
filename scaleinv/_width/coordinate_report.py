"""What a coordinate check found, in words, as a table, and for a notebook."""

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Group
from rich.text import Text

from scaleinv._report import as_image, has_matplotlib, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.25  # exponents are multiples of ½: a slope nearer to 0 than to the next one
SHOWN = 3  # modules that a sentence names


def sentence(frame: pd.DataFrame) -> str:
    """What the check found: the modules whose change grows or shrinks with the width, the steepest first."""
    if (broken := frame.index[frame["verdict"] == "not finite"]).size:
        return f"The change of {_named(list(broken))} is zero at one width and not at another, or not finite."
    parts = []
    for verdict in ("grows", "shrinks"):
        found = frame[frame["verdict"] == verdict]
        found = found.reindex(found["slope"].abs().sort_values(ascending=False, kind="stable").index)
        if len(found):
            steepest = f"slope {found['slope'].iloc[0]:.2f} ± {found['error'].iloc[0]:.2f}"
            ends = verdict if len(found) == 1 else verdict.removesuffix("s")
            parts.append(f"the change of {_named(list(found.index), steepest)} {ends} with the width")
    unclear = list(frame.index[frame["verdict"] == "unclear"])
    if not parts and not unclear:
        return f"Level: no module's change grows or shrinks with the width (all slopes within ± {LEVEL:g})."
    if unclear:
        parts.append(f"that of {_named(unclear)} is unclear: take more seeds, or more widths")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _named(names: list[str], of_first: str = "") -> str:
    shown = [names[0] + (f" ({of_first})" if of_first else ""), *names[1:SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def check_report(frame: pd.DataFrame, data: pd.DataFrame) -> Group:
    """The verdict and a table of the modules."""
    widths, steps = sorted(data["width"].unique()), data["step"].max()
    last = data[data["step"] == steps]
    ends = last[last["width"].isin([widths[0], widths[-1]])].groupby(["module", "width"])["change"].mean().unstack()
    rows = []
    for name, row in frame.iterrows():
        sizes = (f"{ends.loc[name, n]:.3g}" for n in (widths[0], widths[-1]))
        rows.append((name, *sizes, f"{row['slope']:.2f} ± {row['error']:.2f}", row["verdict"], f"{row['start']:.2f}"))
    headings = (
        "module",
        f"change\nat {widths[0]}",
        f"change\nat {widths[-1]}",
        "slope",
        "verdict",
        "slope of\nthe start",
    )
    counted = (
        f"{len(widths)} widths from {widths[0]} to {widths[-1]}, {data['seed'].nunique()} seeds, after {steps} steps."
    )
    note = f"change: RMS of what a module's output has changed by. {counted} A slope is of log over log of the width."
    shown = table(headings, rows, words=("module", "verdict"))
    return Group(Text(sentence(frame)), Text(), shown, Text(), Text(note))


def page_of(text: str, draw: "Callable[[], Figure]") -> str:
    """A report as HTML, with its picture where matplotlib is installed."""
    picture = as_image(draw()) if has_matplotlib() else ""
    return f'<pre style="overflow-x:auto">{escape(text)}</pre>{picture}'
