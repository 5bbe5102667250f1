"""The tensors of a model in the shapes of a larger one's, and its parameters as one flat tensor."""

from collections.abc import Mapping

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]


def cornered(tensor: Tensor, shape: torch.Size) -> Tensor:
    """A tensor in the first corner of zeros of this shape."""
    if tensor.shape == shape:
        return tensor
    room = tensor.new_zeros(shape)
    room[tuple(slice(n) for n in tensor.shape)] = tensor
    return room


def packed(tensors: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Tensors, each in the first corner of zeros of its shape; flat, one after another."""
    return torch.cat([cornered(tensors[name], shape).flatten() for name, shape in shapes.items()])


def unpacked(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of a flat tensor in these shapes; what it has beyond them is left out."""
    sizes = [shape.numel() for shape in shapes.values()]
    rest = len(flat) - sum(sizes)
    parts = flat.split([*sizes, rest] if rest else sizes)
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=False)}
