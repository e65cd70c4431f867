"""Factorisations of the Hessian plus a shift against NumPy's dense linear algebra."""

import contextlib
import importlib.util
import itertools
import signal
import threading
import time
from pathlib import Path

import mpmath
import numpy as np
import pytest

from swiftnets import MLP, _core, solve
from swiftnets.curvature import kronecker_factors, layer_states
from swiftnets.linalg import DenseFactorization, Inertia
from swiftnets.solve import LayeredFactorization, plan

EPSILON = np.finfo(float).eps / 2
FORMS = ("auto", "primal", "dual")

# sizes, samples, and the net's settings: depth 1 to 4, more and fewer samples than weights a unit,
# every loss, with and without curvature of the activations and the outputs.
CASES = {
    "one layer": ((3, 4), 2, {}),
    "one sample": ((2, 3, 2), 1, {"loss": "softmax_cross_entropy", "activation": "leaky_relu"}),
    "two layers, many samples": ((3, 4, 2), 30, {"reduction": "mean"}),
    "curved outputs": ((4, 3, 2), 5, {"output_activation": "tanh", "bias": False}),
    "labels": ((5, 4, 3), 4, {"loss": "softmax_cross_entropy", "l2": 0.3}),
    "logits": ((6, 3, 3, 2), 7, {"loss": "binary_cross_entropy", "activation": "sine"}),
    "huber": ((2, 4, 3, 2), 12, {"loss": "huber", "activation": "leaky_relu", "l2": 0.1}),
    "four layers": ((5, 3, 4, 3, 2), 6, {"activation": "sine", "reduction": "mean"}),
    "four layers, no bias": ((7, 2, 2, 2, 3), 3, {"bias": False, "activation": "softplus"}),
}


class Case:
    def __init__(self, name, dtype=np.float64):
        sizes, n, settings = CASES[name]
        rng = np.random.default_rng(len(name))
        self.net = MLP(sizes, dtype=dtype, **settings)
        self.w = self.net.initial(seed=2) + 0.3 * rng.standard_normal(self.net.parameter_count)
        self.x = rng.standard_normal((n, sizes[0]))
        labels = self.net.loss_function.name == "softmax_cross_entropy"
        self.y = rng.integers(0, sizes[-1], n) if labels else rng.random((n, sizes[-1]))
        self.weights = rng.random(n)
        self.b = rng.standard_normal((3, self.net.parameter_count))

    @property
    def data(self):
        return self.w, self.x, self.y

    def factorize(self, shift=0.0, method="layered", **settings):
        hessian = self.net.at(*self.data, sample_weight=self.weights).hessian
        return (hessian + shift).factorize(method=method, **settings)

    def matrix(self, shift):
        hessian = self.net.hessian(*self.data, sample_weight=self.weights)
        return hessian + shift * np.eye(len(hessian))

    def refined(self, factors, b):
        """The solution after one refinement with exact products."""

        def residual(x):
            return b - self.net.hvp(*self.data, x, sample_weight=self.weights) - factors.shift * x

        x = factors.solve(b)
        x = x + factors.solve(residual(x))
        return x, residual(x)


@pytest.fixture(params=CASES)
def it(request):
    return Case(request.param)


def backward_error(matrix, x, b, residual):
    """How far at most, relatively, the problem is that the rows of x solve."""
    sizes = np.linalg.norm(matrix, 2) * np.linalg.norm(x, axis=1) + np.linalg.norm(b, axis=1)
    return (np.linalg.norm(residual, axis=1) / sizes).max()


# Against dense linear algebra --------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("damping", [1.0, 0.1, -0.37])
def test_the_layered_solution_once_refined_is_as_good_as_rounding_allows(it, damping, form):
    matrix = it.matrix(damping)
    factors = it.factorize(damping, form=form)
    x, residual = it.refined(factors, it.b)
    # Products sum over parameters and samples: their roundings are all that is left.
    assert backward_error(matrix, x, it.b, residual) < (len(matrix) + len(it.x)) * EPSILON
    exact = np.linalg.solve(matrix, it.b.T).T
    few = len(matrix) * EPSILON * np.linalg.cond(matrix)
    assert np.linalg.norm(x - exact) < few * np.linalg.norm(exact)
    assert np.linalg.norm(factors.solve(it.b) - exact) < 1e-6 * np.linalg.norm(exact)


@pytest.mark.parametrize("damping", [1.0, 1e-3, -0.37, 50.0])
def test_the_dense_solution_is_numpys(it, damping):
    matrix = it.matrix(damping)
    factors = it.factorize(damping, method="dense")
    exact = np.linalg.solve(matrix, it.b.T).T
    few = len(matrix) * EPSILON * np.linalg.cond(matrix)
    assert np.linalg.norm(factors.solve(it.b) - exact) < few * np.linalg.norm(exact)
    assert factors.is_positive_definite == bool((np.linalg.eigvalsh(matrix) > 0).all())


@pytest.mark.parametrize("method", [{"method": "dense"}] + [{"form": form} for form in FORMS])
@pytest.mark.parametrize("damping", [1.0, -0.37, -3.0])
def test_inertia_and_determinant_are_those_of_the_eigenvalues(it, damping, method):
    matrix = it.matrix(damping)
    factors = it.factorize(damping, **method)
    values = np.linalg.eigvalsh(matrix)
    assert factors.inertia == Inertia(int((values > 0).sum()), int((values < 0).sum()), 0)
    # Each eigenvalue is off by a rounding of the largest; so are the layers', once a layer.
    few = len(matrix) ** 2 * EPSILON * np.linalg.cond(matrix)
    assert abs(factors.log_determinant - np.linalg.slogdet(matrix)[1]) < few


@pytest.mark.parametrize("form", FORMS)
def test_a_complex_shift_may_be_larger_in_size_than_the_largest_number(it, form):
    shift = complex(1.7e308, -1.7e308)
    b = 1e300 * it.b
    x = it.factorize(shift=shift, form=form).solve(b)
    np.testing.assert_allclose(x, b / 1.7e308 / (1 - 1j), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shift", [1j, 0.2 - 0.5j, -0.4 + 0.3j])
def test_a_complex_shift_gives_the_dense_complex_solution(it, shift, form):
    matrix = it.matrix(shift)
    factors = it.factorize(shift, form=form)
    assert factors.inertia is None and factors.log_determinant is None and factors.shift == shift
    few = len(matrix) * EPSILON * np.linalg.cond(matrix) ** 2
    for b in (it.b, it.b + 1j * it.b[::-1]):
        exact = np.linalg.solve(matrix, b.T).T
        x = factors.solve(b)
        assert x.dtype == np.complex128
        assert np.linalg.norm(x - exact) < few * np.linalg.norm(exact)


def test_the_states_of_layers_make_up_the_hessian(it):
    layers, output = layer_states(it.net.at(*it.data, sample_weight=it.weights))
    weights = [layer.weights for layer in layers]
    np.testing.assert_array_equal(np.concatenate([w.ravel() for w in weights]), it.w)
    outputs = it.net.sizes[-1]
    if output.ndim == 2:
        output = output[:, :, None] * np.eye(outputs)
    # One direction at a time: tangents forward, then the derivative of the backward pass.
    ours = []
    for v in np.eye(len(it.w)):
        tangents, z = [], np.zeros_like(layers[0].inputs)
        for layer, part in zip(layers, it.net.layer_slices, strict=True):
            direction = v[part].reshape(layer.weights.shape)
            a = z @ layer.weights + layer.inputs @ direction
            tangents.append((direction, z, a))
            z = layer.slopes * a
            if it.net.bias:
                z = np.hstack([z, np.zeros((len(z), 1))])
        g = (output @ (layers[-1].slopes * tangents[-1][2])[:, :, None])[:, :, 0]
        product = []
        for layer, (direction, z, a) in zip(layers[::-1], tangents[::-1], strict=True):
            d = layer.slopes * g + layer.curvatures * a
            product.append((layer.inputs.T @ d + z.T @ layer.deltas).ravel())
            g = d @ layer.weights.T + layer.deltas @ direction.T
            g = g[:, : g.shape[1] - it.net.bias]
        ours.append(np.concatenate(product[::-1]))
    theirs = it.matrix(-it.net.l2)
    few = 20 * (len(it.w) + len(it.x)) * EPSILON
    np.testing.assert_allclose(np.array(ours), theirs, rtol=0, atol=few * abs(theirs).max())


def test_one_right_hand_side_is_a_row_of_several(it):
    for factors in (it.factorize(0.5), it.factorize(0.5, method="dense")):
        rows = factors.solve(it.b)
        assert rows.shape == it.b.shape and rows.flags.c_contiguous
        one = factors.solve(it.b[1])
        assert one.shape == it.b[1].shape
        few = len(it.w) * EPSILON * np.linalg.cond(it.matrix(0.5)) ** 2
        assert np.linalg.norm(one - rows[1]) < few * np.linalg.norm(one)
        assert factors.solve(np.repeat(it.b, 40, axis=0)).shape == (120, len(it.w))


def test_a_matrix_tells_its_inertia_and_determinant(it):
    hessian = it.net.at(*it.data, sample_weight=it.weights).hessian + 0.5
    factors = hessian.factorize()
    assert hessian.inertia == factors.inertia and hessian.logdet == factors.log_determinant
    with pytest.raises(np.linalg.LinAlgError, match="inertia is of real matrices"):
        _ = (hessian + 1j).inertia


@pytest.mark.parametrize("kind", ["gauss_newton", "empirical"])
def test_other_matrices_are_factored_and_solved_dense(it, kind):
    point = it.net.at(*it.data, sample_weight=it.weights)
    matrix = (point.gauss_newton if kind == "gauss_newton" else point.fisher(kind)) + 0.5
    factors = matrix.factorize()
    assert isinstance(factors, DenseFactorization) and factors.inertia.positive == len(it.w)
    exact = np.linalg.solve(matrix.dense(), it.b.T).T
    few = len(it.w) * EPSILON * np.linalg.cond(matrix.dense())
    assert np.linalg.norm(factors.solve(it.b) - exact) < few * np.linalg.norm(exact)
    for method in ("auto", "dense", "cg", "minres"):
        found = matrix.solve(it.b, method=method, tolerance=1e-9)
        assert found.success
        residual = it.b - found.solution @ matrix
        assert np.linalg.norm(residual) <= 1.01e-9 * np.linalg.norm(it.b)
    for call in (matrix.factorize, lambda **options: matrix.solve(it.b, **options)):
        with pytest.raises(ValueError, match="expected a Hessian"):
            call(method="layered")


def test_factors_of_its_own_choice_are_those_of_fewer_operations():
    rng = np.random.default_rng(0)
    for sizes, samples, kind in [((3, 4, 2), 30, DenseFactorization), ((3, 30, 30, 2), 5, None)]:
        net = MLP(sizes)
        x, y = rng.standard_normal((samples, 3)), rng.standard_normal((samples, 2))
        factors = (net.at(net.initial(seed=0), x, y).hessian + 1.0).factorize()
        dense = 2 * samples * net.parameter_count**2 + net.parameter_count**3 / 3
        is_dense = plan(net, samples).operations > dense
        assert isinstance(factors, DenseFactorization) == is_dense == (kind is not None)


# Larger matrices: several panels and blocks, threads ----------------------------------------------


@pytest.mark.parametrize("order", [1, 2, 31, 257, 700])
@pytest.mark.parametrize("definite", [True, False])
def test_dense_factors_of_any_order(order, definite):
    rng = np.random.default_rng(order)
    vectors = np.linalg.qr(rng.standard_normal((order, order)))[0]
    values = np.linspace(1, 3, order) * (1 if definite else rng.choice([-1, 1], order))
    matrix = (vectors * values) @ vectors.T
    matrix = (matrix + matrix.T) / 2
    before = matrix.copy()
    factors = DenseFactorization(matrix)
    np.testing.assert_array_equal(matrix, before)
    assert factors.is_positive_definite == bool((values > 0).all())
    assert factors.inertia == Inertia(int((values > 0).sum()), int((values < 0).sum()), 0)
    b = rng.standard_normal((5, order))
    few = 10 * order * EPSILON  # its condition is 3
    for rows in (b, b[:1]):
        x = factors.solve(rows)
        assert backward_error(matrix, x, rows, rows - x @ matrix) < few
    assert abs(factors.log_determinant - np.log(abs(values)).sum()) < order * few
    shifted = factors.update(4.0)
    assert shifted is factors and shifted.is_positive_definite and shifted.shift == 4.0
    x = shifted.solve(b)
    assert backward_error(matrix, x, b, b - x @ matrix - 4.0 * x) < few
    assert shifted.bytes >= 8 * order**2 and shifted.parameter_count == order


def test_a_layered_factorisation_that_openblas_shares_among_threads():
    net = MLP((40, 20, 20, 3), loss="softmax_cross_entropy", reduction="mean")
    rng = np.random.default_rng(0)
    w, x, y = net.initial(seed=0), rng.standard_normal((30, 40)), rng.integers(0, 3, 30)
    b = rng.standard_normal((2, net.parameter_count))
    factors = (net.at(w, x, y).hessian + 0.5).factorize(method="layered")
    assert factors.forms == ("dual", "primal", "primal")
    step = factors.solve(b)
    step += factors.solve(b - net.hvp(w, x, y, step) - 0.5 * step)
    residual = b - net.hvp(w, x, y, step) - 0.5 * step
    assert np.linalg.norm(residual) < net.parameter_count * EPSILON * np.linalg.norm(b)


# Updates ------------------------------------------------------------------------------------------


def test_an_update_is_a_new_factorisation_to_the_bit(it):
    kinds = [{"form": "primal"}, {"form": "dual"}, {"method": "dense"}]
    for kind in kinds:
        factors = it.factorize(1.0, **kind)
        for damping in (0.3, -0.7):
            assert factors.update(damping) is factors
            fresh = it.factorize(damping, **kind)
            np.testing.assert_array_equal(factors.solve(it.b), fresh.solve(it.b))
            assert factors.inertia == fresh.inertia and factors.shift == damping
            assert factors.log_determinant == fresh.log_determinant
    factors = it.factorize(shift=1j).update(0.5 - 2j)
    np.testing.assert_array_equal(factors.solve(it.b), it.factorize(shift=0.5 - 2j).solve(it.b))


def test_after_a_failed_update_there_is_no_factorisation_until_the_next():
    singular = np.diag([1.0, 2.0, 3.0])
    factors = DenseFactorization(singular)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        factors.update(-2.0)
    assert factors.inertia is None and factors.log_determinant is None
    with pytest.raises(np.linalg.LinAlgError, match="no factorisation"):
        factors.solve([1.0, 1.0, 1.0])
    x = factors.update(1.0).solve([2.0, 3.0, 4.0])
    np.testing.assert_allclose(x, np.ones(3), rtol=10 * EPSILON)

    it = Case("one layer")
    layered = it.factorize(shift=1j)
    assert layered.forms == ("dual",)
    with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
        layered.update(0j)
    assert layered.certificate is None
    with pytest.raises(np.linalg.LinAlgError, match="no factorisation"):
        layered.solve(it.b)
    fresh = it.factorize(shift=2j)
    np.testing.assert_array_equal(layered.update(2j).solve(it.b), fresh.solve(it.b))


def test_after_an_update_to_a_singular_matrix_there_is_an_inertia_and_no_solution():
    it = Case("one layer")  # 2 samples, 4 rows of weights: half of H's eigenvalues are 0
    layered = it.factorize(1.0).update(0.0)
    assert layered.inertia == Inertia(8, 0, 8) and layered.log_determinant == -np.inf
    assert layered.certificate is None
    with pytest.raises(np.linalg.LinAlgError, match="singular: 8 eigenvalues are 0"):
        layered.solve(it.b)
    np.testing.assert_array_equal(layered.update(2.0).solve(it.b), it.factorize(2.0).solve(it.b))


def test_solves_in_threads_while_another_updates():
    it = Case("four layers")
    dampings = (1.0, 2.0)
    for kind in ({}, {"method": "dense"}):
        answers = [it.factorize(damping, **kind).solve(it.b) for damping in dampings]
        factors = it.factorize(1.0, **kind)
        wrong, stop = [], threading.Event()

        def solve(factors=factors, answers=answers, wrong=wrong, stop=stop):
            while not stop.is_set():
                x = factors.solve(it.b)
                if not any(np.array_equal(x, answer) for answer in answers):
                    wrong.append(x)

        threads = [threading.Thread(target=solve) for _ in range(3)]
        for thread in threads:
            thread.start()
        for damping in itertools.islice(itertools.cycle(dampings), 200):
            factors.update(damping)
        stop.set()
        for thread in threads:
            thread.join()
        assert not wrong


# Data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["labels", "four layers", "huber"])
def test_batches_are_one_batch(name):
    it = Case(name)
    half = len(it.x) // 2
    parts = [slice(0, half), slice(half, None)]
    batches = [(it.x[part], it.y[part], it.weights[part]) for part in parts]
    whole = it.factorize(0.5).solve(it.b)
    joined = (it.net.at(it.w, batches).hessian + 0.5).factorize(method="layered")
    np.testing.assert_array_equal(joined.solve(it.b), whole)


def test_labels_and_rows_of_targets_mix():
    it = Case("labels")
    rows = np.eye(3)[it.y]
    batches = [(it.x[:2], it.y[:2]), (it.x[2:], rows[2:], np.ones(2))]
    whole = (it.net.at(it.w, it.x, rows).hessian + 0.5).factorize(method="layered").solve(it.b)
    joined = (it.net.at(it.w, batches).hessian + 0.5).factorize(method="layered")
    np.testing.assert_array_equal(joined.solve(it.b), whole)


@pytest.mark.parametrize("name", CASES)
def test_a_float32_net_is_factored_in_float64(name):
    single, double = Case(name, np.float32), Case(name)
    for key in ("w", "x", "weights"):
        setattr(double, key, getattr(single, key).astype(np.float32).astype(float))
    if double.y.dtype == float:
        double.y = double.y.astype(np.float32).astype(float)
    for kind in ({}, {"method": "dense"}):
        ours, theirs = (
            single.factorize(1.0, **kind),
            double.factorize(1.0, **kind),
        )
        assert ours.inertia == theirs.inertia and ours.log_determinant == theirs.log_determinant
        x = ours.solve(single.b)
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, theirs.solve(single.b).astype(np.float32))
    assert single.factorize(shift=1j).solve(single.b).dtype == np.complex64
    layers, _ = layer_states(single.net.at(*single.data))
    assert layers[0].inputs.dtype == np.float64


def test_a_sample_of_weight_zero_does_not_count():
    it = Case("labels")
    it.weights[1] = 0
    whole = it.factorize(0.5)
    rest = [0, 2, 3]
    some = it.net.at(it.w, it.x[rest], it.y[rest], sample_weight=it.weights[rest])
    few = (some.hessian + 0.5).factorize(method="layered")
    near = len(it.w) * EPSILON * np.linalg.cond(it.matrix(0.5)) ** 2
    assert np.linalg.norm(whole.solve(it.b) - few.solve(it.b)) < near * np.linalg.norm(it.b)


# Plans --------------------------------------------------------------------------------------------


def test_a_plan_tells_what_a_factorisation_says(it):
    for form in FORMS:
        told = plan(it.net, len(it.x), form=form)
        found = it.factorize(1.0, form=form)
        for name in ("parameter_count", "bytes", "operations", "solve_operations", "forms"):
            assert getattr(told, name) == getattr(found, name)
        assert plan(it.net, len(it.x), complex=True, form=form).operations == 4 * told.operations
    assert set(plan(it.net, 10**4).forms) == {"primal"}
    assert set(plan(it.net, 1, form="dual").forms) == {"dual"}


def test_a_plan_of_a_factorisation_too_large_for_any_machine_is_only_told():
    net = MLP((1000, 1000, 10))
    assert plan(net, 500).bytes > 2**40
    with pytest.raises(MemoryError, match="60,000 samples .* than LAPACK counts; expected fewer"):
        plan(MLP((784, 32, 10)), 60_000)


def a_hessian_with_a_dead_unit():
    net = MLP((4, 5, 2), activation="relu")
    w = net.initial(0)
    parts = net.unflatten(w)
    parts["w0"][:, 0], parts["b0"][0] = 0.0, -1.0
    rng = np.random.default_rng(0)
    return net.at(w, rng.normal(size=(30, 4)), rng.normal(size=(30, 2))).hessian


def test_a_singular_hessian_that_dense_factors_refuse_is_factored_layer_by_layer():
    hessian = a_hessian_with_a_dead_unit()
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        hessian.factorize(method="dense")
    factors = hessian.factorize()
    assert isinstance(factors, LayeredFactorization)
    assert hessian.inertia == factors.inertia == Inertia(23, 7, 7)
    assert hessian.logdet == -np.inf
    with pytest.raises(np.linalg.LinAlgError, match="7 eigenvalues are 0"):
        factors.solve(np.ones(37))
    with pytest.raises(np.linalg.LinAlgError, match=r"with 0.0 added to its diagonal the matrix"):
        hessian.point.gauss_newton.factorize()  # has no layers


def test_after_an_update_that_fails_factors_say_which_shift_it_was():
    for method in ("layered", "dense"):
        hessian = MLP((2, 1), bias=False).at([1.0, 2.0], [[3.0, 4.0]], [[10.0]]).hessian
        factors = (hessian + 1.0).factorize(method=method)
        with pytest.raises(np.linalg.LinAlgError):
            factors.update(-25.0)  # an eigenvalue is 25
            factors.solve([1.0, 1.0])
        assert factors.shift == -25.0 and "shift=-25.0" in repr(factors)
    assert "no factors" in repr(factors)


# What is refused ----------------------------------------------------------------------------------


def test_wrong_arguments_are_named():
    it = Case("labels")
    bad = [
        (TypeError, "shift", {"shift": "1"}),
        (TypeError, "shift", {"shift": None}),
        (TypeError, "shift", {"shift": True}),
        (ValueError, "shift", {"shift": np.nan}),
        (ValueError, "shift", {"shift": np.inf}),
        (ValueError, "shift", {"shift": complex("nan")}),
        (ValueError, "shift", {"shift": complex(0, np.inf)}),
        (ValueError, "shift", {"shift": 1j, "method": "dense"}),
        (ValueError, "method", {"method": "sparse"}),
        (TypeError, "method", {"method": None}),
        (ValueError, "form", {"shift": 1.0, "form": "double"}),
        (ValueError, "form", {"shift": 1.0, "form": "dual", "method": "dense"}),
    ]
    for error, name, settings in bad:
        with pytest.raises(error, match=name):
            it.factorize(**settings)
    for weights in (np.ones(5), -np.ones(4)):
        with pytest.raises(ValueError, match="sample_weight"):
            it.net.at(*it.data, sample_weight=weights)
    for error, name, data in [
        (ValueError, "w has shape", (it.w[1:], it.x, it.y)),
        (ValueError, "x has shape", (it.w, it.x[:, 1:], it.y)),
        (ValueError, "y has shape", (it.w, it.x, it.y[1:])),
        (ValueError, "y has", (it.w, it.x, it.y + 3)),
        (TypeError, "no targets", (it.w, it.x, None)),
        (ValueError, "w has nan", (np.where(np.arange(len(it.w)) == 2, np.nan, it.w), it.x, it.y)),
        (ValueError, "x has inf", (it.w, np.where(it.x > 0, np.inf, it.x), it.y)),
    ]:
        for method in ("layered", "dense"):
            with pytest.raises(error, match=name):
                (it.net.at(*data).hessian + 1.0).factorize(method=method)
        if np.isfinite(data[0]).all() and np.isfinite(data[1]).all():  # else they propagate
            with pytest.raises(error, match=name):
                layer_states(it.net.at(*data))
    with pytest.raises(ValueError, match="sample_weight sums to 0"):
        it = Case("four layers")
        hessian = it.net.at(*it.data, sample_weight=np.zeros(len(it.x))).hessian
        (hessian + 1.0).factorize(method="layered")


@pytest.mark.parametrize("settings", [{}, {"dtype": np.float32}, {"reduction": "mean", "l2": 0.1}])
def test_all_that_is_layered_at_a_point_shares_one_pass(monkeypatch, settings):
    net, rng = MLP((3, 4, 2), **settings), np.random.default_rng(4)
    weights = np.array([1.0, 0.0, 2.0, 1.0, 0.5])
    point = net.at(
        net.initial(0), rng.random((5, 3)), rng.random((5, 2)), sample_weight=weights
    ).in_float64()
    passes = []

    def linearize(net, w, *arguments):
        if w is point.w:  # of a solution, how far rounding moves products is looked at elsewhere
            passes.append(arguments)
        return real(net, w, *arguments)

    def refuse(*_):
        raise AssertionError("another pass over the samples")

    real = _core.linearize
    monkeypatch.setattr(_core, "linearize", linearize)
    for name in dir(_core):
        if name.startswith("mlp_"):
            monkeypatch.setattr(_core, name, refuse)
    b = point.gradient
    (point.hessian + 9.0).factorize(method="layered").solve(b)
    (point.hessian + 9.0j).factorize(method="layered", form="dual").solve(b)
    assert point.hessian.solve(b, damping=9.0, method="layered", inertia=True).success
    assert point.loss >= 0 and (point.hessian @ b).shape == b.shape
    layer_states(point.counted)
    kronecker_factors(point)
    assert len(passes) == 1
    layers, _ = layer_states(point)  # of all samples: those of weight 0 have states, too
    assert len(layers[0].inputs) == 5 and len(passes) == 2


def test_numbers_that_grow_beyond_float64_are_told():
    net = MLP((1, 1, 1), activation="identity", bias=False)
    for method in ("layered", "dense"):
        with pytest.raises(FloatingPointError, match="finite"):
            (net.at([1e200, 1e200], [[1e200]], [[0.0]]).hessian + 1.0).factorize(method=method)


def test_wrong_right_hand_sides_are_named():
    it = Case("labels")
    count = len(it.w)
    real = [it.factorize(1.0), it.factorize(1.0, method="dense")]
    for factors in [*real, it.factorize(shift=1j)]:
        for error, b in [
            (ValueError, np.ones(count + 1)),
            (ValueError, np.ones((2, count - 1))),
            (ValueError, np.ones((2, 2, count))),
            (ValueError, np.ones((0, count))),
            (ValueError, np.full(count, np.nan)),
            (ValueError, np.full((2, count), np.inf)),
            (TypeError, ["a"] * count),
            (TypeError, None),
        ]:
            with pytest.raises(error, match="b "):
                factors.solve(b)
    for factors in real:
        with pytest.raises(TypeError, match="b has dtype complex128"):
            factors.solve(np.ones(count) * 1j)
    with pytest.raises(ValueError, match="b has nan"):
        it.factorize(shift=1j).solve(np.full(count, complex(0, np.nan)))


def test_wrong_updates_are_named():
    it = Case("labels")
    layered, rotated = it.factorize(1.0), it.factorize(shift=1j)
    dense = it.factorize(1.0, method="dense")
    for factors, settings in [
        (layered, {}),
        (layered, {"shift": 1j}),
        (layered, {"damping": 1.0}),
        (rotated, {}),
        (rotated, {"shift": "1"}),
        (dense, {}),
        (dense, {"shift": 1j}),
        (layered, {"shift": "1"}),
    ]:
        with pytest.raises(TypeError):
            factors.update(**settings)
    for factors, settings in [
        (layered, {"shift": np.nan}),
        (rotated, {"shift": complex("inf")}),
        (dense, {"shift": -np.inf}),
    ]:
        with pytest.raises(ValueError):
            factors.update(**settings)
        assert factors.solve(it.b).shape == it.b.shape  # as it was before


def test_wrong_matrices_are_named():
    for error, matrix in [
        (ValueError, np.ones((2, 3))),
        (ValueError, np.ones(4)),
        (ValueError, np.ones((0, 0))),
        (ValueError, [[1.0, 2.0], [2.1, 1.0]]),
        (ValueError, [[1.0, np.nan], [np.nan, 1.0]]),
        (TypeError, [[1j]]),
    ]:
        with pytest.raises(error, match="matrix"):
            DenseFactorization(matrix)
    for shift in ("1", 1j, None):
        with pytest.raises(TypeError, match="shift"):
            DenseFactorization(np.eye(2), shift)


def test_wrong_plans_are_named():
    net = MLP((2, 1))
    for samples in (0, -1, 2**40):
        with pytest.raises(ValueError, match="samples"):
            plan(net, samples)
    with pytest.raises(TypeError, match="samples"):
        plan(net, 1.5)
    for other, kind in ((None, "NoneType"), (3, "int")):
        with pytest.raises(TypeError, match=f"net is of type {kind}; expected an MLP"):
            plan(other, 3)
    with pytest.raises(ValueError, match="form"):
        plan(net, 1, form="both")


@pytest.mark.parametrize(
    "matrix", [np.zeros((3, 3)), np.ones((3, 3)), np.outer([1, 2, 3, 4], [1, 2, 3, 4])]
)
def test_a_singular_matrix_is_one(matrix):
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        DenseFactorization(matrix)


def test_without_damping_weights_outside_the_span_of_the_samples_are_eigenvalues_0():
    it = Case("one layer")  # 2 samples, 4 rows of weights
    for form in FORMS:
        factors = it.factorize(0.0, form=form)
        assert factors.inertia == Inertia(8, 0, 8) and factors.log_determinant == -np.inf
        with pytest.raises(np.linalg.LinAlgError, match="singular"):
            factors.solve(it.b)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        it.factorize(0.0, method="dense")
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        it.factorize(shift=0j)
    assert Case("labels").factorize(0.0).inertia.zero == 0  # l2 is a shift, too


def test_what_does_not_fit_in_memory_is_refused_before_it_is_allocated():
    net = MLP((1000, 1000, 10))
    w, x, y = np.zeros(net.parameter_count), np.zeros((500, 1000)), np.zeros((500, 10))
    with pytest.raises(MemoryError, match="layered factorisation"):
        (net.at(w, x, y).hessian + 1.0).factorize(method="layered")
    with pytest.raises(MemoryError, match="Hessian"):
        (net.at(w, x, y).hessian + 1.0).factorize(method="dense")
    wide = MLP((1, 30000), loss="softmax_cross_entropy")
    labels = np.zeros(1000, int)
    with pytest.raises(MemoryError):
        layer_states(wide.at(np.zeros(wide.parameter_count), np.zeros((1000, 1)), labels))
    with pytest.raises(MemoryError):
        plan(MLP((10**6, 10**6)), 10**6)


def test_the_solution_does_not_change_what_it_is_given(it):
    arrays = [it.w.copy(), it.x.copy(), it.y.copy(), it.b.copy()]
    for kind in ({}, {"method": "dense"}):
        it.factorize(1.0, **kind).solve(it.b)
    for before, after in zip(arrays, [it.w, it.x, it.y, it.b], strict=True):
        np.testing.assert_array_equal(before, after)


def test_factorisations_show_what_they_are():
    it = Case("one layer")
    for kind, name in [({}, "Layered"), ({"method": "dense"}, "Dense")]:
        factors = it.factorize(0.5, **kind)
        shown = repr(factors)
        assert shown.startswith(f"{name}Factorization(P=16, shift=0.5, inertia=(16, 0, 0), log_det")
        assert f"certificate={factors.certificate:.1e})" in shown
    assert "inertia" not in repr(it.factorize(shift=1j))
    assert it.factorize(0.5, method="dense").forms == ("dense",)
    assert set(solve.__all__) <= set(dir(solve))


# Pivots that are nearly 0, and what is proved of the factors --------------------------------------


def _survey():
    path = Path(__file__).parents[1] / "long" / "layered_survey.py"
    spec = importlib.util.spec_from_file_location("layered_survey", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("form", FORMS)
def test_of_random_small_nets_none_is_factored_wrong(form):
    survey = _survey()
    # By form other nets; the whole of it is Tests/long/layered_survey.py.
    first = 160000 + 1000 * FORMS.index(form)
    count, faults, worst = survey.survey(range(first, first + 25), form)
    assert not faults
    lost = count["refused, condition < 1e12"] + count["zeros, condition < 1e12"]
    assert lost <= 0.02 * count["condition < 1e12"]
    # Rounding errors may grow by 1e4 where pivots are chosen, by more where factors are not costly.
    assert worst < 1e-9
    assert count["answered"] > 50 and count["zeros"] > 10


def test_an_eigenvalue_is_not_counted_as_zero_for_roundings_that_need_not_grow():
    survey = _survey()
    it = survey.Problem(30508)  # 9 layers, 1 sample: many pivots as small as the damping
    values = np.linalg.eigvalsh(it.hessian()) + 1e-8
    assert abs(values).min() > 1e-10 * abs(values).max()
    told = (it.net.at(it.w, it.x, it.y).hessian + 1e-8).factorize(method="layered").inertia
    assert told == Inertia(int((values > 0).sum()), int((values < 0).sum()), 0)


def test_a_net_whose_last_layer_has_a_singular_block_is_factored_right():
    net = MLP((1, 2, 1), activation="identity", bias=False)
    w = net.initial(seed=160)
    rng = np.random.default_rng(160)
    x, y = rng.standard_normal((5, 1)), rng.standard_normal((5, 1))
    matrix = net.hessian(w, x, y)
    assert np.linalg.cond(matrix) < 2
    for form in FORMS:
        factors = net.at(w, x, y).hessian.factorize(form=form, method="layered")
        assert factors.inertia == Inertia(2, 2, 0)
        few = 100 * EPSILON  # of 4 by 4 numbers of condition 1.4
        assert abs(factors.log_determinant - np.linalg.slogdet(matrix)[1]) < few
        assert np.abs(matrix @ factors.solve(np.ones(4)) - 1).max() < few
        assert factors.certificate < few and factors.log_determinant_error < 4 * few


def test_biases_of_the_outputs_that_softmax_does_not_see_are_counted_as_zeros():
    net = MLP((4, 5, 3), loss="softmax_cross_entropy")
    w, rng = net.initial(seed=0), np.random.default_rng(0)
    x, y = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    values = np.linalg.eigvalsh(net.hessian(w, x, y))
    assert (abs(values) < 1e-14 * abs(values).max()).sum() == 6
    for form in FORMS:
        factors = net.at(w, x, y).hessian.factorize(form=form, method="layered")
        assert factors.inertia == Inertia(19, 18, 6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e50, 1e90])
def test_zeros_are_counted_as_in_the_dense_hessian_or_not_at_all(form, scale):
    net = MLP((4, 5, 6, 3, 4), activation="identity", loss="binary_cross_entropy", bias=False)
    w, x, y = scale * abs(net.initial(seed=0)), [[0.5, 1.0, 0.3, 0.8]], np.zeros((1, 4))
    matrix = net.hessian(w, x, y)
    values = np.linalg.eigvalsh(matrix / abs(matrix).max())
    assert (abs(values) > 1e-3).sum() == 26 and (abs(values) < 1e-14).sum() == 54
    try:
        told = net.at(w, x, y).hessian.factorize(form=form, method="layered").inertia
    except np.linalg.LinAlgError as error:
        # Products of couplings below 1e-308 beside 1 in other layers are lost.
        assert scale == 1e90 and "cannot be proved how many" in str(error)
    else:
        assert told == Inertia(12, 14, 54)


def test_weights_outside_the_span_of_the_inputs_count_as_zeros_beside_other_zeros():
    net = MLP((5, 2, 1), activation="relu", bias=False)
    w, x, y = net.initial(seed=0), np.ones((2, 5)), np.ones((2, 1))
    values = np.linalg.eigvalsh(net.hessian(w, x, y))
    limit = 1e-14 * abs(values).max()
    expected = Inertia(int((values > limit).sum()), int((values < -limit).sum()), 8)
    for shift in (0.0, 1e-17, -1e-17):
        for form in FORMS:
            hessian = net.at(w, x, y).hessian + shift
            assert hessian.factorize(form=form, method="layered").inertia == expected


def test_numbers_that_overflow_on_the_way_are_no_zeros():
    net = MLP((1, 1, 1, 1, 1), activation=["identity", "identity", "sigmoid"])
    # The sigmoid's slope is 0 at 1e5: H is 1 in the last layer's two weights and 0 elsewhere.
    w, x, y = [1e200, 0, 0, 0, 1e200, 1e5, 1, 0], [[1.0]], [[0.0]]
    for shift in (0.0, 1.0):
        with pytest.raises(np.linalg.LinAlgError, match="overflowed"):
            (net.at(w, x, y).hessian + shift).factorize(method="layered")


@pytest.mark.parametrize(
    ("method", "shift"), [("layered", 1e-40), ("dense", 1e-40), ("layered", 1e-40j)]
)
def test_a_solution_beyond_float32_is_refused(method, shift):
    net = MLP((2, 1), dtype=np.float32, bias=False)
    hessian = net.at([0.0, 0.0], [[0.0, 0.0]], [[1.0]]).hessian
    factors = (hessian + shift).factorize(method=method)
    with pytest.raises(np.linalg.LinAlgError, match="overflows float32"):
        factors.solve([1.0, 1.0])


@pytest.mark.parametrize("shift", [1e-12j, 1e-9 + 1e-12j, -1e-14j])
def test_a_tiny_imaginary_shift_gives_the_dense_solution(shift):
    worst = 0.0
    survey = _survey()
    for seed in range(160000, 160020):
        it = survey.Problem(seed)
        matrix = it.hessian() + shift * np.eye(len(it.w))
        condition = np.linalg.cond(matrix)
        if not condition < 1e8:
            continue
        x = (it.net.at(it.w, it.x, it.y).hessian + shift).factorize(method="layered").solve(it.b)
        exact = np.linalg.solve(matrix, it.b)
        worst = max(worst, np.linalg.norm(x - exact) / np.linalg.norm(exact) / condition)
    # Unrefined: roundings that grew by 1e4.
    assert 0 < worst < 1e-10


@pytest.mark.parametrize("exponent", [-1000, -500, 500, 990])
@pytest.mark.parametrize("method", ["layered", "dense"])
def test_factors_do_not_depend_on_the_scale_of_the_loss(exponent, method):
    # By powers of two: the same numbers but for the one factor, to the bit in the middle.
    rng = np.random.default_rng(3)
    net = MLP((3, 4, 2), activation="tanh")
    w = net.initial(seed=3)
    x, y, b = rng.standard_normal((9, 3)), rng.standard_normal((9, 2)), rng.standard_normal(26)
    scale = 2.0**exponent
    for damping in (0.0, 0.25, -0.375):
        plain = (net.at(w, x, y).hessian + damping).factorize(method=method)
        weights = np.full(9, scale)
        hessian = net.at(w, x, y, sample_weight=weights).hessian
        scaled = (hessian + damping * scale).factorize(method=method)
        assert scaled.inertia == plain.inertia
        shifted = plain.log_determinant + 26 * exponent * np.log(2)
        assert abs(scaled.log_determinant - shifted) < 1e-12 * abs(shifted)
        condition = np.linalg.cond(net.hessian(w, x, y) + damping * np.eye(26))
        error = scaled.solve(b) * scale - plain.solve(b)
        # Unrefined solutions of both.
        few = 1e5 * EPSILON * condition
        assert np.linalg.norm(error) < few * np.linalg.norm(plain.solve(b))


def test_an_update_may_go_from_one_end_of_the_numbers_to_the_other():
    it = Case("labels")
    factors = it.factorize(0.5)
    before = factors.solve(it.b)
    huge = factors.update(1e305)
    assert huge.inertia == Inertia(len(it.w), 0, 0)
    np.testing.assert_allclose(huge.solve(it.b), it.b / 1e305, rtol=1e-12)
    np.testing.assert_array_equal(factors.update(0.5).solve(it.b), before)


def test_dense_factors_at_the_ends_of_the_numbers():
    for scale in (1e-308, 1e-300, 1e-160, 1e160, 1e300, 1e308):
        factors = DenseFactorization([[scale, scale / 2], [scale / 2, -scale]])
        assert factors.inertia == Inertia(1, 1, 0)
        exact = 2 * np.log(scale) + np.log(1.25)
        assert abs(factors.log_determinant - exact) < 10 * EPSILON * abs(exact)
        np.testing.assert_allclose(factors.solve([1.0, 1.0]) * scale, [1.2, -0.4], rtol=1e-14)
    # The determinant of a 2 by 2 pivot is beyond the numbers here.
    pair = DenseFactorization([[1e308, 1.6e308], [1.6e308, -1e308]])
    assert pair.inertia == Inertia(1, 1, 0)
    assert abs(pair.log_determinant - 2 * np.log(1e308) - np.log(3.56)) < 1e-12
    three = DenseFactorization(np.diag([1e308, 1e308, -1e308]))
    assert three.inertia == Inertia(2, 1, 0)
    assert abs(three.log_determinant - 3 * np.log(1e308)) < 1e-12


@pytest.mark.parametrize("order", [2, 30])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_dense_matrix_with_an_eigenvalue_within_rounding_of_zero_is_refused(order, sign):
    rng = np.random.default_rng(order)
    vectors = np.linalg.qr(rng.standard_normal((order, order)))[0]
    values = np.linspace(1, 3, order)
    for least, is_told in [(1e-3, True), (1e-9, True), (1e-17, False), (0.0, False)]:
        values[0] = sign * least
        matrix = (vectors * values) @ vectors.T
        matrix = (matrix + matrix.T) / 2
        if not is_told:
            with pytest.raises(np.linalg.LinAlgError, match="singular to working precision"):
                DenseFactorization(matrix)
            continue
        factors = DenseFactorization(matrix)
        assert factors.inertia == Inertia(order - (sign < 0), int(sign < 0), 0)
        exact = np.log(abs(values)).sum()
        # The matrix itself is rounded, too.
        off = abs(factors.log_determinant - exact)
        assert off < factors.log_determinant_error + order * EPSILON * 3 / least


def test_a_determinant_that_rounding_hides_is_withheld():
    matrix = np.diag([1.0, 1e-14])
    factors = DenseFactorization(matrix)
    assert factors.inertia == Inertia(2, 0, 0)
    assert factors.log_determinant is None and 1e-3 < factors.log_determinant_error < 1


def test_an_error_estimate_of_the_determinant_holds():
    rng = np.random.default_rng(5)
    for order in (3, 12):
        for condition in (1e2, 1e6, 1e10):
            vectors = np.linalg.qr(rng.standard_normal((order, order)))[0]
            values = np.geomspace(1, 1 / condition, order) * rng.choice([-1, 1], order)
            matrix = (vectors * values) @ vectors.T
            matrix = (matrix + matrix.T) / 2
            factors = DenseFactorization(matrix)
            with mpmath.workdps(40):
                exact = float(mpmath.log(abs(mpmath.det(mpmath.matrix(matrix.tolist())))))
            assert abs(factors.log_determinant - exact) <= factors.log_determinant_error


def test_pivots_left_to_other_layers_are_linear_in_the_depth():
    def held(depth):
        net = MLP([3] * (depth + 1), activation="relu", bias=False)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((2, 4, 3))
        factors = net.at(net.initial(seed=1), x, y).hessian.factorize(method="layered")
        assert factors.bytes > plan(net, 4).bytes
        assert sum(vars(factors.inertia).values()) == net.parameter_count
        return factors.bytes

    assert held(64) < 2.5 * held(32)


@pytest.mark.parametrize("damping", [0.0, 1e-12, 1e-6, 0.1])
def test_edges_of_nets_are_told_or_refused(damping):
    rng = np.random.default_rng(8)
    nets = [
        (MLP((1, 1)), 1),
        (MLP((1, 1, 1), bias=False), 1),
        (MLP([1] * 51, activation="tanh"), 2),
        (MLP([2] * 51, activation="identity"), 3),
        (MLP((5, 1, 5), activation="relu"), 1),
    ]
    for net, samples in nets:
        x, y = rng.standard_normal((samples, net.sizes[0])), rng.random((samples, net.sizes[-1]))
        for w in (net.initial(seed=0), np.zeros(net.parameter_count)):
            values = np.linalg.eigvalsh(net.hessian(w, x, y)) + damping
            few = 1e-10 * abs(values).max()
            for form in FORMS:
                try:
                    hessian = net.at(w, x, y).hessian + damping
                    told = hessian.factorize(form=form, method="layered").inertia
                except np.linalg.LinAlgError as error:
                    assert "singular to working precision" in str(error)
                    continue
                assert (values > few).sum() <= told.positive <= (values > -few).sum()
                assert (values < -few).sum() <= told.negative <= (values < few).sum()
                if told.zero == 0 and damping >= 1e-6:
                    assert told.positive == (values > 0).sum()


@pytest.mark.thread_unsafe(reason="a handler of a signal, which the main thread alone may set")
@pytest.mark.parametrize("shift", [0j, 0.0])
def test_layers_whose_pivots_are_all_too_small_are_left_within_moments(shift):
    """A thousand unknowns were made orthonormal without a look at what the user wants."""
    net = MLP((28, 28, 1), activation="identity", bias=False)
    x = np.random.default_rng(0).standard_normal((2, 28))
    hessian = net.at(net.initial(0), x, np.zeros((2, 1))).hessian

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    def lateness(after):
        start = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, after)
        with contextlib.suppress(Stop, np.linalg.LinAlgError):
            (hessian + shift).factorize(method="layered", form="primal")
        return time.process_time() - start - after

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        # The best of a few: a busy machine takes the processor from the thread that it is for.
        late = [min(lateness(after) for _ in range(3)) for after in (0.1, 0.3, 0.6)]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert max(late) < 0.2


@pytest.mark.parametrize("matrix", ["gauss_newton", "fisher"])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_dense_factors_drop_no_imaginary_part(matrix, l2):
    point = MLP((3, 2), l2=l2).at(np.ones(8), np.ones((2, 3)), np.zeros((2, 2)))
    whole = point.fisher("empirical") if matrix == "fisher" else point.gauss_newton
    shifted = whole + (2 + 1j)
    for call in (shifted.factorize, lambda: shifted.factorize(method="dense")):
        with pytest.raises(ValueError, match=r"the shift is \(2\+1j\); expected a real one"):
            call()
    for name in ("inertia", "logdet"):
        with pytest.raises(np.linalg.LinAlgError, match=r"the shift is \(2\+1j\)"):
            getattr(shifted, name)
    with pytest.raises(ValueError, match="form is 'dual'"):
        (whole + 1.0).factorize(form="dual")
