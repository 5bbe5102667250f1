"""Layers and losses in the form that is fastest for many small networks at once."""

from inspect import signature

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class Columns(TorchFunctionMode):
    """Inside, the functions of ``FASTER`` compute what they always do, up to rounding, in another way.

    What a layer hands on lies in memory as columns, one for each example.  Under ``torch.func.vmap`` the products of
    all members are then one call on dense matrices, and a softmax runs along rows of examples, many at a time.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return FASTER.get(function, function)(*args, **(kwargs or {}))


def linear(input, weight, bias=None):
    """Wx + b on columns; for an input x of shape (examples, features)."""
    if input.ndim != 2 or weight.ndim != 2:
        return functional.linear(input, weight, bias)
    y = weight @ input.mT
    return (y if bias is None else y + bias[:, None]).mT


def cross_entropy(input, target, **options):
    """The mean of −log softmax at the labels, of logits (examples, classes); a label below 0 is left out."""
    if input.ndim != 2 or target.ndim != 1 or target.is_floating_point() or options.items() - PLAIN.items():
        return functional.cross_entropy(input, target, **options)
    logs, counted = input.mT.log_softmax(0), target >= 0
    at_label = logs.gather(0, target.clamp(min=0)[None])[0]
    return -torch.where(counted, at_label, 0.0).sum() / counted.sum()


PLAIN = {
    name: p.default
    for name, p in signature(functional.cross_entropy).parameters.items()
    if name not in ("input", "target")
}


def tanh(input):
    """2σ(2x) − 1: on a CPU torch's sigmoid takes a sixth of the time of its tanh."""
    return 2 * torch.sigmoid(2 * input) - 1


def sqrt(input):
    """1/(1/√x): on a CPU torch's root takes five times as long where x = 0, its inverse root does not."""
    return input.rsqrt().reciprocal()


FASTER = {functional.linear: linear, functional.cross_entropy: cross_entropy, torch.tanh: tanh, torch.Tensor.sqrt: sqrt}
