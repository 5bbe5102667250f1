"""How large a step is, measured: recorded, tried on a copy, or read from the optimizer's state."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from scaleinv._audit.amounts import as_real, blocks, is_sharded, local, square_of, total
from scaleinv._audit.training import Trained


class MeasuredStep(NamedTuple):
    """RMS of a step of the stored parameter, and how it was measured; NaN and "" where it was not."""

    rms: float
    source: str


def measured_step(trained: Trained) -> MeasuredStep:
    """The recorded step; without one the next step, by the gradient; without a gradient the last step, by the state."""
    if trained.recorded is not None:
        size, source = trained.recorded, "recorder"
    elif not math.isnan(trained.gradient_rms):
        size, source = next_step(trained), "gradients"
    else:
        size, source = last_step(trained), "state"
    return MeasuredStep(size, "" if math.isnan(size) else source)


def next_step(trained: Trained) -> float:
    """RMS of the change that ``optimizer.step()`` would make to the parameter, weight decay and all.

    It is tried by the optimizer's own rule, on a copy of one block at a time of the parameter, its gradient and its
    state; for sparse gradients, and where a coordinate's step depends on others, on a copy of the whole.

    Returns:
        NaN without a gradient; for an optimizer outside ``torch.optim``, whose step may do more than that; for one
        that cannot step sharded parameters; and for large matrices of Muon on a CPU, where a trial takes seconds.
    """
    parameter, gradient, known = trained.parameter, trained.parameter.grad, trained.known
    if gradient is None or not known.can_be_tried:
        return math.nan
    if parameter.device.type == "cpu" and parameter.numel() > known.largest_cpu_trial:
        return math.nan
    with torch.no_grad():
        if known.elementwise and gradient.layout == torch.strided:
            square = _square_by_blocks(trained, gradient)
        else:
            square = _square_of_whole(trained, gradient)
    return math.sqrt(square / max(parameter.numel(), 1))


def last_step(trained: Trained) -> float:
    """RMS of the last step as the state of Adam or AdamW shows it, up to how the parameter has changed since; NaN for
    another optimizer."""
    update, parameter = trained.known.last_update, trained.parameter
    buffers = _buffers(trained)
    if update is None or not trained.steps or not buffers or parameter.is_complex():
        return math.nan
    square = 0.0
    with torch.no_grad():
        for w, *entries in zip(*(blocks(local(t.detach())) for t in (parameter, *buffers.values())), strict=True):
            state = {"step": trained.steps, **dict(zip(buffers, entries, strict=True))}
            square += square_of(update(trained.group, state, w))
    return float(trained.group["lr"]) * math.sqrt(total([square], parameter)[0] / max(parameter.numel(), 1))


@dataclass(frozen=True)
class _Trial:
    """The rule of an optimizer class, to be applied to copies.

    Attributes:
        optimizer_class: of ``torch.optim``.
        options: its hyperparameters.
        clip: a factor of the gradient.
    """

    optimizer_class: Any
    options: Mapping[str, Any]
    clip: float

    def after(self, before: torch.Tensor, gradient: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """A copy of ``before`` after one step."""
        copy = nn.Parameter(before.clone(), requires_grad=True)
        copy.grad = gradient.detach().clone() if self.clip == 1 else gradient.detach() * self.clip
        optimizer = self.optimizer_class([{**self.options, "params": [copy]}])
        optimizer.state[copy] = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
        self.optimizer_class.step.__wrapped__(optimizer)  # without the hooks that wrap it, which all optimizers share
        return copy.detach()


def _trial(trained: Trained, *, fused: bool) -> _Trial:
    options = {name: value for name, value in trained.group.items() if name not in ("params", "param_names")}
    options |= {name: False for name in ("differentiable", "foreach") if name in options}
    options |= {"fused": True} if fused else {}
    return _Trial(type(trained.optimizer), options, trained.clip)


def _square_by_blocks(trained: Trained, gradient: torch.Tensor) -> float:
    """‖after − before‖², one block at a time."""
    parameter = trained.parameter
    if is_sharded(parameter) and gradient.placements != parameter.placements:  # type: ignore[attr-defined]
        gradient = gradient.redistribute(placements=parameter.placements)  # type: ignore[attr-defined]
    one_pass = trained.known.fused and parameter.dtype == torch.float32 and parameter.device.type == "cpu"
    trial, buffers, square = _trial(trained, fused=one_pass), _buffers(trained), 0.0
    for p, g, *entries in zip(*(blocks(local(t)) for t in (parameter, gradient, *buffers.values())), strict=True):
        square += _square(trial.after(p, g, trained.state | dict(zip(buffers, entries, strict=True))), p)
    return total([square], parameter)[0]


def _square_of_whole(trained: Trained, gradient: torch.Tensor) -> float:
    parameter = trained.parameter
    try:
        after = _trial(trained, fused=False).after(parameter.detach(), gradient, trained.state)
    except RuntimeError:  # Adafactor does not know DTensors
        if is_sharded(parameter):
            return math.nan
        raise
    return total([_square(local(after), local(parameter.detach()))], parameter)[0]


def _buffers(trained: Trained) -> dict[str, torch.Tensor]:
    """The state buffers that have the parameter's shape, and so can be cut into the same blocks."""
    state, names = trained.state, trained.known.parameter_shaped
    return {name: state[name] for name in names if isinstance(state.get(name), torch.Tensor)}


def _square(after: torch.Tensor, before: torch.Tensor) -> float:
    pairs = zip(blocks(as_real(after)), blocks(as_real(before)), strict=True)
    return sum(square_of(_difference(a, b)) for a, b in pairs)


def _difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a - b if a.dtype in (torch.float32, torch.float64) else a.float() - b.float()
