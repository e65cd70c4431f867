"""`MLP.solve` against NumPy's dense solves."""

import itertools

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.kronecker import kronecker_factors
from swiftnets.solvers import solve

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
    rest = np.linalg.norm(b - found.x @ h, axis=1)
    noise = len(h) * EPS * abs(eigenvalues).max() * np.linalg.norm(found.x, axis=1)
    assert (abs(rest - found.residual_norms) <= 10 * noise).all()
    smallest = abs(eigenvalues).min()
    slack = 2 * (found.residual_norms + 10 * noise) / smallest
    assert (np.linalg.norm(found.x - want, axis=1) <= slack).all()
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
        w, x, y, b, damping=damping, method=method, blocks="diagonal", preconditioner=preconditioner
    )
    want, h = exact(net, w, x, y, b, damping, blocks_of(net))
    assert found.success
    rest = np.linalg.norm(b - found.x @ h, axis=1)
    assert (rest <= 2e-10 * np.linalg.norm(b, axis=1)).all()
    assert np.allclose(found.x, want, rtol=0, atol=2e-10 * np.linalg.norm(b) / 0.05)
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
    plain = net.solve(w, x, y, b, damping=damping, method="cg", blocks="diagonal")
    matrix = blocks_of(net)(h) + damping * np.eye(len(h))
    choice = preconditioner
    if preconditioner == "callable":
        inverse = np.linalg.inv(matrix)

        def choice(rows):
            return rows @ inverse

    found = net.solve(
        w, x, y, b, damping=damping, method="cg", blocks="diagonal", preconditioner=choice
    )
    assert found.success and plain.success
    assert np.linalg.norm(b - matrix @ found.x) <= 1e-10 * np.linalg.norm(b) * 1.01
    assert found.iterations[0] < plain.iterations[0]
    if preconditioner == "callable":
        assert found.iterations[0] <= 3  # the exact inverse, but for rounding


def test_kronecker_factors_are_exact_for_one_sample():
    for name in NETS:
        net, w, x, y = problem(name, 1)
        v = np.random.default_rng(0).standard_normal((3, net.parameter_count))
        h = blocks_of(net)(net.gauss_newton(w, x, y)) + 0.3 * np.eye(net.parameter_count)
        got = kronecker_factors(net, w, x, y).inverse(0.3)(v)
        # Eigendecompositions of semidefinite factors: errors of a few EPS ‖A‖‖G‖ over 0.3.
        size = np.linalg.norm(h, 2) / 0.3
        assert np.allclose(got, np.linalg.solve(h, v.T).T, rtol=0, atol=100 * EPS * size**2)


def test_factors_average_over_samples():
    net, w, x, y = problem("softmax", 7)
    factors = kronecker_factors(net, w, x, y)
    whole = np.column_stack([x, np.ones(7)])
    assert np.allclose(factors.inputs[0], whole.T @ whole / 7, rtol=1e-14)
    # The sum over samples of each one's own curvature.
    one_by_one = sum(
        kronecker_factors(net, w, x[k : k + 1], y[k : k + 1]).outputs[1] for k in range(7)
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
            assert "converged" not in solution.reasons
    # Consistent right-hand sides of a singular matrix are for MINRES, and "layered" ends there.
    net, w, x, y = problem("leaky", 2)
    b = net.hessian(w, x, y) @ np.random.default_rng(0).standard_normal(net.parameter_count)
    for method in ("minres", "layered"):
        solution = net.solve(w, x, y, b, damping=0.0, method=method, tolerance=1e-8)
        assert solution.success, solution
        rest = b - net.hessian(w, x, y) @ solution.x
        assert np.linalg.norm(rest) <= 1.01e-8 * np.linalg.norm(b)


def test_conjugate_gradients_tell_negative_curvature():
    net, w, x, y = problem("deep tanh", 5)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=-0.05, method="cg")
    assert not solution.success
    assert solution.reasons == ("negative curvature",)
    limited = net.solve(w, x, y, b, damping=-0.05, method="minres", iterations=3)
    assert limited.reasons == ("iterations",)
    assert limited.iterations[0] == 3


def test_layered_goes_down_its_ladder_where_it_is_inaccurate():
    # Nearly singular: the dual form divides by λ, and its residual does not fall.
    net, w, x, y = problem("deep tanh", 2)
    b = np.random.default_rng(1).standard_normal(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=1e-13, method="layered", tolerance=1e-14)
    assert "layered" in solution.why
    assert solution.method != "layered" or solution.success or "primal" in solution.why


def test_auto_says_why():
    net, w, x, y = problem("deep tanh", 5)
    b = np.ones(net.parameter_count)
    solution = net.solve(w, x, y, b, damping=0.1)
    assert solution.method in solution.why
    assert "operations" in solution.why
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
    assert got.x.dtype == np.float32
    assert got.success
    # Inputs and solution are rounded to float32; the condition number is below 100 here.
    assert np.allclose(got.x, want, rtol=0, atol=1e3 * np.finfo(np.float32).eps * abs(want).max())
    h = double.hessian(w, x, y, sample_weight=weights) + 0.5 * np.eye(len(b))
    whole = double.solve(w, x, y, b, damping=0.5, sample_weight=weights)
    batches = [(x[:2], y[:2], weights[:2]), (x[2:], y[2:], weights[2:])]
    assert np.allclose(whole.x, np.linalg.solve(h, b), rtol=0, atol=1e-9)
    assert np.allclose(double.solve(w, batches, None, b, damping=0.5).x, whole.x, atol=1e-9)
    nothing = double.solve(w, x, y, np.zeros(len(b)), damping=0.5)
    assert not nothing.x.any()
    assert nothing.success


def test_bad_arguments():
    net, w, x, y = problem("leaky", 3)
    b = np.ones(net.parameter_count)
    for options, words in [
        ({"method": "lu"}, "method"),
        ({"blocks": "all"}, "blocks"),
        ({"blocks": "diagonal", "method": "layered"}, "blocks"),
        ({"preconditioner": "jacobi", "method": "cg"}, "preconditioner"),
        ({"preconditioner": "diagonal"}, "preconditioner"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"iterations": 0, "method": "cg"}, "iterations"),
        ({"damping": np.nan}, "damping"),
    ]:
        with pytest.raises(ValueError, match=words):
            solve(net, w, x, y, b, **{"damping": 1.0, **options})
    with pytest.raises(TypeError, match="b is None"):
        net.solve(w, x, y, damping=1.0)
    with pytest.raises(ValueError, match="b has shape"):
        net.solve(w, x, y, b[:-1], damping=1.0)
    with pytest.raises(ValueError, match="b has inf"):
        net.solve(w, x, y, b * np.inf, damping=1.0)
    with pytest.raises(ValueError, match="damping"):
        kronecker_factors(net, w, x, y).inverse(0.0)
