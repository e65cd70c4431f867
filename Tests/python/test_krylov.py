"""Conjugate gradients and MINRES against dense solves and SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import linalg

from swiftnets import MLP
from swiftnets.krylov import cg, minres

EPS = np.finfo(float).eps
METHODS = [cg, minres]


def matrix(eigenvalues, seed=0):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))[0]
    return (q * eigenvalues) @ q.T


def sides(count, n, seed=1):
    return np.random.default_rng(seed).standard_normal((count, n))


def times(a):
    return lambda rows: rows @ a


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_definite_systems(method, preconditioned):
    a, b = matrix(np.linspace(1, 50, 30)), sides(3, 30)
    options = {}
    if preconditioned:
        m = matrix(np.linspace(1, 40, 30), seed=0)  # the same eigenvectors: it helps
        options["preconditioner"] = times(np.linalg.inv(m))
    found = method(times(a), b, tolerance=1e-11, **options)
    assert found.converged.all()
    rest = np.linalg.norm(b - found.x @ a, axis=1)
    assert np.allclose(found.residual_norms, rest, rtol=1e-3, atol=100 * EPS * 50)
    assert (rest <= 1e-11 * np.linalg.norm(b, axis=1) * 1.01).all()
    # ‖x − x*‖ ≤ ‖r‖ over the smallest eigenvalue, which is 1.
    assert np.allclose(found.x, np.linalg.solve(a, b.T).T, rtol=0, atol=2e-11 * np.linalg.norm(b))
    if preconditioned:
        assert (found.iterations < method(times(a), b, tolerance=1e-11).iterations).all()


def test_indefinite_systems():
    a, b = matrix(np.concatenate([np.linspace(-9, -1, 12), np.linspace(1, 20, 13)])), sides(2, 25)
    found = minres(times(a), b)
    assert found.converged.all()
    assert np.allclose(found.x, np.linalg.solve(a, b.T).T, rtol=0, atol=1e-9)
    told = cg(times(a), b)
    assert not told.converged.any()
    assert set(told.reasons) == {"negative curvature"}


@pytest.mark.parametrize("method", METHODS)
def test_several_right_hand_sides_are_one_by_one(method):
    a, b = matrix(np.linspace(1, 9, 20)), sides(4, 20)
    b[2] = 0
    b[3] = a[0]
    together = method(times(a), b)
    for k in range(4):
        alone = method(times(a), b[k])
        assert alone.iterations[0] == together.iterations[k]
        assert np.allclose(alone.x, together.x[k], rtol=1e-12, atol=1e-14)
    assert together.iterations[2] == 0
    assert together.reasons[2] == "converged"


@pytest.mark.parametrize("method", METHODS)
def test_as_many_steps_as_distinct_eigenvalues(method):
    a = matrix(np.repeat([1.0, 3.0, 7.0], 6))
    found = method(times(a), sides(1, 18)[0])
    assert found.iterations[0] <= 3


@pytest.mark.parametrize(
    ("method", "theirs"), [(cg, linalg.cg), (minres, linalg.minres)], ids=["cg", "minres"]
)
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_iterates_are_scipys(method, theirs, steps):
    # The minimiser over one Krylov space is one vector.
    a, b = matrix(np.linspace(1, 100, 40)), sides(1, 40)[0]
    options = {"rtol": 1e-15, "maxiter": steps}
    want = theirs(a, b, **options)[0]
    got = method(times(a), b, tolerance=1e-15, iterations=steps)
    assert got.reasons == ("iterations",)
    assert got.iterations[0] == steps
    assert np.allclose(got.x, want, rtol=0, atol=1e-13 * abs(want).max() * 100)


def test_singular_systems_with_a_solution():
    a = matrix(np.concatenate([np.zeros(5), np.linspace(1, 5, 10)]))
    b = a @ sides(1, 15)[0]
    found = minres(times(a), b)
    assert found.converged.all()
    assert np.linalg.norm(b - a @ found.x) <= 1.01e-10 * np.linalg.norm(b)
    # From 0 on, iterates stay in the range: the solution of minimum norm.
    assert np.allclose(found.x, np.linalg.pinv(a, rcond=1e-10) @ b, atol=1e-8)
    none = minres(times(a), np.linalg.eigh(a)[1][:, 0])
    assert not none.converged.any()


def test_rounding_ends_it():
    a, b = matrix(np.logspace(0, 10, 20)), sides(1, 20)[0]
    found = cg(times(a), b, tolerance=1e-18, iterations=10000)
    assert found.reasons in [("stagnated",), ("iterations",), ("negative curvature",)]
    # Residuals are those of x, to the rounding of a product.
    rest = np.linalg.norm(b - a @ found.x)
    noise = 20 * EPS * 1e10 * np.linalg.norm(found.x)
    assert abs(found.residual_norms[0] - rest) <= noise


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_random_systems(seed, n, definite):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.5, 5, n)
    if not definite:
        values *= rng.choice([-1, 1], n)
    a, b = matrix(values, seed), rng.standard_normal(n)
    found = minres(times(a), b, tolerance=1e-9)
    assert found.converged.all()
    assert np.linalg.norm(b - a @ found.x) <= 1.01e-9 * np.linalg.norm(b)
    if definite:
        assert cg(times(a), b, tolerance=1e-9).converged.all()


def test_hessians_of_nets():
    net = MLP((3, 5, 2))
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), net.initial(0)
    point, b = net.linearize(w, x, y), rng.standard_normal((2, net.parameter_count))
    found = minres(lambda rows: point.hvp(rows) + 0.2 * rows, b)
    h = net.hessian(w, x, y) + 0.2 * np.eye(net.parameter_count)
    assert found.converged.all()
    assert np.linalg.norm(b - found.x @ h) <= 1.01e-10 * np.linalg.norm(b)


@pytest.mark.parametrize("method", METHODS)
def test_bad_arguments(method):
    a, b = np.eye(3), np.ones(3)
    with pytest.raises(TypeError, match="product is of type"):
        method(a, b)
    with pytest.raises(TypeError, match="preconditioner is of type"):
        method(times(a), b, preconditioner=a)
    with pytest.raises(ValueError, match="b has nan"):
        method(times(a), [1.0, np.nan, 1.0])
    with pytest.raises(ValueError, match="b has shape"):
        method(times(a), np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="tolerance"):
        method(times(a), b, tolerance=0.0)
    with pytest.raises(ValueError, match="iterations"):
        method(times(a), b, iterations=0)
    with pytest.raises(ValueError, match="product returned shape"):
        method(lambda rows: rows[:, :2], b)
    with pytest.raises(FloatingPointError, match="product"):
        method(lambda rows: rows * np.nan, b)
    with pytest.raises(ValueError, match="preconditioner returned shape"):
        method(times(a), b, preconditioner=lambda rows: rows[0])
