"""The words that several looks use."""

import re
from collections.abc import Iterable, Sequence

from scaleinv._audit.findings.finding import Observation, Severity
from scaleinv._audit.measurements import Measurements
from scaleinv._audit.row import Row

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # between dots
_MOST = 6  # patterns of names that a sentence writes out; ``Finding.parameters`` has all


def about(rows: Sequence[Row], severity: Severity, size: float, text: str, remedy: str = "") -> Observation:
    """A sentence about the first of the rows, with the number of the others."""
    others = len(rows) - 1
    if others:
        text += f" {other_tensors(others)} {'is' if others == 1 else 'are'} affected too."
    return Observation(severity, text, names_of(rows), size, remedy)


def names_of(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(row.parameter for row in rows)


def other_tensors(number: int) -> str:
    return f"{number} other tensor{'' if number == 1 else 's'}"


def optimizers_of(rows: Iterable[Row]) -> str:
    return " and ".join(dict.fromkeys(row.optimizer for row in rows))


def norms_of(audit: Measurements) -> str:
    return f"the gradient norm is {audit.gradient_norm:.3g}, max_norm is {audit.max_norm:.3g}"


def brief(names: Sequence[str]) -> str:
    """Names in order; those that differ only in a number as one, with the range of it.

    >>> from scaleinv._audit.findings.wording import brief
    >>> brief(["h.0.fc.weight", "h.1.fc.weight", "h.2.fc.weight", "head.weight"])
    'h.0–2.fc.weight, head.weight'
    """
    patterns: dict[str, list[str]] = {}
    for name in names:
        patterns.setdefault(_NUMBER.sub("{}", name), []).append(name)
    written = [name for pattern, alike in patterns.items() for name in _folded(pattern, alike)]
    sizes = [len(alike) if len(alike) > 2 else 1 for alike in patterns.values() for _ in _folded("", alike)]
    left = sum(sizes[_MOST:])
    return ", ".join(written[:_MOST]) + (f" and {left} more" if left else "")


def _folded(pattern: str, names: Sequence[str]) -> list[str]:
    """One name for three or more that differ only in numbers."""
    if len(names) < 3:
        return list(names)
    return [pattern.format(*map(_range, zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)))]


def _range(numbers: Sequence[int]) -> str:
    """All numbers that stand at one place of a name: 0, 0–11, or 0,2,5."""
    different = sorted(set(numbers))
    if len(different) > 2 and different == [*range(different[0], different[-1] + 1)]:
        return f"{different[0]}–{different[-1]}"
    return ",".join(map(str, different if len(different) <= 4 else [*different[:2], "…", different[-1]]))
