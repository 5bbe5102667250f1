"""Whether the values of a saved training can be computed with: files may be damaged, or written by other code."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch

from scaleinv._audit.saved.class_check import defaults_of
from scaleinv.known_optimizers import KNOWN

# Buffers that only some settings of a class have, or only matrices.
_OPTIONAL = {"max_exp_avg_sq", "momentum_buffer", "grad_avg", "row_var", "col_var", "variance"}

_LARGEST = 2**53  # integers up to here are numbers of Python and of torch alike


def check_values(optimizer_class: type[torch.optim.Optimizer], saved: Mapping[str, Any]) -> None:
    """Check the hyperparameters and the buffers of an optimizer's state_dict.

    Raises:
        ValueError: if a hyperparameter is not of the kind of its default, or a buffer is missing or not a dense tensor
            of the shape of the others.  Of a third party's class, only whether tensors are dense is known.

    >>> import torch
    >>> from scaleinv._audit.saved.value_check import check_values
    >>> check_values(torch.optim.SGD, torch.optim.SGD([torch.zeros(2)], 0.1).state_dict())
    """
    for number, group in enumerate(saved["param_groups"]):
        known = defaults_of(optimizer_class, group) if optimizer_class in KNOWN else {}
        for name, default in known.items():
            if name in group and not _is_alike(group[name], default):
                raise ValueError(
                    f"optimizer: {name}={_short(group[name])} in group {number} is not a value such as {default!r}; is "
                    "the file complete?"
                )
    for number, state in saved["state"].items():
        _check_state(optimizer_class, number, state)


def check_dense(model: Mapping[str, Any]) -> None:
    """Check the tensors of a model's state_dict.

    Raises:
        ValueError: if one has no numbers or is sparse.
    """
    for name, tensor in model.items():
        if isinstance(tensor, torch.Tensor) and not _is_dense(tensor):
            raise ValueError(f"model: {name!r} is {_short(tensor)}; save the dense tensors of the model")


def _check_state(optimizer_class: type, number: Any, state: Mapping[str, Any]) -> None:
    where = f"optimizer: the state of parameter {number}"
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and not _is_dense(value):
            raise ValueError(f"{where} has {name}={_short(value)}; save dense tensors")
    if not state or optimizer_class not in KNOWN or optimizer_class is torch.optim.LBFGS:
        return
    known = KNOWN[optimizer_class]
    missing = [name for name in known.units.state if name not in state and name not in _OPTIONAL]
    if missing:
        raise ValueError(f"{where} does not have {', '.join(missing)}; is the file complete?")
    if "step" in state and not (_is_number(state["step"]) and 0 <= float(state["step"]) < _LARGEST):
        raise ValueError(f"{where} has step={_short(state['step'])}, not a number of steps; is the file complete?")
    shapes = set()
    for name in known.parameter_shaped:
        value = state.get(name)
        if isinstance(value, torch.Tensor):
            shapes.add(tuple(value.shape))
        elif value is not None:
            raise ValueError(f"{where} has {name}={_short(value)}, not a tensor; is the file complete?")
    if len(shapes) > 1:
        raise ValueError(f"{where} has buffers of the shapes {' and '.join(map(str, sorted(shapes)))}; is it complete?")


def _is_alike(value: Any, default: Any) -> bool:
    """Whether a value is of the kind of a default: a flag, a number, or as many numbers."""
    if isinstance(default, bool):
        return value is None or isinstance(value, int)
    if isinstance(default, tuple):
        same_length = isinstance(value, tuple | list) and len(value) == len(default)
        return same_length and all(each is None or _is_number(each) for each in value)
    return not isinstance(default, int | float) or _is_number(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and _is_dense(value) and not value.is_complex()
    return isinstance(value, Real) and not isinstance(value, bool) and not (type(value) is int and value > _LARGEST)


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_meta


def _short(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        kind = "sparse" if value.layout != torch.strided else "meta" if value.is_meta else "dense"
        return f"a {kind} tensor of the shape {tuple(value.shape)}"
    return repr(value)[:60]
