"""Real data that comes with installed packages, and the device that it is put on."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics
from sysconfig import get_path

import torch
from torch import Tensor

from scaleinv.book._extra import book_dependencies

with book_dependencies():
    from sklearn.datasets import load_digits

__all__ = ["batches", "device", "digits", "sources", "text", "text_batches"]


def device(dtype: torch.dtype = torch.float32) -> torch.device:
    """The first device that is available and has ``dtype``: cuda, mps (which has no float64), cpu.

    >>> import torch
    >>> from scaleinv.book.data import device
    >>> device(torch.float64).type in ("cuda", "cpu")
    True
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.mps.is_available() and dtype != torch.float64:
        return torch.device("mps")
    return torch.device("cpu")


@cache
def _digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float64, device="cpu") / 16
    return images, torch.tensor(data.target, device="cpu")


def digits(dtype: torch.dtype = torch.float32, on: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """scikit-learn's 1797 handwritten digits, as new tensors that belong to the caller.

    The optical recognition of handwritten digits data set (Alpaydin and Kaynak, 1998), as scikit-learn ships it.

    Args:
        dtype: of the images.
        on: a device; by default that of ``device(dtype)``.

    Returns:
        Images (1797, 8, 8) in [0, 1] and labels (1797,).

    >>> from scaleinv.book.data import digits
    >>> images, labels = digits(on="cpu")
    >>> images.shape, labels[:5].tolist()
    (torch.Size([1797, 8, 8]), [0, 1, 2, 3, 4])
    """
    images, labels = _digits()
    on = device(dtype) if on is None else on
    return images.to(on, dtype, copy=True), labels.to(on, copy=True)


def batches(
    steps: int,
    size: int = 64,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    on: torch.device | str | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw ``steps`` batches (images, labels) of ``size`` digits with replacement. The same seed draws the same.

    >>> from scaleinv.book.data import batches
    >>> [(tuple(images.shape), tuple(labels.shape)) for images, labels in batches(2, 16)]
    [((16, 8, 8), (16,)), ((16, 8, 8), (16,))]
    """
    images, labels = digits(dtype, on)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(labels), (size,), generator=generator, device="cpu").to(labels.device)
        yield images[rows], labels[rows]


@cache
def text() -> Tensor:
    """Python's help texts (``pydoc_data.topics``), half a million characters of English, as character codes below 128.

    They differ a little from one version of Python to the next.

    Returns:
        A tensor of shape (n,).

    >>> from scaleinv.book.data import text
    >>> "statement" in bytes(text()[:2000].tolist()).decode()
    True
    """
    joined = "\n".join(topics[name] for name in sorted(topics))
    return torch.tensor(list(joined.encode("ascii", "ignore")), device="cpu")


@cache
def sources() -> Tensor:
    """The code of Python's standard library, its top-level modules, as character codes below 128: some five million.

    It differs from one version of Python to the next.

    Returns:
        A tensor of shape (n,).

    Raises:
        FileNotFoundError: if this Python comes without the sources of its standard library.

    >>> from scaleinv.book.data import sources
    >>> len(sources()) > 1_000_000, "import" in bytes(sources()[:5000].tolist()).decode()
    (True, True)
    """
    folder = Path(get_path("stdlib"))
    modules = [path.read_text(encoding="utf-8", errors="ignore") for path in sorted(folder.glob("*.py"))]
    if not modules:
        raise FileNotFoundError(f"{folder} holds no .py file; use a Python with the sources of its standard library")
    return torch.frombuffer(bytearray("\n".join(modules).encode("ascii", "ignore")), dtype=torch.uint8).long()


def text_batches(
    steps: int, size: int = 16, length: int = 64, *, seed: int = 0, on: torch.device | str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw ``steps`` batches of text from random places. The same seed draws the same.

    Returns:
        An iterator over pairs of shape (size, length), characters and for each the character after it.

    >>> from scaleinv.book.data import text_batches
    >>> characters, following = next(text_batches(1, 2, 10))
    >>> (characters[:, 1:] == following[:, :-1]).all().item()
    True
    """
    on = device() if on is None else on
    characters, generator = text(), torch.Generator().manual_seed(seed)
    for _ in range(steps):
        starts = torch.randint(len(characters) - length, (size, 1), generator=generator, device="cpu")
        places = starts + torch.arange(length, device="cpu")
        yield characters[places].to(on), characters[places + 1].to(on)
