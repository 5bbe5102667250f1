"""Training runs that are made to be compared."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from scaleinv.reparam import effective_parameters

__all__ = ["Run", "accuracy", "optimizer_of", "scale_gradients", "train"]

Module = TypeVar("Module", bound=nn.Module)
BeforeStep = Callable[[int], float | None]


@dataclass(frozen=True)
class Run:
    """What happened in a training run.

    Attributes:
        losses: the loss before each step, not multiplied by the loss factor.
        weights: all parameters as the model computes with them (w, not w'), one vector before the first step and
            one after each.

    >>> import torch
    >>> from scaleinv.book.train import Run
    >>> Run(losses=torch.tensor([0.5]), weights=[torch.zeros(3), torch.ones(3)]).losses
    tensor([0.5000])
    """

    losses: Tensor
    weights: list[Tensor]


def train(  # noqa: PLR0913 (its options are its API)
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: float = 1.0,
    accumulate: int = 1,
    before_step: BeforeStep | None = None,
) -> Run:
    """Train ``model`` to classify ``batches`` of (inputs, labels), one step for each.

    Args:
        model: a module from inputs to logits.
        optimizer: an optimizer of its parameters.
        batches: an iterable of (inputs, labels), as from ``scaleinv.book.data.batches``.
        loss: the factor by which the mean cross-entropy is multiplied.
        accumulate: the number of pieces that each batch is cut into; their gradients add up.
        before_step: a function that is called with each step's number before the step. A number that it returns is
            the loss factor from then on.

    Raises:
        ValueError: if a batch cannot be cut into that many equal pieces.

    >>> import torch
    >>> from scaleinv.book.data import batches
    >>> from scaleinv.book.models import mlp
    >>> from scaleinv.book.train import train
    >>> model = mlp()
    >>> run = train(model, torch.optim.Adam(model.parameters(), lr=0.01), batches(20, on="cpu"))
    >>> len(run.losses), len(run.weights), (run.losses[-1] < run.losses[0]).item()
    (20, 21, True)
    """
    model.train()
    losses, weights = [], [_parameter_vector(model)]
    for step, (inputs, labels) in enumerate(batches):
        new_factor = before_step(step) if before_step else None
        loss = loss if new_factor is None else new_factor
        if len(inputs) % accumulate:
            raise ValueError(f"accumulate={accumulate} does not divide a batch of {len(inputs)}")
        optimizer.zero_grad()
        total = 0.0
        for piece, target in zip(inputs.chunk(accumulate), labels.chunk(accumulate), strict=True):
            error = functional.cross_entropy(model(piece), target)
            (loss * error).backward()
            total += error.item() / accumulate
        optimizer.step()
        losses.append(total)
        weights.append(_parameter_vector(model))
    return Run(torch.tensor(losses), weights)


def optimizer_of(model: nn.Module, cls: type[Optimizer], **hyperparameters: Any) -> Optimizer:
    """Make an optimizer for those parameters of ``model`` that it can train.

    Muon gets the matrices only. For SparseAdam, gradients of ``model`` arrive as sparse tensors from now on.

    >>> import torch
    >>> from scaleinv.book.models import mlp
    >>> from scaleinv.book.train import optimizer_of
    >>> [p.ndim for p in optimizer_of(mlp(), torch.optim.Muon, lr=0.01).param_groups[0]["params"]]
    [2, 2]
    """
    parameters = list(model.parameters())
    if cls is torch.optim.Muon:
        parameters = [p for p in parameters if p.ndim == 2]
    if cls is torch.optim.SparseAdam:
        for p in parameters:
            p.register_post_accumulate_grad_hook(_make_gradient_sparse)
    make: Callable[..., Optimizer] = cls
    return make(parameters, **hyperparameters)


def scale_gradients(module: Module, k: float | Mapping[str, float]) -> Module:
    """Multiply every gradient of ``module`` by k from now on.

    Args:
        module: any module.
        k: a factor, or a dict from parameter names to factors.

    Returns:
        The module.

    >>> import torch
    >>> from scaleinv.book.train import scale_gradients
    >>> layer = scale_gradients(torch.nn.Linear(1, 1), {"weight": 100, "bias": 1})
    >>> layer(torch.ones(1)).backward()
    >>> layer.weight.grad.item(), layer.bias.grad.item()
    (100.0, 1.0)
    """
    for name, parameter in module.named_parameters():
        factor = k[name] if isinstance(k, Mapping) else k
        parameter.register_hook(partial(torch.mul, other=factor))
    return module


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the model classifies correctly in evaluation mode; its mode is then restored.

    >>> import torch
    >>> from scaleinv.book.train import accuracy
    >>> accuracy(torch.nn.Identity(), torch.eye(4), torch.tensor([0, 1, 2, 0]))
    0.75
    """
    training = model.training
    model.eval()
    with torch.no_grad():
        correct = model(images).argmax(dim=1) == labels
    model.train(training)
    return correct.sum().item() / len(labels)


def _make_gradient_sparse(parameter: Tensor) -> None:
    if parameter.grad is not None:
        parameter.grad = parameter.grad.to_sparse()


def _parameter_vector(model: nn.Module) -> Tensor:
    # sorted: scaling changes the order in which a module lists its parameters
    return torch.cat([w.flatten() for _, w in sorted(effective_parameters(model).items())])
