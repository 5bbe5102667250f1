"""A step of the user's, run for its gradients alone: of the model, nothing remains as the step has left it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from scaleinv._gradients.sources import Terms, gradients_of, read
from scaleinv._random_state import RandomState

_TF32 = 2.0**-10  # gap between numbers near 1 where a GPU multiplies float32 in this format


class _SavedGradient(NamedTuple):
    parameter: nn.Parameter
    gradient: Tensor | None
    values: Tensor | None  # of a view into what DDP writes to


class Rehearsal:
    """Runs steps on a model, each from the state in which the model is now.

    Attributes:
        draws: whether a step has drawn random numbers; None before one has run.
        coarsest: the largest gap between numbers near 1, of all formats in which modules have computed; 0 where none
            is known.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self.draws: bool | None = None
        self.coarsest = 0.0
        self._random = RandomState.now()
        modules = list(model.modules()) if model is not None else []
        parameters = list(model.parameters()) if model is not None else []
        self._modes = [(module, module.training) for module in modules]
        self._buffers = [
            (module._buffers, name, buffer, None if buffer is None else buffer.detach().clone())
            for module in modules
            for name, buffer in module._buffers.items()
        ]
        self._gradients = [_SavedGradient(p, p.grad, _values_of_view(p.grad)) for p in parameters]
        self._trained = [(p, p.requires_grad) for p in parameters]

    def run(self, argument: str, step: Callable[[], Any], *, other_random: bool = False) -> Terms:
        """Run a step for its gradients.

        Args:
            argument: what it is called in an error.
            step: a function without arguments.
            other_random: whether to go on in the random numbers instead of beginning where the first step did.

        Returns:
            Loss term → name → gradient.

        Raises:
            TypeError: if it leaves no gradient on the model, there being none, and returns none.
            ValueError: if it takes a step of an optimizer, or changes a parameter.
        """
        if not other_random:
            self._random.restore()
        self._clear()
        before = RandomState.now()
        versions = [p._version for p, _ in self._trained]
        with self._watched(argument):
            terms = self._collect(argument, step())
        self.draws = bool(self.draws) or not before.same_as(RandomState.now())
        for (p, _), version in zip(self._trained, versions, strict=True):
            if p._version != version:
                raise ValueError(f"{argument} changes a parameter of shape {tuple(p.shape)}; leave the update out")
        self.put_back()
        return terms

    def put_back(self) -> None:
        """Gradients, buffers and modes as they were."""
        for saved in self._gradients:
            saved.parameter.grad = saved.gradient
            if saved.values is not None and saved.gradient is not None:
                saved.gradient.copy_(saved.values)
        self._put_back_buffers()
        for p, trained in self._trained:
            p.requires_grad_(trained)

    def finish(self) -> None:
        """All as it was, random numbers too."""
        self.put_back()
        self._random.restore()

    def _clear(self) -> None:
        for p, _ in self._trained:
            p.grad = None

    def _put_back_buffers(self) -> None:
        for module, mode in self._modes:
            module.training = mode
        with torch.no_grad():
            for buffers, name, buffer, values in self._buffers:
                buffers[name] = buffer
                if buffer is not None and values is not None and not torch.equal(buffer, values):
                    buffer.copy_(values)

    def _collect(self, argument: str, result: Any) -> Terms:
        model = self._model
        if model is None:
            if not isinstance(result, Mapping | nn.Module):
                raise TypeError(
                    f"{argument} returns {type(result).__name__}, and no model is passed; pass the model on which it "
                    "leaves its gradients, or return a mapping name → gradient"
                )
            return read(f"{argument}()", result)
        if any(p.grad is not None for p, _ in self._trained):
            return {"": gradients_of(model)}
        if _is_loss(result):
            return {"": self._backward(model, result)}
        if _are_losses(result):
            return {str(term): self._backward(model, loss) for term, loss in result.items()}
        if isinstance(result, nn.Module) or _are_gradients(result, model):
            return read(f"{argument}()", result)
        return {"": gradients_of(model)}

    def _backward(self, model: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
        self._clear()
        if loss.requires_grad:
            loss.backward(retain_graph=True)
        return gradients_of(model)

    @contextmanager
    def _watched(self, argument: str) -> Iterator[None]:
        """No optimizer that holds the model's parameters takes a step; the formats of modules' outputs are noted."""
        own = {id(p) for p, _ in self._trained}

        def refuse(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
                raise ValueError(
                    f"{argument} calls {type(optimizer).__name__}.step(); leave that out, so that both steps begin at "
                    "the same parameters"
                )

        handles = [register_optimizer_step_pre_hook(refuse)]
        handles += [module.register_forward_hook(self._note) for module, _ in self._modes]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, module: nn.Module, inputs: Any, output: Any) -> None:
        for each in _tensors(output):
            self.coarsest = max(self.coarsest, gap(each))


def gap(tensor: Tensor) -> float:
    """The gap between numbers near 1 in which a tensor was computed; 0 for whole numbers."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0.0
    coarse = tensor.is_cuda and tensor.dtype == torch.float32 and _multiplies_in_tf32()
    return _TF32 if coarse else torch.finfo(tensor.dtype).eps


def _multiplies_in_tf32() -> bool:
    cudnn: Any = torch.backends.cudnn
    return any(each.fp32_precision == "tf32" for each in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn))


def _values_of_view(gradient: Tensor | None) -> Tensor | None:
    return gradient.detach().clone() if gradient is not None and gradient._is_view() else None


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


def _is_loss(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 0 and value.requires_grad


def _are_losses(value: Any) -> bool:
    """Whether it is a mapping of losses; one that is detached is one too, among others."""
    return isinstance(value, Mapping) and any(map(_is_loss, value.values())) and all(
        isinstance(each, Tensor) and each.dim() == 0 for each in value.values()
    )  # fmt: skip


def _are_gradients(value: Any, model: nn.Module) -> bool:
    """Whether it is a mapping of gradients of a model, and not of numbers to be logged."""
    names = {name for name, _ in model.named_parameters()}
    return isinstance(value, Mapping) and bool(names & value.keys())
