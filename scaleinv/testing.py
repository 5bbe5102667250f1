"""Assertions for the tests of an optimizer: its hyperparameters have these units, its update these symmetries.

For authors of optimizers, in the manner of ``torch.testing``.  Both measure from outside: they need no loss, no model
and no reference.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias

from scaleinv._entries import key_of, split_key
from scaleinv._hyperparameters import Factory, has_floats, values_of
from scaleinv._infer import DEFAULTS, InferredUnits, check_factory, infer_units
from scaleinv._symmetry import ROTATIONS, SCALES, Symmetries, symmetries_of
from scaleinv.units import Unit

__all__ = ["assert_symmetry", "assert_units"]

Expected: TypeAlias = Unit | str | tuple[Unit | str | None, ...] | None


def assert_units(
    factory: Factory, hyperparameters: Mapping[str, Any] = DEFAULTS, /, **expected: Expected
) -> InferredUnits:
    """Assert that the hyperparameters of an optimizer have these units.

    Args:
        factory: makes the optimizer, as for ``infer_units``.
        hyperparameters: name → value; the factory's defaults for all others.
        expected: name → unit: a ``Unit``, or a text such as ``"W"``, ``"L/W"`` or ``"L W^-1"``; for a tuple such as
            betas one for all entries, or a tuple of them; None where no unit can be measured.

    Returns:
        All that ``infer_units`` measured, of the hyperparameters too that are not named.

    Raises:
        AssertionError: if a unit is another, or if units do not explain the runs; it says what was measured.
        TypeError: if a unit is not one, the factory cannot be called, or the hyperparameters are not a dict.
        ValueError: if no unit is given, a text is not a unit, the optimizer has no such hyperparameter, or cannot be
            run.

    >>> import torch
    >>> from scaleinv.testing import assert_units
    >>> assert_units(torch.optim.AdamW, lr="W", eps="L/W", weight_decay="1/W").verdict
    'bitwise'
    >>> assert_units(torch.optim.SGD, lr="W")
    Traceback (most recent call last):
    ...
    AssertionError: SGD does not have these units: lr is L⁻¹ W², not W
    """
    if not expected:
        raise ValueError("no unit is given; pass one for each hyperparameter, as in assert_units(MyOptimizer, lr='W')")
    wanted = {name: _unit(name, unit) for name, unit in expected.items()}
    check_factory(factory, hyperparameters)
    for key in wanted:
        _check_name(factory, hyperparameters, split_key(key)[0])
    units = infer_units(factory, hyperparameters)
    pairs = [pair for name, unit in wanted.items() for pair in _pairs(name, unit, units)]
    wrong = [
        f"{key} is {units.unit_text(key, unit)}, not {want or 'none'}" for key, unit, want in pairs if unit != want
    ]
    if units.verdict == "inconsistent":
        raise AssertionError(f"{units.name} has no consistent units. {units.reason}\n{units}")
    if wrong:
        raise AssertionError(f"{units.name} does not have these units: {'; '.join(wrong)}")
    return units


def _unit(name: str, unit: Expected) -> Any:
    """A unit, or a tuple of units, from what may be texts."""
    if isinstance(unit, tuple | list):
        return tuple(_unit(key_of(name, i), each) for i, each in enumerate(unit))
    if unit is None or isinstance(unit, Unit):
        return unit
    if not isinstance(unit, str):
        raise TypeError(f"{name}={unit!r} is not a unit; pass a Unit, or a text such as 'W' or 'L/W'")
    try:
        return Unit.parse(unit)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _pairs(key: str, wanted: Any, units: InferredUnits) -> Iterator[tuple[str, Unit | None, Unit | None]]:
    """(key, unit measured, unit wanted) of a hyperparameter, or of each entry where one of both is a tuple."""
    name, index = split_key(key)
    measured: Any = units.hyperparameters[name]
    if index is not None and isinstance(measured, tuple):
        measured = measured[index]
    lengths = {len(each) for each in (measured, wanted) if isinstance(each, tuple)}
    if not lengths:
        yield key, measured, wanted
        return
    if len(lengths) > 1:
        raise ValueError(f"{name}: {len(wanted)} units are given, and it has {len(measured)} entries")
    for i in range(lengths.pop()):
        yield key_of(name, i), *(each[i] if isinstance(each, tuple) else each for each in (measured, wanted))


def _check_name(factory: Factory, hyperparameters: Mapping[str, Any], name: str) -> None:
    """Check that the optimizer has a float hyperparameter of this name."""
    values, _ = values_of(factory, hyperparameters)
    if has_floats(values, name):
        return
    if name in values:
        raise ValueError(f"{name}={values[name]!r} is not a float, and has no unit")
    floats = [each for each in values if has_floats(values, each)]
    near = get_close_matches(name, floats, n=1)
    advice = f"did you mean {near[0]}?" if near else f"it has {', '.join(floats)}"
    raise ValueError(f"{getattr(factory, '__name__', repr(factory))} has no hyperparameter {name}; {advice}")


def assert_symmetry(
    factory: Factory,
    hyperparameters: Mapping[str, Any] = DEFAULTS,
    /,
    *,
    scales: str | None = None,
    rotations: str | None = None,
) -> Symmetries:
    """Assert which factors of the gradient leave an optimizer's update alone, and with which rotations it goes along.

    Args:
        factory: makes the optimizer, as for ``symmetries_of``.
        hyperparameters: name → value; the factory's defaults for all others.
        scales: the finest factors: "entry", "row", "column", "row, column", "tensor", "global" or "none".
        rotations: the widest rotations: "global", "tensor", "rows, columns", "rows", "columns" or "none".

    Returns:
        All that ``symmetries_of`` measured.

    Raises:
        AssertionError: if one is another, a finer or wider one too; it says by how much the update changes.
        TypeError: if ``scales`` or ``rotations`` is not a text, the factory cannot be called, or the hyperparameters
            are not a dict.
        ValueError: if neither is given, one is not such a word, or the optimizer cannot be run.

    >>> import torch
    >>> from scaleinv.testing import assert_symmetry
    >>> assert_symmetry(torch.optim.Adam, scales="entry", rotations="none").scaled["entry"]
    0.0
    >>> assert_symmetry(torch.optim.SGD, scales="global")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    AssertionError: SGD does not have these symmetries: its scales are none, not global
    ...
    """
    wanted = {
        "scales": _words("scales", scales, SCALES, "row, column"),
        "rotations": _words("rotations", rotations, ROTATIONS, "rows, columns"),
    }
    if wanted == {"scales": None, "rotations": None}:
        raise ValueError("no symmetry is given; pass one, as in assert_symmetry(MyOptimizer, scales='entry')")
    symmetries = symmetries_of(factory, hyperparameters)
    measured = {name: getattr(symmetries, name) for name in wanted}
    wrong = [
        f"its {name} are {measured[name]}, not {words}"
        for name, words in wanted.items()
        if words is not None and measured[name] != words
    ]
    if wrong:
        raise AssertionError(f"{symmetries.name} does not have these symmetries: {'; '.join(wrong)}\n{symmetries}")
    return symmetries


def _words(name: str, words: str | None, single: tuple[str, ...], pair: str) -> str | None:
    """The words in the order and with the commas of the result."""
    if words is None:
        return None
    choices = (*single, pair, "none")
    if not isinstance(words, str):
        raise TypeError(f"{name}={words!r} is not a text; pass one of {', '.join(map(repr, choices))}")
    given = {word.strip() for word in words.split(",")}
    for choice in choices:
        if given == set(choice.split(", ")):
            return choice
    raise ValueError(f"{name}={words!r} is not known; pass one of {', '.join(map(repr, choices))}")
