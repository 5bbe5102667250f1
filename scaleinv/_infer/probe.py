"""Short runs of any optimizer on a small smooth problem, read back in the original units, for ``infer_units``."""

import math
import random
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from itertools import product

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from scaleinv._threads import threads

STEPS = 8  # of a run: enough to leave RAdam's first five, few enough that all runs together take under a second
LONG = 100  # steps of the longer run, which finds what changes later, such as the end of a warm-up
EFFECT = 1e-3  # a hyperparameter matters when a change by e moves the run by this share of its length
POWER = 12  # rescaled runs are so by 2^±12: exponents in halves, thirds, quarters and sixths stay exact
LARGEST = 10.0  # up to which a value is raised, by decades, to make it matter; then lowered by up to eight
SHORTEST, LONGEST = 1e-5, 1e5  # of a run that differences can be measured on, relative to the parameters

# One probing run.


KINDS = ("dense", "matrix", "sparse", "graph", "named", "model")


@cache
def _problem(matrix_only):
    """Start values of the parameters, and the data of every step, in float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    parameters = [normal(4, 3)] if matrix_only else [normal(4, 3), normal(4)]
    return parameters, [(normal(5, 3), 2 * normal(5, 4)) for _ in range(STEPS)]


def _given_as(kind, parameters):
    """What the factory is given for the parameters: a list of them, of pairs with their names, or a module."""
    named = dict(zip(("weight", "bias"), parameters))
    if kind == "named":
        return list(named.items())
    if kind == "model":
        model = torch.nn.Linear(3, 4)
        for name, parameter in named.items():
            setattr(model, name, parameter)
        return model
    return parameters


def _run(factory, values, weight=1.0, loss=1.0, steps=STEPS, *, kind, closure=False, promote=False):
    """w/k wherever the gradient was taken, as one tensor (steps + 1, coordinates), and the optimizer at the end."""
    torch.default_generator.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    start, data = _problem(kind in ("matrix", "sparse"))
    parameters = [torch.nn.Parameter(weight * w) for w in start]
    trajectory = []

    def record():
        trajectory.append(torch.cat([p.detach().flatten() / weight for p in parameters]))

    @torch.enable_grad()
    def evaluate():
        record()
        attached = kind in ("graph", "model")  # a second derivative, or a backward pass of the optimizer's own
        matrix, *bias = [(p if attached else p.detach()) / weight for p in parameters]
        error = x @ matrix.T + (bias[0] if bias else 0) - y
        root = (1 + error**2).sqrt()
        slope = (error / root + 0.1 * error) * (loss / weight / error.numel())
        for p, grad in zip(parameters, (slope.T @ x, slope.sum(0))):
            p.grad = grad.to_sparse() if kind == "sparse" else grad
        return loss * (root + 0.05 * error**2).mean()

    with in_float64(True) if promote else nullcontext():
        optimizer = factory(_given_as(kind, parameters), **values)
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()
        for step in range(steps):
            x, y = data[step % STEPS]
            if closure:
                optimizer.step(evaluate)
            else:
                evaluate()
                optimizer.step()
            if len(trajectory) > steps:
                break
    record()
    trajectory += trajectory[-1:] * (steps + 1 - len(trajectory))
    return torch.stack(trajectory[: steps + 1]), optimizer


def runner_of(factory, values):
    """``run(values, weight, loss, steps)`` on the first kind of problem that the optimizer accepts, for as many steps
    as it takes to move."""
    errors = {}
    for promote, kind, closure in product((False, True), KINDS, (False, True)):
        runner = partial(_run, factory, kind=kind, closure=closure, promote=promote)
        try:
            trajectory, _ = runner(values)
            if not trajectory.isfinite().all():
                raise FloatingPointError("the run is not finite")
            again, _ = runner(values)
        except Exception as error:  # whatever a third party's constructor or step may raise
            reason = f"{type(error).__name__}: {error}"
            errors.setdefault(reason, f"with {kind} parameters{' and a closure' * closure}")
            continue
        if not torch.equal(trajectory, again):
            raise ValueError(
                f"factory={factory!r}: two equal runs differ, so nothing can be compared. It keeps something "
                "between runs, or draws random numbers from elsewhere than torch, numpy.random and random"
            )
        for steps in (STEPS, 4 * STEPS, LONG):
            trajectory = trajectory_of(runner, values, steps=steps)
            if trajectory is not None and not torch.equal(trajectory[0], trajectory[-1]):
                return partial(runner, steps=steps)
        return runner
    reasons = "; ".join(f"{reason} ({case})" for reason, case in errors.items())
    raise ValueError(f"factory={factory!r} could not be run with {dict(values)}: {reasons}")


def trajectory_of(runner, *values_and_scales, **options):
    """The trajectory, or None where these values are refused or diverge."""
    try:
        trajectory, _ = runner(*values_and_scales, **options)
    except Exception:
        return None
    return trajectory if trajectory.isfinite().all() else None


def rescaled_run(runner, values, units, axis, power, **options):
    """The run with the loss (axis "loss") or the parameters ("weight") 2^power times as large; None where a value is
    refused, as by a bound: the opposite change has to do."""
    scale = {axis: 2.0**power}
    for name, unit in units.items():
        values = values.replace(name, values[name] * unit.factor(**scale))
    try:
        return runner(values, **scale, **options)
    except Exception:
        return None


def rescaled_runs(runner, values, units, **options):
    """The run as it is, and for the loss and the parameters (power, run) with it 2^±POWER times as large."""
    axes = ("loss", "weight")
    pairs = [[(p, rescaled_run(runner, values, units, axis, p, **options)) for p in (POWER, -POWER)] for axis in axes]
    return runner(values, **options), *pairs


def length(trajectory):
    return (trajectory - trajectory[0]).norm() + 1e-300


@contextmanager
def isolated():
    """Random state is as before at the end; and one thread, for several only wait for each other on small tensors."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with threads(1), torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


# Probes in which every hyperparameter matters.


def switched_on(runner, values):
    """``values`` with 0.1 for every 0 that the optimizer lets one change."""
    for key in values.floats:
        if values[key] == 0:
            on = values.replace(key, 0.1)
            if trajectory_of(runner, on) is not None:
                values = on
    return values


def in_range(runner, values, steps):
    """``values`` with the first that brings it about moved by decades, so that runs have a length one can measure."""

    def measurable(values, **options):
        trajectory = trajectory_of(runner, values, **options)
        return trajectory is not None and SHORTEST < length(trajectory) / trajectory[0].norm() < LONGEST

    for key in values.floats:
        for decades in [*range(20), *range(-1, -20, -1)]:
            moved = values.replace(key, values[key] * 10.0**decades)
            small = abs(moved[key]) <= max(LARGEST, abs(values[key]))
            if small and measurable(moved) and measurable(moved, steps=steps):
                return moved
    return values


def value_that_matters(runner, values, name):
    """The value, decades away at most from the given one, at which ``name`` has an effect, and one 10 % beside it;
    None if there is none."""
    start = values[name] or 0.1
    raised = min(300, max(0, math.ceil(math.log10(LARGEST) - math.log10(abs(start)))))
    for decades in [*range(raised + 1), *range(-1, -9, -1)]:
        value = start * 10.0**decades
        here = trajectory_of(runner, values.replace(name, value))
        # upwards first; a value at its upper bound (a beta of 0.99) is changed downwards
        for nudge in (1.1, 1 / 1.1):
            there = trajectory_of(runner, values.replace(name, value * nudge))
            if here is not None and there is not None:
                if (there - here).norm() > EFFECT * math.log(1.1) * length(here):
                    return value, value * nudge
                break
    return None


# Optimizers that compute in low precision inside would drown the differences in rounding.

_LOW = (torch.bfloat16, torch.float16, torch.float32)


class _Float64(TorchDispatchMode):
    """Turns every cast to a lower precision into one to float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        args = [torch.float64 if a in _LOW else a for a in args] if any(_is_low(a) for a in args) else args
        kwargs = {key: torch.float64 if _is_low(a) else a for key, a in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _is_low(argument):
    return isinstance(argument, torch.dtype) and argument in _LOW


class _Watch(TorchDispatchMode):
    """Notes whether anything more than a counter is computed below float64."""

    seen = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype in _LOW and out.numel() > 1:
            self.seen = True
        return out


def precision_of(runner, values):
    """The context in which ``runner`` computes most precisely: as much of ``in_float64`` as the optimizer bears."""
    with _Watch() as watch:
        runner(values)
    for context in ([lambda: in_float64(True)] if watch.seen else []) + [lambda: in_float64(False)]:
        with context():
            if trajectory_of(runner, values) is not None:
                return context
    return nullcontext


@contextmanager
def in_float64(promote):
    """New tensors are float64; with ``promote`` casts to lower precisions too."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float64() if promote else nullcontext():
            yield
    finally:
        torch.set_default_dtype(default)
