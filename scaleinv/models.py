"""A few small networks for digits: images (batch, 8, 8) to logits (batch, 10).  The same seed, the same network."""

import torch
from torch import nn


def mlp(width=32, *, depth=1, activation=nn.Tanh, seed=0):
    """``depth`` hidden layers of ``width``, in PyTorch's default initialisation."""
    torch.manual_seed(seed)
    layers, inputs = [nn.Flatten()], 64
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def convnet(channels=8, *, seed=0):
    """Two convolutions with batch normalisation, and a linear layer."""
    torch.manual_seed(seed)
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
    torch.manual_seed(seed)
    return Transformer(width)
