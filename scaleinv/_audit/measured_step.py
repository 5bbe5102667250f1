"""How large the next step will be, by trial: the optimizer's own rule on a copy of a parameter, its gradient and its
state; and how large the last one was, by what Adam's state has kept."""

import math

import torch
from torch import nn, optim

from scaleinv._audit.amounts import blocks, is_sharded, local, numbers, square_of, total

# A coordinate's step depends on that coordinate alone: these are tried block by block.
_BY_COORDINATE = {
    optim.SGD, optim.ASGD, optim.Rprop, optim.Adagrad, optim.RMSprop, optim.Adadelta, optim.Adam, optim.AdamW,
    optim.Adamax, optim.NAdam, optim.RAdam,
}  # fmt: skip
_BY_TENSOR = {optim.SparseAdam, optim.Adafactor, optim.Muon}
_LARGEST_MUON = 1 << 16  # coordinates; on a CPU its steps of larger matrices take seconds
_FUSED = {optim.SGD, optim.Adam, optim.AdamW}


def next_step(optimizer, group, parameter, *, clip=1.0):
    """RMS of the change that ``optimizer.step()`` would make to ``parameter`` with its gradient as it is, weight decay
    and all; NaN without a gradient, of an optimizer outside ``torch.optim``, whose code may do more than that, and
    where the optimizer cannot step sharded parameters.

    Args:
        group: the parameter's group in ``optimizer.param_groups``.
        clip: a factor of the gradient, as by ``clip_grad_norm_``.

    Muon's steps of large matrices are not tried on a CPU (NaN): that would take as long as they do.

    Copied are one block of the parameter, its gradient and its state; the whole of them for sparse gradients and for
    Adafactor and Muon.
    """
    cls, gradient = type(optimizer), parameter.grad
    if gradient is None or cls not in _BY_COORDINATE | _BY_TENSOR:
        return math.nan
    if cls is optim.Muon and parameter.device.type == "cpu" and parameter.numel() > _LARGEST_MUON:
        return math.nan
    state = optimizer.state.get(parameter, {})
    options = {name: value for name, value in group.items() if name not in ("params", "param_names")}
    options |= {name: False for name in ("differentiable", "foreach") if name in options}
    with torch.no_grad():
        if cls in _BY_TENSOR or gradient.layout != torch.strided:
            try:
                square = _tried(cls, options, parameter.detach(), gradient, state, clip)
            except RuntimeError:  # Adafactor does not know DTensors
                if is_sharded(parameter):
                    return math.nan
                raise
            return math.sqrt(square / max(parameter.numel(), 1))
        if is_sharded(parameter) and gradient.placements != parameter.placements:
            gradient = gradient.redistribute(placements=parameter.placements)
        if cls in _FUSED and parameter.dtype == torch.float32 and parameter.device.type == "cpu":
            options |= {"fused": True}  # in one pass
        alike = {name for name, value in state.items() if _alike(value, parameter)}
        parts = [local(parameter), local(gradient), *(local(state[name]) for name in alike)]
        square = 0.0
        for p, g, *entries in zip(*map(blocks, parts)):
            square += _tried(cls, options, p, g, state | dict(zip(alike, entries)), clip)
    return math.sqrt(total([square], parameter)[0] / max(parameter.numel(), 1))


def last_step(optimizer, group, parameter):
    """RMS of lr·(m̂/(√v̂ + eps) + λ·w) from the state of Adam or AdamW: the last step, up to how w has changed since; NaN
    for another optimizer.  Coupled decay is in m."""
    if type(optimizer) not in (optim.Adam, optim.AdamW):
        return math.nan
    state = optimizer.state.get(parameter, {})
    first, second = state.get("exp_avg"), state.get("max_exp_avg_sq", state.get("exp_avg_sq"))
    step = float(state.get("step", 0))
    if first is None or second is None or not step or parameter.is_complex():
        return math.nan
    lr, (beta1, beta2), eps = float(group["lr"]), map(float, group["betas"]), group["eps"]
    decay = group["weight_decay"] if group.get("decoupled_weight_decay") else 0
    square = 0.0
    with torch.no_grad():
        for w, m, v in zip(*(blocks(local(t.detach())) for t in (parameter, first, second))):
            root = v.sqrt().div_(math.sqrt(1 - beta2**step)).add_(eps)
            root = torch.div(m, root, out=root).div_(1 - beta1**step)
            if decay:
                root.add_(w, alpha=decay)
            square += square_of(root)
    return lr * math.sqrt(total([square], parameter)[0] / max(parameter.numel(), 1))


def _tried(cls, options, p, gradient, state, clip):
    """‖after − before‖² of a copy of p."""
    copy = nn.Parameter(p.clone(), requires_grad=True)
    copy.grad = gradient.detach().clone() if clip == 1 else gradient.detach() * clip
    trial = cls([options | {"params": [copy]}])
    trial.state[copy] = {name: v.clone() if isinstance(v, torch.Tensor) else v for name, v in state.items()}
    cls.step.__wrapped__(trial)  # without the hooks that wrap it, which are of all optimizers
    after, before = copy.detach(), p
    if is_sharded(p):
        return total([_square(local(after), local(before))], p)[0]
    return _square(after, before)


def _square(after, before):
    pairs = zip(blocks(numbers(after)), blocks(numbers(before)))
    return sum(square_of(_difference(a, b)) for a, b in pairs)


def _difference(a, b):
    return a - b if a.dtype in (torch.float32, torch.float64) else a.float() - b.float()


def _alike(value, parameter):
    return isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.layout == torch.strided
