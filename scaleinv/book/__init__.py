"""What the chapters of the book are written with; installed by ``pip install "scaleinv[book]"``.

Read ``claims`` first, a number checked where it is stated; then ``data`` and ``models``, the small problems that are
trained, ``train``, the loop that trains them, and ``plots``, the look of the figures. ``pretrained`` stands alone: a
network from PyPI and the words it was trained on. ``zoo`` and ``real_run`` are stored results: what the audit says of
many trainings, and one training, recorded.  Submodules are imported when they are first used.
"""

from importlib import import_module
from types import ModuleType

__all__ = ["claims", "data", "models", "plots", "pretrained", "real_run", "train", "zoo"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f"scaleinv.book.{name}")
    raise AttributeError(f"module 'scaleinv.book' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
