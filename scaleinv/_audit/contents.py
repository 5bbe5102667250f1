"""What a report of an audit contains, in a terminal as in a notebook: texts, and cells of tables."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from scaleinv._audit.findings import Finding, Severity
from scaleinv._audit.folding import Fold, folds_of
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row
from scaleinv._report import percent

WORDS = "parameter", "layer", "shape"  # columns of words; the others hold numbers
_FEW = 20  # parameters of which each is shown in a line of its own
_MOST = 60  # lines shown besides those that findings name
_SOURCES = {
    "recorder": "the median of the latest recorded steps",
    "gradients": "the step that these gradients would make, tried on copies",
    "state": "the last step, from the optimizer's state",
}


@dataclass(frozen=True)
class Cells:
    """A table: its headings, and its rows."""

    headings: list[str]
    rows: list[list[str]]

    def without_empty(self) -> "Cells":
        """Only the columns that have an entry."""
        kept = [i for i in range(len(self.headings)) if any(row[i] for row in self.rows)]
        return Cells([self.headings[i] for i in kept], [[row[i] for i in kept] for row in self.rows])


@dataclass(frozen=True)
class Contents:
    """What a report contains.

    Attributes:
        audit: its numbers.
        findings: what is unusual about them, the gravest first.
        folded: whether identical blocks share a line; a model of few parameters has a line for each.
    """

    audit: Measurements
    findings: Sequence[Finding]
    folded: bool = True

    @property
    def headline(self) -> str:
        trained = self.audit.trained
        coordinates = sum(row.coordinates for row in trained)
        names = ", ".join(dict.fromkeys(row.optimizer for row in trained))
        norm = "" if math.isnan(self.audit.gradient_norm) else f"; gradient norm {self.audit.gradient_norm:.3g}"
        tensors = f"{_count(len(trained), 'tensor')} with {coordinates:,} coordinates"
        muted = f", {len(self.audit.muted)} muted" if self.audit.muted else ""
        return f"{tensors}, trained by {names or 'no optimizer'}{norm}; {_count(len(self.findings), 'finding')}{muted}"

    @cached_property
    def _folds(self) -> list[Fold]:
        """All lines: those that faults and warnings name first, and in the order of the model."""
        folds = folds_of(self.audit.rows, self.findings, folded=self.folded and len(self.audit.rows) > _FEW)
        return sorted(folds, key=self._order)

    @cached_property
    def folds(self) -> list[Fold]:
        """The lines to show."""
        if not self.folded:
            return self._folds
        room = _MOST
        shown = []
        for fold in self._folds:
            if fold.findings or room > 0:
                shown.append(fold)
                room -= not fold.findings
        return shown

    def _order(self, fold: Fold) -> float:
        """The number of the first finding that names it; a remark only says where to look."""
        return fold.findings[0] if (self.severity(fold) or 0) >= Severity.WARNING else math.inf

    def severity(self, fold: Fold) -> Severity | None:
        """The gravest severity among the findings that name it."""
        return max((self.findings[number - 1].severity for number in fold.findings), default=None)

    @property
    def summary(self) -> Cells:
        """One line for each type of layer."""
        headings = ["layer", "tensors", "coordinates", "RMS", "measured\na step", "predicted\na step", "below\neps"]
        rows = []
        for layer in self.audit.summary().to_dict("records"):
            shares = map(percent, (layer["measured"], layer["predicted"], layer["below_eps"]))
            sizes = str(layer["tensors"]), f"{layer['coordinates']:,}", number(layer["rms"])
            rows.append([layer["layer"], *sizes, *shares])
        return Cells(headings, rows).without_empty()

    @property
    def parameters(self) -> Cells:
        """One line for each of ``folds``."""
        units = {str(row.unit) if row.unit else "?" for row in self.audit.trained}
        common = min(units) if len(units) == 1 else ""
        step, other = (
            ("measured", "predicted") if any(row.source for row in self.audit.rows) else ("predicted", "measured")
        )
        headings = [
            "parameter", "finding", f"{step}\na step", "RMS", f"lr\nin {common}" if common else "lr",
            f"{other}\na step", "below\neps", "decay's\nshare", "heads\nfor RMS", "shape",
        ]  # fmt: skip
        rows = []
        for fold in self.folds:
            first = fold.rows[0]
            name = fold.name + (f" (= {', '.join(first.names[1:])})" if len(first.names) > 1 else "")
            shares = {column: span([getattr(row, column) for row in fold.rows], percent) for column in _SHARES}
            sizes = {column: span([getattr(row, column) for row in fold.rows], number) for column in _SIZES}
            rows.append(
                [
                    name, ",".join(map(str, fold.findings)), shares[step], sizes["rms"],
                    _lr(fold.rows, with_unit=not common), shares[other], shares["below_eps"], shares["decay"],
                    sizes["equilibrium"], "×".join(map(str, first.shape)) or "1",
                ]
            )  # fmt: skip
        return Cells(headings, rows).without_empty()

    @property
    def more(self) -> str:
        """How many parameters have no line of their own, and how to see them."""
        shared = sum(len(fold.rows) - 1 for fold in self.folds)
        left = len(self.audit.rows) - len(self.folds) - shared
        parts = (
            [f"{_count(shared, 'more parameter')} in these lines, with the range of their numbers"] if shared else []
        )
        parts += [f"{_count(left, 'more parameter')} without a line"] if left else []
        return f"{', and '.join(parts)}: --all, or text(folded=False), has a line for each." if parts else ""

    @property
    def legend(self) -> str:
        rows = self.audit.trained
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
        if any(row.weight != 1 for row in self.audit.rows):
            parts.append("RMS and lr are those of the effective parameter, w = w'/k.")
        return " ".join(parts)


_SHARES = "measured", "predicted", "below_eps", "decay"
_SIZES = "rms", "equilibrium"


def number(value: float) -> str:
    """Three digits; NaN as an empty text."""
    return "" if math.isnan(value) else f"{value:.3g}"


def times(ratio: float) -> str:
    """A ratio with two digits; NaN as an empty text.

    >>> from scaleinv._audit.contents import times
    >>> times(1.0), times(0.5), times(123.4)
    ('1', '0.5', '123')
    """
    if math.isnan(ratio):
        return ""
    return f"{ratio:.2g}" if ratio < 99.5 else f"{ratio:.3g}"


def span(values: Iterable[float], written: Callable[[float], str]) -> str:
    """One number for equal ones, else the least and the greatest; NaN is left out.

    >>> from scaleinv._audit.contents import span
    >>> from scaleinv._report import percent
    >>> span([0.011, 0.013, 0.012], percent), span([0.5, float("nan")], percent)
    ('1.1–1.3 %', '50 %')
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    least, greatest = written(min(known)), written(max(known))
    return greatest if least == greatest else f"{least.removesuffix(' %')}–{greatest}"


def _lr(rows: Sequence[Row], *, with_unit: bool) -> str:
    """lr of trained parameters; the status of others."""
    first = rows[0]
    if first.status != "trained":
        return first.status
    unit = (f" {first.unit}" if first.unit else " ?") if with_unit else ""
    return span([row.lr for row in rows], number) + unit


def _count(quantity: int, noun: str) -> str:
    return f"{quantity} {noun}{'' if quantity == 1 else 's'}"
