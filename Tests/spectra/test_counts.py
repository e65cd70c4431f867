"""Counts by inertia are exact, or refused where rounding decides."""

import numpy as np
import pytest
from clustered import OPTIONS, clustered_hessian, images, spectrum_matrix

from swiftnets import MLP, spectra
from swiftnets.linalg import FunctionOperator
from swiftnets.solve import factors, layered


def test_counts_of_a_net_by_layered_and_dense_factors():
    for widths, count in (((64, 12, 10), 200), ((64, *[8] * 7, 10), 48)):
        net = MLP(widths, l2=1e-4, **OPTIONS)
        hessian = net.at(net.initial(seed=0), *images(count, 8)).hessian
        entries = hessian.dense()
        values = np.linalg.eigvalsh(entries)
        ends = [-np.inf, *np.quantile(values, [0.01, 0.3, 0.9, 0.999]) + 1e-7, np.inf]
        for low, high in zip(ends, ends[1:], strict=False):
            expected = ((values >= low) & (values < high)).sum()
            assert spectra.count(hessian, low, high) == expected
            assert spectra.count(entries, low, high) == expected
            assert spectra.count(hessian + 1.5, low + 1.5, high + 1.5) == expected


@pytest.mark.parametrize("distance", [1e-4, 1e-8, 1e-10, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 0.0])
def test_near_an_eigenvalue_a_count_is_right_or_refused(distance):
    """d ≥ 10 max(eta, 2 P u ‖H‖) lets no wrong count pass, and refuses none far from rounding.

    Eigenvalues of a diagonal matrix are known exactly.
    """
    rng = np.random.default_rng(0)
    values = np.sort(rng.standard_normal(200))
    values /= abs(values).max()
    rotated = spectrum_matrix(values)
    answered = 0
    for i in (0, 50, 100, 150, 199):
        for sign in (-1, 1):
            s = values[i] + sign * distance
            # Rotation moves eigenvalues by some 1e-15: below that no count of it is known.
            for given in (np.diag(values), *([rotated] if distance >= 1e-14 else [])):
                try:
                    found = spectra.count(given, -np.inf, s)
                except np.linalg.LinAlgError as error:
                    assert distance < 1e-12
                    assert "no count" in str(error)
                    continue
                answered += 1
                assert found == (values < s).sum()
    assert answered == 20 or distance < 1e-12
    assert not answered or distance > 1e-14


def test_multiple_eigenvalues_are_counted_with_their_copies():
    hessian = clustered_hessian((8, 8, 8), 200)
    values = np.linalg.eigvalsh(hessian.dense())
    gaps = np.diff(values)
    # A cluster of seven copies of the largest that there are.
    i = next(
        i for i in range(len(values) - 8, 0, -1) if gaps[i : i + 6].max() < 1e-10 < gaps[i - 1]
    )
    low, high = values[i] - 1e-6, values[i + 6] + 1e-6
    assert spectra.count(hessian, low, high) == ((values > low) & (values < high)).sum() >= 7


def test_operators_and_ends():
    operator = FunctionOperator(5, lambda rows: rows * np.arange(5.0))
    assert spectra.count(operator, -np.inf, np.inf) == 5
    assert spectra.count(operator, 0.5, np.inf) == 4
    assert spectra.count(operator, -1, 2.5) == 3
    assert spectra.count(np.zeros((3, 3)), -1, 1) == 3
    assert spectra.count(np.zeros((3, 3)), 1e-30, 1) == 0
    with pytest.raises(np.linalg.LinAlgError, match=r"^A - 2\.0 is singular"):
        spectra.count(operator, 0.5, 2.0)
    with pytest.raises(np.linalg.LinAlgError, match=r"^A - 0\.0 is singular"):
        spectra.count(np.zeros((3, 3)), 0.0, 1.0)
    for a, b, kind, message in (
        (1.0, 1.0, ValueError, r"^a is 1\.0 and b is 1\.0; expected a < b$"),
        (np.nan, 1.0, ValueError, "^a is nan"),
        (0.0, "1", TypeError, "^b is '1'"),
    ):
        with pytest.raises(kind, match=message):
            spectra.count(operator, a, b)


def test_at_a_multiple_eigenvalue_a_count_is_refused_without_a_search_for_its_zeros(monkeypatch):
    """Layered factors would delay pivots through all layers, in a thousand times their plan."""
    deep = MLP((64, *[8] * 10, 10), l2=1e-4, **OPTIONS)
    hessian = deep.at(deep.initial(seed=0), *images(48, 8)).hessian
    clustered = clustered_hessian((8, 8, 8), 500)
    values = np.linalg.eigvalsh(clustered.dense())
    copies = float(values[np.argmin(values[7:] - values[:-7]) + 3])
    made = []

    class Recorded(layered.LayeredFactorization):
        def __init__(self, matrix, *arguments):
            made.append(matrix)
            super().__init__(matrix, *arguments)

    monkeypatch.setattr(factors, "LayeredFactorization", Recorded)
    # Weights outside the span of the inputs: (65 − 48) · 8 eigenvalues are l2.
    for given, s in ((hessian, 1e-4), (hessian + 0.5, 0.5 + 1e-4), (clustered, copies)):
        with pytest.raises(np.linalg.LinAlgError, match="no count$"):
            spectra.count(given, s, np.inf)
    assert not made
    wanted = (np.linalg.eigvalsh(hessian.dense()) > 0.1).sum()
    assert spectra.count(hessian, 0.1, np.inf) == wanted
    assert len(made) == 1  # elsewhere they are the cheaper ones
