"""From an update rule for one tensor to an optimizer for many, and for ensembles; the checks of its arguments."""

import functools
import inspect
import math
from collections.abc import Callable
from numbers import Real
from types import SimpleNamespace
from typing import NamedTuple

import torch


class Optimizer(NamedTuple):
    """``init(params) → state`` and ``update(grads, state, params) → (updates, state)``.

    state: ``"step"``, an int, and one dict name → tensor for each buffer, named as in ``torch.optim``.

    An update is ``step(hyperparameters | at(t), grads, buffers, params) → (updates, buffers)`` for t = 1, 2, …: ``at``
    works in Python numbers and gives a dict of tensors; ``step``, from tensors to tensors and without checks, can be
    traced once and replayed.  ``coordinatewise``: whether a coordinate's update depends on no other coordinate.
    """

    init: Callable
    update: Callable
    hyperparameters: dict
    at: Callable
    step: Callable
    coordinatewise: bool


def apply_updates(params, updates):
    """params + updates, in the parameters' own dtypes."""
    return {name: (w.detach() + updates[name]).to(w.dtype) for name, w in params.items()}


# From a rule for one tensor to an optimizer.


def rule(scalars=lambda t, h: {}, *, coordinatewise=True, **buffers):
    """Turn a rule for one tensor into a factory of optimizers, whose arguments are the rule's that have a default.

    scalars: function(t, h) that gives the rule's other arguments: what depends on nothing but the step t (1, 2, …)
        and the hyperparameters h, a dict.  Float hyperparameters and t are float64 tensors, flags are bools.
    coordinatewise: False for a rule in which the coordinates of a tensor have a say in each other's update.
    buffers: name → function(w, h) that gives the buffer's start for a parameter w, or None for no such buffer.
    The rule is called as rule(g, w, t, s, **h, **scalars): the gradient, the parameter, the step, the buffers as
    attributes of s, to be replaced.  It returns the update, and sees one tensor of one member at a time.
    """

    def decorate(body):
        parameters = [p for p in inspect.signature(body).parameters.values() if p.default is not p.empty]
        signature = inspect.Signature([p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in parameters])

        @functools.wraps(body)
        def factory(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return _optimizer(body, scalars, buffers, coordinatewise, _checked(bound.arguments, signature))

        factory.__signature__ = signature
        return factory

    return decorate


def _optimizer(body, scalars, buffers, coordinatewise, h):
    members = max((len(x) for value in h.values() for x in _flat(value) if _axis(x) == 0), default=None)

    def lifted(function, h, *tensors):
        device = tensors[0].device
        h = {name: _each(lambda x: x if isinstance(x, bool) else x.to(device), value) for name, value in h.items()}
        if members is not None:
            dims = {name: _each(_axis, value) for name, value in h.items()}
            function = torch.func.vmap(function, in_dims=(dims, *(0 for _ in tensors)))
        return function(h, *tensors)

    def start(h, w):
        first = {buffer: start(w, h) for buffer, start in buffers.items()}
        return {buffer: x for buffer, x in first.items() if x is not None}

    names = tuple(start(h, torch.zeros(())))

    def by_buffer(by_name):
        return {buffer: {name: tensors[buffer] for name, tensors in by_name.items()} for buffer in names}

    @torch.no_grad()
    def init(params):
        _check_tensors(params, members)
        return {"step": 0, **by_buffer({name: lifted(start, h, w.detach()) for name, w in params.items()})}

    def at(t):
        return {"t": torch.tensor(t, dtype=torch.float64), **scalars(t, h)}

    def of_tensor(h, g, w, old):
        dtype = torch.promote_types(w.dtype, torch.float32)
        # The added axis makes a scalar parameter, too, more of a tensor than a hyperparameter, which then leaves
        # its dtype alone.  NAdam's mu_product is a scalar itself, and stays one.
        wide = {b: x.to(dtype)[None] if (x.shape, x.dtype) == (w.shape, w.dtype) else x for b, x in old.items()}
        s = SimpleNamespace(**wide)
        change = body(g.to(dtype)[None], w.to(dtype)[None], s=s, **h)[0]
        return change, {b: getattr(s, b).reshape(x.shape).to(x.dtype) for b, x in old.items()}

    @torch.no_grad()
    def step(h_t, grads, old, params):
        updates, new = {}, {}
        for name, w in params.items():
            buffers = {buffer: old[buffer][name] for buffer in names}
            updates[name], new[name] = lifted(of_tensor, h_t, grads[name].detach(), w.detach(), buffers)
        return updates, by_buffer(new)

    def update(grads, state, params):
        if state.keys() != {"step", *names}:
            raise ValueError(f"state has {sorted(state)}, not {['step', *names]}; pass what init or update returned")
        _check_tensors(params, members, grads, state)
        t = state["step"] + 1
        updates, new = step(h | at(t), grads, state, params)
        return updates, {"step": t, **new}

    return Optimizer(init, update, h, at, step, coordinatewise)


def _axis(x):
    """Where vmap finds a hyperparameter's members: on axis 0 of a 1-d tensor, and nowhere else."""
    return 0 if torch.is_tensor(x) and x.ndim else None


def _each(function, value):
    return tuple(map(function, value)) if isinstance(value, tuple) else function(value)


def _flat(value):
    return value if isinstance(value, tuple) else (value,)


def power(base, exponent):
    """base ** exponent in float64, entry by entry in Python, as ``torch.optim`` does: the last bits of torch.pow depend
    on how long a tensor is."""
    if not any(torch.is_tensor(x) and x.ndim for x in (base, exponent)):
        return torch.tensor(float(base) ** float(exponent), dtype=torch.float64)
    base, exponent = torch.broadcast_tensors(*(torch.as_tensor(x, dtype=torch.float64) for x in (base, exponent)))
    powers = [b**e for b, e in zip(base.flatten().tolist(), exponent.flatten().tolist())]
    return torch.tensor(powers, dtype=torch.float64).reshape(base.shape)


def norm(x):
    """The Euclidean norm, summed in pairs: its bits do not depend on how many members are stacked, as a sum's would."""
    x = x.flatten().square()
    while len(x) > 1:
        x = torch.nn.functional.pad(x, (0, len(x) % 2))
        x = x[0::2] + x[1::2]
    return x.sum().sqrt()


# Checks.

_INSIDE = {
    "[0, ∞)": lambda x: 0 <= x < math.inf,
    "[0, 1)": lambda x: 0 <= x < 1,
    "[0, 1]": lambda x: 0 <= x <= 1,
    "(-∞, ∞)": math.isfinite,
}
_INTERVALS = {"betas": "[0, 1)", "rho": "[0, 1]", "alpha": "[0, 1]", "dampening": "(-∞, ∞)"}  # the others: [0, ∞)


def _checked(arguments, signature):
    """The hyperparameters as float64 tensors, flags as they are; TypeError or ValueError for what cannot be one."""
    checked, members = {}, {}
    for name, value in arguments.items():
        default = signature.parameters[name].default
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise TypeError(f"{name}={value!r} is not a flag; pass True or False")
            checked[name] = value
        elif isinstance(default, tuple):
            if not isinstance(value, tuple | list) or len(value) != len(default):
                raise TypeError(f"{name}={value!r} is not a pair; pass two numbers, such as {default}")
            checked[name] = tuple(_numbers(name, f"{name}[{i}]", x, default[i]) for i, x in enumerate(value))
        else:
            checked[name] = _numbers(name, name, value, default)
        labels = [f"{name}[{i}]" for i in range(2)] if isinstance(default, tuple) else [name]
        members |= {label: len(x) for label, x in zip(labels, _flat(checked[name])) if _axis(x) == 0}
    if len(set(members.values())) > 1:
        raise ValueError(f"1-d hyperparameters of different lengths, {members}: give each one entry for each member")
    if checked.get("nesterov") and not ((checked["momentum"] > 0).all() and (checked["dampening"] == 0).all()):
        raise ValueError(
            f"nesterov=True with momentum={arguments['momentum']!r}, dampening={arguments['dampening']!r}: "
            "it needs momentum > 0 and dampening = 0; set them so, or nesterov=False"
        )
    return checked


def _numbers(name, label, value, default):
    if torch.is_tensor(value) and value.ndim <= 1 and not value.is_complex() and value.dtype != torch.bool:
        numbers = value.detach().to("cpu", torch.float64, copy=True)
    elif isinstance(value, Real) and not isinstance(value, bool):
        numbers = torch.tensor(float(value), dtype=torch.float64)
    else:
        raise TypeError(f"{label}={value!r} is neither a number nor a 1-d tensor of them; pass one, such as {default}")
    if numbers.numel() == 0:
        raise ValueError(f"{label} is an empty tensor; pass a number, or one entry for each member of the ensemble")
    interval = _INTERVALS.get(name, "[0, ∞)")
    for i, x in enumerate(numbers.reshape(-1).tolist()):
        if not _INSIDE[interval](x):
            entry = f"{label}[{i}]" if numbers.ndim else label
            raise ValueError(f"{entry}={x!r} is outside {interval}; pass a number inside, such as {default}")
    return numbers


def _check_tensors(params, members, grads=None, state=None):
    for name, w in params.items():
        if not torch.is_tensor(w) or not w.is_floating_point():
            raise TypeError(f"params[{name!r}]={w!r} is not a tensor of floats; pass only such parameters")
        if members is not None and (w.ndim == 0 or len(w) != members):
            raise ValueError(
                f"params[{name!r}] has shape {tuple(w.shape)}, the hyperparameters have {members} members: "
                "stack as many along its first axis"
            )
    if grads is None:
        return
    buffers = {f"state[{buffer!r}]": tensors for buffer, tensors in state.items() if buffer != "step"}
    for label, tensors in {"grads": grads, **buffers}.items():
        missing, extra = sorted(params.keys() - tensors.keys()), sorted(tensors.keys() - params.keys())
        if missing or extra:
            raise ValueError(f"{label}: missing {missing}, extra {extra}; pass one tensor for each of params")
        for name, x in tensors.items():
            if not torch.is_tensor(x) or x.layout != torch.strided:
                raise TypeError(f"{label}[{name!r}]={x!r} is not a dense tensor; pass one (zeros for no gradient)")
            shape = params[name].shape
            if x.shape != shape and (label != "state['mu_product']" or x.shape != shape[: members is not None]):
                raise ValueError(
                    f"{label}[{name!r}] has shape {tuple(x.shape)}, params[{name!r}] {tuple(shape)}; "
                    "pass the one that belongs to these parameters"
                )
