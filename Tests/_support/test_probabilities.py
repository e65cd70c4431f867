"""Probabilities of logits, against more digits."""

import mpmath
import numpy as np
import pytest

from swiftnets._support.probabilities import sigmoid, softmax

# Whole numbers: their differences are exact. The least has exp(-80), which float32 has room for.
Z = np.array([[0, -80, 3, 800], [-80, 0, 1, -2], [5, 5, 5, 5]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("function", [sigmoid, softmax])
def test_they_are_those_of_more_digits(function, dtype):
    with mpmath.workdps(50):
        if function is sigmoid:
            expected = [[float(1 / (1 + mpmath.exp(-int(z)))) for z in row] for row in Z]
        else:
            powers = [[mpmath.exp(int(z)) for z in row] for row in Z]
            expected = [[float(p / sum(row)) for p in row] for row in powers]
    found = function(Z.astype(dtype))
    assert found.dtype == dtype
    # exp is off by 4 units at most, twice, and sums and quotients by one each.
    info = np.finfo(dtype)
    np.testing.assert_allclose(found, expected, (8 + Z.shape[1]) * info.eps, float(info.tiny))


def test_logits_that_are_no_numbers_give_none():
    rows = np.array([[np.nan, 1.0]])
    assert np.isnan(sigmoid(rows)).tolist() == [[True, False]]
    assert np.isnan(softmax(rows)).all()
