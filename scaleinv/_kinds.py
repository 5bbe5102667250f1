"""Kinds of parameters on which an optimizer may act otherwise than on a matrix and a vector of small numbers."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Kind(NamedTuple):
    """Parameters of a kind: an example, and how to tell that an optimizer holds some.

    Attributes:
        shape: of the example.
        at_zero: whether it starts at zero.
        empty_rows: whether some of its rows have no gradient.
        groups: whether it has two, in groups of different lr.
        in_groups: whether parameter groups hold such parameters; where that cannot be told, True.
    """

    shape: tuple[int, ...]
    at_zero: bool = False
    empty_rows: bool = False
    groups: bool = False
    in_groups: Callable[[Sequence[dict]], bool] = lambda groups: True


def _some(condition: Callable[[Tensor], bool]) -> Callable[[Sequence[dict]], bool]:
    return lambda groups: any(condition(p) for group in groups for p in group["params"])


def _is_zero(p: Tensor) -> bool:
    if p.is_meta:
        return False
    values = p.detach().coalesce().values() if p.is_sparse else p.detach()
    return not torch.count_nonzero(values)


LARGE = 4096  # entries from which low-bit optimizers store their state in few bits

# In words that continue "parameters …".
KINDS = {
    "at zero": Kind((6,), at_zero=True, in_groups=_some(_is_zero)),
    "that are matrices at zero": Kind((4, 3), at_zero=True, in_groups=_some(lambda p: p.ndim > 1 and _is_zero(p))),
    "without a dimension": Kind((), in_groups=_some(lambda p: p.ndim == 0)),
    "of four dimensions": Kind((4, 3, 2, 2), in_groups=_some(lambda p: p.ndim > 2)),
    f"of {LARGE} entries or more": Kind((64, LARGE // 64), in_groups=_some(lambda p: p.numel() >= LARGE)),
    "with rows that have no gradient": Kind((4, 3), empty_rows=True),
    "in groups of different lr": Kind(
        (4, 3), groups=True, in_groups=lambda groups: len({repr(group.get("lr")) for group in groups}) > 1
    ),
}
