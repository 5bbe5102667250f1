"""The decorator that makes a factory of optimizers out of a rule for one tensor, and what the factory returns."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from scaleinv._float64 import finest
from scaleinv._rule.arguments import check_grads, check_params, check_state, checked_hyperparameters, members_of
from scaleinv._rule.base import Body, Buffer, Check, Hyperparameters, P, State, StepScalars, Tensors


def apply_updates(params: Tensors, updates: Tensors) -> dict[str, Tensor]:
    """params + updates, in the parameters' own dtypes.

    >>> import torch
    >>> from scaleinv.optimizers import apply_updates
    >>> apply_updates({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([0.5, -0.5])})
    {'w': tensor([1.5000, 1.5000])}
    """
    return {name: (w.detach() + updates[name]).to(w.dtype) for name, w in params.items()}


def _no_scalars(t: int, h: Hyperparameters) -> dict[str, Any]:
    return {}


def rule(
    at: StepScalars = _no_scalars, *, elementwise: bool = True, check: Check | None = None, **buffers: Buffer
) -> Callable[[Body[P]], Callable[P, "Optimizer"]]:
    """Turn a rule for one tensor into a factory of optimizers, whose arguments are the rule's hyperparameters.

    The rule is called as ``rule(g, w, s, at, …hyperparameters)`` with the gradient g and the parameter w of one tensor
    of one member, and returns the update, which is added to w.  The buffers are attributes of s, which the rule
    replaces.  ``at.t`` is the step, from 1, and ``at`` has the scalars of the step as attributes too.  Float
    hyperparameters and ``at.t`` are float64 tensors, flags are bools.

    Args:
        at: function(t, h) → name → what depends on nothing but the step and the hyperparameters h.
        elementwise: False if a coordinate's update depends on other coordinates of its tensor.
        check: raises ValueError if hyperparameters, each in its range, do not go together.
        buffers: the state that the rule keeps for each parameter.

    >>> import torch
    >>> from scaleinv.optimizers import rule, zeros
    >>> @rule(mean=zeros)
    ... def average(g, w, s, at, lr=0.1):
    ...     s.mean = s.mean + (g - s.mean) / at.t
    ...     return -lr * s.mean
    >>> optimizer, params = average(lr=0.5), {"w": torch.zeros(2)}
    >>> optimizer.update({"w": torch.ones(2)}, optimizer.init(params), params)[0]
    {'w': tensor([-0.5000, -0.5000])}
    """

    def factory_of(body: Body[P]) -> Callable[P, Optimizer]:
        definition = Rule(body, at, elementwise, check, buffers)

        @functools.wraps(body)
        def factory(*args: P.args, **kwargs: P.kwargs) -> Optimizer:
            return Optimizer(definition, definition.hyperparameters(*args, **kwargs))

        vars(factory)["__signature__"] = definition.signature
        return factory

    return factory_of


@dataclass(frozen=True)
class Rule:
    """A rule for one tensor and what it declares; see ``rule``."""

    body: Callable[..., Tensor]
    at: StepScalars
    elementwise: bool
    check: Check | None
    buffers: Mapping[str, Buffer]

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """That of the factory: the hyperparameters, which follow g, w, s and at."""
        return inspect.Signature(list(inspect.signature(self.body).parameters.values())[4:])

    def hyperparameters(self, *args: Any, **kwargs: Any) -> Hyperparameters:
        """The factory's arguments, checked."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        defaults = {name: parameter.default for name, parameter in self.signature.parameters.items()}
        h = checked_hyperparameters(bound.arguments, defaults)
        if self.check is not None:
            self.check(bound.arguments, h)
        return h


class Optimizer:
    """An update rule with its hyperparameters, as pure functions of dicts name → tensor.

    Two functions are enough to train: ``init(params) → state`` and ``update(grads, state, params) → (updates, state)``.

    An update is ``step(hyperparameters | at(t), grads, buffers, params) → (updates, buffers)`` for t = 1, 2, …, where
    ``at`` works in Python numbers, and ``step`` goes from tensors to tensors without checks: it can be traced once and
    replayed.

    Attributes:
        hyperparameters: name → flag, float64 tensor, or pair of float64 tensors.
        members: of the ensemble; None if no hyperparameter is a 1-d tensor.
        elementwise: whether a coordinate's update depends on no other coordinate.

    >>> import torch
    >>> from scaleinv.optimizers import adam
    >>> optimizer, params = adam(lr=0.5), {"w": torch.zeros(2)}
    >>> updates, state = optimizer.update({"w": torch.ones(2)}, optimizer.init(params), params)
    >>> state["step"], list(state), optimizer.elementwise
    (1, ['step', 'exp_avg', 'exp_avg_sq'], True)
    """

    def __init__(self, rule: Rule, hyperparameters: Hyperparameters) -> None:
        self.hyperparameters = hyperparameters
        self.members = members_of(hyperparameters)
        self.elementwise = rule.elementwise
        self._rule = rule
        self._buffers = {b: x for b, x in rule.buffers.items() if x.flag is None or hyperparameters[x.flag]}

    @torch.no_grad()
    def init(self, params: Tensors) -> State:
        """The state before the first step: ``"step"``, 0, and one dict name → tensor for each buffer, named as in
        ``torch.optim``."""
        check_params(params, self.members)
        start = {name: self._each_member(self._start, self.hyperparameters, w.detach()) for name, w in params.items()}
        return {"step": 0, **self._by_buffer(start)}

    def update(self, grads: Tensors, state: State, params: Tensors) -> tuple[dict[str, Tensor], State]:
        """What to add to the parameters, and the state after the step; nothing passed is changed.

        Raises:
            TypeError: if something is not a dense tensor of floats.
            ValueError: if gradients, state and parameters do not belong together.
        """
        check_params(params, self.members)
        check_state(state, self._buffers, params, self.members)
        check_grads(grads, params)
        t = state["step"] + 1
        updates, buffers = self.step(self.hyperparameters | self.at(t), grads, state, params)
        return updates, {"step": t, **buffers}

    def at(self, t: int) -> dict[str, Any]:
        """The step t, from 1, as a float64 tensor, and the scalars that the rule takes at it."""
        return {"t": torch.tensor(t, dtype=torch.float64, device="cpu"), **self._rule.at(t, self.hyperparameters)}

    @torch.no_grad()
    def step(
        self, h_at: Hyperparameters, grads: Tensors, buffers: Mapping[str, Tensors], params: Tensors
    ) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        """Updates and buffers, from ``hyperparameters | at(t)``, gradients, buffers and parameters."""
        updates, new = {}, {}
        for name, w in params.items():
            old = {buffer: buffers[buffer][name] for buffer in self._buffers}
            updates[name], new[name] = self._each_member(self._step, h_at, grads[name].detach(), w.detach(), old)
        return updates, self._by_buffer(new)

    def _start(self, h: Hyperparameters, w: Tensor) -> dict[str, Tensor]:
        """The buffers of one tensor of one member before the first step."""
        return {name: buffer.start(w, h) for name, buffer in self._buffers.items()}

    def _step(
        self, h_at: Hyperparameters, g: Tensor, w: Tensor, old: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The update and the buffers of one tensor of one member."""
        h = {name: h_at[name] for name in self.hyperparameters}
        at = SimpleNamespace(**{name: x for name, x in h_at.items() if name not in h})
        dtype = torch.promote_types(w.dtype, torch.float32)

        def widened(x: Tensor) -> Tensor:
            # The added axis makes a 0-d parameter, too, more of a tensor than a hyperparameter, which then leaves its
            # dtype alone.
            return x.to(dtype)[None]

        s = SimpleNamespace(**{b: x if self._buffers[b].scalar else widened(x) for b, x in old.items()})
        update = self._rule.body(widened(g), widened(w), s, at, **h)[0]
        return update, {b: getattr(s, b).reshape(x.shape).to(x.dtype) for b, x in old.items()}

    def _each_member(self, function: Callable[..., Any], h: Hyperparameters, *tensors: Any) -> Any:
        """function(h, *tensors) on the tensors' device; for an ensemble, of each member, stacked."""
        device = tensors[0].device
        dtype = finest(device)
        h = {name: _map(lambda x: x if isinstance(x, bool) else x.to(device, dtype), v) for name, v in h.items()}
        if self.members is not None:
            axes = {name: _map(_member_axis, value) for name, value in h.items()}
            function = torch.func.vmap(function, in_dims=(axes, *(0 for _ in tensors)))
        return function(h, *tensors)

    def _by_buffer(self, by_name: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        return {buffer: {name: tensors[buffer] for name, tensors in by_name.items()} for buffer in self._buffers}


def _member_axis(x: bool | Tensor) -> int | None:
    """Where vmap finds the members of a hyperparameter: on axis 0 of a 1-d tensor, and nowhere else."""
    return 0 if isinstance(x, Tensor) and x.ndim else None


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """function(value), of a tuple each entry's."""
    return tuple(map(function, value)) if isinstance(value, tuple) else function(value)
