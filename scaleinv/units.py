"""Units of hyperparameters: what a learning rate is measured in.

Let the loss carry the unit L and a parameter the unit W; then a gradient is L W⁻¹.  Rescale the loss by
``loss`` (c) and the parameters by ``weight`` (k), that is, train w' = k·w on L'(w') = c·L(w'/k).  A
hyperparameter of unit Lᵃ Wᵇ must become cᵃ·kᵇ times what it was, and the training is the same training:
w'(t) = k·w(t) at every step, up to rounding, and bit for bit when c and k are powers of two.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Unit:
    """The unit L^loss · W^weight.  Multiplies, divides and takes powers; prints as ``L W⁻¹``, or ``1``."""

    loss: Fraction = Fraction(0)
    weight: Fraction = Fraction(0)

    def __post_init__(self):
        object.__setattr__(self, "loss", Fraction(self.loss))
        object.__setattr__(self, "weight", Fraction(self.weight))

    def __mul__(self, other):
        return Unit(self.loss + other.loss, self.weight + other.weight)

    def __truediv__(self, other):
        return Unit(self.loss - other.loss, self.weight - other.weight)

    def __pow__(self, power):
        return Unit(self.loss * power, self.weight * power)

    def factor(self, *, weight=1.0, loss=1.0):
        """The number that a quantity of this unit is multiplied by when the loss and the parameters are; inf or 0
        beyond the range of floats."""
        try:
            return float(loss) ** float(self.loss) * float(weight) ** float(self.weight)
        except OverflowError:
            return math.inf

    def __str__(self):
        symbols = [_power("L", self.loss), _power("W", self.weight)]
        return " ".join(symbol for symbol in symbols if symbol) or "1"

    __repr__ = __str__


def _power(symbol, exponent):
    if exponent == 0:
        return ""
    if exponent == 1:
        return symbol
    if exponent.denominator == 1:
        return symbol + str(exponent).translate(_SUPERSCRIPT)
    return f"{symbol}^({exponent})"


ONE = Unit()
L = Unit(loss=1)
W = Unit(weight=1)
G = L / W  # a gradient


@dataclass(frozen=True)
class Units:
    """The units of one optimizer.

    Attributes:
        hyperparameters: name → Unit; a tuple of them where a hyperparameter is a tuple of several units; None
            where it has no unit (or, when inferred, none was determined).
        state: name of a state buffer → Unit.
        reason: why some hyperparameter has no unit; empty when all have.
        defaults: hyperparameters in use where none are given, as far as they are not in an optimizer's signature.
    """

    hyperparameters: dict
    state: dict
    reason: str = ""
    defaults: dict = field(default_factory=dict)
