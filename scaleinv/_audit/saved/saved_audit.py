"""An audit of a saved model and optimizer, of ``model.state_dict()`` and ``optimizer.state_dict()``.

Nothing is guessed: where the state does not fit the class, or cannot be matched to the model, it is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from scaleinv._audit.audit_model import Audit, audit_places
from scaleinv._audit.places import Place
from scaleinv._audit.saved.checkpoints import is_model, is_optimizer
from scaleinv._audit.saved.class_check import check_class, required_values
from scaleinv._audit.saved.matching import Group, Matches, Member, Saved, Shape, match_by_name, match_by_order
from scaleinv._audit.saved.outline import Outline, places_of_outline
from scaleinv._audit.saved.value_check import check_dense, check_values
from scaleinv._reparam import is_saved_scale, saved_scale
from scaleinv.known_optimizers import known_of
from scaleinv.units import Units

State: TypeAlias = Mapping[str, Any]  # an optimizer's state_dict, or the state of one parameter

_BUFFERS = "running_mean", "running_var", "num_batches_tracked"
# Two buffers, of rows and of columns, in place of one of the parameter's shape: in torch.optim, and in transformers.
_BROADCAST, _SHORTENED = ("row_var", "col_var"), ("exp_avg_sq_row", "exp_avg_sq_col")


def audit_saved(
    model: Mapping[str, Any],
    optimizer: State | Sequence[State],
    optimizer_class: type[torch.optim.Optimizer] | Sequence[type[torch.optim.Optimizer]],
    *,
    outline: Outline | None = None,
    units: Units | str | None = None,
) -> Audit:
    """``audit`` of state_dicts, which stay as they are.

    Args:
        model: a model's, name → tensor.
        optimizer: an optimizer's, with "state" and "param_groups", or a list of those that train the model together.
        optimizer_class: the class of the saved optimizer, or a list of theirs.
        outline: of the model, with the order and the layers of its parameters.  Without it, ``model`` is in that order
            if ``state_dict()`` has made it; not if its names are sorted, as those of a safetensors file are.
        units: as for ``audit``.

    Raises:
        TypeError: if ``model`` or ``optimizer`` is not such a state_dict.
        ValueError: if an optimizer's state is not of its class, or its parameters cannot be matched to the model's.

    >>> from scaleinv._audit.saved import audit_saved
    >>> import torch
    >>> layer = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> result = audit_saved(layer.state_dict(), optimizer.state_dict(), torch.optim.SGD)
    >>> [(row.parameter, row.shape, row.lr) for row in result.rows]
    [('weight', (3, 4), 0.1), ('bias', (3,), 0.1)]
    """
    states = [optimizer] if isinstance(optimizer, Mapping) else list(optimizer)
    classes = [optimizer_class] if isinstance(optimizer_class, type) else list(optimizer_class)
    _check(model, states, classes)
    if outline is None:
        saved, ordered = _saved_parameters(model), _is_ordered(model)
    else:
        saved, ordered = [Saved(place.names, place) for place in places_of_outline(outline, model)], True
        states = _with_names(states, outline)
    members = [_members(*parts) for parts in zip(classes, states, strict=True)]
    matches = _matched(saved, ordered, states, members)
    trained = {id(each.place.parameter) for of_one in matches for each in of_one.values()}
    for each in saved:  # what no optimizer holds was frozen, or is a buffer
        each.place.parameter.requires_grad_(id(each.place.parameter) in trained)
    optimizers = [_restored(*parts) for parts in zip(classes, states, matches, strict=True)]
    return audit_places([each.place for each in saved], optimizers, units=units)


def _check(model: Any, states: Sequence[Any], classes: Sequence[type[torch.optim.Optimizer]]) -> None:
    if not is_model(model) or is_optimizer(model):
        raise TypeError(f"model: {type(model).__name__} is not a model's state_dict; save model.state_dict()")
    for state in states:
        if not is_optimizer(state):
            raise TypeError(
                f"optimizer: {type(state).__name__} is not an optimizer's state_dict; save optimizer.state_dict()"
            )
    if len(states) != len(classes):
        raise ValueError(f"optimizer_class: {len(classes)} for {len(states)} optimizers; name the class of each")
    check_dense(model)
    for each, state in zip(classes, states, strict=True):
        check_class(each, state)
        check_values(each, state)


# From the model's state_dict to places.


def _saved_parameters(model: Mapping[str, Any]) -> list[Saved]:
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


def _saved(model: Mapping[str, Any], keys: Sequence[str]) -> Saved:
    parameter = nn.Parameter(model[keys[0]].detach())
    layer = f"{parameter.ndim}-dimensional {keys[0].rpartition('.')[2]}"  # the module's class is not saved
    return Saved(tuple(keys), Place(tuple(keys), layer, parameter, saved_scale(model, keys[0])))


def _is_ordered(model: Mapping[str, Any]) -> bool:
    """Whether the tensors are in the order of the model: ``state_dict()`` has made it, or names are not sorted.

    safetensors sorts them, those of each type apart.
    """
    if hasattr(model, "_metadata"):
        return True
    names: dict[Any, list[str]] = {}
    for name, tensor in model.items():
        names.setdefault(getattr(tensor, "dtype", None), []).append(name)
    return any(of_one != sorted(of_one) for of_one in names.values())


# Which parameter an optimizer's number is.


def _with_names(states: Sequence[State], outline: Outline) -> list[State]:
    """The states with the names of their parameters, if the code of the model makes its optimizers too."""
    if not outline.optimizers:
        return list(states)
    name_of = {parameter: name for name, parameter in outline.model.named_parameters()}
    made = [
        [[name_of.get(p, "") for p in group["params"]] for group in each.param_groups] for each in outline.optimizers
    ]
    sizes = [[len(names) for names in of_one] for of_one in made]
    saved_sizes = [[len(group["params"]) for group in state["param_groups"]] for state in states]
    if sizes != saved_sizes:
        raise ValueError(
            f"optimizer: the groups of its optimizers have {sizes} parameters, in the file {saved_sizes}; make the "
            "optimizers that were saved"
        )
    return [
        state | {"param_groups": [{**g, "param_names": n} for g, n in zip(state["param_groups"], names, strict=True)]}
        for state, names in zip(map(dict, states), made, strict=True)
    ]


def _matched(
    saved: Sequence[Saved], ordered: bool, states: Sequence[State], members: Sequence[Sequence[Group]]
) -> list[Matches]:
    """For each optimizer, number → parameter: by the names in its groups, else by order and shape."""
    by_name = [match_by_name(saved, state["param_groups"]) for state in states]
    taken = {id(each) for matches in by_name if matches is not None for each in matches.values()}
    rest = [each for each in saved if id(each) not in taken]
    nameless = [groups for matches, groups in zip(by_name, members, strict=True) if matches is None]
    by_order = match_by_order(rest, [group for groups in nameless for group in groups], ordered=ordered)
    matched = []
    for matches, groups in zip(by_name, members, strict=True):
        of_one = {}
        for member in (member for group in groups for member in group):
            each = by_order[member] if matches is None else matches[member.number]
            if not each.fits(member):
                raise ValueError(
                    f"optimizer: the state of {each.place.name!r} has the shape {member.shape}, in the model it has "
                    f"{each.shape}; do both files belong together?"
                )
            of_one[member.number] = each
        matched.append(of_one)
    return matched


def _members(optimizer_class: type, state: State) -> list[Group]:
    """The parameters in the groups of an optimizer."""
    names = known_of(optimizer_class).parameter_shaped
    return [
        [Member(number, _shape(state["state"].get(number, {}), names)) for number in group["params"]]
        for group in state["param_groups"]
    ]


def _shape(state: State, parameter_shaped: Sequence[str]) -> Shape | None:
    """That of the parameter, by the buffers of a state; None where they do not show it."""
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}
    for name in parameter_shaped:
        if name in shapes:
            return shapes[name]
    rows, columns = map(shapes.get, _BROADCAST)
    if rows and columns:
        return tuple(map(max, rows, columns))
    rows, columns = map(shapes.get, _SHORTENED)
    return rows + columns[-1:] if rows and columns else None


# From the optimizer's state_dict to an optimizer.


def _restored(optimizer_class: type[torch.optim.Optimizer], saved: State, matches: Matches) -> torch.optim.Optimizer:
    """The optimizer with its groups and state."""
    held = {number: each.place.parameter for number, each in matches.items()}
    groups = [
        {**_hyperparameters(group), "params": [held[number] for number in group["params"]]}
        for group in saved["param_groups"]
    ]
    try:
        optimizer = optimizer_class(groups, **required_values(optimizer_class, groups[0]))
    except Exception as error:  # whatever a third party's class may raise
        name = optimizer_class.__name__
        raise ValueError(
            f"optimizer: {name} does not take these parameter groups ({error}); pass the class that was saved"
        ) from error
    optimizer.state.update({held[number]: state for number, state in saved["state"].items() if number in held})
    return optimizer


def _hyperparameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}
