"""Two audits side by side: what has changed between two points of a run, or between two runs."""

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from scaleinv._audit.audit_model import Audit
from scaleinv._audit.compared_row import ComparedRow
from scaleinv._audit.comparison_picture import plot_comparison
from scaleinv._audit.contents import Cells, span, times
from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import fold_names
from scaleinv._audit.page import finding_item, html_table, picture
from scaleinv._audit.report import FittingTable, finding_lines
from scaleinv._audit.row import Row
from scaleinv._checks import check_scale
from scaleinv._report import as_text, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 60  # lines of a table
_WORDS = "shape", "dtype", "status", "optimizer"


@dataclass(frozen=True, repr=False)
class Comparison:
    """The result of ``compare``.  Prints as a table in a terminal, and shows as one in a notebook.

    Attributes:
        rows: a ``ComparedRow`` for each parameter of either audit.
        new: the findings of the audit after that are not in the one before: of another kind, graver, or about
            other parameters as well.
        gone: the findings of the audit before of which nothing is left.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(4, 3)
    >>> audits = [scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=lr)) for lr in (1e-3, 2e-3)]
    >>> print(str(scaleinv.compare(*audits)).splitlines()[0])
    2 tensors: 2 changed; 0 new findings, 0 gone
    """

    rows: Sequence[ComparedRow]
    new: Sequence[Finding]
    gone: Sequence[Finding]

    @property
    def worse(self) -> list[Finding]:
        """The new faults and warnings, on which a test of a training should fail."""
        return [finding for finding in self.new if finding.severity >= Severity.WARNING]

    def frame(self) -> pd.DataFrame:
        """A ``pandas.DataFrame``, one row per parameter; its columns are those of ``ComparedRow``."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def plot(self) -> "Figure":
        """Draw the relative step of each parameter, after against before; what has not changed is on the diagonal.

        Returns:
            A ``matplotlib`` figure: shown in a notebook, saved by ``.savefig(path)``.

        Raises:
            ImportError: without matplotlib.
            ValueError: if no parameter has a known step that is not zero in both audits.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(4, 3)
        >>> audits = [scaleinv.audit(layer, torch.optim.AdamW(layer.parameters(), lr=lr)) for lr in (1e-3, 2e-3)]
        >>> scaleinv.compare(*audits).plot().get_suptitle()
        'The median tensor moves 2 times as far a\\nstep'
        """
        return plot_comparison([(row.parameter, row.before, row.after) for row in self.rows])

    def report(self) -> Group:
        """The table for ``rich.print``, in colour and in the width of the terminal."""
        parts: list[RenderableType] = [Text(self._headline)]
        for number, finding in enumerate(self.new, 1):
            parts += [Text("new", style="bold"), *finding_lines(number, finding)]
        parts += [Text(f"gone: {finding.severity.word}: {finding.text}", style="dim") for finding in self.gone]
        cells = self._cells
        if cells.rows:
            parts += [Text(), FittingTable(cells)]
        parts += [Text(self._more, style="dim")] if self._more else []
        return Group(*parts)

    def __rich__(self) -> Group:
        return self.report()

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [f"<p>{escape(self._headline)}</p>"]
        for title, findings in (("new", self.new), ("gone", self.gone)):
            if findings:
                parts.append(f"<p>{title}:</p><ol>{''.join(map(finding_item, findings))}</ol>")
        if any(row.before > 0 and row.after > 0 for row in self.rows):
            parts.append(picture(self.plot))
        cells = self._cells
        if cells.rows:
            parts.append(html_table(cells, [escape(row[0]) for row in cells.rows]))
        return "\n".join([*parts, f"<p>{escape(self._more)}</p>" if self._more else ""])

    @property
    def _headline(self) -> str:
        counts = {change: sum(row.change == change for row in self.rows) for change in _CHANGES}
        changes = ", ".join(f"{count} {_CHANGES[change]}" for change, count in counts.items() if count)
        new = f"{len(self.new)} new finding{'' if len(self.new) == 1 else 's'}"
        return f"{len(self.rows)} tensors: {changes}; {new}, {len(self.gone)} gone"

    @property
    def _groups(self) -> list[tuple[str, list[ComparedRow]]]:
        """What has changed: identical blocks in one, the largest change of a step first."""
        rows = [row for row in self.rows if row.change != "same"]
        groups = fold_names([row.parameter for row in rows], [_kind(row) for row in rows])
        folds = [(name, [rows[place] for place in places]) for name, places in groups]
        return sorted(folds, key=lambda fold: -max(_distance(row.step) for row in fold[1]))

    @property
    def _cells(self) -> Cells:
        headings = ["parameter", "step\nbefore", "step\nafter", "step", "RMS", "lr", "gradient", "change"]
        lines = []
        for name, rows in self._groups[:_MOST]:
            steps = [span([getattr(row, column) for row in rows], percent) for column in ("before", "after")]
            ratios = [span([getattr(row, column) for row in rows], times) for column in _RATIOS]
            words = rows[0].note or ("" if rows[0].change == "changed" else rows[0].change)
            lines.append([name, *steps, *ratios, words])
        return Cells(headings, lines).without_empty()

    @property
    def _more(self) -> str:
        left = sum(len(rows) for _, rows in self._groups[_MOST:])
        return f"{left} more have changed: frame() has all" if left else ""


def _kind(row: ComparedRow) -> Hashable:
    """What rows have to have in common to be shown as one; ratios of a step within a factor of 1.4 or so."""
    size = round(math.log2(row.step)) if 0 < row.step < math.inf else str(row.step)
    return row.change, row.shape, row.note, size


_CHANGES = {"same": "as before", "changed": "changed", "new": "new", "gone": "gone"}
_RATIOS = "step", "rms", "lr", "gradient"


def compare(before: Audit, after: Audit, *, factor: float = 1.25) -> Comparison:
    """Show what has changed between two audits of one model, or of two with the same names.

    Args:
        before: an ``Audit``, such as one that ``Audit.load`` reads from a file.
        after: another.
        factor: what changes by less than this is as before.

    Returns:
        A ``Comparison``.

    Raises:
        TypeError: if ``before`` or ``after`` is not an ``Audit``.
        ValueError: if they have no parameter in common, or factor is below 1 or not finite.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)
    >>> before = scaleinv.audit(layer, optimizer)
    >>> _ = torch.nn.init.constant_(layer.bias, float("nan"))
    >>> [finding.kind for finding in scaleinv.compare(before, scaleinv.audit(layer, optimizer)).worse]
    ['not_finite']
    """
    for name, each in (("before", before), ("after", after)):
        if not isinstance(each, Audit):
            raise TypeError(f"{name}={each!r} is not an Audit; pass a result of audit or of Audit.load")
    if check_scale("factor", factor) < 1:
        raise ValueError(f"factor={factor!r} is below 1; pass one such as 1.25")
    olds, news = ({row.parameter: row for row in each.rows} for each in (before, after))
    if not olds.keys() & news.keys():
        raise ValueError("before and after have no parameter in common; compare audits of models with the same names")
    rows = [_compared(old, news.get(name), factor) for name, old in olds.items()]
    rows += [
        ComparedRow(row.parameter, row.shape, "new", after=row.relative)
        for row in after.rows
        if row.parameter not in olds
    ]
    new = [finding for finding in after.findings if not _known(finding, before.findings)]
    gone = [finding for finding in before.findings if not _left(finding, after.findings)]
    return Comparison(rows, new, gone)


def _compared(old: Row, new: Row | None, factor: float) -> ComparedRow:
    if new is None:
        return ComparedRow(old.parameter, old.shape, "gone", before=old.relative)
    ratios = {
        "step": _ratio(old.relative, new.relative),
        "rms": _ratio(old.rms, new.rms),
        "lr": _ratio(old.lr, new.lr),
        "gradient": _ratio(old.gradient_rms, new.gradient_rms),
    }
    note = ", ".join(
        f"{_word(getattr(old, word))} → {_word(getattr(new, word))}"
        for word in _WORDS
        if getattr(old, word) != getattr(new, word)
    )
    changed = note or any(_distance(ratio) > math.log(factor) for ratio in ratios.values())
    change = "changed" if changed else "same"
    return ComparedRow(old.parameter, old.shape, change, old.relative, new.relative, **ratios, note=note)


def _word(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value) or "none"


def _ratio(old: float, new: float) -> float:
    if old == new:
        return 1.0
    return new / old if old else math.nan if math.isnan(new) else math.inf


def _distance(ratio: float) -> float:
    """How far a ratio is from 1, on a logarithmic scale; 0 for one that is not known."""
    if math.isnan(ratio):
        return 0.0
    return abs(math.log(ratio)) if ratio > 0 else math.inf


def _known(finding: Finding, earlier: Iterable[Finding]) -> bool:
    """Whether findings of this kind, as grave, were about all of its parameters."""
    alike = [each for each in earlier if each.kind == finding.kind and each.severity >= finding.severity]
    return bool(alike) and {*finding.parameters} <= {name for each in alike for name in each.parameters}


def _left(finding: Finding, later: Iterable[Finding]) -> bool:
    """Whether a finding of this kind is about one of its parameters."""
    alike = [each for each in later if each.kind == finding.kind]
    return any(not finding.parameters or {*finding.parameters} & {*each.parameters} for each in alike)
