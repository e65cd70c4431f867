"""Lanczos runs: identities on matrices of known spectrum, and the engine's on nets' Hessians."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftnets import MLP
from swiftnets.linalg.lanczos import lanczos

EPS = np.finfo(np.float64).eps


def prescribed(spectrum, seed=0):
    """A symmetric matrix with these eigenvalues."""
    count = len(spectrum)
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((count, count)))[0]
    matrix = q * spectrum @ q.T
    return (matrix + matrix.T) / 2


def product_of(matrix):
    return lambda v: matrix @ v


@given(count=st.integers(1, 30), steps=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_recurrence_holds_and_the_basis_is_orthonormal(count, steps, seed):
    random = np.random.default_rng(seed)
    matrix = prescribed(random.standard_normal(count), seed)
    start = random.standard_normal(count)
    result = lanczos(product_of(matrix), start, steps)
    q, k = result.basis.T, len(result.diagonal)
    assert k == min(count, steps)  # a random start has parts in all eigenvectors
    few = 20 * count * EPS
    assert abs(q.T @ q - np.eye(k)).max() <= few
    rest = matrix @ q - q @ result.matrix
    assert abs(rest[:, :-1]).max(initial=0) <= few * (1 + abs(matrix).sum(axis=1).max())
    assert abs(np.linalg.norm(rest[:, -1]) - result.residual) <= few * (1 + np.linalg.norm(matrix))
    assert abs(result.norm * q[:, 0] - start).max() <= 4 * EPS * np.linalg.norm(start)


def test_ritz_values_are_as_near_as_they_say():
    spectrum = np.linspace(-1, 3, 60) ** 3
    matrix = prescribed(spectrum)
    values, distances = lanczos(product_of(matrix), np.ones(60), 25).eigenvalues()
    nearest = abs(values[:, None] - spectrum).min(axis=1)
    assert (nearest <= distances + 60 * EPS * abs(spectrum).max()).all()
    assert distances.min() < 1e-6 * distances.max()  # some have converged, some not


def test_an_invariant_space_ends_the_run():
    matrix = prescribed(np.repeat([1.0, 2.0, 5.0], 10))
    result = lanczos(product_of(matrix), np.random.default_rng(1).standard_normal(30), 30)
    assert len(result.diagonal) == 3
    assert abs(result.eigenvalues()[0] - [1, 2, 5]).max() <= 100 * EPS


def test_a_function_of_the_matrix_is_exact_in_an_invariant_space():
    spectrum = np.arange(1.0, 13)
    matrix = prescribed(spectrum)
    start = np.random.default_rng(2).standard_normal(12)
    values, vectors = np.linalg.eigh(matrix)
    expected = vectors @ (values**-0.5 * (vectors.T @ start))
    result = lanczos(product_of(matrix), start, 12).apply(lambda x: x**-0.5)
    assert abs(result - expected).max() <= 1000 * EPS * abs(expected).max()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_starts_do_not_overflow(scale):
    matrix = prescribed(np.array([1.0, 2.0, 3.0]))
    result = lanczos(product_of(matrix), np.full(3, scale), 3)
    assert result.norm == pytest.approx(scale * 3**0.5, rel=4 * EPS)


@pytest.mark.parametrize("of_a", [0, 1000, -1000])
@pytest.mark.parametrize("of_start", [0, 1000, -1000])
def test_powers_of_two_scale_runs_bit_by_bit(of_a, of_start):
    matrix, start = prescribed(np.linspace(1, 30, 12)), np.linspace(1, 2, 12)
    plain = lanczos(product_of(matrix), start, 8)
    scaled = lanczos(product_of(np.ldexp(matrix, of_a)), np.ldexp(start, of_start), 8)
    assert np.array_equal(scaled.basis, plain.basis)
    assert np.array_equal(scaled.diagonal, np.ldexp(plain.diagonal, of_a))
    assert np.array_equal(scaled.off_diagonal, np.ldexp(plain.off_diagonal, of_a))
    assert scaled.residual == np.ldexp(plain.residual, of_a)
    assert scaled.norm == np.ldexp(plain.norm, of_start)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-150, 1e150, 1e170, 1e300])
def test_any_size_of_matrix(size):
    spectrum = np.arange(1.0, 9)
    values, _ = lanczos(product_of(prescribed(spectrum) * size), np.ones(8), 8).eigenvalues()
    assert abs(values / size - spectrum).max() <= 8 * 8 * 20 * EPS


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_any_size_of_matrix_in_float32(size):
    spectrum = np.arange(1.0, 9)
    matrix = (prescribed(spectrum) * size).astype(np.float32)
    values, _ = lanczos(product_of(matrix), np.ones(8, np.float32), 8).eigenvalues()
    assert abs(values / size - spectrum).max() <= 8 * 8 * 20 * np.finfo(np.float32).eps


def test_edges():
    zero = lanczos(lambda v: 0 * v, np.ones(3), 3)
    assert zero.diagonal == [0] and zero.residual == 0
    assert lanczos(lambda v: 5 * v, np.ones(1), 9).diagonal == [5]
    for start, size in [(np.ones(4), 1.7e308), (np.ones(3, np.float32), 1e39)]:
        with pytest.raises(FloatingPointError, match="product 0 is beyond the range of float"):
            lanczos(lambda v, size=size: np.full(len(v), size), start, 3)
    # A norm that float64 does not hold; its direction it does.
    largest = lanczos(lambda v: v, np.full(4, 1.7e308), 2)
    assert np.array_equal(largest.basis, [[0.5] * 4]) and largest.norm == np.inf


def test_arrays_of_the_caller_stay_as_they_are():
    matrix, start = prescribed(np.linspace(1, 30, 12)), np.linspace(1, 2, 12)
    seen = []

    def product(v):
        result = matrix @ v
        result.flags.writeable = False
        seen.extend([(v, v.copy()), (result, result.copy())])
        return result

    def destructive(v):
        v[:] = matrix @ v
        return v

    want = lanczos(product_of(matrix), start, 6)
    for function in (product, destructive):
        assert np.array_equal(lanczos(function, start, 6).basis, want.basis)
    assert all(np.array_equal(now, then) for now, then in seen)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((None, np.ones(3), 2), TypeError, "product"),
        ((lambda v: v, np.zeros(3), 2), ValueError, "start is 0"),
        ((lambda v: v, np.array([1, np.nan]), 2), ValueError, "start has nan"),
        ((lambda v: v, np.ones((3, 1)), 2), ValueError, "start has shape"),
        ((lambda v: v, np.ones(3), 0), ValueError, "steps"),
        ((lambda v: v[:2], np.ones(3), 2), ValueError, "product returned shape"),
        ((lambda v: v * np.inf, np.ones(3), 2), FloatingPointError, "product returned"),
        ((lambda v: v * 1j, np.ones(3), 2), TypeError, "product returned dtype complex128"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        lanczos(*arguments)


# The engine's runs on a net ----------------------------------------------------------------------


def case(dtype=np.float64, **settings):
    random = np.random.default_rng(7)
    net = MLP((3, 4, 2), dtype=dtype, **settings)
    w = random.standard_normal(net.parameter_count)
    x, y = random.standard_normal((9, 3)), random.standard_normal((9, 2))
    return net, w.astype(dtype), x.astype(dtype), y.astype(dtype)


def starts(net, count):
    return np.random.default_rng(3).standard_normal((count, net.parameter_count)).astype(net.dtype)


@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_runs_on_a_net_are_those_on_its_dense_matrix(matrix, count, dtype):
    net, w, x, y = case(dtype, l2=0.25)
    curvature = getattr(net.at(w, x, y), matrix)
    dense = curvature.dense().astype(np.float64)
    begin = starts(net, count)
    # Few steps: rounding grows as Ritz values converge.
    diagonal, off_diagonal = curvature.lanczos(begin, 4)
    assert diagonal.shape == (count, 4) and off_diagonal.shape == (count, 3)
    few = 2000 * np.finfo(dtype).eps * abs(dense).sum(axis=1).max()
    for run in range(count):
        expected = lanczos(product_of(dense), begin[run].astype(np.float64), 4)
        assert abs(diagonal[run] - expected.diagonal).max() <= few
        assert abs(off_diagonal[run] - expected.off_diagonal).max() <= few


def test_runs_over_batches_are_those_over_their_union():
    net, w, x, y = case()
    begin = starts(net, 2)
    whole = net.at(w, x, y).hessian.lanczos(begin, 4)
    parts = net.at(w, [(x[:4], y[:4]), (x[4:], y[4:])]).hessian.lanczos(begin, 4)
    for one, other in zip(whole, parts, strict=True):
        assert abs(one - other).max() <= 2000 * EPS * abs(one).max()


def test_one_run_is_a_vector():
    net, w, x, y = case()
    begin = starts(net, 1)
    single = net.at(w, x, y).hessian.lanczos(begin[0], 3)
    rows = net.at(w, x, y).hessian.lanczos(begin, 3)
    for one, other in zip(single, rows, strict=True):
        assert one.shape == other.shape[1:]
        assert np.array_equal(one, other[0])


@pytest.mark.parametrize(("dtype", "shift"), [(np.float64, 1000), (np.float32, 110)])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize("sign", [-1, 1])
def test_powers_of_two_scale_the_engines_runs_bit_by_bit(dtype, shift, batches, sign):
    net, w, x, y = case(dtype)
    begin, weights = starts(net, 3), np.full(9, 2.0 ** (sign * shift))

    def runs(weights):
        parts = [slice(0, 4), slice(4, 9)] if batches == 2 else [slice(0, 9)]
        data = [(x[i], y[i], weights[i].astype(dtype)) for i in parts]
        return net.at(w, data).hessian.lanczos(begin, 12)

    for plain, scaled in zip(runs(np.ones(9)), runs(weights), strict=True):
        assert np.array_equal(scaled, np.ldexp(plain, sign * shift))
        assert plain.all()  # no run ended early


def test_zeros_follow_an_invariant_space():
    net = MLP((2, 1), bias=False)
    point = net.at([1.0, 2.0], np.eye(2), [[3.0], [4.0]])
    diagonal, off_diagonal = point.hessian.lanczos([1.0, 1.0], 4)
    assert abs(diagonal - [1, 0, 0, 0]).max() <= 4 * EPS
    assert not off_diagonal.any()


def test_wrong_arguments_of_runs_are_named():
    net, w, x, y = case()
    point = net.at(w, x, y)
    good = starts(net, 2)
    for arguments, error, words in [
        ((good[:, 1:], 3), ValueError, "starts has shape"),
        ((np.zeros_like(good), 3), ValueError, "starts has a row that is 0"),
        ((good * np.nan, 3), ValueError, "starts has nan"),
        ((good, 0), ValueError, "steps"),
    ]:
        with pytest.raises(error, match=words):
            point.hessian.lanczos(*arguments)
    with pytest.raises(ValueError, match=r"the shift is 1j; Lanczos's method is for real"):
        (point.hessian + 1j).lanczos(good, 3)
    net, _, x, y = case()
    point = net.at(np.full(net.parameter_count, 1e200), x, y)
    with pytest.raises(FloatingPointError):
        point.hessian.lanczos(good, 3)


@pytest.mark.filterwarnings("error")
def test_a_function_of_the_matrix_is_right_wherever_the_result_is_in_range():
    # ‖start‖ is beyond float32, and √30 times more than the numbers that come out.
    start = np.full(30, 3e38, np.float32)
    result = lanczos(lambda v: 2 * v, start, 3).apply(lambda h: h / 2)
    np.testing.assert_allclose(result, start, rtol=1e-6)  # 10 units of float32's rounding
    beyond = lanczos(lambda v: np.array([1.0, 2.0]) * v, [1e308, 1e308], 2).apply(lambda h: h)
    np.testing.assert_allclose(beyond, [1e308, np.inf])


def test_a_function_of_the_matrix_that_is_not_real_is_refused():
    run = lanczos(lambda v: np.array([1.0, -2.0]) * v, [1.0, 1.0], 2)
    with pytest.raises(TypeError, match="^function returned dtype complex128; expected real"):
        run.apply(lambda h: np.sqrt(h.astype(complex)))
    endless = lanczos(lambda v: v, np.full(4, 1.7e308), 1)
    with pytest.raises(FloatingPointError, match="^norm is inf"):
        endless.apply(lambda h: h)
