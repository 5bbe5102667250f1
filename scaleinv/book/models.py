"""A few small networks. The same seed makes the same network.

``mlp``, ``convnet`` and ``transformer`` map images of digits (batch, 8, 8) to logits (batch, 10); ``gpt`` maps
characters (batch, length) to logits (batch, 128, length).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scaleinv._random_state import kept_random_state

__all__ = ["GPT", "Block", "Transformer", "convnet", "gpt", "mlp", "transformer"]


def mlp(
    width: int = 32, *, depth: int = 1, activation: Callable[[], nn.Module] = nn.Tanh, seed: int = 0
) -> nn.Sequential:
    """A perceptron with ``depth`` hidden layers of ``width``, in PyTorch's default initialisation.

    >>> from scaleinv.book.models import mlp
    >>> [tuple(p.shape) for p in mlp(16, depth=2).parameters() if p.ndim == 2]
    [(16, 64), (16, 16), (10, 16)]
    """
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = 64
    with _drawn_from(seed):
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), activation()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, 10))


def convnet(channels: int = 8, *, seed: int = 0) -> nn.Sequential:
    """Two convolutions with batch normalisation, and a linear layer.

    >>> import torch
    >>> from scaleinv.book.models import convnet
    >>> convnet()(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 10])
    """
    with _drawn_from(seed):
        return nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * channels * 9, 10),
        )


class Transformer(nn.Module):
    """A digit read as a sequence of its eight rows, by two layers of attention.

    >>> import torch
    >>> from scaleinv.book.models import Transformer
    >>> Transformer(width=8)(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, width: int = 16, heads: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.layers(self.embed(images) + self.position).mean(dim=1))


def transformer(width: int = 16, *, seed: int = 0) -> Transformer:
    """A ``Transformer`` of this width.

    >>> import torch
    >>> from scaleinv.book.models import transformer
    >>> transformer()(torch.zeros(5, 8, 8)).shape
    torch.Size([5, 10])
    """
    with _drawn_from(seed):
        return Transformer(width)


class Block(nn.Module):
    """Causal attention and a two-layer perceptron, each behind a LayerNorm and added to its own input.

    >>> import torch
    >>> from scaleinv.book.models import Block
    >>> Block(width=8, heads=2)(torch.zeros(5, 3, 8)).shape
    torch.Size([5, 3, 8])
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A transformer that predicts the next character.

    It starts as GPT-2 does: weights from N(0, 0.02²), those of the layers that end a residual branch divided by the
    root of the number of branches, 2·depth; biases 0 and norms 1.

    >>> import torch
    >>> from scaleinv.book.models import GPT
    >>> GPT(width=8, depth=2, heads=2, length=16)(torch.zeros(5, 12, dtype=torch.long)).shape
    torch.Size([5, 128, 12])
    """

    def __init__(self, width: int, depth: int, heads: int, length: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(128, width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 128, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                scale = 0.02 / (2 * depth) ** 0.5 if name.endswith(("proj.weight", "down.weight")) else 0.02
                nn.init.normal_(p, std=scale)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, characters: Tensor) -> Tensor:
        positions = torch.arange(characters.shape[1], device=characters.device)
        x = self.blocks(self.token(characters) + self.position(positions))
        return self.head(self.norm(x)).transpose(1, 2)


def gpt(width: int = 64, depth: int = 2, *, heads: int = 4, length: int = 64, seed: int = 0) -> GPT:
    """A ``GPT``: characters (batch, n), n at most ``length``, to logits (batch, 128, n).

    >>> import torch
    >>> from scaleinv.book.models import gpt
    >>> gpt(16)(torch.zeros(5, 12, dtype=torch.long)).shape
    torch.Size([5, 128, 12])
    """
    with _drawn_from(seed):
        return GPT(width, depth, heads, length)


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Draw random numbers on the CPU that depend on the seed alone, and leave the global random state as it was."""
    with kept_random_state(), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield
