"""What a sweep has to know of its data and models before it trains; errors for what it cannot train."""

from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from scaleinv._sweep.draws import Drawn
from scaleinv._sweep.grid import Grid
from scaleinv._sweep.packing import cornered
from scaleinv._sweep.sources import Batch, drawing_from, make_batches, make_model, tensors_of

LossFn = Callable[[Any, Any], Tensor]


class Data(NamedTuple):
    """The batches of a sweep.

    Attributes:
        steps: their number, the same for all seeds.
        example: one of them.
    """

    steps: int
    example: Batch

    @property
    def device(self) -> torch.device:
        return self.example[0].device


class Parts(NamedTuple):
    """The tensors of a model and of a forward pass that a training changes; all others stay what they are.

    Attributes:
        trained: names of the parameters that require gradients and that the loss depends on.
        changed: names of the buffers, and of parameters without gradients, that a forward pass changes.
        drawn: for each tensor of random numbers its axes as they lie in memory, in which order a single run draws.
    """

    trained: tuple[str, ...]
    changed: tuple[str, ...]
    drawn: tuple[tuple[int, ...], ...] = ()


class Models(NamedTuple):
    """The models of a sweep.

    Attributes:
        largest: the keywords of the largest, in whose shapes the others have room.
        masked: whether there are smaller ones.
        parts: of each of them.
    """

    largest: dict[str, Any]
    masked: bool
    parts: Parts


def inspect_batches(batches: Callable[..., Any], seeds: Sequence[int], every: int) -> Data:
    """The batches of all seeds.

    Raises:
        ValueError: if they differ in number, shape or type, or ``every`` does not divide their number.
    """
    forms: dict[tuple[Any, ...], int] = {}
    for seed in seeds:
        pairs = make_batches(batches, seed)
        forms |= {(len(pairs), *((x.shape, x.dtype) for x in pair)): seed for pair in pairs}
    if len(forms) > 1:
        raise ValueError(
            f"batches differ in number, shape or type: {list(forms)}; make them alike in all steps and seeds"
        )
    if not isinstance(every, Integral) or every < 1 or len(pairs) % every:
        raise ValueError(f"every={every!r} does not divide the {len(pairs)} steps; pass one that does")
    return Data(len(pairs), pairs[0])


def inspect_models(model: Callable[..., nn.Module], grid: Grid, seed: int, loss_fn: LossFn, example: Batch) -> Models:
    """The models of the grid, tried on a batch.

    Raises:
        ValueError: if one cannot be trained, or not as the largest with zeros in it.
    """
    combinations = grid.models()
    models = [make_model(model, seed, keywords).to(example[0].device) for keywords in combinations]
    parts = []
    for keywords, made in zip(combinations, models, strict=True):
        label = f"model({', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
        parts.append(_try(label, made, loss_fn, example, seed))
    at = max(range(len(models)), key=lambda i: sum(p.numel() for p in models[i].parameters()))
    for keywords, made, of in zip(combinations, models, parts, strict=True):
        if made is not models[at] and not (of == parts[at] and _fits(made, models[at], of, example[0], seed)):
            raise ValueError(
                f"model({keywords}) is not model({combinations[at]}) with zeros in it, so that they cannot be trained "
                "as one; sweep each by itself"
            )
    return Models(combinations[at], any(_shapes(made) != _shapes(models[at]) for made in models), parts[at])


def _try(label: str, model: nn.Module, loss_fn: LossFn, example: Batch, seed: int) -> Parts:
    """Which tensors of a model take part in a training, found by a forward and a backward pass on copies of them."""
    own, wanted = tensors_of(model), {name for name, p in model.named_parameters() if p.requires_grad}
    _check_types(label, {own[name].dtype for name in wanted})
    before = {name: x.detach().clone().requires_grad_(name in wanted) for name, x in own.items()}
    after, versions = dict(before), {name: x._version for name, x in before.items()}
    with drawing_from(seed, example[0].device), torch.enable_grad(), Drawn() as drawn:
        value = loss_fn(functional_call(model, after, (example[0],)), example[1])
    _check_loss(label, value)
    changed = [
        name
        for name, x in after.items()
        if x is not before[name] or x._version != versions[name] or not _equal(x, own[name])
    ]
    _check_changed(label, own, {name: after[name] for name in changed}, wanted)
    leaves = [before[name] for name in own if name in wanted]
    grads = torch.autograd.grad(value, leaves, allow_unused=True) if value.requires_grad else [None] * len(leaves)
    reached = [name for name, g in zip([name for name in own if name in wanted], grads, strict=True) if g is not None]
    if not reached:
        raise ValueError(f"{label} has no parameters to train, which require gradients and affect the loss")
    again = loss_of(model, loss_fn, example, seed)
    if not torch.allclose(again, value.detach(), rtol=1e-3):
        raise ValueError(
            f"{label} gives the loss {value.item()} and then, from the same parameters, buffers and random numbers, "
            f"{again.item()}; keep what it remembers in buffers"
        )
    return Parts(tuple(reached), tuple(changed), tuple(drawn.orders))


def loss_of(model: nn.Module, loss_fn: LossFn, batch: Batch, seed: int) -> Tensor:
    """A model's loss, in which only copies of its tensors change."""
    copies = {name: x.detach().clone() for name, x in tensors_of(model).items()}
    with drawing_from(seed, batch[0].device), torch.no_grad():
        return loss_fn(functional_call(model, copies, (batch[0],)), batch[1])


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _check_changed(
    label: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], trained: Collection[str]
) -> None:
    for name, x in after.items():
        if name in trained:
            raise ValueError(f"{label} changes its parameter {name} in a forward pass; leave that to the optimizer")
        forms = [(tuple(y.shape), y.dtype) for y in (before[name], x)]
        if forms[0] != forms[1]:
            raise ValueError(f"{label} makes its buffer {name} {forms[1]} of {forms[0]}; keep its shape and type")
        if x.requires_grad:
            raise ValueError(f"{label} keeps a gradient in its buffer {name}; detach what it puts there")


def _check_types(label: str, types: Collection[torch.dtype]) -> None:
    if len(types) > 1 or not all(x.is_floating_point for x in types):
        raise ValueError(
            f"{label} has parameters of types {sorted(map(str, types))}; they have to be of one float type"
        )


def _check_loss(label: str, value: Any) -> None:
    if not torch.is_tensor(value) or value.ndim:
        raise ValueError(f"loss_fn gave {value!r} for {label}; it has to be a 0-d tensor, the mean over the batch")
    if not value.isfinite():
        raise ValueError(f"the loss is {value.item()} for {label} before any training; fix the model or the data")


def _fits(model: nn.Module, big: nn.Module, parts: Parts, inputs: Tensor, seed: int) -> bool:
    """Whether a model is the same function as the big one with its tensors in the first corner of zeros."""
    small, room = tensors_of(model), {name: x.shape for name, x in tensors_of(big).items()}
    if small.keys() != room.keys() or not all(_is_inside(x.shape, room[name]) for name, x in small.items()):
        return False
    generator = torch.Generator().manual_seed(0)  # no parameter is to be zero, as a last layer's often are
    moved = {name: x.detach().clone() for name, x in small.items()}
    for name in parts.trained:
        moved[name] += 0.1 * torch.randn(small[name].shape, generator=generator, device="cpu").to(small[name])
    within = {name: cornered(x, room[name]).clone() for name, x in moved.items()}
    outputs = []
    for made, values in ((big, within), (model, moved)):
        with drawing_from(seed, inputs.device), torch.no_grad():
            outputs.append(functional_call(made, values, (inputs,)))
    pairs = [(within[name], cornered(moved[name], room[name])) for name in parts.changed]
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in [outputs, *pairs])


def _is_inside(shape: torch.Size, room: torch.Size) -> bool:
    return len(shape) == len(room) and all(a <= b for a, b in zip(shape, room, strict=True))


def _shapes(model: nn.Module) -> list[torch.Size]:
    return [x.shape for x in tensors_of(model).values()]
