"""Changes of a training that leave it the same: arguments for ``convert`` and, if they change units, ``rescale``.

``batch`` and ``horizon`` change the unit of time.  They are not exact, and go with ``convert`` only.

>>> import torch
>>> from scaleinv import changes, convert
>>> convert(torch.optim.SGD, {"lr": 0.1}, changes.loss_times(8))
{'lr': 0.0125}
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scaleinv._checks import check_scale
from scaleinv.measure import signal_to_noise


@dataclass(frozen=True)
class Change:
    """A change of units.  The functions of ``scaleinv.changes`` make the common ones.

    Attributes:
        reason: why these factors are the right ones, as a clause.
        weight: the factor of the stored parameters, which the module's own code compensates.
        loss: the factor of the loss.
        of: the parameters that the change concerns, in words.
        exact: whether the training stays the same; if not, only the relative size of its steps does, or what a change
            of time keeps in the limit of small steps.
        decay: what ``Units.decay`` is after a change of optimizer: "times lr" or "independent"; empty without one.
        batch: the factor of the examples that a step sees.
        horizon: the factor of the examples that the training sees.
        limits: where a change of time stops being the same training, in sentences.

    >>> import torch, scaleinv
    >>> halved = scaleinv.Change("the weights are stored half as large", weight=0.5)
    >>> scaleinv.convert(torch.optim.SGD, {"lr": 0.1}, halved)
    {'lr': 0.025}
    """

    reason: str
    weight: float = 1.0
    loss: float = 1.0
    of: str = "all parameters"
    exact: bool = True
    decay: str = ""
    batch: float = 1.0
    horizon: float = 1.0
    limits: tuple[str, ...] = ()

    @property
    def of_time(self) -> bool:
        """Whether it changes the batch or the horizon.

        >>> from scaleinv import changes
        >>> changes.batch(64, 256).of_time, changes.loss_times(8).of_time
        (True, False)
        """
        return (self.batch, self.horizon) != (1, 1)


def check_change(change: Change, weight: Any, loss: Any) -> tuple[float, float]:
    """Return the change's factors of weight and loss.

    Args:
        change: the change.
        weight: the factor passed besides it, which has to be 1.
        loss: likewise.

    Raises:
        TypeError: if ``change`` is not a ``Change``.
        ValueError: if ``weight`` or ``loss`` is passed besides it, its ``decay`` is none, or it mixes kinds of changes.
    """
    if not isinstance(change, Change):
        raise TypeError(f"change={change!r} is not one of scaleinv.changes, such as changes.loss_times(8)")
    if change.decay not in ("", "times lr", "independent"):
        raise ValueError(f"decay={change.decay!r} is neither 'times lr' nor 'independent'; see changes.decay_times_lr")
    kinds = {"units": (change.weight, change.loss) != (1, 1), "the decay": bool(change.decay), "time": change.of_time}
    if sum(kinds.values()) > 1:
        several = " and ".join(kind for kind, changes in kinds.items() if changes)
        raise ValueError(f"change={change!r} changes {several}, not both; convert twice")
    if (weight, loss) != (1, 1):
        raise ValueError(f"weight={weight!r}, loss={loss!r}: pass these or change={change!r}, not both")
    return change.weight, change.loss


def loss_times(factor: float) -> Change:
    """Multiply the loss by a factor.

    The factor may be a loss weight, a fixed loss scale, or the number of processes or accumulated pieces over which
    gradients are now summed instead of averaged.

    Args:
        factor: a positive number.

    Raises:
        TypeError: if ``factor`` is not a number.
        ValueError: if ``factor`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.Adam, {"lr": 0.001}, changes.loss_times(8))
    {'lr': 0.001, 'eps': 8e-08}
    """
    factor = check_scale("factor", factor)
    return Change(f"the loss is {_times_as_large(factor)}, and so are its gradients", loss=factor)


def sum_over(size: float) -> Change:
    """Sum the loss over a batch instead of averaging it; ``loss_times(1 / size)`` is the way back.

    Args:
        size: the number of examples in a batch.

    Raises:
        TypeError: if ``size`` is not a number.
        ValueError: if ``size`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.SGD, {"lr": 0.1}, changes.sum_over(512))
    {'lr': 0.0001953125}
    """
    size = check_scale("size", size)
    return Change(f"a sum over {size:g} examples is {size:g} times their mean", loss=size)


def gain(factor: float) -> Change:
    """Multiply parameters by a factor in the module's own code, as an equalised learning rate does by 1/√fan_in.

    Stored 1/``factor`` times as large, they give the same function.

    Args:
        factor: a positive number.

    Raises:
        TypeError: if ``factor`` is not a number.
        ValueError: if ``factor`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.SGD, {"lr": 0.1}, changes.gain(1 / 8))
    {'lr': 6.4}
    """
    factor = check_scale("factor", factor)
    reason = f"with a gain of {factor:.4g}, parameters stored {_times_as_large(1 / factor)} give the same function"
    return Change(reason, 1 / factor, of="the parameters with the gain alone")


def lora_alpha(old: float, new: float) -> Change:
    """Change LoRA's α at the same rank r: in y = W·x + (α/r)·B·A·x it is a gain of B.

    For a change of rank, or from α/r to rsLoRA's α/√r, pass the old factor and the new one, as in
    ``lora_alpha(16 / 8, 16 / 8**0.5)``.

    Args:
        old: the old α, a positive number.
        new: the new α, a positive number.

    Raises:
        TypeError: if ``old`` or ``new`` is not a number.
        ValueError: if ``old`` or ``new`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> change = changes.lora_alpha(16, 64)
    >>> change.of, convert(torch.optim.SGD, {"lr": 0.5}, change)
    ('lora_B alone', {'lr': 0.03125})
    """
    old, new = check_scale("old", old), check_scale("new", new)
    ratio = new / old
    reason = f"α is {_times_as_large(ratio)}, so B stored {_times_as_large(1 / ratio)} gives the same function"
    return Change(reason, 1 / ratio, of="lora_B alone")


def init_times(factor: float) -> Change:
    """Initialise the module ``factor`` times as large; steps keep their size relative to the parameters.

    This is a different initialisation, not a different unit: the training is the same only if the module divides by
    ``factor`` again.  ``rescale`` refuses it.

    Args:
        factor: a positive number.

    Raises:
        TypeError: if ``factor`` is not a number.
        ValueError: if ``factor`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.SGD, {"lr": 0.1}, changes.init_times(8))
    {'lr': 6.4}
    """
    factor = check_scale("factor", factor)
    larger = _times_as_large(factor)
    return Change(f"parameters {larger} need steps {larger} for the same relative change", factor, exact=False)


def decay_times_lr() -> Change:
    """Change to an optimizer whose weight decay takes lr·λ·w a step, such as torch.optim.AdamW.

    ::

        λ_new = λ/lr, from an optimizer that takes λ·w a step, whatever lr is

    Loshchilov & Hutter (2019), arXiv 1711.05101, "Decoupled weight decay regularization", take η_t·λ·w, where η_t is
    the multiplier of a schedule and not the learning rate, so that λ is a pure number.  Wortsman et al. (2023),
    arXiv 2309.14322, call it independent weight decay; packages have it as ``fixed_decay``.  In PyTorch's AdamW, λ is
    W⁻¹, and lr·λ is the paper's λ.

    With a scheduler, pass the lr at which its multiplier is 1, the ``initial_lr`` of a group.  The training is the same
    if the decay that is independent of lr is multiplied by the schedule too, as in the paper.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> from scaleinv.units import ONE, W, Units
    >>> adamw_of_the_paper = Units({"lr": W, "weight_decay": ONE}, state={}, decay="independent")
    >>> convert(adamw_of_the_paper, {"lr": 0.001, "weight_decay": 0.0001}, changes.decay_times_lr())
    {'lr': 0.001, 'weight_decay': 0.1}
    """
    return Change("a step now takes lr·λ·w in place of λ·w", decay="times lr")


def decay_independent() -> Change:
    """Change to an optimizer whose weight decay takes λ·w a step, whatever lr is: ``decay_times_lr`` the other way.

    ::

        λ_new = lr·λ, from an optimizer that takes lr·λ·w a step

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.AdamW, {"lr": 0.001, "weight_decay": 0.1}, changes.decay_independent())
    {'lr': 0.001, 'weight_decay': 0.0001}
    """
    return Change("a step now takes λ·w in place of lr·λ·w", decay="independent")


def batch(old: float, new: float, gradients: Tensor | Mapping[str, Tensor] | None = None) -> Change:
    r"""Take steps over ``new`` examples instead of ``old``, in a training over as many examples as before.

    ::

        with κ = new/old:   β → β^κ,   1/(lr·λ) steps → 1/κ as many
        Adam, AdamW, RMSprop:   lr → √κ·lr,   eps → eps/√κ,   AdamW's λ → √κ·λ
        SGD:                    lr/(1 − μ) → κ·lr/(1 − μ),   λ stays

    A half-life and the memory of weight decay stay as many examples long.  Between two of them noise moves w as far as
    before, and a signal too, as long as noise dominates the gradient and steps are small: the limit is a stochastic
    differential equation.  Goyal et al. (2017), arXiv 1706.02677, have it for SGD; Malladi et al. (2022), arXiv
    2205.10287, for Adam, with 1 − β ∝ B for β^κ, which is the same for slow averages.  Marek et al. (2025), arXiv
    2507.07101, keep the half-life of β₂ in tokens.

    Args:
        old: examples, or tokens, of a step before.
        new: examples of a step from now on.
        gradients: those of many steps of ``old`` examples each, a tensor of shape (steps, ...), or name → such a
            tensor.  They say how far the change reaches, in ``limits``; the settings do not depend on them.  s is their
            signal-to-noise ratio (``measure.signal_to_noise``), of several tensors the largest.

    Raises:
        TypeError: if ``old`` or ``new`` is not a number, or ``gradients`` neither a floating tensor nor a dict of such.
        ValueError: if ``old`` or ``new`` is not positive and finite, or ``gradients`` are fewer than two steps', not
            finite, or all zero.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> change = changes.batch(64, 256)
    >>> convert(torch.optim.AdamW, {"lr": 1e-3, "betas": (0.5, 0.9), "weight_decay": 0.1}, change)
    {'lr': 0.002, 'betas': (0.0625, 0.6561), 'weight_decay': 0.2, 'eps': 5e-09}
    >>> convert(torch.optim.SGD, {"lr": 0.1}, change), change.exact
    ({'lr': 0.4}, False)
    """
    old, new = check_scale("old", old), check_scale("new", new)
    ratio = new / old
    reason = f"a step sees {_times_as_many(ratio)} examples; half-lives, memory and noise stay as they were per example"
    limits = ["It holds where noise dominates the gradient, half-lives are longer than a step and steps are small."]
    if gradients is not None:
        limits.append(_reach(old, new, _largest_snr(gradients)))
    return Change(reason, exact=ratio == 1, batch=ratio, limits=tuple(limits))


def horizon(old: float, new: float) -> Change:
    """Train over ``new`` examples, or steps of the same size, instead of ``old``.

    ::

        λ → λ·old/new:   the memory 1/(lr·λ) stays the same share of the training;   β, eps and lr stay

    Wang & Aitchison (2024), arXiv 2405.13698: under AdamW w is an average of its updates over the last 1/(lr·λ) steps,
    and the best length of this average, in passes over the data, does not depend on how many data there are.  So this
    is for a training that is longer because there are more data.  SGD's λ follows in the same way.

    Args:
        old: the length of the training before, in examples or steps.
        new: its length from now on.

    Raises:
        TypeError: if ``old`` or ``new`` is not a number.
        ValueError: if ``old`` or ``new`` is not positive and finite.

    >>> import torch
    >>> from scaleinv import changes, convert
    >>> convert(torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}, changes.horizon(1000, 4000))
    {'lr': 0.001, 'weight_decay': 0.025}
    """
    old, new = check_scale("old", old), check_scale("new", new)
    ratio = new / old
    reason = f"the training sees {_times_as_many(ratio)} examples, and weight decay remembers the same share of them"
    limits = (
        f"The length of a schedule, its warm-up included, is a time too: times {ratio:.4g}.",
        "More passes over the same data are no reason to change weight decay.",
        "This keeps lr, but the best lr of a longer training is often lower: sweep.",
    )
    return Change(reason, exact=ratio == 1, horizon=ratio, limits=limits)


def start_times(factor: float) -> Change:
    """Deprecated name of ``init_times``.

    >>> import warnings
    >>> from scaleinv import changes
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     changes.start_times(8) == changes.init_times(8)
    True
    """
    warnings.warn("changes.start_times is deprecated; use changes.init_times", DeprecationWarning, stacklevel=2)
    return init_times(factor)


def _times_as_large(factor: float) -> str:
    return f"{factor:.4g} times as large" if factor != 1 else "as large as before"


def _times_as_many(factor: float) -> str:
    return f"{factor:.4g} times as many" if factor != 1 else "as many"


def _largest_snr(gradients: Any) -> float:
    """The signal-to-noise ratio of the tensor where it is largest, in which noise stops to dominate first."""
    tensors = gradients if isinstance(gradients, Mapping) else {"gradients": gradients}
    ratios = [ratio for tensor in tensors.values() if not math.isnan(ratio := signal_to_noise(tensor))]
    if not ratios:
        raise ValueError("gradients are all zero, or there is none; record them with requires_grad and a loss")
    return max(ratios)


def _reach(old: float, new: float, snr: float) -> str:
    """How far the rule is from the law where a signal of this ratio, at the old batch, is in the gradient.

    The law is lr ∝ s²/(1 + s²) for SGD and its root for Adam, with s² ∝ batch: the rules are its beginning.
    """
    if snr == math.inf:
        return "These gradients have no noise (s = ∞): the rule does not hold, and the best lr does not change."
    if snr == 0:
        return "These gradients show no signal (s = 0): the critical batch is larger than they can tell."
    after = snr**2 * new / old
    excess = (1 + after) / (1 + snr**2)
    off = f"{excess**0.5:.3g} for Adam, {excess:.3g} for SGD"
    return (
        f"s = {snr:.2g} at {old:g} examples, so that signal and noise are alike at {old / snr**2:.2g} (s = 1), the "
        f"critical batch; at {new:g} the lr of this rule is that of the law times {off}."
    )


__all__ = [
    "Change", "batch", "decay_independent", "decay_times_lr", "gain", "horizon", "init_times", "loss_times",
    "lora_alpha", "start_times", "sum_over",
]  # fmt: skip
