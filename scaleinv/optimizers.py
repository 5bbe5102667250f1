"""Update rules as pure functions on tensors: one rule, one equation, about ten lines.

A factory such as ``adam`` takes ``torch.optim``'s arguments and returns an ``Optimizer`` of two functions over
dicts name → tensor, neither of which changes what it is given::

    init(params) → state            update(grads, state, params) → (updates, state)

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

import torch

from scaleinv._rule import Optimizer, apply_updates, norm, power, rule

__all__ = [
    "Optimizer", "adadelta", "adagrad", "adam", "adamax", "adamw", "apply_updates", "lamb", "lion", "nadam", "radam",
    "rmsprop", "sgd", "signsgd",
]  # fmt: skip

# The rules.  g is the gradient, w the parameter, t the step; the update is what is added to w.


def zeros(w, h):
    return torch.zeros_like(w)


def zeros_if(flag):
    return lambda w, h: torch.zeros_like(w) if h[flag] else None


def decayed(g, w, weight_decay):
    """g + weight_decay·w, the gradient of the loss with weight decay in it."""
    return torch.addcmul(g, weight_decay.to(g.dtype), w)


@rule(momentum_buffer=zeros)
def sgd(g, w, t, s, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    """Stochastic gradient descent with momentum, as in torch.optim.SGD.  Sutskever et al. (2013), ICML.

    ::

        b₁ = g₁,  b = μ·b + (1 − τ)·g;    w ← w − lr·b,  or with nesterov  w ← w − lr·(g + μ·b).
        Without momentum (μ = 0) dampening τ has no say.
    """
    g = decayed(g, w, weight_decay)
    dampening = torch.where((momentum == 0) | (t == 1), 0.0, dampening)
    s.momentum_buffer = momentum * s.momentum_buffer + (1 - dampening) * g
    return -lr * (g + momentum * s.momentum_buffer if nesterov else s.momentum_buffer)


@rule()
def signsgd(g, w, t, s, *, lr=1e-3):
    """signSGD.  Bernstein et al. (2018), arXiv 1802.04434, Algorithm 1.

    ::

        w ← w − lr·sign(g)
    """
    return -lr * g.sign()


@rule(sum=lambda w, h: (torch.zeros_like(w) + h["initial_accumulator_value"]).to(w.dtype))
def adagrad(g, w, t, s, *, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10):
    """Adagrad.  Duchi, Hazan & Singer (2011), JMLR 12:2121-2159.

    ::

        sum = sum + g²;    w ← w − lr/(1 + (t − 1)·lr_decay) · g / (√sum + ε)
    """
    g = decayed(g, w, weight_decay)
    s.sum = s.sum + g * g
    return -lr / (1 + (t - 1) * lr_decay) * g / (s.sum.sqrt() + eps)


@rule(square_avg=zeros, momentum_buffer=zeros, grad_avg=zeros_if("centered"))
def rmsprop(g, w, t, s, *, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False):
    """RMSprop.  Tieleman & Hinton (2012), Coursera, lecture 6.5; centred: Graves (2013), arXiv 1308.0850.

    ::

        v = α·v + (1 − α)·g²;    centred: a = α·a + (1 − α)·g and v − a² in place of v below;
        b = μ·b + g/(√v + ε);    w ← w − lr·b
    """
    g = decayed(g, w, weight_decay)
    v = s.square_avg = alpha * s.square_avg + (1 - alpha) * g * g
    if centered:
        s.grad_avg = alpha * s.grad_avg + (1 - alpha) * g
        v = v - s.grad_avg * s.grad_avg
    s.momentum_buffer = momentum * s.momentum_buffer + g / (v.sqrt() + eps)
    return -lr * s.momentum_buffer


@rule(square_avg=zeros, acc_delta=zeros)
def adadelta(g, w, t, s, *, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    """Adadelta.  Zeiler (2012), arXiv 1212.5701, Algorithm 1 (there lr = 1).

    ::

        v = ρ·v + (1 − ρ)·g²;    Δ = √(u + ε)/√(v + ε)·g;    u = ρ·u + (1 − ρ)·Δ²;    w ← w − lr·Δ
    """
    g = decayed(g, w, weight_decay)
    # addcmul(a, b, c) is a + b·c rounded as torch.optim rounds it: a bit lost early counts several times at the end
    s.square_avg = torch.addcmul(rho * s.square_avg, (1 - rho) * g, g)
    delta = (s.acc_delta + eps).sqrt() / (s.square_avg + eps).sqrt() * g
    s.acc_delta = torch.addcmul(rho * s.acc_delta, (1 - rho) * delta, delta)
    return -lr * delta


def average(old, new, beta):
    """β·old + (1 − β)·new"""
    return torch.lerp(old, new, (1 - beta).to(old.dtype))


def betas_t(t, h):
    """β₁ᵗ and β₂ᵗ"""
    return {"betas_t": tuple(power(beta, t) for beta in h["betas"])}


def moments(s, g, betas):
    """m = β₁·m + (1 − β₁)·g and v = β₂·v + (1 − β₂)·g², the moving averages that Adam's family shares."""
    s.exp_avg = average(s.exp_avg, g, betas[0])
    s.exp_avg_sq = average(s.exp_avg_sq, g * g, betas[1])
    return s.exp_avg, s.exp_avg_sq


def adam_step(s, g, lr, betas, betas_t, eps, amsgrad=False):
    """lr·m̂/(√v̂ + ε) with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ); with amsgrad v is the largest v so far."""
    m, v = moments(s, g, betas)
    if amsgrad:
        v = s.max_exp_avg_sq = torch.maximum(s.max_exp_avg_sq, v)
    return lr / (1 - betas_t[0]) * m / (v.sqrt() / (1 - betas_t[1]).sqrt() + eps)


@rule(betas_t, exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=zeros_if("amsgrad"))
def adam(g, w, t, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, betas_t):
    """Adam.  Kingma & Ba (2015), arXiv 1412.6980, Algorithm 1; amsgrad: Reddi et al. (2018), arXiv 1904.09237.

    ::

        m = β₁·m + (1 − β₁)·g;    v = β₂·v + (1 − β₂)·g²;    w ← w − lr·m̂/(√v̂ + ε)
        with m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), and weight_decay·w added to g.
    """
    return adam_step(s, decayed(g, w, weight_decay), -lr, betas, betas_t, eps, amsgrad)


@rule(betas_t, exp_avg=zeros, exp_avg_sq=zeros, max_exp_avg_sq=zeros_if("amsgrad"))
def adamw(g, w, t, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, betas_t):
    """AdamW.  Loshchilov & Hutter (2019), arXiv 1711.05101, Algorithm 2, decay times lr as in torch.optim.

    ::

        w ← w − lr·weight_decay·w − lr·m̂/(√v̂ + ε), with Adam's m̂ and v̂
    """
    return -lr * weight_decay * w + adam_step(s, g, -lr, betas, betas_t, eps, amsgrad)


@rule(betas_t, exp_avg=zeros, exp_inf=zeros)
def adamax(g, w, t, s, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, betas_t):
    """Adamax.  Kingma & Ba (2015), arXiv 1412.6980, Algorithm 2; ε as in torch.optim.

    ::

        m = β₁·m + (1 − β₁)·g;    u = max(β₂·u, |g| + ε);    w ← w − lr/(1 − β₁ᵗ) · m/u
    """
    g = decayed(g, w, weight_decay)
    s.exp_avg = average(s.exp_avg, g, betas[0])
    s.exp_inf = torch.maximum(betas[1] * s.exp_inf, g.abs() + eps)
    return -lr / (1 - betas_t[0]) * s.exp_avg / s.exp_inf


def nadam_scalars(t, h):
    """μₜ = β₁·(1 − ½·0.96^(t·momentum_decay)), μₜ₊₁, and β₁ᵗ, β₂ᵗ"""
    mu, mu_next = (h["betas"][0] * (1 - 0.5 * power(0.96, step * h["momentum_decay"])) for step in (t, t + 1))
    return {"mu": mu, "mu_next": mu_next, **betas_t(t, h)}


def one(w, h):
    return torch.ones((), dtype=torch.float64, device=w.device)


@rule(nadam_scalars, exp_avg=zeros, exp_avg_sq=zeros, mu_product=one)
def nadam(
    g, w, t, s, *, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, momentum_decay=4e-3, mu, mu_next, betas_t
):
    """NAdam.  Dozat (2016), "Incorporating Nesterov momentum into Adam", ICLR workshop; as in torch.optim.NAdam.

    μₜ = β₁·(1 − ½·0.96^(t·momentum_decay));    Πₜ = μ₁·…·μₜ;
    w ← w − lr·[(1 − μₜ)/(1 − Πₜ)·g + μₜ₊₁/(1 − Πₜ₊₁)·m] / (√v̂ + ε), with Adam's m and v̂
    """
    g = decayed(g, w, weight_decay)
    m, v = moments(s, g, betas)
    s.mu_product = s.mu_product * mu
    of_g, of_m = lr * (1 - mu) / (1 - s.mu_product), lr * mu_next / (1 - s.mu_product * mu_next)
    denominator = (v / (1 - betas_t[1])).sqrt() + eps
    return -of_g * g / denominator - of_m * m / denominator


@rule(betas_t, exp_avg=zeros, exp_avg_sq=zeros)
def radam(g, w, t, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, betas_t):
    """RAdam.  Liu et al. (2020), arXiv 1908.03265, Algorithm 2; with ρₜ > 5 for the paper's 4, as in torch.optim.

    ::

        ρ∞ = 2/(1 − β₂) − 1;    ρₜ = ρ∞ − 2t·β₂ᵗ/(1 − β₂ᵗ);    r = √[(ρₜ−4)(ρₜ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρₜ)];
        w ← w − lr·m̂·r·√(1 − β₂ᵗ)/(√v + ε) where ρₜ > 5, else w ← w − lr·m̂
    """
    m, v = moments(s, decayed(g, w, weight_decay), betas)
    rho_inf = 2 / (1 - betas[1]) - 1
    rho = rho_inf - 2 * t * betas_t[1] / (1 - betas_t[1])
    r = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)).sqrt()
    adaptive = torch.where(rho > 5, r * (1 - betas_t[1]).sqrt() / (v.sqrt() + eps), 1.0)
    return -lr * (m / (1 - betas_t[0])) * adaptive


@rule(exp_avg=zeros)
def lion(g, w, t, s, *, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
    """Lion.  Chen et al. (2023), arXiv 2302.06675, Algorithm 2; decay times lr.

    ::

        w ← w − lr·[sign(β₁·m + (1 − β₁)·g) + weight_decay·w];    m = β₂·m + (1 − β₂)·g
    """
    direction = average(s.exp_avg, g, betas[0]).sign()
    s.exp_avg = average(s.exp_avg, g, betas[1])
    return -lr * (direction + weight_decay * w)


@rule(betas_t, coordinatewise=False, exp_avg=zeros, exp_avg_sq=zeros)
def lamb(g, w, t, s, *, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0, betas_t):
    """LAMB.  You et al. (2020), arXiv 1904.00962, Algorithm 2: with bias correction, φ the identity, no clipping.

    ::

        r = m̂/(√v̂ + ε) + weight_decay·w;    w ← w − lr·(‖w‖/‖r‖)·r; the ratio is 1 where a norm is 0.
        Norms are over one parameter tensor of one member: to stack members, give some hyperparameter as a 1-d tensor.
    """
    r = adam_step(s, g, 1.0, betas, betas_t, eps) + weight_decay * w
    norm_w, norm_r = norm(w), norm(r)
    ratio = torch.where((norm_w > 0) & (norm_r > 0), norm_w / norm_r, 1.0)
    return -lr * ratio * r
