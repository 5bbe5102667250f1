"""Optimizers that keep a state of few bits, or compute in float32 where nobody can see or change it."""

import numpy as np
import pytest
import torch

from scaleinv import infer_units, rescale
from scaleinv.units import ONE, G, W

pytestmark = pytest.mark.usefixtures("one_thread")


class EightBits(torch.Tensor):
    """Values that are stored as eight bits each, times a scale; they can be read and written, and nothing else."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=values.dtype)

    def __init__(self, values):
        self.codes, self.scale = torch.zeros_like(values, dtype=torch.int8), torch.zeros((), dtype=values.dtype)

    def __tensor_flatten__(self):
        return ["codes", "scale"], None

    def dequantize(self):
        return self.codes * self.scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return args[0]
        if func is torch.ops.aten.copy_.default:
            stored, values = args
            stored.scale = values.abs().max() / 127
            stored.codes = (values / torch.where(stored.scale == 0, 1, stored.scale)).round().to(torch.int8)
            return stored
        raise NotImplementedError(f"{func} of EightBits")


class Momentum(torch.optim.Optimizer):
    """SGD with a momentum of eight bits."""

    def __init__(self, params, lr=0.1, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                kept = self.state[p].setdefault("momentum_buffer", EightBits(p.detach()))
                moved = group["momentum"] * kept.dequantize() + p.grad
                kept.copy_(moved)
                p.sub_(group["lr"] * kept.dequantize())


def test_a_state_of_few_bits_has_a_unit():
    units = infer_units(Momentum)
    assert units.verdict == "bitwise" and units.hyperparameters["lr"] == W / G
    assert units.state["momentum_buffer"] == G


def test_a_state_of_few_bits_is_rescaled():
    model = torch.nn.Linear(3, 2)
    optimizer = Momentum(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    before = [kept["momentum_buffer"].dequantize() for kept in optimizer.state.values()]
    rescale(model, optimizer, weight=4.0, units=infer_units(Momentum))
    after = [kept["momentum_buffer"].dequantize() for kept in optimizer.state.values()]
    assert all(torch.equal(b, a / 4) for a, b in zip(before, after, strict=True))


class Bounded(torch.optim.Optimizer):
    """Signs, whose norm is bounded by a share of the parameter's, computed in float32."""

    def __init__(self, params, lr=0.01, max_norm=1.0, weight_decay=0.1):
        super().__init__(params, {"lr": lr, "max_norm": max_norm, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                w, sign = p.numpy().astype(np.float32), np.sign(p.grad.numpy()).astype(np.float32)
                share = group["max_norm"] * np.linalg.norm(w) / np.linalg.norm(sign)
                w = w * np.float32(1 - group["lr"] * group["weight_decay"])
                p.copy_(torch.from_numpy(w - np.float32(group["lr"]) * np.float32(min(1, share)) * sign))


def test_a_bound_of_a_norm_is_tried_where_rounding_hides_small_changes():
    units = infer_units(Bounded)
    assert units.verdict == "bitwise"
    assert units.hyperparameters == {"lr": W, "max_norm": ONE / W, "weight_decay": ONE / W}
