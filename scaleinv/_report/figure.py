"""Figures of the library's reports: drawn without pyplot, so that no window opens and no setting of a user changes.

matplotlib is imported when a figure is made, and not before.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Panels: TypeAlias = tuple[Figure, list[Axes]]

INK = "#767676"  # for text and axes: as far from white as from black
BLUE = "#1f77d0"
RED = "#d6402f"
ORANGE = "#c97a00"
WIDTH = 4.3  # inches; text of 10 points in it can be read on a phone, where it is 342 pixels wide


def has_matplotlib() -> bool:
    """Whether figures can be made."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def new_figure(title: str, labels: Sequence[tuple[str, str]], *, heights: Sequence[float] = (3.4,)) -> "Panels":
    """A figure of panels, one above the other, whose title says what it shows.

    Args:
        title: a sentence.
        labels: (xlabel, ylabel) of each panel.
        heights: of each panel, in inches.

    Returns:
        The figure and the list of its panels.

    Raises:
        ImportError: without matplotlib.

    >>> from scaleinv._report.figure import new_figure
    >>> figure, (panel,) = new_figure("All is well", [("step (1)", "loss (L)")])
    >>> panel.get_xlabel()
    'step (1)'
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('figures need matplotlib: pip install "scaleinv[plot]"') from error
    figure = Figure(figsize=(WIDTH, sum(heights)), dpi=140, facecolor="none", layout="constrained")
    grid = figure.subplots(len(labels), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})
    panels = list(grid[:, 0])
    figure.suptitle(fill(title, 42), color=INK, fontsize=12, x=0.02, ha="left")
    for axes, (xlabel, ylabel) in zip(panels, labels, strict=True):
        axes.set_facecolor("none")
        axes.set_xlabel(xlabel, color=INK, fontsize=10)
        axes.set_ylabel(ylabel, color=INK, fontsize=10)
        axes.tick_params(colors=INK, which="both", labelsize=9.5)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
    return figure, panels


def legend(figure: "Figure") -> None:
    """A legend below the panels, which hides nothing."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=10)


def percent_axis(axis: Any) -> None:
    """A logarithmic axis of shares, in percent: one tick for each power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(10, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    axis.set_minor_formatter(NullFormatter())


def short_name(name: str, letters: int = 22) -> str:
    """The end of a long name, which tells more than its beginning.

    >>> from scaleinv._report.figure import short_name
    >>> short_name("transformer.h.5.attn.c_attn.weight")
    '…h.5.attn.c_attn.weight'
    """
    return name if len(name) <= letters else "…" + name[-letters:].lstrip(".")


def label(axes: "Axes", name: str, point: tuple[float, float], *, to_right: bool) -> None:
    """A name beside its point, on the side where there is room."""
    side, shift = ("left", 8) if to_right else ("right", -8)
    text = axes.annotate(
        short_name(name), point, (shift, 0), textcoords="offset points", ha=side, va="center", color=INK, fontsize=9
    )
    text.set_in_layout(False)


def as_image(figure: "Figure") -> str:
    """An ``<img>`` of a figure, which shrinks to the width of its page; its title describes it."""
    output = io.BytesIO()
    figure.savefig(output, format="png", metadata={"Software": None})
    data = base64.b64encode(output.getvalue()).decode()
    width = round(96 * figure.get_size_inches()[0] * 1.2)
    text = escape(" ".join(figure.get_suptitle().split()), quote=True)
    return f'<img src="data:image/png;base64,{data}" alt="{text}" width="{width}" style="max-width:100%">'
