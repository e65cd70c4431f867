"""Norms and products over the whole range of float64, against exact fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest

from swiftnets.linalg import scaling

UNIT = 2.0**-53


def exact_norm(v):
    """‖v‖ to far more digits than float64 has, rounded once."""
    square = sum(Fraction(float(x)) ** 2 for x in v)
    shift = 4096
    return Fraction(math.isqrt(int(square * Fraction(4) ** shift)), 2**shift)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-170, 1e-150, 1.0, 1e150, 1e170, 1e300])
def test_norm_is_right_at_every_scale(scale):
    v = np.random.default_rng(0).standard_normal(100) * scale
    exact = exact_norm(v)
    # A sum of n rounded squares, halved by the root, and the last rounding, which below the normal
    # range is half of the smallest number.
    allowed = exact * Fraction((100 / 2 + 2) * UNIT) + Fraction(2) ** -1075
    assert abs(Fraction(scaling.norm(v)) - exact) <= allowed
    assert abs(Fraction(float(scaling.row_norms(v[None])[0])) - exact) <= allowed


def test_norm_is_invariant_under_powers_of_two():
    v = np.random.default_rng(1).standard_normal(30)
    for e in (-900, -600, -100, 0, 100, 600, 900):
        assert scaling.norm(np.ldexp(v, e)) == math.ldexp(scaling.norm(v), e)


def test_norm_of_mixed_scales_loses_nothing_that_counts():
    assert scaling.norm(np.array([1e-200, 1e200, 3.0])) == 1e200
    assert scaling.norm(np.array([3e-200, 4e-200, 0.0])) == pytest.approx(5e-200, rel=4 * UNIT)


def test_norm_of_numbers_that_are_not_finite():
    assert math.isnan(scaling.norm(np.array([1.0, np.nan, np.inf])))
    assert scaling.norm(np.array([1.0, -np.inf])) == np.inf
    assert scaling.norm(np.zeros(0)) == 0 == scaling.norm(np.zeros(3))
    np.testing.assert_array_equal(
        scaling.row_norms(np.array([[np.nan, 1.0], [np.inf, 1.0], [3.0, 4.0]])),
        [np.nan, np.inf, 5],
    )


@pytest.mark.parametrize("scales", [(1e-300, 1e300), (1e-170, 1e-100), (1e200, 1e-200), (1.0, 1.0)])
def test_dot_is_right_at_every_scale(scales):
    r = np.random.default_rng(2)
    a, b = r.uniform(1, 2, 50) * scales[0], r.uniform(1, 2, 50) * scales[1]
    exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    assert abs(Fraction(scaling.dot(a, b)) - exact) <= exact * Fraction(52 * UNIT)


def test_dot_of_vectors_large_in_different_places_is_the_plain_sum():
    a, b = np.array([1e300, 1e-300, 1.0]), np.array([1e-300, 1e300, 1.0])
    exact = sum(Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    assert abs(Fraction(scaling.dot(a, b)) - exact) <= exact * Fraction(4 * UNIT)


def test_float32_is_summed_in_float64():
    v = np.full(3, 1e30, np.float32)
    assert scaling.norm(v) == pytest.approx(float(v[0]) * math.sqrt(3), rel=4 * UNIT)


def test_exponents_are_those_of_each_row():
    rows = np.array([[0.0, -0.75], [5e-324, 0.0], [1.7e308, 1.0], [0.0, 0.0], [np.inf, 1.0]])
    assert scaling.exponents(rows).tolist() == [scaling.exponent(row) for row in rows]
    assert scaling.exponents(rows).tolist() == [0, -1073, 1024, 0, 0]


def test_rows_halved_as_often_as_they_say_lose_nothing():
    rows = np.array([[1e300, 3.0, 0.0], [1e-200, 1e200, 0.0], [5e-324, 1.0, 1e300], [0.0, 0, 0]])
    for dtype in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            given = np.minimum(rows, 1e30 if dtype is np.float32 else 1e301).astype(dtype)
        given[np.abs(given) < np.finfo(dtype).tiny] = 0
        times = scaling.halvings(given)
        halved = np.ldexp(given, -times[:, None])
        np.testing.assert_array_equal(np.ldexp(halved, times[:, None]), given)
        for row, n in zip(given, times, strict=True):
            if row.any():
                least = np.abs(row[row != 0]).min()
                assert np.ldexp(least, -n) >= np.finfo(dtype).tiny > np.ldexp(least, -n - 1)
    assert scaling.halvings(rows)[2] == 0
