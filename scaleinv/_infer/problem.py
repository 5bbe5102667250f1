"""Small smooth problems to train: a matrix and a vector or, to verify units, a parameter of another kind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from scaleinv._kinds import KINDS

STEPS = 8  # of a run: enough to leave RAdam's first five, few enough that all runs together take under a second
LONG = 100  # steps of the longer run, which shows what changes later, such as the end of a warm-up


@dataclass(frozen=True)
class Problem:
    """What is trained.

    The loss is the mean of √(1+e²) + e²/20 over the entries of the error e, which is linear in the parameters.

    Attributes:
        start: name → the parameter's start, in float64.
        batches: the data of every step.
        error: (parameters, batch) → the error.
        gradients: (∂loss/∂error, batch) → the gradient of each parameter.
        groups: whether each parameter has a group of its own, of a smaller lr than the one before.
    """

    start: dict[str, Tensor]
    batches: list[Any]
    error: Callable[[list[Tensor], Any], Tensor]
    gradients: Callable[[Tensor, Any], tuple[Tensor, ...]]
    groups: bool = False

    def pulled(self, share: float) -> "Problem":
        """The problem with a multiple of the start added to the gradients."""

        def gradients(slope: Tensor, batch: Any) -> tuple[Tensor, ...]:
            parts = zip(self.gradients(slope, batch), self.start.values(), strict=False)
            return tuple(gradient + (share * w).to(gradient.dtype) for gradient, w in parts)

        return replace(self, gradients=gradients)


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

    return Problem(start, batches, error, gradients)


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

    return Problem(start, batches, error, gradients, kind.groups)


def _normals() -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
