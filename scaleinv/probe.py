"""Short runs of any optimizer on a small smooth problem, read back in the original units, for ``infer_units``."""

import inspect
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode

STEPS = 8  # of a run: enough to leave RAdam's first five, few enough that all runs together take under a second

# The hyperparameters, with the entries of tuples as keys of their own.


class Values(dict):
    """name → value, where ``betas[0]`` reads the first entry of the tuple ``betas``."""

    def __init__(self, values):
        super().__init__(
            {n: v.item() if isinstance(v, torch.Tensor) and v.numel() == 1 else v for n, v in values.items()}
        )

    @property
    def floats(self):
        keys = []
        for name, value in self.items():
            if isinstance(value, float):
                keys.append(name)
            elif isinstance(value, tuple | list):
                keys += [f"{name}[{i}]" for i, entry in enumerate(value) if isinstance(entry, float)]
        return keys

    def is_float(self, name):
        return any(key == name or key.startswith(name + "[") for key in self.floats)

    def __missing__(self, key):
        if not key.endswith("]"):
            raise KeyError(key)
        name, index = key[:-1].split("[")
        return self[name][int(index)]

    def replace(self, key, value):
        if key in self:
            return Values(self | {key: value})
        name, index = key[:-1].split("[")
        entries = list(self[name])
        entries[int(index)] = value
        return Values(self | {name: type(self[name])(entries)})


def values_of(factory, hyperparameters):
    """The given values and the factory's defaults for other floats; an int where a float is meant becomes one."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    values = dict(hyperparameters)
    for p in parameters:
        value = values.get(p.name, p.default)
        if value is p.empty:
            continue
        if "float" in str(p.annotation) or isinstance(value, float):
            values[p.name] = _as_floats(value)
        elif isinstance(value, tuple) and any(isinstance(entry, float) for entry in value):
            values[p.name] = _as_floats(value)
    return Values(values)


def _as_floats(value):
    if isinstance(value, tuple | list):
        return type(value)(_as_floats(entry) for entry in value)
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


# One probing run.


@cache
def _problem(kind):
    """Start values of the parameters, and the data of every step, in float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    parameters = [normal(4, 3), normal(4)] if kind == "dense" else [normal(4, 3)]
    return parameters, [(normal(5, 3), 2 * normal(5, 4)) for _ in range(STEPS)]


def _run(factory, values, kind, needs_closure, weight=1.0, loss=1.0):
    """w/k wherever the gradient was taken, as one tensor (STEPS + 1, coordinates), and the optimizer at the end."""
    torch.default_generator.manual_seed(0)
    start, data = _problem(kind)
    parameters = [torch.nn.Parameter(weight * w) for w in start]
    optimizer = factory(parameters, **values)
    trajectory = []

    def record():
        trajectory.append(torch.cat([p.detach().flatten() / weight for p in parameters]))

    def evaluate():
        record()
        matrix, *bias = [p.detach() / weight for p in parameters]
        error = x @ matrix.T + (bias[0] if bias else 0) - y
        root = (1 + error**2).sqrt()
        slope = (error / root + 0.1 * error) * (loss / weight / error.numel())
        for p, grad in zip(parameters, (slope.T @ x, slope.sum(0))):
            p.grad = grad.to_sparse() if kind == "sparse" else grad
        return loss * (root + 0.05 * error**2).mean()

    for x, y in data:  # noqa: B007 (evaluate reads them)
        if needs_closure:
            optimizer.step(evaluate)
        else:
            evaluate()
            optimizer.step()
        if len(trajectory) > STEPS:
            break
    record()
    return torch.stack(trajectory[: STEPS + 1]), optimizer


def runner_of(factory, values):
    """``run(values, weight, loss)`` on the first kind of problem that the optimizer accepts."""
    errors = {}
    for kind in ("dense", "matrix", "sparse"):
        for needs_closure in (False, True):
            try:
                trajectory, _ = _run(factory, values, kind, needs_closure)
                if not trajectory.isfinite().all():
                    raise FloatingPointError("the run is not finite")
            except Exception as error:  # whatever a third party's constructor or step may raise
                errors[f"{kind} parameters{', with a closure' * needs_closure}"] = error
            else:
                return lambda values, weight=1.0, loss=1.0: _run(factory, values, kind, needs_closure, weight, loss)
    reasons = "; ".join(f"{kind}: {error}" for kind, error in errors.items())
    raise ValueError(f"factory={factory!r} could not be run with {dict(values)}: {reasons}")


def trajectory_of(runner, values):
    """The trajectory, or None where these values are refused or diverge."""
    try:
        trajectory, _ = runner(values)
    except Exception:
        return None
    return trajectory if trajectory.isfinite().all() else None


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


def uses_low_precision(runner, values):
    with _Watch() as watch:
        runner(values)
    return watch.seen


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
