"""swiftnets.operators: SciPy's operators and minimisers on a net."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse.linalg import aslinearoperator, cg, eigsh, lobpcg

from swiftnets import MLP, operators

EPS = np.finfo(float).eps


@pytest.fixture(params=["squared_error", "softmax_cross_entropy"])
def case(request):
    rng = np.random.default_rng(7)
    net = MLP((4, 5, 3), loss=request.param, l2=0.05, reduction="mean")
    x = rng.standard_normal((9, 4))
    y = rng.standard_normal((9, 3)) if request.param == "squared_error" else rng.integers(0, 3, 9)
    return net, net.initial(seed=1), x, y


KINDS = {
    "hessian": lambda net, *a: (net.hessian_operator(*a), net.hessian(*a)),
    "gauss_newton": lambda net, *a: (net.gauss_newton_operator(*a), net.gauss_newton(*a)),
    "fisher": lambda net, *a: (net.fisher_operator(*a), net.fisher(*a)),
    "empirical": lambda net, *a: (
        net.fisher_operator(*a, kind="empirical"),
        net.fisher(*a, kind="empirical"),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_operator_is_its_dense_matrix(case, kind):
    net, *point = case
    operator, dense = KINDS[kind](net, *point)
    count = net.parameter_count
    assert operator.shape == (count, count) and operator.dtype == np.float64
    v = np.random.default_rng(0).standard_normal((count, 6))
    # A sum of `count` products, in two orders.
    bound = 4 * count * EPS * (np.abs(dense) @ np.abs(v)).max()
    for product in (operator @ v, operator.matmat(np.asfortranarray(v)), operator.T @ v):
        np.testing.assert_allclose(product, dense @ v, rtol=0, atol=bound)
    np.testing.assert_allclose(operator @ v[:, 0], dense @ v[:, 0], rtol=0, atol=bound)
    np.testing.assert_allclose(operator.rmatvec(v[:, :1]), dense @ v[:, :1], rtol=0, atol=bound)
    assert operator.H is operator and aslinearoperator(operator) is operator


def test_an_operator_knows_the_loss_and_gradient_of_its_point(case):
    net, w, x, y = case
    operator = net.hessian_operator(w, x, y)
    loss, gradient = net.loss_and_gradient(w, x, y)
    assert operator.loss == pytest.approx(loss, rel=4 * EPS * len(x))
    np.testing.assert_allclose(operator.gradient, gradient, rtol=0, atol=64 * EPS)


def test_scipy_finds_the_extreme_eigenvalues(case):
    net, *point = case
    operator, values = net.hessian_operator(*point), np.linalg.eigvalsh(net.hessian(*point))
    found = eigsh(operator, 3, which="BE", return_eigenvectors=False)
    expected = np.concatenate([values[:1], values[-2:]])
    np.testing.assert_allclose(np.sort(found), expected, atol=1e-10 * abs(values).max())
    start = np.random.default_rng(1).standard_normal((net.parameter_count, 2))
    largest = lobpcg(operator, start, maxiter=200, tol=1e-9)[0]
    np.testing.assert_allclose(np.sort(largest), values[-2:], rtol=1e-6)


def test_conjugate_gradients_solve_with_the_gauss_newton_matrix(case):
    net, w, x, y = case
    operator = net.gauss_newton_operator(w, x, y)
    solution, status = cg(operator, operator.gradient, rtol=1e-12, maxiter=1000)
    assert status == 0
    residual = net.gauss_newton(w, x, y) @ solution - operator.gradient
    assert np.linalg.norm(residual) <= 1e-10 * np.linalg.norm(operator.gradient)


def test_complex_vectors_are_refused(case):
    net, *point = case
    with pytest.raises(TypeError, match="complex128"):
        net.hessian_operator(*point) @ np.ones(net.parameter_count, complex)


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
    problem = net.as_scipy(x, y)
    curvature = {name: getattr(problem, name) for name in names}
    tolerance = {"tol": 1e-7} if method != "L-BFGS-B" else {"options": {"gtol": 1e-7, "ftol": 0}}
    result = minimize(problem.fun, w, jac=problem.jac, method=method, **curvature, **tolerance)
    assert result.fun < net.loss(w, x, y)
    assert np.linalg.norm(net.gradient(result.x, x, y)) < 1e-5


def test_one_point_is_linearised_once(case, monkeypatch):
    net, w, x, y = case
    problem = net.as_scipy(x, y)
    calls = []
    linearize = net.linearize
    monkeypatch.setattr(net, "linearize", lambda *a, **k: calls.append(1) or linearize(*a, **k))
    problem.fun(w), problem.jac(w), problem.hessp(w, w)
    assert len(calls) == 1
    moved = w + 1
    assert problem.fun(moved) != problem.fun(w) and len(calls) == 3
    w += 1  # in place: the key is what w holds
    assert problem.fun(w) == problem.fun(moved)


def test_as_scipy_takes_batches_and_weights(case):
    net, w, x, y = case
    weights = np.arange(1.0, 10)
    whole = net.as_scipy(x, y, sample_weight=weights)
    batches = net.as_scipy((x[i : i + 4], y[i : i + 4], weights[i : i + 4]) for i in (0, 4, 8))
    np.testing.assert_allclose(batches.fun(w), whole.fun(w), rtol=1e-13)
    np.testing.assert_allclose(batches.hessp(w, w), whole.hessp(w, w), atol=1e-13)
    np.testing.assert_allclose(batches.hess(w), whole.hess(w), atol=1e-13)


def test_without_scipy_the_message_says_how_to_get_it(monkeypatch):
    import importlib
    import sys

    net = MLP((1, 1))
    with monkeypatch.context() as context:
        context.setitem(sys.modules, "scipy.sparse.linalg", None)
        importlib.reload(operators)
        with pytest.raises(ImportError, match=r"pip install swiftnets\[scipy\]"):
            net.hessian_operator(net.initial(seed=0), [[1.0]], [[1.0]])
    importlib.reload(operators)
