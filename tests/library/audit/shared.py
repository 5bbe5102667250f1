"""Networks, optimizers and short trainings for the tests of the audit."""

import torch
from torch import optim
from torch.nn import functional

from scaleinv import audit
from scaleinv.book import data, models


def rms(tensor):
    return tensor.detach().double().square().mean().sqrt().item()


def gradients(model, seed=0):
    model.zero_grad()
    if isinstance(model, models.GPT):
        inputs, targets = next(data.text_batches(1, 4, seed=seed, on="cpu"))
    else:
        inputs, targets = next(data.batches(1, seed=seed, dtype=next(model.parameters()).dtype, on="cpu"))
    functional.cross_entropy(model(inputs), targets).backward()


def trained(model, optimizer, steps=3):
    for step in range(steps):
        gradients(model, step)
        for each in optimizer if isinstance(optimizer, list) else [optimizer]:
            each.step()
    return model, optimizer


def rows(*args, **options):
    return {row.parameter: row for row in audit(*args, **options).rows}


def muon_and_adamw(model):
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "blocks" in name]
    outer = [p for name, p in model.named_parameters() if p.ndim != 2 or "blocks" not in name]
    return [optim.Muon(inner, lr=0.02), optim.AdamW(outer, lr=1e-3)]


MAKE = {
    "Adam": lambda p: optim.Adam(p, 1e-3, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, 1e-3, weight_decay=0.1),
    "amsgrad": lambda p: optim.AdamW(p, torch.tensor(1e-3), amsgrad=True, foreach=False),
    "SGD": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "Nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "RMSprop": lambda p: optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, 1e-2, lr_decay=0.1),
    "Adafactor": lambda p: optim.Adafactor(p, 1e-2),
    "Adamax": lambda p: optim.Adamax(p),
    "NAdam": lambda p: optim.NAdam(p),
    "RAdam": lambda p: optim.RAdam(p),
    "Rprop": lambda p: optim.Rprop(p, 1e-3),
    "Adadelta": lambda p: optim.Adadelta(p),
    "ASGD": lambda p: optim.ASGD(p, 0.1),
}


def adamw(model, **options):
    return optim.AdamW(model.parameters(), **{"lr": 1e-3} | options)
