"""Runs of the optimizer under test: as it is, in float64, or rescaled by units.  No run is made twice."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scaleinv._entries import entries, get_entry, with_entry
from scaleinv._hyperparameters import Factory, Values
from scaleinv._infer.deviation import COARSE, Deviation, apart, moves
from scaleinv._infer.precision import LowPrecisionWatch, in_float64
from scaleinv._infer.problem import LONG, STEPS, Problem, elementwise, linear
from scaleinv._infer.training import KINDS, Interface, Midway, Run, Scale, Setup, run
from scaleinv.units import Unit

POWER = 12  # rescaled runs are rescaled by 2^±12: exponents in halves, thirds, quarters and sixths stay exact
AS_IS = Scale()
UP_AND_DOWN = {  # what is rescaled → the power of two, and the scale
    "loss": [(power, Scale(loss=2.0**power)) for power in (POWER, -POWER)],
    "weight": [(power, Scale(weight=2.0**power)) for power in (POWER, -POWER)],
}

ByName = dict[str, Unit]  # a hyperparameter, or an entry such as betas[0] → its unit


class Runner:
    """Runs an optimizer, for a number of steps, and calls ``each_run`` whenever it does."""

    def __init__(
        self, factory: Factory, setup: Setup, steps: int = STEPS, each_run: Callable[[], Any] = lambda: None
    ) -> None:
        self.factory, self.setup, self.steps, self.each_run = factory, setup, steps, each_run
        self._runs: dict[tuple, Run | None] = {}
        self._others: dict[tuple, Runner] = {}

    def run(self, values: Values, scale: Scale = AS_IS, steps: int | None = None) -> Run:
        """A new run; raises whatever the optimizer raises."""
        return self._run(values, scale, steps or self.steps)

    def changed_midway(self, values: Values, midway: Midway) -> Tensor | None:
        """The trajectory of a run whose scale changes in its middle; None where the optimizer raises."""
        try:
            return self._run(values, AS_IS, self.steps, midway).trajectory
        except Exception:  # whatever a third party's step may raise
            return None

    def _run(self, values: Values, scale: Scale, steps: int, midway: Midway | None = None) -> Run:
        self.each_run()
        with self.setup.precision():
            return run(partial(self.factory, **values), self.setup, scale, steps, midway)

    def attempt(self, values: Values, scale: Scale = AS_IS, steps: int | None = None) -> Run | None:
        """The run, or None where the optimizer refuses the values; made once, for equal runs are equal."""
        floats = [repr(value) for _, value in entries(values) if isinstance(value, float)]  # all that ever changes
        key = (scale, steps or self.steps, *floats)
        if key not in self._runs:
            try:
                self._runs[key] = self.run(values, scale, steps)
            except Exception:  # whatever a third party's constructor or step may raise
                self._runs[key] = None
        return self._runs[key]

    def trajectory(self, values: Values, scale: Scale = AS_IS, steps: int | None = None) -> Tensor | None:
        """The trajectory, or None where the values are refused or the run diverges."""
        attempt = self.attempt(values, scale, steps)
        return attempt.trajectory if attempt is not None and attempt.trajectory.isfinite().all() else None

    def reference(self, values: Values, steps: int | None = None) -> Run:
        """The run with values of which it is known that they are not refused."""
        attempt = self.attempt(values, steps=steps)
        if attempt is None:
            raise RuntimeError(f"{self.factory!r} ran with {values} before, and does not now")
        return attempt

    def rescaled(self, values: Values, units: ByName, scale: Scale, steps: int | None = None) -> Run | None:
        """The run at another scale, with the values that the units prescribe; None where such a value is refused."""
        for key, unit in units.items():
            values = with_entry(values, key, get_entry(values, key) * unit.factor(**scale._asdict()))
        return self.attempt(values, scale, steps)

    def rescaled_runs(self, values: Values, units: ByName, steps: int | None = None) -> "RescaledRuns":
        """The run as it is and, for the loss and the parameters, with 2^±POWER times as large ones."""
        by_axis = {
            axis: [(power, self.rescaled(values, units, scale, steps)) for power, scale in scales]
            for axis, scales in UP_AND_DOWN.items()
        }
        return RescaledRuns(self.reference(values, steps), **by_axis)

    def in_float64(self, promote: bool) -> "Runner":
        """The same runs in float64; with ``promote``, low precisions inside the optimizer are replaced too."""
        return self._other(self.setup._replace(precision=partial(in_float64, promote)), "float64", promote)

    def on(self, kind: str) -> "Runner":
        """Runs of a parameter of another kind, in the same precision."""
        return self._other(self.setup._replace(problem=elementwise(kind)), "kind", kind)

    def training(self, problem: Problem) -> "Runner":
        """Runs of another problem, in the same precision."""
        return Runner(self.factory, self.setup._replace(problem=problem), self.steps, self.each_run)

    def _other(self, setup: Setup, *key: Any) -> "Runner":
        if key not in self._others:
            self._others[key] = Runner(self.factory, setup, self.steps, self.each_run)
        return self._others[key]

    def most_precise(self, values: Values) -> "Runner":
        """The same runs with as much of ``in_float64`` as the optimizer takes."""
        if self.setup.interface.dtype != torch.float64:
            return self
        with LowPrecisionWatch() as watch:
            self.run(values)
        for promote in (True, False) if watch.seen else (False,):
            exact = self.in_float64(promote)
            trajectory = exact.trajectory(values)
            if trajectory is not None and apart(self.reference(values).trajectory, trajectory) <= COARSE:
                return exact  # the same training, more precisely
        return self


class RescaledRuns(NamedTuple):
    """A run, and the same at other scales: for each axis, powers of two and runs, None where a value is refused."""

    reference: Run
    loss: list[tuple[int, Run | None]]
    weight: list[tuple[int, Run | None]]

    def deviation(self) -> Deviation:
        """The largest of all; 1 where all runs of an axis are refused.  If one of two is, the other has to do."""
        worst = Deviation()
        for runs, scaled in ((self.loss, "the loss"), (self.weight, "the parameters")):
            shares = {
                f"{scaled} × 2^{power}": apart(self.reference.trajectory, run.trajectory)
                for power, run in runs
                if run is not None
            }
            for where, share in (shares or {f"{scaled} × 2^±{POWER}, which it refuses": 1.0}).items():
                if share > worst.share:
                    worst = Deviation(share, where)
        return worst


def smooth_problem(interface: Interface) -> Problem:
    """The problem by which units are measured, for optimizers with this interface."""
    return linear(matrix_only=interface.kind in ("matrix", "sparse"))


def runner_of(
    factory: Factory,
    values: Values,
    each_run: Callable[[], Any] = lambda: None,
    problem_for: Callable[[Interface], Problem] = smooth_problem,
) -> Runner:
    """A runner by the first interface that the optimizer has, for as many steps as it takes to move.

    Raises:
        ValueError: if no interface works, or if two equal runs differ.
    """
    errors: dict[str, str] = {}
    interfaces = [
        *(Interface(kind, closure, promote) for promote, kind, closure in product((False, True), KINDS, (False, True))),
        *(Interface(kind, closure, False, torch.float32) for kind, closure in product(KINDS, (False, True))),
    ]
    for interface in interfaces:
        runner = Runner(factory, Setup(interface, problem_for(interface)), each_run=each_run)
        try:
            trajectory = runner.run(values).trajectory
            if not trajectory.isfinite().all():
                raise FloatingPointError("the run is not finite")
            again = runner.run(values).trajectory
        except Exception as error:  # whatever a third party's constructor or step may raise
            errors.setdefault(f"{type(error).__name__}: {error}", str(interface))
            continue
        if not torch.equal(trajectory, again):
            raise ValueError(
                f"factory={factory!r}: two equal runs differ, so nothing can be compared. It keeps something "
                "between runs, or draws random numbers from elsewhere than torch, numpy.random and random"
            )
        return _until_it_moves(runner, values)
    reasons = "; ".join(f"{reason} ({interface})" for reason, interface in errors.items())
    raise ValueError(f"factory={factory!r} could not be run: {reasons}. It was called with {values}")


def _until_it_moves(runner: Runner, values: Values) -> Runner:
    for steps in (STEPS, 4 * STEPS, LONG):
        if moves(runner.trajectory(values, steps=steps)):
            return runner if steps == STEPS else Runner(runner.factory, runner.setup, steps, runner.each_run)
    return runner
