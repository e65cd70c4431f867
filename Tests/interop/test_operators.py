"""Curvature matrices as SciPy's operators, and a net for its minimisers."""

import sys

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse.linalg import aslinearoperator, cg, eigsh, lobpcg

from swiftnets import MLP, _core
from swiftnets.interop import as_scipy

EPS = np.finfo(float).eps


@pytest.fixture(params=["squared_error", "softmax_cross_entropy"])
def case(request):
    rng = np.random.default_rng(7)
    net = MLP((4, 5, 3), loss=request.param, l2=0.05, reduction="mean")
    x = rng.standard_normal((9, 4))
    y = rng.standard_normal((9, 3)) if request.param == "squared_error" else rng.integers(0, 3, 9)
    return net, net.initial(seed=1), x, y


KINDS = {
    "hessian": lambda point: point.hessian,
    "gauss_newton": lambda point: point.gauss_newton,
    "fisher": lambda point: point.fisher(),
    "empirical": lambda point: point.fisher("empirical"),
    "shifted": lambda point: point.hessian + 0.25,
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_operator_is_its_dense_matrix(case, kind):
    net, *point = case
    matrix = KINDS[kind](net.at(*point))
    operator, dense = matrix.as_linear_operator(), matrix.dense()
    count = net.parameter_count
    assert operator.shape == (count, count) and operator.dtype == np.float64
    v = np.random.default_rng(0).standard_normal((count, 6))
    # A sum of `count` products, in two orders.
    bound = 4 * count * EPS * (np.abs(dense) @ np.abs(v)).max()
    for product in (operator @ v, operator.matmat(np.asfortranarray(v)), operator.T @ v):
        np.testing.assert_allclose(product, dense @ v, rtol=0, atol=bound)
    np.testing.assert_allclose(operator @ v[:, 0], dense @ v[:, 0], rtol=0, atol=bound)
    np.testing.assert_allclose(operator.rmatvec(v[:, :1]), dense @ v[:, :1], rtol=0, atol=bound)
    np.testing.assert_array_equal(operator.H @ v, operator @ v)
    np.testing.assert_array_equal(operator.H @ v[:, 0], operator @ v[:, 0])
    assert aslinearoperator(operator) is operator


def test_the_adjoint_of_an_operator_with_a_complex_shift_is_its_conjugate(case):
    net, *point = case
    operator = (net.at(*point).hessian + (0.5 + 2j)).as_linear_operator()
    assert operator.dtype == np.complex128
    v = np.random.default_rng(0).standard_normal((net.parameter_count, 2))
    dense = net.hessian(*point)
    bound = 4 * len(dense) * EPS * (np.abs(dense) @ np.abs(v)).max()
    for product, shift in ((operator @ v, 0.5 + 2j), (operator.H @ v, 0.5 - 2j)):
        np.testing.assert_allclose(product, dense @ v + shift * v, rtol=0, atol=bound)
    np.testing.assert_array_equal(operator.rmatvec(v[:, 0]), operator.matvec(v[:, 0]).conj())


def test_a_matrix_knows_the_loss_and_gradient_of_its_point(case):
    net, w, x, y = case
    point = net.at(w, x, y).hessian.point
    loss, gradient = net.loss_and_gradient(w, x, y)
    assert point.loss == pytest.approx(loss, rel=4 * EPS * len(x))
    np.testing.assert_allclose(point.gradient, gradient, rtol=0, atol=64 * EPS)


def test_scipy_finds_the_extreme_eigenvalues(case):
    net, *point = case
    operator = net.at(*point).hessian.as_linear_operator()
    values = np.linalg.eigvalsh(net.hessian(*point))
    found = eigsh(operator, 3, which="BE", return_eigenvectors=False)
    expected = np.concatenate([values[:1], values[-2:]])
    np.testing.assert_allclose(np.sort(found), expected, atol=1e-10 * abs(values).max())
    start = np.random.default_rng(1).standard_normal((net.parameter_count, 2))
    largest = lobpcg(operator, start, maxiter=200, tol=1e-9)[0]
    np.testing.assert_allclose(np.sort(largest), values[-2:], rtol=1e-6)


def test_conjugate_gradients_solve_with_the_gauss_newton_matrix(case):
    net, w, x, y = case
    point = net.at(w, x, y)
    operator = point.gauss_newton.as_linear_operator()
    solution, status = cg(operator, point.gradient, rtol=1e-12, maxiter=1000)
    assert status == 0
    residual = point.gauss_newton.dense() @ solution - point.gradient
    assert np.linalg.norm(residual) <= 1e-10 * np.linalg.norm(point.gradient)


def test_complex_vectors_are_refused(case):
    net, *point = case
    with pytest.raises(TypeError, match="complex128"):
        net.at(*point).hessian.as_linear_operator() @ np.ones(net.parameter_count, complex)


@pytest.mark.parametrize(
    ("method", "names"),
    [
        ("trust-krylov", ["hessp"]),
        ("trust-exact", ["hess"]),
        ("trust-ncg", ["hessp"]),
        ("Newton-CG", ["hessp"]),
        ("L-BFGS-B", []),
    ],
)
def test_scipy_minimises_a_net_unchanged(case, method, names):
    net, w, x, y = case
    problem = as_scipy(net, x, y)
    curvature = {name: getattr(problem, name) for name in names}
    tolerance = {"tol": 1e-7} if method != "L-BFGS-B" else {"options": {"gtol": 1e-7, "ftol": 0}}
    result = minimize(problem.fun, w, jac=problem.jac, method=method, **curvature, **tolerance)
    assert result.fun < net.loss(w, x, y)
    assert np.linalg.norm(net.gradient(result.x, x, y)) < 1e-5


def test_one_point_is_linearised_once(case, monkeypatch):
    net, w, x, y = case
    problem = as_scipy(net, x, y)
    calls = []
    linearize = _core.linearize
    monkeypatch.setattr(_core, "linearize", lambda *a: calls.append(1) or linearize(*a))
    problem.fun(w), problem.jac(w), problem.hessp(w, w)
    assert len(calls) == 1
    moved = w + 1
    assert problem.fun(moved) != problem.fun(w) and len(calls) == 3
    w += 1  # in place: the key is what w holds
    assert problem.fun(w) == problem.fun(moved)


def test_as_scipy_takes_batches_and_weights(case):
    net, w, x, y = case
    weights = np.arange(1.0, 10)
    whole = as_scipy(net, x, y, sample_weight=weights)
    batches = as_scipy(net, ((x[i : i + 4], y[i : i + 4], weights[i : i + 4]) for i in (0, 4, 8)))
    np.testing.assert_allclose(batches.fun(w), whole.fun(w), rtol=1e-13)
    np.testing.assert_allclose(batches.hessp(w, w), whole.hessp(w, w), atol=1e-13)
    np.testing.assert_allclose(batches.hess(w), whole.hess(w), atol=1e-13)


def test_without_scipy_the_message_says_how_to_get_it(monkeypatch):
    net = MLP((1, 1))
    matrix = net.at(net.initial(seed=0), [[1.0]], [[1.0]]).hessian
    monkeypatch.setitem(sys.modules, "scipy.sparse.linalg", None)
    with pytest.raises(ImportError, match=r"pip install swiftnets\[scipy\]"):
        matrix.as_linear_operator()
