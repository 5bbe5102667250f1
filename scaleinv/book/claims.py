"""Claims of the book: each is checked where it is stated, shown in one stable line, and able to fail.

A claim is of one of three kinds:

- An ``identity`` is algebra, executed: it fails only if the code or the number format does.
- A ``law`` is a number that was predicted before it was measured; ``predict`` shows the prediction, in an earlier cell.
- An ``observation`` was measured here, and names its scope: which network, data and learning rates.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from numbers import Integral
from typing import Literal, SupportsFloat, TypeVar

from scaleinv.book._extra import book_dependencies

with book_dependencies():
    from IPython.display import display

__all__ = ["ClaimFailed", "about", "claim", "predict", "verdict"]

Kind = Literal["identity", "law", "observation"]
PLURALS: dict[Kind, str] = {"identity": "identities", "law": "laws", "observation": "observations"}

Numbers = SupportsFloat | Mapping[str, SupportsFloat]
Predicted = TypeVar("Predicted", bound=Numbers)


class ClaimFailed(AssertionError):
    """A measured number is not what its claim states.

    >>> from scaleinv.book.claims import ClaimFailed, claim
    >>> try:
    ...     claim("0.1", "two and two", 2 + 2, kind="identity", equals=5)
    ... except ClaimFailed as failure:
    ...     print(failure)
    claim 0.1: two and two: expected 5, measured 4
    """


def claim(  # noqa: PLR0913 (its options are its API)
    number: str,
    statement: str,
    measured: Numbers,
    *,
    kind: Kind,
    scope: str = "",
    equals: Numbers | None = None,
    tolerance: float = 0.0,
    at_most: SupportsFloat | None = None,
    at_least: SupportsFloat | None = None,
) -> None:
    """Check ``measured`` against what is expected, and show both in one line.

    Args:
        number: the chapter and a number in it, such as "1.3".
        statement: what is claimed, in words.
        measured: a number, or a dict from labels to numbers, each of which has to be as expected.
        kind: "identity", "law" or "observation".
        scope: what the number was measured on; an observation has to name it.
        equals: the expected value, or a dict from the labels of ``measured`` to expected values.
        tolerance: the largest deviation from ``equals``, as a share of it; 0 for none.
        at_most: an upper bound.
        at_least: a lower bound.

    Raises:
        ClaimFailed: if a number is not as expected, or is NaN.
        TypeError: if none of equals, at_most and at_least is passed.
        ValueError: if ``measured`` is empty, an observation names no scope, a law was not predicted before, or
            ``equals`` has other labels than ``measured``.

    The line shows a number exactly if ``equals`` without a tolerance is expected. Otherwise it follows ≈, which marks
    what may differ a little on another machine; the comparison of stored outputs leaves it out (tests/sanitize.cfg).
    It then has as many digits as the tolerance needs.

    >>> from scaleinv.book.claims import claim
    >>> claim("0.1", "two and two", 2 + 2, kind="identity", equals=4)
    claim 0.1 (identity): two and two: 4 (expected 4) ✓
    >>> claim("0.2", "a share", {"of 3": 1 / 3, "of 4": 1 / 4}, kind="observation", scope="two numbers", at_most=0.5)
    claim 0.2 (observation): a share: of 3: ≈ 0.33, of 4: ≈ 0.25 (expected ≤ 0.5) ✓ [two numbers]
    """
    numbers = _labelled(measured)
    expected = _Expectation.of(equals, tolerance, at_most, at_least)
    _check_arguments(number, kind, scope, numbers, expected)
    failed = {label: _exact(x) for label, x in numbers.items() if not expected.holds_for(label, x)}
    if failed:
        raise ClaimFailed(f"claim {number}: {statement}: expected {expected}, measured {_listed(failed)}")
    _checked.append((number, kind))
    shown = _listed({label: expected.shown(label, x) for label, x in numbers.items()})
    anchor = f"claim-{number}-{[checked for checked, _ in _checked].count(number)}"  # the ledger links to it
    _show(
        f"claim {number} ({kind}): {statement}: {shown} (expected {expected}) ✓" + (f" [{scope}]" if scope else ""),
        f'<p class="claim" id="{escape(anchor)}"><b>claim {escape(number)}</b> <em class="{kind}">{kind}</em> '
        f"<span>{escape(statement)}</span>: <span>{escape(shown)}</span> (expected "
        f"<span>{escape(str(expected))}</span>) ✓ <small>{escape(scope)}</small></p>",
    )


def predict(number: str, statement: str, value: Predicted) -> Predicted:
    """Show what a law says before it is measured, and return it unchanged.

    Args:
        number: that of the claim which will check the prediction.
        statement: what is predicted, in words.
        value: a number, or a dict from labels to numbers.

    >>> from scaleinv.book.claims import claim, predict
    >>> half = predict("0.4", "heads, of many throws", 1 / 2)
    prediction 0.4: heads, of many throws: 0.5
    >>> claim("0.4", "heads, of many throws", 0.501, kind="law", equals=half, tolerance=0.03)
    claim 0.4 (law): heads, of many throws: ≈ 0.501 (expected 0.5 ± 3 %) ✓
    """
    shown = _listed({label: _significant(float(x), 4, zeros=False) for label, x in _labelled(value).items()})
    _predicted.append(number)
    _show(
        f"prediction {number}: {statement}: {shown}",
        f'<p class="claim prediction"><b>prediction {escape(number)}</b> {escape(statement)}: {escape(shown)}</p>',
    )
    return value


def verdict() -> None:
    """Show which claims this process has checked. All of them hold: a claim that does not hold raises.

    Raises:
        ClaimFailed: if no claim has been checked.

    >>> from scaleinv.book.claims import claim, verdict
    >>> claim("0.3", "two and two", 2 + 2, kind="identity", equals=4)
    claim 0.3 (identity): two and two: 4 (expected 4) ✓
    >>> verdict()  # doctest: +ELLIPSIS
    verdict: ... of the claims ...0.3: all hold ✓
    """
    if not _checked:
        raise ClaimFailed("verdict: no claim has been checked")
    counts = Counter(kind for _, kind in _checked)
    kinds = [f"{counts[kind]} {PLURALS[kind] if counts[kind] > 1 else kind}" for kind in PLURALS if counts[kind]]
    names = ", ".join(dict.fromkeys(number for number, _ in _checked))
    line = f"{len(_checked)} checks ({', '.join(kinds)}) of the claims {names}: all hold ✓"
    _show(f"verdict: {line}", f'<p class="claim"><b>verdict</b> {escape(line)}</p>')


def about(value: SupportsFloat, digits: int = 2) -> str:
    """A measured value to a few digits, after ≈, which marks what another machine may print differently.

    >>> from scaleinv.book.claims import about
    >>> print(about(2 / 3), about(2 / 3, 4), about(1234.5), about(1234))
    ≈ 0.67 ≈ 0.6667 ≈ 1200 ≈ 1234
    """
    return f"≈ {value}" if isinstance(value, Integral) else f"≈ {_significant(float(value), digits)}"


@dataclass(frozen=True)
class _Expectation:
    """What numbers have to be: each label's value within a tolerance, and bounds for all; as text, "" for nothing."""

    equals: dict[str, float] | None
    tolerance: float
    at_most: float | None
    at_least: float | None

    @classmethod
    def of(
        cls, equals: Numbers | None, tolerance: float, at_most: SupportsFloat | None, at_least: SupportsFloat | None
    ) -> "_Expectation":
        values = None if equals is None else {label: float(x) for label, x in _labelled(equals).items()}
        bounds = (None if bound is None else float(bound) for bound in (at_most, at_least))
        return cls(values, tolerance, *bounds)

    def value(self, label: str) -> float | None:
        """What a label's number has to equal: a single expected value is that of all labels."""
        return None if self.equals is None else self.equals.get(label, self.equals.get(""))

    def holds_for(self, label: str, measured: SupportsFloat) -> bool:
        x, value = float(measured), self.value(label)
        return (
            not math.isnan(x)
            and (value is None or abs(x - value) <= self.tolerance * abs(value))
            and (self.at_most is None or x <= self.at_most)
            and (self.at_least is None or x >= self.at_least)
        )

    def shown(self, label: str, measured: SupportsFloat) -> str:
        """A number that holds, with at least the digits that the tolerance has, and enough to be seen to hold."""
        x, value = float(measured), self.value(label)
        if value is not None and not self.tolerance:
            return _significant(x, 6, zeros=False)
        if isinstance(measured, Integral):
            return about(measured)
        digits = 2 if value is None else self._digits
        while digits < 17 and not self.holds_for(label, float(_significant(x, digits))):
            digits += 1
        return about(x, digits)

    @property
    def _digits(self) -> int:
        """How many significant digits a tolerance has: the last one is at most as large as the tolerance."""
        return max(2, 1 + math.ceil(-math.log10(self.tolerance)))

    def __str__(self) -> str:
        parts = []
        if self.equals is not None:
            values = {label: self._expected(value) for label, value in self.equals.items()}
            each = ", each" if len(values) > 1 else ""
            parts.append(_listed(values) + (f"{each} ± {100 * self.tolerance:.3g} %" if self.tolerance else ""))
        if self.at_most is not None:
            parts.append(f"≤ {_significant(self.at_most, 4, zeros=False)}")
        if self.at_least is not None:
            parts.append(f"≥ {_significant(self.at_least, 4, zeros=False)}")
        return " and ".join(parts)

    def _expected(self, value: float) -> str:
        return _significant(value, max(4, self._digits) if self.tolerance else 6, zeros=False)


@dataclass(frozen=True, repr=False)
class _Line:
    """A line of text, which a notebook shows as HTML."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def _labelled(numbers: Numbers) -> dict[str, SupportsFloat]:
    return dict(numbers) if isinstance(numbers, Mapping) else {"": numbers}


def _check_arguments(
    number: str, kind: Kind, scope: str, numbers: Mapping[str, SupportsFloat], expected: _Expectation
) -> None:
    if not numbers:
        raise ValueError(f"claim {number}: measured={dict(numbers)!r} holds no number")
    if not str(expected):
        raise TypeError(f"claim {number}: nothing expected; pass equals, at_most or at_least")
    if expected.equals is not None and expected.equals.keys() not in ({""}, numbers.keys()):
        raise ValueError(f"claim {number}: equals has the labels {[*expected.equals]}, measured {[*numbers]}")
    if kind not in PLURALS:
        raise ValueError(f"claim {number}: kind={kind!r}; pass one of {', '.join(map(repr, PLURALS))}")
    if kind == "observation" and not scope:
        raise ValueError(f"claim {number}: an observation holds for what was observed; name it: scope='...'")
    if kind == "law" and number not in _predicted:
        raise ValueError(f"claim {number}: a law is predicted before it is measured; call predict({number!r}, ...)")


def _exact(x: SupportsFloat) -> str:
    return str(x) if isinstance(x, Integral) else repr(float(x))


def _significant(x: float, digits: int, zeros: bool = True) -> str:
    """A number to that many significant digits, trailing zeros included; without an exponent where it reads well."""
    text = f"{x:#.{digits}g}" if zeros else f"{x:.{digits}g}"
    if "e" in text and 1 <= abs(float(text)) < 1e6:
        text = f"{float(text):.0f}"
    return text.replace(".e", "e").removesuffix(".")


def _listed(shown: Mapping[str, str]) -> str:
    return ", ".join(f"{label}: {x}" if label else x for label, x in shown.items())


def _show(text: str, html: str) -> None:
    display(_Line(text, html))


_predicted: list[str] = []  # the numbers of the claims that this process has predicted
_checked: list[tuple[str, Kind]] = []  # the numbers and kinds of the claims that this process has checked, in order
