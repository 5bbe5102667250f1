"""An audit for a terminal: findings with what to do about them, a summary by type of layer, and one line per block."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scaleinv._audit.contents import WORDS, Cells, Contents
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import brief_names
from scaleinv._audit.measurements import Measurements
from scaleinv._report import table

COLOURS = {Severity.FAULT: "bold red", Severity.WARNING: "bold yellow", Severity.REMARK: "cyan"}
_NAMED = 6  # names, or ranges of names, written out beside a finding; ``finding.parameters`` has all


def audit_report(audit: Measurements, findings: Sequence[Finding], *, folded: bool = True) -> Group:
    """The report, for ``rich.print`` or a ``rich`` console of any width."""
    contents = Contents(audit, findings, folded)
    parts: list[RenderableType] = [Text(contents.headline)]
    parts += [Text(audit.sharpness)] if audit.sharpness else []
    for number, finding in enumerate(findings, 1):
        parts += finding_lines(number, finding)
    styles = [COLOURS[severity] if (severity := contents.severity(fold)) else "" for fold in contents.folds]
    for cells, colours in ((contents.summary, []), (contents.parameters, styles)):
        parts += [Text(), FittingTable(cells, colours)]
    parts += [Text(contents.more)] if contents.more else []
    parts += [Text(), Text(contents.legend, style="dim")]
    return Group(*parts)


def finding_lines(number: int, finding: Finding) -> list[RenderableType]:
    """The sentence; what to do about it; and, if it is about several parameters, which."""
    parts: list[RenderableType] = [
        Text.assemble(f"{number}. ", (f"{finding.severity.word}: ", COLOURS[finding.severity]), finding.text)
    ]
    if finding.remedy:
        parts.append(Padding(Text.assemble(("fix: ", "bold green"), finding.remedy), (0, 0, 0, 3)))
    if len(finding.parameters) > 1:
        names = brief_names(finding.parameters, _NAMED)
        parts.append(Padding(Text(f"in: {names}", style="dim"), (0, 0, 0, 3)))
    return parts


class FittingTable:
    """A table of as many of its columns, from the left, as a terminal has room for, and the names of the others."""

    def __init__(self, cells: Cells, styles: Sequence[str] = ()) -> None:
        self._headings, self._rows, self._styles = cells.headings, cells.rows, styles

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        columns = list(zip(self._headings, *self._rows, strict=True))
        widths = [max(cell_len(line) for cell in column for line in cell.split("\n")) + 2 for column in columns]
        widths[0] = min(widths[0], max(options.max_width + 2 - sum(widths[1:4]), 24))  # a longer name takes two lines
        kept = len(columns)
        while kept > 4 and sum(widths[:kept]) - 2 > options.max_width:
            kept -= 1
        yield table(self._headings[:kept], [row[:kept] for row in self._rows], words=WORDS, styles=self._styles)
        if kept < len(columns):
            names = ", ".join(heading.replace("\n", " ") for heading in self._headings[kept:])
            yield Text(f"(no room for: {names})", style="dim")
