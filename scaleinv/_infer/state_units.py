"""The units of an optimizer's state, read off from its ratios between rescaled runs."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import product, zip_longest
from typing import Any

import torch

from scaleinv._infer.exponents import DENOMINATOR
from scaleinv._infer.runs import ByName, RescaledRuns
from scaleinv._leaves import Leaf, leaves, values_of_buffer
from scaleinv.units import Unit

Exponent = Fraction | None  # None for a change that is not a power of the scale


def state_units(all_runs: Iterable[RescaledRuns]) -> ByName:
    """The unit of every state buffer, and of every number that the optimizer keeps in a parameter group, that has the
    same one for all parameters, in all of these runs."""
    exponents: dict[str, tuple[set[Exponent], set[Exponent]]] = {}  # name → a set for the loss, one for the parameters
    for runs, axis in product(all_runs, (0, 1)):
        for name, exponent in _exponents_by_buffer(runs, axis):
            exponents.setdefault(name, (set(), set()))[axis].update(exponent)
    single = {name: (_single(loss), _single(weight)) for name, (loss, weight) in exponents.items()}
    return {
        name: Unit(loss, weight) for name, (loss, weight) in single.items() if loss is not None and weight is not None
    }


def _single(exponents: set[Exponent]) -> Exponent:
    """The only exponent, or None if there are several or none."""
    return next(iter(exponents)) if len(exponents) == 1 else None


def _exponents_by_buffer(runs: RescaledRuns, axis: int) -> Iterator[tuple[str, set[Exponent]]]:
    plain = _states(runs.reference.optimizer)
    for power, run in (runs.loss, runs.weight)[axis]:
        for before, after in zip(plain, _states(run.optimizer) if run else [], strict=False):
            for one, other in zip_longest(before, after):
                if one is not None and other is not None and one.name == other.name:
                    yield one.name, _exponents(one.value, other.value, power)
                else:
                    yield (one or other).name, {None}


def _states(optimizer: Any) -> list[list[Leaf]]:
    """What the optimizer keeps for each parameter, and in each parameter group."""
    state, groups = getattr(optimizer, "state", {}), getattr(optimizer, "param_groups", [])
    of_parameters = [each for each in state.values() if isinstance(each, dict)] if isinstance(state, dict) else []
    of_groups = [{name: value for name, value in group.items() if name != "params"} for group in groups]
    return [list(leaves(each)) for each in of_parameters + of_groups]


def _exponents(before: Any, after: Any, power: int) -> set[Exponent]:
    """The exponents of 2^power by which entries that are not 0 have changed."""
    numbers = torch.Tensor | int | float
    if not (isinstance(before, numbers) and isinstance(after, numbers)) or isinstance(before, bool):
        return {None}
    before, after = (values_of_buffer(torch.as_tensor(value)) for value in (before, after))
    if before.is_sparse or before.shape != after.shape:
        return {None}
    before, after = before.double(), after.double()
    ratios = (after / before)[(before != 0) | (after != 0)].log2() / power
    return {_exponent(ratio) for ratio in set(ratios.tolist())}


def _exponent(ratio: float) -> Exponent:
    if not math.isfinite(ratio):
        return None
    fraction = Fraction(ratio).limit_denominator(DENOMINATOR)
    return fraction if abs(fraction - ratio) < 1e-6 else None
