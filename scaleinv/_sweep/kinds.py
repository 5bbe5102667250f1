"""The kinds of names in a sweep's grid: what a name stands for, which values it takes, what a member does with them.

A new kind of axis is a class here and a line in ``kinds_in``.  Formulas write k for ``weight`` and c for ``loss``.
"""

import inspect
import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from scaleinv._entries import entries_of, key_of

Point = Mapping[str, Any]  # name -> value, of one member


class Kind:
    """What a name in the grid stands for.

    Attributes:
        name: in the grid.
        meaning: the same in words.
        unit: of the values, where the name alone settles it.
    """

    meaning: str
    unit: str | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def is_axis(self, value: Any) -> bool:
        """Whether a value of the grid is a row of values; TypeError if it is neither that nor a value."""
        return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) > 0

    def check(self, values: Sequence[Any], *, varies: bool) -> None:
        """Raise for a value that no member can have; ``varies``: whether members may differ in it."""


class Hyperparameter(Kind):
    """A hyperparameter of the optimizer, or an entry of one that is a pair."""

    meaning = "a hyperparameter of the optimizer"

    def __init__(self, name: str, default: Any, live: bool = False) -> None:
        super().__init__(name)
        self.default, self.live = default, live

    def is_axis(self, value: Any) -> bool:
        if not isinstance(self.default, tuple):
            return super().is_axis(value)
        if not isinstance(value, tuple | list) or not all(isinstance(x, Real) for x in value):
            entry = key_of(self.name, 0)
            raise TypeError(
                f"grid[{self.name!r}]={value!r} is not a pair; for an axis name an entry, such as {entry!r}"
            )
        return False

    def check(self, values: Sequence[Any], *, varies: bool) -> None:
        """The optimizer checks its hyperparameters itself, once they are numbers; a live one also takes flags."""
        wrong = [x for x in values if not (_is_number(x) or (self.live and isinstance(x, bool | str | None)))]
        if varies and wrong:
            raise TypeError(f"grid[{self.name!r}] has {wrong[0]!r}; along an axis a hyperparameter is a number")
        infinite = [x for x in values if isinstance(x, float) and not math.isfinite(x)] if self.live else []
        if infinite:
            raise ValueError(f"grid[{self.name!r}] has {infinite[0]!r}; a hyperparameter is a finite number")


class Scale(Kind):
    """A pure number by which a member multiplies something.  In each method ``factors`` are those of all members."""

    unit = "1"

    def check(self, values: Sequence[Any], *, varies: bool) -> None:
        wrong = [x for x in values if not _is_number(x) or not 0 < x < math.inf]
        if wrong:
            raise ValueError(f"grid[{self.name!r}] has {wrong[0]!r}; a scale is a positive, finite number")

    def store(self, stack: Tensor, factors: Tensor) -> None:
        """Make initial parameters (members, parameters) in place what the members store."""

    def read(self, stored: Tensor, factor: Tensor) -> Tensor:
        """What the model computes with, from what one member stores."""
        return stored

    def scale_loss(self, loss: Tensor, factor: Tensor) -> Tensor:
        """What one member minimizes."""
        return loss


class WeightScale(Scale):
    """k: parameters are stored k times as large, and the model computes with w/k."""

    meaning = "the scale of the stored parameters"

    def store(self, stack: Tensor, factors: Tensor) -> None:
        stack *= factors[:, None]

    def read(self, stored: Tensor, factor: Tensor) -> Tensor:
        return stored / factor


class LossScale(Scale):
    """c: a member minimizes c times the loss."""

    meaning = "the scale of the loss"

    def scale_loss(self, loss: Tensor, factor: Tensor) -> Tensor:
        return factor * loss


class Keyword(Kind):
    """An argument of the function that makes the model."""

    meaning = "an argument of model"


SCALES = {"weight": WeightScale("weight"), "loss": LossScale("loss")}
FORMER_NAMES = {"k": "weight", "c": "loss"}


def kinds_in(names: Sequence[str], model: Callable[..., Any], optimizer: Callable[..., Any]) -> dict[str, Kind]:
    """name → its kind.

    Raises:
        ValueError: if nothing takes a name, or more than one thing does.
    """
    known: dict[str, list[Kind]] = {}
    for kind in _all_kinds(model, optimizer):
        known.setdefault(kind.name, []).append(kind)
    return {name: _the_kind(name, known) for name in names}


def _all_kinds(model: Callable[..., Any], optimizer: Callable[..., Any]) -> Iterator[Kind]:
    defaults, live = defaults_of(optimizer), is_live(optimizer)
    for name, default in defaults.items():
        yield Hyperparameter(name, default, live)
    for name, default in defaults.items():
        if isinstance(default, tuple):
            yield from (Hyperparameter(key, entry, live) for key, entry in entries_of(name, default))
    yield from SCALES.values()
    yield from (Keyword(name) for name in inspect.signature(model).parameters if name != "seed")


def _the_kind(name: str, known: Mapping[str, Sequence[Kind]]) -> Kind:
    kinds = known.get(name, ())
    if len(kinds) > 1:
        meanings = " and ".join(kind.meaning for kind in kinds)
        raise ValueError(
            f"grid has {name!r}, which is both {meanings}; give the argument another name, "
            f"as model=lambda seed, other: model(seed=seed, {name}=other) does"
        )
    if not kinds and name in FORMER_NAMES:
        new = FORMER_NAMES[name]
        raise ValueError(f"grid has {name!r}; {SCALES[new].meaning} is now called {new!r}: pass grid={{{new!r}: ...}}")
    if not kinds:
        raise ValueError(f"grid has {name!r}, which nothing here takes; the names are {', '.join(known)}")
    return kinds[0]


def is_live(optimizer: Callable[..., Any]) -> bool:
    """Whether ``optimizer(params, **hyperparameters)`` makes an optimizer with torch.optim's interface.

    A rule of ``scaleinv.optimizers`` takes hyperparameters only, all of which have defaults.

    Raises:
        TypeError: if it is neither.
    """
    if not callable(optimizer) or isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer={optimizer!r} does not make optimizers; pass a class such as torch.optim.Adam, "
            "or one of scaleinv.optimizers, such as optimizers.adam"
        )
    first = next(iter(inspect.signature(optimizer).parameters.values()), None)
    return first is not None and first.default is first.empty and first.kind is not first.VAR_KEYWORD


def defaults_of(optimizer: Callable[..., Any]) -> dict[str, Any]:
    """name → default, of an optimizer's hyperparameters."""
    live = is_live(optimizer)
    parameters = list(inspect.signature(optimizer).parameters.values())[live:]
    named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    return {p.name: p.default for p in named}


def arguments_of(optimizer: Callable[..., Any], points: Sequence[Point], varying: Container[str]) -> dict[str, Any]:
    """The optimizer's arguments for the members at these points: a 1-d tensor of each that varies, and of lr."""
    arguments = {}
    for name, default in defaults_of(optimizer).items():
        if isinstance(default, tuple):
            pair = entries_of(name, tuple(points[0].get(name, default)))
            arguments[name] = tuple(_argument(key, entry, points, varying) for key, entry in pair)
        else:
            arguments[name] = _argument(name, default, points, varying)
    return arguments


def _argument(name: str, default: Any, points: Sequence[Point], varying: Container[str]) -> Any:
    if name in varying or name == "lr":
        return torch.tensor([point.get(name, default) for point in points], dtype=torch.float64, device="cpu")
    return points[0].get(name, default)


def _is_number(x: Any) -> bool:
    return isinstance(x, Real) and not isinstance(x, bool)
