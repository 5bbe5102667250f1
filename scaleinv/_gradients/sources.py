"""Gradients that are there already: of a model, of a mapping, of a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from scaleinv._audit import load_plain, load_safetensors

Gradients: TypeAlias = dict[str, Tensor | None]
Terms: TypeAlias = dict[str, Gradients]  # loss term → gradients; "" where there is one loss


def gradients_of(model: nn.Module) -> Gradients:
    """Name → gradient of each parameter that is trained, on the CPU; None where it has none.

    Raises:
        ValueError: if a gradient has no numbers.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad and not is_lazy(p)}
    return {name: None if p.grad is None else _plain(name, p.grad) for name, p in trained.items()}


def is_terms(value: Any) -> bool:
    """Whether it is a mapping of loss terms, each with a step or gradients of its own."""
    return isinstance(value, Mapping) and bool(value) and all(
        callable(each) or isinstance(each, Mapping | str | Path) for each in value.values()
    )  # fmt: skip


def read(argument: str, value: Any) -> Terms:
    """The gradients in a module, a mapping or a file; of several loss terms, if it is a mapping of them.

    Raises:
        OSError: if a file cannot be read.
        TypeError: if it holds anything else.
        ValueError: if a gradient has no numbers, or a file is not of tensors and plain data.
    """
    if isinstance(value, str | Path):
        path = Path(value)
        path.stat()  # raises what names the path
        value = load_safetensors(path) if path.suffix == ".safetensors" else load_plain(path)
        argument = str(path)
    if is_terms(value):
        terms = {str(term): read(f"{argument}[{term!r}]", each) for term, each in value.items()}
        for term, inner in terms.items():
            if list(inner) != [""]:
                raise TypeError(f"{argument}[{term!r}] is of several loss terms again; pass one level of them")
        return {term: inner[""] for term, inner in terms.items()}
    return {"": _gradients(argument, value)}


def _gradients(argument: str, value: Any) -> Gradients:
    if isinstance(value, nn.Module):
        return gradients_of(value)
    if not isinstance(value, Mapping) or not value:
        raise TypeError(
            f"{argument}={_brief(value)} is not gradients; pass a step (a function without arguments), a mapping "
            "name → gradient, or a file of one"
        )
    for name, gradient in value.items():
        if gradient is not None and not isinstance(gradient, Tensor):
            raise TypeError(f"{argument}[{name!r}]={_brief(gradient)} is not a tensor; pass a mapping name → gradient")
    return {str(name): None if each is None else _plain(f"{argument}[{name!r}]", each) for name, each in value.items()}


def _plain(name: str, gradient: Tensor) -> Tensor:
    """A copy on the CPU; of shards, put together, in every process."""
    if gradient.is_meta:
        raise ValueError(f"{name}: its gradient is on the meta device and has no numbers; use a model with numbers")
    if not (gradient.is_floating_point() or gradient.is_complex()):
        raise TypeError(f"{name}: {gradient.dtype} is not the format of a gradient; pass floating-point tensors")
    whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient  # of a DTensor
    copied = whole.detach().to("cpu", copy=True)
    return copied.coalesce() if copied.layout == torch.sparse_coo else copied


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
