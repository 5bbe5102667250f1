"""A few small networks.  The same seed, the same network.

For digits, images (batch, 8, 8) to logits (batch, 10); ``gpt`` for text, characters (batch, length) to logits (batch,
128, length).
"""

from contextlib import contextmanager

import torch
from torch import nn


def mlp(width=32, *, depth=1, activation=nn.Tanh, seed=0):
    """``depth`` hidden layers of ``width``, in PyTorch's default initialisation."""
    layers, inputs = [nn.Flatten()], 64
    with _drawn_from(seed):
        for _ in range(depth):
            layers += [nn.Linear(inputs, width), activation()]
            inputs = width
        return nn.Sequential(*layers, nn.Linear(inputs, 10))


def convnet(channels=8, *, seed=0):
    """Two convolutions with batch normalisation, and a linear layer."""
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
    """A digit as a sequence of its eight rows, in two layers of attention."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.position = nn.Parameter(0.1 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 10)

    def forward(self, images):
        return self.out(self.layers(self.embed(images) + self.position).mean(dim=1))


def transformer(width=16, *, seed=0):
    """``Transformer`` of this width."""
    with _drawn_from(seed):
        return Transformer(width)


class Block(nn.Module):
    """Causal attention and a two-layer perceptron, each behind a LayerNorm and beside a residual connection."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A transformer that predicts the next character; initialised as GPT-2: N(0, 0.02), zero biases, unit norms."""

    def __init__(self, width, depth, heads, length):
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

    def forward(self, characters):
        positions = torch.arange(characters.shape[1], device=characters.device)
        x = self.blocks(self.token(characters) + self.position(positions))
        return self.head(self.norm(x)).transpose(1, 2)


def gpt(width=64, depth=2, *, heads=4, length=64, seed=0):
    """``GPT``: characters (batch, at most length), below 128, to logits (batch, 128, characters)."""
    with _drawn_from(seed):
        return GPT(width, depth, heads, length)


@contextmanager
def _drawn_from(seed):
    """What is drawn inside depends on the seed alone; outside, the random state stays what it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
