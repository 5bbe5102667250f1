"""One probing run: an optimizer trains a matrix and a vector on a small smooth problem, w/k is what is recorded.

With the loss c times and the parameters k times as large, the problem is c·L(w/k); its gradients are exact to the last
bit for powers of two.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scaleinv._infer.precision import in_float64
from scaleinv._threads import threads

STEPS = 8  # of a run: enough to leave RAdam's first five, few enough that all runs together take under a second
LONG = 100  # steps of the longer run, which shows what changes later, such as the end of a warm-up

KINDS = ("dense", "matrix", "sparse", "graph", "named", "model")


class Interface(NamedTuple):
    """How an optimizer wants to be made and stepped.

    Attributes:
        kind: one of ``KINDS``: dense gradients of a matrix and a vector; a matrix only; a matrix with sparse
            gradients; gradients that can be differentiated again; pairs of names and parameters; a module.
        closure: whether ``step`` takes a function that evaluates the loss.
        promote: whether it runs only when its low precisions are replaced by float64.
    """

    kind: str
    closure: bool
    promote: bool

    def __str__(self) -> str:
        return f"with {self.kind} parameters{' and a closure' if self.closure else ''}"


class Scale(NamedTuple):
    """How many times as large the stored parameters (k) and the loss (c) are."""

    weight: float = 1.0
    loss: float = 1.0


class Run(NamedTuple):
    """The parameters wherever a gradient was taken, in the original units, (steps + 1, coordinates); and the optimizer
    at the end."""

    trajectory: Tensor
    optimizer: Any


# Rescales an optimizer and its parameters, and returns the new scale.
Midway = Callable[[Any, list[torch.nn.Parameter]], Scale]


def run(
    make: Callable[[Any], Any], interface: Interface, scale: Scale, steps: int, midway: Midway | None = None
) -> Run:
    """Train for ``steps`` evaluations of the loss, always from the same start and random state.

    ``make`` makes the optimizer, from what it takes for the parameters.  With ``midway`` the scale changes in the
    middle of the run.
    """
    torch.default_generator.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    training = _Training(interface, scale)
    with in_float64(True) if interface.promote else nullcontext():
        optimizer = make(training.what_to_train())
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()
        training.train(optimizer, steps if midway is None else steps // 2)
        if midway is not None:
            training.scale = midway(optimizer, training.parameters)
            training.train(optimizer, steps, first=steps // 2)
    training.record()
    return Run(training.trajectory(steps), optimizer)


class _Training:
    """The parameters, the batch of the step, and the points where gradients were taken so far."""

    def __init__(self, interface: Interface, scale: Scale) -> None:
        start, self.batches = _problem(interface.kind in ("matrix", "sparse"))
        self.interface, self.scale = interface, scale
        self.parameters = [torch.nn.Parameter(scale.weight * w) for w in start]
        self.batch = self.batches[0]
        self.attached = interface.kind in ("graph", "model")  # for second derivatives, or the optimizer's own backward
        self.points: list[Tensor] = []

    def what_to_train(self) -> Any:
        """What the factory takes for the parameters: a list of them, of pairs with their names, or a module."""
        named = dict(zip(("weight", "bias"), self.parameters, strict=False))
        if self.interface.kind == "named":
            return list(named.items())
        if self.interface.kind == "model":
            model = torch.nn.Linear(3, 4)
            for name, parameter in named.items():
                setattr(model, name, parameter)
            return model
        return self.parameters

    def train(self, optimizer: Any, steps: int, first: int = 0) -> None:
        for step in range(first, steps):
            self.batch = self.batches[step % STEPS]
            if self.interface.closure:
                optimizer.step(self.evaluate)
            else:
                self.evaluate()
                optimizer.step()
            if len(self.points) > steps:  # a closure may be evaluated several times a step
                break

    def evaluate(self) -> Tensor | None:
        """Set the gradients of a smooth and a quadratic term of the error; the loss itself, for a closure."""
        self.record()
        with torch.enable_grad() if self.attached else nullcontext():
            x, y = self.batch
            weight, loss = self.scale
            matrix, *bias = [(p if self.attached else p.detach()) / weight for p in self.parameters]
            error = x @ matrix.T + (bias[0] if bias else 0) - y
            root = (1 + error**2).sqrt()
            slope = (error / root + 0.1 * error) * (loss / weight / error.numel())
            for p, grad in zip(self.parameters, (slope.T @ x, slope.sum(0)), strict=False):
                p.grad = grad.to_sparse() if self.interface.kind == "sparse" else grad
            return loss * (root + 0.05 * error**2).mean() if self.interface.closure else None

    def record(self) -> None:
        """Note where the parameters are, in the original units."""
        self.points.append(torch.cat([p.detach().flatten() for p in self.parameters]) / self.scale.weight)

    def trajectory(self, steps: int) -> Tensor:
        """The parameters of the first ``steps`` evaluations and at the end, in the original units; where there were
        fewer evaluations, the last point is repeated."""
        points = self.points + self.points[-1:] * (steps + 1 - len(self.points))
        return torch.stack(points[: steps + 1])


@cache
def _problem(matrix_only: bool) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Start values of the parameters, and the data of every step, in float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    parameters = [normal(4, 3)] if matrix_only else [normal(4, 3), normal(4)]
    return parameters, [(normal(5, 3), 2 * normal(5, 4)) for _ in range(STEPS)]


@contextmanager
def isolated() -> Iterator[None]:
    """Restores the random states at the end.

    Inside, torch uses one thread, for on small tensors several only wait; and compiled functions run uncompiled, which
    leaves the user's own compiled code alone.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with threads(1), torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
