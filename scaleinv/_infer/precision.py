"""Computing in float64: an optimizer that computes in low precision inside would drown differences in rounding."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Precision = Callable[[], AbstractContextManager[Any]]  # makes the context in which an optimizer is run

_LOW = (torch.bfloat16, torch.float16, torch.float32)


@contextmanager
def in_float64(promote: bool) -> Iterator[None]:
    """New tensors are float64; with ``promote``, casts to lower precisions become casts to float64 too."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Promotion() if promote else nullcontext():
            yield
    finally:
        torch.set_default_dtype(default)


class LowPrecisionWatch(TorchDispatchMode):
    """Sets ``seen`` when anything larger than a counter is computed below float64."""

    seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype in _LOW and out.numel() > 1:
            self.seen = True
        return out


class _Promotion(TorchDispatchMode):
    """Turns every cast to a lower precision into one to float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = [torch.float64 if a in _LOW else a for a in args] if any(_is_low(a) for a in args) else args
        kwargs = {key: torch.float64 if _is_low(a) else a for key, a in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _is_low(argument: Any) -> bool:
    return isinstance(argument, torch.dtype) and argument in _LOW
