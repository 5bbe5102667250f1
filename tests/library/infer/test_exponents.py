"""The solver: units, what is told apart and the residual, on matrices whose answers are known by construction.

A matrix has a column for the loss, one for the parameters, and one for each hyperparameter.  With
orthonormal directions A, B, C, and E for what no hyperparameter explains, every number can be written down.
"""

from fractions import Fraction

import pytest
import torch

from scaleinv import Unit
from scaleinv._infer.exponents import FIT, NOISE, RESOLUTION, fraction, solve

GENERATOR = torch.Generator().manual_seed(0)
A, B, C, E = torch.linalg.qr(torch.randn(8, 4, dtype=torch.float64, generator=GENERATOR)).Q.T
ZERO = 0 * A


def solved(loss, weight, **hyperparameters):
    matrix = torch.stack([loss, weight, *hyperparameters.values()], dim=1)
    return solve(list(hyperparameters), [matrix])


def test_exponents_are_the_negative_coefficients_of_the_columns():
    units, certain, residual = solved(-A + 0.5 * B, 2 * A, a=A, b=B)
    assert units == {"a": Unit(1, -2), "b": Unit(Fraction(-1, 2), 0)}
    assert certain == {"a", "b"} and residual < 1e-12


def test_a_run_is_explained_together_with_those_before():
    """A second run, in which a change of a shows apart from one of b, tells the two apart."""
    together = torch.stack([-A, ZERO, A, A], dim=1)
    apart = torch.stack([-A, ZERO, A, ZERO], dim=1)
    assert solve(["a", "b"], [together]).certain == set()
    assert solve(["a", "b"], [together, apart]) == ({"a": Unit(1, 0), "b": Unit()}, {"a", "b"}, pytest.approx(0))


def test_a_column_of_length_0_gets_no_unit_and_a_short_one_does():
    assert solved(-A, ZERO, a=A, b=0.9e-7 * B).units.keys() == {"a"}
    assert solved(-A, ZERO, a=A, b=1.1e-7 * B).units.keys() == {"a", "b"}


def test_of_columns_that_are_alike_the_first_takes_the_unit_and_none_is_certain():
    units, certain, residual = solved(-2 * A - B, ZERO, a=A, b=A, c=B)
    assert units == {"a": Unit(2, 0), "b": Unit(), "c": Unit(1, 0)}
    assert certain == {"c"} and residual < 1e-12


@pytest.mark.parametrize("part, certain", [(0.5e-3, True), (2e-3, False)])
def test_a_hyperparameter_with_a_small_part_in_a_direction_without_effect_is_certain_all_the_same(part, certain):
    """a - b - part·c has no effect; normalised, c's part in it is part/√2."""
    alike = A - 2**0.5 * part * C
    result = solved(-A, ZERO, a=A, b=alike / alike.norm(), c=C)
    assert not {"a", "b"} & result.certain
    assert ("c" in result.certain) == certain


@pytest.mark.parametrize("angle, apart", [(0.3 * RESOLUTION, False), (10 * RESOLUTION, True)])
def test_columns_closer_than_the_resolution_are_not_told_apart(angle, apart):
    result = solved(-A, ZERO, a=A, b=(A + angle * B) / (1 + angle**2) ** 0.5)
    assert result.certain == ({"a", "b"} if apart else set())


@pytest.mark.parametrize("misfit, apart", [(1e-9, True), (1e-6, False)])
def test_columns_closer_than_the_misfit_are_not_told_apart(misfit, apart):
    """The angle of 1e-5 is above the resolution, and 10 times a misfit of 1e-6: below NOISE times that."""
    result = solved(-A + misfit * E, ZERO, a=A, b=A + 1e-5 * B)
    assert result.residual == pytest.approx(misfit, rel=1e-3)
    assert RESOLUTION < NOISE * 1e-6 < NOISE * FIT
    assert result.certain == ({"a", "b"} if apart else set())


def test_a_misfit_beyond_the_fit_does_not_coarsen_the_resolution():
    """Such a run does not count, whatever is told apart."""
    result = solved(-A + 2 * FIT * E, ZERO, a=A, b=A + 1e-5 * B)
    assert result.residual == pytest.approx(2 * FIT, rel=1e-3) and result.certain == {"a", "b"}


def test_the_residual_is_that_of_the_finest_resolution():
    """At the coarser one a and b are not told apart, and fit freely what 1 instead of 1.00005 leaves over."""
    units, certain, residual = solved(-1.00005 * A, ZERO, a=A, b=A + 1e-5 * B)
    assert certain == set() and residual == pytest.approx(5e-5, rel=1e-3)


# The residual.


@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_a_residual_is_a_share_of_the_length_of_the_run_where_all_terms_are_smaller(size):
    """The run has length 1: a part of size 1e-3 that nothing explains is a share of 1e-3."""
    assert solved(size * E, ZERO, a=A).residual == pytest.approx(size)


def test_a_residual_is_a_share_of_the_largest_term():
    assert solved(50 * E, ZERO, a=A).residual == pytest.approx(1)  # the scale's own term
    assert solved(-100 * A + E, ZERO, a=A).residual == pytest.approx(1 / 100, rel=1e-3)
    # two terms of length 200 that almost cancel
    near = (A + 0.01 * B) / (1 + 0.01**2) ** 0.5
    units, certain, residual = solved(200 * (near - A) + E, ZERO, a=A, b=near)
    assert units == {"a": Unit(200, 0), "b": Unit(-200, 0)} and certain == {"a", "b"}
    assert residual == pytest.approx(1 / 200, rel=1e-3)


def test_the_larger_of_the_two_misfits_counts():
    assert solved(-A + 1e-2 * E, B, a=A, b=B).residual == pytest.approx(1e-2, rel=1e-3)
    assert solved(-A, B + 1e-2 * E, a=A, b=B).residual == pytest.approx(1e-2, rel=1e-3)


def test_an_exponent_that_is_no_simple_fraction_is_left_to_fit_and_not_certain():
    """0.42 is 0.02 from 2/5 and no fraction in hundredths is within 1e-4 of 0.4205."""
    units, certain, residual = solved(-0.4205 * A - B, ZERO, a=A, b=B)
    assert certain == {"b"} and residual < 1e-12


# Fractions.


@pytest.mark.parametrize(
    "exponent, expected",
    [
        (0.0, Fraction(0)),
        (-1.0000001, Fraction(-1)),
        (1 / 3 + 0.009, Fraction(1, 3)),
        (0.33, Fraction(1, 3)),  # nearer than SIMPLE to a simple fraction, which comes before hundredths
        (0.83, Fraction(5, 6)),
        (0.48, Fraction(12, 25)),
        (-0.48005, Fraction(-12, 25)),
        (0.4802, Fraction(1, 2)),  # neither: a simple one that it is not
        (0.4797, Fraction(1, 2)),
        (1.14, Fraction(57, 50)),
        (1 / 7, Fraction(1, 6)),
    ],
)
def test_an_exponent_is_a_simple_fraction_or_hundredths(exponent, expected):
    assert fraction(exponent) == expected
