"""The state of the random numbers that a step may draw."""

import pickle
import random
from typing import Any, NamedTuple

import numpy as np
import torch


class RandomState(NamedTuple):
    """That of Python, of NumPy, and of torch on all devices.

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
    cpu: torch.Tensor
    cuda: list[torch.Tensor]
    mps: torch.Tensor | None

    @classmethod
    def now(cls) -> "RandomState":
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda, mps)

    def restore(self) -> None:
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)

    def same_as(self, other: "RandomState") -> bool:
        """Whether the next random numbers are the same."""
        return _bytes(self) == _bytes(other)


def _bytes(state: RandomState) -> bytes:
    tensors = [state.cpu, *state.cuda, *([] if state.mps is None else [state.mps])]
    return pickle.dumps((state.python, state.numpy, [tensor.numpy().tobytes() for tensor in tensors]))
