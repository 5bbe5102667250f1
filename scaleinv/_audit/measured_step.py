"""How large a step is, measured: recorded, tried on a copy, or read from the optimizer's state."""

import math
from collections.abc import Iterator, Mapping
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
        Infinity where it would leave numbers that are not finite.  NaN without a gradient; for an optimizer outside
        ``torch.optim`` whose step could not be tried; for one that cannot step sharded parameters; and for large
        matrices of Muon on a CPU, where a trial takes seconds.
    """
    parameter, gradient, known = trained.parameter, trained.parameter.grad, trained.known
    if gradient is None or not known.can_be_tried:
        return trained.tried
    if parameter.device.type == "cpu" and parameter.numel() > known.largest_cpu_trial:
        return math.nan
    with torch.no_grad():
        square: float | None
        if known.elementwise and gradient.layout == torch.strided:
            square = _square_by_blocks(trained)
        else:
            square = _square_of_whole(trained, gradient)
    if square is None:
        return math.nan
    if not square < math.inf and not math.isnan(trained.rms):
        return math.inf
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
            change = update(trained.group, state, w).mul_(float(trained.group["lr"]))
            if w.dtype in (torch.bfloat16, torch.float16):  # what storing it leaves of it
                change = _difference(w - change, w)
            square += square_of(change)
    return math.sqrt(total([square], parameter)[0] / max(parameter.numel(), 1))


@dataclass(frozen=True)
class Trial:
    """The rule of an optimizer class, to be applied to copies.

    Attributes:
        optimizer_class: of ``torch.optim``.
        options: its hyperparameters.
        factor: of the gradient.
    """

    optimizer_class: Any
    options: Mapping[str, Any]
    factor: float

    def after(self, before: torch.Tensor, gradient: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """A copy of ``before`` after one step."""
        copy = nn.Parameter(before.clone(), requires_grad=True)
        copy.grad = gradient.detach().clone() if self.factor == 1 else gradient.detach() * self.factor
        optimizer = self.optimizer_class([{**self.options, "params": [copy]}])
        optimizer.state[copy] = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
        self.optimizer_class.step.__wrapped__(optimizer)  # without the hooks that wrap it, which all optimizers share
        return copy.detach()


def trial_of(trained: Trained, *, fused: bool = False) -> Trial:
    options = {name: value for name, value in trained.group.items() if name not in ("params", "param_names")}
    options |= {name: False for name in ("differentiable", "foreach") if name in options}
    options |= {"fused": True} if fused else {}
    return Trial(trained.stepping_class, options, trained.gradient_factor)


def _square_by_blocks(trained: Trained) -> float:
    """‖after − before‖², one block at a time."""
    parameter = trained.parameter
    one_pass = trained.known.fused and parameter.dtype == torch.float32 and parameter.device.type == "cpu"
    trial, square = trial_of(trained, fused=one_pass), 0.0
    for p, g, state in trial_tensors(trained):
        square += _square(trial.after(p, g, state), p)
    return total([square], parameter)[0]


def trial_tensors(trained: Trained) -> Iterator[tuple[torch.Tensor, torch.Tensor, dict[str, Any]]]:
    """Parameter, gradient and state, one block at a time."""
    parameter, gradient, buffers = trained.parameter, trained.parameter.grad, _buffers(trained)
    if is_sharded(parameter) and gradient.placements != parameter.placements:  # type: ignore[union-attr, attr-defined]
        gradient = gradient.redistribute(placements=parameter.placements)  # type: ignore[union-attr, attr-defined]
    cut = (blocks(local(tensor)) for tensor in (parameter, gradient, *buffers.values()) if tensor is not None)
    for p, g, *entries in zip(*cut, strict=True):
        yield p, g, trained.state | dict(zip(buffers, entries, strict=True))


def _square_of_whole(trained: Trained, gradient: torch.Tensor) -> float | None:
    """The same at once; None where the optimizer cannot."""
    parameter = trained.parameter
    try:
        after = trial_of(trained).after(parameter.detach(), gradient, trained.state)
    except RuntimeError:  # Adafactor does not know DTensors
        if is_sharded(parameter):
            return None
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
