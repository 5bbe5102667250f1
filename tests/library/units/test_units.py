"""The algebra of units, and the factor of a quantity of a unit."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.units import ONE, G, L, Unit, W

exponents = st.fractions(min_value=-4, max_value=4, max_denominator=4)
units = st.builds(Unit, exponents, exponents)
scales = st.floats(min_value=1e-3, max_value=1e3)


@given(units, units, units)
def test_units_form_a_commutative_group(a, b, c):
    assert a * b == b * a
    assert (a * b) * c == a * (b * c)
    assert a * ONE == a
    assert a * (ONE / a) == ONE
    assert a / b == a * b**-1


@given(units, units, st.integers(-3, 3), st.integers(-3, 3))
def test_powers_of_units_follow_the_laws_of_exponents(a, b, m, n):
    assert a**m * a**n == a ** (m + n)
    assert (a**m) ** n == a ** (m * n)
    assert (a * b) ** n == a**n * b**n
    assert (a ** Fraction(1, 3)) ** 3 == a


@given(units, units, scales, scales)
def test_factor_is_a_homomorphism_in_the_unit(a, b, weight, loss):
    def factor(unit):
        return unit.factor(weight=weight, loss=loss)

    assert factor(ONE) == 1
    assert factor(a * b) == pytest.approx(factor(a) * factor(b))
    assert factor(a / b) == pytest.approx(factor(a) / factor(b))
    assert factor(a**2) == pytest.approx(factor(a) ** 2)


@given(units, scales, scales, scales)
def test_factor_is_a_homomorphism_in_the_scale(a, weight, loss, other):
    both = a.factor(weight=weight * other, loss=loss * other)
    assert both == pytest.approx(a.factor(weight=weight, loss=loss) * a.factor(weight=other, loss=other))


def test_factor_of_the_base_units():
    assert L.factor(weight=10, loss=3) == 3
    assert W.factor(weight=10, loss=3) == 10
    assert G.factor(weight=8, loss=4) == 0.5
    assert (W / G).factor(weight=10) == 100


@pytest.mark.parametrize(
    "unit, text",
    [
        (ONE, "1"),
        (L, "L"),
        (W, "W"),
        (G, "L W⁻¹"),
        (W / G, "L⁻¹ W²"),
        (G**2, "L² W⁻²"),
        (W**12, "W¹²"),
        (Unit(Fraction(-1, 2), Fraction(3, 2)), "L^(-1/2) W^(3/2)"),
    ],
)
def test_a_unit_prints_as_the_book_writes_it(unit, text):
    assert str(unit) == repr(unit) == f"{unit}" == text


def test_equal_units_are_equal_and_hash_alike():
    assert Unit(1, -1) == Unit(Fraction(1), Fraction(-1)) == G
    assert len({Unit(1, -1), G, L / W}) == 1
