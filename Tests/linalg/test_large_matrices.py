"""Matrices so large that the engine factors them in panels of its own: right, and the same bits."""

import mmap
import subprocess
import sys

import numpy as np
import pytest

from swiftnets import MLP, _core
from swiftnets.linalg import DenseFactorization
from swiftnets.linalg.lapack import eigh

RNG = np.random.default_rng(0)
EPSILON = np.finfo(float).eps


def symmetric(order):
    matrix = RNG.standard_normal((order, order))
    return (matrix + matrix.T) / 2


@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_indefinite_matrix_is_factored_right(threads):
    order = 2200
    matrix = symmetric(order)
    matrix[:700, :700] = np.diag(np.diag(matrix[:700, :700]))  # pivots of one row and of two
    before = _core.get_threads()
    _core.set_threads(threads)
    try:
        factors = DenseFactorization(matrix)
        b = RNG.standard_normal((70, order))
        x = factors.solve(b)
        single = factors.solve(b[0])
        again = DenseFactorization(matrix).solve(b)
    finally:
        _core.set_threads(before)
    values = np.linalg.eigvalsh(matrix)
    assert factors.inertia.positive == (values > 0).sum()
    assert factors.inertia.negative == (values < 0).sum()
    assert np.isclose(factors.log_determinant, np.log(abs(values)).sum(), rtol=1e-10)
    assert abs(x @ matrix - b).max() <= 1e-9
    assert abs(single @ matrix - b[0]).max() <= 1e-9
    assert np.array_equal(again, x)


def test_a_large_definite_matrix_is_factored_right():
    order = 2200
    matrix = symmetric(order) + 3 * order**0.5 * np.eye(order)
    factors = DenseFactorization(matrix)
    assert factors.inertia.positive == order
    for b in (RNG.standard_normal((70, order)), RNG.standard_normal(order)):
        assert abs(factors.solve(b) @ matrix - b).max() <= 1e-11
    assert np.isclose(factors.log_determinant, np.linalg.slogdet(matrix)[1], rtol=1e-12)


def test_a_large_layer_with_a_complex_shift_is_factored_right():
    net = MLP((60, 50, 3), activation="sine")
    x, y = RNG.standard_normal((50, 60)), RNG.standard_normal((50, 3))
    w = net.initial(0)
    shift = 0.3 + 0.2j
    factors = (net.at(w, x, y).hessian + shift).factorize(method="layered")
    b = RNG.standard_normal((2, net.parameter_count))
    solution = factors.solve(b)
    image = net.hvp(w, x, y, solution.real) + 1j * net.hvp(w, x, y, solution.imag)
    assert abs(image + shift * solution - b).max() <= 1e-8


@pytest.mark.parametrize("threads", [1, 2])
def test_large_eigenvectors_are_right(threads):
    order = 1850
    matrix = symmetric(order)
    before = _core.get_threads()
    _core.set_threads(threads)
    try:
        values, vectors = eigh(matrix)
        again = eigh(matrix)
    finally:
        _core.set_threads(before)
    norm = abs(values).max()
    assert abs(values - np.linalg.eigvalsh(matrix)).max() <= order * EPSILON * norm
    assert abs(matrix @ vectors - vectors * values).max() <= order * EPSILON * norm
    assert abs(vectors.T @ vectors - np.eye(order)).max() <= order * EPSILON
    assert np.array_equal(again[1], vectors)


@pytest.mark.parametrize(("shape", "lost"), [((1300, 2000), 3), ((2600, 1000), 0)])
def test_a_large_least_squares_solution_of_any_rank_is_numpys(shape, lost):
    x = RNG.standard_normal(shape) * 10.0 ** RNG.uniform(-2, 2, shape[1])
    if shape[0] <= shape[1]:
        x[: lost + 1] = x[0]  # so that the route is the orthogonal one
        rank = shape[0] - lost
    else:
        x[:, : lost + 1] = x[:, :1]
        rank = shape[1] - lost
    factorization, (route, _, found, *_) = _core.fast_factorize(x, 1e-12)
    assert found == rank
    b, w = RNG.standard_normal((shape[0], 4)), np.empty((shape[1], 4))
    residual = _core.fast_minimum_norm(factorization, x, b, w)
    assert residual <= 1e-11
    expected = np.linalg.lstsq(x, b, rcond=1e-12)[0]
    assert abs(w - expected).max() <= 1e-9 * abs(expected).max()
    assert route == (lost > 0 or shape[0] > shape[1])


def test_a_second_layer_too_large_for_the_batched_kernels_is_solved_right():
    xs, ys = RNG.standard_normal((900, 20)), RNG.standard_normal((900, 5))
    for hidsize in (300, 1200):  # the block itself, and its dual
        w1 = RNG.standard_normal((20, hidsize)) / 20**0.5
        w2 = RNG.standard_normal((hidsize, 5)) / hidsize**0.5
        _, first, second, *_ = _core.slow_step(
            _core.slow_workspace(), xs, ys, w1, w2, 0.1, 0.1, 0, w1 + 0, w2 + 0
        )
        assert max(first, second) <= 1e-12


def test_an_order_whose_workspace_lapack_cannot_count_is_refused_before_anything_is_read():
    # LAPACK asks for 1 + 6 n + 2 n² numbers of workspace: from n = 32,767 on no 32-bit integer.
    order = 65_536
    pages = mmap.mmap(-1, order * order * 8, flags=mmap.MAP_PRIVATE | 0x4000)  # MAP_NORESERVE
    matrix = np.frombuffer(pages).reshape(order, order)
    with pytest.raises(ValueError, match="of order 65536 is too large for eigenvectors"):
        _core.symmetric_eigen(matrix, np.zeros(order))


def test_eigenvectors_of_a_large_matrix_take_no_workspace_of_lapack_that_grows_with_its_square():
    code = (
        "import numpy as np, resource\n"
        "from swiftnets import _core\n"
        "a, values = np.diag(np.arange(1500.0)), np.zeros(1500)\n"
        "_core.set_threads(1); _core.symmetric_eigen(np.eye(8), np.zeros(8))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "_core.symmetric_eigen(a, values)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    taken = int(subprocess.check_output([sys.executable, "-c", code], text=True)) * 1024
    assert taken < 2.2 * 8 * 1500**2  # the vectors, and pages of a that nobody had touched
