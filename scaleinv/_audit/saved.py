"""An audit of a saved model and optimizer: of two files with ``model.state_dict()`` and ``optimizer.state_dict()``.

A state_dict has no module, and an optimizer's has numbers in place of names (unless it was made from
``named_parameters()``); so the numbers are matched to the names by their order and the shapes in the state.
"""

import inspect
from dataclasses import dataclass

import torch
from torch import nn

from scaleinv._audit.audit_model import audit_places
from scaleinv._audit.places import Place

_ORIGINAL, _FACTOR = ".original", ".0._extra_state"  # of a parameter with a Scale, under parametrizations.NAME
_BUFFERS = "running_mean", "running_var", "num_batches_tracked"


def audit_saved(model, optimizer, optimizer_class, *, units=None):
    """``audit`` of state_dicts, which it does not change.

    Args:
        model: a model's, name → tensor.
        optimizer: an optimizer's, with "state" and "param_groups".
        optimizer_class: the class that it is of.
        units: as for ``audit``.

    Raises:
        TypeError: for what are no state_dicts.
        ValueError: where the optimizer's parameters cannot be matched to the model's, or the class does not take
            the groups.
    """
    if not isinstance(model, dict) or not any(isinstance(value, torch.Tensor) for value in model.values()):
        raise TypeError(f"model: {type(model).__name__} is no state_dict of a model; save model.state_dict()")
    if not isinstance(optimizer, dict) or not {"state", "param_groups"} <= set(optimizer):
        raise TypeError(
            f"optimizer: {type(optimizer).__name__} is no optimizer's state_dict; save optimizer.state_dict()"
        )
    places = _places(model)
    by_number = _matched(places, optimizer)
    for place in places:  # what the optimizer does not have was frozen, or is a buffer
        place.parameter.requires_grad_(any(place is each for each in by_number.values()))
    groups = [
        {**_hyperparameters(group), "params": [by_number[n].parameter for n in group["params"]]}
        for group in optimizer["param_groups"]
    ]
    try:
        made = optimizer_class(groups, **_required(optimizer_class, groups[0]))
    except Exception as error:  # whatever a class of a third party may raise
        name = optimizer_class.__name__
        raise ValueError(f"{name} does not take these parameter groups ({error}); is it what was saved?") from error
    for number, state in optimizer["state"].items():
        if number in by_number:
            made.state[by_number[number].parameter] = state
    return audit_places(places, [made], units=units)


@dataclass(eq=False)
class _SavedPlace(Place):
    """With the name that it has in the file."""

    saved: str = ""


def _hyperparameters(group):
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}


def _required(optimizer_class, group):
    """What the class has no default for, as the first group has it."""
    parameters = list(inspect.signature(optimizer_class).parameters.values())[1:]
    return {p.name: group[p.name] for p in parameters if p.default is p.empty and p.name in group}


def _places(model):
    """A ``Place`` for each floating tensor, tied ones being of one storage; the layer is said by the last names."""
    places, known = [], {}
    for name, tensor in model.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() and not tensor.is_complex():
            continue
        stored, k = name, 1.0
        if name.endswith(_ORIGINAL) and isinstance(model.get(name.removesuffix(_ORIGINAL) + _FACTOR), float):
            k = model[name.removesuffix(_ORIGINAL) + _FACTOR]
            path, _, attribute = f".{name.removesuffix(_ORIGINAL)}".rpartition(".parametrizations.")
            stored = f"{path}.{attribute}".removeprefix(".")
        if stored.rpartition(".")[2] in _BUFFERS:
            continue
        key = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.numel() or name
        if key in known:
            known[key].names.append(stored)
            continue
        kind = f"{tensor.ndim}-dimensional {stored.rpartition('.')[2]}"
        known[key] = _SavedPlace([stored], kind, nn.Parameter(tensor.detach()), k, saved=name)
        places.append(known[key])
    return places


def _matched(places, optimizer):
    """The optimizer's number of a parameter → its place: by the names that it has, else by order, as far as the shapes
    in its state leave no doubt."""
    groups, state = optimizer["param_groups"], optimizer["state"]
    numbers = [number for group in groups for number in group["params"]]
    if all("param_names" in group for group in groups):
        named = {name: place for place in places for name in (*place.names, place.saved)}
        names = [name for group in groups for name in group["param_names"]]
        for name in names:
            if name not in named:
                raise ValueError(f"optimizer: parameter {name!r} is not in the model; do both files belong together?")
        return {number: named[name] for number, name in zip(numbers, names, strict=True)}
    shapes = {number: _shape(state.get(number, {})) for number in numbers}
    told = len(groups) == 1 or all(shapes.values())
    if told and len(numbers) == len(places) and all(map(_fits, places, map(shapes.get, numbers))):
        return dict(zip(numbers, places))
    matched = {}
    for group in groups:
        left = [place for place in places if not any(place is each for each in matched.values())]
        of_group = [shapes[number] for number in group["params"]]
        found = _in_order(left, of_group)
        if found is None or not told or found != _in_order(left[::-1], of_group[::-1])[::-1]:
            why = "do not fit" if found is None else "fit in several ways"
            raise ValueError(
                f"optimizer: the {len(numbers)} parameters of its {len(groups)} groups {why} the {len(places)} tensors "
                "of the model, by order and shape; do both files belong together? An optimizer made from "
                "model.named_parameters() saves the names"
            )
        matched |= dict(zip(group["params"], found))
    return matched


def _in_order(places, shapes):
    """The first places, in order, that have these shapes; None where there are none."""
    rest = iter(places)
    found = [next((place for place in rest if _fits(place, shape)), None) for shape in shapes]
    return None if None in found else found


def _fits(place, shape):
    return shape is None or shape == tuple(place.parameter.shape)


def _shape(state):
    """That of the parameter, as the buffers of a state have it; None where they do not show it."""
    for name in ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum", "variance", "prev", "exp_inf", "ax"):
        if isinstance(state.get(name), torch.Tensor):
            return tuple(state[name].shape)
    return None
