"""Training runs that are made to be compared."""

from dataclasses import dataclass

import torch
from torch.nn import functional

from scaleinv.reparam import effective_parameters


@dataclass(frozen=True)
class Run:
    """What happened in a training run.

    Attributes:
        losses: the loss before each step, in its original unit.
        weights: all parameters as the model computes with them (w, not w'), one vector before the first step and
            one after each.
    """

    losses: torch.Tensor
    weights: list


def train(model, optimizer, batches, *, loss=1.0, accumulate=1, before_step=None):
    """Train ``model`` to classify ``batches`` of (images, labels), one step each, and return the ``Run``.

    Args:
        model: images to logits.
        optimizer: of its parameters.
        batches: an iterable of (images, labels), as from ``scaleinv.data.batches``.
        loss: the factor by which the mean cross-entropy is multiplied.
        accumulate: in how many pieces each batch is run, their gradients added up.
        before_step: called with the number of every step before it; what it returns, if anything, is the loss
            factor from then on.

    Raises:
        ValueError: for a batch that cannot be cut into so many equal pieces.
    """
    model.train()
    losses, weights = [], [_flat(model)]
    for step, (images, labels) in enumerate(batches):
        if before_step is not None:
            given = before_step(step)
            loss = loss if given is None else given
        if len(images) % accumulate:
            raise ValueError(f"accumulate={accumulate} does not divide a batch of {len(images)}")
        optimizer.zero_grad()
        total = 0.0
        for piece, target in zip(images.chunk(accumulate), labels.chunk(accumulate)):
            error = functional.cross_entropy(model(piece), target)
            (loss * error).backward()
            total += error.item() / accumulate
        optimizer.step()
        losses.append(total)
        weights.append(_flat(model))
    return Run(torch.tensor(losses), weights)


def optimizer_of(model, cls, **hyperparameters):
    """An optimizer of class ``cls`` for what it takes of ``model``: Muon trains matrices only, SparseAdam wants sparse
    gradients."""
    parameters = list(model.parameters())
    if cls is torch.optim.Muon:
        parameters = [p for p in parameters if p.ndim == 2]
    if cls is torch.optim.SparseAdam:
        for p in parameters:
            p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", p.grad.to_sparse()))
    return cls(parameters, **hyperparameters)


def scale_gradients(module, k):
    """From now on every gradient of ``module`` arrives multiplied by k: a number, or a dict from parameter names."""
    for name, parameter in module.named_parameters():
        factor = k[name] if isinstance(k, dict) else k
        parameter.register_hook(lambda gradient, factor=factor: factor * gradient)
    return module


def accuracy(model, images, labels):
    """The share of images whose label the model, in evaluation mode, names; its mode stays what it was."""
    training = model.training
    model.eval()
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    model.train(training)
    return right.sum().item() / len(labels)


def _flat(model):
    # sorted: scaling changes the order in which a module lists its parameters
    return torch.cat([w.flatten() for _, w in sorted(effective_parameters(model).items())])
