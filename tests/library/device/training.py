"""A small network and its training, on any device."""

import torch
from torch.nn import functional

from scaleinv.book import data
from scaleinv.book.models import mlp

# The optimizers whose state, or learning rate, lies on the device, or is not.
KINDS = {"plain": {}, "foreach": {"foreach": True}, "fused": {"fused": True}, "capturable": {"capturable": True}}


def batches(device, steps=6):
    return list(data.batches(steps, 32, on=device))


def network(device, seed=0):
    return mlp(16, seed=seed).to(device)


def optimizer_of(model, kind="plain", cls=torch.optim.AdamW, lr=0.01):
    """One of KINDS; a capturable optimizer has its lr on the device too, and on the CPU there is none."""
    device = next(model.parameters()).device
    lr = torch.tensor(lr, device=device) if kind == "capturable" else lr
    return cls(model.parameters(), lr=lr, **({} if device.type == "cpu" and kind == "capturable" else KINDS[kind]))


def step(model, optimizer, batch, loss=1.0):
    """One step; the loss before it, on the device."""
    inputs, labels = batch
    optimizer.zero_grad()
    value = functional.cross_entropy(model(inputs), labels)
    (loss * value).backward()
    optimizer.step()
    return value.detach()


def trained(device, kind="plain", steps=3):
    """A model and an optimizer after some steps, with the gradients of the last."""
    model = network(device)
    optimizer = optimizer_of(model, kind)
    for batch in batches(device, steps):
        step(model, optimizer, batch)
    return model, optimizer


def all_on(device, *tensors):
    return all(x.device.type == device.type for x in tensors)
