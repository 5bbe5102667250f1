"""How many threads torch takes."""

from contextlib import contextmanager

import torch


@contextmanager
def threads(number):
    """Inside, torch takes so many threads; afterwards as many as before.

    On small tensors several only wait for each other, for minutes on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
