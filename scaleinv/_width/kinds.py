"""What the width does to each parameter: which of its sides grow, and so which kind of parameter it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from scaleinv._reparam import Slot, parameter_slots

KINDS = ("input", "hidden", "output", "vector", "fixed")
SIDES = {  # kind → the powers of n by which its outputs and its inputs grow
    "input": (1, 0),
    "hidden": (1, 1),
    "output": (0, 1),
    "vector": (1, 0),
    "fixed": (0, 0),
}
INPUTS_FIRST = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OUTPUTS_FIRST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class Sized:
    """A parameter and what the width does to it.

    Attributes:
        names: of the parameter, several where it is tied.
        parameter: the tensor.
        base_shape: its shape at the base width.
        base: the tensor at the base width; None where only its shape is known.
        kind: one of ``KINDS``.
        inputs_first: whether it is stored as (inputs, outputs).
        beside_output: whether its module has an output matrix, as the bias of a last layer does.
    """

    names: tuple[str, ...]
    parameter: torch.Tensor
    base_shape: tuple[int, ...]
    base: torch.Tensor | None
    kind: str
    inputs_first: bool = False
    beside_output: bool = False


@dataclass(frozen=True)
class Growth:
    """A model against its base.

    Attributes:
        n: how many times as wide it is.
        parameters: all of them, each once.
        notes: what parameter groups do not carry, in sentences.
    """

    n: Fraction
    parameters: tuple[Sized, ...]
    notes: tuple[str, ...] = ()


def growth_of(model: nn.Module, base: Any, kinds: Mapping[str, str]) -> Growth:
    """Compare a model with the same model at a base width.

    Args:
        model: the model.
        base: the model at the base width, its state_dict, or name → shape of its parameters.
        kinds: name of a parameter → its kind, where that cannot be told.

    Raises:
        TypeError: if ``model`` is not a module, or ``base`` neither one nor a dict.
        ValueError: if names differ, sides did not grow by one factor, or a kind cannot be told.

    >>> import torch
    >>> from scaleinv._width.kinds import growth_of
    >>> growth = growth_of(torch.nn.Linear(64, 10), torch.nn.Linear(16, 10), {})
    >>> growth.n, [each.kind for each in growth.parameters]
    (Fraction(4, 1), ['output', 'fixed'])
    """
    slots = list({slot.parameter: slot for slot in parameter_slots(model).values()}.values())
    shapes, tensors = _base_of(base, slots)
    n = _factor(slots, shapes)
    _check_kinds(kinds, slots)
    found = {slot.names[0]: _kind(slot, shapes[slot.names[0]], n, kinds) for slot in slots}
    owners = {id(slot.owner) for slot in slots if found[slot.names[0]] == "output"}
    sized = tuple(
        Sized(
            slot.names, slot.parameter, shapes[slot.names[0]], tensors.get(slot.names[0]), found[slot.names[0]],
            _inputs_first(slot), id(slot.owner) in owners,
        )
        for slot in slots
    )  # fmt: skip
    return Growth(n, sized, tuple(_notes(model, base)))


def _base_of(base: Any, slots: list[Slot]) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.Tensor]]:
    """The shapes, and where there are numbers the tensors, of the base."""
    if isinstance(base, nn.Module):
        entries: dict[str, Any] = dict(base.named_parameters(remove_duplicate=False))
    elif isinstance(base, Mapping):
        entries = dict(base)
    else:
        raise TypeError(
            f"base={base!r} is not a module; pass the same model at its base width, its state_dict, or a dict from "
            "names to shapes"
        )
    names = [name for slot in slots for name in slot.names]
    missing = [name for name in names if name not in entries]
    if isinstance(base, nn.Module):
        missing += [name for name in entries if name not in names]
    if missing:
        raise ValueError(
            f"base: {missing[0]!r} is in one of the two models only{_and_others(len(missing) - 1)}; pass the same "
            "model at another width"
        )
    shapes = {name: tuple(getattr(entries[name], "shape", entries[name])) for name in names}
    tensors = {name: entries[name].detach() for name in names if isinstance(entries[name], torch.Tensor)}
    return shapes, {name: tensor for name, tensor in tensors.items() if not tensor.is_meta}


def _factor(slots: list[Slot], shapes: Mapping[str, tuple[int, ...]]) -> Fraction:
    """The one factor by which sides grew; 1 where none did."""
    grown: dict[Fraction, str] = {}
    for slot in slots:
        name, new = slot.names[0], tuple(slot.parameter.shape)
        old = shapes[name]
        if len(old) != len(new) or 0 in (*old, *new):
            raise ValueError(f"base: {name!r} has the shape {old}, and {new} in the model; pass the same model")
        for a, b in zip(old, new, strict=True):
            if a != b:
                grown.setdefault(Fraction(b, a), f"a side of {name!r} from {a} to {b}")
    if len(grown) > 1:
        (one, first), (other, second), *_ = grown.items()
        raise ValueError(
            f"base: {first} grows {_text(one)} times, {second} {_text(other)} times; a width has one factor: choose a "
            "base in which every side that grows is the same number of times smaller"
        )
    return next(iter(grown), Fraction(1))


def _check_kinds(kinds: Mapping[str, str], slots: list[Slot]) -> None:
    names = {name for slot in slots for name in slot.names}
    for name, kind in kinds.items():
        if name not in names:
            raise ValueError(f"kinds: {name!r} is not a parameter of the model")
        if kind not in KINDS:
            raise ValueError(f"kinds[{name!r}]={kind!r} is not one of {', '.join(KINDS)}")


def _kind(slot: Slot, old: tuple[int, ...], n: Fraction, kinds: Mapping[str, str]) -> str:
    told = {kinds[name] for name in slot.names if name in kinds}
    if len(told) > 1:
        raise ValueError(f"kinds: {slot.names[0]!r} is tied, and is called {' and '.join(sorted(told))}; give it one")
    if told:
        return told.pop()
    if slot.weight != 1:
        raise ValueError(f"model: {slot.names[0]!r} is stored {slot.weight:g} times as large; unscale_parameters first")
    new = tuple(slot.parameter.shape)
    grown = [side for side, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    if not grown:
        return "fixed"
    roles = {_role(owner, grown, new) for owner, _ in slot.places}
    if len(roles) > 1:
        raise ValueError(
            f"model: {' and '.join(map(repr, slot.names))} are tied, and are {' and '.join(sorted(roles))}, whose lr "
            f"differ; untie them. Or divide the logits by n = {_text(n)} in the model, which makes both an input, and "
            f"pass kinds={{{slot.names[0]!r}: 'input'}}"
        )
    role = roles.pop()
    if role not in KINDS:
        raise ValueError(
            f"model: {slot.names[0]!r} grows from {old} to {new}, and {role}; name its kind, as in "
            f"kinds={{{slot.names[0]!r}: 'input'}}: one of {', '.join(KINDS)}"
        )
    return role


def _role(owner: nn.Module, grown: list[int], shape: tuple[int, ...]) -> str:
    """A kind; or, in words, why there is none."""
    if isinstance(owner, TABLES):
        return "input" if grown == [1] else "its number of entries grows"
    if sum(side > 1 for side in shape) <= 1:
        return "vector"
    if len(grown) == 2:
        return "hidden"
    if len(grown) > 2:
        return f"{len(grown)} of its sides grow"
    if isinstance(owner, OUTPUTS_FIRST):
        first_is_out = True
    elif isinstance(owner, INPUTS_FIRST) or type(owner).__name__ == "Conv1D":  # of transformers
        first_is_out = False
    else:
        return f"{type(owner).__name__} does not tell its inputs from its outputs"
    if grown[0] > 1:
        return "its kernel grows"
    return "input" if (grown[0] == 0) == first_is_out else "output"


def _inputs_first(slot: Slot) -> bool:
    return isinstance(slot.owner, (*INPUTS_FIRST, *TABLES)) or type(slot.owner).__name__ == "Conv1D"


def _notes(model: nn.Module, base: Any) -> list[str]:
    """What a model has to do itself."""
    if not isinstance(base, nn.Module):
        return []
    others = dict(base.named_modules())
    for name, module in model.named_modules():
        other = others.get(name)
        if isinstance(module, nn.MultiheadAttention) and isinstance(other, nn.MultiheadAttention):
            if module.head_dim != other.head_dim:
                return [
                    f"Attention in {name!r} divides q·k by √d, and d grows from {other.head_dim} to {module.head_dim}: "
                    "keep d and let the number of heads grow, or divide by d."
                ]
    return []


def _text(factor: Fraction) -> str:
    return f"{float(factor):.4g}"


def _and_others(count: int) -> str:
    return f", and so are {count} others" if count > 1 else ", and so is another" if count else ""
