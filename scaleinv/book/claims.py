"""A claim of the book: checked where it is made, printed in one stable line, and able to fail."""

import math
from html import escape

from IPython.display import display


class ClaimFailed(AssertionError):
    """What a claim says is not what was measured."""


def claim(identity, statement, measured, *, equals=None, tolerance=0.0, at_most=None, at_least=None):
    """Check ``measured`` against what is expected, and show both in one line.

    Args:
        identity: the chapter and a number in it, such as "1.3".
        statement: what is claimed, in words.
        measured: a number, or a dict from labels to numbers, each of which has to be as expected.
        equals: what it has to be.
        tolerance: up to which share of ``equals``; 0 for exactly.
        at_most: an upper bound, instead.
        at_least: a lower bound, instead or besides.

    Raises:
        scaleinv.claims.ClaimFailed: where it does not hold, or a number is NaN.
        TypeError: where nothing is expected.
        ValueError: where nothing was measured.

    The line shows what was measured: exactly where exactly was expected, and else after ≈, which marks what may read
    a little differently on another machine; the comparison of stored outputs leaves that out (tests/sanitize.cfg).
    """
    numbers = {label: float(x) for label, x in (measured if isinstance(measured, dict) else {"": measured}).items()}
    if not numbers:
        raise ValueError(f"claim {identity}: measured={measured!r} holds no number")
    expectations = []
    if equals is not None:
        expectations.append(f"{equals:g}" + (f" ± {100 * tolerance:g} %" if tolerance else ""))
    if at_most is not None:
        expectations.append(f"≤ {at_most:g}")
    if at_least is not None:
        expectations.append(f"≥ {at_least:g}")
    if not expectations:
        raise TypeError(f"claim {identity}: nothing expected; pass equals, at_most or at_least")

    def holds(x):
        return (
            not math.isnan(x)
            and (equals is None or abs(x - equals) <= tolerance * abs(equals))
            and (at_most is None or x <= at_most)
            and (at_least is None or x >= at_least)
        )

    expected = " and ".join(expectations)
    failed = {label: repr(x) for label, x in numbers.items() if not holds(x)}
    if failed:
        raise ClaimFailed(f"claim {identity}: {statement}: expected {expected}, measured {_listed(failed)}")
    exactly = equals is not None and not tolerance
    shown = {label: f"{x:g}" if exactly else about(x) for label, x in numbers.items()}
    _held.append(identity)
    anchor = f"claim-{identity}-{_held.count(identity)}"  # the ledger links to it
    _show(
        f"claim {identity}: {statement}: {_listed(shown)} (expected {expected}) ✓",
        f'<p class="claim" id="{escape(anchor)}"><b>claim {escape(identity)}</b> <span>{escape(statement)}</span>: '
        f"<span>{escape(_listed(shown))}</span> (expected <span>{escape(expected)}</span>) ✓</p>",
    )


def verdict():
    """Show which claims this process has checked; each holds, for one that does not raises where it is made.

    Raises ClaimFailed where there are none.
    """
    if not _held:
        raise ClaimFailed("verdict: no claim has been checked")
    line = f"{len(_held)} checks of the claims {', '.join(dict.fromkeys(_held))}: all hold ✓"
    _show(f"verdict: {line}", f'<p class="claim"><b>verdict</b> {escape(line)}</p>')


def about(value, digits=2):
    """A measured value to a few digits, marked with ≈ as one that another machine may print differently."""
    return f"≈ {float(value):.{digits}g}"


def _listed(shown):
    return ", ".join(f"{label} {x}".strip() for label, x in shown.items())


def _show(line, html):
    display({"text/plain": line, "text/html": html}, raw=True)


_held = []  # the identities of the claims checked by this process, in order
