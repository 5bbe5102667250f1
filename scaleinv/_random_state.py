"""The state of all random numbers that code of the user's may draw: Python's, NumPy's, and torch's on all devices."""

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class RandomState(NamedTuple):
    """That of Python, of NumPy, and of torch on the CPU and on each device that has drawn any.

    >>> import torch
    >>> from scaleinv._random_state import RandomState
    >>> before = RandomState.now()
    >>> drawn = torch.rand(2)
    >>> before.same_as(RandomState.now())
    False
    >>> before.restore()
    >>> before.same_as(RandomState.now()), torch.equal(torch.rand(2), drawn)
    (True, True)
    """

    python: Any
    numpy: Any
    cpu: Tensor
    devices: list[Tensor]

    @classmethod
    def now(cls) -> "RandomState":
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), _states_of_devices())

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        accelerator = _accelerator()
        for index, state in enumerate(self.devices if accelerator is not None else ()):
            accelerator.set_rng_state(state, *_index(accelerator, index))

    def same_as(self, other: "RandomState") -> bool:
        """Whether the next random numbers are the same."""
        return _bytes(self) == _bytes(other)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Random numbers go on afterwards as if none had been drawn inside.

    >>> import torch
    >>> from scaleinv._random_state import kept_random_state
    >>> with kept_random_state():
    ...     drawn = torch.rand(2)
    >>> torch.equal(torch.rand(2), drawn)
    True
    """
    before = RandomState.now()
    try:
        yield
    finally:
        before.restore()


def _accelerator() -> Any:
    """The module of this machine's kind of GPU, such as ``torch.cuda``; None without one, or before its first use."""
    device = torch.accelerator.current_accelerator(check_available=True)
    module = None if device is None else torch.get_device_module(device)
    if not hasattr(module, "set_rng_state") or not getattr(module, "is_initialized", lambda: True)():
        return None
    return module


def _index(accelerator: Any, index: int) -> tuple[int, ...]:
    """What its functions take for one of several devices; of torch.mps there is only one."""
    return () if accelerator is torch.mps else (index,)


def _states_of_devices() -> list[Tensor]:
    accelerator = _accelerator()
    if accelerator is None:
        return []
    return [accelerator.get_rng_state(*_index(accelerator, i)) for i in range(accelerator.device_count())]


def _bytes(state: RandomState) -> bytes:
    tensors = [state.cpu, *state.devices]
    return pickle.dumps((state.python, state.numpy, [tensor.numpy().tobytes() for tensor in tensors]))
