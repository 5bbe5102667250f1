"""A grid of named values: its axes, its points, and results labelled by them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray
from numpy.typing import NDArray

from scaleinv._sweep.kinds import FORMER_NAMES, Hyperparameter, Keyword, Kind, arguments_of, is_live, kinds_in


@dataclass(frozen=True)
class Grid:
    """What a sweep varies, checked.

    Attributes:
        kinds: name → what it stands for.
        axes: name → the values along this axis.
        fixed: name → what is the same everywhere.
        points: in the order of the axes, the last the fastest, name → value of what is not.
    """

    kinds: Mapping[str, Kind]
    axes: Mapping[str, list[Any]]
    fixed: Mapping[str, Any]
    points: list[dict[str, Any]]

    @property
    def keywords(self) -> list[str]:
        """The names that are arguments of the model."""
        return [name for name, kind in self.kinds.items() if isinstance(kind, Keyword)]

    def models(self) -> list[dict[str, Any]]:
        """The model's arguments, each combination once."""
        rows = [tuple({**self.fixed, **point}[name] for name in self.keywords) for point in self.points]
        return [dict(zip(self.keywords, row, strict=True)) for row in dict.fromkeys(rows)]

    @property
    def hyperparameters(self) -> list[str]:
        """The names that are the optimizer's."""
        return [name for name, kind in self.kinds.items() if isinstance(kind, Hyperparameter)]

    def labelled(
        self, curves: NDArray[Any], seeds: Sequence[int], every: int, labels: Mapping[str, Mapping[str, str]]
    ) -> xarray.Dataset:
        """Loss curves of shape (points, seeds, points of a curve) as a Dataset; ``labels``: name → attributes."""
        shape = [len(values) for values in self.axes.values()]
        coordinates = {**self.axes, "seed": list(seeds), "step": every * (1 + np.arange(curves.shape[2]))}
        losses = xarray.Variable(list(coordinates), curves.reshape(*shape, *curves.shape[1:]), {"units": "L"})
        dataset = xarray.Dataset({"losses": losses}, coordinates)
        for name in self.axes:
            unit = self.kinds[name].unit
            dataset[name].attrs.update({"units": unit} if unit else {}, **labels.get(name, {}))
        return dataset


def make_grid(model: Callable[..., Any], optimizer: Callable[..., Any], values: Mapping[str, Any]) -> Grid:
    """The grid of these values.

    Args:
        model, optimizer: as for ``sweep``: their arguments are the names that there are, beside the scales.
        values: name → an axis, one value, or a function of others.

    Raises:
        TypeError, ValueError: if a name or a value is not one that a sweep can train.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"grid={values!r} is not a dict; pass name → values")
    kinds = kinds_in(list(values), model, optimizer)
    axes, fixed, functions = _sort(values, kinds)
    _check_axes(axes)
    _check_functions(functions, [*axes, *fixed])
    points = _expand(axes, fixed, functions)
    kinds = {name: kinds[name] for name in (*axes, *fixed, *functions)}
    for name, kind in kinds.items():
        kind.check([fixed[name]] if name in fixed else [point[name] for point in points], varies=name not in fixed)
    if not is_live(optimizer):
        optimizer(**arguments_of(optimizer, [{**fixed, **point} for point in points], points[0]))
    return Grid(kinds, axes, fixed, points)


class _Values(NamedTuple):
    axes: dict[str, list[Any]]
    fixed: dict[str, Any]
    functions: dict[str, Callable[..., Any]]


def _sort(values: Mapping[str, Any], kinds: Mapping[str, Kind]) -> _Values:
    """The values of the grid by their form."""
    axes, fixed, functions = {}, {}, {}
    for name, value in values.items():
        if callable(value) and not isinstance(value, type):
            functions[name] = value
        elif kinds[name].is_axis(value):
            axes[name] = [x.item() if getattr(x, "ndim", None) == 0 else x for x in value]
        else:
            fixed[name] = value
    return _Values(axes, fixed, functions)


def _check_axes(axes: Mapping[str, list[Any]]) -> None:
    for name, values in axes.items():
        if not values:
            raise ValueError(f"grid[{name!r}] is empty; give at least one value, or leave it out")
        if any(isinstance(x, list | tuple) or getattr(x, "ndim", 0) for x in values):
            raise ValueError(f"grid[{name!r}] is not one row of values; an axis is 1-d")
        if len(set(values)) < len(values):
            raise ValueError(f"grid[{name!r}] has a value twice: {values!r}; each would be trained twice")
    if not axes:
        raise ValueError("grid has no axis; give at least one name a list of values")


def _check_functions(functions: Mapping[str, Callable[..., Any]], names: Sequence[str]) -> None:
    for name, function in functions.items():
        unknown = [argument for argument in inspect.signature(function).parameters if argument not in names]
        if unknown:
            renamed = {old: new for old, new in FORMER_NAMES.items() if old in unknown}
            hint = "".join(f"; {old!r} is now called {new!r}" for old, new in renamed.items())
            raise ValueError(f"grid[{name!r}] is a function of {unknown}, not in the grid: {list(names)}{hint}")


def _expand(
    axes: Mapping[str, list[Any]], fixed: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]
) -> list[dict[str, Any]]:
    """For each point of the grid, name → value of what is not the same everywhere."""
    arguments = {name: list(inspect.signature(function).parameters) for name, function in functions.items()}
    points = []
    for values in product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        known = {**fixed, **point}
        for name, function in functions.items():
            point[name] = function(**{argument: known[argument] for argument in arguments[name]})
        points.append(point)
    return points
