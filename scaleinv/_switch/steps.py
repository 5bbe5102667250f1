"""How large the steps of an optimizer are under noise: by its law, or measured."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import optim

from scaleinv._convert import defaults_of
from scaleinv._infer import isolated
from scaleinv.known_optimizers import KNOWN, StepContext

# Their steps under noise stay the same, and follow a law.
BY_LAW = (optim.SGD, optim.RMSprop, optim.Adam, optim.AdamW, optim.Adafactor, optim.Muon)
LATE = 100  # a step at which the averages of any usual momentum are complete
WINDOWS = range(100, 120), range(300, 320)  # of the steps that are measured
LARGEST = 1 << 12  # coordinates of a measurement
STEADY = 0.1  # two measurements agree if they differ by at most this share

Factory = Callable[..., Any]
Hyperparameters = Mapping[str, Any]


class Steps(NamedTuple):
    """RMS of the first step, and of later ones under noise, unit W, without weight decay."""

    first: float
    later: float


def steps_of(factory: Factory, hyperparameters: Hyperparameters, at: StepContext) -> Steps:
    """The steps of an optimizer under noise: by its law in torch.optim, else measured on a tensor of noise.

    Args:
        factory: makes the optimizer.
        hyperparameters: with lr.
        at: the parameter's shape and RMS, and the RMS of its gradient.

    Raises:
        ValueError: if the step needs a gradient and there is none, does not stay as it is under noise, or depends on
            the shape of a tensor that is too large to be measured.
    """
    return _by_law(factory, hyperparameters, at) if factory in BY_LAW else _measured(factory, hyperparameters, at)


def name_of(factory: Factory) -> str:
    """What an optimizer is called.

    >>> import torch
    >>> from scaleinv._switch.steps import name_of
    >>> name_of(torch.optim.AdamW)
    'AdamW'
    """
    return getattr(factory, "__name__", repr(factory))


def needs_a_gradient(name: str, shape: tuple[int, ...]) -> str:
    """Why the step of an optimizer is not known, in words."""
    return f"the step of {name} depends on the gradient, and a tensor of shape {shape} has none; call backward() before"


def _by_law(optimizer_class: Any, hyperparameters: Hyperparameters, at: StepContext) -> Steps:
    law = KNOWN[optimizer_class].step_law
    assert law is not None
    group = {**defaults_of(optimizer_class), **hyperparameters}
    first, later = (law(group, replace(at, step=step)).rms for step in (0, LATE))
    if optimizer_class is optim.Adafactor and math.isnan(at.rms):
        raise ValueError(
            f"the step of Adafactor is relative, and a tensor of shape {at.shape} has no numbers yet (meta)"
        )
    if math.isnan(later):
        raise ValueError(needs_a_gradient(name_of(optimizer_class), at.shape))
    return Steps(first, later)


def _measured(factory: Factory, hyperparameters: Hyperparameters, at: StepContext) -> Steps:
    if math.prod(at.shape) <= LARGEST:
        return _on_noise(factory, hyperparameters, at)
    small, smaller = (
        _on_noise(factory, hyperparameters, replace(at, shape=_shrunk(at.shape, size)))
        for size in (LARGEST, LARGEST // 8)
    )
    if not agree(small.later, smaller.later):
        raise ValueError(
            f"the step of {name_of(factory)} depends on the shape, and a tensor of shape {at.shape} is too large to "
            "measure it on; set its lr by its authors' rule"
        )
    return small


def _shrunk(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """A shape of at most ``size`` coordinates and nearly the same proportions."""
    factor = (size / math.prod(shape)) ** (1 / len(shape))
    shrunk = [max(1, int(side * factor)) for side in shape]
    while math.prod(shrunk) > size:
        shrunk[shrunk.index(max(shrunk))] //= 2
    return tuple(shrunk)


def _on_noise(factory: Factory, hyperparameters: Hyperparameters, at: StepContext) -> Steps:
    """Train a tensor on gradients without mean or memory; it is put back after each step, to keep its RMS."""
    generator = torch.Generator().manual_seed(0)
    squares = []
    with isolated(), _explained(factory, at):
        start = at.rms * torch.randn(at.shape, generator=generator)
        w = torch.nn.Parameter(start.clone())
        optimizer = factory([w], **hyperparameters)
        for _ in range(WINDOWS[-1].stop):
            w.grad = at.gradient_rms * torch.randn(at.shape, generator=generator)
            optimizer.step()
            with torch.no_grad():
                squares.append((w - start).double().square().mean().item())
                w.copy_(start)
    early, late = (math.sqrt(sum(squares[step] for step in window) / len(window)) for window in WINDOWS)
    if not agree(early, late):
        raise ValueError(
            f"the steps of {name_of(factory)} do not stay the same under noise ({early:.2g} after {WINDOWS[0].start} "
            f"steps, {late:.2g} after {WINDOWS[1].start}), so that no lr makes them as large as another optimizer's"
        )
    return Steps(math.sqrt(squares[0]), late)


@contextmanager
def _explained(factory: Factory, at: StepContext) -> Iterator[None]:
    """Says what was tried when an optimizer raises."""
    try:
        yield
    except Exception as error:  # whatever a third party's constructor or step may raise
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{name_of(factory)} could not be tried on a tensor of shape {at.shape}: {reason}; if it takes no such "
            "tensors, leave them to the old optimizer (keep=)"
        ) from error


def agree(a: float, b: float) -> bool:
    """Whether two steps are the same, to 10 %.

    >>> from scaleinv._switch.steps import agree
    >>> agree(1.05, 1.0), agree(1.2, 1.0)
    (True, False)
    """
    return 0 < b < math.inf and abs(a / b - 1) < STEADY
