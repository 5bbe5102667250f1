"""An audit for a terminal and for a notebook: findings, a summary by type of layer, and one row per parameter."""

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.text import Text

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent, table

_COLOURS = {Severity.FAULT: "bold red", Severity.WARNING: "bold yellow", Severity.REMARK: "dim"}
_WORDS = "parameter", "layer", "shape"  # columns of words; the others hold numbers
_MOST = 60  # parameters shown; ``Audit.frame()`` has all
_SOURCES = {
    "recorder": "the median of the latest recorded steps",
    "gradients": "the step that these gradients would make, tried on copies",
    "state": "the last step, from the optimizer's state",
}

_Cells: TypeAlias = tuple[list[str], list[list[str]]]  # headings and rows


def audit_report(audit: Measurements, findings: Sequence[Finding]) -> Group:
    """The report, for ``rich.print`` or a ``rich`` console of any width."""
    parts: list[RenderableType] = [Text(_headline(audit, findings)), *map(_finding, findings)]
    for cells in (_summary(audit), _parameters(audit)):
        parts += [Text(), _FittingTable(cells)]
    parts += [Text(_more(audit))] if _more(audit) else []
    parts += [Text(), Text(_legend(audit))]
    return Group(*parts)


def as_text(audit: Measurements, findings: Sequence[Finding], width: int = 110) -> str:
    """The report as plain text."""
    output = io.StringIO()
    console = Console(file=output, width=width, color_system=None, force_jupyter=False)
    console.print(audit_report(audit, findings))
    return "\n".join(line.rstrip() for line in output.getvalue().rstrip().splitlines())


def as_html(audit: Measurements, findings: Sequence[Finding]) -> str:
    """The report as HTML, for a notebook: nothing in it depends on a style sheet."""
    parts = [f"<p>{escape(_headline(audit, findings))}</p>"]
    if findings:
        lines = (f"<li><b>{finding.severity.word}</b>: {escape(finding.text)}</li>" for finding in findings)
        parts.append(f"<ol>{''.join(lines)}</ol>")
    parts += [_html_table(_summary(audit)), _html_table(_parameters(audit))]
    parts += [f"<p>{escape(line)}</p>" for line in (_more(audit), _legend(audit)) if line]
    return "\n".join(parts)


def _headline(audit: Measurements, findings: Sequence[Finding]) -> str:
    coordinates = sum(row.coordinates for row in audit.trained)
    names = ", ".join(dict.fromkeys(row.optimizer for row in audit.trained))
    norm = "" if math.isnan(audit.gradient_norm) else f"; gradient norm {audit.gradient_norm:.3g}"
    tensors = f"{_count(len(audit.trained), 'tensor')} with {coordinates:,} coordinates"
    return f"{tensors}, trained by {names}{norm}; {_count(len(findings), 'finding')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _finding(finding: Finding) -> Text:
    return Text.assemble((f"{finding.severity.word}: ", _COLOURS[finding.severity]), finding.text)


def _summary(audit: Measurements) -> _Cells:
    headings = ["layer", "tensors", "coordinates", "RMS", "predicted\na step", "measured\na step", "below\neps"]
    rows = []
    for layer in audit.summary().to_dict("records"):
        shares = map(percent, (layer["predicted"], layer["measured"], layer["below_eps"]))
        sizes = str(layer["tensors"]), f"{layer['coordinates']:,}", _number(layer["rms"])
        rows.append([layer["layer"], *sizes, *shares])
    return _without_empty(headings, rows)


def _parameters(audit: Measurements) -> _Cells:
    units = {str(row.unit) if row.unit else "?" for row in audit.trained}
    common = min(units) if len(units) == 1 else ""
    headings = [
        "parameter", "RMS", f"lr\nin {common}" if common else "lr", "predicted\na step", "measured\na step",
        "below\neps", "decay's\nshare", "heads\nfor RMS", "shape",
    ]  # fmt: skip
    rows = []
    for row in audit.rows[:_MOST]:
        name = row.parameter + (f" (= {', '.join(row.names[1:])})" if len(row.names) > 1 else "")
        shares = map(percent, (row.predicted, row.measured, row.below_eps, row.decay))
        shape = "×".join(map(str, row.shape)) or "1"
        lr = _lr(row, with_unit=not common)
        rows.append([name, _number(row.rms), lr, *shares, _number(row.equilibrium), shape])
    return _without_empty(headings, rows)


def _lr(row: Row, *, with_unit: bool) -> str:
    """lr of a trained parameter; the status of another."""
    if row.status != "trained":
        return row.status
    unit = (f" {row.unit}" if row.unit else " ?") if with_unit else ""
    return _number(row.lr) + unit


def _without_empty(headings: list[str], rows: list[list[str]]) -> _Cells:
    """Only the columns that have an entry."""
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in rows]


class _FittingTable:
    """A table of as many of its columns, from the left, as a terminal has room for, and the names of the others."""

    def __init__(self, cells: _Cells) -> None:
        self._headings, self._rows = cells

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = list(zip(self._headings, *self._rows, strict=True))
        widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns]
        kept = len(columns)
        while kept > 4 and sum(widths[:kept]) - 2 > options.max_width:
            kept -= 1
        yield table(self._headings[:kept], [row[:kept] for row in self._rows], words=_WORDS)
        if kept < len(columns):
            names = ", ".join(heading.replace("\n", " ") for heading in self._headings[kept:])
            yield Text(f"(no room for: {names})")


def _html_table(cells: _Cells) -> str:
    """Words to the left, numbers to the right; it scrolls where there is no room."""
    headings, rows = cells
    styles = [f' style="text-align:{"left" if h in _WORDS else "right"};padding:0 0.5em"' for h in headings]
    head = _html_row("th", headings, styles)
    body = "".join(_html_row("td", row, styles) for row in rows)
    html = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x:auto;margin:1em 0">{html}</div>'


def _html_row(tag: str, cells: Iterable[str], styles: Iterable[str]) -> str:
    parts = (f"<{tag}{style}>{escape(cell)}</{tag}>" for cell, style in zip(cells, styles, strict=True))
    return f"<tr>{''.join(parts)}</tr>"


def _more(audit: Measurements) -> str:
    more = len(audit.rows) - _MOST
    return f"{more} more parameters are in frame()" if more > 0 else ""


def _legend(audit: Measurements) -> str:
    rows = audit.trained
    laws = dict.fromkeys(f"{row.optimizer}'s {row.law}" for row in rows if not math.isnan(row.change))
    without = dict.fromkeys(f"{row.optimizer} ({row.law})" for row in rows if row.law not in " ".join(laws))
    parts = ["A step is RMS(Δw)/RMS(w)."]
    if laws:
        parts.append(f"Predicted: {'; '.join(laws)}.")
    if without:
        parts.append(f"Not predicted: {'; '.join(without)}.")
    missing = sum(not row.source for row in rows)
    if missing:
        parts.append(f"Not measured: {missing} of {len(rows)}; a Recorder measures every step.")
    sources = {row.source for row in rows}
    parts += [f"Measured: {words}." for source, words in _SOURCES.items() if source in sources]
    if any(row.weight != 1 for row in audit.rows):
        parts.append("RMS and lr are those of the effective parameter, w = w'/k.")
    return " ".join(parts)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"
