"""What the format of a parameter rounds away: the share of its coordinates that a step, or decay, does not change."""

import math

import torch

from scaleinv._audit.amounts import blocks, is_sharded, local, total
from scaleinv._audit.measured_step import trial_of, trial_tensors
from scaleinv._audit.training import Trained
from scaleinv._float64 import in_float64
from scaleinv.known_optimizers import KNOWN

_WIDER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64}


def lost_share(trained: Trained, change: float) -> float:
    """The share of the coordinates meant to move that the next step leaves as they are.

    It is counted, by the step tried as it is and in a wider format; without gradients, for a step of RMS ``change`` at
    each coordinate.  NaN where it is not known: for other formats, and for an optimizer outside ``torch.optim``, which
    may round at random or keep what is lost.
    """
    parameter = trained.parameter
    if parameter.dtype not in _WIDER or trained.stepping_class not in KNOWN or parameter.layout != torch.strided:
        return math.nan
    gap = torch.finfo(parameter.dtype).eps
    if not change or math.isnan(change) or change > 100 * gap * trained.rms:
        return math.nan if math.isnan(change) else 0.0  # a coordinate would have to be 100 times the RMS
    with torch.no_grad():
        counts = _counted_by_trial(trained) if _can_be_tried(trained) else _counted(parameter, change)
    kept, meant = total(counts, parameter)
    return kept / meant if meant else 0.0


def _can_be_tried(trained: Trained) -> bool:
    gradient, known = trained.parameter.grad, trained.known
    if gradient is None or not known.can_be_tried or not known.elementwise or gradient.layout != torch.strided:
        return False
    return not is_sharded(trained.parameter) and math.isfinite(trained.gradient_rms)


def _counted_by_trial(trained: Trained) -> tuple[float, float]:
    """How many coordinates stay as they are, and how many of all a wider format moves."""
    kept = meant = 0.0
    trial = trial_of(trained)
    for p, g, state in trial_tensors(trained):
        wide = {k: _widened(v) if _is_buffer(v) else v for k, v in state.items()}
        moves = trial.after(_widened(p), _widened(g), wide) != _widened(p)
        kept += float((moves & (trial.after(p, g, state) == p).to(moves.device)).sum())
        meant += float(moves.sum())
    return kept, meant


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    wider = _WIDER[tensor.dtype]
    return in_float64(tensor) if wider == torch.float64 else tensor.to(wider)


def _is_buffer(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 0


def _counted(parameter: torch.Tensor, change: float) -> tuple[float, float]:
    """The same for a step of this size, up or down."""
    kept = meant = 0.0
    for block in blocks(local(parameter.detach())):
        wide, same = _widened(block), block.to(_widened(block).device)
        up, down = ((wide + step).to(block.dtype) == same for step in (change, -change))
        kept += (float(up.sum()) + float(down.sum())) / 2
        meant += block.numel()
    return kept, meant


def decays_by(parameter: torch.Tensor, rate: float) -> tuple[float, float]:
    """RMS of what multiplying a parameter by 1 − ``rate`` changes, and the share of it that stays as it is."""
    square = kept = nonzero = 0.0
    with torch.no_grad():
        for block in blocks(local(parameter.detach())):
            change = in_float64(block * (1 - rate)) - in_float64(block)
            square += float(change.square().sum())
            nonzero += float((block != 0).sum())
            kept += float(((change == 0) & (block != 0).to(change.device)).sum())
    square, kept, nonzero = total([square, kept, nonzero], parameter)
    return math.sqrt(square / max(parameter.numel(), 1)), kept / nonzero if nonzero else 0.0
