r"""How large a step of Adam is, in closed form: m/√v under noise, at worst and under drift, and where it leads.

Arguments are numbers or tensors that broadcast; results are float64 tensors on the CPU.  An argument outside its
range raises ValueError, one that is not a number TypeError; both name it, its value and what to pass instead.

Throughout, m = β₁·m + (1 − β₁)·g and v = β₂·v + (1 − β₂)·g², ε = 0, so that a step of Adam is lr·m̂/√v̂.  For
one coordinate, μ and σ are the gradient's mean and standard deviation, s = \|μ\|/σ its signal-to-noise ratio and ρ
its autocorrelation at lag one: ρᵏ at lag k, as in an AR(1) process, x ← ρ·x + √(1 − ρ²)·noise.
"""

import torch
from torch import Tensor

from scaleinv._checks import CORRELATION, POSITIVE_RATE, SLOW_RATE, STEPS_OR_INFINITE, checked

__all__ = [
    "displacement", "drift_rate", "drifting_update", "equilibrium_rms", "equilibrium_step", "largest_update",
    "largest_update_gradients", "update_rms",
]  # fmt: skip

Number = float | Tensor


def update_rms(beta1: Number, beta2: Number = 1.0, *, snr: Number = 0.0, autocorrelation: Number = 0.0) -> Tensor:
    r"""RMS(m/√v) for stationary gradients: a step of Adam in units of lr.

    ::

        RMS² = [s² + A(β₁, ρ)] / (s² + 1),    A(β, ρ) = (1−β)/(1+β) · (1+βρ)/(1−βρ),    for β₂ → 1

    Derivation: v averages so long that v = E[g²] = μ² + σ², and E[m²] = μ² + Var(m).  m weighs g at lag i by
    (1−β₁)·β₁ⁱ, so that Var(m) = σ²·(1−β₁)²·Σᵢⱼ β₁ⁱ⁺ʲ·ρ^\|i−j\| = σ²·A(β₁, ρ).  For s = ρ = 0 this is Kosson et al.
    (2024), arXiv 2305.17212, and Su Jianlin (2025), "Why is Adam's update RMS 0.2?".

    For β₂ < 1 v is noisy, and correlated with m.  To second order in v − E[v],
    E[m²/v] = E[m²]/E[v]·(1 − x) with x = Cov(m², v)/(E[m²]·E[v]) − Var(v)/E[v]²; both are sums of geometric
    series for normally distributed gradients, which chapter 2 of the book writes out.  For s = ρ = 0,
    x = 2·(1−β₂)·[(1−β₁²)/(1−β₁²β₂) − 1/(1+β₂)].  1/(1 + x) in place of 1 − x agrees to that order, and is closer
    beyond it for ρ ≥ 0.

    Args:
        beta1: β₁ in [0, 1).
        beta2: β₂ in [0.8, 1]; 1 stands for the limit of slow averages.
        snr: s in [0, ∞]; infinite for a constant gradient.
        autocorrelation: ρ in (−1, 1).

    Returns:
        A pure number, 1 for β₁ = s = 0 and β₂ → 1, and 1 for s = ∞; NaN where x ≤ −1, far outside the range below.

    Validity: the largest relative error against simulations with normal gradients, β₁ ≤ 0.9 and s ≤ 1, each known to
    0.1 %, at β₂ = 0.99, 0.95, 0.9, 0.8: 0.2, 0.8, 1.5, 3.9 % for \|ρ\| ≤ ½ and 0.7, 2.4, 2.7, 4.2 % at ρ = 0.9; but
    0.5, 8, 23, 95 % at ρ = −0.9.  That of the limit β₂ = 1 is 2, 7, 10, 13 %, 6, 15, 17, 17 % and 3, 11, 17, 25 %.
    For another distribution and s = ρ = 0, x is multiplied by (kurtosis − 1)/2.  The gradients have to have been
    stationary for several times 1/(1 − β₂) steps.

    Raises:
        TypeError, ValueError: see the module's docstring.

    >>> import torch
    >>> from scaleinv.laws import update_rms
    >>> update_rms(0.9)
    tensor(0.2294, dtype=torch.float64)
    >>> update_rms(0.9, 0.95, autocorrelation=torch.tensor([0.0, 0.5]))
    tensor([0.2259, 0.3505], dtype=torch.float64)
    """
    b1, b2, s, r = checked({"beta2": SLOW_RATE}, beta1=beta1, beta2=beta2, snr=snr, autocorrelation=autocorrelation)
    noise = 1 / (1 + s**2)  # σ²/E[g²]; the signal's share, μ²/E[g²], is the rest
    signal = 1 - noise
    square = signal + noise * _ema_variance(b1, r)
    # Cov(X², Y²) = 2·Cov(X, Y)² + 4·E[X]·E[Y]·Cov(X, Y) for jointly normal X and Y
    once = (1 - b1) * (1 - b2) * _double_sum(b1, b2, r)  # Σᵢ bᵢ·Cov(m, g at lag i)/σ², where v = Σᵢ bᵢ·g²
    twice = (1 - b1) ** 2 * (1 - b2) / (1 - b1**2 * b2) * _triple_sum(b1, b2, r)  # the same of the covariance's square
    covariance = (2 * noise**2 * twice + 4 * signal * noise * once) / square
    variance = 2 * noise**2 * _ema_variance(b2, r**2) + 4 * signal * noise * _ema_variance(b2, r)
    x = covariance - variance
    return torch.where(x > -1, square / (1 + x), torch.nan).sqrt()


def largest_update(beta1: Number, beta2: Number, *, step: Number | None = None, bias_correction: bool = True) -> Tensor:
    r"""The largest \|m/√v\| that any gradients can cause: a bound on Adam's step in units of lr.

    ::

        |m/√v| ≤ (1−β₁)/√(1−β₂) · √(1 + q + … + qᵗ⁻¹),    q = β₁²/β₂;
        the last factor → 1/√(1−q) for t → ∞, and bias correction multiplies by √(1−β₂ᵗ)/(1−β₁ᵗ) → 1

    Derivation: with aᵢ = (1−β₁)·β₁ⁱ and bᵢ = (1−β₂)·β₂ⁱ, m = Σ aᵢ·g and v = Σ bᵢ·g² over the t gradients so far, at
    lags i = 0 … t−1.  By Cauchy and Schwarz \|m\| ≤ Σ (aᵢ/√bᵢ)·(√bᵢ·\|g\|) ≤ √(Σ aᵢ²/bᵢ)·√v, with equality for
    g ∝ aᵢ/bᵢ (``largest_update_gradients``).  Kingma & Ba (2015), arXiv 1412.6980, section 2.1, give a smaller number,
    (1−β₁)/√(1−β₂) or 1, which is not a bound: it is m/√v after a single gradient among zeros.

    Args:
        beta1, beta2: β₁, β₂ in [0, 1).
        step: t, a whole number from 1; None for the bound over all steps, which is the limit t → ∞.
        bias_correction: whether m and v are divided by 1 − β₁ᵗ and 1 − β₂ᵗ, as Adam does.

    Returns:
        A pure number, exact for every t.  With bias correction it is 1 at t = 1, and for β₁ = β₂ at every t.  It is
        infinite in the limit for β₁² ≥ β₂, where no bound holds at all t, and at every t > 1 for β₂ = 0 < β₁.

    >>> from scaleinv.laws import largest_update
    >>> largest_update(0.9, 0.999)
    tensor(7.2703, dtype=torch.float64)
    """
    step = torch.inf if step is None else step
    b1, b2, t = checked({"step": STEPS_OR_INFINITE}, beta1=beta1, beta2=beta2, step=step)
    q = torch.where(b1 == 0, 0.0, b1**2 / b2)
    series = torch.where(q == 1, t, torch.expm1(t * q.log()) / torch.expm1(q.log()))  # 1 + q + … + qᵗ⁻¹
    series = torch.where(q.isinf(), torch.where(t == 1, 1.0, torch.inf), series)
    bound = (1 - b1) * (series / (1 - b2)).sqrt()
    return bound * (1 - b2**t).sqrt() / (1 - b1**t) if bias_correction else bound


def largest_update_gradients(beta1: Number, beta2: Number, steps: Number) -> Tensor:
    r"""Gradients g₁ … g_T for which \|m/√v\| after step T is ``largest_update``, with and without bias correction.

    ::

        g_{T−i} ∝ (β₁/β₂)ⁱ,    the largest of them 1

    For β₁ < β₂ they grow, for β₁ > β₂ they shrink, for β₁ = β₂ they are constant, for β₁ = 0 all but the last are 0.

    Args:
        beta1, beta2: β₁ in [0, 1), β₂ in (0, 1).
        steps: T, a whole number from 1.

    Returns:
        A float64 tensor of shape (T, ...), where ... is the shape to which beta1 and beta2 broadcast.

    >>> from scaleinv.laws import largest_update_gradients
    >>> largest_update_gradients(0.5, 0.25, 3)
    tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    b1, b2 = checked({"beta2": POSITIVE_RATE}, beta1=beta1, beta2=beta2)
    (t,) = checked(steps=steps)
    if t.numel() != 1:
        raise ValueError(f"steps={steps!r}: pass one number of steps at a time")
    lag = torch.arange(t.item() - 1, -1, -1, dtype=torch.float64, device="cpu").reshape(-1, *[1] * b1.dim())
    ratio = b1 / b2
    return ratio ** torch.where(ratio > 1, lag - (t - 1), lag)


def drifting_update(beta1: Number, beta2: Number, kappa: Number) -> Tensor:
    """The limit of m/√v for a gradient of one sign that grows by the factor e^κ a step.

    ::

        m/√v → (1−β₁)/(1−β₁e^−κ) · √[(1−β₂e^−2κ)/(1−β₂)]

    Derivation: g at lag i is e^(−κi) of the last one, so that m/g = (1−β₁)·Σ (β₁e^−κ)ⁱ, and likewise v/g².  Fast
    growth leaves only the last gradient: (1−β₁)/√(1−β₂), 3.16 for the defaults.  Fernández-Hernández et al. (2026),
    arXiv 2601.21739, derive the same condition β₁ = β₂ for a step that a slow drift leaves alone (``drift_rate``).

    Where e^κ ≤ √β₂, √v cannot forget fast enough; for β₁² < β₂ the step then dies out, and the limit is 0.  For the
    defaults it takes gradients that shrink by 0.05 % a step.

    Args:
        beta1, beta2: β₁, β₂ in [0, 1).
        kappa: κ, a finite number per step; positive where gradients grow.

    Returns:
        A pure number; infinite for e^κ ≤ β₁ and β₁² > β₂, where m outlasts √v and the gradient, and NaN for
        e^2κ < β₁² = β₂, where the first gradients decide for ever.

    >>> import torch
    >>> from scaleinv.laws import drifting_update
    >>> drifting_update(0.9, 0.999, torch.tensor([-0.001, 0.0, 0.001]))
    tensor([0.0000, 1.0000, 1.7155], dtype=torch.float64)
    """
    b1, b2, k = checked(beta1=beta1, beta2=beta2, kappa=kappa)
    first, second = b1 * torch.exp(-k), b2 * torch.exp(-2 * k)
    limit = (1 - b1) / (1 - first) * ((1 - second) / (1 - b2)).sqrt()
    limit = torch.where((first >= 1) & (b1**2 >= b2), torch.inf, limit)
    limit = torch.where((second >= 1) & (b1**2 < b2), 0.0, limit)
    return torch.where((second > 1) & (b1**2 == b2), torch.nan, limit)


def drift_rate(beta1: Number, beta2: Number) -> Tensor:
    """The share by which ``drifting_update`` grows per unit of κ, at κ = 0.

    ::

        m/√v = 1 + κ·[β₂/(1−β₂) − β₁/(1−β₁)] + O(κ²)

    990 for the defaults, and 0 exactly when β₁ = β₂ (arXiv 2601.21739): m and √v then lag behind alike.  It holds to
    first order in κ/(1−β₂), and for a gradient of one sign; under pure noise RMS(m/√v) has the rate
    β₂/(1−β₂) − β₁²/(1−β₁²) instead, where β₁ = β₂ does not help.

    Args:
        beta1, beta2: β₁, β₂ in [0, 1).

    Returns:
        A pure number.

    >>> import torch
    >>> from scaleinv.laws import drift_rate
    >>> drift_rate(0.9, torch.tensor([0.9, 0.999], dtype=torch.float64))
    tensor([  0.0000, 990.0000], dtype=torch.float64)
    """
    b1, b2 = checked(beta1=beta1, beta2=beta2)
    return (b2 - b1) / ((1 - b1) * (1 - b2))


def equilibrium_rms(lr: Number, weight_decay: Number, beta1: Number = 0.0, *, snr: Number = 0.0) -> Tensor:
    """The RMS(w) that AdamW reaches under gradients that do not depend on w, wherever it starts.

    ::

        RMS² = [s²/λ² + lr/(λ·(2−α)) · (1−β₁)/(1+β₁) · (1+rβ₁)/(1−rβ₁)] / (s²+1),    α = lr·λ, r = 1−α
             → lr/(2λ) for s = 0 and α ≪ 1−β₁, whatever β₁

    Derivation: w ← r·w − lr·u, u = m/√v, so that w = −lr·Σ rⁱ·u.  With v = E[g²] (slow β₂), u has the mean
    s/√(s²+1), the variance (1−β₁)/(1+β₁)/(s²+1) and autocorrelation β₁ᵏ at lag k; the variance of w is then
    lr²·Var(u)·(1+rβ₁)/((1−r²)(1−rβ₁)).  A larger β₁ makes smaller updates, but of the same sign for longer: for
    small α the two cancel.  Kosson et al. (2024), arXiv 2305.17212, and Su Jianlin (2025), "Asymptotic estimation of
    AdamW's weight RMS", give the limit; it is reached within a few times 1/(lr·λ) steps.

    Args:
        lr: positive, unit W.
        weight_decay: λ, positive, unit W⁻¹; decoupled, and times lr as in torch.optim.AdamW.  lr·λ has to be below 2:
            from 2 on the decay alone makes w overshoot and grow.
        beta1: β₁ in [0, 1).
        snr: s in [0, ∞]; infinite gives 1/λ, the largest that a lasting signal can hold.

    Returns:
        A length in the unit of lr, W.

    Raises:
        TypeError, ValueError: see the module's docstring; ValueError also if lr·λ ≥ 2.

    Validity: white noise and slow β₂; β₂ = 0.95 lowers it by 1 % at β₁ = 0.9, by 2 % at β₁ = 0 (simulated).
    Gradients that pull w back, as a loss's do near its minimum, keep it smaller.

    >>> import torch
    >>> from scaleinv.laws import equilibrium_rms
    >>> equilibrium_rms(1e-3, torch.tensor([0.1, 0.01]))
    tensor([0.0707, 0.2236], dtype=torch.float64)
    """
    return _equilibrium(lr, weight_decay, beta1, snr)[0]


def equilibrium_step(lr: Number, weight_decay: Number, beta1: Number, *, snr: Number = 0.0) -> Tensor:
    """The RMS of one step's change of w over RMS(w) when AdamW is at ``equilibrium_rms``.

    ::

        RMS(Δw)/RMS(w) = √[2·lr·λ · (1−β₁)/(1+rβ₁)],    r = 1−lr·λ,    for s = 0
                       → √(2·lr·λ) · √[(1−β₁)/(1+β₁)] for small lr·λ

    Derivation: RMS(Δw)² = 2·(E[w²] − E[w·w′]) for the next step's w′, with E[w·w′] from the sums in
    ``equilibrium_rms``; for s > 0 the signal adds to RMS(w), not to Δw.  Kosson et al. (2024), arXiv 2305.17212.

    √(2·lr·λ) alone is the step for β₁ = 0.  With β₁ = 0.9 one step is 0.23 of it; T steps with T ≫ 1/(1−β₁), but
    T·lr·λ ≪ 1, change w by √(2·lr·λ·T) for every β₁.

    Args:
        lr, weight_decay, beta1, snr: as in ``equilibrium_rms``.

    Returns:
        A pure number.  β₂ = 0.95 lowers it by 1 % under pure noise, but by 25 % at s = 1, β₁ = 0.9, lr·λ = 0.01.

    >>> import torch
    >>> from scaleinv.laws import equilibrium_step
    >>> equilibrium_step(1e-3, 0.1, torch.tensor([0.0, 0.9]))
    tensor([0.0141, 0.0032], dtype=torch.float64)
    """
    rms, change = _equilibrium(lr, weight_decay, beta1, snr)
    return change / rms


def displacement(steps: Number, autocorrelation: Number) -> Tensor:
    r"""How far T steps lead, RMS(u₁ + … + u_T), in units of one step, RMS(u): from √T for ρ = 0 to T for ρ = 1.

    ::

        √[T·(1+ρ)/(1−ρ) − 2ρ·(1−ρᵀ)/(1−ρ)²]

    Derivation: the sum's variance is T + 2·Σ (T−k)·ρᵏ over 0 < k < T, for updates without mean and with
    autocorrelation ρᵏ at lag k (Taylor, 1921, "Diffusion by continuous movements", for continuous time).  Adam's
    updates under white noise have ρ = β₁ and RMS lr·√[(1−β₁)/(1+β₁)], so that T ≫ 1/(1−β₁) of them lead lr·√T far,
    for every β₁.

    Args:
        steps: T, a whole number from 1.
        autocorrelation: ρ of the *updates*, in [−1, 1]; negative where they undo each other, and lead less than √T.

    Returns:
        A pure number; times RMS(u), which is ``update_rms``·lr, a length in the unit of lr.

    >>> import torch
    >>> from scaleinv.laws import displacement
    >>> displacement(100, torch.tensor([0.0, 0.9, 1.0]))
    tensor([ 10.0000,  41.4729, 100.0000], dtype=torch.float64)
    """
    t, r = checked({"autocorrelation": CORRELATION}, steps=steps, autocorrelation=autocorrelation)
    rest = 1 - r
    square = (t * (1 + r) * rest - 2 * r * (1 - r**t)) / rest**2
    nearly_straight = t**2 - rest * (t**3 - t) / 3  # to first order in T·(1−ρ), where the above would cancel
    return torch.where(t * rest < 1e-4, nearly_straight, square.clamp(min=0)).sqrt()


# Geometric series.


def _ema_variance(b: Tensor, r: Tensor) -> Tensor:
    """The variance of an exponential moving average, over that of its AR(1) input."""
    return (1 - b) / (1 + b) * (1 + b * r) / (1 - b * r)


def _double_sum(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """Σᵢⱼ xⁱ·yʲ·r^|i−j| over i, j ≥ 0."""
    return (1 / (1 - x * r) + 1 / (1 - y * r) - 1) / (1 - x * y)


def _triple_sum(x: Tensor, y: Tensor, r: Tensor) -> Tensor:
    """(1 − x²y)·Σᵢⱼₖ xⁱ⁺ʲ·yᵏ·r^(|i−k|+|j−k|) over i, j, k ≥ 0: the terms in which the least of them is 0."""
    edge = 1 / (1 - x * r)  # terms with k = 0; with k > 0 and i = 0 or j = 0; less those with both
    return edge**2 + 2 * (_double_sum(y * r, x, r) - edge) - y * r**2 / (1 - y * r**2)


def _equilibrium(lr: Number, weight_decay: Number, beta1: Number, snr: Number) -> tuple[Tensor, Tensor]:
    """RMS(w) and RMS(Δw)."""
    lr, decay, b1, s = checked(lr=lr, weight_decay=weight_decay, beta1=beta1, snr=snr)
    if (lr * decay >= 2).any():
        raise ValueError(
            f"lr·weight_decay={(lr * decay).max().item():g} is not below 2: the decay alone makes w grow; lower one"
        )
    r, noise = 1 - lr * decay, 1 / (1 + s**2)
    update = lr**2 * noise * (1 - b1) / (1 + b1) / (1 - r * b1)
    square = (1 - noise) / decay**2 + update * (1 + r * b1) / (lr * decay * (1 + r))
    return square.sqrt(), (2 * update * (1 - b1) / (1 + r)).sqrt()
