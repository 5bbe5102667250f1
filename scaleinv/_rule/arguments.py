"""Checks of what the caller passes: hyperparameters, parameters, gradients and state."""

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from scaleinv._checks import FINITE, NONNEGATIVE, RATE, SHARE, Range
from scaleinv._entries import entries, entries_of, key_of
from scaleinv._rule.base import Buffer, Hyperparameters, State, Tensors

RANGES = {"betas": RATE, "rho": SHARE, "alpha": SHARE, "dampening": FINITE}  # all others: NONNEGATIVE


# Hyperparameters.


def checked_hyperparameters(arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> Hyperparameters:
    """Flags as they are, numbers as float64 tensors.

    Raises:
        TypeError: if an argument is not of the kind of its default: a flag, a pair, a number.
        ValueError: if a number is outside its range, or 1-d tensors differ in length.
    """
    h = {name: _checked(name, value, defaults[name]) for name, value in arguments.items()}
    lengths = dict(_lengths(h))
    if len(set(lengths.values())) > 1:
        raise ValueError(f"1-d hyperparameters of different lengths, {lengths}: give each one entry for each member")
    return h


def members_of(h: Hyperparameters) -> int | None:
    """How many members the 1-d hyperparameters have; None without such hyperparameters."""
    return next((length for _, length in _lengths(h)), None)


def _lengths(h: Hyperparameters) -> Iterator[tuple[str, int]]:
    return ((key, len(x)) for key, x in entries(h) if isinstance(x, Tensor) and x.ndim)


def _checked(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise TypeError(f"{name}={value!r} is not a flag; pass True or False")
        return value
    allowed = RANGES.get(name, NONNEGATIVE)
    if not isinstance(default, tuple):
        return _checked_numbers(name, value, default, allowed)
    if not isinstance(value, tuple | list) or len(value) != len(default):
        raise TypeError(f"{name}={value!r} is not a pair; pass two numbers, such as {default}")
    keyed = zip(entries_of(name, tuple(value)), default, strict=True)
    return tuple(_checked_numbers(key, x, of_entry, allowed) for (key, x), of_entry in keyed)


def _checked_numbers(key: str, value: Any, default: Any, allowed: Range) -> Tensor:
    if isinstance(value, Tensor) and value.ndim <= 1 and not value.is_complex() and value.dtype != torch.bool:
        numbers = value.detach().to("cpu", torch.float64, copy=True)
    elif isinstance(value, Real) and not isinstance(value, bool):
        numbers = torch.tensor(float(value), dtype=torch.float64, device="cpu")
    else:
        raise TypeError(f"{key}={value!r} is neither a number nor a 1-d tensor of them; pass one, such as {default}")
    if numbers.numel() == 0:
        raise ValueError(f"{key} is an empty tensor; pass a number, or one entry for each member of the ensemble")
    outside = (~allowed.holds(numbers)).reshape(-1).nonzero().flatten().tolist()
    if outside:
        entry = key_of(key, outside[0]) if numbers.ndim else key
        x = numbers.reshape(-1)[outside[0]].item()
        raise ValueError(f"{entry}={x!r} is outside {allowed.text}; pass a number inside, such as {default}")
    return numbers


# Parameters, gradients, state.


def check_params(params: Tensors, members: int | None) -> None:
    """Refuse parameters that this optimizer cannot train.

    Raises:
        TypeError: if a parameter is not a tensor of floats.
        ValueError: if it does not stack as many members as the hyperparameters have.
    """
    for name, w in params.items():
        if not torch.is_tensor(w) or not w.is_floating_point():
            raise TypeError(f"params[{name!r}]={w!r} is not a tensor of floats; pass only such parameters")
        if members is not None and (w.ndim == 0 or len(w) != members):
            raise ValueError(
                f"params[{name!r}] has shape {tuple(w.shape)}, the hyperparameters have {members} members: "
                "stack as many along its first axis"
            )


def check_state(state: State, buffers: Mapping[str, Buffer], params: Tensors, members: int | None) -> None:
    """Refuse a state that does not belong to this optimizer and these parameters.

    Raises:
        TypeError: if a buffer is not a dense tensor.
        ValueError: if the names or shapes of buffers are others.
    """
    if state.keys() != {"step", *buffers}:
        raise ValueError(f"state has {sorted(state)}, not {['step', *buffers]}; pass what init or update returned")
    for name, buffer in buffers.items():
        of_numbers = torch.Size() if members is None else torch.Size([members])
        shapes = {parameter: of_numbers if buffer.scalar else w.shape for parameter, w in params.items()}
        _check_tensors(f"state[{name!r}]", state[name], params, shapes)


def check_grads(grads: Tensors, params: Tensors) -> None:
    """Refuse gradients that do not belong to these parameters.

    Raises:
        TypeError: if a gradient is not a dense tensor.
        ValueError: if the names or shapes of gradients are others.
    """
    _check_tensors("grads", grads, params, {name: w.shape for name, w in params.items()})


def _check_tensors(label: str, tensors: Tensors, params: Tensors, shapes: Mapping[str, torch.Size]) -> None:
    """TypeError or ValueError unless ``tensors`` are dense, one for each parameter, of these shapes."""
    missing, extra = sorted(params.keys() - tensors.keys()), sorted(tensors.keys() - params.keys())
    if missing or extra:
        raise ValueError(f"{label}: missing {missing}, extra {extra}; pass one tensor for each of params")
    for name, x in tensors.items():
        if not torch.is_tensor(x) or x.layout != torch.strided:
            raise TypeError(f"{label}[{name!r}]={x!r} is not a dense tensor; pass one (zeros for no gradient)")
        if x.shape != shapes[name]:
            raise ValueError(
                f"{label}[{name!r}] has shape {tuple(x.shape)}, params[{name!r}] {tuple(params[name].shape)}; "
                "pass the one that belongs to these parameters"
            )
