"""An audit for a terminal and for a notebook: findings, a summary by type of layer, and one row a parameter."""

import io
import math
from html import escape

from rich.cells import cell_len
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from scaleinv._audit.findings import percent

COLOURS = {3: "bold red", 2: "bold yellow", 1: "dim"}
WORDS = {3: "fault", 2: "warning", 1: "remark"}
WORDY = "parameter", "layer", "shape"  # columns of words
MOST = 60  # parameters shown; ``Audit.frame()`` has all


def audit_report(audit):
    """What ``audit`` found, for ``rich.print`` or a ``rich`` console of any width."""
    parts = [Text(_headline(audit)), *map(_finding, audit.findings)]
    for headings, rows in (_summary(audit), _parameters(audit)):
        parts += [Text(), _Fitting(headings, rows)]
    parts += [Text(_more(audit))] if _more(audit) else []
    parts += [Text(), Text(_legend(audit))]
    return Group(*parts)


def as_text(audit, width=110):
    """The report as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
    console.print(audit_report(audit))
    return "\n".join(line.rstrip() for line in console.file.getvalue().rstrip().splitlines())


def as_html(audit):
    """The report as HTML, for a notebook: nothing in it depends on a style sheet."""
    parts = [f"<p>{escape(_headline(audit))}</p>"]
    if audit.findings:
        lines = (f"<li><b>{WORDS[f.severity]}</b>: {escape(f.text)}</li>" for f in audit.findings)
        parts.append(f"<ol>{''.join(lines)}</ol>")
    parts += [_html_table(*_summary(audit)), _html_table(*_parameters(audit))]
    parts += [f"<p>{escape(line)}</p>" for line in (_more(audit), _legend(audit)) if line]
    return "\n".join(parts)


def _headline(audit):
    trained = [row for row in audit.rows if row.status == "trained"]
    million = sum(row.coordinates for row in trained)
    names = ", ".join(dict.fromkeys(row.optimizer for row in trained))
    norm = "" if math.isnan(audit.gradient_norm) else f"; gradient norm {audit.gradient_norm:.3g}"
    found = f"{len(audit.findings)} finding{'s' if len(audit.findings) != 1 else ''}"
    tensors = f"{len(trained)} tensor{'s' if len(trained) != 1 else ''} of {million:,} coordinates"
    return f"{tensors}, trained by {names}{norm}; {found}"


def _finding(finding):
    word = WORDS[finding.severity]
    return Text.assemble((f"{word}: ", COLOURS[finding.severity]), finding.text)


def _summary(audit):
    headings = "layer", "tensors", "coordinates", "RMS", "predicted\na step", "measured\na step", "below\neps"
    rows = [
        (row.layer, str(row.tensors), f"{row.coordinates:,}", _number(row.rms), *map(percent, shares))
        for row in audit.summary().itertuples()
        for shares in [(row.predicted, row.measured, row.below_eps)]
    ]
    return _without_empty(headings, rows)


def _parameters(audit):
    units = {str(row.unit) if row.unit else "?" for row in audit.rows if row.status == "trained"}
    lr = f"lr\nin {min(units)}" if len(units) == 1 else "lr"
    headings = (
        "parameter", "RMS", lr, "predicted\na step", "measured\na step", "below\neps", "decay's\nshare",
        "heads\nfor RMS", "shape",
    )  # fmt: skip
    rows = []
    for row in audit.rows[:MOST]:
        name = row.parameter + (f" (= {', '.join(row.names[1:])})" if len(row.names) > 1 else "")
        shares = map(percent, (row.predicted, row.measured, row.below_eps, row.decay))
        unit = "" if len(units) == 1 else f" {row.unit}" if row.unit else " ?"
        rate = _number(row.lr) + unit if row.status == "trained" else row.status
        shape = "×".join(map(str, row.shape)) or "1"
        rows.append((name, _number(row.rms), rate, *shares, _number(row.equilibrium), shape))
    return _without_empty(headings, rows)


def _without_empty(headings, rows):
    """Columns in which something stands."""
    kept = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    return [headings[i] for i in kept], [[row[i] for i in kept] for row in rows]


class _Fitting:
    """A table of as many of its columns, from the left, as a terminal has room for; it says which it leaves out."""

    def __init__(self, headings, rows):
        self.headings, self.rows = headings, rows

    def __rich_console__(self, console, options):
        columns = list(zip(self.headings, *self.rows))
        widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns]
        kept = len(columns)
        while kept > 4 and sum(widths[:kept]) - 2 > options.max_width:
            kept -= 1
        yield _table(self.headings[:kept], [row[:kept] for row in self.rows])
        if kept < len(columns):
            names = ", ".join(heading.replace("\n", " ") for heading in self.headings[kept:])
            yield Text(f"(no room for: {names})")


def _table(headings, rows):
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="left" if heading in WORDY else "right")
    for row in rows:
        table.add_row(*map(Text, row))  # as they are: "[a]" is no markup
    return table


def _html_table(headings, rows):
    """Words to the left, numbers to the right; it scrolls where there is no room."""
    looks = [f' style="text-align:{"left" if h in WORDY else "right"};padding:0 0.5em"' for h in headings]
    head = "".join(f"<th{look}>{escape(heading)}</th>" for look, heading in zip(looks, headings))
    body = "".join(
        f"<tr>{''.join(f'<td{look}>{escape(cell)}</td>' for look, cell in zip(looks, row))}</tr>" for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div style="overflow-x:auto;margin:1em 0">{table}</div>'


def _more(audit):
    more = len(audit.rows) - MOST
    return f"and {more} more parameters: all are in frame()" if more > 0 else ""


def _legend(audit):
    trained = [row for row in audit.rows if row.status == "trained"]
    laws = dict.fromkeys(f"{row.optimizer}'s {row.law}" for row in trained if not math.isnan(row.change))
    without = dict.fromkeys(f"{row.optimizer} ({row.law})" for row in trained if row.law not in " ".join(laws))
    sources = {row.source for row in trained}
    parts = ["A step is RMS(Δw)/RMS(w)."]
    if laws:
        parts.append(f"Predicted: {'; '.join(laws)}.")
    if without:
        parts.append(f"Not predicted: {'; '.join(without)}.")
    missing = sum(not row.source for row in trained)
    if missing:
        parts.append(f"Not measured: {missing} of {len(trained)}; a Recorder of the steps measures all.")
    for source, words in SOURCES.items():
        if source in sources:
            parts.append(f"Measured: {words}.")
    if any(row.k != 1 for row in audit.rows):
        parts.append("RMS and lr are those of the effective parameter, w = w'/k.")
    return " ".join(parts)


SOURCES = {
    "recorder": "the median of the latest steps that were recorded",
    "gradients": "the step that these gradients would make, tried on copies",
    "state": "the last step, from the optimizer's state",
}


def _number(value):
    return "" if math.isnan(value) else f"{value:.3g}"
