"""An audit of a saved model and optimizer: of two files with ``model.state_dict()`` and ``optimizer.state_dict()``.

A state_dict has no module, and an optimizer's has numbers in place of names (unless it was made from
``named_parameters()``), so the numbers are matched to the names by their order and the shapes in the state.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from scaleinv._audit.audit_model import Audit, audit_places
from scaleinv._audit.places import Place
from scaleinv._reparam import is_saved_scale, saved_scale
from scaleinv.known_optimizers import known_of
from scaleinv.units import Units

Shape: TypeAlias = tuple[int, ...]

_BUFFERS = "running_mean", "running_var", "num_batches_tracked"


def audit_saved(
    model: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    optimizer_class: type[torch.optim.Optimizer],
    *,
    units: Units | str | None = None,
) -> Audit:
    """``audit`` of state_dicts, which stay as they are.

    Args:
        model: a model's, name → tensor.
        optimizer: an optimizer's, with "state" and "param_groups".
        optimizer_class: the class of the saved optimizer.
        units: as for ``audit``.

    Raises:
        TypeError: if ``model`` or ``optimizer`` is not such a state_dict.
        ValueError: if the optimizer's parameters cannot be matched to the model's, or the class does not take its
            groups.

    >>> from scaleinv._audit.saved import audit_saved
    >>> import torch
    >>> layer = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> result = audit_saved(layer.state_dict(), optimizer.state_dict(), torch.optim.SGD)
    >>> [(row.parameter, row.shape, row.lr) for row in result.rows]
    [('weight', (3, 4), 0.1), ('bias', (3,), 0.1)]
    """
    if not isinstance(model, dict) or not any(isinstance(value, torch.Tensor) for value in model.values()):
        raise TypeError(f"model: {type(model).__name__} is not a model's state_dict; save model.state_dict()")
    if not isinstance(optimizer, dict) or not {"state", "param_groups"} <= set(optimizer):
        raise TypeError(
            f"optimizer: {type(optimizer).__name__} is not an optimizer's state_dict; save optimizer.state_dict()"
        )
    saved = _saved_parameters(model)
    matched = _matched(saved, optimizer, known_of(optimizer_class).parameter_shaped)
    held = {number: each.place.parameter for number, each in matched.items()}
    trained = {id(parameter) for parameter in held.values()}
    for each in saved:  # what the optimizer does not hold was frozen, or is a buffer
        each.place.parameter.requires_grad_(id(each.place.parameter) in trained)
    return audit_places([each.place for each in saved], [_restored(optimizer_class, optimizer, held)], units=units)


class _Saved(NamedTuple):
    """A parameter of a saved model: all names that it has in the file, and its place."""

    keys: tuple[str, ...]
    place: Place

    def fits(self, shape: Shape | None) -> bool:
        return shape is None or shape == tuple(self.place.parameter.shape)


# From the model's state_dict to places.


def _saved_parameters(model: Mapping[str, Any]) -> list[_Saved]:
    """The floating-point tensors; tied ones share their storage and become one."""
    keys_by_storage: dict[Any, list[str]] = {}
    for key, tensor in model.items():
        if _is_parameter(model, key):
            storage = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.numel() or key
            keys_by_storage.setdefault(storage, []).append(key)
    return [_saved(model, keys) for keys in keys_by_storage.values()]


def _is_parameter(model: Mapping[str, Any], key: str) -> bool:
    tensor = model[key]
    if not isinstance(tensor, torch.Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return key.rpartition(".")[2] not in _BUFFERS and not is_saved_scale(model, key)


def _saved(model: Mapping[str, Any], keys: Sequence[str]) -> _Saved:
    parameter = nn.Parameter(model[keys[0]].detach())
    layer = f"{parameter.ndim}-dimensional {keys[0].rpartition('.')[2]}"  # the module's class is not saved
    return _Saved(tuple(keys), Place(tuple(keys), layer, parameter, saved_scale(model, keys[0])))


# From the optimizer's state_dict to an optimizer.


def _restored(
    optimizer_class: type[torch.optim.Optimizer], saved: Mapping[str, Any], held: Mapping[int, torch.Tensor]
) -> torch.optim.Optimizer:
    """The optimizer with its groups and state; ``held`` is its number of a parameter → the parameter."""
    groups = [
        {**_hyperparameters(group), "params": [held[number] for number in group["params"]]}
        for group in saved["param_groups"]
    ]
    try:
        optimizer = optimizer_class(groups, **_required(optimizer_class, groups[0]))
    except Exception as error:  # whatever a third party's class may raise
        name = optimizer_class.__name__
        raise ValueError(
            f"{name} does not take these parameter groups ({error}); pass the class that was saved"
        ) from error
    optimizer.state.update({held[number]: state for number, state in saved["state"].items() if number in held})
    return optimizer


def _hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _required(optimizer_class: type, group: Mapping[str, Any]) -> dict[str, Any]:
    """What the class has no default for, as in the first group."""
    parameters = list(inspect.signature(optimizer_class).parameters.values())[1:]
    return {p.name: group[p.name] for p in parameters if p.default is p.empty and p.name in group}


# Which parameter is which.


def _matched(
    saved: Sequence[_Saved], optimizer: Mapping[str, Any], parameter_shaped: Sequence[str]
) -> dict[int, _Saved]:
    """The optimizer's number of a parameter → the parameter: by the names that it has, else by order, as far as the
    shapes in its state leave no doubt."""
    groups, state = optimizer["param_groups"], optimizer["state"]
    if all("param_names" in group for group in groups):
        return _matched_by_name(saved, groups)
    numbers = [number for group in groups for number in group["params"]]
    shapes = {number: _shape(state.get(number, {}), parameter_shaped) for number in numbers}
    certain = len(groups) == 1 or all(shapes.values())
    if certain and len(numbers) == len(saved) and all(map(_Saved.fits, saved, map(shapes.get, numbers))):
        return dict(zip(numbers, saved, strict=True))
    matched: dict[int, _Saved] = {}
    for group in groups:
        rest = [each for each in saved if each not in matched.values()]
        of_group = [shapes[number] for number in group["params"]]
        forwards, backwards = _in_order(rest, of_group), _in_order(rest[::-1], of_group[::-1])
        if forwards is None or backwards is None or not certain or forwards != backwards[::-1]:
            problem = "do not fit" if forwards is None else "fit in several ways"
            raise ValueError(
                f"optimizer: the {len(numbers)} parameters of its {len(groups)} groups {problem} the {len(saved)} "
                "tensors of the model, by order and shape; do both files belong together? An optimizer made from "
                "model.named_parameters() saves the names"
            )
        matched |= dict(zip(group["params"], forwards, strict=True))
    return matched


def _matched_by_name(saved: Sequence[_Saved], groups: Sequence[Mapping[str, Any]]) -> dict[int, _Saved]:
    by_name = {name: each for each in saved for name in (*each.place.names, *each.keys)}
    matched = {}
    for group in groups:
        for number, name in zip(group["params"], group["param_names"], strict=True):
            if name not in by_name:
                raise ValueError(f"optimizer: parameter {name!r} is not in the model; do both files belong together?")
            matched[number] = by_name[name]
    return matched


def _in_order(saved: Sequence[_Saved], shapes: Sequence[Shape | None]) -> list[_Saved] | None:
    """The first parameters, in order, that have these shapes; None where there are none."""
    rest, matches = iter(saved), []
    for shape in shapes:
        match = next((each for each in rest if each.fits(shape)), None)
        if match is None:
            return None
        matches.append(match)
    return matches


def _shape(state: Mapping[str, Any], parameter_shaped: Sequence[str]) -> Shape | None:
    """That of the parameter, by the buffers of a state; None where they do not show it."""
    buffers = [state[name] for name in parameter_shaped if isinstance(state.get(name), torch.Tensor)]
    return tuple(buffers[0].shape) if buffers else None
