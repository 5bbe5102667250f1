"""A training whose gradients are given, so that rescaling or rotating them asks about the optimizer's rule alone.

The gradients of each matrix are a mean and noise.  They do not depend on the parameters; but for an optimizer that
differentiates them again they have a derivative, which is transformed with them.  For one that reads the loss, that is
a sum over all entries of a constant and of gradient times parameter, each with the factor of its gradient.
"""

from functools import cache

import torch
from torch import Tensor

from scaleinv._infer import STEPS, Evaluation, Problem
from scaleinv._symmetry.transformations import Shapes, Tensors, Transformation

SHAPES = ((6, 4), (3, 5), (8, 8))  # a tall matrix, a wide one and a square one
LARGE = ((64, 64),)  # as many entries as those from which low-bit optimizers store their state in few bits


def given_gradients(shapes: Shapes, change: Transformation, size: float) -> Problem:
    """The training of matrices on gradients of about a ``size``, transformed."""
    start, gradients, curvature = _drawn(shapes)
    names = [f"{number}.weight" for number in range(len(shapes))]
    batches = [tuple(change.of_gradients([size * g for g in each])) for each in gradients]
    constant = size * change.sum_of_factors * sum(map(torch.numel, start))

    def bent(moves: Tensors) -> Tensors:
        """What moves of the parameters, which are 0 but have a derivative, add to the gradients."""
        back = change.back([move.double() for move in moves])
        added = change.of_gradients([size * h * move for h, move in zip(curvature, back, strict=True)])
        return [each.to(move.dtype) for each, move in zip(added, moves, strict=True)]

    def evaluate(parameters: Tensors, batch: tuple[Tensor, ...]) -> Evaluation:
        moves = [p - p.detach() for p in parameters]
        added = bent(moves) if any(p.requires_grad for p in parameters) else moves

        def loss() -> Tensor:
            each = zip(batch, parameters, added, moves, strict=True)
            return torch.stack([(g * p + a * move / 2).sum() for g, p, a, move in each]).sum() + constant

        return Evaluation(loss, tuple(g + a for g, a in zip(batch, added, strict=True)))

    return Problem(dict(zip(names, change.of_parameters(start), strict=True)), batches, evaluate)


@cache
def _drawn(shapes: Shapes) -> tuple[Tensors, list[Tensors], Tensors]:
    """The start, the gradients of each step, and the diagonal of the Hessian."""
    generator = torch.Generator().manual_seed(0)

    def normals() -> Tensors:
        return [torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu") for shape in shapes]

    start, mean, curvature = normals(), normals(), [each.abs() for each in normals()]
    gradients = [[m + noise for m, noise in zip(mean, normals(), strict=True)] for _ in range(STEPS)]
    return start, gradients, curvature
