"""``GradientComparison``: the result of ``compare_gradients``."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from scaleinv._audit import fold_names
from scaleinv._gradients.row import ComparedGradient, together
from scaleinv._gradients.verdict import Verdict
from scaleinv._report import as_text, json_value, percent, table
from scaleinv.changes import Change

if TYPE_CHECKING:
    import pandas as pd

_MOST = 20  # lines of a table
_HEADINGS = ("tensor", "factor", "cosine", "not along a")
_WORDS = {"zero": "zero", "only_a": "only in a", "only_b": "only in b", "not_finite": "not finite"}
_STYLES = {"equal": "bold green", "factor": "bold yellow"}


@dataclass(frozen=True, repr=False)
class GradientComparison:
    """The result of ``compare_gradients``.  Prints its verdict first, then a line for each kind of tensor.

    Attributes:
        verdict: a ``Verdict``.
        rows: a ``ComparedGradient`` for each tensor; none where there are several loss terms.
        noise: by how much the gradients of a step differ when it runs again, relative to them; NaN for gradients
            that were there.
        tolerance: share of a gradient by which it may differ from a multiple and still be one.
        seen: what the optimizer sees of the factor, and the settings that keep the training; empty without one.
        terms: loss term → its ``GradientComparison``, where there are several.

    >>> import torch
    >>> from scaleinv import compare_gradients
    >>> a = {"w": torch.tensor([1.0, 2.0, 2.0, 4.0])}
    >>> print(compare_gradients(a, {"w": a["w"] / 8}))
    b is 1/8 × a in every tensor
      b divides by 8 once more than a: the number of examples, tokens, accumulated
      pieces or processes, or a weight. b's loss × 8 has a's gradients.
    """

    verdict: Verdict
    rows: Sequence[ComparedGradient] = ()
    noise: float = math.nan
    tolerance: float = math.nan
    seen: str = ""
    terms: Mapping[str, "GradientComparison"] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """That of the verdict."""
        return self.verdict.kind

    @property
    def factor(self) -> float:
        """By which b is larger than a, where it is one factor everywhere, else NaN."""
        return self.verdict.factor

    @property
    def cosine(self) -> float:
        """Of the angle between the two gradients, of all tensors that have one in both; NaN for several loss terms."""
        return together(self.rows).cosine

    @property
    def rest(self) -> float:
        """The share of b that no multiple of a is, that is, the norm of b less its projection on a over that of b.

        >>> import torch
        >>> from scaleinv import compare_gradients
        >>> result = compare_gradients({"w": torch.tensor([3.0, 4.0])}, {"w": torch.tensor([5.0, 0.0])})
        >>> round(result.cosine, 3), round(result.rest, 3)
        (0.6, 0.8)
        """
        return together(self.rows).rest

    @property
    def change(self) -> Change | None:
        """The change of units that it amounts to, for ``convert`` and ``rescale``; None if it is none.

        >>> import torch
        >>> from scaleinv import compare_gradients, convert
        >>> a = {"w": torch.tensor([1.0, 2.0, 2.0, 4.0])}
        >>> convert(torch.optim.SGD, {"lr": 0.5}, compare_gradients(a, {"w": 8 * a["w"]}).change)
        {'lr': 0.0625}
        """
        return self.verdict.change

    def frame(self) -> "pd.DataFrame":
        """A ``pandas.DataFrame``, one row for each tensor of each loss term."""
        import pandas as pd

        if self.terms:
            return pd.concat([each.frame().assign(term=term) for term, each in self.terms.items()], ignore_index=True)
        return pd.DataFrame([asdict(row) for row in self.rows])

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data: what is not a number is None.

        >>> import json, torch
        >>> from scaleinv import compare_gradients
        >>> a = {"w": torch.tensor([1.0, 2.0, 2.0, 4.0])}
        >>> document = compare_gradients(a, {"w": 9 * a["w"]}).as_dict()
        >>> json.dumps(document["kind"]), document["factor"]
        ('"factor"', 9.0)
        """
        return {
            "kind": self.kind,
            "text": self.verdict.text,
            "factor": json_value(self.factor),
            "loss_times": json_value(self.change.loss) if self.change else None,
            "cosine": json_value(self.cosine),
            "rest": json_value(self.rest),
            "notes": list(self.verdict.notes),
            "seen": " ".join(self.seen.split()),
            "noise": json_value(self.noise),
            "tolerance": json_value(self.tolerance),
            "tensors": [{name: json_value(value) for name, value in asdict(row).items()} for row in self.rows],
            "terms": {term: each.as_dict() for term, each in self.terms.items()},
        }

    def report(self) -> Group:
        """The verdict and the table for ``rich.print``, in colour and in the width of the terminal."""
        parts: list[RenderableType] = [Text(self.verdict.text, style=_STYLES.get(self.kind, "bold red"))]
        parts += [Padding(Text(note), (0, 0, 0, 2)) for note in (*self.verdict.notes, *self._seen)]
        for term, each in self.terms.items():
            parts += [Text(), Text.assemble((f"{term}: ", "bold"), each.report().renderables[0])]  # type: ignore[arg-type]
            parts += each.report().renderables[1:]
        lines = self._lines
        if lines:
            parts += [Text(), table(_HEADINGS, lines[:_MOST], words=_HEADINGS[:1])]
            left = len(lines) - _MOST
            parts += [Text(f"{left} more lines: frame() has all", style="dim")] if left > 0 else []
        return Group(*parts)

    def __rich__(self) -> Group:
        return self.report()

    def __str__(self) -> str:
        return as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    @property
    def _seen(self) -> list[str]:
        return [self.seen] if self.seen else []

    @property
    def _lines(self) -> list[tuple[str, ...]]:
        """One for tensors of one kind in identical blocks, those that differ most first; none where all are alike."""
        rows = list(self.rows)
        if len({row.status for row in rows}) == 1 and self.kind not in ("factors", "unequal", "unclear", "random"):
            return []
        usual = median([row.factor for row in rows if row.status == "factor"] or [1.0])
        groups = fold_names([row.parameter for row in rows], [_kind(row) for row in rows])
        lines = [(name, [rows[place] for place in places]) for name, places in groups]
        lines.sort(key=lambda line: max(_rank(row, usual) for row in line[1]), reverse=True)
        return [(name, *_cells(of)) for name, of in lines]


def _kind(row: ComparedGradient) -> Hashable:
    """What tensors have to have in common to be in one line."""
    return row.status, row.shape, f"{row.factor:.2g}"


def _rank(row: ComparedGradient, usual: float) -> tuple[int, float]:
    """The larger, the more there is to see."""
    if row.status in _WORDS:
        return (1, 0.0) if row.status not in ("zero",) else (-1, 0.0)
    return (1, row.rest) if row.status == "unequal" else (0, float(f"{abs(row.factor / usual - 1):.1g}"))


def _cells(rows: Sequence[ComparedGradient]) -> tuple[str, str, str]:
    first = rows[0]
    if first.status in _WORDS:
        return _WORDS[first.status], "", ""
    worst = max(rows, key=lambda row: row.rest)
    return f"{worst.factor:.4g}", f"{worst.cosine:.4g}", percent(worst.rest)
