"""lr and weight decay of another optimizer for one tensor: steps as large under noise, and the same share of decay."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from scaleinv._switch.decays import completed, decay_way, per_decay, share_of
from scaleinv._switch.steps import BY_LAW, Factory, Steps, agree, name_of, needs_a_gradient, steps_of
from scaleinv.known_optimizers import StepContext

UNIT = 1e-3  # an lr at which steps are compared; they are proportional to it


@dataclass(frozen=True)
class Settings:
    """An optimizer and its hyperparameters, defaults included.

    Attributes:
        factory: makes it.
        values: name → value.
        measured: the steps that were measured so far.
    """

    factory: Factory
    values: Mapping[str, Any] = field(default_factory=dict)
    measured: dict[tuple, Steps] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def way(self) -> str:
        """How it decays, as in ``Units.decay``."""
        return decay_way(self.factory, {name: x for name, x in self.values.items() if name != "weight_decay"})

    def steps(self, at: StepContext, lr: float) -> Steps:
        """The steps without decay, each measured once."""
        if self.is_free:
            at = StepContext(shape=at.shape, rms=1.0, gradient_rms=1.0)
        key = at.shape, at.rms, at.gradient_rms, lr
        if key not in self.measured:
            if self.factory not in BY_LAW and math.isnan(at.rms + at.gradient_rms):
                raise ValueError(needs_a_gradient(self.name, at.shape))
            self.measured[key] = self._steps(at, lr)
        return self.measured[key]

    @cached_property
    def is_free(self) -> bool:
        """Whether steps have to be measured and depend on neither the parameter's scale nor the gradient's."""
        if self.factory in BY_LAW:
            return False
        one, other = (StepContext(shape=(16, 16), rms=rms, gradient_rms=rms**2) for rms in (1.0, 4.0))
        return agree(self._steps(one, UNIT).later, self._steps(other, UNIT).later)

    def _steps(self, at: StepContext, lr: float) -> Steps:
        none = {"weight_decay": 0.0} if "weight_decay" in self.values else {}
        return steps_of(self.factory, {**self.values, **none, "lr": lr}, at)

    @property
    def name(self) -> str:
        return name_of(self.factory)


@dataclass(frozen=True)
class Carried:
    """The settings for one tensor.

    Attributes:
        at: the tensor, as far as steps depend on it.
        lr, weight_decay: of the new optimizer.
        step: the RMS of a step under noise, of both optimizers.
        share: of the parameter that decay takes at a step, in both.
        first: the RMS of the new optimizer's first step over that of the old one's.
    """

    at: StepContext
    lr: float
    weight_decay: float
    step: float
    share: float
    first: float


def carried(old: Settings, new: Settings, at: StepContext) -> Carried:
    """The settings with which ``new`` takes steps as large as ``old`` does.

    Args:
        old: with lr.
        new: without.
        at: the tensor.

    Raises:
        ValueError: if there are no such settings, or they are not known.

    >>> import torch
    >>> from scaleinv._switch.carried import Settings, carried
    >>> from scaleinv._switch.decays import completed
    >>> from scaleinv.known_optimizers import StepContext
    >>> adamw = Settings(torch.optim.AdamW, completed(torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}))
    >>> muon = Settings(torch.optim.Muon, completed(torch.optim.Muon, {"adjust_lr_fn": "match_rms_adamw"}))
    >>> row = carried(adamw, muon, StepContext(shape=(512, 2048)))
    >>> row.lr, round(row.lr * row.weight_decay, 9)
    (0.00115, 0.0001)
    """
    lr = float(old.values["lr"])
    if not (lr > 0 and math.isfinite(lr)):
        raise ValueError(
            f"lr={lr:g} of {old.name} makes no steps that could be matched; in a schedule, pass the lr at which its "
            "multiplier is 1"
        )
    before, unit = old.steps(at, lr), new.steps(at, UNIT)
    if not (0 < before.later < math.inf and 0 < unit.later < math.inf):
        raise ValueError(
            f"a tensor of shape {at.shape} is not moved by {old.name if not before.later > 0 else new.name}: its "
            f"RMS is {at.rms:.3g}, that of its gradient {at.gradient_rms:.3g}; leave it out (keep=)"
        )
    new_lr = float(f"{UNIT * before.later / unit.later:.3g}")
    share = share_of(old.factory, old.values, old.way)
    decay = share / per_decay(new.factory, {**new.values, "lr": new_lr}, new.way) if share else 0.0
    return Carried(at, new_lr, decay, before.later, share, unit.first * new_lr / UNIT / before.first)


def check_proportional(new: Settings, at: StepContext) -> None:
    """Check that steps are proportional to lr.

    Raises:
        ValueError: if they are not.
    """
    one, half = new.steps(at, UNIT).later, new.steps(at, UNIT / 2).later
    if not agree(2 * half, one):
        raise ValueError(
            f"{new.name}: steps are not proportional to lr; half of it makes them {half / one:.2g} of these"
        )


def depends_on(settings: Settings) -> set[str]:
    """What the size of a step depends on, of "shape", "rms" and "gradient_rms".

    >>> import torch
    >>> from scaleinv._switch.carried import Settings, completed, depends_on
    >>> depends_on(Settings(torch.optim.SGD, completed(torch.optim.SGD, {"momentum": 0.9})))
    {'gradient_rms'}
    """
    at = StepContext(shape=(16, 16), rms=0.1, gradient_rms=0.01)
    others = {
        "rms": replace(at, rms=0.4),
        "gradient_rms": replace(at, gradient_rms=0.04),
        "shape": replace(at, shape=(16, 64)),
    }
    step = settings.steps(at, UNIT).later
    return {name for name, other in others.items() if not agree(settings.steps(other, UNIT).later, step)}


__all__ = ["Carried", "Settings", "carried", "check_proportional", "completed", "depends_on"]
