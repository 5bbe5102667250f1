"""Live optimizers, with torch.optim's interface, on the stacked parameters of members."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from scaleinv._entries import entries_of
from scaleinv._sweep.kinds import Point, defaults_of
from scaleinv._sweep.packing import Shapes, unpacked
from scaleinv.known_optimizers import KNOWN

Optimizers = list[torch.optim.Optimizer]
OTHER_WAYS = ("fused", "foreach", "capturable", "differentiable")  # in which an optimizer of torch computes a step


class Factory:
    """What makes live optimizers.

    Args:
        function: called as ``function(params, **hyperparameters)``.

    Attributes:
        name: of the function.
        cls: the optimizer's class, where the function is one or binds arguments of one.
        bound: the hyperparameters that a partial binds.
        defaults: name → default, of the hyperparameters.
        extra: what is passed besides: the fused kernel where torch has one.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.cls, self.bound = function, *_unwrapped(function)
        self.name = getattr(self.cls, "__name__", repr(function))
        self.defaults = defaults_of(function)
        has_fused = isinstance(self.cls, type) and self.cls in KNOWN and KNOWN[self.cls].fused
        self.extra = {"fused": True} if has_fused and not self.bound.keys() & set(OTHER_WAYS) else {}

    def settings(self, point: Point) -> dict[str, Any]:
        """The hyperparameters at a point, as arguments: those that are not the defaults."""
        settings = {}
        for name, default in self.defaults.items():
            value = point.get(name, default)
            if isinstance(default, tuple):
                value = tuple(point.get(key, entry) for key, entry in entries_of(name, tuple(value)))
            if value is not default and value != default:
                settings[name] = value
        return settings

    def make(self, tensors: Sequence[Tensor], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
        """An optimizer of these tensors, which it changes in place."""
        extra = {} if settings.keys() & set(OTHER_WAYS) else self.extra
        optimizer = self.function([nn.Parameter(x) for x in tensors], **settings, **extra)
        if callable(getattr(optimizer, "train", None)):
            optimizer.train()
        return optimizer


def _unwrapped(function: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What a partial calls in the end, and the keywords that it binds."""
    keywords: dict[str, Any] = {}
    while isinstance(function, partial):
        function, keywords = function.func, {**function.keywords, **keywords}
    return function, keywords


def of_stacks(factory: Factory, points: Sequence[Point], w: Tensor, grad: Tensor) -> Optimizers:
    """An optimizer for each run of members with the same hyperparameters.

    Args:
        factory: of the optimizers.
        points: for each member, name → value.
        w, grad: the members' flat parameters and gradients, (members, parameters).
    """
    settings = [factory.settings(point) for point in points]
    starts = [i for i in range(len(points)) if i == 0 or settings[i] != settings[i - 1]]
    optimizers = []
    for start, end in zip(starts, [*starts[1:], len(points)], strict=True):
        optimizers.append(_on(factory, settings[start], [w[start:end]], [grad[start:end]]))
    return optimizers


def of_members(
    factory: Factory,
    points: Sequence[Point],
    w: Tensor,
    grad: Tensor,
    shapes: tuple[Shapes, Sequence[Shapes]],
) -> Optimizers:
    """An optimizer for each member.  ``shapes``: of the largest model, and of each member's, in its first corner."""
    room, own = shapes
    optimizers = []
    for point, of_w, of_grad, shape in zip(points, w, grad, own, strict=True):
        tensors = [_corners(unpacked(flat, room), shape) for flat in (of_w, of_grad)]
        optimizers.append(_on(factory, factory.settings(point), *tensors))
    return optimizers


def _corners(tensors: Mapping[str, Tensor], shapes: Shapes) -> list[Tensor]:
    return [x[tuple(slice(n) for n in shapes[name])] for name, x in tensors.items()]


def _on(
    factory: Factory, settings: Mapping[str, Any], tensors: Sequence[Tensor], grads: Sequence[Tensor]
) -> torch.optim.Optimizer:
    optimizer = factory.make(tensors, settings)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = g
    return optimizer


class Allocated(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = operation(*args, **(kwargs or {}))
        there = {x.untyped_storage().data_ptr() for x in pytree.tree_leaves((args, kwargs)) if torch.is_tensor(x)}
        storages = [x.untyped_storage() for x in pytree.tree_leaves(results) if torch.is_tensor(x)]
        self.nbytes += sum(storage.nbytes() for storage in storages if storage.data_ptr() not in there)
        return results
