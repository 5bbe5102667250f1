"""Units of hyperparameters: what a learning rate is measured in.

Let the loss carry the unit L and a parameter the unit W; then a gradient is L W⁻¹.  Rescale the loss by ``loss`` (c in
formulas) and the stored parameters by ``weight`` (k in formulas), that is, train w' = k·w on L'(w') = c·L(w'/k).  A
hyperparameter of unit Lᵃ Wᵇ has to become cᵃ·kᵇ times what it was, and the training is the same training:
w'(t) = k·w(t) at every step, up to rounding, and bit for bit when c and k are powers of two.

>>> from scaleinv.units import G, L, W
>>> L / W, W / G, (W / G).factor(weight=10, loss=2)
(L W⁻¹, L⁻¹ W², 50.0)
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from numbers import Real
from typing import Any, TypeAlias

from scaleinv._checks import check_scale

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_FROM_SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_FACTOR = re.compile(  # sign, symbol, and its power in one of three ways of writing it
    r"""\s* ([*·/]?) \s* ([LWG]|1(?!\d)) (?:
        (⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+) | \s* (?:\^|\*\*) \s* (?: (-?\d+) | \( \s* (-?\d+ (?:\s*/\s*[1-9]\d*)?) \s* \) )
    )?""",
    re.VERBOSE,
)
_Number: TypeAlias = int | float | Fraction


@dataclass(frozen=True, init=False)
class Unit:
    """The unit L^loss · W^weight.  Units multiply, divide and take powers.

    Attributes:
        loss: the exponent of L.
        weight: the exponent of W.

    Raises:
        TypeError: if an exponent is not a number.

    >>> from scaleinv import Unit
    >>> from scaleinv.units import L, W
    >>> lr = Unit(loss=-1, weight=2)
    >>> lr, lr == W**2 / L, lr**0.5, lr / lr
    (L⁻¹ W², True, L^(-1/2) W, 1)
    """

    loss: Fraction
    weight: Fraction

    def __init__(self, loss: _Number = 0, weight: _Number = 0) -> None:
        object.__setattr__(self, "loss", _exponent("loss", loss))
        object.__setattr__(self, "weight", _exponent("weight", weight))

    @classmethod
    def parse(cls, text: str) -> "Unit":
        """Read a unit as it is printed, or as it is typed: ``L W⁻¹``, ``L W^-1``, ``L/W``, ``W**2 / L``, ``1``.

        A factor is L, W, G (a gradient, L/W) or 1, perhaps with a power such as ``^2``, ``**-1`` or ``^(1/2)``.  They
        stand side by side, or with ``*`` or ``·`` between them; after ``/`` comes one by which is divided.

        Raises:
            TypeError: if ``text`` is not a text.
            ValueError: if it is not a unit.

        >>> from scaleinv import Unit
        >>> Unit.parse("L/W"), Unit.parse("W**2 / L"), Unit.parse("L^(-1/2) W^(3/2)"), Unit.parse("1")
        (L W⁻¹, L⁻¹ W², L^(-1/2) W^(3/2), 1)
        """
        if not isinstance(text, str):
            raise TypeError(f"text={text!r} is not a text; pass one such as 'L W^-1'")
        factors = _FACTOR.findall(text)
        if not text.strip() or _FACTOR.sub("", text).strip() or factors[0][0]:
            raise ValueError(f"{text!r} is not a unit; write one such as 'L W⁻¹', 'L W^-1', 'L/W' or '1'")
        unit = ONE
        for sign, symbol, *powers in factors:
            power = "".join(powers).translate(_FROM_SUPERSCRIPT).replace(" ", "")
            factor = _SYMBOLS[symbol] ** Fraction(power or 1)
            unit = unit / factor if sign == "/" else unit * factor
        return unit

    def __mul__(self, other: "Unit") -> "Unit":
        if not isinstance(other, Unit):
            return NotImplemented
        return Unit(self.loss + other.loss, self.weight + other.weight)

    def __truediv__(self, other: "Unit") -> "Unit":
        if not isinstance(other, Unit):
            return NotImplemented
        return Unit(self.loss - other.loss, self.weight - other.weight)

    def __pow__(self, power: _Number) -> "Unit":
        if not isinstance(power, Real):
            return NotImplemented
        exponent = _exponent("power", power)
        return Unit(self.loss * exponent, self.weight * exponent)

    def factor(self, *, weight: float = 1.0, loss: float = 1.0) -> float:
        """Return the factor of a quantity of this unit when the parameters and the loss are rescaled.

        Args:
            weight: the factor of the stored parameters.
            loss: the factor of the loss.

        Returns:
            loss^a · weight^b for the unit L^a W^b; inf or 0 beyond the range of floats.

        Raises:
            TypeError: if a scale is not a number.
            ValueError: if a scale is not positive and finite.

        >>> from scaleinv.units import G, W
        >>> W.factor(weight=8), G.factor(weight=8, loss=4)
        (8.0, 0.5)
        """
        weight, loss = check_scale("weight", weight), check_scale("loss", loss)
        try:
            return loss ** float(self.loss) * weight ** float(self.weight)
        except OverflowError:
            return math.inf

    def __str__(self) -> str:
        symbols = [_power("L", self.loss), _power("W", self.weight)]
        return " ".join(symbol for symbol in symbols if symbol) or "1"

    __repr__ = __str__


def _exponent(name: str, value: _Number) -> Fraction:
    """``value`` as a fraction: 1/3 and 1/10 for the floats nearest to them."""
    if not isinstance(value, Real):
        raise TypeError(
            f"{name}={value!r} is not an exponent; pass numbers, as in Unit(loss=1, weight=-1), or write L / W"
        )
    try:
        exact = Fraction(value)
    except (OverflowError, ValueError):  # inf and nan
        raise ValueError(f"{name}={value!r} is not an exponent; it has to be finite") from None
    simple = exact.limit_denominator(1000)
    return simple if abs(simple - exact) < 1e-12 else exact


def _power(symbol: str, exponent: Fraction) -> str:
    if exponent == 0:
        return ""
    if exponent == 1:
        return symbol
    if exponent.denominator == 1:
        return symbol + str(exponent).translate(_SUPERSCRIPT)
    return f"{symbol}^({exponent})"


ONE = Unit()  # a pure number
L = Unit(loss=1)
W = Unit(weight=1)
G = L / W  # a gradient

_SYMBOLS = {"L": L, "W": W, "G": G, "1": ONE}

HyperparameterUnit: TypeAlias = Unit | tuple[Unit | None, ...] | None


@dataclass(frozen=True)
class Units:
    """The units of one optimizer.

    Attributes:
        hyperparameters: name → unit; a tuple of units for a tuple whose entries have different ones; None for a
            hyperparameter that has no unit (or, if measured, whose unit was not determined).
        state: name of a state buffer, or of a number that the optimizer keeps in a parameter group → unit.
        reason: why some hyperparameter has no unit; empty if all have one.
        defaults: values in use for hyperparameters that are not passed, where the optimizer's signature has none.
        stand_ins: a hyperparameter without a unit, or an entry such as ``eps[1]`` → the unit to convert it by all the
            same, where every choice is the same training: it has no effect, or acts in a product only.
        kept: the same → the value with which the units were measured, and hold while it stays, as an exponent does.
        at_zero: the same → the units where it is 0, if they are others: a 0 may switch something off.
        midway: why a training cannot be rescaled in its middle; empty if it can.
        not_for: a kind of parameters for which the units do not hold, in words such as "at zero" → the share by which
            rescaled runs deviate there.
        decay: how weight_decay, λ, takes from a parameter w: "times lr" (lr·λ·w a step, as torch.optim.AdamW does),
            "independent" (λ·w a step, whatever lr is, as AdamW's paper has it), "coupled" (λ·w is added to the
            gradient, as torch.optim.Adam does), "other", or "" where there is none.

    >>> import torch, scaleinv
    >>> from scaleinv.units import ONE, G, W
    >>> units = scaleinv.Units({"lr": W, "beta": ONE}, state={"mean": G})
    >>> scaleinv.convert(units, {"lr": 0.1, "beta": 0.9}, weight=8)
    {'lr': 0.8, 'beta': 0.9}
    """

    hyperparameters: Mapping[str, HyperparameterUnit]
    state: Mapping[str, Unit | None]
    reason: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    stand_ins: Mapping[str, Unit] = field(default_factory=dict)
    kept: Mapping[str, float] = field(default_factory=dict)
    at_zero: Mapping[str, "Units"] = field(default_factory=dict)
    midway: str = ""
    not_for: Mapping[str, float] = field(default_factory=dict)
    decay: str = ""

    def unit_to_convert(self, key: str, value: Any) -> Unit | None:
        """The unit to convert a hyperparameter by that has none itself, or an entry such as ``eps[1]``; None for none.

        >>> from scaleinv.units import ONE, W, Units
        >>> units = Units({"lr": W, "power": None}, state={}, kept={"power": 0.5})
        >>> units.unit_to_convert("power", 0.5), units.unit_to_convert("power", 0.25)
        (1, None)
        """
        return ONE if key in self.kept and value == self.kept[key] else self.stand_ins.get(key)


__all__ = ["G", "L", "ONE", "Unit", "Units", "W"]
