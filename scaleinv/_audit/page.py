"""An audit for a notebook: what a terminal shows, with names that unfold and, where matplotlib is installed, a picture.

Nothing in it depends on a style sheet: text and lines have the page's own colour, and what is coloured brings its own
ground, so that it reads on a light page and on a dark one.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from scaleinv._audit.contents import WORDS, Cells, Contents
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import Fold, fold_names
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.picture import plot_audit
from scaleinv._report import as_image, has_matplotlib, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {Severity.FAULT: "#fff;background:#b3261e", Severity.WARNING: "#000;background:#f2b01e"}
_PLAIN = "#fff;background:#5f6368"
_CELL = "vertical-align:top;padding:0.1em 0.5em;border-bottom:1px solid rgba(128,128,128,0.35)"
_WRAPPED = "white-space:normal;overflow-wrap:anywhere;min-width:11em"  # long names, so that a phone shows numbers too


def as_html(audit: Measurements, findings: Sequence[Finding]) -> str:
    """The report as HTML."""
    contents = Contents(audit, findings)
    parts = [f"<p>{escape(line)}</p>" for line in (contents.headline, audit.sharpness) if line]
    if findings:
        parts.append(f'<ol style="padding-left:1.6em">{"".join(map(finding_item, findings))}</ol>')
    if any(row.relative > 0 for row in audit.rows):
        parts.append(picture(lambda: plot_audit(audit, findings)))
    parts.append(_unfolding("layers", html_table(contents.summary, [escape(row[0]) for row in contents.summary.rows])))
    names = [_name(contents, fold, row[0]) for fold, row in zip(contents.folds, contents.parameters.rows, strict=True)]
    parts.append(_unfolding("parameters", html_table(contents.parameters, names)))
    parts += [f"<p>{escape(line)}</p>" for line in (contents.more, contents.legend) if line]
    return "\n".join(part for part in parts if part)


def finding_item(finding: Finding) -> str:
    """A finding as an item of a list."""
    text = f"{_pill(finding.severity, finding.severity.word)} {escape(finding.text)}"
    if finding.remedy:
        text += f"<br><b>Fix:</b> {escape(finding.remedy)}"
    if len(finding.parameters) > 1:
        names = "<br>".join(escape(name) for name, _ in fold_names(finding.parameters))
        text += f"<details><summary>{len(finding.parameters)} parameters</summary>{names}</details>"
    return f'<li style="margin:0.3em 0">{text}</li>'


def _pill(severity: Severity | None, text: str) -> str:
    colours = _COLOURS.get(severity, _PLAIN) if severity else _PLAIN
    return f'<span style="color:{colours};border-radius:0.3em;padding:0 0.4em">{_breakable(text)}</span>'


def _breakable(name: str) -> str:
    """A name as HTML, which breaks after a dot where it has to."""
    return escape(name).replace(".", ".<wbr>")


def picture(draw: "Callable[[], Figure]") -> str:
    """A picture as HTML; nothing where matplotlib is not installed."""
    return as_image(draw()) if has_matplotlib() else ""


def _unfolding(title: str, content: str) -> str:
    return f"<details open><summary>{title}</summary>{content}</details>"


def _name(contents: Contents, fold: Fold, name: str) -> str:
    """The first cell of a line: its name, which unfolds to those of a block."""
    severity = contents.severity(fold)
    shown = _pill(severity, name) if severity and severity >= Severity.WARNING else _breakable(name)
    if len(fold.rows) == 1:
        return shown
    lines = (f"{escape(row.parameter)} {percent(row.relative)}" for row in fold.rows)
    return f"<details><summary>{shown}</summary>{'<br>'.join(lines)}</details>"


def html_table(cells: Cells, first: Sequence[str]) -> str:
    """Words to the left, numbers to the right; it scrolls where there is no room.  ``first`` is HTML: the first cell of
    each row."""
    looks = ["left;" + _WRAPPED, *("left" if heading in WORDS else "right" for heading in cells.headings[1:])]
    styles = [f' style="white-space:nowrap;text-align:{look};{_CELL}"' for look in looks]
    head = _html_row("th", map(escape, cells.headings), styles)
    lines = ([name, *map(escape, row[1:])] for name, row in zip(first, cells.rows, strict=True))
    body = "".join(_html_row("td", line, styles) for line in lines)
    html = f'<table style="border-collapse:collapse"><thead>{head}</thead><tbody>{body}</tbody></table>'
    return f'<div style="overflow-x:auto;margin:0.5em 0">{html}</div>'


def _html_row(tag: str, cells: Iterable[str], styles: Iterable[str]) -> str:
    return (
        "<tr>" + "".join(f"<{tag}{style}>{cell}</{tag}>" for cell, style in zip(cells, styles, strict=True)) + "</tr>"
    )
