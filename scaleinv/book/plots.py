"""The look of the book's figures: one colour and one marker per optimizer, legible on light, on dark, and in grey."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from scaleinv.book._extra import book_dependencies

with book_dependencies():
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

__all__ = ["COLOURS", "INK", "MARKERS", "ON_MAP", "colour_map", "figure", "mark", "panels", "style"]

INK = "#767676"  # for text and axes: as far from white as from black

COLOURS = {
    "Adam": "#1f77d0",
    "AdamW": "#128da0",
    "SGD": "#e8710a",
    "Adagrad": "#2da25b",
    "RMSprop": "#9467bd",
    "Adafactor": "#ce3168",
    "Adadelta": "#84672e",
    "Muon": "#7f8c00",
    "Lion": "#a44b18",
    "signSGD": "#a48700",
    "LAMB": "#a8229d",
}
MARKERS = dict(zip(COLOURS, "osD^v*PXhp<", strict=True))

# Keyword arguments of ``plot`` for a line on a map: legible on all its colours.
ON_MAP: dict[str, Any] = {"color": "white", "lw": 1.3, "path_effects": [withStroke(linewidth=2.6, foreground="black")]}

SIZE = (6.0, 3.8)  # of a figure with one panel, in inches

_STYLE: Any = {  # matplotlib types its keys as literals
    "figure.figsize": SIZE,
    "figure.dpi": 200,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "font.size": 12,
    "lines.linewidth": 2,
    "lines.markersize": 7,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": cycler(color=list(COLOURS.values())),
}


def figure(xlabel: str, *ylabels: str) -> tuple[Figure, Any]:
    """Make a figure in the book's style.

    Args:
        xlabel: the quantity and, in brackets, its unit.
        ylabels: likewise; several make panels one above the other.

    Returns:
        The figure and its axes, one for one ylabel, a list for several.

    >>> from scaleinv.book.plots import figure
    >>> fig, (above, below) = figure("step (1)", "loss (L)", "update (W)")
    >>> above.get_ylabel(), below.get_xlabel()
    ('loss (L)', 'step (1)')
    """
    plt.rcParams.update(_STYLE)
    width, height = SIZE
    rows = len(ylabels)
    fig, grid = plt.subplots(rows, sharex=True, figsize=(width, height * (1 + 0.7 * (rows - 1))), squeeze=False)
    axes = list(grid[:, 0])
    for ax, label in zip(axes, ylabels, strict=True):
        ax.set_ylabel(label)
    axes[-1].set_xlabel(xlabel)
    return fig, axes if rows > 1 else axes[0]


def panels(labels: Mapping[str, tuple[str, str]], *, columns: int = 1) -> tuple[Figure, dict[str, Axes]]:
    """Make a figure of several panels in the book's style.

    Args:
        labels: title → (xlabel, ylabel) of each panel.
        columns: the number of panels in a row.

    Returns:
        The figure, and title → axes.

    >>> from scaleinv.book.plots import panels
    >>> fig, axes = panels({"Adam": ("step (1)", "loss (L)"), "SGD": ("step (1)", "loss (L)")})
    >>> axes["SGD"].get_title()
    'SGD'
    """
    plt.rcParams.update(_STYLE)
    width, height = SIZE
    rows = -(-len(labels) // columns)
    size = (width, 0.8 * height * rows)
    fig, grid = plt.subplots(rows, columns, figsize=size, squeeze=False)
    axes = dict(zip(labels, grid.flat, strict=False))  # the last row may have room for more
    for title, (xlabel, ylabel) in labels.items():
        axes[title].set(title=title, xlabel=xlabel, ylabel=ylabel)
    return fig, axes


def colour_map(ax: Axes, values: xarray.DataArray, *, lowest: float, highest: float) -> QuadMesh:
    """Colour the plane of a 2-d ``xarray.DataArray`` by its values.

    Its first dimension goes upwards, its second to the right, both logarithmic. Bright is low. Values above
    ``highest``, and NaN, are left blank.

    Args:
        ax: the axes to draw on.
        values: an array with two positive coordinates.
        lowest: the value of the brightest colour.
        highest: the value of the darkest colour.

    Returns:
        The coloured mesh, which ``Figure.colorbar`` takes.

    >>> import xarray
    >>> from scaleinv.book.plots import colour_map, figure
    >>> loss = xarray.DataArray([[1.0, 2.0], [3.0, 4.0]], {"weight": [1, 10], "lr": [0.1, 1]}, ["weight", "lr"])
    >>> fig, ax = figure("lr (W)", "scale (1)")
    >>> colour_map(ax, loss, lowest=1, highest=3).get_array().count()
    np.int64(3)
    """
    up, right = (str(name) for name in values.dims)
    shown = np.ma.masked_where(~(values.values <= highest), values.values)
    look: dict[str, Any] = {
        "cmap": "viridis_r",
        "vmin": lowest,
        "vmax": highest,
        "shading": "nearest",
        "rasterized": True,
    }
    mesh = ax.pcolormesh(values[right], values[up], shown, **look)
    sides: dict[str, Any] = {
        side: (values[name].min(), values[name].max()) for side, name in (("xlim", right), ("ylim", up))
    }
    ax.set(xscale="log", yscale="log", **sides)
    ax.grid(False)
    return mesh


def mark(ax: Axes, x: float, y: float, text: str) -> None:
    """Write a short text in a circle at a point.

    >>> from scaleinv.book.plots import figure, mark
    >>> fig, ax = figure("lr (W)", "scale (1)")
    >>> mark(ax, 0.1, 1.0, "A")
    >>> [text.get_text() for text in ax.texts]
    ['A']
    """
    box: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
    ax.text(x, y, text, color="black", fontsize=9, ha="center", va="center", bbox=box, zorder=5)


def style(optimizer: str) -> dict[str, str]:
    """Keyword arguments of ``plot`` for an optimizer's name: its colour, marker and label.

    >>> from scaleinv.book.plots import style
    >>> style("Adam")
    {'color': '#1f77d0', 'marker': 'o', 'label': 'Adam'}
    """
    return {"color": COLOURS[optimizer], "marker": MARKERS[optimizer], "label": optimizer}
