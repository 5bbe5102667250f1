"""The parameters of a model as one flat tensor, in which a smaller model lies in a larger one's shapes."""

from collections.abc import Mapping

import torch
from torch import Tensor

Shapes = Mapping[str, torch.Size]


def packed(tensors: Mapping[str, Tensor], shapes: Shapes) -> Tensor:
    """Tensors, each in the first corner of zeros of its shape; flat, one after another."""
    parts = []
    for name, shape in shapes.items():
        part = tensors[name].new_zeros(shape)
        part[tuple(slice(n) for n in tensors[name].shape)] = tensors[name]
        parts.append(part.flatten())
    return torch.cat(parts)


def unpacked(flat: Tensor, shapes: Shapes) -> dict[str, Tensor]:
    """Views of a flat tensor in these shapes; what it has beyond them is left out."""
    sizes = [shape.numel() for shape in shapes.values()]
    rest = len(flat) - sum(sizes)
    parts = flat.split([*sizes, rest] if rest else sizes)
    return {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=False)}
