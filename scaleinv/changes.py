"""Changes of a training that leave it the same: arguments for ``convert`` and, if they change units, ``rescale``.

>>> import torch
>>> from scaleinv import changes, convert
>>> convert(torch.optim.SGD, {"lr": 0.1}, changes.loss_times(8))
{'lr': 0.0125}
"""

import warnings
from dataclasses import dataclass
from typing import Any

from scaleinv._checks import check_scale


@dataclass(frozen=True)
class Change:
    """A change of units.  The functions of ``scaleinv.changes`` make the common ones.

    Attributes:
        reason: why these factors are the right ones, as a clause.
        weight: the factor of the stored parameters, which the module's own code compensates.
        loss: the factor of the loss.
        of: the parameters that the change concerns, in words.
        exact: whether the training stays the same; if not, only the relative size of its steps does.
        decay: what ``Units.decay`` is after a change of optimizer: "times lr" or "independent"; empty without one.

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


def check_change(change: Change, weight: Any, loss: Any) -> tuple[float, float]:
    """Return the change's factors of weight and loss.

    Args:
        change: the change.
        weight: the factor passed besides it, which has to be 1.
        loss: likewise.

    Raises:
        TypeError: if ``change`` is not a ``Change``.
        ValueError: if ``weight`` or ``loss`` is passed besides it, or its ``decay`` is none.
    """
    if not isinstance(change, Change):
        raise TypeError(f"change={change!r} is not one of scaleinv.changes, such as changes.loss_times(8)")
    if change.decay not in ("", "times lr", "independent"):
        raise ValueError(f"decay={change.decay!r} is neither 'times lr' nor 'independent'; see changes.decay_times_lr")
    if change.decay and (change.weight, change.loss) != (1, 1):
        raise ValueError(f"change={change!r} changes units and the decay, not both; convert twice")
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


__all__ = [
    "Change", "decay_independent", "decay_times_lr", "gain", "init_times", "loss_times", "lora_alpha", "start_times",
    "sum_over",
]  # fmt: skip
