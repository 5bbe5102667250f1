"""What an optimizer divides a gradient by, and how large lr·λ may be before its steps grow on a quadratic."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn, optim

from scaleinv._stepping import stepping_class
from scaleinv.known_optimizers import KNOWN, GradientScale
from scaleinv.units import Unit

Group = Mapping[str, Any]


class Threshold(NamedTuple):
    """lr·λ_max at which a step on a quadratic neither shrinks nor grows, and the formula in words."""

    value: float
    law: str


@dataclass(frozen=True)
class Preconditioner:
    """How an optimizer weighs the coordinates of a gradient: an update is D·g, with D = lr·P⁻¹.

    Attributes:
        roots: √(D/scale) of each parameter, a tensor that broadcasts to its shape.
        scale: a power of two; with it, √D has the same bits whatever the power of two in the loss's unit.
        decays: coupled weight decay of each parameter, which is added to the diagonal of the Hessian.
        lr_factor: by which λ_max(D·H) is multiplied for lr·λ_max(P⁻¹H): 1, but 0 where all lr are 0, for D is P⁻¹ then.
        value_factor: by which it is multiplied for λ_max(P⁻¹H); NaN where groups differ in lr.
        unit: of λ_max(P⁻¹H).
        threshold: of lr·λ_max.
    """

    roots: Sequence[Tensor]
    scale: float
    decays: Sequence[float]
    lr_factor: float
    value_factor: float
    unit: Unit
    threshold: Threshold


def preconditioner_of(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> Preconditioner:
    """The preconditioner as the optimizer's last step had it.

    On a quadratic, the first eigenvalue to leave the unit circle is −1.  There an update with momentum is a number
    times the update without, the threshold over 2.  So groups of different thresholds are compared exactly: D of a
    group is multiplied by the first group's threshold over its own.

    Raises:
        ValueError: if the optimizer's class has no law here, or it has not stepped yet.
    """
    cls = stepping_class(type(optimizer))
    if cls not in _LAWS:
        names = ", ".join(sorted(each.__name__ for each in _LAWS))
        raise ValueError(
            f"optimizer={type(optimizer).__name__} has no preconditioner here; those of torch.optim that have one are "
            f"{names}. Without an optimizer, sharpness is that of the Hessian itself"
        )
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    groups = [group_of[id(p)] for p in parameters]
    _check_groups(groups)
    laws = [_LAWS[cls](group) for group in groups]
    lrs = [float(group["lr"]) for group in groups]
    moves = max(lrs) > 0
    weights = []
    for p, group, law, lr in zip(parameters, groups, laws, lrs, strict=True):
        factor = laws[0].value / law.value * (lr if moves else 1.0)
        weights.append(factor / _divisor(cls, group, optimizer.state.get(p, {}), p))
    scale = _power_of_two(weights[0])
    lr_unit = KNOWN[cls].units.hyperparameters["lr"]
    assert isinstance(lr_unit, Unit)
    decoupled = [KNOWN[cls].units.decay != "coupled" or group.get("decoupled_weight_decay") for group in groups]
    return Preconditioner(
        [(weight / scale).sqrt() for weight in weights],
        scale,
        [0.0 if apart else float(group.get("weight_decay", 0)) for apart, group in zip(decoupled, groups, strict=True)],
        float(moves),
        math.nan if len(set(lrs)) > 1 else 1 / lrs[0] if moves else 1.0,
        lr_unit**-1,
        laws[0],
    )


def _check_groups(groups: Sequence[Group]) -> None:
    for group in groups:
        if group.get("maximize"):
            raise ValueError("optimizer has maximize=True, where curvature pushes the other way; pass −loss without it")
        for name, value in (("momentum", group.get("momentum", 0)), ("betas[0]", (group.get("betas") or (0,))[0])):
            if not 0 <= float(value) < 1:
                raise ValueError(
                    f"optimizer has {name}={float(value):g}, with which no lr is stable; choose one below 1"
                )


def _divisor(cls: type, group: Group, state: Mapping[str, Any], p: nn.Parameter) -> Tensor:
    """P of one parameter: what its gradient is divided by, besides lr."""
    scales = KNOWN[cls].gradient_scales
    if not scales:
        return torch.ones((), dtype=p.dtype, device=p.device)
    if not float(state.get("step", 0)):
        raise ValueError(
            f"optimizer has not stepped on a parameter of shape {tuple(p.shape)} yet, so its second moment is not "
            "known; take a step first"
        )
    step = float(state["step"])
    root = _gradient_scale(next(each for each in scales if each.buffer in state), group, state, step)
    divisor = root + (0.0 if cls is optim.Adamax else float(group["eps"]))  # Adamax has eps in its maximum
    if "betas" in group:
        divisor = divisor * (1 - float(group["betas"][0]) ** step)
    if group.get("lr_decay"):
        divisor = divisor * (1 + (step - 1) * float(group["lr_decay"]))
    if not (divisor > 0).all():
        raise ValueError("optimizer divides by √v + eps = 0 somewhere; its steps are not numbers there: give it an eps")
    return divisor


def _gradient_scale(scale: GradientScale, group: Group, state: Mapping[str, Any], step: float) -> Tensor:
    buffer = state[scale.buffer]
    if group.get("centered"):
        buffer = (buffer - state["grad_avg"].square()).clamp(min=0)
    root = buffer.sqrt() if scale.power == 2 else buffer.clone()
    return root / math.sqrt(1 - float(group["betas"][1]) ** step) if scale.bias_corrected else root


def _power_of_two(weight: Tensor) -> float:
    """Near the largest entry of a tensor, 1 if there is none or it is 0."""
    largest = float(weight.max()) if weight.numel() else 0.0
    return 2.0 ** (math.frexp(largest)[1]) if largest > 0 else 1.0


# Thresholds: lr·λ at which the step on the quadratic λ·w²/2 has the eigenvalue −1.


def _heavy_ball(group: Group) -> Threshold:
    """b ← μ·b + (1−d)·g, w ← w − lr·b has z² − (1 + μ − (1−d)·lr·λ)·z + μ, 0 at −1 for lr·λ = 2(1+μ)/(1−d)."""
    momentum, kept = float(group.get("momentum", 0)), 1 - float(group.get("dampening", 0))
    if momentum == 0:
        return Threshold(2.0, "2, gradient descent")
    if group.get("nesterov"):
        return Threshold((2 + 2 * momentum) / (1 + 2 * momentum), "(2 + 2·momentum)/(1 + 2·momentum), Nesterov")
    if kept == 1:
        return Threshold(2 + 2 * momentum, "2·(1 + momentum), heavy ball")
    return Threshold((2 + 2 * momentum) / kept, "2·(1 + momentum)/(1 − dampening), heavy ball")


def _averaged(group: Group) -> Threshold:
    """m ← β₁·m + (1−β₁)·g, w ← (1−δ)·w − lr·m: 0 at −1 for lr·λ = (2−δ)·(1+β₁)/(1−β₁), where δ = lr·weight_decay
    for decoupled decay, else 0."""
    beta1, decoupled = float(group["betas"][0]), group.get("decoupled_weight_decay")
    shrinking = float(group["lr"]) * float(group["weight_decay"]) if decoupled else 0.0
    if not shrinking:
        return Threshold((2 + 2 * beta1) / (1 - beta1), "(2 + 2·β₁)/(1 − β₁), momentum that is an average")
    if shrinking >= 2:
        raise ValueError(f"optimizer has lr·weight_decay={shrinking:g}; from 2 on decay alone makes weights grow")
    value = (2 - shrinking) * (1 + beta1) / (1 - beta1)
    return Threshold(value, "(2 − lr·weight_decay)·(1 + β₁)/(1 − β₁), momentum that is an average")


_LAWS: dict[type, Callable[[Group], Threshold]] = {
    optim.SGD: _heavy_ball,
    optim.RMSprop: _heavy_ball,
    optim.Adagrad: _heavy_ball,
    optim.Adam: _averaged,
    optim.AdamW: _averaged,
    optim.Adamax: _averaged,
}
