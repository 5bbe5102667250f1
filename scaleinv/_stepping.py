"""Which optimizer of ``torch.optim`` a class steps as."""

import inspect

import torch

from scaleinv.known_optimizers import KNOWN

_NOT_STEPS = "__init__", "__setstate__", "__repr__", "__doc__", "__module__"


def stepping_class(optimizer_class: type) -> type:
    """The class whose units and laws hold: that of ``torch.optim`` from which it derives and whose methods it keeps,
    else itself.

    >>> import torch
    >>> from scaleinv._stepping import stepping_class
    >>> class Renamed(torch.optim.AdamW):
    ...     pass
    >>> class Other(torch.optim.AdamW):
    ...     def step(self, closure=None):
    ...         pass
    >>> stepping_class(Renamed).__name__, stepping_class(Other).__name__
    ('AdamW', 'Other')
    """
    known = next((cls for cls in optimizer_class.__mro__ if cls in KNOWN), None)
    if known is None or known is optimizer_class:
        return optimizer_class
    makes_steps = {
        name
        for cls in known.__mro__[: known.__mro__.index(torch.optim.Optimizer)]
        for name, value in vars(cls).items()
        if callable(value) and name not in _NOT_STEPS
    }
    same = all(_method(optimizer_class, name) is _method(known, name) for name in makes_steps)
    return known if same else optimizer_class


def _method(cls: type, name: str) -> object:
    """The function itself, without what torch wraps it in."""
    return inspect.unwrap(getattr(cls, name))
