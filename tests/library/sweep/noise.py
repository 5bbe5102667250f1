"""A small network on random images, for processes that are started in a test: it needs torch alone."""

from functools import partial

import torch
from torch import nn


def model(width=32, p=0.0, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Dropout(p), nn.Linear(width, 10))


def make_batches(steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield torch.rand(64, 8, 8, generator=generator), torch.randint(10, (64,), generator=generator)


def batches(steps):
    return partial(make_batches, steps)
