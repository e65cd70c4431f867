"""Traces, log-determinants, diagonals and norms against all eigenvalues and dense inverses."""

import math

import mpmath
import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, Network, datasets, nets, optimizers, spectra
from swiftnets.linalg import FunctionOperator
from swiftnets.solve.inverse import dense_inverse_trace, inverse_trace
from swiftnets.spectra import sampling
from swiftnets.spectra.quadrature import Runs, counted, sphere

EPS = np.finfo(float).eps


def images(count):
    grey = datasets.load(None).train_images[:count].reshape(-1, 3, 32, 32).mean(axis=1)
    x = grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255 - 0.3
    return x, datasets.load(None).train_labels[:count]


def trained(sizes, count, steps, **settings):
    x, labels = images(count)
    net = MLP(sizes, loss="softmax_cross_entropy", reduction="mean", l2=1e-4, **settings)
    w = net.initial(seed=0)
    if steps:
        problem = swiftnets.problems.NetProblem(net, x, labels)
        w = optimizers.LBFGS().minimize(problem, w, max_iterations=steps).w
    return net.at(w, x, labels).hessian


@pytest.fixture(scope="module")
def fashion():
    """64-12-10 on 2000 images after 300 steps of L-BFGS, and its eigenvalues."""
    hessian = trained((64, 12, 10), 2000, 300)
    return hessian, np.linalg.eigvalsh(hessian.dense())


@pytest.fixture(scope="module")
def deep():
    """64-8⁷-10 on 48 images."""
    hessian = trained((64, *[8] * 7, 10), 48, 200)
    return hessian, np.linalg.eigvalsh(hessian.dense())


def symmetric(order, seed=0):
    random = np.random.default_rng(seed).standard_normal((order, order))
    return random + random.T


def operator(matrix):
    return FunctionOperator(len(matrix), lambda rows: rows @ matrix)


def scaled_errors(make, exact, seeds):
    """RMS relative error, how often it is within what is stated, and a typical stated one."""
    found = [make(seed) for seed in range(seeds)]
    errors = np.array([abs(each.value - exact) for each in found])
    stated = np.array([each.error for each in found])
    return math.sqrt(np.mean(errors**2)) / abs(exact), np.mean(errors <= stated), found


# Exact --------------------------------------------------------------------------------------------

# sizes, samples, shifts: definite and not, near eigenvalues and at 0, deep and wide.
INVERSES = [
    ((12, 8, 6, 5), 30, (0.1, 1e-3, 0.0, -1e-2, -0.05)),
    ((8, *[8] * 6, 5), 20, (1e-1, 1e-3, -1e-3)),
    ((30, 8, 8, 5), 5, (1e-1, 1e-3)),
    ((20, 10), 60, (1e-2, 0.0)),
]


@pytest.mark.parametrize(("sizes", "count", "shifts"), INVERSES)
def test_the_complex_step_gives_the_trace_of_the_inverse(sizes, count, shifts):
    random = np.random.default_rng(1)
    net = MLP(sizes, loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    x, labels = random.standard_normal((count, sizes[0])), random.integers(0, sizes[-1], count)
    for seed in range(2):
        hessian = net.at(net.initial(seed=seed), x, labels).hessian
        values = np.linalg.eigvalsh(hessian.dense())
        for shift in shifts:
            exact, scale = (1 / (values + shift)).sum(), abs(1 / (values + shift)).sum()
            logarithm = np.log(abs(values + shift)).sum()
            # Of eigvalsh itself, whose eigenvalues are off by about that much.
            slack = 30 * EPS * abs(values).max() * (1 / (values + shift) ** 2).sum()
            for method, bar in (("dense", 4e-11), ("layered", 6e-9)):
                found = inverse_trace(hessian + shift, method)
                assert abs(found.value - exact) <= bar * scale + slack, (method, shift)
                assert abs(found.value - exact) <= found.error + slack
                assert abs(found.log_determinant - logarithm) <= 1e-7 and found.method == method


def test_the_step_stays_tiny_at_any_scale():
    matrix = symmetric(30)
    exact = np.trace(np.linalg.inv(matrix))
    for exponent in (-900, -400, -100, 100, 400, 900):
        found = dense_inverse_trace(np.ldexp(matrix, exponent), 0.0)
        assert found.value == pytest.approx(math.ldexp(exact, -exponent), rel=1e-11)
    net = MLP((3, 4, 2), l2=1e-3)
    w, x = net.initial(seed=0), np.random.default_rng(0).standard_normal((9, 3))
    point = net.at(w, x, np.ones((9, 2)))
    for weight in (1e-120, 1e-40, 1.0, 1e100):
        weighted = MLP((3, 4, 2), l2=1e-3 * weight).at(
            w, x, np.ones((9, 2)), sample_weight=np.full(9, weight)
        )
        plain = inverse_trace(point.hessian + 0.5, "layered").value
        found = inverse_trace(weighted.hessian + 0.5 * weight, "layered").value
        assert found * weight == pytest.approx(plain, rel=1e-10)


def test_the_trace_of_the_inverse_to_fifty_digits():
    net = MLP((2, 2, 2), l2=0.1)
    hessian = net.at(net.initial(seed=3), np.eye(2), np.ones((2, 2))).hessian
    with mpmath.workdps(50):
        inverse = mpmath.inverse(mpmath.matrix(hessian.dense().tolist()))
        exact = float(sum(inverse[i, i] for i in range(inverse.rows)))
    assert spectra.trace(hessian, "inverse").value == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("order", [4, 6, 8])
def test_the_stated_error_holds_for_hilbert_matrices(order):
    entries = 1 / (np.add.outer(np.arange(order), np.arange(order)) + 1.0)
    with mpmath.workdps(60):
        inverse = mpmath.inverse(mpmath.matrix(entries.tolist()))
        exact = sum(inverse[i, i] for i in range(order))
        diagonal = np.array([float(inverse[i, i]) for i in range(order)])
        logarithm = float(mpmath.log(mpmath.det(mpmath.matrix(entries.tolist()))))
        found = spectra.trace(entries, "inverse")
        assert abs(float(found.value - exact)) <= found.error <= 1e-2 * float(exact)
    found = spectra.diagonal(entries, "inverse")
    assert (abs(found.value - diagonal) <= found.error).all()
    found = spectra.logdet(entries)
    assert abs(found.value - logarithm) <= found.error


def test_singular_matrices_are_refused_and_their_determinant_is_zero():
    net = MLP((30, 4, 3))
    x = np.random.default_rng(0).standard_normal((2, 30))
    hessian = net.at(net.initial(seed=0), x, np.ones((2, 3))).hessian
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        spectra.trace(hessian, "inverse")
    for method in ("layered", "dense"):
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            inverse_trace(hessian, method)
    zero = spectra.logdet(hessian)
    assert zero.value == -math.inf and zero.error == 0 and zero.is_exact
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        spectra.trace(np.ones((3, 3)), "inverse")
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        spectra.logdet(np.ones((3, 3)))


@pytest.mark.parametrize(
    "kind", ["hessian", "gauss_newton", "operator", "array", "conv", "float32"]
)
def test_exact_answers_for_every_kind_of_matrix(kind):
    x, labels = images(40)
    settings = {"loss": "softmax_cross_entropy", "reduction": "mean", "l2": 1e-3}
    if kind == "conv":
        layers = (nets.Conv2d(1, 2, 3), nets.Tanh(), nets.Flatten(), nets.Dense(2 * 36, 10))
        net = Network(layers, input_shape=(1, 8, 8), **settings)
        matrix = net.at(net.initial(seed=0), x.reshape(-1, 1, 8, 8), labels).hessian
    else:
        net = MLP((64, 5, 10), dtype="float32" if kind == "float32" else "float64", **settings)
        point = net.at(net.initial(seed=0), x, labels)
        matrix = point.gauss_newton if kind == "gauss_newton" else point.hessian
        if kind == "float32":
            wide = net.astype(np.float64).at(point.w.astype(float), x.astype(np.float32), labels)
    matrix = matrix + 0.05
    dense = matrix.dense() if kind != "float32" else (wide.hessian + 0.05).dense()
    if kind == "operator":
        matrix = operator(dense)
    elif kind == "array":
        matrix = dense
    values = np.linalg.eigvalsh(dense)
    inverse = np.linalg.inv(dense)
    size = abs(values).max()
    many = len(dense)
    near = 200 * EPS
    if kind == "float32":  # x itself is rounded by the net, not by the reference
        near = 1e-6

    def check(found, exact, scale):
        assert found.is_exact and found.method.startswith("exact")
        error = np.max(abs(found.value - exact))
        assert error <= near * scale
        assert np.max(found.error) <= 1e-7 * scale
        if kind != "float32":
            assert (abs(found.value - exact) <= found.error + 20 * EPS * scale).all()

    check(spectra.trace(matrix), values.sum(), abs(values).sum())
    check(spectra.trace(matrix, "square"), (values**2).sum(), (values**2).sum())
    check(spectra.trace(matrix, "absolute"), abs(values).sum(), abs(values).sum())
    check(spectra.trace(matrix, np.tanh), np.tanh(values).sum(), many)
    scale = 50 * many / abs(values).min() * size / abs(values).min()
    check(spectra.trace(matrix, "inverse"), np.trace(inverse), scale)
    check(spectra.logdet(matrix), np.log(abs(values)).sum(), scale)
    shifted = (values / (values + 0.3)).sum()
    check(spectra.effective_dimension(matrix, 0.3), shifted, many)
    check(spectra.diagonal(matrix), dense.diagonal(), size)
    check(spectra.diagonal(matrix, "square"), (dense**2).sum(axis=1), size**2)
    check(spectra.diagonal(matrix, "inverse"), inverse.diagonal(), scale)
    check(spectra.norm(matrix), np.linalg.norm(dense), many * size)
    check(spectra.norm(matrix, "nuc"), np.linalg.norm(dense, "nuc"), many * size)
    check(spectra.norm(matrix, 2, method="exact"), size, size)
    assert abs(spectra.norm(matrix, 2).value - size) <= 2 * near * size


def test_the_logarithm_is_of_definite_matrices():
    matrix = symmetric(8)
    definite = matrix @ matrix + np.eye(8)
    exact = np.log(np.linalg.eigvalsh(definite)).sum()
    assert spectra.trace(definite, "logarithm").value == pytest.approx(exact, rel=1e-13)
    with pytest.raises(np.linalg.LinAlgError, match="eigenvalues are negative"):
        spectra.trace(matrix, "logarithm")
    assert float(spectra.logdet(matrix)) == pytest.approx(np.linalg.slogdet(matrix)[1], abs=1e-12)


# Estimates ----------------------------------------------------------------------------------------


def left_out(matrix, omega):
    """XTrace, one test vector after the other left out (Epperly, Tropp & Webber 2024)."""
    order, count = len(matrix), len(omega)
    values, diagonals = [], []
    for i in range(count):
        others = np.delete(omega, i, axis=0)
        q = np.linalg.qr(matrix @ others.T)[0]
        rest = omega[i] - q @ (q.T @ omega[i])
        scale = (order - count + 1) / (rest @ rest)
        values.append(np.trace(q.T @ matrix @ q) + scale * rest @ matrix @ rest)
        image = matrix @ omega[i]
        diagonals.append(np.diag(q @ q.T @ matrix) + omega[i] * (image - q @ (q.T @ image)))
    return np.array(values), np.array(diagonals)


def test_xtrace_and_xdiag_are_what_leaving_out_gives():
    matrix = symmetric(30)
    for count in (2, 5, 12):
        omega = sampling._spherical(count, 30, np.random.default_rng(1))
        values, _ = left_out(matrix, omega)
        rng = np.random.default_rng(1)
        value, error = sampling.xtrace(lambda rows: rows @ matrix, 30, count, rng)
        assert value == pytest.approx(values.mean(), rel=1e-10)
        assert error == pytest.approx(values.std(ddof=1) / math.sqrt(count), rel=1e-8)
        signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(count, 30))
        _, diagonals = left_out(matrix, signs)
        rng = np.random.default_rng(1)
        value, error = sampling.xdiag(lambda rows: rows @ matrix, 30, count, rng)
        assert np.allclose(value, diagonals.mean(axis=0), rtol=0, atol=1e-10)
        assert np.allclose(error, diagonals.std(axis=0, ddof=1) / math.sqrt(count), atol=1e-10)


def test_matrices_of_low_rank_are_found_to_rounding():
    random = np.random.default_rng(0).standard_normal((6, 400))
    matrix = random.T @ np.diag([5.0, -4, 3, 2, -1, 1]) @ random
    for method in ("xtrace",):
        found = spectra.trace(operator(matrix), method=method, products=60)
        assert abs(found.value - np.trace(matrix)) <= found.error
        assert found.error <= 1e-10 * abs(matrix).sum()
    found = spectra.diagonal(operator(matrix), method="xdiag", products=60)
    assert np.allclose(found.value, matrix.diagonal(), rtol=0, atol=1e-9)
    assert spectra.trace(operator(np.zeros((50, 50))), method="xtrace").value == 0


def test_estimates_of_a_trained_net_are_as_good_as_published(fashion):
    hessian, values = fashion
    trace, squares = values.sum(), (values**2).sum()

    def rms(exact, seeds=8, **options):
        return scaled_errors(lambda s: spectra.trace(hessian, seed=s, **options), exact, seeds)

    plain, within, found = rms(trace, method="hutchinson")
    assert 2e-2 < plain < 1e-1 and within >= 0.6 and found[0].products == 120
    better, within, found = rms(trace, method="xtrace")
    assert better < 2.6e-3 and within >= 0.6 and found[0].products == 120
    assert rms(squares, function="square", method="xtrace", products=300, seeds=4)[0] < 1e-4
    assert rms(squares, function="square", method="hutchinson", products=300, seeds=4)[0] > 3e-3
    wanted = (hessian.dense() ** 2).sum(axis=1)
    for method, products, least, most in (("xdiag", 240, 0, 2e-4), ("hutchinson", 240, 0.2, 1)):
        found = spectra.diagonal(hessian, "square", method=method, products=products)
        error = np.linalg.norm(found.value - wanted) / np.linalg.norm(wanted)
        assert least <= error <= most and found.products == products


def test_traces_of_a_deep_net_fall_off_fast(deep):
    hessian, values = deep
    better, within, _ = scaled_errors(
        lambda s: spectra.trace(hessian, method="xtrace", seed=s), values.sum(), 8
    )
    assert better <= 3e-5 and within >= 0.6


def test_lanczos_quadrature_is_as_good_as_published(fashion):
    hessian, values = fashion
    damped, shifted = hessian + 0.1, values + 0.1
    options = {"method": "lanczos", "seed": 1}
    for found, exact, bar in [
        (spectra.norm(hessian, "nuc", **options), abs(values).sum(), 4e-3),
        (spectra.logdet(damped, **options), np.log(shifted).sum(), 1e-3),
        (spectra.effective_dimension(hessian, 0.1, **options), (values / shifted).sum(), 1.8e-2),
        (spectra.trace(damped, "inverse", **options), (1 / shifted).sum(), 1e-3),
    ]:
        error = abs(found.value - exact)
        assert error <= bar * abs(exact) and error <= found.error <= 6 * bar * abs(exact)
        assert not found.is_exact and 0 < found.products <= 170 + 30 * 64


def test_quadrature_refuses_what_only_factors_answer(fashion):
    hessian, values = fashion
    shift = -values[0] / 4
    options = {"method": "lanczos", "probes": 2, "deflate": 0, "steps": 200}
    for call in (
        lambda: spectra.logdet(hessian + shift, **options),
        lambda: spectra.trace(hessian + shift, "inverse", **options),
        lambda: spectra.effective_dimension(hessian, shift, **options),
    ):
        with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
            call()
    # Few steps do not see it; it is not said that they did.
    blind = spectra.logdet(hessian + shift, method="lanczos", probes=2, deflate=0, steps=12)
    assert blind.error == math.inf and "not certified" in blind.method
    exact = spectra.effective_dimension(hessian, shift)
    assert exact.value == pytest.approx((values / (values + shift)).sum(), rel=1e-8)
    sure = spectra.logdet(hessian + 0.1, method="lanczos", probes=8)
    assert "positive definite but with" in sure.method and sure.error < math.inf
    structural = spectra.logdet(hessian.point.gauss_newton, method="lanczos", probes=1)
    assert "definite" not in structural.method


def test_a_hidden_eigenvalue_is_missed_as_seldom_as_said():
    values = np.append(np.linspace(1, 2, 299), 0.99)
    matrix = counted(FunctionOperator(300, lambda rows: values * rows))
    chances, parts, every = [], [], []
    for seed in range(400):
        start = sphere(1, 300, np.empty((0, 300)), np.random.default_rng(seed))
        runs = Runs(matrix, start, np.empty((0, 300)))
        runs.advance(10)
        # Where no Ritz value is as low, the run has not seen that eigenvalue.
        (rule,) = runs.rules()
        every.append(runs.chance_below(0.99) if rule.nodes[0] > 0.99 else 1.0)
        if rule.nodes[0] > 0.99:
            chances.append(runs.chance_below(0.99))
            parts.append(abs(start[0, -1]))
    # |yᵀ v| (Σ p²)^½ ≤ 1, always; and so small a part is as seldom as it says.
    chances, parts = np.array(chances), np.array(parts)
    assert len(chances) > 300
    least = chances / math.sqrt(2 * 300 / math.pi)
    assert (parts[chances < 1] <= least[chances < 1] * (1 + 1e-9)).all()
    for level in (0.5, 0.2):
        assert np.mean(np.array(every) <= level) <= level + 3 * math.sqrt(level / 400)


def test_the_largest_eigenvalue_by_lanczos(fashion):
    hessian, values = fashion
    found = spectra.norm(hessian, 2, method="lanczos")
    assert abs(found.value - abs(values).max()) <= found.error <= 1e-8
    line = np.linspace(-3, 1, 1500)
    matrix = FunctionOperator(1500, lambda rows: line * rows)
    found = spectra.norm(matrix, 2)
    assert 3 - found.error <= found.value <= 3 + 1e-12 and found.error < 0.01
    assert "probability" in found.method and found.products < 1500


def test_diagonals_of_the_inverse_by_a_few_solves():
    matrix = symmetric(50)
    matrix = matrix @ matrix / 50 + np.eye(50)
    exact = np.linalg.inv(matrix).diagonal()
    found = spectra.diagonal(matrix, "inverse", method="hutchinson", products=2000)
    assert np.mean(abs(found.value - exact) <= found.error) >= 0.8
    assert found.factorizations == 1 and np.linalg.norm(found.error) < np.linalg.norm(exact)


# What it takes ------------------------------------------------------------------------------------


def test_costs_are_said_beforehand_and_kept(fashion):
    hessian, _ = fashion
    matrix = operator(symmetric(300))
    layers = (nets.Conv2d(1, 2, 3), nets.Tanh(), nets.Flatten(), nets.Dense(32, 3))
    net = Network(layers, input_shape=(1, 6, 6))
    conv = net.at(net.initial(seed=0), np.ones((4, 1, 6, 6)), np.ones((4, 3))).hessian + 1.0
    calls = {
        "trace": spectra.trace,
        "trace of square": lambda a, **o: spectra.trace(a, "square", **o),
        "trace of inverse": lambda a, **o: spectra.trace(a, "inverse", **o),
        "trace of function": lambda a, **o: spectra.trace(a, np.exp, **o),
        "logdet": spectra.logdet,
        "diagonal": spectra.diagonal,
        "diagonal of square": lambda a, **o: spectra.diagonal(a, "square", **o),
        "diagonal of inverse": lambda a, **o: spectra.diagonal(a, "inverse", **o),
        "effective_dimension": lambda a, **o: spectra.effective_dimension(a, 0.1, **o),
        "norm fro": lambda a, **o: spectra.norm(a, "fro", **o),
        "norm nuc": lambda a, **o: spectra.norm(a, "nuc", **o),
        "norm 2": lambda a, **o: spectra.norm(a, 2, **o),
        "density": spectra.density,
    }
    for name, call in calls.items():
        for a in (hessian, matrix, conv):
            said = spectra.cost(a, name, method="exact")
            found = call(a, method="exact")
            assert said.products == found.products and said.fits and said.bytes >= 0
            assert getattr(found, "factorizations", said.factorizations) == said.factorizations
    for name, method in [("trace", "xtrace"), ("trace", "hutchinson"), ("diagonal", "xdiag"),
                         ("norm fro", "hutchinson")]:  # fmt: skip
        said = spectra.cost(matrix, name, method=method)
        assert said.products == calls[name](matrix, method=method).products
    assert str(spectra.cost(matrix, "trace", method="xtrace")).startswith("xtrace: 120 products")


def test_auto_estimates_where_exact_takes_long_or_does_not_fit():
    class Vast(FunctionOperator):
        def dense(self):
            raise AssertionError("all entries of a vast matrix")

    values = np.linspace(1, 2, 20_000)
    matrix = Vast(20_000, lambda rows: values * rows)
    for what in ("trace", "norm fro", "norm nuc", "logdet", "diagonal", "density"):
        assert spectra.cost(matrix, what).method != "exact"
    found = spectra.trace(matrix, products=20)
    assert abs(found.value - values.sum()) <= 2 * found.error and "XTrace" in found.method
    found = spectra.logdet(matrix, probes=2, steps=10, deflate=0)
    assert abs(found.value - np.log(values).sum()) <= 2 * found.error
    huge = FunctionOperator(10**9, lambda rows: rows)
    with pytest.raises(MemoryError, match="iB"):
        spectra.trace(huge, method="exact")
    with pytest.raises(MemoryError, match="iB"):
        spectra.trace(huge)


def test_results_are_numbers():
    found = spectra.trace(np.diag([1.0, 2.0]))
    assert float(found) == 3.0 and np.asarray(found) == 3.0 and 0 <= found.error < 1e-13
    assert repr(found).startswith("Estimate(3 ± ") and "exact" in repr(found)
    assert "2 numbers" in repr(spectra.diagonal(np.eye(2)))


def test_bad_arguments_are_named():
    matrix = np.eye(3)
    for call, error, message in [
        (lambda: spectra.trace(matrix, "inverted"), ValueError, "function is 'inverted'"),
        (lambda: spectra.trace(matrix, method="xdiag"), ValueError, "method is 'xdiag'"),
        (lambda: spectra.trace(matrix, products=2), ValueError, "products is 2"),
        (lambda: spectra.trace(matrix, lambda x: x[:1]), ValueError, r"shape \(1,\)"),
        (lambda: spectra.trace(matrix, lambda x: 1j * x), TypeError, "dtype complex128"),
        (lambda: spectra.trace(matrix, lambda x: x / 0), FloatingPointError, "not finite"),
        (lambda: spectra.logdet(matrix, probes=0), ValueError, "probes is 0"),
        (lambda: spectra.norm(matrix, 1), (TypeError, ValueError), "ord"),
        (lambda: spectra.norm(matrix, "spectral"), ValueError, "ord is 'spectral'"),
        (lambda: spectra.diagonal(matrix, "cube"), ValueError, "function is 'cube'"),
        (lambda: spectra.effective_dimension(matrix, 0.0), ValueError, "damping is 0"),
        (lambda: spectra.effective_dimension(matrix, np.nan), ValueError, "damping is nan"),
        (lambda: spectra.cost(matrix, "determinant"), ValueError, "what is 'determinant'"),
        (lambda: spectra.trace(np.ones((2, 3))), ValueError, "A has shape"),
    ]:
        with pytest.raises(error, match=message):
            call()
