"""``Symmetries``: the result of ``symmetries_of``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCALES = ("global", "tensor", "column", "row", "entry")  # which entries of the gradients share a factor
ROTATIONS = ("rows", "columns", "tensor", "global")  # what a rotation mixes


@dataclass(frozen=True)
class Symmetries:
    """What an optimizer's update does not see of the gradient, and what it goes along with.

    Attributes:
        name: that of the factory.
        scaled: "global", "tensor", "column", "row" or "entry" → the share by which the update changes when all
            gradients get one factor, or each tensor, column, row or entry gets its own; the larger of two runs with
            factors from 1/8 to 8, powers of two, so that 0 is bit for bit.
        rotated: "rows", "columns", "tensor" or "global" → the share by which the update deviates from the rotated one
            when the gradient is rotated: QG, which mixes rows, GQ, which mixes columns, or a rotation that mixes all
            entries of a tensor, or those of all tensors.
        scaled_at_one: as ``scaled``, for gradients of about 1, where eps or a decay through the gradient may act.
        rounding: the share up to which a symmetry holds.
        size: the size of the gradients for ``scaled``.

    >>> import torch
    >>> from scaleinv import symmetries_of
    >>> muon = symmetries_of(torch.optim.Muon)
    >>> muon.scales, muon.rotations, muon.scaled["tensor"], muon.scaled["entry"] > 0.5
    ('tensor', 'rows, columns', 0.0, True)
    """

    name: str
    scaled: Mapping[str, float]
    rotated: Mapping[str, float]
    scaled_at_one: Mapping[str, float]
    rounding: float
    size: float

    @property
    def scales(self) -> str:
        """The finest factors that leave the update alone, as one of "entry", "row", "column", "row, column" (either,
        but not one for each entry), "tensor", "global" and "none"."""
        holds = self._holding(self.scaled)
        if "entry" in holds:
            return "entry"
        sides = [name for name in ("row", "column") if name in holds]
        return ", ".join(sides) or next((name for name in ("tensor", "global") if name in holds), "none")

    @property
    def rotations(self) -> str:
        """The widest rotations that the update goes along with, as one of "global", "tensor", "rows, columns", "rows",
        "columns" and "none"."""
        holds = self._holding(self.rotated)
        widest = next((name for name in ("global", "tensor") if name in holds), "")
        return widest or ", ".join(name for name in ("rows", "columns") if name in holds) or "none"

    @property
    def bitwise(self) -> bool:
        """Whether the factors of ``scales`` leave every bit of the update alone; False where there are none."""
        return all(self.scaled.get(name, 1.0) == 0 for name in self.scales.split(", "))

    def _holding(self, shares: Mapping[str, float]) -> list[str]:
        return [name for name, share in shares.items() if share <= self.rounding]

    def as_dict(self) -> dict[str, Any]:
        """The words and numbers, for a JSON document.

        >>> import torch
        >>> from scaleinv import symmetries_of
        >>> symmetries_of(torch.optim.Adagrad).as_dict()["scales"]
        'entry'
        """
        return {
            "name": self.name,
            "scales": self.scales,
            "rotations": self.rotations,
            "scaled": dict(self.scaled),
            "rotated": dict(self.rotated),
            "scaled_at_one": dict(self.scaled_at_one),
            "rounding": self.rounding,
            "size": self.size,
        }

    def __str__(self) -> str:
        lines = [f"{self.name}: scales {self.scales}; rotations {self.rotations}"]
        for kind, shares in (("factor", self.scaled), ("rotation", self.rotated)):
            lines += [f"  {f'{kind}, {name}':<26}{share:.2g}" for name, share in shares.items()]
        return "\n".join(lines)

    __repr__ = __str__
