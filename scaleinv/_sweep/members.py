"""The law at work: members of different hyperparameters, rewritten as members of the same in other units.

A training with lr is the training with lr₀ whose parameters are stored k = lr₀/lr times as large and whose loss is
c = k times as large, so that eps stays too.  In general a member may be rescaled by any k and c if each of its
hyperparameters, of unit Lᵃ Wᵇ, becomes cᵃ·kᵇ times what it was.  Two hyperparameters of different units are enough to
find k and c; members for which all others then agree too can be trained by one optimizer.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaleinv._entries import entries, split_key
from scaleinv._hyperparameters import values_of
from scaleinv._infer import infer_units
from scaleinv._sweep.kinds import Point
from scaleinv._sweep.live import Factory
from scaleinv.known_optimizers import KNOWN, units_of
from scaleinv.units import ONE, Unit, Units

WIDEST = 20 * math.log(2)  # how far apart the scales of members of one optimizer may be, far from the ends of float32


class Members(NamedTuple):
    """The members of a sweep, as they are trained.

    Attributes:
        points: for each, name → value of what is its own.
        stacks: for each, which members it shares an optimizer with.
        units: the units of the hyperparameters, where they are known.
    """

    points: Sequence[Point]
    stacks: Sequence[int]
    units: Units | None = None

    @property
    def order(self) -> NDArray[np.intp]:
        """The members stack by stack."""
        return np.argsort(self.stacks, kind="stable")

    def stack_list(self) -> list[list[int]]:
        """The members of each stack."""
        of: dict[int, list[int]] = {}
        for i, stack in enumerate(self.stacks):
            of.setdefault(stack, []).append(i)
        return list(of.values())


Values = Mapping[str, Any]  # hyperparameter, or entry such as betas[0] -> value


def units_for(factory: Factory, settings: Mapping[str, Any]) -> Units | None:
    """The units of a live optimizer's hyperparameters, measured where they are not known; None where there are none."""
    try:
        if isinstance(factory.cls, type) and factory.cls in KNOWN:
            return units_of(factory.cls, {**factory.bound, **settings})
        return infer_units(factory.function, settings)
    except (TypeError, ValueError):
        return None


def unit_of(units: Units | None, key: str) -> Unit | None:
    """The unit of a hyperparameter or of an entry of one."""
    name, index = split_key(key)
    unit = units.hyperparameters.get(name) if units else None
    if isinstance(unit, tuple):
        return None if index is None else unit[index]
    return unit


def as_they_are(points: Sequence[Point], fixed: Point, factory: Factory) -> Members:
    """The members in the units of the grid: a stack has the same hyperparameters."""
    stacks: dict[str, int] = {}
    of = [stacks.setdefault(repr(factory.settings({**fixed, **point})), len(stacks)) for point in points]
    return Members(points, of)


def in_common_units(points: Sequence[Point], fixed: Point, factory: Factory, names: Iterable[str]) -> Members:
    """The members in units in which as many as possible have the same hyperparameters.

    Args:
        points: for each member, name → value of what is its own.
        fixed: name → value, for what is the same in all members.
        factory: of a live optimizer.
        names: those of the hyperparameters in points and fixed.
    """
    own = [name for name in names if name in points[0]]
    combined = {tuple(point[name] for name in own): point for point in points}  # each combination once
    settings = [factory.settings({**fixed, **point}) for point in combined.values()]
    if len(combined) == 1:
        return as_they_are(points, fixed, factory)
    base = values_of(factory.function, {})[0]
    values = [dict(entries(_typed({**base, **chosen}, base))) for chosen in settings]
    first, carried, number, units = list(combined.values()), {}, 0, None
    for group in _alike(values).values():
        units = units_for(factory, settings[group[0]])
        for stack in _stacks([values[i] for i in group], units):
            reference = first[group[stack.members[0]]]
            for member, scales in zip(stack.members, stack.scales, strict=True):
                key = tuple(first[group[member]][name] for name in own)
                carried[key] = number, {name: reference[name] for name in own}, scales
            number += 1
    return _rewritten(points, own, {**{"weight": 1.0, "loss": 1.0}, **fixed}, carried)._replace(units=units)


def _alike(values: Sequence[Values]) -> dict[str, list[int]]:
    """Members that differ in positive floats only: in no flag, and in nothing that is 0, which may switch something."""
    groups: dict[str, list[int]] = {}
    for i, member in enumerate(values):
        pattern = {key: None if _is_scalable(x) else x for key, x in member.items()}
        groups.setdefault(repr(sorted(pattern.items())), []).append(i)
    return groups


def _typed(values: Values, like: Values) -> Values:
    """With floats in place of the integers of hyperparameters that are floats."""
    return {name: float(x) if type(like.get(name)) is float and type(x) is int else x for name, x in values.items()}


def _is_scalable(x: Any) -> bool:
    return isinstance(x, float) and 0 < x < math.inf


class _Stack(NamedTuple):
    members: list[int]
    scales: list[tuple[float, float]]  # for each the factors (loss, weight)


def _stacks(values: Sequence[Values], units: Units | None) -> Iterator[_Stack]:
    """The fewest stacks of members that agree once two hyperparameters, the pivots, have become the same."""
    floats = [key for key, x in values[0].items() if _is_scalable(x)]
    having = {key: unit for key in floats if (unit := unit_of(units, key)) not in (None, ONE)}
    rigid = [[member[key] for key in floats if key not in having] for member in values]
    logs = np.log([[member[key] for key in having] for member in values]).reshape(len(values), len(having))
    exponents = np.array([[float(u.loss), float(u.weight)] for u in having.values()]).reshape(-1, 2)
    best: tuple[list[str], dict[Any, list[int]]] | None = None
    for pivots in _pivots(having):
        solution = _solution([having[key] for key in pivots])
        at = [list(having).index(key) for key in pivots]
        scales = (logs[:1, at] - logs[:, at]) @ np.array(solution, dtype=float).reshape(2, len(at)).T
        others = np.round(logs + scales @ exponents.T, 10)
        far = np.floor((scales - scales.min(axis=0)) / WIDEST)
        stacks: dict[Any, list[int]] = {}
        for i, key in enumerate(zip(map(tuple, rigid), map(tuple, others), map(tuple, far), strict=True)):
            stacks.setdefault(key, []).append(i)
        if best is None or len(stacks) < len(best[1]):
            best = pivots, stacks
    assert best is not None
    pivots, stacks = best
    solution = _solution([having[key] for key in pivots])
    for members in stacks.values():
        to = values[members[0]]
        ratios = [[to[key] / values[i][key] for key in pivots] for i in members]
        yield _Stack(members, [(_product(r, solution[0]), _product(r, solution[1])) for r in ratios])


def _pivots(units: Mapping[str, Unit]) -> Iterator[list[str]]:
    """None, each, and each pair of different units."""
    for number in (0, 1, 2):
        for keys in combinations(units, number):
            a, b = (units[key] for key in keys) if number == 2 else (Unit(1, 0), Unit(0, 1))
            if a.loss * b.weight != a.weight * b.loss:
                yield list(keys)


def _solution(pivots: Sequence[Unit]) -> tuple[list[Fraction], list[Fraction]]:
    """The exponents with which the factors of pivots make up those of the loss and of the parameters.

    Of one pivot alone the loss if it can, for then the parameters stay as they are.
    """
    if not pivots:
        return [], []
    if len(pivots) == 1:
        (a,) = pivots
        return ([1 / a.loss], [Fraction(0)]) if a.loss else ([Fraction(0)], [1 / a.weight])
    a, b = pivots
    determinant = a.loss * b.weight - a.weight * b.loss
    of_loss, of_weight = [b.weight, -a.weight], [-b.loss, a.loss]
    return [x / determinant for x in of_loss], [x / determinant for x in of_weight]


def _product(ratios: Sequence[float], powers: Sequence[Fraction]) -> float:
    return math.prod(ratio ** float(power) for ratio, power in zip(ratios, powers, strict=True))


def _rewritten(
    points: Sequence[Point], own: Sequence[str], default: Point, carried: Mapping[Any, tuple[int, Point, Any]]
) -> Members:
    """The points with the hyperparameters of their stack and, where some are not 1, the two scales."""
    moved = [any(scales[i] != 1 for _, _, scales in carried.values()) for i in (0, 1)]
    new, stacks = [], []
    for point in points:
        stack, values, scales = carried[tuple(point[name] for name in own)]
        factors = {
            name: factor * point.get(name, default[name])
            for name, factor, is_moved in zip(("loss", "weight"), scales, moved, strict=True)
            if is_moved
        }
        new.append({**point, **values, **factors})
        stacks.append(stack)
    return Members(new, stacks)
