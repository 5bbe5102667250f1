"""Two audits as a picture: how far a step moves each tensor, after against before."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from scaleinv._audit.contents import times
from scaleinv._report import BLUE, INK, RED, label, legend, new_figure, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 3  # parameters whose names are written into the picture
_FAR = 2.0  # what has changed by this factor more, or less, than the median tensor is ringed


def plot_comparison(steps: Sequence[tuple[str, float, float]]) -> "Figure":
    """The picture of (name, relative step before, after).

    Raises:
        ImportError: without matplotlib.
        ValueError: if no step is known and not zero in both.
    """
    known = [(name, before, after) for name, before, after in steps if before > 0 and after > 0]
    if not known:
        raise ValueError("no parameter has a known step that is not zero in both audits: nothing can be drawn")
    usual = median(after / before for _, before, after in known)
    odd = sorted((each for each in known if _unlike(each, usual) > _FAR), key=lambda each: -_unlike(each, usual))
    labels = [("change a step before, RMS(Δw)/RMS(w)", "change a step after")]
    figure, (axes,) = new_figure(_point(usual, odd), labels)
    axes.set(xscale="log", yscale="log")
    ends = [min(min(each[1:]) for each in known) / 2, max(max(each[1:]) for each in known) * 2]
    axes.fill_between(ends, [end / _FAR for end in ends], [end * _FAR for end in ends], color=INK, alpha=0.18, lw=0,
                      label="within a factor of 2")  # fmt: skip
    axes.plot(ends, ends, color=INK, lw=1)
    axes.plot([each[1] for each in known], [each[2] for each in known], "o", color=BLUE, markersize=4.5,
              label="a parameter")  # fmt: skip
    if odd:
        axes.plot([each[1] for each in odd], [each[2] for each in odd], "o", color=RED, fillstyle="none",
                  markersize=11, markeredgewidth=1.8, label="unlike the median")  # fmt: skip
    axes.set(xlim=ends, ylim=ends)
    middle = (ends[0] * ends[1]) ** 0.5
    for name, before, after in odd[:_LABELLED]:
        label(axes, name, (before, after), to_right=before < middle)
    percent_axis(axes.xaxis)
    percent_axis(axes.yaxis)
    legend(figure)
    return figure


def _unlike(step: tuple[str, float, float], usual: float) -> float:
    """How much more, or less, than the median tensor's its step has changed: a factor from 1."""
    ratio = step[2] / step[1] / usual
    return max(ratio, 1 / ratio)


def _point(usual: float, odd: Sequence[tuple[str, float, float]]) -> str:
    """What the picture shows, in a sentence."""
    sentence = "The median tensor moves as far as before"
    if times(usual) != "1":
        sentence = f"The median tensor moves {times(usual)} times as far a step"
    if not odd:
        return sentence
    name, before, after = odd[0]
    return f"{sentence}, {name} {times(after / before)} times"
