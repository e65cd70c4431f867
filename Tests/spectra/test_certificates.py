"""The random certificate fails as seldom as it says."""

import math

import numpy as np
import pytest

from swiftnets import spectra
from swiftnets.linalg import FunctionOperator
from swiftnets.spectra.certificates import Probe, beta_cdf, log_square_sum, upper_bound
from swiftnets.spectra.eigenpairs import residual_bounds
from swiftnets.spectra.targets import Target


def test_the_cdf_of_beta_against_mpmath():
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        for n in (2, 3, 7, 100, 101, 910, 7018):
            b = (n - 1) / 2
            for x in (1e-26, 1e-15, 1e-8, 1e-3 / n, 1 / n, 1.9 / n, 0.5, 0.99):
                exact = mpmath.betainc(0.5, b, 0, mpmath.mpf(x), regularized=True)
                assert abs(beta_cdf(x, b) / exact - 1) < 1e-12
    for n in (10**6, 10**9):  # a normal distribution's square, to O(1/n)
        assert abs(beta_cdf(4 / n, (n - 1) / 2) / math.erf(math.sqrt(2)) - 1) < 3 / n + 1e-12
    assert beta_cdf(0.0, 3.0) == 0
    assert beta_cdf(1.0, 3.0) == beta_cdf(2.0, 3.0) == 1
    assert beta_cdf(0.5, 0.0) == 0


def runs(values, steps, count):
    """Lanczos runs on a diagonal matrix: as on any other, starts being uniform on the sphere."""
    target = Target(FunctionOperator(len(values), lambda rows: rows * values))
    rng = np.random.default_rng(1)
    for _ in range(count):
        probe = Probe(target, np.empty((0, len(values))), steps, rng)
        while not probe.ended:
            probe.step()
        yield probe


@pytest.mark.parametrize("side", [1, -1])
def test_failures_are_as_many_as_stated_at_most(side):
    """The bound fails where an eigenvalue is beyond it; with it at λ₁ that is fail(λ₁) ≤ δ."""
    values = np.concatenate([np.linspace(-1.0, 1.0, 400), [2.0, 3.0, -2.0, -3.0]])
    extreme = side * 3.0
    count = 1000
    chances = np.array([probe.fails(extreme, side) for probe in runs(values, 8, count)])
    for delta in (0.5, 0.2, 0.05, 0.01):
        rate = (chances <= delta).mean()
        deviation = math.sqrt(delta * (1 - delta) / count)
        assert delta / 4 <= rate <= delta + 4 * deviation


def test_the_bound_comes_down_with_the_steps_and_up_with_certainty():
    values = np.concatenate([np.linspace(-1.0, 0.8, 400), [1.0]])
    (probe,) = runs(values, 40, 1)
    bounds = []
    for steps in (10, 20, 40):
        alpha, beta = probe.alpha[:steps], probe.beta[:steps]
        found = [upper_bound(alpha, beta, probe.least, 401, 10.0**-e) for e in (3, 6, 12)]
        assert 1.0 <= found[0] < found[1] < found[2] < math.inf
        bounds.append(found[1])
        for t, e in zip(found, (3, 6, 12), strict=True):
            square = math.exp(-log_square_sum(t, alpha, beta, probe.least))
            assert 0.9 * 10.0**-e < beta_cdf(square, 200) <= 10.0**-e
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[2] < 1.0 + 1e-4


def test_squares_of_polynomials_against_plain_recurrence():
    (probe,) = runs(np.linspace(0.0, 1.0, 30), 6, 1)
    t, p, before = 1.3, [1.0], 0.0
    for j, (a, b) in enumerate(zip(probe.alpha, probe.beta, strict=True)):
        p.append(((t - a) * p[-1] - before * (p[-2] if j else 0.0)) / b)
        before = b
    expected = math.log(sum(x * x for x in p))
    assert abs(log_square_sum(t, probe.alpha, probe.beta, probe.least) - expected) < 1e-12
    assert log_square_sum(1e6, probe.alpha * 60, probe.beta * 60, 1e-13) > 700  # no overflow


def test_a_missing_pair_is_found_out():
    """Eigenvectors that are not the extremal ones, given as a start, are not certified."""
    values = np.concatenate([np.linspace(-1.0, 0.5, 296), [2.0, 2.0, 2.0, 3.0]])
    operator = FunctionOperator(300, lambda rows: rows * values)
    start = np.eye(300)[:, [296, 297]]
    for certificate in ("inertia", "probabilistic"):
        found = spectra.eigsh(operator, 2, certificate=certificate, start=start)
        assert abs(found.values - [2.0, 3.0]).max() < 1e-12
        assert found.certificate.method == certificate


def test_bounds_of_residuals():
    """As many eigenvalues as values of a group within its residuals' spectral norm (Kahan)."""
    rng = np.random.default_rng(0)
    for spread in (1e-3, 1e-6, 1e-9):
        exact = np.array([1.0, 1.0, 1.0 + 1e-7, 3.0, 5.0])
        q = np.linalg.qr(rng.standard_normal((50, 50)))[0]
        whole = np.concatenate([exact, np.linspace(-1, 0.5, 45)])
        matrix = (q * whole) @ q.T
        x = np.linalg.qr(q[:, :5] + spread * rng.standard_normal((50, 5)))[0]
        values, s = np.linalg.eigh(x.T @ matrix @ x)
        x = x @ s
        remainder = matrix @ x - x * values
        bounds = residual_bounds(values, x.T, remainder.T, 5.0, 2.2e-16)
        assert (abs(values - exact) <= bounds).all()
        assert (bounds <= 20 * np.linalg.norm(remainder, 2) + 1e-12).all()


@pytest.mark.parametrize("certificate", ["inertia", "probabilistic"])
def test_bounds_hold_where_a_neighbour_within_the_margin_is_returned(certificate):
    values = np.concatenate([np.linspace(-1.0, 0.5, 298), [2.0 - 1e-11, 2.0]])
    operator = FunctionOperator(300, lambda rows: rows * values)
    found = spectra.eigsh(operator, 1, certificate=certificate, start=np.eye(300)[:, 298])
    assert found.certificate is not None
    assert abs(found.values[0] - 2.0) <= found.error_bounds[0] < 1e-9


@pytest.mark.parametrize("which", ["LA", "SA", "LM", "BE"])
def test_counts_are_true_where_copies_of_the_last_value_were_found_and_not_chosen(which):
    """Searches for what is missing find all copies of a triple value, of which k cuts some off."""
    sizes = np.repeat(np.linspace(0.05, 2.0, 30), 3)
    values = np.concatenate([sizes, -sizes]) if which in ("LM", "BE") else sizes
    values = -values if which == "SA" else values
    operator = FunctionOperator(len(values), lambda rows: rows * values)
    checked = 0
    for seed in range(12):
        found = spectra.eigsh(
            operator, 4, which=which, method="lanczos", certificate="probabilistic", seed=seed
        )
        proof = found.certificate
        if proof is not None:
            there = (values < proof.lower) | (values > proof.upper)
            assert proof.count == there.sum()
            checked += 1
    assert checked == 12


def test_where_all_was_found_nothing_is_left_to_probe():
    """Without 0 / 0: warnings are errors here."""
    operator = FunctionOperator(1, lambda rows: 3.0 * rows)
    found = spectra.eigsh(operator, 1, method="lanczos", certificate="probabilistic")
    assert abs(found.values - 3.0).max() < 1e-14
    assert found.certificate.method == "probabilistic"
