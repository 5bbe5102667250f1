"""``Sharpness``: the result of ``sharpness``."""

import math
from dataclasses import dataclass
from typing import Any

from scaleinv._report import json_value
from scaleinv.units import Unit


@dataclass(frozen=True, repr=False)
class Sharpness:
    """The largest eigenvalue of a loss's Hessian, relative to an optimizer's preconditioner if there is one.

    Attributes:
        value: λ_max(P⁻¹H); λ_max(H) without an optimizer and for SGD.  NaN where groups differ in lr.
        error: an eigenvalue lies within this of the value.
        unit: of both.
        lr_sharpness: lr·λ_max(P⁻¹H), a pure number, lr by group; NaN without an optimizer.
        lr_error: its error.
        threshold: what lr_sharpness may be on a quadratic before steps grow; NaN without an optimizer.
        law: the threshold's formula.
        loss: the loss, of unit L.
        products: how many Hessian-vector products it took.

    >>> import torch, scaleinv
    >>> layer = torch.nn.Linear(1, 1, bias=False)
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    >>> print(scaleinv.sharpness(layer, lambda: layer(torch.ones(1)).sum() ** 2, optimizer))
    lr·λ_max(P⁻¹H) = 1 ± 0: 50 % of the threshold 2, gradient descent
      λ_max(P⁻¹H) = 2 ± 0 L W⁻², from 1 Hessian-vector product
    """

    value: float
    error: float
    unit: Unit
    lr_sharpness: float
    lr_error: float
    threshold: float
    law: str
    loss: float
    products: int

    @property
    def share(self) -> float:
        """lr·λ_max(P⁻¹H) as a share of the threshold; beyond 1, steps grow on the quadratic that the loss is here.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.5, momentum=0.9)
        >>> round(scaleinv.sharpness(layer, lambda: layer(torch.ones(1)).sum() ** 2, optimizer).share, 3)
        0.263
        """
        return self.lr_sharpness / self.threshold

    def as_dict(self) -> dict[str, Any]:
        """The numbers, the unit and the formula as plain data, for JSON; None where a number is not known.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> scaleinv.sharpness(layer, lambda: layer(torch.ones(1)).sum() ** 2).as_dict()["value"]
        2.0
        """
        numbers = {**vars(self), "unit": str(self.unit), "share": self.share}
        return {name: json_value(value) for name, value in numbers.items()}

    def line(self) -> str:
        """One line: the pure number and its share of the threshold, or the eigenvalue without an optimizer.

        >>> import torch, scaleinv
        >>> layer = torch.nn.Linear(1, 1, bias=False)
        >>> scaleinv.sharpness(layer, lambda: layer(torch.ones(1)).sum() ** 2).line()
        'λ_max(H) = 2 ± 0 L W⁻²'
        """
        if math.isnan(self.lr_sharpness):
            return f"λ_max(H) = {self._value}"
        where = f"{100 * self.share:.3g} % of the threshold {self.law}"
        if not self.law.startswith("2,"):
            where = f"{100 * self.share:.3g} % of the threshold {self.threshold:.4g} = {self.law}"
        return f"lr·λ_max(P⁻¹H) = {_with_error(self.lr_sharpness, self.lr_error)}: {where}"

    @property
    def _value(self) -> str:
        return f"{_with_error(self.value, self.error)} {self.unit}"

    def __str__(self) -> str:
        count = f"from {self.products} Hessian-vector product{'' if self.products == 1 else 's'}"
        if math.isnan(self.lr_sharpness):
            return f"{self.line()}, {count}"
        second = "lr differs between groups" if math.isnan(self.value) else f"λ_max(P⁻¹H) = {self._value}"
        return f"{self.line()}\n  {second}, {count}"

    __repr__ = __str__


def _with_error(value: float, error: float) -> str:
    return f"{value:.4g} ± {error:.1g}"
