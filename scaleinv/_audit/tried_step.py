"""The step of an optimizer that is not in ``torch.optim``, tried on a copy of all that it holds.

What such a step does is not known: it may look at all parameters at once, or keep counts of its own.  So the optimizer
is copied whole, with its parameters, gradients and state, and nothing is assumed about it.
"""

import copy
import math
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer

from scaleinv._audit.amounts import blocks, is_sharded, square_of
from scaleinv._float64 import in_float64
from scaleinv._random_state import kept_random_state

LARGEST = 1 << 29  # bytes of parameters, gradients and state up to which they are copied at once
_HOOKS = "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"
_GLOBAL_HOOKS = "_global_optimizer_pre_hooks", "_global_optimizer_post_hooks"


class TriedSteps(NamedTuple):
    """Parameter → RMS of its next step, infinite where that is not a number; or why no step could be tried."""

    changes: dict[torch.Tensor, float]
    failure: str = ""


def tried_steps(optimizer: torch.optim.Optimizer, factor: float = 1.0) -> TriedSteps:
    """What ``optimizer.step()`` would do now, were its gradients multiplied by ``factor``; it stays as it is.

    >>> import torch
    >>> from scaleinv._audit.tried_step import tried_steps
    >>> class Halving(torch.optim.Optimizer):
    ...     @torch.no_grad()
    ...     def step(self, closure=None):
    ...         for p in self.param_groups[0]["params"]:
    ...             p.mul_(0.5)
    >>> p = torch.nn.Parameter(torch.ones(4))
    >>> p.grad = torch.ones(4)
    >>> tried_steps(Halving([p], {})).changes[p], p.sum().item()
    (0.5, 4.0)
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if all(p.grad is None for p in parameters):
        return TriedSteps({})
    if any(map(is_sharded, parameters)):
        return TriedSteps({}, "its step is not tried on sharded parameters")
    if _bytes(optimizer, parameters) > LARGEST:
        return TriedSteps({}, f"its step is not tried on more than {LARGEST >> 20} MiB; a Recorder measures it")
    try:
        with _undisturbed():
            copies = {p: _copy(p, factor) for p in parameters}
            _step(_twin(optimizer, copies))
            return TriedSteps({p: _change(p, copied) for p, copied in copies.items() if p.grad is not None})
    except Exception as error:  # whatever a third party's step may raise
        first_line = (str(error).splitlines() or [""])[0]
        return TriedSteps({}, f"its step could not be tried on a copy ({type(error).__name__}: {first_line})")


def _bytes(optimizer: torch.optim.Optimizer, parameters: list[torch.Tensor]) -> int:
    states = [value for state in optimizer.state.values() if isinstance(state, dict) for value in state.values()]
    tensors = [*parameters, *parameters, *(value for value in states if isinstance(value, torch.Tensor))]
    return sum(t.numel() * t.element_size() for t in tensors)


def _copy(parameter: torch.Tensor, factor: float) -> nn.Parameter:
    """A parameter with the gradient and the attributes of another."""
    copied = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
    for name, value in vars(parameter).items():
        setattr(copied, name, value)
    if parameter.grad is not None:
        copied.grad = parameter.grad.detach().clone() if factor == 1 else parameter.grad.detach() * factor
    return copied


def _twin(optimizer: torch.optim.Optimizer, copies: dict[torch.Tensor, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer with copies for parameters, wherever it keeps them, and without hooks."""
    twin = object.__new__(type(optimizer))
    own = {
        name: value for name, value in vars(optimizer).items() if name not in (*_HOOKS, "step")
    }  # schedulers wrap it
    vars(twin).update(copy.deepcopy(own, {id(p): copied for p, copied in copies.items()}))
    vars(twin).update({name: OrderedDict() for name in _HOOKS})
    return twin


def _step(optimizer: torch.optim.Optimizer) -> None:
    step: Any = type(optimizer).step
    (step.__wrapped__ if getattr(step, "hooked", False) else step)(optimizer)


def _change(before: torch.Tensor, after: torch.Tensor) -> float:
    pairs = zip(blocks(after.detach()), blocks(before.detach()), strict=True)
    square = sum(square_of(in_float64(a) - in_float64(b)) for a, b in pairs)
    return math.sqrt(square / max(before.numel(), 1)) if square < math.inf else math.inf


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No random state changes, no hook of all optimizers runs, and nothing is compiled for copies."""
    hooks = []
    with ExitStack() as stack, kept_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "torch._dynamo" in sys.modules:  # else nothing has been compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        for name in _GLOBAL_HOOKS:
            of_all = getattr(torch_optimizer, name, {})
            hooks.append((of_all, dict(of_all)))
            of_all.clear()
        try:
            yield
        finally:
            for of_all, before in hooks:
                of_all.update(before)
