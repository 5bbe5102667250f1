"""A training as people set it up, step by step, so that it can be audited at any stage."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from tests.library.zoo.data import BATCHES

STEPS = 50


def constant(step):
    """The schedule of a training without one."""
    return 1.0


def warm_up_and_cosine(step, warm_up=5, steps=STEPS + 1):
    """Linearly from 0, and down to 0 along a cosine, as transformers' ``get_cosine_schedule_with_warmup``."""
    if step < warm_up:
        return step / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def cosine(step):
    """Down to 0 along a cosine, without a warm-up."""
    return warm_up_and_cosine(step, warm_up=0)


def linear(step, steps=STEPS + 1):
    """Down to 0 along a line, as transformers' Trainer does by default."""
    return 1 - step / steps


def inverse_root(step, warm_up=10):
    """The schedule of "Attention is all you need", 1 at its peak."""
    return min((step + 1) / warm_up, math.sqrt(warm_up / (step + 1)))


@dataclass
class Training:
    """A model with what trains it.

    Attributes:
        model: what is audited.
        optimizers: those that train it together.
        loss: batch number → loss.
        max_norm: as passed to ``clip_grad_norm_``; None without clipping.
        schedule: step → the factor of every group's lr.
        autocast: the dtype in which the loss is computed; None for that of the parameters.
        scaler: the ``GradScaler`` of float16.
        accumulate: batches per step.
        evaluate: → a number that training makes smaller, where the loss itself does not tell.
        planned: how many steps the whole run has, where the audit is told.
        set_to_none: as passed to ``zero_grad``.
    """

    model: nn.Module
    optimizers: list[torch.optim.Optimizer] | torch.optim.Optimizer
    loss: Callable[[int], torch.Tensor]
    max_norm: float | None = None
    schedule: Callable[[int], float] = constant
    autocast: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None
    accumulate: int = 1
    evaluate: Callable[[], float] | None = None
    planned: int | None = None
    set_to_none: bool = True
    losses: list[float] = field(default_factory=list)

    def __post_init__(self):
        if not isinstance(self.optimizers, list):
            self.optimizers = [self.optimizers]
        for group in self.groups():
            group.setdefault("initial_lr", float(group["lr"]))

    def groups(self):
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def set_lr(self, factor):
        for group in self.groups():
            lr = factor * group["initial_lr"]
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def zero_grad(self):
        self.model.zero_grad(self.set_to_none)

    def backward(self, step):
        """Gradients of a step, clipped by nobody yet; returns the loss."""
        total = 0.0
        for part in range(self.accumulate):
            with self._precision():
                loss = self.loss(step * self.accumulate + part) / self.accumulate
            (self.scaler.scale(loss) if self.scaler else loss).backward()
            total += loss.item()
        return total

    def update(self):
        """Clip and step."""
        if self.scaler:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        self.clip()
        for optimizer in self.optimizers:
            self.scaler.step(optimizer) if self.scaler else optimizer.step()
        if self.scaler:
            self.scaler.update()

    def clip(self):
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_norm)

    def stages(self, steps=STEPS) -> Iterator[str]:
        """Train, and stop at each stage that is audited.

        Yields:
            The stage's name: before training, after the first backward, at lr = 0 as warm-up starts; after 1, 10 and 50
            steps, without gradients and with those of the next step; once between a step and ``zero_grad``, where many
            callbacks run; and at lr = 0 as a schedule ends.
        """
        before = self.evaluate() if self.evaluate else math.nan
        yield "before training"
        for step in range(steps + 1):
            self.set_lr(self.schedule(step))
            if step in (1, 10, steps):
                yield f"after {step} steps" if step > 1 else "after 1 step"
            loss = self.backward(step)
            if step == 0:
                yield from self._start()
            elif step in (1, 10, steps):
                yield f"after {step} steps, backward" if step > 1 else "after 1 step, backward"
            if step < steps:
                self.losses.append(loss)
                self.update()
                if step == 10:
                    yield "after 11 steps, before zero_grad"
                self.zero_grad()
        self.set_lr(0)
        yield "end, lr = 0"
        after = self.evaluate() if self.evaluate else math.nan
        self.evaluated = before, after

    def _start(self):
        """The stages at the first gradients; a warm-up's lr = 0 is one of them, whatever the schedule."""
        factor = self.schedule(0)
        self.set_lr(factor or self.schedule(1))
        yield "backward"
        self.set_lr(0)
        yield "backward, lr = 0"
        self.set_lr(factor)

    def progress(self):
        """What training made of the loss: the mean over the last round of the data, relative to the first round."""
        if self.evaluate:
            before, after = self.evaluated
            return after / before
        return sum(self.losses[-BATCHES:]) / sum(self.losses[:BATCHES])

    def _precision(self):
        if self.autocast is None:
            return contextlib.nullcontext()
        return torch.autocast("cpu", self.autocast)


class MasterCopy(Training):
    """Training in bfloat16 with a copy of the parameters in float32, which the optimizer holds and the audit sees.

    ``low`` is the model that computes; before each backward it gets the numbers of ``model``, the copy.
    """

    low: nn.Module

    def backward(self, step):
        with torch.no_grad():
            for low, master in zip(self.low.parameters(), self.model.parameters()):
                low.copy_(master)
                low.grad = None
        loss = self.loss(step)
        loss.backward()
        for low, master in zip(self.low.parameters(), self.model.parameters()):
            master.grad = None if low.grad is None else low.grad.float()
        return loss.item()
