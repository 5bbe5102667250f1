"""A coordinate check as a picture: the change of each module against the width."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scaleinv._report import BLUE, INK, ORANGE, RED, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOKS = {  # verdict → colour, marker
    "level": (BLUE, "o"),
    "grows": (RED, "^"),
    "shrinks": (ORANGE, "v"),
    "unclear": (INK, "s"),
}
LABELLED = 2  # modules whose names are written into the picture


def plot_check(frame: pd.DataFrame, data: pd.DataFrame) -> "Figure":
    """The change after the last step, a line for each module.

    Raises:
        ImportError: without matplotlib.
    """
    last = data[(data["step"] == data["step"].max()) & (data["change"] > 0) & np.isfinite(data["change"])]
    means = last.assign(log=np.log(last["change"])).groupby(["module", "width"], sort=False)["log"].mean()
    moving = [name for name in frame.index if frame.loc[name, "verdict"] in ("grows", "shrinks")]
    figure, (axes,) = new_figure(_point(frame, moving), [("width (1)", "change of the output, RMS(Δh)")])
    named: set[str] = set()
    for name in frame.index.intersection(means.index.get_level_values(0).unique(), sort=False):
        verdict = str(frame.loc[name, "verdict"])
        colour, marker = LOOKS.get(verdict, LOOKS["unclear"])
        line = np.exp(means[name])
        words = None if verdict in named else verdict
        named.add(verdict)
        axes.plot(line.index, line.to_numpy(), marker, ls="-", color=colour, markersize=4.5, lw=1.2, label=words)
        if name in moving[:LABELLED]:
            label(axes, name, (line.index[-1], line.iloc[-1]), to_right=False)
    axes.set_xscale("log")
    axes.set_yscale("log")
    widths = sorted(data["width"].unique())
    axes.set_xticks(widths, [str(n) for n in widths])
    axes.minorticks_off()
    legend(figure)
    return figure


def _point(frame: pd.DataFrame, moving: list[str]) -> str:
    """What the picture shows, in a sentence."""
    if not moving:
        return "A few steps change every module's output as far at every width"
    steepest = max(moving, key=lambda name: abs(frame.loc[name, "slope"]))
    return f"The change of {steepest} {frame.loc[steepest, 'verdict']} as width^{frame.loc[steepest, 'slope']:.2f}"
