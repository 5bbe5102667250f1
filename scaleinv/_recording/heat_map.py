"""A recorded run as a picture: how far each step moved each parameter, and how far the median one."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scaleinv._report import BLUE, INK, new_figure, percent, percent_axis, short_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RANGE = 1e-5, 1e-1  # relative steps of the darkest and of the brightest colour
_LABELS = 10  # parameters whose names are written beside the map


def plot_recording(frame: pd.DataFrame) -> "Figure":
    """The picture of what ``Recorder.frame`` returns.

    Raises:
        ImportError: without matplotlib.
        ValueError: if nothing can be drawn.
    """
    frame = frame.assign(relative=frame["update_rms"] / frame["parameter_rms"].where(frame["parameter_rms"] > 0))
    order = {name: place for place, name in enumerate(dict.fromkeys(frame["parameter"]))}
    table = frame.pivot(index="parameter", columns="step", values="relative").reindex(list(order))
    shares = np.ma.masked_where(~(table.to_numpy() > 0), table.to_numpy())
    if not shares.count():
        raise ValueError("no recorded step has moved a parameter that is not zero: nothing can be drawn")
    steps = table.columns.to_numpy()
    medians = np.ma.median(shares, axis=0)
    labels = [("", "change a step"), ("step (1)", "parameters")]
    figure, (above, below) = new_figure(_point(medians), labels, heights=(1.6, 3.2))
    _draw_median(above, steps, shares, medians)
    _draw_map(figure, below, steps, shares)
    names = [*order]
    places = sorted({round(place) for place in np.linspace(0, len(names) - 1, min(_LABELS, len(names)))})
    below.set_yticks(places, [short_name(names[place]) for place in places])
    return figure


def _point(medians: np.ma.MaskedArray) -> str:
    """What the picture shows, in a sentence."""
    known = medians.compressed()
    first, most, last = (percent(float(share)) for share in (known[0], known.max(), known[-1]))
    if first == most == last:
        return f"The median tensor moves {last} a step"
    return f"The median tensor moves {first} a step at first, {most} at most, {last} at last"


def _draw_median(axes: "Axes", steps: np.ndarray, shares: np.ma.MaskedArray, medians: np.ma.MaskedArray) -> None:
    """The median over the parameters, and between which values they all are."""
    axes.set_yscale("log")
    axes.fill_between(steps, shares.min(axis=0), shares.max(axis=0), color=INK, alpha=0.25, lw=0, step="mid")
    axes.plot(steps, medians, color=BLUE, lw=1.8, marker="o" if len(steps) < 12 else "", markersize=4)
    axes.annotate("all tensors", (0.99, 0.97), xycoords="axes fraction", color=INK, fontsize=9, ha="right", va="top")
    percent_axis(axes.yaxis)


def _draw_map(figure: "Figure", axes: "Axes", steps: np.ndarray, shares: np.ma.MaskedArray) -> None:
    from matplotlib.colors import LogNorm

    look: dict[str, Any] = {"cmap": "viridis", "norm": LogNorm(*_RANGE), "shading": "nearest", "rasterized": True}
    mesh = axes.pcolormesh(steps, np.arange(len(shares)), shares, **look)
    axes.invert_yaxis()
    axes.grid(False)
    bar = figure.colorbar(mesh, ax=axes, location="bottom", extend="both", aspect=30, pad=0.02)
    bar.set_label("change a step, RMS(Δw)/RMS(w)", color=INK, fontsize=10)
    bar.ax.tick_params(colors=INK, which="both", labelsize=9.5)
    bar.outline.set_edgecolor(INK)
    percent_axis(bar.ax.xaxis)
