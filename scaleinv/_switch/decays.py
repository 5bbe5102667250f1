"""The share of a parameter that weight decay takes at each step, and the weight decay that takes a share."""

import inspect
from typing import Any

import torch

from scaleinv._convert import defaults_of
from scaleinv._infer import measured_decay
from scaleinv._switch.steps import Factory, Hyperparameters, name_of
from scaleinv.known_optimizers import KNOWN, units_of

_COUPLED = "has its weight decay in the gradient, so that what it takes is not a share of the parameter"


def decay_way(factory: Factory, hyperparameters: Hyperparameters) -> str:
    """How an optimizer decays, as in ``Units.decay``: from the table, else measured.

    >>> import torch
    >>> from scaleinv._switch.decays import decay_way
    >>> decay_way(torch.optim.AdamW, {}), decay_way(torch.optim.Adam, {})
    ('times lr', 'coupled')
    """
    if isinstance(factory, type) and factory in KNOWN:
        return units_of(factory, hyperparameters).decay
    return measured_decay(factory, hyperparameters)


def share_of(factory: Factory, hyperparameters: Hyperparameters, way: str) -> float:
    """The share of a parameter that decay takes at each step; that of SGD once its momentum has built up.

    Raises:
        ValueError: if it is not a share of the parameter.
    """
    decay = float(hyperparameters.get("weight_decay") or 0)
    return decay * per_decay(factory, hyperparameters, way) if decay else 0.0


def per_decay(factory: Factory, hyperparameters: Hyperparameters, way: str) -> float:
    """The share that a weight decay of 1 would take, the weight decay being proportional to it.

    SGD's decay goes through the momentum, which makes it (1 − dampening)/(1 − momentum) times as large.

    Raises:
        ValueError: if decay does not take a share of the parameter.

    >>> import torch
    >>> from scaleinv._switch.decays import per_decay
    >>> round(per_decay(torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.0}, "coupled"), 9)
    1.0
    """
    lr = float(hyperparameters["lr"])
    if way == "independent":
        return 1.0
    if way == "times lr":
        return lr
    if factory is torch.optim.SGD:
        momentum, dampening = float(hyperparameters["momentum"]), float(hyperparameters["dampening"])
        return lr * (1 - dampening if momentum else 1) / (1 - momentum)
    why = {
        "coupled": _COUPLED,
        "": "has no weight decay",
        "other": "decays in a way of its own",
    }[way]
    raise ValueError(f"{name_of(factory)} {why}; set weight_decay to 0 before, and choose that of the new optimizer")


def completed(factory: Factory, hyperparameters: Hyperparameters) -> dict[str, Any]:
    """The hyperparameters with the factory's defaults.

    Raises:
        ValueError: if the factory does not take one.
    """
    parameters = list(inspect.signature(factory).parameters.values())
    names = {parameter.name for parameter in parameters[1:]}
    open_ended = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    for name in hyperparameters:
        if name not in names and not open_ended:
            raise ValueError(f"settings[{name!r}] is not a hyperparameter of {name_of(factory)}: {sorted(names)}")
    return {**defaults_of(factory), **hyperparameters}
