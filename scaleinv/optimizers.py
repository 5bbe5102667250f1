"""Update rules as pure functions on tensors: one rule, one equation, about ten lines.

A factory such as ``adam`` takes ``torch.optim``'s arguments and returns an ``Optimizer``, two functions of dicts
name → tensor that change nothing passed to them::

    init(params) → state            update(grads, state, params) → (updates, state)

>>> import torch
>>> from scaleinv.optimizers import adam, apply_updates
>>> params, grads = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.5, -3.0])}
>>> optimizer = adam(lr=0.1)
>>> updates, state = optimizer.update(grads, optimizer.init(params), params)
>>> apply_updates(params, updates)
{'w': tensor([0.9000, 2.1000])}

A float hyperparameter may be a 1-d tensor: one entry for each member of an ensemble, whose parameters and
gradients are stacked along a leading axis.  A member gets, bit for bit, what it would get alone.

Arithmetic follows ``torch.optim``: scalars in float64, tensors in the parameter's dtype.  Half-precision tensors
are computed with in float32: the state is rounded back, and the updates stay in float32 until ``apply_updates``.
"""
# ruff: noqa: PLR0913  (the arguments of a rule are the arguments of its optimizer)

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from scaleinv._float64 import finest
from scaleinv._rule import (
    Buffer,
    Hyperparameters,
    Optimizer,
    Pair,
    Scalar,
    apply_updates,
    norm,
    power,
    rule,
    zeros,
    zeros_if,
)  # fmt: skip

__all__ = [
    "Buffer", "Optimizer", "adadelta", "adagrad", "adam", "adamax", "adamw", "apply_updates", "lamb", "lion", "nadam",
    "radam", "rmsprop", "rule", "sgd", "signsgd", "zeros",
]  # fmt: skip

# The rules.  g is the gradient, w the parameter, s the buffers, at.t the step; the update is what is added to w.


def decayed(g: Tensor, w: Tensor, weight_decay: Scalar) -> Tensor:
    """g + weight_decay·w, the gradient of the loss with weight decay in it."""
    return torch.addcmul(g, in_dtype(weight_decay, g.dtype), w)


def in_dtype(x: Scalar, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if isinstance(x, Tensor) else torch.tensor(x, dtype=dtype, device="cpu")


def check_nesterov(arguments: Mapping[str, Any], h: Hyperparameters) -> None:
    if h["nesterov"] and not ((h["momentum"] > 0).all() and (h["dampening"] == 0).all()):
        raise ValueError(
            f"nesterov=True with momentum={arguments['momentum']!r}, dampening={arguments['dampening']!r}: "
            "it needs momentum > 0 and dampening = 0; set them so, or nesterov=False"
        )


@rule(check=check_nesterov, momentum_buffer=zeros)
def sgd(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-3, momentum: Scalar = 0.0, dampening: Scalar = 0.0, weight_decay: Scalar = 0.0,
    nesterov: bool = False,
) -> Tensor:  # fmt: skip
    """Stochastic gradient descent with momentum, as in torch.optim.SGD.  Sutskever et al. (2013), ICML.

    ::

        b₁ = g₁,  b = μ·b + (1 − τ)·g;    w ← w − lr·b,  or with nesterov  w ← w − lr·(g + μ·b).
        Without momentum (μ = 0) dampening τ has no effect.

    >>> import torch
    >>> from scaleinv.optimizers import sgd
    >>> optimizer, w, g = sgd(lr=0.1, momentum=0.9), {"w": torch.zeros(2)}, {"w": torch.tensor([0.5, -3.0])}
    >>> _, state = optimizer.update(g, optimizer.init(w), w)
    >>> optimizer.update(g, state, w)[0]
    {'w': tensor([-0.0950,  0.5700])}
    """
    g = decayed(g, w, weight_decay)
    dampening = torch.where((momentum == 0) | (at.t == 1), 0.0, dampening)
    s.momentum_buffer = momentum * s.momentum_buffer + (1 - dampening) * g
    return -lr * (g + momentum * s.momentum_buffer if nesterov else s.momentum_buffer)


@rule()
def signsgd(g: Tensor, w: Tensor, s: Any, at: Any, lr: Scalar = 1e-3) -> Tensor:
    """signSGD.  Bernstein et al. (2018), arXiv 1802.04434, Algorithm 1.

    ::

        w ← w − lr·sign(g)

    >>> import torch
    >>> from scaleinv.optimizers import signsgd
    >>> optimizer, w = signsgd(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1000,  0.1000])}
    """
    return -lr * g.sign()


def initial_accumulator(w: Tensor, h: Hyperparameters) -> Tensor:
    return (torch.zeros_like(w) + h["initial_accumulator_value"]).to(w.dtype)


@rule(sum=Buffer(initial_accumulator))
def adagrad(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-2, lr_decay: Scalar = 0.0, weight_decay: Scalar = 0.0, initial_accumulator_value: Scalar = 0.0,
    eps: Scalar = 1e-10,
) -> Tensor:  # fmt: skip
    """Adagrad.  Duchi, Hazan & Singer (2011), JMLR 12:2121-2159.

    ::

        sum = sum + g²;    w ← w − lr/(1 + (t − 1)·lr_decay) · g / (√sum + ε)

    >>> import torch
    >>> from scaleinv.optimizers import adagrad
    >>> optimizer, w, g = adagrad(lr=0.1), {"w": torch.zeros(2)}, {"w": torch.tensor([0.5, -3.0])}
    >>> _, state = optimizer.update(g, optimizer.init(w), w)
    >>> optimizer.update(g, state, w)[0]  # 1/√2 of the first
    {'w': tensor([-0.0707,  0.0707])}
    """
    g = decayed(g, w, weight_decay)
    s.sum = s.sum + g * g
    return -lr / (1 + (at.t - 1) * lr_decay) * g / (s.sum.sqrt() + eps)


@rule(square_avg=zeros, momentum_buffer=zeros, grad_avg=zeros_if("centered"))
def rmsprop(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-2, alpha: Scalar = 0.99, eps: Scalar = 1e-8, weight_decay: Scalar = 0.0, momentum: Scalar = 0.0,
    centered: bool = False,
) -> Tensor:  # fmt: skip
    """RMSprop.  Tieleman & Hinton (2012), Coursera, lecture 6.5; centred: Graves (2013), arXiv 1308.0850.

    ::

        v = α·v + (1 − α)·g²;    centred: a = α·a + (1 − α)·g and v − a² in place of v below;
        b = μ·b + g/(√v + ε);    w ← w − lr·b

    >>> import torch
    >>> from scaleinv.optimizers import rmsprop
    >>> optimizer, w = rmsprop(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]  # lr/√(1 − α)
    {'w': tensor([-1.0000,  1.0000])}
    """
    g = decayed(g, w, weight_decay)
    v = s.square_avg = alpha * s.square_avg + (1 - alpha) * g * g
    if centered:
        s.grad_avg = alpha * s.grad_avg + (1 - alpha) * g
        v = v - s.grad_avg * s.grad_avg
    s.momentum_buffer = momentum * s.momentum_buffer + g / (v.sqrt() + eps)
    return -lr * s.momentum_buffer


@rule(square_avg=zeros, acc_delta=zeros)
def adadelta(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1.0, rho: Scalar = 0.9, eps: Scalar = 1e-6, weight_decay: Scalar = 0.0,
) -> Tensor:  # fmt: skip
    """Adadelta.  Zeiler (2012), arXiv 1212.5701, Algorithm 1 (there lr = 1).

    ::

        v = ρ·v + (1 − ρ)·g²;    Δ = √(u + ε)/√(v + ε)·g;    u = ρ·u + (1 − ρ)·Δ²;    w ← w − lr·Δ

    >>> import torch
    >>> from scaleinv.optimizers import adadelta
    >>> optimizer, w = adadelta(eps=1e-4), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]  # √(ε/(1 − ρ)) at first
    {'w': tensor([-0.0316,  0.0316])}
    """
    g = decayed(g, w, weight_decay)
    # addcmul(a, b, c) is a + b·c rounded as torch.optim rounds it: a bit lost early counts several times at the end
    s.square_avg = torch.addcmul(rho * s.square_avg, (1 - rho) * g, g)
    delta = (s.acc_delta + eps).sqrt() / (s.square_avg + eps).sqrt() * g
    s.acc_delta = torch.addcmul(rho * s.acc_delta, (1 - rho) * delta, delta)
    return -lr * delta


def average(old: Tensor, new: Tensor, beta: Scalar) -> Tensor:
    """β·old + (1 − β)·new"""
    return torch.lerp(old, new, in_dtype(1 - beta, old.dtype))


def powers_of_betas(t: int, h: Hyperparameters) -> dict[str, Any]:
    """β₁ᵗ and β₂ᵗ"""
    return {"betas_t": tuple(power(beta, t) for beta in h["betas"])}


def moments(s: Any, g: Tensor, betas: Pair) -> tuple[Tensor, Tensor]:
    """m = β₁·m + (1 − β₁)·g and v = β₂·v + (1 − β₂)·g², the moving averages that Adam's family shares."""
    s.exp_avg = average(s.exp_avg, g, betas[0])
    s.exp_avg_sq = average(s.exp_avg_sq, g * g, betas[1])
    return s.exp_avg, s.exp_avg_sq


def adam_ratio(s: Any, at: Any, g: Tensor, betas: Pair, eps: Scalar, factor: Scalar, amsgrad: bool = False) -> Tensor:
    """factor·m̂/(√v̂ + ε) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ); with amsgrad v is the largest v so far."""
    m, v = moments(s, g, betas)
    if amsgrad:
        v = s.max_exp_avg_sq = torch.maximum(s.max_exp_avg_sq, v)
    return factor / (1 - at.betas_t[0]) * m / (v.sqrt() / (1 - at.betas_t[1]).sqrt() + eps)


@rule(powers_of_betas, exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=zeros_if("amsgrad"))
def adam(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
) -> Tensor:  # fmt: skip
    """Adam.  Kingma & Ba (2015), arXiv 1412.6980, Algorithm 1; amsgrad: Reddi et al. (2018), arXiv 1904.09237.

    ::

        m = β₁·m + (1 − β₁)·g;    v = β₂·v + (1 − β₂)·g²;    w ← w − lr·m̂/(√v̂ + ε)
        with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), and weight_decay·w added to g.

    >>> import torch
    >>> from scaleinv.optimizers import adam
    >>> optimizer, w = adam(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1000,  0.1000])}
    """
    return adam_ratio(s, at, decayed(g, w, weight_decay), betas, eps, -lr, amsgrad)


@rule(powers_of_betas, exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=zeros_if("amsgrad"))
def adamw(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-8, weight_decay: Scalar = 1e-2,
    amsgrad: bool = False,
) -> Tensor:  # fmt: skip
    """AdamW.  Loshchilov & Hutter (2019), arXiv 1711.05101, Algorithm 2, decay times lr as in torch.optim.

    ::

        w ← w − lr·weight_decay·w − lr·m̂/(√v̂ + ε), with Adam's m̂ and v̂

    >>> import torch
    >>> from scaleinv.optimizers import adamw
    >>> optimizer, w = adamw(lr=0.1, weight_decay=0.5), {"w": torch.ones(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1500,  0.0500])}
    """
    return -lr * weight_decay * w + adam_ratio(s, at, g, betas, eps, -lr, amsgrad)


@rule(powers_of_betas, exp_avg=zeros, exp_inf=zeros)
def adamax(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 2e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
) -> Tensor:  # fmt: skip
    """Adamax.  Kingma & Ba (2015), arXiv 1412.6980, Algorithm 2; ε as in torch.optim.

    ::

        m = β₁·m + (1 − β₁)·g;    u = max(β₂·u, |g| + ε);    w ← w − lr/(1 − β₁ᵗ) · m/u

    >>> import torch
    >>> from scaleinv.optimizers import adamax
    >>> optimizer, w = adamax(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1000,  0.1000])}
    """
    g = decayed(g, w, weight_decay)
    s.exp_avg = average(s.exp_avg, g, betas[0])
    s.exp_inf = torch.maximum(betas[1] * s.exp_inf, g.abs() + eps)
    return -lr / (1 - at.betas_t[0]) * s.exp_avg / s.exp_inf


def nadam_scalars(t: int, h: Hyperparameters) -> dict[str, Any]:
    """μₜ = β₁·(1 − ½·0.96^(t·momentum_decay)), μₜ₊₁, and β₁ᵗ, β₂ᵗ"""
    mu, mu_next = (h["betas"][0] * (1 - 0.5 * power(0.96, step * h["momentum_decay"])) for step in (t, t + 1))
    return {"mu": mu, "mu_next": mu_next, **powers_of_betas(t, h)}


def one(w: Tensor, h: Hyperparameters) -> Tensor:
    return torch.ones((), dtype=finest(w.device), device=w.device)


@rule(nadam_scalars, exp_avg=zeros, exp_avg_sq=zeros, mu_product=Buffer(one, scalar=True))
def nadam(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 2e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
    momentum_decay: Scalar = 4e-3,
) -> Tensor:  # fmt: skip
    """NAdam.  Dozat (2016), "Incorporating Nesterov momentum into Adam", ICLR workshop; as in torch.optim.NAdam.

    ::

        μₜ = β₁·(1 − ½·0.96^(t·momentum_decay));    Πₜ = μ₁·…·μₜ;
        w ← w − lr·[(1 − μₜ)/(1 − Πₜ)·g + μₜ₊₁/(1 − Πₜ₊₁)·m] / (√v̂ + ε), with Adam's m and v̂

    >>> import torch
    >>> from scaleinv.optimizers import nadam
    >>> optimizer, w = nadam(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1056,  0.1056])}
    """
    g = decayed(g, w, weight_decay)
    m, v = moments(s, g, betas)
    s.mu_product = s.mu_product * at.mu
    of_g, of_m = lr * (1 - at.mu) / (1 - s.mu_product), lr * at.mu_next / (1 - s.mu_product * at.mu_next)
    denominator = (v / (1 - at.betas_t[1])).sqrt() + eps
    return -of_g * g / denominator - of_m * m / denominator


@rule(powers_of_betas, exp_avg=zeros, exp_avg_sq=zeros)
def radam(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-8, weight_decay: Scalar = 0.0,
) -> Tensor:  # fmt: skip
    """RAdam.  Liu et al. (2020), arXiv 1908.03265, Algorithm 2; with ρₜ > 5 for the paper's 4, as in torch.optim.

    ::

        ρ∞ = 2/(1 − β₂) − 1;    ρₜ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ);    r = √[(ρₜ−4)(ρₜ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρₜ)];
        w ← w − lr·m̂·r·√(1 − β₂ᵗ)/(√v + ε) where ρₜ > 5, else w ← w − lr·m̂

    >>> import torch
    >>> from scaleinv.optimizers import radam
    >>> optimizer, w = radam(lr=0.1), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]  # −lr·m̂ in the first five steps
    {'w': tensor([-0.0500,  0.3000])}
    """
    m, v = moments(s, decayed(g, w, weight_decay), betas)
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * at.t * at.betas_t[1] / (1 - at.betas_t[1])
    r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)).sqrt()
    adaptive = torch.where(rho > 5, r * (1 - at.betas_t[1]).sqrt() / (v.sqrt() + eps), 1.0)
    return -lr * (m / (1 - at.betas_t[0])) * adaptive


@rule(exp_avg=zeros)
def lion(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-4, betas: Pair = (0.9, 0.99), weight_decay: Scalar = 0.0,
) -> Tensor:  # fmt: skip
    """Lion.  Chen et al. (2023), arXiv 2302.06675, Algorithm 2; decay times lr.

    ::

        w ← w − lr·[sign(β₁·m + (1 − β₁)·g) + weight_decay·w];    m = β₂·m + (1 − β₂)·g

    >>> import torch
    >>> from scaleinv.optimizers import lion
    >>> optimizer, w = lion(lr=0.1, weight_decay=0.5), {"w": torch.ones(2)}
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.1500,  0.0500])}
    """
    direction = average(s.exp_avg, g, betas[0]).sign()
    s.exp_avg = average(s.exp_avg, g, betas[1])
    return -lr * (direction + weight_decay * w)


@rule(powers_of_betas, elementwise=False, exp_avg=zeros, exp_avg_sq=zeros)
def lamb(
    g: Tensor, w: Tensor, s: Any, at: Any,
    lr: Scalar = 1e-3, betas: Pair = (0.9, 0.999), eps: Scalar = 1e-6, weight_decay: Scalar = 0.0,
) -> Tensor:  # fmt: skip
    """LAMB.  You et al. (2020), arXiv 1904.00962, Algorithm 2: with bias correction, φ the identity, no clipping.

    ::

        r = m̂/(√v̂ + ε) + weight_decay·w;    w ← w − lr·(‖w‖/‖r‖)·r; the ratio is 1 where a norm is 0.
        Norms are over one parameter tensor of one member: to stack members, pass some hyperparameter as a 1-d tensor.

    >>> import torch
    >>> from scaleinv.optimizers import lamb
    >>> optimizer, w = lamb(lr=0.1), {"w": torch.tensor([3.0, 4.0])}  # ‖w‖/‖r‖ = 5/√2
    >>> optimizer.update({"w": torch.tensor([0.5, -3.0])}, optimizer.init(w), w)[0]
    {'w': tensor([-0.3536,  0.3536])}
    """
    r = adam_ratio(s, at, g, betas, eps, 1.0) + weight_decay * w
    norm_w, norm_r = norm(w), norm(r)
    ratio = torch.where((norm_w > 0) & (norm_r > 0), norm_w / norm_r, 1.0)
    return -lr * ratio * r
