"""Claims of the book: each is checked where it is stated, shown in one stable line, and able to fail."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import SupportsFloat

from scaleinv.book._extra import book_dependencies

with book_dependencies():
    from IPython.display import display

__all__ = ["ClaimFailed", "about", "claim", "verdict"]


class ClaimFailed(AssertionError):
    """A measured number is not what its claim states.

    >>> from scaleinv.book.claims import ClaimFailed, claim
    >>> try:
    ...     claim("0.1", "two and two", 2 + 2, equals=5)
    ... except ClaimFailed as failure:
    ...     print(failure)
    claim 0.1: two and two: expected 5, measured 4.0
    """


def claim(  # noqa: PLR0913 (its options are its API)
    identity: str,
    statement: str,
    measured: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    equals: float | None = None,
    tolerance: float = 0.0,
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """Check ``measured`` against what is expected, and show both in one line.

    Args:
        identity: the chapter and a number in it, such as "1.3".
        statement: what is claimed, in words.
        measured: a number, or a dict from labels to numbers, each of which has to be as expected.
        equals: the expected value.
        tolerance: the largest deviation from ``equals``, as a share of it; 0 for none.
        at_most: an upper bound.
        at_least: a lower bound.

    Raises:
        ClaimFailed: if a number is not as expected, or is NaN.
        TypeError: if none of equals, at_most and at_least is passed.
        ValueError: if ``measured`` is empty.

    The line shows a number exactly if ``equals`` without a tolerance is expected. Otherwise it follows ≈, which marks
    what may differ a little on another machine; the comparison of stored outputs leaves it out (tests/sanitize.cfg).

    >>> from scaleinv.book.claims import claim
    >>> claim("0.1", "two and two", 2 + 2, equals=4)
    claim 0.1: two and two: 4 (expected 4) ✓
    >>> claim("0.2", "a share", {"of 3": 1 / 3, "of 4": 1 / 4}, at_most=0.5)
    claim 0.2: a share: of 3 ≈ 0.33, of 4 ≈ 0.25 (expected ≤ 0.5) ✓
    """
    labelled = measured if isinstance(measured, Mapping) else {"": measured}
    numbers = {label: float(x) for label, x in labelled.items()}
    expected = _Expectation(equals, tolerance, at_most, at_least)
    if not numbers:
        raise ValueError(f"claim {identity}: measured={measured!r} holds no number")
    if not str(expected):
        raise TypeError(f"claim {identity}: nothing expected; pass equals, at_most or at_least")
    failed = {label: repr(x) for label, x in numbers.items() if not expected.holds_for(x)}
    if failed:
        raise ClaimFailed(f"claim {identity}: {statement}: expected {expected}, measured {_listed(failed)}")
    _checked.append(identity)
    shown = _listed({label: f"{x:g}" if expected.is_exact else about(x) for label, x in numbers.items()})
    anchor = f"claim-{identity}-{_checked.count(identity)}"  # the ledger links to it
    _show(
        f"claim {identity}: {statement}: {shown} (expected {expected}) ✓",
        f'<p class="claim" id="{escape(anchor)}"><b>claim {escape(identity)}</b> <span>{escape(statement)}</span>: '
        f"<span>{escape(shown)}</span> (expected <span>{escape(str(expected))}</span>) ✓</p>",
    )


def verdict() -> None:
    """Show which claims this process has checked. All of them hold: a claim that does not hold raises.

    Raises:
        ClaimFailed: if no claim has been checked.

    >>> from scaleinv.book.claims import claim, verdict
    >>> claim("0.3", "two and two", 2 + 2, equals=4)
    claim 0.3: two and two: 4 (expected 4) ✓
    >>> verdict()  # doctest: +ELLIPSIS
    verdict: ... checks of the claims ...0.3: all hold ✓
    """
    if not _checked:
        raise ClaimFailed("verdict: no claim has been checked")
    line = f"{len(_checked)} checks of the claims {', '.join(dict.fromkeys(_checked))}: all hold ✓"
    _show(f"verdict: {line}", f'<p class="claim"><b>verdict</b> {escape(line)}</p>')


def about(value: SupportsFloat, digits: int = 2) -> str:
    """A measured value to a few digits, after ≈, which marks what another machine may print differently.

    >>> from scaleinv.book.claims import about
    >>> print(about(2 / 3), about(2 / 3, 4))
    ≈ 0.67 ≈ 0.6667
    """
    return f"≈ {float(value):.{digits}g}"


@dataclass(frozen=True)
class _Expectation:
    """What a number has to be; as text, "" if nothing is expected."""

    equals: float | None
    tolerance: float
    at_most: float | None
    at_least: float | None

    def holds_for(self, x: float) -> bool:
        return (
            not math.isnan(x)
            and (self.equals is None or abs(x - self.equals) <= self.tolerance * abs(self.equals))
            and (self.at_most is None or x <= self.at_most)
            and (self.at_least is None or x >= self.at_least)
        )

    @property
    def is_exact(self) -> bool:
        return self.equals is not None and not self.tolerance

    def __str__(self) -> str:
        parts = []
        if self.equals is not None:
            parts.append(f"{self.equals:g}" + (f" ± {100 * self.tolerance:g} %" if self.tolerance else ""))
        if self.at_most is not None:
            parts.append(f"≤ {self.at_most:g}")
        if self.at_least is not None:
            parts.append(f"≥ {self.at_least:g}")
        return " and ".join(parts)


@dataclass(frozen=True, repr=False)
class _Line:
    """A line of text, which a notebook shows as HTML."""

    text: str
    html: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def _listed(shown: Mapping[str, str]) -> str:
    return ", ".join(f"{label} {x}".strip() for label, x in shown.items())


def _show(text: str, html: str) -> None:
    display(_Line(text, html))


_checked: list[str] = []  # the identities of the claims that this process has checked, in order
