"""What the tests of units share: a problem that every optimizer of torch.optim can train in any unit, a network."""

import re

import torch
from torch import nn, optim


def problem(optimizer_class, weight=1.0, loss=1.0):
    """Parameters k·w and the closure of c·L(w'/k), of the kind that the optimizer takes; float64."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(4, 3)] if optimizer_class in (optim.Muon, optim.SparseAdam) else [(4, 3), (4,)]
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    target = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    parameters = [torch.nn.Parameter(weight * w) for w in start]

    def closure():
        for p in parameters:
            p.grad = None
        value = loss * sum(((p / weight - t) ** 4).mean() for p, t in zip(parameters, target))
        value.backward()
        if optimizer_class is optim.SparseAdam:
            for p in parameters:
                p.grad = p.grad.to_sparse()
        return value

    return parameters, closure


def text_with(*parts):
    """A pattern that matches text with all parts, in any order."""
    return "(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def same(a, b):
    """Whether two lists of name → tensor are equal bit for bit."""
    return all(torch.equal(x[name], y[name]) for x, y in zip(a, b, strict=True) for name in x)
