"""Products of vectors with the Hessian of a loss, at the parameters as they are."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scaleinv._random_state import RandomState


class HessianProducts:
    """v ↦ H·v for those of the parameters on which the loss depends, each as one long vector.

    The loss is computed once, so that random numbers that it draws, as those of dropout, are the same in all products.

    Attributes:
        loss: its value.
        parameters: those on which it depends.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], loss: Callable[[], Tensor]) -> None:
        value = _checked_loss(loss)
        self.loss = float(value.detach())
        self.parameters = list(parameters)
        gradients = self._differentiated(value, create_graph=True)
        used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None]
        if not used:
            raise ValueError("loss does not depend on the parameters that are trained; compute it with the model")
        self.parameters, self._gradients = [p for p, _ in used], [g for _, g in used]
        self._sizes = [p.numel() for p in self.parameters]

    def __call__(self, vectors: Sequence[Tensor]) -> list[Tensor]:
        """H·v as a list of tensors, for one tensor v of each parameter's shape."""
        pairs = [(g, v) for g, v in zip(self._gradients, vectors, strict=True) if g.requires_grad]
        if not pairs:
            return [torch.zeros_like(v) for v in vectors]
        outputs, weights = zip(*pairs, strict=True)
        products = self._differentiated(outputs, grad_outputs=weights, retain_graph=True)
        return [torch.zeros_like(v) if h is None else h for h, v in zip(products, vectors, strict=True)]

    def split(self, vector: Tensor) -> list[Tensor]:
        """A long vector as tensors of the parameters' shapes and dtypes."""
        pieces = vector.split(self._sizes)
        return [piece.view(p.shape).to(p.dtype) for piece, p in zip(pieces, self.parameters, strict=True)]

    def _differentiated(self, outputs: Any, **options: Any) -> tuple[Tensor | None, ...]:
        try:
            return torch.autograd.grad(outputs, self.parameters, allow_unused=True, **options)
        except (RuntimeError, NotImplementedError) as error:
            first_line = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"loss cannot be differentiated twice ({first_line}); return the loss before backward(), of a model "
                "without operations that lack a second derivative"
            ) from error


def _checked_loss(loss: Callable[[], Tensor]) -> Tensor:
    value = loss()
    if not isinstance(value, Tensor):
        raise TypeError(f"loss returns {type(value).__name__}; it has to return the loss, a tensor of one number")
    if value.numel() != 1:
        raise ValueError(f"loss returns a tensor of shape {tuple(value.shape)}; return one number, such as its mean")
    if value.is_complex():
        raise TypeError(f"loss returns {value.dtype}; return a real number")
    if not value.requires_grad:
        raise ValueError("loss returns a number that does not depend on the parameters; compute it with the model")
    if not value.isfinite():
        raise ValueError(f"loss is {float(value.detach())}; curvature needs a finite one")
    return value.reshape(())


@contextmanager
def undisturbed(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Of what a loss changes when it is computed, nothing remains: gradients, buffers, modes, random numbers.

    An optimizer that takes a step on the parameters is refused before it does.  Attention is computed by the kernel
    that has a second derivative, and nothing is compiled.
    """
    random = RandomState.now()
    modes = [(module, module.training) for module in model.modules()]
    buffers = [
        (module._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
        for module, _ in modes
        for name, buffer in module._buffers.items()
    ]
    gradients = [(p, p.grad) for p in parameters]
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # else nothing has been compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(register_optimizer_step_pre_hook(_refusal(parameters)).remove)
        for p in parameters:
            p.grad = None
        try:
            yield
        finally:
            for p, gradient in gradients:
                p.grad = gradient
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for held, name, buffer, values in buffers:
                    held[name] = buffer
                    if buffer is not None and values is not None and not torch.equal(buffer, values):
                        buffer.copy_(values)
            random.restore()


def _refusal(parameters: Sequence[nn.Parameter]) -> Callable[..., None]:
    own = {id(p) for p in parameters}

    def refuse(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            raise ValueError(f"loss calls {type(optimizer).__name__}.step(); return the loss, and leave the step out")

    return refuse
