"""Keys such as ``betas[0]`` for the entries of tuples of hyperparameters: the one place that makes and reads them.

>>> from scaleinv._entries import entries
>>> dict(entries({"lr": 0.1, "betas": (0.9, 0.999)}))
{'lr': 0.1, 'betas[0]': 0.9, 'betas[1]': 0.999}
"""

from collections.abc import Iterator, Mapping
from typing import Any


def key_of(name: str, index: int) -> str:
    """``betas[0]`` for ``betas`` and 0."""
    return f"{name}[{index}]"


def split_key(key: str) -> tuple[str, int | None]:
    """(``betas``, 0) for ``betas[0]``; (``lr``, None) for ``lr``."""
    name, bracket, index = key.partition("[")
    return (name, int(index.removesuffix("]"))) if bracket else (name, None)


def entries_of(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(key, entry) for each entry of a tuple or list; (name, value) for anything else."""
    if type(value) in (tuple, list):
        yield from ((key_of(name, i), entry) for i, entry in enumerate(value))
    else:
        yield name, value


def entries(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key, value) of all hyperparameters, tuples entry by entry."""
    for name, value in values.items():
        yield from entries_of(name, value)


def get_entry(values: Mapping[str, Any], key: str) -> Any:
    """The value that ``lr`` or ``betas[0]`` names; KeyError if there is none."""
    name, index = split_key(key)
    return values[name] if index is None else values[name][index]


def with_entry(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy of ``values`` in which ``lr`` or ``betas[0]`` has another value."""
    name, index = split_key(key)
    if index is None:
        return {**values, name: value}
    changed = list(values[name])
    changed[index] = value
    return {**values, name: type(values[name])(changed)}
