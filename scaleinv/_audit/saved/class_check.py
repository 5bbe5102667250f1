"""Whether a saved optimizer state is of the class that it is said to be: hyperparameters and buffers have names."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from scaleinv.known_optimizers import KNOWN

# They say how a step is computed, not which step, and versions of torch differ in them.
_EXECUTION = {"foreach", "fused", "capturable", "differentiable", "maximize"}


def check_class(optimizer_class: type[torch.optim.Optimizer], saved: Mapping[str, Any]) -> None:
    """Check that groups and state have the hyperparameters and buffers of a class, and none of another.

    Args:
        optimizer_class: the class that is said to be saved.
        saved: an optimizer's state_dict.

    Raises:
        ValueError: if they do not; it names the classes of ``torch.optim`` that would fit.

    >>> import torch
    >>> from scaleinv._audit.saved.class_check import check_class
    >>> saved = torch.optim.AdamW([torch.zeros(2)]).state_dict()
    >>> check_class(torch.optim.AdamW, saved)
    """
    problems = _problems(optimizer_class, saved)
    if problems:
        fitting = " or ".join(fitting_classes(saved)) or "no class of torch.optim"
        raise ValueError(
            f"optimizer: this is not the state of {optimizer_class.__name__}: {'; '.join(problems)}. It fits "
            f"{fitting}; pass the class that was saved"
        )


def fitting_classes(saved: Mapping[str, Any]) -> list[str]:
    """The names of the classes of ``torch.optim`` that a state can be of, the likeliest first.

    >>> import torch
    >>> from scaleinv._audit.saved.class_check import fitting_classes
    >>> fitting_classes(torch.optim.AdamW([torch.zeros(2)]).state_dict())
    ['AdamW', 'Adam']
    """
    fitting = [each for each in KNOWN if not _problems(each, saved)]
    group = saved["param_groups"][0]
    return [each.__name__ for each in sorted(fitting, key=lambda each: len(_other_flags(_defaults(each), group)))]


def required_values(optimizer_class: type, group: Mapping[str, Any]) -> dict[str, Any]:
    """What a class has no default for, as in a group."""
    parameters = list(inspect.signature(optimizer_class).parameters.values())[1:]
    return {p.name: group[p.name] for p in parameters if p.default is p.empty and p.name in group}


def _problems(optimizer_class: type, saved: Mapping[str, Any]) -> list[str]:
    """Why a state is not of a class, in words."""
    problems: dict[str, None] = {}  # in order, each once
    for group in saved["param_groups"]:
        own = defaults_of(optimizer_class, group)
        foreign = [name for name in group if name in _names_in_torch() and name not in own]
        missing = [
            name for name, default in own.items() if name not in group and _is_old(optimizer_class, name, default)
        ]
        fixed = own.keys() - inspect.signature(optimizer_class).parameters.keys() if _is_known(optimizer_class) else ()
        flags = [f"{name}={group[name]}" for name in _other_flags(own, group) if name in fixed]
        texts = {"has": foreign, "does not have": missing, "has the flag": flags}
        problems |= {f"a group {verb} {', '.join(names)}": None for verb, names in texts.items() if names}
    if optimizer_class in KNOWN:
        buffers = KNOWN[optimizer_class].units.state
        foreign = list(dict.fromkeys(name for each in saved["state"].values() for name in each if name not in buffers))
        problems |= {f"its state has {', '.join(map(str, foreign))}": None} if foreign else {}
    return list(problems)


def defaults_of(optimizer_class: type, group: Mapping[str, Any]) -> Mapping[str, Any]:
    """The hyperparameters of a class: its defaults, or, where it has none, those in a group.

    Raises:
        ValueError: if the class cannot be made with them.
    """
    if optimizer_class in KNOWN:
        return _defaults(optimizer_class)
    return _group_of(optimizer_class, required_values(optimizer_class, group))


@cache
def _defaults(optimizer_class: type) -> Mapping[str, Any]:
    return _group_of(optimizer_class, {})


def _group_of(optimizer_class: type[torch.optim.Optimizer], required: Mapping[str, Any]) -> dict[str, Any]:
    """The group of an optimizer of a class, as it is at first."""
    try:
        group = optimizer_class([nn.Parameter(torch.zeros(2, 2))], **required).param_groups[0]
    except Exception as error:  # whatever a third party's class may raise
        name = optimizer_class.__name__
        raise ValueError(
            f"optimizer: {name} does not take these parameter groups ({error}); pass the class that was saved"
        ) from error
    return {name: value for name, value in group.items() if name != "params"}


@cache
def _names_in_torch() -> frozenset[str]:
    """All hyperparameters of the classes of ``torch.optim``."""
    return frozenset(name for each in KNOWN for name in _defaults(each)) - _EXECUTION


def _is_known(optimizer_class: type) -> bool:
    return issubclass(optimizer_class, tuple(KNOWN))


def _other_flags(own: Mapping[str, Any], group: Mapping[str, Any]) -> list[str]:
    """Flags that are not as the class sets them."""
    return [
        name for name, default in own.items() if isinstance(default, bool) and group.get(name, default) is not default
    ]


def _is_old(optimizer_class: type, name: str, default: Any) -> bool:
    """Whether every version of a class has a hyperparameter; new ones of third parties are flags, or None."""
    new = name in _EXECUTION or name == "decoupled_weight_decay"
    return not new and (optimizer_class in KNOWN or _is_number(default))


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_is_number, value))
    return isinstance(value, int | float | torch.Tensor) and not isinstance(value, bool)
