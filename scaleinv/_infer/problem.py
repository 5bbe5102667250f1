"""Small problems to train: smooth ones of a matrix and a vector or, to verify units, of a parameter of another kind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scaleinv._kinds import KINDS

STEPS = 8  # of a run: enough to leave RAdam's first five, few enough that all runs together take under a second
LONG = 100  # steps of the longer run, which shows what changes later, such as the end of a warm-up


class Evaluation(NamedTuple):
    """The loss, computed when it is asked for, and the gradient of each parameter."""

    loss: Callable[[], Tensor]
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        start: name → the parameter's start, in float64.
        batches: the data of every step.
        evaluate: (parameters, batch) → the loss and its gradients.
        groups: whether each parameter has a group of its own, of a smaller lr than the one before.
    """

    start: dict[str, Tensor]
    batches: list[Any]
    evaluate: Callable[[list[Tensor], Any], Evaluation]
    groups: bool = False

    def pulled(self, share: float) -> "Problem":
        """The problem with a multiple of the start added to the gradients."""

        def evaluate(parameters: list[Tensor], batch: Any) -> Evaluation:
            loss, gradients = self.evaluate(parameters, batch)
            parts = zip(gradients, self.start.values(), strict=False)
            return Evaluation(loss, tuple(gradient + (share * w).to(gradient.dtype) for gradient, w in parts))

        return replace(self, evaluate=evaluate)


@cache
def linear(matrix_only: bool) -> Problem:
    """A linear map, of a matrix and a vector; a matrix alone where ``matrix_only``."""
    normal = _normals()
    start = {"weight": normal(4, 3)} if matrix_only else {"weight": normal(4, 3), "bias": normal(4)}
    batches = [(normal(5, 3), 2 * normal(5, 4)) for _ in range(STEPS)]

    def error(parameters: list[Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        (x, y), (matrix, *bias) = batch, parameters
        return x @ matrix.T + (bias[0] if bias else 0) - y

    def gradients(slope: Tensor, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return slope.T @ batch[0], slope.sum(0)

    return Problem(start, batches, _smooth(error, gradients))


@cache
def elementwise(name: str) -> Problem:
    """Each entry of a parameter of a kind of ``KINDS`` approaches a target of its own; of two, their sum does."""
    kind, normal = KINDS[name], _normals()
    start = {name: normal(*kind.shape) for name in (("first", "second") if kind.groups else ("parameter",))}
    if kind.at_zero:
        start = {name: torch.zeros_like(w) for name, w in start.items()}
    mask = torch.ones(kind.shape, dtype=torch.float64, device="cpu")
    if kind.empty_rows:
        mask[::2] = 0
    batches = [mask * 2 * normal(*kind.shape) for _ in range(STEPS)]

    def error(parameters: list[Tensor], batch: Tensor) -> Tensor:
        return mask.to(batch.dtype) * sum(parameters) - batch

    def gradients(slope: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
        return tuple(mask.to(batch.dtype) * slope for _ in start)

    return Problem(start, batches, _smooth(error, gradients), kind.groups)


def _smooth(
    error: Callable[[list[Tensor], Any], Tensor], gradients: Callable[[Tensor, Any], tuple[Tensor, ...]]
) -> Callable[[list[Tensor], Any], Evaluation]:
    """The mean of √(1+e²) + e²/20 over the entries of the error e, which is linear in the parameters.

    ``gradients`` are those of the parameters, from the slope ∂loss/∂e and the batch.
    """

    def evaluate(parameters: list[Tensor], batch: Any) -> Evaluation:
        e = error(parameters, batch)
        root = (1 + e**2).sqrt()
        slope = (e / root + 0.1 * e) * (1 / e.numel())
        return Evaluation(lambda: (root + 0.05 * e**2).mean(), gradients(slope, batch))

    return evaluate


def _normals() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
