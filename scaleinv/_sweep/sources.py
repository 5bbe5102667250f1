"""The models and batches of a sweep, made without a change of the random state.

Threads share that state: they make models and batches, and trace steps, one at a time.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv._float64 import finest
from scaleinv._random_state import kept_random_state

Batch = tuple[Tensor, Tensor]  # inputs, targets

ONE_AT_A_TIME = threading.RLock()


def make_model(model: Callable[..., nn.Module], seed: int, keywords: Mapping[str, Any]) -> nn.Module:
    """A model before training."""
    with ONE_AT_A_TIME, kept_random_state():
        return model(seed=seed, **keywords)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """name → parameter or buffer."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers inside are those that follow ``torch.manual_seed(seed)``; outside, nothing changes."""
    cuda = [device] if device.type == "cuda" else []
    with ONE_AT_A_TIME, kept_random_state():
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def make_batches(batches: Callable[..., Any], seed: int) -> list[Batch]:
    """The batches of a seed, on the device that trains on them: their own, or the CPU if that has no float64.

    Raises:
        ValueError: if there is none, or one is not a pair of tensors.
    """
    with ONE_AT_A_TIME, kept_random_state():
        pairs = list(batches(seed=seed))
    if not pairs or not all(_is_pair(pair) for pair in pairs):
        raise ValueError(
            f"batches(seed={seed}) gave {len(pairs)} batches, which are not all a pair of tensors (inputs, targets); "
            "give at least one, and nothing else"
        )
    return [(_on_device(inputs), _on_device(targets)) for inputs, targets in pairs]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(map(torch.is_tensor, pair))


def _on_device(x: Tensor) -> Tensor:
    return x if finest(x.device) == torch.float64 else x.cpu()
