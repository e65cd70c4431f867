"""Conjugate gradients and MINRES against dense solves and SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import linalg

from swiftnets import MLP
from swiftnets.linalg.krylov import cg, minres

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
    rest = np.linalg.norm(b - found.solution @ a, axis=1)
    assert np.allclose(found.residual_norms, rest, rtol=1e-3, atol=100 * EPS * 50)
    assert (rest <= 1e-11 * np.linalg.norm(b, axis=1) * 1.01).all()
    # ‖x − x*‖ ≤ ‖r‖ over the smallest eigenvalue, which is 1.
    assert np.allclose(
        found.solution, np.linalg.solve(a, b.T).T, rtol=0, atol=2e-11 * np.linalg.norm(b)
    )
    if preconditioned:
        assert (found.iterations < method(times(a), b, tolerance=1e-11).iterations).all()


def test_indefinite_systems():
    a, b = matrix(np.concatenate([np.linspace(-9, -1, 12), np.linspace(1, 20, 13)])), sides(2, 25)
    found = minres(times(a), b)
    assert found.converged.all()
    assert np.allclose(found.solution, np.linalg.solve(a, b.T).T, rtol=0, atol=1e-9)
    reported = cg(times(a), b)
    assert not reported.converged.any()
    assert set(reported.statuses) == {"negative curvature"}


@pytest.mark.parametrize("method", METHODS)
def test_several_right_hand_sides_are_one_by_one(method):
    a, b = matrix(np.linspace(1, 9, 20)), sides(4, 20)
    b[2] = 0
    b[3] = a[0]
    together = method(times(a), b)
    for k in range(4):
        alone = method(times(a), b[k])
        assert alone.iterations[0] == together.iterations[k]
        assert np.allclose(alone.solution, together.solution[k], rtol=1e-12, atol=1e-14)
    assert together.iterations[2] == 0
    assert together.statuses[2] == "converged"


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
    got = method(times(a), b, tolerance=1e-15, max_iterations=steps)
    assert got.statuses == ("iterations",)
    assert got.iterations[0] == steps
    assert np.allclose(got.solution, want, rtol=0, atol=1e-13 * abs(want).max() * 100)


def test_singular_systems_with_a_solution():
    a = matrix(np.concatenate([np.zeros(5), np.linspace(1, 5, 10)]))
    b = a @ sides(1, 15)[0]
    found = minres(times(a), b)
    assert found.converged.all()
    assert np.linalg.norm(b - a @ found.solution) <= 1.01e-10 * np.linalg.norm(b)
    # From 0 on, iterates stay in the range: the solution of minimum norm.
    assert np.allclose(found.solution, np.linalg.pinv(a, rcond=1e-10) @ b, atol=1e-8)
    none = minres(times(a), np.linalg.eigh(a)[1][:, 0])
    assert none.statuses == ("least squares",)
    assert np.linalg.norm(none.solution) < 1e-6  # the least-squares solution is 0


@pytest.mark.parametrize("start", [1e-6, 0.1, 100.0])
@pytest.mark.parametrize("spectrum", ["definite", "indefinite", "few"])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_singular_systems_without_a_solution_get_the_least_squares_one(
    start, spectrum, preconditioned
):
    rng = np.random.default_rng(0)
    values = {
        "definite": rng.uniform(1, 5, 20),
        "indefinite": rng.uniform(0.5, 5, 20) * rng.choice([-1, 1], 20),
        "few": rng.choice([1.0, 2.0, -3.0], 20),
    }[spectrum]
    a = matrix(np.concatenate([values, np.zeros(8)]))
    q = np.linalg.eigh(a)[1][:, np.argsort(abs(np.linalg.eigvalsh(a)))]
    null, range_ = q[:, :8], q[:, 8:]
    b = range_ @ rng.standard_normal(20) + start * null @ rng.standard_normal(8)
    options = {}
    if preconditioned:
        options["preconditioner"] = times(np.diag(rng.uniform(0.3, 3, 28)))
    found = minres(times(a), b, **options)
    assert found.statuses == ("least squares",)
    assert not found.converged.any()
    least = np.linalg.norm(null.T @ b)
    assert np.linalg.norm(b - a @ found.solution) == pytest.approx(least, rel=1e-6)
    if not preconditioned:
        # ‖A r‖ ≤ 1e-6 ‖A‖ ‖r‖ is all that is promised; eigenvalues are 0.5 at least.
        want = np.linalg.pinv(a, rcond=1e-8) @ b
        assert np.linalg.norm(found.solution - want) <= 1e-6 * 5 * np.linalg.norm(b) / 0.5


@pytest.mark.parametrize("seed", range(6))
def test_residuals_of_least_squares_are_told_as_they_are(seed):
    # Eigenvalues far below the largest: the part of x along the null space is not well known.
    rng = np.random.default_rng(seed)
    a = matrix(np.concatenate([10 ** rng.uniform(-7, 0, 8), np.zeros(4)]), seed)
    b = rng.standard_normal((3, 12))
    found = minres(times(a), b)
    true = np.linalg.norm(b - found.solution @ a, axis=1)
    noise = 12 * EPS * np.linalg.norm(a) * np.linalg.norm(found.solution, axis=1)
    assert (abs(true - found.residual_norms) <= noise).all()
    least = np.linalg.norm(b - b @ np.linalg.pinv(a, rcond=1e-12) @ a, axis=1)
    for k in range(3):
        assert true[k] <= np.linalg.norm(b[k])
        if found.statuses[k] == "least squares":
            assert true[k] <= least[k] * (1 + 1e-3)


def test_the_smallest_singular_system():
    a = np.diag([1.0, 0.0])
    found = minres(times(a), [1.0, -1.0])
    assert np.allclose(found.solution, [1, 0], rtol=0, atol=10 * EPS)
    assert found.statuses == ("least squares",) and found.residual_norms[0] == 1
    reported = cg(times(a), [1.0, -1.0])
    assert reported.statuses == ("singular",)
    assert np.linalg.norm(reported.solution) < 10


@pytest.mark.parametrize("seed", range(5))
def test_conjugate_gradients_tell_a_singular_matrix(seed):
    rng = np.random.default_rng(seed)
    a, b = matrix(np.concatenate([rng.uniform(1, 5, 20), np.zeros(4)]), seed), sides(1, 24)[0]
    reported = cg(times(a), b)
    assert reported.statuses == ("singular",)
    # No worse than 0, which it began with.
    assert np.linalg.norm(b - a @ reported.solution) <= np.linalg.norm(b)


@pytest.mark.parametrize("method", METHODS)
def test_edges(method):
    b = np.array([1.0, -2.0, 3.0])
    identity = method(lambda rows: rows, b)
    assert identity.converged.all() and identity.iterations[0] == 1
    assert np.array_equal(identity.solution, b)
    zero = method(lambda rows: 0 * rows, b)
    assert zero.statuses == (("singular",) if method is cg else ("least squares",))
    assert not zero.solution.any() and zero.residual_norms[0] == pytest.approx(np.linalg.norm(b))
    assert method(lambda rows: 4 * rows, [2.0]).solution == [0.5]
    if method is minres:
        assert minres(lambda rows: -4 * rows, [2.0]).solution == [-0.5]
    many = method(times(np.diag([1.0, 2.0])), np.random.default_rng(0).standard_normal((9, 2)))
    assert many.converged.all()
    # In an invariant subspace of one dimension, of two.
    a = matrix(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    vectors = np.linalg.eigh(a)[1]
    for count in (1, 2):
        found = method(times(a), vectors[:, :count].sum(axis=1))
        assert found.converged.all() and found.iterations[0] <= count + 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize(
    ("of_b", "of_a"), [(900, 0), (-900, 0), (0, 900), (0, -900), (450, -450), (-500, 400)]
)
def test_powers_of_two_scale_solutions_bit_by_bit(method, preconditioned, of_b, of_a):
    signs = 1 if method is cg else np.tile([1, -1], 8)
    a, b = matrix(np.linspace(1, 30, 16) * signs), sides(2, 16)
    m = np.diag(np.linspace(0.5, 2, 16))

    def run(e, f):
        # M is of the size of A.
        inverse = {"preconditioner": times(np.ldexp(m, -f))} if preconditioned else {}
        return method(times(np.ldexp(a, f)), np.ldexp(b, e), **inverse)

    plain, scaled = run(0, 0), run(of_b, of_a)
    assert plain.converged.all() and scaled.statuses == plain.statuses
    assert np.array_equal(scaled.iterations, plain.iterations)
    assert np.array_equal(scaled.solution, np.ldexp(plain.solution, of_b - of_a))
    assert np.array_equal(scaled.residual_norms, np.ldexp(plain.residual_norms, of_b))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-150, 1e150, 1e300])
def test_any_size_of_matrix_and_right_hand_side(method, size):
    a, b = matrix(np.linspace(1, 30, 16)), sides(1, 16)[0]
    want = np.linalg.solve(a, b)
    few = 1e-10 * np.linalg.norm(b)  # the tolerance, over the smallest eigenvalue
    for scale_a, scale_b in [(1.0, size), (size, 1.0), (size, size)]:
        found = method(times(a * scale_a), b * scale_b)
        assert found.converged.all(), found
        assert np.linalg.norm(found.solution / (scale_b / scale_a) - want) <= 1.01 * few
    singular = minres(times(np.diag([size, 0.0])), [size, -size])
    assert singular.statuses == ("least squares",)
    assert np.allclose(singular.solution, [1, 0], rtol=0, atol=10 * EPS)


@pytest.mark.parametrize("method", METHODS)
def test_solutions_beyond_float64_have_not_converged(method):
    for scale_a, scale_b in [(1e-300, 1e300), (1e300, 1e-300)]:
        found = method(lambda rows, scale_a=scale_a: scale_a * rows, [scale_b, scale_b])
        assert found.statuses == ("out of range",) and not found.converged.any()
        assert not found.residual_norms[0] < 1e-10 * scale_b


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_arrays_of_the_caller_stay_as_they_are(method, preconditioned):
    a, b = matrix(np.linspace(1, 50, 12)), sides(1, 12)[0]
    seen = []

    def function(matrix):
        def call(rows):
            result = rows @ matrix
            result.flags.writeable = False  # as JAX's are
            seen.extend([(rows, rows.copy()), (result, result.copy())])
            return result

        return call

    def destructive(matrix):
        def call(rows):
            rows @= matrix
            return rows

        return call

    def run(made):
        options = {"preconditioner": made(np.diag(np.linspace(1, 2, 12)))} if preconditioned else {}
        return method(made(a), b, **options)

    want = run(times)
    for made in (function, destructive):
        assert np.array_equal(run(made).solution, want.solution)
    assert all(np.array_equal(now, then) for now, then in seen)


@pytest.mark.parametrize("method", METHODS)
def test_an_identity_that_returns_its_argument(method):
    a, b = matrix(np.linspace(1, 50, 12)), sides(1, 12)[0]
    found = method(times(a), b, preconditioner=lambda rows: rows)
    assert found.converged.all()
    assert np.allclose(found.solution, np.linalg.solve(a, b), rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_preconditioned_minres_does_not_stop_short(seed):
    # Its own estimate of the residual is in another norm.
    rng = np.random.default_rng(seed)
    a = matrix(rng.uniform(0.1, 10, 40) * rng.choice([-1, 1], 40), seed)
    inverse = np.diag(10 ** rng.uniform(-2, 2, 40))
    found = minres(times(a), rng.standard_normal(40), preconditioner=times(inverse))
    assert found.converged.all(), found


@pytest.mark.parametrize("method", METHODS)
def test_a_preconditioner_that_is_not_positive_definite_is_told(method):
    a, b = matrix(np.linspace(1, 5, 8)), sides(1, 8)[0]
    for inverse in (-np.eye(8), np.diag([1.0, 1, 1, 1, -1, 1, 1, 1])):
        reported = method(times(a), b, preconditioner=times(inverse))
        assert reported.statuses == ("indefinite preconditioner",)


@pytest.mark.parametrize("method", METHODS)
def test_a_callback_ends_it(method):
    a, b = matrix(np.linspace(1, 50, 30)), sides(2, 30)
    seen = []
    found = method(times(a), b, callback=lambda *step: seen.append(step) or len(seen) == 5)
    assert found.statuses == ("stopped",) * 2
    assert [steps for steps, _ in seen] == [1, 2, 3, 4, 5]
    reported = (found.residual_norms / np.linalg.norm(b, axis=1)).max()
    assert seen[-1][1] == pytest.approx(reported, rel=1e-8)


def test_rounding_ends_it():
    a, b = matrix(np.logspace(0, 10, 20)), sides(1, 20)[0]
    found = cg(times(a), b, tolerance=1e-18, max_iterations=10000)
    assert found.statuses in [("stagnated",), ("iterations",), ("negative curvature",)]
    # Residuals are those of x, to the rounding of a product.
    rest = np.linalg.norm(b - a @ found.solution)
    noise = 20 * EPS * 1e10 * np.linalg.norm(found.solution)
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
    assert np.linalg.norm(b - a @ found.solution) <= 1.01e-9 * np.linalg.norm(b)
    if definite:
        assert cg(times(a), b, tolerance=1e-9).converged.all()


def test_hessians_of_nets():
    net = MLP((3, 5, 2))
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), net.initial(0)
    point, b = net.at(w, x, y), rng.standard_normal((2, net.parameter_count))
    found = minres(lambda rows: (rows @ point.hessian) + 0.2 * rows, b)
    h = net.hessian(w, x, y) + 0.2 * np.eye(net.parameter_count)
    assert found.converged.all()
    assert np.linalg.norm(b - found.solution @ h) <= 1.01e-10 * np.linalg.norm(b)


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
    with pytest.raises(ValueError, match="max_iterations"):
        method(times(a), b, max_iterations=0)
    with pytest.raises(ValueError, match="product returned shape"):
        method(lambda rows: rows[:, :2], b)
    with pytest.raises(FloatingPointError, match="product"):
        method(lambda rows: rows * np.nan, b)
    with pytest.raises(FloatingPointError, match="product"):
        method(lambda rows: rows * np.inf, b)
    with pytest.raises(TypeError, match="product returned dtype complex128"):
        method(lambda rows: rows * 1j, b)
    with pytest.raises(TypeError, match="callback is of type int"):
        method(times(a), b, callback=3)
    with pytest.raises(ValueError, match="preconditioner returned shape"):
        method(times(a), b, preconditioner=lambda rows: rows[0])


def test_a_result_says_in_words_how_it_ended():
    found = cg(lambda rows: rows * [1.0, 2.0], np.ones((2, 2)))
    assert found.message.startswith("2 of 2 right-hand sides have converged; the residual is at")
    found = cg(lambda rows: rows * [1.0, -2.0], [1.0, 1.0])
    assert found.message == "A is not positive semidefinite, after 1 step at most"
    found = minres(lambda rows: rows * [1.0, 0.0], [1.0, 1.0])
    assert found.message.startswith("A is singular to rounding, and b is not in its range")
