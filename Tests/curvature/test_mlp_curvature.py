"""Second derivatives of MLP, and the Jacobians and samples' gradients that go with them."""

import subprocess
import sys

import mlp_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlp_reference import (
    ALL,
    DTYPES,
    LOSSES,
    Net,
    assert_near,
    bound,
    case,
    extended,
    label,
    problems,
)

from swiftnets import MLP, _core
from swiftnets.curvature.kinds import Kind
from swiftnets.curvature.matrix import streamed_products
from swiftnets.nets.activations import Activation

LIKELIHOODS = [name for name in LOSSES if name != "huber"]


@pytest.mark.parametrize("name", ALL[::8], ids=label)
def test_differences_are_right_to_the_digits_that_the_bounds_need(name):
    it = case(*name)
    dense = reference.hessian(it.net, it.w, it.x, it.y)
    exact = reference.mixed(it.net, it.w, it.x, it.y, it.directions[:1])[0,]
    fine = bound(it.net, len(it.x), float, 2) / 5
    assert_near(dense @ it.directions[0], exact, fine, abs(dense @ abs(it.directions[0])).max())
    assert_near(dense, dense.T, fine)


@pytest.mark.parametrize("name", ALL, ids=label)
def test_the_hessian_is_the_differences_of_the_gradient(name):
    it = case(*name)
    theirs = reference.hessian(it.net, it.w, it.x, it.y)
    identity, v = np.eye(len(it.w)), it.directions
    for dtype in DTYPES:
        net, data = it.net.engine(dtype), it.data(dtype)
        few, size = bound(it.net, len(it.x), dtype, 2), abs(theirs).max()
        ours = net.hessian(*data)
        assert ours.dtype == dtype and (ours == ours.T).all()
        assert_near(ours, theirs, few)
        assert_near(net.hvp(*data, identity), theirs, few)
        assert_near(net.hvp(*data, v[0]), theirs @ v[0], few, (abs(theirs) @ abs(v[0])).max())
        assert_near(net.at(*data).hessian.diagonal(), theirs.diagonal(), few, size)
        diagonal = net.hessian(*data, block="diagonal")
        assert len(diagonal) == net.depth
        for i, rows in enumerate(net.layer_slices):
            assert_near(diagonal[i], theirs[rows, rows], few, size)
            assert (diagonal[i] == diagonal[i].T).all()
            for j, columns in enumerate(net.layer_slices):
                block = net.hessian(*data, block=(i, j))
                assert_near(block, theirs[rows, columns], few, size)
        kept = net.at(*data)
        assert_near(identity @ kept.hessian, theirs, few)


@pytest.mark.parametrize("name", ALL, ids=label)
def test_gauss_newton_and_fisher_are_made_of_the_jacobian(name):
    it = case(*name)
    theirs = reference.gauss_newton(it.net, extended(it.w), extended(it.x), it.y)
    jacobian = reference.jacobian(it.net, extended(it.w), extended(it.x))
    likelihood, identity = it.net.loss.name != "huber", np.eye(len(it.w))
    for dtype in DTYPES:
        net, (w, x, y) = it.net.engine(dtype), it.data(dtype)
        few, size = bound(it.net, len(x), dtype, 2), abs(theirs).max()
        point = net.at(w, x, y)
        ours = point.gauss_newton.dense()
        assert (ours == ours.T).all()
        assert_near(ours, theirs, few)
        assert_near(identity @ point.gauss_newton, theirs, few)
        samples = net.engine.reader.samples(x, y, None)
        streamed = streamed_products(
            net.engine, Kind.GAUSS_NEWTON, w, samples, identity.astype(dtype)
        )
        assert_near(streamed, theirs, few)
        assert_near(point.gauss_newton.diagonal(), theirs.diagonal(), few, size)
        # Positive semidefinite to the rounding of every entry.
        lowest = np.linalg.eigvalsh(ours.astype(float))[0]
        assert lowest >= -few * size * len(w)
        if likelihood:
            assert_near(point.fisher().dense(), theirs, few)
            assert_near(identity @ point.fisher(), theirs, few)
            assert_near(point.fisher().diagonal(), theirs.diagonal(), few, size)
        for i, rows in enumerate(net.layer_slices):
            for j, columns in enumerate(net.layer_slices):
                block = point.gauss_newton.dense(block=(i, j))
                assert_near(block, theirs[rows, columns], few, size)
        assert_near(net.at(w, x).jacobian(), jacobian, few)


@pytest.mark.parametrize("name", ALL[::3], ids=label)
def test_the_empirical_fisher_is_the_gradients_products(name):
    it = case(*name)
    rows = np.array(
        [
            reference.gradient(it.net, extended(it.w), extended(x[None]), y[None])
            for x, y in zip(it.x, it.y, strict=True)
        ]
    )
    theirs, identity = rows.T @ rows, np.eye(len(it.w))
    for dtype in DTYPES:
        net, data = it.net.engine(dtype), it.data(dtype)
        few, size = bound(it.net, len(it.x), dtype, 2), abs(theirs).max()
        point = net.at(*data)
        fisher = point.fisher("empirical")
        assert_near(point.per_sample_gradients(), rows, few)
        assert_near(fisher.dense(), theirs, few)
        assert_near(identity @ fisher, theirs, few)
        samples = net.engine.reader.samples(*data[1:], None)
        streamed = streamed_products(
            net.engine, Kind.EMPIRICAL_FISHER, data[0], samples, identity.astype(dtype)
        )
        assert_near(streamed, theirs, few)
        assert_near(fisher.diagonal(), theirs.diagonal(), few, size)
        for i, part in enumerate(net.layer_slices):
            for j, columns in enumerate(net.layer_slices):
                block = fisher.dense(block=(i, j))
                assert_near(block, theirs[part, columns], few, size)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reduction_weights_and_l2_enter_every_matrix(reduction, weighted, loss):
    it = case("silu", loss, True, 3, n=5, reduction=reduction, l2=0.75)
    weights = it.weights if weighted else None
    s = np.ones(5) if weights is None else weights
    s = s / s.sum() if reduction == "mean" else s
    point = extended(it.w), extended(it.x), it.y
    hessian = reference.hessian(it.net, it.w, it.x, it.y, weights)
    gauss_newton = reference.gauss_newton(it.net, *point, weights)
    plain = Net(it.net.sizes, it.net.activations, it.net.loss)
    rows = np.array(
        [
            reference.gradient(plain, point[0], point[1][k : k + 1], it.y[k : k + 1])
            for k in range(5)
        ]
    )
    empirical = (s[:, None] * rows).T @ rows + 0.75 * np.eye(len(it.w))
    for dtype in DTYPES:
        net, data = it.net.engine(dtype), it.data(dtype)
        few, more = bound(it.net, 5, dtype, 2), {"sample_weight": weights}
        identity = np.eye(len(it.w))
        assert_near(net.at(*data).per_sample_gradients(), rows, few)
        assert_near(net.hessian(*data, **more), hessian, few)
        assert_near(net.hvp(*data, identity, **more), hessian, few)
        kept = net.at(*data, **more)
        for matrix, theirs in (
            (kept.hessian, hessian),
            (kept.gauss_newton, gauss_newton),
            (kept.fisher("empirical"), empirical),
        ):
            assert_near(matrix.dense(), theirs, few)
            assert_near(identity @ matrix, theirs, few)
            assert_near(matrix.diagonal(), theirs.diagonal(), few)
            samples = net.engine.reader.samples(*data[1:], weights)
            streamed = streamed_products(
                net.engine, matrix.kind, data[0], samples, identity.astype(dtype)
            )
            assert_near(streamed, theirs, few)
        loss, gradient = net.loss_and_gradient(*data, sample_weight=weights)
        assert_near(kept.loss, loss, few)
        assert_near(kept.gradient, gradient, few)
        # The l2 term is on the diagonal alone, once.
        for i, j in np.ndindex(3, 3):
            block = net.hessian(*data, block=(i, j), sample_weight=weights)
            theirs = hessian[net.layer_slices[i], net.layer_slices[j]]
            assert_near(block, theirs, few, abs(hessian).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shift", [0.25, 2, np.float64(-0.5), np.float32(0.5), np.uint8(3), 1 - 2j, np.complex64(2j)]
)
def test_a_shift_is_on_the_diagonal_of_everything_that_a_matrix_says(shift, dtype):
    it = case("tanh", "squared_error", True, 2, l2=0.5)
    net, data, v = it.net.engine(dtype), it.data(dtype), it.directions.astype(dtype)
    few, number = bound(it.net, len(it.x), dtype, 2), complex(shift)
    for plain in (net.at(*data).hessian, net.at(*data).gauss_newton):
        dense, eye = plain.dense(), np.eye(len(it.w))
        for matrix, sign in ((plain + shift, 1), (shift + plain, 1), (plain - shift, -1)):
            assert matrix.shift == sign * number and matrix.shape == plain.shape
            theirs = dense + sign * number * eye
            theirs = theirs if np.iscomplexobj(shift) else theirs.real
            size = abs(theirs).max()
            ours = matrix.dense()
            assert ours.dtype == matrix.dtype == (v @ matrix).dtype == (matrix @ v.T).dtype
            assert ours.dtype == np.result_type(dtype, np.complex64 if matrix.shift.imag else dtype)
            assert_near_each(ours, theirs, few, size)
            assert_near_each(matrix.diagonal(), theirs.diagonal(), few, size)
            assert_near_each(v @ matrix, v @ theirs, few, size * abs(v).sum())
            assert_near_each(matrix @ v.T, theirs @ v.T, few, size * abs(v).sum())
            for i, rows in enumerate(net.layer_slices):
                for j, columns in enumerate(net.layer_slices):
                    block = matrix.dense(block=(i, j))
                    assert block.dtype == matrix.dtype
                    assert_near_each(block, theirs[rows, columns], few, size)
        assert (plain + 1 + 2j - 2j - 1).shift == plain.shift == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l2", [1e10, 2.0**40])
def test_l2_and_a_shift_are_added_as_one_sum(l2, dtype):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 5, 3))
    w, v = random.standard_normal((2, 24))
    plain, penalised = (
        MLP((3, 3, 3), l2=penalty, dtype=dtype).at(w, x, y).hessian + shift
        for penalty, shift in ((0.0, 0.0), (l2, -l2))
    )
    np.testing.assert_array_equal(penalised @ v, plain @ v)
    np.testing.assert_array_equal(penalised.diagonal(), plain.diagonal())
    np.testing.assert_array_equal(penalised.dense(), plain.dense())
    np.testing.assert_array_equal(penalised.dense(block=(1, 1)), plain.dense(block=(1, 1)))
    np.testing.assert_array_equal((penalised + 1j) @ v, (plain + 1j) @ v)
    assert (penalised + 0.5).inertia == (plain + 0.5).inertia
    b = plain @ v
    for block in (None, "diagonal"):
        ours, theirs = (m.solve(b, damping=30.0, block=block) for m in (penalised, plain))
        assert ours.success
        np.testing.assert_array_equal(ours.solution, theirs.solution)


def test_shifts_that_do_not_add_up_to_a_number_are_refused_at_the_sum():
    hessian = MLP((2, 1)).at(np.zeros(3), [[1.0, 2.0]], [[0.0]]).hessian + 1.7e308
    assert (hessian + 1.7e308j).shift == 1.7e308 + 1.7e308j
    for call in (lambda: hessian + 1.7e308, lambda: hessian - -1.7e308):
        with pytest.raises(ValueError) as caught:
            call()
        assert str(caught.value) == "shift is 1.7e+308 added to 1.7e+308; expected a finite sum"
    large = MLP((2, 1), l2=1.7e308).at(np.zeros(3), [[1.0, 2.0]], [[0.0]]).hessian
    with pytest.raises(ValueError, match=r"^shift is 1e\+308, and l2 is 1.7e\+308; expected a fin"):
        large + 1e308


def test_what_is_of_real_matrices_says_so_for_complex_shifts():
    matrix = MLP((2, 1)).at(np.zeros(3), [[1.0, 2.0]], [[0.0]]).hessian + 1j
    for name in ("inertia", "logdet"):
        with pytest.raises(np.linalg.LinAlgError, match="^the shift is 1j; .* of real matrices"):
            getattr(matrix, name)


def assert_near_each(ours, theirs, few, size):
    assert_near(np.real(ours), np.real(theirs), few, size)
    assert_near(np.imag(ours), np.imag(theirs), few, size)


def test_fisher_is_gauss_newton_where_the_loss_is_a_likelihood_and_refused_elsewhere():
    for loss in LOSSES:
        it = case("tanh", loss, True, 2)
        net, v = it.net.engine(), it.directions
        data = it.data(np.float64)
        if loss in LIKELIHOODS:
            fisher, gauss_newton = net.at(*data).fisher(), net.at(*data).gauss_newton
            np.testing.assert_array_equal(fisher.dense(), gauss_newton.dense())
            np.testing.assert_array_equal(v @ fisher, v @ gauss_newton)
            continue
        for kind in ((), ("exact",)):
            with pytest.raises(ValueError, match="^kind is \"exact\" .*'huber'"):
                net.at(*data).fisher(*kind)
        assert net.at(*data).fisher("empirical").dense().any()
    with pytest.raises(ValueError, match="^kind is 'Exact'; expected 'exact' or 'empirical'"):
        net.at(*data).fisher("Exact")


@pytest.mark.parametrize("loss", LOSSES)
def test_the_jacobians_products_are_its_products(loss):
    it = case("gelu", loss, True, 3, n=5)
    jacobian = reference.jacobian(it.net, extended(it.w), extended(it.x))
    u = np.random.default_rng(0).normal(size=(4, 5, it.net.sizes[-1])).astype(np.float32)
    v = it.directions
    tangents = np.einsum("nkp,vp->vnk", jacobian, v)
    cotangents = np.einsum("nkp,unk->up", jacobian, u)
    for dtype in DTYPES:
        net, (w, x, _) = it.net.engine(dtype), it.data(dtype)
        few = bound(it.net, 5, dtype, 2)
        assert_near(net.at(w, x).jvp(v), tangents, few)
        assert_near(net.at(w, x).vjp(u), cotangents, few)
        for k in range(3):
            assert_near(net.at(w, x).jvp(v[k]), tangents[k], few)
            assert_near(net.at(w, x).vjp(u[k]), cotangents[k], few)
        assert net.at(w, x).jvp(v[:1]).shape == (1, 5, it.net.sizes[-1])
        assert net.at(w, x).vjp(u[:1]).shape == (1, len(w))


# Closed forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_regression_has_its_closed_form(dtype):
    random = np.random.default_rng(1)
    x, y = random.integers(-4, 5, (6, 3)).astype(dtype), random.integers(-4, 5, (6, 2))
    net = MLP((3, 2), dtype=dtype)
    w = random.integers(-4, 5, net.parameter_count).astype(dtype)
    ones = np.column_stack([x, np.ones(6, dtype)])
    hessian = np.kron(ones.T @ ones, np.eye(2))
    residual = ones @ w.reshape(4, 2) - y
    # Small integers: nothing rounds.
    np.testing.assert_array_equal(net.hessian(w, x, y), hessian)
    np.testing.assert_array_equal(net.at(w, x, y).gauss_newton.dense(), hessian)
    np.testing.assert_array_equal(net.gradient(w, x, y), (ones.T @ residual).ravel())
    np.testing.assert_array_equal(net.hvp(w, x, y, w), hessian @ w)
    np.testing.assert_array_equal(net.at(w, x, y).hessian.diagonal(), hessian.diagonal())
    assert net.loss(w, x, y) == 0.5 * (residual**2).sum()


def test_logistic_regression_has_its_closed_form():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(6, 3)), random.integers(2, size=(6, 1)).astype(float)
    net = MLP((3, 1), loss="binary_cross_entropy", reduction="mean", l2=0.1)
    w = random.normal(size=4)
    ones = np.column_stack([x, np.ones(6)])
    p = 1 / (1 + np.exp(-ones @ w))
    hessian = ones.T * (p * (1 - p)) @ ones / 6 + 0.1 * np.eye(4)
    few = bound(Net((3, 1), net.activations, net.loss_function), 6, float, 2)
    assert_near(net.hessian(w, x, y), hessian, few)
    assert_near(net.gradient(w, x, y), ones.T @ (p - y[:, 0]) / 6 + 0.1 * w, few)


def test_output_blocks_of_different_units_are_zero_where_the_loss_keeps_them_apart():
    it = case("tanh", "binary_cross_entropy", True, 2)
    outputs = it.net.sizes[-1]
    last = it.net.engine().hessian(*it.data(float), block=(1, 1))
    apart = np.add.outer(np.arange(len(last)), np.arange(len(last))) % outputs != 0
    assert outputs == 2 and not last[apart].any() and last[~apart].any()


# Identities --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(problems(), st.floats(-8, 8))
def test_products_are_symmetric_linear_and_those_of_the_matrix(problem, factor):
    net, w, x, y, random = problem
    ours, few = net.engine(), 2 * bound(net, len(x), float, 2)
    u, v = random.normal(size=(2, len(w)))
    for matrix_of in (
        lambda point: point.hessian,
        lambda point: point.gauss_newton,
        lambda point: point.fisher("empirical" if net.loss.name == "huber" else "exact"),
    ):
        matrix = matrix_of(ours.at(w, x, y))
        dense = matrix.dense()
        rows = [u, v, u + factor * v] @ matrix
        # What is added up: samples may cancel, and so may parts of 1's size in each of them.
        each = [ours.at(w, x[k : k + 1], y[k : k + 1]) for k in range(len(x))]
        terms = 1 + sum(abs(matrix_of(point).dense()).max() for point in each)
        size = terms * (abs(u) + (1 + abs(factor)) * abs(v)).sum()
        assert_near(rows[:2], np.stack([dense @ u, dense @ v]), few, size)
        assert_near(rows[2], rows[0] + factor * rows[1], few, size)
        assert abs(v @ rows[0] - u @ rows[1]) <= few * size * abs(v).max() * len(w)
        for k, direction in enumerate((u, v, u + factor * v)):
            assert_near(direction @ matrix, rows[k], few, size)
            assert_near(matrix @ direction, rows[k], few, size)


@settings(max_examples=40)
@given(problems())
def test_jvp_and_vjp_are_adjoint(problem):
    net, w, x, _, random = problem
    ours, few = net.engine(), bound(net, len(x), float, 2)
    u, v = random.normal(size=(len(x), net.sizes[-1])), random.normal(size=len(w))
    tangent, jacobian = ours.at(w, x).jvp(v), ours.at(w, x).jacobian()
    left, right = (tangent * u).sum(), ours.at(w, x).vjp(u) @ v
    size = np.einsum("nk,nkp,p->", abs(u), abs(jacobian), abs(v))
    size = size + abs(u).sum() * abs(v).sum() * abs(w).max() * 2.0**-26  # where slopes vanish
    assert abs(left - right) <= few * size


# Memory, threads ---------------------------------------------------------------------------------


def test_the_matrix_goes_where_it_is_told(tmp_path):
    it = case("tanh", "squared_error", True, 2)
    net, data = it.net.engine(), it.data(float)
    p, expected = len(it.w), it.net.engine().hessian(*it.data(float))
    out = np.full((p, p), np.nan)
    assert net.hessian(*data, out=out) is out
    np.testing.assert_array_equal(out, expected)
    mapped = np.memmap(tmp_path / "matrix", np.float64, "w+", shape=(p, p))
    net.at(*data).gauss_newton.dense(out=mapped)
    np.testing.assert_array_equal(mapped, net.at(*data).gauss_newton.dense())
    net.at(*data).fisher("empirical").dense(out=out)
    np.testing.assert_array_equal(out, net.at(*data).fisher("empirical").dense())
    for bad in (
        np.empty((p, p), np.float32),
        np.empty((p, p + 1)),
        np.empty((p, p), order="F"),
        np.empty((p, 2 * p))[:, ::2],
        [[0.0] * p] * p,
        np.lib.stride_tricks.as_strided(np.empty((p, p)), writeable=False),
    ):
        with pytest.raises((TypeError, ValueError), match="^out is "):
            net.hessian(*data, out=bad)
    with pytest.raises(ValueError, match="^out is for the whole matrix"):
        net.hessian(*data, block=(0, 0), out=out)


def test_a_point_keeps_its_numbers_when_the_arrays_change():
    it = case("tanh", "softmax_cross_entropy", True, 3)
    net, (w, x, y) = it.net.engine(), it.data(float)
    v, weights = it.directions, it.weights.copy()
    kept = net.at(w, x, y, sample_weight=weights)
    before = v @ kept.hessian, v @ kept.gauss_newton, v @ kept.fisher("empirical")
    for array in (w, x, y, weights):
        array[...] = 1
    after = v @ kept.hessian, v @ kept.gauss_newton, v @ kept.fisher("empirical")
    for ours, theirs in zip(after, before, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    del net, w, x, y
    np.testing.assert_array_equal(v[0] @ kept.hessian, (v[:1] @ kept.hessian)[0])


@pytest.fixture
def threads():
    before = _core.get_threads()
    yield _core.set_threads
    _core.set_threads(before)


def large(loss):
    """A net, a point, samples and nine directions that are worth more than one thread."""
    random, n = np.random.default_rng(3), 700
    net = Net((20, 30, 10), (Activation("tanh"), Activation("identity")), LOSSES[loss])
    w = reference.draw_parameters(random, net)
    x, y = random.normal(size=(n, 20)), reference.draw_targets(random, net, n)
    return net, w, x, y, random.normal(size=(9, len(w)))


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "squared_error"])
def test_the_same_threads_give_the_same_bits_and_others_the_same_to_rounding(threads, loss):
    net, w, x, y, v = large(loss)
    ours, few = net.engine(), bound(net, len(x), float, 4)

    def results():
        kept = ours.at(w, x, y)
        series = kept.taylor(v[0])
        return [
            ours.predict(w, x),
            *ours.loss_and_gradient(w, x, y),
            ours.hvp(w, x, y, v),
            ours.hvp(w, x, y, v[0]),
            v @ kept.hessian,
            v @ kept.gauss_newton,
            v @ kept.fisher("empirical"),
            ours.hessian(w, x, y),
            ours.hessian(w, x, y, block=(1, 0)),
            kept.hessian.diagonal(),
            kept.jvp(v),
            kept.vjp(kept.jvp(v)),
            kept.per_sample_gradients(),
            series.loss,
            series.gradient,
            kept.third(v[0], v),
            kept.fourth(v[0], v[1], v),
        ]

    runs = []
    for count in (2, 1, 2, 1):
        threads(count)
        runs.append(results())
    for two, one, again, alone in zip(*runs, strict=True):
        np.testing.assert_array_equal(two, again)
        np.testing.assert_array_equal(one, alone)
        assert_near(two, one, few)


IN_BURSTS = """
import time
while True:
    end = time.perf_counter() + 0.003
    while time.perf_counter() < end:
        pass
    time.sleep(0.003)
"""


@pytest.fixture
def busy():
    """Another program keeps a processor busy, off and on: the engine's threads work together or
    one for all, and change from one to the other between calls."""
    program = subprocess.Popen([sys.executable, "-c", IN_BURSTS])
    yield
    program.kill()
    program.wait()


def test_a_busy_machine_changes_no_bit(threads, busy):
    net, w, x, y, v = large("softmax_cross_entropy")
    ours = net.engine()
    threads(2)

    def results():
        kept = ours.at(w, x, y)
        return [
            kept.gradient,
            v @ kept.hessian,
            v[0] @ kept.hessian,
            v @ kept.gauss_newton,
            ours.hvp(w, x, y, v),
            ours.hvp(w, x, y, v[0]),
            kept.taylor(v[0]).gradient,
        ]

    expected = results()
    for _ in range(100):
        for again, first in zip(results(), expected, strict=True):
            np.testing.assert_array_equal(again, first)


def test_a_point_has_the_nets_outputs_with_targets_or_without():
    net = MLP((2, 3, 2), dtype=np.float32)
    w = net.initial(0)
    x, y = np.arange(6.0).reshape(3, 2), np.ones((3, 2))
    expected = net.predict(w, x)
    batches = [(x[:2], y[:2]), (x[2:], y[2:])]
    for point in (net.at(w, x), net.at(w, x, y, sample_weight=[1, 0, 1]), net.at(w, batches)):
        assert point.outputs.dtype == np.float32
        np.testing.assert_array_equal(point.outputs, expected)
    assert repr(net.at(w, x)).endswith(", 3 samples without targets)")
    assert repr(net.at(w, x[:1], y[:1])).endswith(", 1 sample)")
