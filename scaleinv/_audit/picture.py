"""An audit as a picture: how far a step moves each tensor, in the order of the model, against what is usual."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from scaleinv._audit.contents import span
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import BLUE, INK, ORANGE, RED, label, legend, new_figure, percent, percent_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL = 1e-4, 1e-2  # relative steps of matrices at a full learning rate, after the first steps
_LABELLED = 3  # parameters whose names are written into the picture


def plot_audit(audit: Measurements, findings: Sequence[Finding]) -> "Figure":
    """The relative step of each parameter.

    Raises:
        ImportError: without matplotlib.
        ValueError: if no step is known and not zero.
    """
    places = {row.parameter: place for place, row in enumerate(audit.rows) if row.relative > 0}
    rows = [audit.rows[place] for place in places.values()]
    if not rows:
        raise ValueError("no step is known: nothing can be drawn; audit after loss.backward(), or pass recorder=")
    accused = _accused(rows, findings)
    left = len(audit.rows) - len(rows)
    xlabel = "parameters, in the model's order" + (f"\n({left} of {len(audit.rows)} without a step)" if left else "")
    labels = [(xlabel, "change a step,\nRMS(Δw)/RMS(w)")]
    figure, (axes,) = new_figure(_point(rows, accused), labels)
    axes.set_yscale("log")
    axes.axhspan(*USUAL, color=INK, alpha=0.18, lw=0, label=f"usual: {span(USUAL, percent)}")
    for matrices, marker, colour, words in ((True, "o", BLUE, "matrices"), (False, "d", ORANGE, "vectors, scalars")):
        kind = [row for row in rows if (len(row.shape) > 1) == matrices]
        if kind:
            x, y = [places[row.parameter] for row in kind], [row.relative for row in kind]
            face = colour if matrices else "none"
            axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=4.5, label=words)
    if accused:
        x, y = [places[row.parameter] for row in accused], [row.relative for row in accused]
        axes.plot(x, y, "o", color=RED, fillstyle="none", markersize=11, markeredgewidth=1.8, label="in a finding")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, USUAL[0] / 3), max(high, USUAL[1] * 3))
    axes.set_xlim(-0.02 * len(audit.rows) - 0.5, 1.02 * len(audit.rows) - 0.5)
    axes.locator_params(axis="x", integer=True)
    percent_axis(axes.yaxis)
    for row in accused[:_LABELLED]:
        place = places[row.parameter]
        label(axes, row.parameter, (place, row.relative), to_right=place < len(audit.rows) / 2)
    legend(figure)
    return figure


def _accused(rows: Sequence[Row], findings: Sequence[Finding]) -> list[Row]:
    """The rows that a fault or a warning names, or that move unlike the rest, unless these are most of them."""
    by_name = {row.parameter: row for row in rows}
    named: dict[str, Row] = {}
    for finding in findings:
        alike = {name: by_name[name] for name in finding.parameters if name in by_name}
        is_shown = finding.severity >= Severity.WARNING or finding.kind == "moves_unlike_the_rest"
        if is_shown and len(alike) <= len(rows) / 2:
            named |= {name: row for name, row in alike.items() if name not in named}
    return list(named.values())


def _point(rows: Sequence[Row], accused: Sequence[Row]) -> str:
    """What the picture shows, in a sentence."""
    usual = percent(median(row.relative for row in rows))
    if accused:
        return f"{accused[0].parameter} moves {percent(accused[0].relative)} a step, the median tensor {usual}"
    matrices = [row.relative for row in rows if len(row.shape) > 1]
    if not matrices:
        return f"A step moves the median tensor by {usual}"
    inside = all(USUAL[0] <= relative <= USUAL[1] for relative in matrices)
    return f"Matrices move {span(matrices, percent)} a step{', as usual' if inside else ''}"
