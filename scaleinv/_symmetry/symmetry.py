"""Measure the symmetries of any optimizer: what can be done to the gradient without a trace in the update.

An optimizer is given a sequence of gradients, and then the same transformed.  If a factor for each row, say, leaves
the update alone, both trainings are the same, bit for bit for powers of two.  If the update goes along with a rotation
R, that is u(R·G) = R·u(G), the second training, started at R·w, is the first one rotated.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scaleinv._hyperparameters import Factory, Values, values_of
from scaleinv._infer import (
    DEFAULTS,
    ROUNDING,
    LowPrecisionWatch,
    Runner,
    check_factory,
    isolated,
    moves,
    runner_of,
)
from scaleinv._symmetry.given import LARGE, SHAPES, given_gradients
from scaleinv._symmetry.result import Symmetries
from scaleinv._symmetry.transformations import Shapes, Transformation, rotations, same, scalings, split

SIZES = (2.0**60, 2.0**40, 2.0**20)  # of gradients, the first with which a run is possible: far above eps
FEW = 3  # steps for the larger matrix: its state is stored and read
ULPS = 8  # to which a parameter that is rotated, moved by steps and rotated back is exact
ALIKE = {torch.float64: ROUNDING, torch.float32: 1e-4}  # the share up to which paths differ by rounding


def symmetries_of(factory: Factory, hyperparameters: Mapping[str, Any] = DEFAULTS) -> Symmetries:
    """Measure what an optimizer's update does not see of the gradient, and what it goes along with.

    The optimizer trains three matrices on gradients that are given, whatever the parameters are, and then one of 4096
    entries, for those that keep the state of large tensors in eight bits.

    Factors are applied to gradients of size 2⁶⁰ (2⁴⁰ or 2²⁰ where that is out of range), so far above eps that eps does
    not act.  Nor does a penalty that is added to the gradient, or a number that an average starts with; a clip at a
    fixed size does.  ``scaled_at_one`` of the result has the same for gradients of about 1, the size at which rotations
    are applied.  Decay of the parameters apart from the gradient is the same in all runs, and is rotated with the
    parameters.

    Args:
        factory: makes the optimizer, as for ``infer_units``: any optimizer that this runs.
        hyperparameters: name → value; the factory's defaults for all others.

    Returns:
        ``Symmetries``, with the change of the update by one factor for all gradients, or one for each tensor, column,
        row or entry, and by a rotation of rows, of columns, of all entries of a tensor, or of all.  Random numbers that
        the optimizer draws are the same in all runs, and are not rotated.
        An optimizer that computes in bfloat16, and runs in no higher precision, deviates from a rotation by its
        rounding, of about 1 %.

    Raises:
        TypeError: if the factory cannot be called, or the hyperparameters are not a dict.
        ValueError: if a value is not finite, if the factory cannot be run, if equal runs differ, or if the optimizer
            moves no parameter.

    The random states (of torch, numpy and random) and the number of threads stay as they were.

    >>> import torch
    >>> from scaleinv import symmetries_of
    >>> adam, sgd = symmetries_of(torch.optim.Adam), symmetries_of(torch.optim.SGD)
    >>> adam.scales, adam.rotations, sgd.scales, sgd.rotations
    ('entry', 'none', 'none', 'global')
    """
    check_factory(factory, hyperparameters)
    values, _ = values_of(factory, hyperparameters)
    name = getattr(factory, "__name__", repr(factory))
    with isolated(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner = runner_of(factory, values, problem_for=lambda _: given_gradients(SHAPES, Transformation(), 1.0))
        if not moves(runner.trajectory(values)):
            raise ValueError(f"factory={factory!r} with {values}: {runner.steps} steps move nothing")
        one = _Experiment(runner.most_precise(values), values, SHAPES, 1.0)
        far, rounding = one.far_above_eps(), ALIKE[runner.setup.interface.dtype]
        return Symmetries(
            name=name,
            scaled=_also_when_large(far, far.changes(scalings(SHAPES)), rounding),
            rotated=one.changes(rotations(SHAPES)),
            scaled_at_one=one.changes(scalings(SHAPES)),
            rounding=rounding,
            size=far.size,
        )


def _also_when_large(far: "_Experiment", scaled: dict[str, float], rounding: float) -> dict[str, float]:
    """The changes, those of a larger matrix too for the finest factors without a change: its state may be low-bit."""
    large = _Experiment(far.runner, far.values, LARGE, far.size)
    if large.reference is None:  # it does not take one matrix alone
        return scaled
    for finest in (("entry",), ("row", "column"), ("tensor",), ("global",)):
        names = [name for name in finest if scaled[name] <= rounding]
        changes = large.changes({name: scalings(LARGE)[name] for name in names})
        scaled = scaled | {name: max(scaled[name], change) for name, change in changes.items()}
        if any(scaled[name] <= rounding for name in names):
            break
    return scaled


class _Experiment:
    """Runs on gradients of one size, compared with the one where nothing is transformed."""

    def __init__(self, runner: Runner, values: Values, shapes: Shapes, size: float) -> None:
        self.runner, self.values, self.shapes, self.size = runner, values, shapes, size
        self.reference = self._paths(Transformation())

    def far_above_eps(self) -> "_Experiment":
        """The same on gradients as large as they can be, up to 8 times as large, for all to move that moves here."""
        with LowPrecisionWatch() as watch:
            self._paths(Transformation())
        for size in SIZES[1:] if watch.seen else SIZES:  # squares of the first are beyond the range of float32
            larger = [_Experiment(self.runner, self.values, self.shapes, size * factor) for factor in (1.0, 8.0)]
            if all(each.moving() == self.moving() for each in larger):
                return larger[0]
        return self

    def moving(self) -> list[bool]:
        """Whether each matrix moves; an empty list where a run is not possible."""
        return [bool(path.any()) for path in self.reference or ()]

    def changes(self, transformations: Mapping[str, list[Transformation]]) -> dict[str, float]:
        """name → the largest change of the update by the transformations of this name."""
        return {name: max(map(self._change, each)) for name, each in transformations.items()}

    def _change(self, transformation: Transformation) -> float:
        """The largest change of a matrix's path, as a share of the longer of both; 1 if a run is not possible."""
        paths = self._paths(transformation)
        if paths is None or self.reference is None:
            return 1.0
        ulps = 0.0 if transformation.back is same else ULPS * torch.finfo(self.runner.setup.interface.dtype).eps
        return max(_share(*pair, ulps) for pair in zip(paths, self.reference, strict=True))

    def _paths(self, transformation: Transformation) -> list[Tensor] | None:
        """How far each matrix is from its start, over all steps; None where the run is refused or diverges."""
        runner = self.runner.training(given_gradients(self.shapes, transformation, self.size))
        trajectory = runner.trajectory(self.values, steps=FEW if self.shapes is LARGE else None)
        if trajectory is None:
            return None
        points = [transformation.back(split(point, self.shapes)) for point in trajectory]
        return [torch.stack(each) - each[0] for each in zip(*points, strict=True)]


def _share(path: Tensor, reference: Tensor, ulps: float) -> float:
    """The difference as a share of the longer path, less what rounding of the parameters, of about 1, makes of it."""
    difference = (path - reference).norm() - ulps * path.numel() ** 0.5
    return 0.0 if difference <= 0 else (difference / max(path.norm(), reference.norm())).item()
