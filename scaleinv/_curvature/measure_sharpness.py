"""``sharpness``: the largest curvature of a loss, as an optimizer's steps see it."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from scaleinv._checks import POSITIVE, check_count, checked
from scaleinv._curvature.lanczos import largest_eigenvalue
from scaleinv._curvature.preconditioner import Preconditioner, Threshold, preconditioner_of
from scaleinv._curvature.products import HessianProducts, undisturbed
from scaleinv._curvature.result import Sharpness
from scaleinv.units import L, W


def sharpness(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer | None = None,
    *,
    accuracy: float = 1e-3,
    products: int = 100,
) -> Sharpness:
    r"""Measure the largest eigenvalue of the loss's Hessian, and where it lies below or above an optimizer's threshold.

    Near the parameters the loss is a quadratic with the Hessian H.  Gradient descent on it grows along an eigenvector
    of λ when lr·λ > 2.  An optimizer that divides the gradient by P = √v̂ + eps, coordinate by coordinate, does so on
    P⁻¹H.  Momentum moves the threshold: ``threshold`` and ``law`` in the result.  lr·λ_max(P⁻¹H) is a pure number: it
    does not depend on the units of loss and parameters.

    This is the sharpness of Cohen et al. (2021), arXiv 2103.00065, and the preconditioned sharpness of Cohen et al.
    (2022), arXiv 2207.14484.  P is that of the last step, with the bias corrections of v and of m, so that lr·P⁻¹·m is
    the step.  Coupled weight decay is part of H, decoupled decay of the threshold.

    Args:
        model: an ``nn.Module``.
        loss: a function without arguments that computes the loss with the model, as before ``backward()``.
        optimizer: SGD, RMSprop, Adagrad, Adam, AdamW or Adamax of ``torch.optim``.  The Hessian is that of the
            parameters that it trains and that the loss depends on.  Without one, all trainable parameters count, and
            P is 1.
        accuracy: share of the value at which the error is small enough.
        products: Hessian-vector products at most; after them, the error may be larger than ``accuracy``.

    Returns:
        A ``Sharpness``.

    Raises:
        TypeError: if an argument is not of its type, or a parameter is complex, or the loss is not a tensor.
        ValueError: if an optimizer has no law here or has not stepped yet, a parameter is sharded, sparse or in half
            precision, or the loss cannot be differentiated twice.

    Parameters, gradients, buffers, modes, the optimizer and random state stay as they are.  The loss is computed once:
    random numbers in it, as those of dropout, are the same in all products.  A product costs about two backward passes,
    and as many vectors of the model's size are held as there are products.  The eigenvalue is found by Lanczos' method
    from a random start; that a larger one hides from it is possible and very unlikely.

    >>> import torch, scaleinv
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> result = scaleinv.sharpness(model, lambda: model(x).square().mean(), optimizer)
    >>> round(result.value, 5), str(result.unit), round(result.lr_sharpness, 5), result.threshold
    (9.0, 'L W⁻²', 0.9, 2.0)
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={model!r} is not an nn.Module; pass the model that is trained")
    if not callable(loss):
        raise TypeError(f"loss={loss!r} is not a function; pass one such as lambda: criterion(model(x), y)")
    checked({"accuracy": POSITIVE}, accuracy=accuracy)
    products = check_count("products", products)
    parameters = _parameters(model, optimizer)
    with undisturbed(model, list(model.parameters())):
        hessian = HessianProducts(parameters, loss)
        parameters = hessian.parameters
        preconditioner = _identity(parameters) if optimizer is None else preconditioner_of(optimizer, parameters)
        start = _start(parameters)
        found = largest_eigenvalue(lambda v: _multiplied(hessian, preconditioner, v), start, accuracy, products)
    found = found.times(preconditioner.scale)
    if not math.isfinite(found.error):
        raise ValueError("a Hessian-vector product is not finite: the loss's second derivative overflows here")
    relative, pure = found.times(preconditioner.value_factor), found.times(preconditioner.lr_factor)
    return Sharpness(
        value=relative.value,
        error=relative.error,
        unit=preconditioner.unit,
        lr_sharpness=pure.value,
        lr_error=pure.error,
        threshold=preconditioner.threshold.value,
        law=preconditioner.threshold.law,
        loss=hessian.loss,
        products=found.products,
    )


def _parameters(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> list[nn.Parameter]:
    """Those of which the Hessian is, in the model's order."""
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer={optimizer!r} is not a torch.optim.Optimizer; pass one, or None")
    trainable = {id(p): p for p in model.parameters() if p.requires_grad and p.numel()}
    if optimizer is not None:
        held = {id(p): p for group in optimizer.param_groups for p in group["params"] if p.requires_grad and p.numel()}
        if others := held.keys() - trainable.keys():
            raise ValueError(
                f"optimizer trains {len(others)} tensors that the model does not have; pass a model that has them all, "
                "such as nn.ModuleList([model, criterion])"
            )
        trainable = {key: p for key, p in trainable.items() if key in held}
    if not trainable:
        raise ValueError("model has no parameter that is trained; pass one that has")
    _check_parameters(list(trainable.values()))
    return list(trainable.values())


def _check_parameters(parameters: Sequence[nn.Parameter]) -> None:
    for p in parameters:
        name = f"a parameter of shape {tuple(p.shape)}"
        if p.is_complex():
            raise TypeError(f"{name} is complex, {p.dtype}; curvature is measured for real parameters only")
        if p.is_meta:
            raise ValueError(f"{name} is on the meta device and has no numbers; move the model to a device")
        if p.layout != torch.strided or hasattr(p, "to_local"):
            raise ValueError(f"{name} is sparse or sharded; pass a model of dense parameters in one process")
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {p.dtype}, too coarse for second derivatives; pass model.float()")
        if p.device != parameters[0].device:
            raise ValueError(f"{name} is on {p.device}, others are on {parameters[0].device}; move them to one device")


def _identity(parameters: Sequence[nn.Parameter]) -> Preconditioner:
    ones = [torch.ones((), dtype=p.dtype, device=p.device) for p in parameters]
    return Preconditioner(ones, 1.0, [0.0] * len(ones), math.nan, 1.0, L * W**-2, Threshold(math.nan, ""))


def _start(parameters: Sequence[nn.Parameter]) -> Tensor:
    """The same random vector on every device, whatever the global random state."""
    dtype = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
    generator = torch.Generator().manual_seed(0)
    size = sum(p.numel() for p in parameters)
    return torch.randn(size, generator=generator, dtype=dtype, device="cpu").to(parameters[0].device)


def _multiplied(hessian: HessianProducts, preconditioner: Preconditioner, vector: Tensor) -> Tensor:
    """√D·(H + decay)·√D·v for D = P⁻¹ over its scale: symmetric, with the eigenvalues of D·(H + decay)."""
    scaled = [root * v for root, v in zip(preconditioner.roots, hessian.split(vector), strict=True)]
    parts = zip(preconditioner.roots, preconditioner.decays, hessian(scaled), scaled, strict=True)
    return torch.cat([(root * (h + decay * v if decay else h)).reshape(-1) for root, decay, h, v in parts]).to(vector)
