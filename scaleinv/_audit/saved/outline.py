"""The outline of a saved model: the names, shapes and order of its parameters, from code that builds it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from scaleinv._audit.places import Place, layer_of
from scaleinv._random_state import kept_random_state
from scaleinv._reparam import Slot, parameter_slots, saved_scale


class Outline(NamedTuple):
    """A model without its numbers, and the optimizers that train it, if they are known too."""

    model: nn.Module
    optimizers: tuple[torch.optim.Optimizer, ...] = ()


def build_outline(factory: Callable[[], Any], name: str) -> Outline:
    """Call a function that makes a model, or the model and its optimizers: on the meta device, where it can be.

    Args:
        factory: a function without arguments.  Random state stays as it is.
        name: of the function, for errors.

    Raises:
        TypeError: if it returns anything else.
        ValueError: if it fails.

    >>> import torch
    >>> from scaleinv._audit.saved.outline import build_outline
    >>> build_outline(lambda: torch.nn.Linear(4, 3), "make").model.weight.device
    device(type='meta')
    """
    with kept_random_state():
        try:
            with torch.device("meta"):
                made = factory()
        except Exception:  # it may compute with numbers, such as rates for each layer
            made = _built(factory, name)
    parts = list(made) if isinstance(made, tuple | list) else [made]
    model, optimizers = parts[0] if parts else None, parts[1:]
    if not isinstance(model, nn.Module) or not all(isinstance(each, torch.optim.Optimizer) for each in optimizers):
        types = ", ".join(type(each).__name__ for each in parts) or "nothing"
        raise TypeError(f"{name} returns {types}; it has to return a module, or a module and its optimizers")
    return Outline(model, tuple(optimizers))


def _built(factory: Callable[[], Any], name: str) -> Any:
    try:
        return factory()
    except Exception as error:  # whatever a user's code may raise
        raise ValueError(f"{name}() fails: {type(error).__name__}: {error}; it has to take no arguments") from error


def outline_of_transformers(folder: Path) -> Outline | None:
    """The outline of the model of a Trainer's folder, by its config.json; None without one, or without transformers.

    Only classes of transformers itself are used: code in the folder does not run.
    """
    try:
        import transformers

        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
        model_class = getattr(transformers, names[0])
        config = model_class.config_class.from_pretrained(folder)
    except (
        Exception
    ):  # an old version of it, code of its own, no such file, ...: names are known from elsewhere, or not
        return None
    return build_outline(lambda: model_class(config), f"{names[0]} of {folder / 'config.json'}")


def places_of_outline(outline: Outline, saved: Mapping[str, Any]) -> list[Place]:
    """The places of a model's parameters, with their tensors from a state_dict, in the order of the model.

    A frozen parameter may be missing: files of adapters have none.

    Raises:
        ValueError: if another is, or has another shape.
    """
    slots = list({slot.parameter: slot for slot in parameter_slots(outline.model).values()}.values())
    prefix = _prefix(slots, saved)
    places = []
    for slot in slots:
        key = _key(slot, prefix, saved)
        if key is not None:
            places.append(_place(outline.model, slot, key, saved))
        elif slot.parameter.requires_grad:
            raise ValueError(
                f"model: parameter {slot.names[0]!r} is not in the file, which has {', '.join(list(saved)[:3])}, ...; "
                "build the model that was saved"
            )
    return places


def _place(model: nn.Module, slot: Slot, key: str, saved: Mapping[str, Any]) -> Place:
    shape, expected = tuple(saved[key].shape), tuple(slot.parameter.shape)
    if shape != expected:
        raise ValueError(
            f"model: parameter {slot.names[0]!r} has the shape {expected}, in the file it has {shape}; build the model "
            "that was saved"
        )
    parameter = nn.Parameter(saved[key].detach(), requires_grad=slot.parameter.requires_grad)
    return Place(slot.names, layer_of(model, slot), parameter, saved_scale(saved, key))


def _prefix(slots: list[Slot], saved: Mapping[str, Any]) -> str:
    """What the file has before each name, as where the model is a part of another, or wrapped."""
    trained = [slot for slot in slots if slot.parameter.requires_grad] or slots
    first = trained[0].names[0] if trained else ""
    candidates = {key.removesuffix(first) for key in saved if f".{key}".endswith(f".{first}")} | {""}
    prefixes = [each for each in candidates if all(_key(slot, each, saved) is not None for slot in trained)]
    if len(prefixes) > 1 and "" not in prefixes:
        raise ValueError(
            f"model: its parameters are in the file several times, after {' and '.join(map(repr, sorted(prefixes)))}; "
            "build the whole model that was saved"
        )
    return prefixes[0] if len(prefixes) == 1 else ""


def _key(slot: Slot, prefix: str, saved: Mapping[str, Any]) -> str | None:
    """The parameter's name in the file; files of adapters leave out the adapter's name, ``default``."""
    keys = [prefix + each for name in slot.names for each in (name, name.replace(".default.", "."))]
    return next((key for key in keys if isinstance(saved.get(key), torch.Tensor)), None)
