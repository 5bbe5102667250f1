"""A grid of named values: its axes, its points, and results labelled by them."""

import inspect
import math
from collections.abc import Mapping
from functools import partial
from itertools import product
from numbers import Real

import numpy as np
import xarray

from scaleinv._sweep.ensemble import arguments_of, hyperparameters_of
from scaleinv.known_optimizers import UNITS


class Grid:
    """What a sweep varies, checked.

    Args:
        model, optimizer: as for ``sweep``: what they take as arguments are the names that there are.
        values: name → an axis, one value, or a function of others.

    Attributes:
        axes: name → the values along this axis.
        fixed: name → what is the same everywhere.
        points: in the order of the axes, the last the fastest, a dict name → value of what is not.
    """

    def __init__(self, model, optimizer, values):
        if isinstance(optimizer, type):
            raise TypeError(
                f"optimizer={optimizer!r} is not one of scaleinv.optimizers; pass one, such as optimizers.adam"
            )
        if not isinstance(values, Mapping):
            raise TypeError(f"grid={values!r} is not a dict; pass name → values")
        self.optimizer = optimizer
        self.hyperparameters = hyperparameters_of(optimizer)
        own = [*self.hyperparameters, "k", "c"]
        names = own + [name for name in inspect.signature(model).parameters if name not in (*own, "seed")]
        self.axes, self.fixed, follow = {}, {}, {}
        for name, value in dict(values).items():
            if name not in names:
                raise ValueError(f"grid has {name!r}, which nothing here takes; the names are {', '.join(names)}")
            if callable(value) and not isinstance(value, type):
                follow[name] = value
            elif self._is_axis(name, value):
                self.axes[name] = [x.item() if getattr(x, "ndim", None) == 0 else x for x in value]
            else:
                self.fixed[name] = value
        self._check_axes()
        self.points = [dict(zip(self.axes, values)) for values in product(*self.axes.values())]
        for name, function in follow.items():
            wanted = list(inspect.signature(function).parameters)
            unknown = [n for n in wanted if n not in self.axes and n not in self.fixed]
            if unknown:
                raise ValueError(
                    f"grid[{name!r}] is a function of {unknown}, not in the grid: {[*self.axes, *self.fixed]}"
                )
            for point in self.points:
                known = self.fixed | point
                point[name] = function(**{n: known[n] for n in wanted})
        self.keywords = [name for name in (*self.axes, *self.fixed, *follow) if name not in own]
        self._check_values(follow)

    def _is_axis(self, name, value):
        if isinstance(self.hyperparameters.get(name), tuple):
            if not isinstance(value, tuple | list) or not all(isinstance(x, Real) for x in value):
                raise TypeError(
                    f"grid[{name!r}]={value!r} is not a pair; for an axis name an entry, such as '{name}[0]'"
                )
            return False
        return isinstance(value, list | tuple | range) or getattr(value, "ndim", 0) > 0

    def _check_axes(self):
        for name, values in self.axes.items():
            if not values:
                raise ValueError(f"grid[{name!r}] is empty; give at least one value, or leave it out")
            if any(isinstance(x, list | tuple) or getattr(x, "ndim", 0) for x in values):
                raise ValueError(f"grid[{name!r}] is not one row of values; an axis is 1-d")
            if len(set(values)) < len(values):
                raise ValueError(f"grid[{name!r}] has a value twice: {values!r}; each would be trained twice")
        if not self.axes:
            raise ValueError("grid has no axis; give at least one name a list of values")

    def _check_values(self, follow):
        """What the optimizer, and a scale, may be."""
        for name in (*self.axes, *self.fixed, *follow):
            fixed = name in self.fixed
            values = [self.fixed[name]] if fixed else [point[name] for point in self.points]
            numbers = all(isinstance(x, Real) and not isinstance(x, bool) for x in values)
            if name in ("k", "c"):
                wrong = [x for x in values if not numbers or not 0 < x < math.inf]
                if wrong:
                    raise ValueError(f"grid[{name!r}] has {wrong[0]!r}; a scale is a positive, finite number")
            elif name in self.hyperparameters:
                if not fixed and not numbers:
                    raise TypeError(f"grid[{name!r}] has {values!r}; along an axis a hyperparameter is a number")
        points = [self.fixed | point for point in self.points]
        self.optimizer(**arguments_of(self.optimizer, points, self.points[0]))

    def labelled(self, curves, seeds, every):
        """Loss curves of shape (points, seeds, points of a curve) as an ``xarray.Dataset``."""
        shape = [len(values) for values in self.axes.values()]
        coordinates = {**self.axes, "seed": list(seeds), "step": every * (1 + np.arange(curves.shape[2]))}
        dataset = xarray.Dataset({"loss": (list(coordinates), curves.reshape(*shape, *curves.shape[1:]))}, coordinates)
        dataset.loss.attrs["units"] = "L"
        for name in self.axes:
            unit = self._unit(name)
            if unit is not None:
                dataset[name].attrs["units"] = unit
        return dataset

    def _unit(self, name):
        if name in ("k", "c"):
            return "1"
        rule = self.optimizer.func if isinstance(self.optimizer, partial) else self.optimizer
        units = next((u for cls, u in UNITS.items() if cls.__name__.lower() == rule.__name__), None)
        base, _, entry = name.partition("[")
        unit = units.hyperparameters.get(base) if units else None
        unit = unit[int(entry[:-1])] if entry and isinstance(unit, tuple) else unit
        return None if unit is None else str(unit)
