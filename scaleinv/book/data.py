"""Real data that comes with installed packages, and the device it lies on."""

from functools import cache
from pydoc_data.topics import topics

import torch
from sklearn.datasets import load_digits


def device(dtype=torch.float32):
    """The accelerator (cuda, else mps) that there is and that has ``dtype`` (mps has no float64), else the cpu."""
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
    return images.to(on, dtype, copy=True), labels.to(on, copy=True)


def batches(steps, size=64, *, seed=0, dtype=torch.float32, on=None):
    """``steps`` batches (images, labels) of ``size`` digits, drawn with replacement; the same for the same seed."""
    images, labels = digits(dtype, on)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(labels), (size,), generator=generator).to(labels.device)
        yield images[rows], labels[rows]


@cache
def text():
    """Python's help texts (``pydoc_data.topics``, half a million characters of English) as characters below 128: (n,).

    They differ a little from one version of Python to the next.
    """
    joined = "\n".join(topics[name] for name in sorted(topics))
    return torch.tensor(list(joined.encode("ascii", "ignore")))


def text_batches(steps, size=16, length=64, *, seed=0, on=None):
    """``steps`` batches (characters, the characters after them) of shape (size, length), drawn at random places."""
    on = device() if on is None else on
    characters, generator = text(), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(characters) - length, (size, 1), generator=generator)
        places = starts + torch.arange(length)
        yield characters[places].to(on), characters[places + 1].to(on)
