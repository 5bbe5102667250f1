"""The look of the book's figures: one colour and one marker per optimizer, legible on light, on dark, and in grey."""

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.patheffects import withStroke

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
MARKERS = dict(zip(COLOURS, "osD^v*PXhp<"))

# Keyword arguments of ``plot`` for a line on a map: legible on all its colours.
ON_MAP = {"color": "white", "lw": 1.3, "path_effects": [withStroke(linewidth=2.6, foreground="black")]}

_STYLE = {
    "figure.figsize": (6.0, 3.8),
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


def figure(xlabel, *ylabels):
    """A figure in the book's style and its axes, or a list of them, one above the other, for several ylabels.

    Labels name the quantity and, in brackets, its unit.
    """
    plt.rcParams.update(_STYLE)
    width, height = _STYLE["figure.figsize"]
    rows = len(ylabels)
    fig, axes = plt.subplots(rows, sharex=True, figsize=(width, height * (1 + 0.7 * (rows - 1))), squeeze=False)
    axes = list(axes[:, 0])
    for ax, label in zip(axes, ylabels):
        ax.set_ylabel(label)
    axes[-1].set_xlabel(xlabel)
    return fig, axes if rows > 1 else axes[0]


def panels(labels, *, columns=1):
    """A figure of several panels, ``columns`` in a row, in the book's style; and their axes, a dict from titles.

    labels: title → (xlabel, ylabel).
    """
    plt.rcParams.update(_STYLE)
    width, height = _STYLE["figure.figsize"]
    rows = -(-len(labels) // columns)
    size = (width, 0.8 * height * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    axes = dict(zip(labels, axes.flat))
    for title, (xlabel, ylabel) in labels.items():
        axes[title].set(title=title, xlabel=xlabel, ylabel=ylabel)
    return fig, axes


def colour_map(ax, values, *, lowest, highest):
    """Colour the plane of a 2-d ``xarray.DataArray`` by its values, over its coordinates, both logarithmic: its first
    dimension upwards, its second to the right.  Bright is low; what is above ``highest``, or NaN, is left blank.

    Returns what ``figure.colorbar`` takes.
    """
    up, right = values.dims
    shown = np.ma.masked_where(~(values.values <= highest), values.values)
    look = {"cmap": "viridis_r", "vmin": lowest, "vmax": highest, "shading": "nearest", "rasterized": True}
    mesh = ax.pcolormesh(values[right], values[up], shown, **look)
    sides = {side: (values[name].min(), values[name].max()) for side, name in (("xlim", right), ("ylim", up))}
    ax.set(xscale="log", yscale="log", **sides)
    ax.grid(False)
    return mesh


def mark(ax, x, y, text):
    """A short text in a circle at a point."""
    box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "black"}
    ax.text(x, y, text, color="black", fontsize=9, ha="center", va="center", bbox=box, zorder=5)


def style(optimizer):
    """Keyword arguments of ``plot`` for an optimizer's name: its colour, marker and label."""
    return {"color": COLOURS[optimizer], "marker": MARKERS[optimizer], "label": optimizer}
