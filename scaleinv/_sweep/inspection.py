"""What a sweep has to know of its data and models before it trains; errors for what it cannot train."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from scaleinv._sweep.grid import Grid
from scaleinv._sweep.packing import packed, unpacked
from scaleinv._sweep.sources import Batch, make_batches, make_model

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


class Models(NamedTuple):
    """The models of a sweep.

    Attributes:
        largest: the keywords of the largest, in whose shapes the others have room.
        masked: whether there are smaller ones.
    """

    largest: dict[str, Any]
    masked: bool


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
    for keywords, made in zip(combinations, models, strict=True):
        label = f"model({', '.join(f'{name}={value!r}' for name, value in keywords.items())})"
        _check_parameters(label, made)
        _check_loss(label, made, loss_fn, example)
    largest, big = max(
        zip(combinations, models, strict=True), key=lambda pair: sum(p.numel() for p in pair[1].parameters())
    )
    for keywords, made in zip(combinations, models, strict=True):
        if made is not big and not _fits(made, big, example[0]):
            raise ValueError(
                f"model({keywords}) is not model({largest}) with zeros in it, so that they cannot be trained as one; "
                "sweep each by itself"
            )
    return Models(largest, any(_shapes(made) != _shapes(big) for made in models))


def _check_parameters(label: str, model: nn.Module) -> None:
    buffers = [name for name, _ in model.named_buffers()]
    if buffers:
        raise ValueError(f"{label} has buffers, {buffers}, which a step would change; sweep a model without")
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    if frozen:
        raise ValueError(f"{label} has frozen parameters, {frozen}, which a sweep would train; sweep a model without")
    types = {p.dtype for p in model.parameters()}
    if len(types) != 1 or not next(iter(types)).is_floating_point:
        raise ValueError(
            f"{label} has parameters of types {sorted(map(str, types))}; they have to be of one float type"
        )


def _check_loss(label: str, model: nn.Module, loss_fn: LossFn, example: Batch) -> None:
    inputs, targets = example
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        value = loss_fn(model(inputs), targets)
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError(f"{label} draws random numbers, as dropout does; sweep a model without")
    if not torch.is_tensor(value) or value.ndim:
        raise ValueError(f"loss_fn gave {value!r} for {label}; it has to be a 0-d tensor, the mean over the batch")
    if not value.isfinite():
        raise ValueError(f"the loss is {value.item()} for {label} before any training; fix the model or the data")


def _fits(model: nn.Module, big: nn.Module, inputs: Tensor) -> bool:
    """Whether a model is the same function as the big one with its tensors in the first corner of zeros."""
    small, room = dict(model.named_parameters()), {name: p.shape for name, p in big.named_parameters()}
    if small.keys() != room.keys() or not all(_is_inside(p.shape, room[name]) for name, p in small.items()):
        return False
    generator = torch.Generator().manual_seed(0)  # no parameter is to be zero, as a last layer's often are
    moved: Mapping[str, Tensor] = {
        name: p + 0.1 * torch.randn(p.shape, generator=generator).to(p) for name, p in small.items()
    }
    with torch.no_grad():
        within = functional_call(big, unpacked(packed(moved, room), room), (inputs,))
        return torch.allclose(within, functional_call(model, dict(moved), (inputs,)), rtol=1e-3, atol=1e-4)


def _is_inside(shape: torch.Size, room: torch.Size) -> bool:
    return len(shape) == len(room) and all(a <= b for a, b in zip(shape, room, strict=True))


def _shapes(model: nn.Module) -> list[torch.Size]:
    return [p.shape for p in model.parameters()]
