"""`MLP.solve` against NumPy's dense solves."""

import itertools

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.linalg import Inertia, krylov
from swiftnets.solve import ladder
from swiftnets.solve.choice import expected_steps
from swiftnets.solve.system import System

EPS = np.finfo(float).eps
NETS = {
    "deep tanh": ((4, 5, 3, 4, 2), "tanh", "squared_error", True),
    "leaky": ((5, 4, 3), "relu", "squared_error", False),
    "softmax": ((3, 4, 4, 3), "sine", "softmax_cross_entropy", True),
    "one layer": ((4, 3), "tanh", "binary_cross_entropy", True),
}
METHODS = ["auto", "layered", "dense", "cg", "minres"]


def problem(name: str, samples: int, **options):
    sizes, activation, loss, bias = NETS[name]
    net = MLP(sizes, activation=activation, loss=loss, bias=bias, **options)
    rng = np.random.default_rng(samples)
    x = rng.standard_normal((samples, sizes[0]))
    y = rng.dirichlet(np.ones(sizes[-1]), samples)
    return net, net.initial(seed=3) * 1.5, x, y


def exact(net, w, x, y, b, damping, keep=lambda h: h):
    h = keep(net.hessian(w, x, y).astype(float)) + damping * np.eye(net.parameter_count)
    return np.linalg.solve(h, np.asarray(b, float).T).T, h


def blocks_of(net):
    def keep(h):
        result = np.zeros_like(h)
        for part in net.layer_slices:
            result[part, part] = h[part, part]
        return result

    return keep


def definite_damping(net, w, x, y):
    return 0.1 - min(0.0, float(np.linalg.eigvalsh(net.hessian(w, x, y))[0]))


KINDS = ["definite", "indefinite", "tiny"]
CASES = [
    case
    for case in itertools.product(NETS, [2, 9], KINDS, METHODS)
    if case[3] != "cg" or case[2] == "definite"
]
BLOCK_CASES = [("auto", None), ("dense", None)] + list(
    itertools.product(["cg", "minres"], [None, "diagonal", "kronecker"])
)


@pytest.mark.parametrize(("name", "samples", "kind", "method"), CASES)
def test_solutions_are_those_of_the_dense_hessian(name, samples, kind, method):
    net, w, x, y = problem(name, samples)
    damping = {"definite": definite_damping(net, w, x, y), "indefinite": -0.05, "tiny": 1e-3}[kind]
    eigenvalues = np.linalg.eigvalsh(net.hessian(w, x, y)) + damping
    b = np.random.default_rng(1).standard_normal((2, net.parameter_count))
    found = net.solve(w, x, y, b, damping=damping, method=method, tolerance=1e-9)
    want, h = exact(net, w, x, y, b, damping)
    assert found.success, found
    # Residuals are true, and x is off by no more than they allow: ‖x − x*‖ ≤ ‖r‖ / min|eigenvalue|;
    # NumPy's own solution is off by roundings times the condition.
    rest = np.linalg.norm(b - found.solution @ h, axis=1)
    noise = len(h) * EPS * abs(eigenvalues).max() * np.linalg.norm(found.solution, axis=1)
    assert (abs(rest - found.residual_norms) <= 10 * noise).all()
    smallest = abs(eigenvalues).min()
    slack = 2 * (found.residual_norms + 10 * noise) / smallest
    assert (np.linalg.norm(found.solution - want, axis=1) <= slack).all()
    if found.inertia is not None:
        signs = ((eigenvalues > 0).sum(), (eigenvalues < 0).sum())
        assert (found.inertia.positive, found.inertia.negative) == signs
        logs = np.linalg.slogdet(h)[1]
        # Each pivot is right to roundings times the condition number.
        wrong = len(h) ** 2 * EPS * abs(eigenvalues).max() / smallest
        assert abs(found.log_determinant - logs) <= 100 * wrong


@pytest.mark.parametrize(("method", "preconditioner"), BLOCK_CASES)
@pytest.mark.parametrize("name", NETS)
def test_single_layers(name, method, preconditioner):
    net, w, x, y = problem(name, 6)
    damping = definite_damping(net, w, x, y)
    b = np.random.default_rng(1).standard_normal((2, net.parameter_count))
    found = net.solve(
        w, x, y, b, damping=damping, method=method, block="diagonal", preconditioner=preconditioner
    )
    want, h = exact(net, w, x, y, b, damping, blocks_of(net))
    assert found.success
    rest = np.linalg.norm(b - found.solution @ h, axis=1)
    assert (rest <= 2e-10 * np.linalg.norm(b, axis=1)).all()
    assert np.allclose(found.solution, want, rtol=0, atol=2e-10 * np.linalg.norm(b) / 0.05)
    if method == "dense":
        assert found.inertia.positive == net.parameter_count
        assert np.isclose(found.log_determinant, np.linalg.slogdet(h)[1], rtol=1e-9)


@pytest.mark.parametrize("preconditioner", ["diagonal", "kronecker", "callable"])
def test_preconditioners_leave_the_solution_and_save_steps(preconditioner):
    net, w, x, y = problem("leaky", 9)
    # Inputs of very unlike scales: what the diagonal and the Kronecker factors see.
    x = x * np.logspace(-2, 2, x.shape[1])
    h = net.hessian(w, x, y)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    damping = definite_damping(net, w, x, y)
    plain = net.solve(w, x, y, b, damping=damping, method="cg", block="diagonal")
    matrix = blocks_of(net)(h) + damping * np.eye(len(h))
    choice = preconditioner
    if preconditioner == "callable":
        inverse = np.linalg.inv(matrix)

        def choice(rows):
            return rows @ inverse

    found = net.solve(
        w, x, y, b, damping=damping, method="cg", block="diagonal", preconditioner=choice
    )
    assert found.success and plain.success
    assert np.linalg.norm(b - matrix @ found.solution) <= 1e-10 * np.linalg.norm(b) * 1.01
    assert found.iterations[0] < plain.iterations[0]
    if preconditioner == "callable":
        assert found.iterations[0] <= 3  # the exact inverse, but for rounding


def test_kronecker_factors_are_exact_for_one_sample():
    for name in NETS:
        net, w, x, y = problem(name, 1)
        v = np.random.default_rng(0).standard_normal((3, net.parameter_count))
        point = net.at(w, x, y)
        h = blocks_of(net)(point.gauss_newton.dense()) + 0.3 * np.eye(net.parameter_count)
        got = kronecker_factors(point).inverse(0.3)(v)
        # Eigendecompositions of semidefinite factors: errors of a few EPS ‖A‖‖G‖ over 0.3.
        size = np.linalg.norm(h, 2) / 0.3
        assert np.allclose(got, np.linalg.solve(h, v.T).T, rtol=0, atol=100 * EPS * size**2)


def test_factors_average_over_samples():
    net, w, x, y = problem("softmax", 7)
    factors = kronecker_factors(net.at(w, x, y))
    whole = np.column_stack([x, np.ones(7)])
    assert np.allclose(factors.inputs[0], whole.T @ whole / 7, rtol=1e-14)
    # The sum over samples of each one's own curvature.
    one_by_one = sum(
        kronecker_factors(net.at(w, x[k : k + 1], y[k : k + 1])).outputs[1] for k in range(7)
    )
    assert np.allclose(factors.outputs[1], one_by_one, rtol=1e-12)


def test_a_singular_hessian():
    # A net whose output does not depend on its weights: H = 0.
    net = MLP((2, 2), loss="squared_error", bias=False)
    x, y = np.zeros((3, 2)), np.ones((3, 2))
    b = np.ones(4)
    for method in ("dense", "layered", "auto"):
        solution = None
        try:
            solution = net.solve([0.0] * 4, x, y, b, damping=0.0, method=method)
        except np.linalg.LinAlgError as error:
            assert "singular" in str(error)
        if solution is not None:
            assert not solution.success
            assert "converged" not in solution.statuses
    # Consistent right-hand sides of a singular matrix are for MINRES, and "layered" ends there.
    net, w, x, y = problem("leaky", 2)
    b = net.hessian(w, x, y) @ np.random.default_rng(0).standard_normal(net.parameter_count)
    for method in ("minres", "layered"):
        solution = net.solve(w, x, y, b, damping=0.0, method=method, tolerance=1e-8)
        assert solution.success, solution
        rest = b - net.hessian(w, x, y) @ solution.solution
        assert np.linalg.norm(rest) <= 1.01e-8 * np.linalg.norm(b)


def test_conjugate_gradients_tell_negative_curvature():
    net, w, x, y = problem("deep tanh", 5)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=-0.05, method="cg")
    assert not solution.success
    assert solution.statuses == ("negative curvature",) and solution.status == "negative curvature"
    limited = net.solve(w, x, y, b, damping=-0.05, method="minres", max_iterations=3)
    assert limited.statuses == ("iterations",)
    assert limited.iterations[0] == 3


def test_layered_goes_down_its_ladder_where_it_is_inaccurate():
    # Nearly singular: the dual form divides by λ, and its residual does not fall.
    net, w, x, y = problem("deep tanh", 2)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=1e-13, method="layered", tolerance=1e-14)
    assert "layered" in solution.message
    assert solution.method != "layered" or solution.success or "primal" in solution.message


def test_auto_says_why():
    net, w, x, y = problem("deep tanh", 5)
    b = np.ones(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=0.1)
    assert solution.method in solution.message
    assert "operations" in solution.message
    # Well conditioned and wide: a few products do.
    wide = MLP((40, 60, 40), bias=False)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 40)), rng.standard_normal((200, 40))
    w = wide.initial(seed=0)
    solution = wide.solve(w, x, y, np.ones(wide.parameter_count), damping=1e6)
    assert solution.method == "cg"
    assert solution.success


def test_float32_weights_l2_batches_and_zero():
    net, w, x, y = problem("deep tanh", 6, dtype=np.float32, l2=0.2)
    double = problem("deep tanh", 6, l2=0.2)[0]
    b = np.random.default_rng(1).standard_normal(net.parameter_count).astype(np.float32)
    weights = np.arange(1.0, 7.0)
    want, _ = exact(double, w, x, y, b, 0.0)
    got = net.solve(w, x.astype(np.float32), y.astype(np.float32), b, damping=0.0)
    assert got.solution.dtype == np.float32
    assert got.success
    # Inputs and solution are rounded to float32; the condition number is below 100 here.
    assert np.allclose(
        got.solution, want, rtol=0, atol=1e3 * np.finfo(np.float32).eps * abs(want).max()
    )
    h = double.hessian(w, x, y, sample_weight=weights) + 0.5 * np.eye(len(b))
    whole = double.solve(w, x, y, b, damping=0.5, sample_weight=weights)
    batches = [(x[:2], y[:2], weights[:2]), (x[2:], y[2:], weights[2:])]
    assert np.allclose(whole.solution, np.linalg.solve(h, b), rtol=0, atol=1e-9)
    assert np.allclose(
        double.solve(w, batches, None, b, damping=0.5).solution, whole.solution, atol=1e-9
    )
    nothing = double.solve(w, x, y, np.zeros(len(b)), damping=0.5)
    assert not nothing.solution.any()
    assert nothing.success


# Residuals that are true --------------------------------------------------------------------------

SLOPES = {
    "tanh": (np.tanh, lambda a: 1 / np.cosh(a) ** 2, lambda a: -2 * np.tanh(a) / np.cosh(a) ** 2),
    "sine": (np.sin, np.cos, lambda a: -np.sin(a)),
    "relu": (lambda a: np.maximum(a, 0), lambda a: (a > 0) * a / a, lambda a: 0 * a),
    "identity": (lambda a: a, lambda a: a / a, lambda a: 0 * a),
}


def extended_product(net, w, x, y, v):
    """H v of a net with biases and squared errors, in the extended precision of long doubles."""
    w, x, y, v = (np.asarray(a, np.longdouble) for a in (w, x, y, v))
    shapes = [(m + 1, n) for m, n in itertools.pairwise(net.sizes)]
    weights = [w[p].reshape(s) for p, s in zip(net.layer_slices, shapes, strict=True)]
    moves = [v[p].reshape(s) for p, s in zip(net.layer_slices, shapes, strict=True)]
    ones = np.ones((len(x), 1), np.longdouble)
    z, dz, kept = x, 0 * x, []
    for layer, (m, dm) in enumerate(zip(weights, moves, strict=True)):
        f, d, dd = SLOPES[net.activations[layer].name]
        z, dz = np.hstack([z, ones]), np.hstack([dz, 0 * ones])
        a, da = z @ m, dz @ m + z @ dm
        kept.append((z, dz, d(a), dd(a), da))
        z, dz = f(a), d(a) * da
    g, dg = z - y, dz
    parts = []
    for (z, dz, d, dd, da), m, dm in zip(kept[::-1], weights[::-1], moves[::-1], strict=True):
        delta, ddelta = d * g, dd * da * g + d * dg
        parts.append((dz.T @ delta + z.T @ ddelta).ravel())
        g, dg = (delta @ m.T)[:, :-1], (ddelta @ m.T + delta @ dm.T)[:, :-1]
    return np.concatenate(parts[::-1])


def random_case(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, rng.integers(2, 6)).tolist()
    net = MLP(sizes, activation=str(rng.choice(list(SLOPES))))
    w = net.initial(seed=seed) * rng.choice([0.3, 1.0, 3.0])
    x = rng.standard_normal((rng.integers(1, 9), sizes[0])) * rng.choice([0.1, 1.0, 10.0])
    y = rng.standard_normal((len(x), sizes[-1]))
    return rng, net, w, x, y, rng.standard_normal(net.parameter_count)


@pytest.mark.parametrize("method", ["auto", "layered", "dense", "minres"])
@pytest.mark.parametrize("tolerance", [1e-13, 1e-12, 1e-10])
def test_successes_hold_in_extended_precision(method, tolerance):
    successes = 0
    for seed in range(25):
        rng, net, w, x, y, b = random_case(seed)
        damping = float(rng.choice([0, 1e-8, 1e-4, 0.1, -0.37]))
        try:
            found = net.solve(w, x, y, b, damping=damping, method=method, tolerance=tolerance)
        except np.linalg.LinAlgError:
            continue
        if found.success:
            rest = (
                b
                - extended_product(net, w, x, y, found.solution)
                - np.longdouble(damping) * found.solution
            )
            true = float(np.sqrt((rest**2).sum()))
            successes += 1
            assert true <= tolerance * np.linalg.norm(b), (seed, found)
            assert true <= found.residual_norms[0], (seed, found)
    assert successes >= 3


def test_the_residual_of_float32_solutions_is_that_of_what_is_returned():
    net, w, x, y = problem("deep tanh", 6, dtype=np.float32)
    double = problem("deep tanh", 6)[0]
    w, x, y = w.astype(np.float32), x.astype(np.float32), y.astype(np.float32)
    b = np.random.default_rng(1).standard_normal(net.parameter_count).astype(np.float32)
    h = double.hessian(w, x, y)
    for damping, tolerance in [(0.1, None), (0.1, 1e-10), (1e-4, None), (1e-7, None)]:
        found = net.solve(w, x, y, b, damping=damping, tolerance=tolerance, method="dense")
        assert found.solution.dtype == np.float32
        rest = b - h @ found.solution.astype(float) - damping * found.solution.astype(float)
        told = found.relative_residuals[0]
        assert told == pytest.approx(np.linalg.norm(rest) / np.linalg.norm(b), rel=1e-3)
        assert found.success == (told <= (tolerance or 1e-4))
        if not found.success:
            assert found.statuses == ("rounding",)
    # Beyond float32, but not beyond float64.
    found = net.solve(w, x, y, np.full(len(b), 3e38, np.float32), damping=1e-3)
    assert not np.isfinite(found.solution).all()
    assert not found.success and found.statuses == ("out of range",)
    assert found.residual_norms[0] == np.inf


# Any size -----------------------------------------------------------------------------------------


def test_a_tiny_right_hand_side_is_not_0():
    found = MLP((1, 1)).solve([1, 0], [[1.0]], [[0.0]], [1e-170, 2e-170], damping=1.0)
    assert found.success
    # (2 1; 1 2) x = (1, 2) 1e-170.
    assert np.allclose(found.solution / 1e-170, [0, 1], rtol=0, atol=8 * EPS)


@pytest.mark.parametrize("method", ["auto", "layered", "dense", "minres"])
@pytest.mark.parametrize("e", [-1000, -500, 500, 1000])
def test_powers_of_two_scale_solutions_bit_by_bit(method, e):
    net, w, x, y = problem("deep tanh", 6)
    b = np.random.default_rng(1).standard_normal((2, net.parameter_count))
    plain = net.solve(w, x, y, b, damping=0.5, method=method)
    assert plain.success
    of_b = net.solve(w, x, y, np.ldexp(b, e), damping=0.5, method=method)
    weights = np.full(6, 2.0**e)
    of_a = net.solve(w, x, y, b, damping=0.5 * 2.0**e, method=method, sample_weight=weights)
    for found, shift in [(of_b, e), (of_a, -e)]:
        assert found.statuses == plain.statuses
        assert np.array_equal(found.solution, np.ldexp(plain.solution, shift))
        assert np.array_equal(found.relative_residuals, plain.relative_residuals)
        assert found.inertia == plain.inertia


@pytest.mark.parametrize("method", ["layered", "dense", "minres"])
@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e300])
def test_any_size_of_hessian_and_right_hand_side(method, size):
    net, w, x, y = problem("deep tanh", 6)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    want, h = exact(net, w, x, y, b, 0.5)
    # ‖x − x*‖ ≤ ‖r‖ over the eigenvalue next to 0.
    allowed = 1.01e-10 * np.linalg.norm(b) / abs(np.linalg.eigvalsh(h)).min()
    for of_a, of_b in [(size, 1.0), (1.0, size), (size, size)]:
        weights = np.full(6, of_a)
        found = net.solve(
            w, x, y, b * of_b, damping=0.5 * of_a, method=method, sample_weight=weights
        )
        assert found.success, found
        assert np.linalg.norm(found.solution / (of_b / of_a) - want) <= allowed


@pytest.mark.parametrize("method", ["auto", "layered", "minres"])
def test_solutions_within_range_though_b_over_the_hessian_is_not(method):
    net = MLP((1, 1), bias=False)  # H = x²
    for x, b in [(1e-155, 1e-295), (1e-150, 1e-320), (1e150, 1e300), (1e-150, 1e8)]:
        found = net.solve([0.0], [[x]], [[0.0]], [b], damping=0.0, method=method)
        assert found.success, found
        assert found.solution[0] == pytest.approx(b / x / x, rel=1e-9)
    # Beyond float64, or with but a few digits.
    for x, b in [(1e-150, 1e20), (1e154, 1e-10)]:
        found = net.solve([0.0], [[x]], [[0.0]], [b], damping=0.0, method=method)
        assert not found.success and found.statuses == ("out of range",)


# Singular matrices, and what is known of them -----------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "layered", "minres"])
def test_a_singular_hessian_gives_least_squares_where_nothing_solves(method):
    net, w, x, y = problem("leaky", 2)
    h = net.hessian(w, x, y)
    b = np.random.default_rng(0).standard_normal(len(h))
    found = net.solve(w, x, y, b, damping=0.0, method=method)
    values, vectors = np.linalg.eigh(h)
    null = vectors[:, abs(values) < 1e-10 * abs(values).max()]
    assert null.shape[1] > 0
    assert found.statuses == ("least squares",) and not found.success
    assert found.residual_norms[0] == pytest.approx(np.linalg.norm(null.T @ b), rel=1e-6)
    assert "least squares" in repr(found) and "not converged" in repr(found)
    assert found.inertia is None or found.inertia.zero > 0


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("samples", [1, 2, 5])
def test_auto_solves_consistent_systems_without_damping(name, samples):
    net, w, x, y = problem(name, samples)
    b = net.hvp(w, x, y, np.random.default_rng(0).standard_normal(net.parameter_count))
    found = net.solve(w, x, y, b, damping=0.0, tolerance=1e-8)
    assert found.success, found
    rest = b - net.hvp(w, x, y, found.solution)
    assert np.linalg.norm(rest) <= 1e-8 * np.linalg.norm(b)


def test_inertia_is_known_on_request_and_none_is_explained():
    net, w, x, y = problem("leaky", 9)
    b = np.random.default_rng(0).standard_normal(net.parameter_count)
    values = np.linalg.eigvalsh(net.hessian(w, x, y)) + 0.3
    signs = ((values > 0).sum(), (values < 0).sum())
    for method in ("auto", "layered", "dense"):
        for right in (b, 0 * b):
            found = net.solve(w, x, y, right, damping=0.3, method=method, inertia=True)
            assert found.success and found.method in ("layered", "dense")
            assert (found.inertia.positive, found.inertia.negative) == signs
    blocks = net.solve(w, x, y, b, damping=0.3, block="diagonal", inertia=True)
    assert blocks.inertia is not None
    for method in ("cg", "minres"):
        with pytest.raises(ValueError, match="inertia is for"):
            net.solve(w, x, y, b, damping=0.3, method=method, inertia=True)
    found = net.solve(w, x, y, b, damping=0.3, method="minres")
    assert found.inertia is None and found.log_determinant is None
    assert "inertia not known, as nothing was factored" in repr(found)
    found = net.solve(w, x, y, 0 * b, damping=0.3, method="dense")
    assert "inertia not known, as nothing was factored" in repr(found)


def test_a_complex_damping_is_refused_with_what_takes_one():
    net = MLP((2, 1))
    hessian = net.at(net.initial(0), [[1.0, 2.0]], [[1.0]]).hessian
    with pytest.raises(
        TypeError, match=r"damping is 1j; expected a real .* \(matrix \+ 1j\).factor"
    ):
        hessian.solve([1.0, 1.0, 1.0], damping=1j)


class WrongFactors:
    """Of another matrix, which they say nothing about."""

    inertia, log_determinant = Inertia(40, 0, 0), 1.0
    operations = solve_operations = 1.0

    def __init__(self, *_: object):
        pass

    def solve(self, b):
        return -b


class SingularFactors(WrongFactors):
    inertia, log_determinant = Inertia(30, 5, 5), -np.inf

    def solve(self, b):
        raise np.linalg.LinAlgError("singular")


def test_factors_that_do_not_solve_tell_no_inertia(monkeypatch):
    net, w, x, y = problem("leaky", 9)
    b = np.random.default_rng(0).standard_normal(net.parameter_count)
    monkeypatch.setattr(ladder, "LayeredFactorization", WrongFactors)
    monkeypatch.setattr(ladder, "dense_factors", WrongFactors)
    found = net.solve(w, x, y, b, damping=0.3, method="layered")
    assert found.success and found.method == "minres"
    assert found.inertia is None and found.log_determinant is None
    with pytest.raises(np.linalg.LinAlgError, match="inertia is not found"):
        net.solve(w, x, y, b, damping=0.3, method="layered", inertia=True)


def test_a_zero_that_factors_count_is_told(monkeypatch):
    net, w, x, y = problem("leaky", 9)
    b = np.random.default_rng(0).standard_normal(net.parameter_count)
    monkeypatch.setattr(ladder, "LayeredFactorization", SingularFactors)
    found = net.solve(w, x, y, b, damping=0.3, method="layered")
    assert found.method == "minres" and "singular" in found.message and "dense" not in found.message
    assert found.inertia.zero == 5 and found.log_determinant == -np.inf


# Limits -------------------------------------------------------------------------------------------


def wide_problem():
    net = MLP((40, 30, 10), loss="softmax_cross_entropy", reduction="mean")
    rng = np.random.default_rng(0)
    x, y = rng.random((50, 40)), rng.integers(0, 10, 50)
    return net, net.initial(seed=0), x, y, rng.standard_normal(net.parameter_count)


@pytest.mark.parametrize("method", ["auto", "minres"])
def test_the_time_limit_returns_what_there_is(method, monkeypatch):
    net, w, x, y, b = wide_problem()
    clock = itertools.count(0.0, 0.01)  # seconds, at each look
    monkeypatch.setattr(ladder.time, "perf_counter", lambda: next(clock))
    found = net.solve(w, x, y, b, damping=1e-3, method=method, time_limit=2.0)
    assert not found.success and found.statuses == ("time",)
    assert found.relative_residuals[0] < 0.9  # not nothing
    rest = b - net.hvp(w, x, y, found.solution) - 1e-3 * found.solution
    assert found.residual_norms[0] == pytest.approx(np.linalg.norm(rest), rel=1e-9)
    over = net.solve(w, x, y, b, damping=1e-3, method=method, time_limit=1e-9)
    assert over.statuses == ("time",) and not over.solution.any()
    assert over.relative_residuals[0] == 1


def test_krylov_methods_have_a_limit_of_their_own(monkeypatch):
    net, w, x, y, b = wide_problem()
    monkeypatch.setattr(krylov, "_MOST_ITERATIONS", 20)
    found = net.solve(w, x, y, b, damping=1e-3, method="minres")
    assert found.statuses == ("iterations",) and found.iterations[0] == 20


def test_progress_is_told(capsys):
    net, w, x, y, b = wide_problem()
    net.solve(w, x, y, b, damping=1e-3, method="minres", max_iterations=30, progress=True)
    assert "relative residual" in capsys.readouterr().err
    net.solve(w, x, y, b, damping=1e-3, method="minres", max_iterations=30)
    assert not capsys.readouterr().err


def test_the_steps_expected_are_a_lower_bound_for_indefinite_matrices():
    # H + λ crosses 0 amid a crowd of eigenvalues, and λ alone suggests half as many.
    net, w, x, y, b = wide_problem()
    system = System(net.at(w, x, y).hessian + 0.1, b, tolerance=1e-10)
    is_definite, steps, _ = expected_steps(system)
    found = net.solve(w, x, y, b, damping=0.1, method="minres")
    assert not is_definite and found.success
    assert 0.4 * found.iterations[0] <= steps <= found.iterations[0]


def test_products_that_are_not_finite_are_named():
    net = MLP((1, 1, 1), activation="identity")
    w = np.array([1e160, 0.0, 1e160, 0.0])
    for method in ("auto", "layered", "dense", "minres"):
        with pytest.raises((FloatingPointError, np.linalg.LinAlgError)):
            net.solve(w, [[1.0]], [[0.0]], np.ones(4), damping=1.0, method=method)


def test_bad_arguments():
    net, w, x, y = problem("leaky", 3)
    b = np.ones(net.parameter_count)
    for options, words in [
        ({"method": "lu"}, "method"),
        ({"block": "all"}, "block"),
        ({"block": "diagonal", "method": "layered"}, "block"),
        ({"preconditioner": "jacobi", "method": "cg"}, "preconditioner"),
        ({"preconditioner": "diagonal"}, "preconditioner"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"max_iterations": 0, "method": "cg"}, "max_iterations"),
        ({"damping": np.nan}, "damping"),
        ({"time_limit": 0.0}, "time_limit"),
    ]:
        with pytest.raises(ValueError, match=words):
            net.solve(w, x, y, b, **{"damping": 1.0, **options})
    for method in METHODS:
        for name, arguments in [("w", (w * np.nan, x, y)), ("x", (w, x * np.inf, y))]:
            with pytest.raises(ValueError, match=f"^{name} has"):
                net.solve(*arguments, b, damping=1.0, method=method)
    with pytest.raises(TypeError, match="b is None"):
        net.solve(w, x, y, damping=1.0)
    with pytest.raises(ValueError, match="b has shape"):
        net.solve(w, x, y, b[:-1], damping=1.0)
    with pytest.raises(ValueError, match="b has inf"):
        net.solve(w, x, y, b * np.inf, damping=1.0)
    with pytest.raises(ValueError, match="damping"):
        kronecker_factors(net.at(w, x, y)).inverse(0.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e308, 1e-308])
def test_the_kronecker_inverse_does_not_depend_on_the_unit_of_the_vector(scale):
    net = MLP((3, 4, 2))
    w, x, y = net.initial(seed=0), np.eye(3), np.ones((3, 2))
    inverse = kronecker_factors(net.at(w, x, y)).inverse(10.0)
    v = np.ones(net.parameter_count)
    # 1e-308 itself has a rounding of 2⁻¹⁰⁷⁴, some 1e-15 of the result.
    np.testing.assert_allclose(inverse(scale * v) / scale, inverse(v), rtol=1e-13)


def test_asking_for_the_inertia_is_true_or_false():
    net = MLP((2, 1))
    with pytest.raises(TypeError, match="^inertia is 'no'; expected True or False"):
        net.solve(np.ones(3), np.eye(2), np.ones((2, 1)), np.ones(3), damping=1.0, inertia="no")


@pytest.mark.parametrize("method", ["layered", "dense", "minres"])
def test_probabilities_of_one_are_solved_for(method):
    net = MLP((2, 3, 4), loss="binary_cross_entropy")
    w, x, y = net.initial(seed=0), np.eye(2), np.ones((2, 4))
    b = np.arange(1.0, net.parameter_count + 1)
    solution = net.solve(w, x, y, b, damping=2.0, method=method)
    assert solution.success
    matrix = net.hessian(w, x, y) + 2 * np.eye(len(b))
    # b − A x in NumPy rounds by P roundings of |A| |x|.
    slack = len(b) * np.finfo(float).eps * np.linalg.norm(abs(matrix) @ abs(solution.solution))
    assert np.linalg.norm(b - matrix @ solution.solution) <= solution.residual_norms[0] + slack
