"""A gradient beside those before it, by the optimizer's state: whether it is the sum of them, or far larger."""

import math
from typing import NamedTuple

import torch

from scaleinv._audit.amounts import as_real, blocks, is_sharded, rms, square_of
from scaleinv._audit.training import Trained

LEAST_STEPS = 5  # from which a sum differs clearly from its terms


class Growth(NamedTuple):
    """A gradient beside the averages in Adam's state; NaN where it cannot be the sum of those before.

    Attributes:
        alignment: its cosine with the average of the gradients, near 1 for a sum, which changes little in one step.
        ratio: its size over that of the earlier ones by the second moment; √2 to √3 for a sum.
    """

    alignment: float = math.nan
    ratio: float = math.nan


def growth_of(trained: Trained) -> Growth:
    """Looked at only where the tensor that holds the gradient was written to in place at least once for each step.

    That excludes what ``zero_grad`` replaces by a new tensor, as it does by default.  Where it was written to twice
    for each, it may have been set to zero in between: then only a clear growth counts.
    """
    parameter, gradient, state = trained.parameter, trained.parameter.grad, trained.state
    first, second = state.get("exp_avg"), state.get("exp_avg_sq")
    if gradient is None or first is None or second is None or trained.steps < LEAST_STEPS:
        return Growth()
    if is_sharded(parameter) or gradient.layout != torch.strided or gradient.is_inference():
        return Growth()
    if gradient._version < trained.steps or not gradient.shape == first.shape == second.shape:
        return Growth()
    product = 0.0
    with torch.no_grad():
        for g, m in zip(blocks(as_real(gradient)), blocks(as_real(first)), strict=True):
            product += float((g.float() * m.float()).sum())
        size, first_size = (math.sqrt(square_of(each)) for each in (gradient, first))
        betas = trained.group["betas"]
        usual = math.sqrt(max(float(second.abs().sum(dtype=torch.float32)), 0) / (1 - float(betas[1]) ** trained.steps))
    if not (size > 0 and first_size > 0 and usual > 0):
        return Growth()
    ratio = size / usual / trained.loss_scale
    once = gradient._version < 1.5 * trained.steps  # zeros, or a clip, would be written besides
    return Growth(product / (size * first_size), ratio) if once or ratio > 1.7 else Growth()


def shrunk_by(trained: Trained) -> float:
    """How many times as large the gradient is as the average of those before; NaN but where a loss scale is in it."""
    gradient, state = trained.parameter.grad, trained.state
    first = state.get("exp_avg", state.get("momentum_buffer"))
    if trained.loss_scale <= 1 or gradient is None or not isinstance(first, torch.Tensor):
        return math.nan
    size = rms(first)
    return trained.gradient_rms / size if size else math.nan
