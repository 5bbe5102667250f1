"""Identical blocks as one: names that differ only in the numbers of their blocks, written as a range."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from scaleinv._audit.findings import Finding
from scaleinv._audit.row import Row

_Part: TypeAlias = str | frozenset[int]  # of a name, between dots: a word, or the numbers that stand there


@dataclass(frozen=True)
class Fold:
    """Rows that are shown as one.

    Attributes:
        name: of one parameter, or what their names have in common: "h.0–11.attn.weight".
        rows: alike in shape, dtype, layer, optimizer, group and findings.
        findings: the numbers, from 1, of the findings that name them.
    """

    name: str
    rows: tuple[Row, ...]
    findings: tuple[int, ...] = ()


def folds_of(rows: Sequence[Row], findings: Sequence[Finding], *, folded: bool = True) -> list[Fold]:
    """Rows by block, in the order of the model; each by itself if not ``folded``."""
    numbers: dict[str, list[int]] = {}
    for number, finding in enumerate(findings, 1):
        for parameter in dict.fromkeys(finding.parameters):
            numbers.setdefault(parameter, []).append(number)
    seen_in = [tuple(numbers.get(row.parameter, ())) for row in rows]
    if not folded:
        return [Fold(row.parameter, (row,), seen) for row, seen in zip(rows, seen_in, strict=True)]
    keys = [(_kind(row), seen) for row, seen in zip(rows, seen_in, strict=True)]
    groups = fold_names([row.parameter for row in rows], keys)
    return [Fold(name, tuple(rows[i] for i in places), seen_in[places[0]]) for name, places in groups]


def fold_names(names: Sequence[str], keys: Sequence[Hashable] = ()) -> list[tuple[str, list[int]]]:
    """Fold names of one key that differ only in numbers between dots.

    Args:
        names: of parameters.
        keys: what else has to be equal for names to be folded, one for each name; without them, nothing.

    Returns:
        (what a group of names is called, the places of the group's names in ``names``), in order of the first ones.

    >>> from scaleinv._audit.folding import fold_names
    >>> fold_names(["h.0.fc.weight", "h.1.fc.weight", "h.2.fc.weight", "head.weight"])
    [('h.0–2.fc.weight', [0, 1, 2]), ('head.weight', [3])]
    """
    groups: dict[tuple[Hashable, tuple[_Part, ...]], list[int]] = {}
    for place, name in enumerate(names):
        parts = tuple(frozenset([int(part)]) if _is_number(part) else part for part in name.split("."))
        groups.setdefault((keys[place] if keys else None, parts), []).append(place)
    for position in range(max((len(parts) for _, parts in groups), default=0)):
        groups = _merged(groups, position)
    named = [(".".join(map(_written, parts)), sorted(places)) for (_, parts), places in groups.items()]
    return sorted(named, key=lambda group: group[1][0])


def brief_names(names: Sequence[str], most: int) -> str:
    """Names, folded, of which at most so many are written out, and the number of the parameters that are not.

    >>> from scaleinv._audit.folding import brief_names
    >>> brief_names(["h.0.fc.weight", "h.1.fc.weight", "h.0.fc.bias", "h.1.fc.bias", "head.weight"], most=2)
    'h.0–1.fc.weight, h.0–1.fc.bias and 1 more'
    """
    groups = fold_names(names)
    left = sum(len(places) for _, places in groups[most:])
    return ", ".join(name for name, _ in groups[:most]) + (f" and {left} more" if left else "")


def _kind(row: Row) -> Hashable:
    """What rows have to have in common to be shown as one."""
    return (row.shape, row.dtype, row.layer, row.status, row.optimizer, row.group, row.weight, row.names[1:])


def _is_number(part: str) -> bool:
    return part.isdecimal() and str(int(part)) == part  # "007" is a word: it could not be written back


def _merged(
    groups: dict[tuple[Hashable, tuple[_Part, ...]], list[int]], position: int
) -> dict[tuple[Hashable, tuple[_Part, ...]], list[int]]:
    """Groups that differ only in the numbers at one position become one."""
    alike: dict[Hashable, list[tuple[Hashable, tuple[_Part, ...]]]] = {}
    for key, parts in groups:
        has_numbers = position < len(parts) and isinstance(parts[position], frozenset)
        others = (parts[:position], parts[position + 1 :]) if has_numbers else parts
        alike.setdefault((key, has_numbers, others), []).append((key, parts))
    merged = {}
    for members in alike.values():
        key, together = members[0][0], list(members[0][1])
        if len(members) > 1:
            together[position] = frozenset[int]().union(*(parts[position] for _, parts in members))  # type: ignore[arg-type]
        merged[key, (*together,)] = [place for member in members for place in groups[member]]
    return merged


def _written(part: _Part) -> str:
    """A word as it is; numbers as ranges, of many only the first two and the last.

    >>> from scaleinv._audit.folding import _written
    >>> _written(frozenset(range(12))), _written(frozenset([0, 1, 2, 5])), _written(frozenset(range(0, 30, 2)))
    ('0–11', '0–2,5', '0,2,…,28')
    """
    if isinstance(part, str):
        return part
    runs = [f"{first}–{last}" if first < last else f"{first}" for first, last in _runs(sorted(part))]
    return ",".join(runs if len(runs) <= 4 else [*runs[:2], "…", runs[-1]])


def _runs(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    """The first and the last of each run of consecutive numbers."""
    first = numbers[0]
    for before, after in pairwise(numbers):
        if after != before + 1:
            yield first, before
            first = after
    yield first, numbers[-1]
