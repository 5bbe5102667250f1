"""One probing run: an optimizer trains the parameters of a problem; what is recorded is w/k, in the original units.

With the loss c times and the parameters k times as large, the problem is c·L(w/k); its gradients are exact to the last
bit for powers of two.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from scaleinv._infer.precision import Precision, in_float64
from scaleinv._infer.problem import Problem
from scaleinv._random_state import kept_random_state
from scaleinv._threads import threads

KINDS = ("dense", "matrix", "sparse", "graph", "named", "model")


class Interface(NamedTuple):
    """How an optimizer wants to be made and stepped.

    Attributes:
        kind: one of ``KINDS``: dense gradients of a matrix and a vector; a matrix only; a matrix with sparse
            gradients; gradients that can be differentiated again; pairs of names and parameters; a module.
        closure: whether ``step`` takes a function that evaluates the loss.
        promote: whether it runs only when its low precisions are replaced by float64.
        dtype: of the parameters: float64, or float32 if it takes no other.
    """

    kind: str
    closure: bool
    promote: bool
    dtype: torch.dtype = torch.float64

    def __str__(self) -> str:
        closure = " and a closure" if self.closure else ""
        return f"with {self.kind} parameters{closure}, in {str(self.dtype).removeprefix('torch.')}"


class Setup(NamedTuple):
    """What is run, and how.

    Attributes:
        interface: of the optimizer.
        problem: what it trains.
        precision: in which it is run.
    """

    interface: Interface
    problem: Problem
    precision: Precision = nullcontext


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


def run(make: Callable[[Any], Any], setup: "Setup", scale: Scale, steps: int, midway: Midway | None = None) -> Run:
    """Train for ``steps`` evaluations of the loss, always from the same start and random state.

    ``make`` makes the optimizer, from what it takes for the parameters.  With ``midway`` the scale changes in the
    middle of the run.
    """
    torch.default_generator.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    training = _Training(setup, scale)
    with in_float64(True) if setup.interface.promote else nullcontext():
        optimizer = make(training.what_to_train())
        training.separate_groups(optimizer)
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

    def __init__(self, setup: Setup, scale: Scale) -> None:
        self.interface, self.problem, self.scale = setup.interface, setup.problem, scale
        dtype = self.interface.dtype
        self.parameters = [torch.nn.Parameter((scale.weight * w).to(dtype)) for w in self.problem.start.values()]
        self.batches = [_to(dtype, batch) for batch in self.problem.batches]
        self.batch = self.batches[0]
        self.attached = self.interface.kind in ("graph", "model")  # for second derivatives, or its own backward
        self.points: list[Tensor] = []

    def what_to_train(self) -> Any:
        """What the factory takes for the parameters: a list of them, of pairs with their names, or a module."""
        named = dict(zip(self.problem.start, self.parameters, strict=True))
        if self.interface.kind == "model":
            return _module(named)
        each = list(named.items()) if self.interface.kind == "named" else self.parameters
        return [{"params": [one]} for one in each] if self.problem.groups else each

    def separate_groups(self, optimizer: Any) -> None:
        """Give each group, if there are several, an lr of its own."""
        if self.problem.groups:
            for number, group in enumerate(optimizer.param_groups):
                group["lr"] = group["lr"] / 2**number

    def train(self, optimizer: Any, steps: int, first: int = 0) -> None:
        for step in range(first, steps):
            self.batch = self.batches[step % len(self.batches)]
            if self.interface.closure:
                optimizer.step(self.evaluate)
            else:
                self.evaluate()
                optimizer.step()
            if len(self.points) > steps:  # a closure may be evaluated several times a step
                break

    def evaluate(self) -> Tensor | None:
        """Set the gradients; the loss itself, for a closure."""
        self.record()
        with torch.enable_grad() if self.attached else nullcontext():
            weight, loss = self.scale
            unscaled = [(p if self.attached else p.detach()) / weight for p in self.parameters]
            evaluation = self.problem.evaluate(unscaled, self.batch)
            for p, unscaled_grad in zip(self.parameters, evaluation.gradients, strict=False):
                grad = unscaled_grad * (loss / weight)
                p.grad = grad.to_sparse() if self.interface.kind == "sparse" else grad
            return loss * evaluation.loss() if self.interface.closure else None

    def record(self) -> None:
        """Note where the parameters are, in the original units."""
        point = torch.cat([p.detach().flatten() for p in self.parameters]).double()
        self.points.append(point / self.scale.weight)

    def trajectory(self, steps: int) -> Tensor:
        """The parameters of the first ``steps`` evaluations and at the end, in the original units; where there were
        fewer evaluations, the last point is repeated."""
        points = self.points + self.points[-1:] * (steps + 1 - len(self.points))
        return torch.stack(points[: steps + 1])


def _module(named: dict[str, torch.nn.Parameter]) -> torch.nn.Module:
    """A linear layer with these parameters, or a chain of layers where they have names such as ``0.weight``."""
    if not any("." in name for name in named):
        model = torch.nn.Linear(3, 4)
        for name, parameter in named.items():
            setattr(model, name, parameter)
        return model
    layers = []
    for parameter in named.values():
        rows, columns = parameter.shape
        layers.append(torch.nn.Linear(columns, rows, bias=False))
        layers[-1].weight = parameter
    return torch.nn.Sequential(*layers)


def _to(dtype: torch.dtype, batch: Any) -> Any:
    return tuple(each.to(dtype) for each in batch) if isinstance(batch, tuple) else batch.to(dtype)


@contextmanager
def isolated() -> Iterator[None]:
    """Restores the random states at the end.

    Inside, nothing is printed; what is made is on the CPU, as the parameters are, whatever the user's default device;
    torch uses one thread, for on small tensors several only wait; and compiled functions run uncompiled, which leaves
    the user's own compiled code alone.
    """
    with ExitStack() as stack:
        stack.enter_context(kept_random_state())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(threads(1))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(redirect_stdout(StringIO()))
        stack.enter_context(redirect_stderr(StringIO()))
        yield
