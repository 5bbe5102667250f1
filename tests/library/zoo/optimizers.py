"""Optimizers with their groups, as training scripts make them."""

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW


def trainable(model):
    return [p for p in model.parameters() if p.requires_grad]


def split(model, weight_decay, spared=()):
    """Two groups, as most scripts make them: matrices decay; vectors, and names that contain a spared word, do not."""
    decayed, others = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            spare = p.ndim < 2 or any(word in name for word in spared)
            (others if spare else decayed).append(p)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def adamw(model, lr, weight_decay=0.1, betas=(0.9, 0.95), spared=(), **options):
    """AdamW as language models are trained with it."""
    return AdamW(split(model, weight_decay, spared), lr=lr, betas=betas, **options)


def adam(model, lr=1e-3, **options):
    return Adam(trainable(model), lr=lr, **options)


def sgd(model, lr=0.1, momentum=0.9, **options):
    return SGD(trainable(model), lr=lr, momentum=momentum, **options)


def muon_and_adamw(model, muon_lr=0.02, lr=3e-4, outer=("wte", "wpe", "embed", "lm_head")):
    """Muon for the matrices of the blocks, AdamW for embeddings, the head, gains and biases."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and not any(word in n for word in outer)]
    held = set(inner)
    rest = [p for p in trainable(model) if p not in held]
    return [
        torch.optim.Muon(inner, lr=muon_lr, weight_decay=0.01),
        AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0),
    ]


def layer_decayed(model, lr, layers, rate, depth_of):
    """AdamW with an lr that falls by ``rate`` from each layer to the one below."""
    groups = [
        {"params": [p], "lr": lr * rate ** (layers - depth_of(name)), "weight_decay": 0.05 if p.ndim > 1 else 0.0}
        for name, p in model.named_parameters()
    ]
    return AdamW(groups, lr=lr)


def zeroed(*modules):
    """Start modules at zero, as the last of a residual branch often is."""
    for module in modules:
        for p in module.parameters():
            nn.init.zeros_(p)
