"""Networks of any width, and optimizers that torch does not have."""

import torch
from torch import nn, optim


def mlp(width, seed=0, *, head=0.5, bias=False):
    """Three layers from the standard start, or with a smaller last one: head=1 is that of μP, base 16."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(64, width, bias), nn.Tanh(), nn.Linear(width, width, bias), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, 10, bias))
    with torch.no_grad():
        model[5].weight.mul_((width / 16) ** (0.5 - head))
    return model


def make_training(width):
    model, x, y = mlp(width), torch.ones(8, 64), torch.arange(8)
    return model, optim.Adam(model.parameters()), lambda: nn.functional.cross_entropy(model(x), y)


class Sign(optim.Optimizer):
    """Each entry moves by lr; the decay is independent of lr."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["weight_decay"]).sub_(group["lr"] * p.grad.sign())


class Spectral(optim.Optimizer):
    """Steepest descent under the spectral norm, times √(outputs/inputs): lr holds at every width."""

    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                u, s, v = torch.linalg.svd(p.grad, full_matrices=False)
                update = u @ (s > 1e-6 * s[0]).diag().to(u) @ v
                p.sub_(group["lr"] * (p.shape[0] / p.shape[1]) ** 0.5 * update)


class Noisy(optim.SGD):
    """Its step is no power of the number of inputs."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * p.grad * p.shape[-1] ** 0.23)
