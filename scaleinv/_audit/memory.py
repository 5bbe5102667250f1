"""The memory of the second moment: how many steps β₂ means, and whether the format of the state can forget at all."""

import math
from typing import NamedTuple

import torch

from scaleinv._audit.amounts import blocks, local, total
from scaleinv._audit.eps import scale_in_use
from scaleinv._audit.training import Trained


class Memory(NamedTuple):
    """What the average of squared gradients remembers.

    Attributes:
        beta2: its decay rate, as Adam's β₂ or RMSprop's alpha; NaN where there is none.
        stuck: share of the coordinates where β₂·v rounds to v, so that v can grow and never shrink.
    """

    beta2: float = math.nan
    stuck: float = math.nan


def memory_of(trained: Trained) -> Memory:
    """By the state; before the first step, by the format that it will have, which is the parameter's."""
    group, scales = trained.group, trained.known.gradient_scales
    betas = group.get("betas")
    beta2 = float(betas[1]) if isinstance(betas, list | tuple) and len(betas) > 1 else group.get("alpha", math.nan)
    if not scales or scales[0].power != 2 or not isinstance(beta2, float) or not 0 < beta2 < 1:
        return Memory()
    scale = scale_in_use(trained)
    buffer = trained.state[scale.buffer] if scale else None
    dtype = trained.parameter.dtype if buffer is None else buffer.dtype
    if dtype not in (torch.bfloat16, torch.float16):
        return Memory(beta2, 0.0)
    if buffer is None:  # what is below a quarter of eps is below half of every gap between numbers
        return Memory(beta2, float(1 - beta2 < torch.finfo(dtype).eps / 4))
    return Memory(beta2, _stuck(buffer, beta2))


def _stuck(buffer: torch.Tensor, beta2: float) -> float:
    stuck = nonzero = 0.0
    for block in blocks(local(buffer)):
        stuck += float(((block * beta2 == block) & (block != 0)).sum())
        nonzero += float((block != 0).sum())
    stuck, nonzero = total([stuck, nonzero], buffer)
    return stuck / nonzero if nonzero else 0.0
