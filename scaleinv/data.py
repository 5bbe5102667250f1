"""Real data that comes with installed packages, and the device it lies on."""

from functools import cache

import torch
from sklearn.datasets import load_digits


def device(dtype=torch.float32):
    """The accelerator if there is one (cuda, else mps) that computes in ``dtype`` (mps has no float64), else the cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.mps.is_available() and dtype != torch.float64:
        return torch.device("mps")
    return torch.device("cpu")


@cache
def _digits():
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float64) / 16
    return images, torch.tensor(data.target)


def digits(dtype=torch.float32, on=None):
    """scikit-learn's 1797 handwritten digits: images (1797, 8, 8) in [0, 1] and labels (1797,).

    The optical recognition of handwritten digits data set (Alpaydin and Kaynak, 1998), as scikit-learn ships it.
    """
    images, labels = _digits()
    on = device(dtype) if on is None else on
    return images.to(on, dtype), labels.to(on)


def batches(steps, size=64, *, seed=0, dtype=torch.float32, on=None):
    """``steps`` batches (images, labels) of ``size`` digits, drawn with replacement; the same for the same seed."""
    images, labels = digits(dtype, on)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(labels), (size,), generator=generator).to(labels.device)
        yield images[rows], labels[rows]
