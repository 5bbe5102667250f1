"""The learning-rate schedulers of an optimizer: found, and carried along when lr changes its unit."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import lr_scheduler, swa_utils

# What a scheduler keeps in the unit of lr: for each of the optimizer's groups, or once for all.
BY_GROUP = ("base_lrs", "_last_lr", "max_lrs", "min_lrs")
FOR_ALL = {
    lr_scheduler.CosineAnnealingLR: ("eta_min",),
    lr_scheduler.CosineAnnealingWarmRestarts: ("eta_min",),
    lr_scheduler.ReduceLROnPlateau: ("default_min_lr", "eps"),
}
PURE_BY_GROUP = ("lr_lambdas", "base_momentums", "max_momentums")  # of no unit
KNOWN = (
    lr_scheduler.LRScheduler, lr_scheduler.ChainedScheduler, lr_scheduler.ConstantLR,
    lr_scheduler.CosineAnnealingLR, lr_scheduler.CosineAnnealingWarmRestarts, lr_scheduler.CyclicLR,
    lr_scheduler.ExponentialLR, lr_scheduler.LambdaLR, lr_scheduler.LinearLR, lr_scheduler.MultiStepLR,
    lr_scheduler.MultiplicativeLR, lr_scheduler.OneCycleLR, lr_scheduler.PolynomialLR, lr_scheduler.ReduceLROnPlateau,
    lr_scheduler.SequentialLR, lr_scheduler.StepLR, swa_utils.SWALR,
)  # fmt: skip
IN_GROUPS = ("initial_lr", "max_lr", "min_lr", "swa_lr")  # what schedulers leave in groups, in the unit of lr
PURE_IN_GROUPS = ("base_momentum", "max_momentum")


@dataclass(frozen=True)
class NewGroup:
    """A group of an optimizer after a change of units.

    Attributes:
        source: the number of the group that it comes from.
        factor: that of its lr.
    """

    source: int
    factor: float


@dataclass(frozen=True)
class SchedulerChange:
    """A scheduler and its new attributes."""

    scheduler: Any
    new: dict[str, Any]

    def apply(self) -> None:
        vars(self.scheduler).update(self.new)


def scheduler_changes(
    optimizer: torch.optim.Optimizer, groups: Sequence[NewGroup], loss: float
) -> list[SchedulerChange]:
    """What a change of units changes in the schedulers of an optimizer.

    Args:
        optimizer: the optimizer, whose groups are as they were.
        groups: those that take their place.
        loss: the factor of the loss.

    Raises:
        ValueError: if a scheduler is not one of torch.optim, keeps one number for groups whose lr get different
            factors, or watches a loss that changes its scale.
    """
    return [_change(scheduler, optimizer, groups, loss) for scheduler in schedulers_of(optimizer)]


def schedulers_of(optimizer: torch.optim.Optimizer) -> list[Any]:
    """All live objects that hold ``optimizer`` and are schedulers: by their class, or by its name."""
    holders = [holder for holder in gc.get_referrers(optimizer) if holder is not optimizer.__dict__]
    dicts = [holder for holder in holders if isinstance(holder, dict)]
    owners = gc.get_referrers(*dicts) if dicts else []  # one search through memory for all
    found = {id(each): each for each in (*holders, *owners) if _is_scheduler(each, optimizer)}
    return list(found.values())


def _is_scheduler(candidate: Any, optimizer: torch.optim.Optimizer) -> bool:
    cls = type(candidate)
    held = getattr(candidate, "__dict__", {}).get("optimizer")
    if held is not optimizer or issubclass(cls, torch.optim.Optimizer | type):
        return False
    names = [base.__name__.lower() for base in cls.__mro__]
    return callable(getattr(cls, "step", None)) and any("sched" in name or name.endswith("lr") for name in names)


def _change(
    scheduler: Any, optimizer: torch.optim.Optimizer, groups: Sequence[NewGroup], loss: float
) -> SchedulerChange:
    name = type(scheduler).__name__
    if type(scheduler) not in KNOWN:
        raise ValueError(
            f"optimizer: its scheduler {name} is not one of torch.optim and would continue in the old units. Make the "
            "optimizer and the scheduler anew with converted settings (scaleinv.convert), or rescale before "
            f"{name} is made"
        )
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) and loss != 1:
        raise ValueError(
            f"loss={loss:g}: ReduceLROnPlateau compares metrics, and the best so far is in the old scale of the loss; "
            "rescale before the scheduler is made"
        )
    new = {key: [vars(scheduler)[key][g.source] * g.factor for g in groups] for key in _lists(scheduler, BY_GROUP)}
    new |= {key: [vars(scheduler)[key][g.source] for g in groups] for key in _lists(scheduler, PURE_BY_GROUP)}
    return SchedulerChange(scheduler, new | _for_all(scheduler, groups))


def _lists(scheduler: Any, keys: Sequence[str]) -> list[str]:
    return [key for key in keys if isinstance(vars(scheduler).get(key), list)]


def _for_all(scheduler: Any, groups: Sequence[NewGroup]) -> dict[str, Any]:
    numbers = {key: vars(scheduler)[key] for key in FOR_ALL.get(type(scheduler), ()) if vars(scheduler).get(key)}
    factors = {group.factor for group in groups}
    if numbers and len(factors) > 1:
        key, number = next(iter(numbers.items()))
        raise ValueError(
            f"optimizer: {type(scheduler).__name__} keeps one {key}={number:g} for all groups, whose lr get the "
            f"different factors {sorted(factors)}; rescale before the scheduler is made"
        )
    return {key: number * next(iter(factors)) for key, number in numbers.items()}
