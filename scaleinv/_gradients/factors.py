"""Factors as people write them: 9, 1/8, 65536."""

import math
from fractions import Fraction

_LARGEST = 64  # of the smaller of numerator and denominator
_CHANCE = 0.1  # a number that is this near to a whole one, or its inverse, in one case of ten shows nothing
_CHANCE_OF_FRACTION = 0.01  # of others there are more


def simple_fraction(value: float, error: float) -> Fraction | None:
    """The fraction of small numbers that a positive value is.

    Args:
        value: a positive number.
        error: its relative error.

    Returns:
        None where no fraction is that near, or where that would be chance: the larger the error, the fewer fractions.

    >>> from scaleinv._gradients.factors import simple_fraction
    >>> simple_fraction(0.1250001, 1e-6), simple_fraction(4390.001, 1e-6), simple_fraction(0.9713, 1e-6)
    (Fraction(1, 8), Fraction(4390, 1), None)
    """
    large = max(value, 1 / value)
    for below in range(1, _LARGEST + 1):
        above = round(large * below)
        if above * below * error > (_CHANCE if below == 1 else _CHANCE_OF_FRACTION):
            return None
        if abs(large * below / above - 1) <= error:
            return Fraction(above, below) if value >= 1 else Fraction(below, above)
    return None


def nearest_simple(value: float, error: float, coarse_error: float) -> float:
    """A positive value as the fraction that it is, by the error measured, else by that of its number format.

    >>> from scaleinv._gradients.factors import nearest_simple
    >>> nearest_simple(8.99999, 1e-7, 1e-4), nearest_simple(8.9, 1e-7, 1e-4)
    (9.0, 8.9)
    """
    for each in (error, coarse_error):
        fraction = simple_fraction(value, max(each, 2.0**-50))
        if fraction is not None:
            return float(fraction)
    return value


def times_text(value: float) -> str:
    """A positive factor as what it does to a number.

    >>> from scaleinv._gradients.factors import times_text
    >>> times_text(4.0), times_text(1 / 4), times_text(0.97134)
    ('× 4', '/ 4', '× 0.9713')
    """
    return (
        f"/ {factor_text(1 / value)}"
        if value < 1 and factor_text(value).startswith("1/")
        else f"× {factor_text(value)}"
    )


def factor_text(value: float) -> str:
    """A factor as text.

    >>> from scaleinv._gradients.factors import factor_text
    >>> factor_text(9.0), factor_text(1 / 8), factor_text(-1.0), factor_text(65536.0), factor_text(0.97134)
    ('9', '1/8', '−1', '65536', '0.9713')
    """
    if math.isnan(value):
        return ""
    sign, size = "−" if value < 0 else "", abs(value)
    fraction = simple_fraction(size, 1e-12) if 0 < size < math.inf else None
    return sign + (str(fraction) if fraction is not None else f"{size:.4g}")
