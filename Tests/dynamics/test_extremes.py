"""Numbers at the ends of float64, callbacks that interfere, and coefficients that are 0."""

import importlib
import math

import numpy as np
import pytest

from swiftnets import MLP, dynamics, laplace

A = np.array([[-2.0, 0.5], [0.5, -1.0]])
B = np.diag([1.0, 2.0, 3.0])


@pytest.mark.parametrize("a", [-1000, -500, 0, 500, 1000])
@pytest.mark.parametrize("b", [-1000, -500, 0, 500, 1000])
def test_the_units_of_a_complementarity_problem_do_not_matter(a, b):
    if abs(a - b) > 1000:
        with pytest.raises(FloatingPointError, match=r"X is some 2\^-?\d+"):
            dynamics.solve_sdcp(np.ldexp(A, a), np.ldexp(B, b))
        return
    found = dynamics.solve_sdcp(np.ldexp(A, a), np.ldexp(B, b))
    # B leaves matrices diagonal up to factors: X = −A / B entry by entry, which is positive.
    expected = np.array([[2.0, -0.25], [-0.25, 1 / 3]])
    np.testing.assert_allclose(np.ldexp(found.X, b - a), expected, rtol=1e-13)
    assert max(found.residuals) < 1e-14


@pytest.mark.parametrize("size", [1e200, 1e300])
def test_a_start_far_off_is_no_solution(size):
    found = dynamics.solve_sdcp(-np.eye(2), np.eye(3), start=size * np.eye(2))
    np.testing.assert_allclose(found.X, np.eye(2), atol=1e-14)
    assert np.isfinite(found.residuals).all()


@pytest.mark.parametrize(("a", "b"), [(-1.0, 1e-320), (-1e300, 1e-300), (-1e-300, 1e300)])
def test_a_scalar_solution_beyond_float64_is_an_error(a, b):
    with pytest.raises(FloatingPointError, match="X is some 2"):
        dynamics.solve_sdcp([[a]], [[b]])


def identity_net(q):
    """(q w₁ q w₂ − q²)² / 2 in w, with all derivatives q² times those of q = 1."""
    net = MLP((1, 1, 1), activation="identity", bias=False)
    return net, [[q]], [[q]]


@pytest.mark.parametrize("q", [1e-150, 1e-60, 1.0, 1e60])
def test_the_edge_in_other_units_of_the_loss(q):
    net, x, y = identity_net(q)
    w = np.array([0.6, 1.2])
    # u and T[u, u] of (w₁ w₂ − 1)² / 2 by hand, with r = w₁ w₂ − 1.
    r = w[0] * w[1] - 1
    hessian = np.array([[w[1] ** 2, w[0] * w[1] + r], [w[0] * w[1] + r, w[0] ** 2]])
    values, vectors = np.linalg.eigh(hessian)
    u = vectors[:, -1]
    t = np.array(
        [
            2 * w[1] * u[0] * u[1] * 2 + 2 * w[0] * u[1] ** 2,
            2 * w[1] * u[0] ** 2 + 4 * w[0] * u[0] * u[1],
        ]
    )
    alpha, beta = -r * float(w[::-1] @ t), float(t @ t)
    found = dynamics.edge(net.at(w, x, y), step=2 / (values[-1] * q * q) * 1.01)
    assert math.isclose(found.sharpness / q / q, values[-1], rel_tol=1e-9)
    assert alpha > 0
    assert found.X.shape == (1, 1)
    assert math.isclose(found.X[0, 0], 2 * alpha / beta, rel_tol=1e-6)


def test_derivatives_beyond_float64_are_an_error_of_the_edge():
    net, x, y = identity_net(1e100)
    with pytest.raises(FloatingPointError, match="alpha is .*too large"):
        dynamics.edge(net.at([0.3, 0.9], x, y), step=1.0)
    with pytest.raises(FloatingPointError, match="2 / step is beyond"):
        dynamics.edge(net.at([0.3, 0.9], [[1.0]], [[1.0]]), step=1e-320)


@pytest.mark.parametrize("step", [1e-200, 1e-300])
def test_a_step_far_below_the_edge(step):
    net, x, y = identity_net(1.0)
    found = dynamics.edge(net.at([0.3, 0.9], x, y), step=step)
    assert found.X.shape == (0, 0)
    assert found.certificate is not None


def trained():
    rng = np.random.default_rng(0)
    net = MLP((3, 6, 2), activation="tanh", reduction="mean")
    x, y = rng.normal(size=(12, 3)), 1.5 * rng.normal(size=(12, 2))
    return net.at(net.initial(seed=0), x, y)


def test_a_callback_cannot_change_the_flow():
    calm = dynamics.central_flow(trained(), step=0.8, time=12)
    refused = []

    def meddle(event):
        for array in (event.w, event.X, event.eigenvalues):
            try:
                array[...] = 1e3
            except ValueError:
                refused.append(event.time)

    found = dynamics.central_flow(trained(), step=0.8, time=12, callback=meddle)
    assert len(refused) == 36
    np.testing.assert_array_equal(found.path, calm.path)
    np.testing.assert_array_equal(found.eigenvalues, calm.eigenvalues)
    assert any(len(X) for X in calm.X)
    for one, other in zip(found.X, calm.X, strict=True):
        np.testing.assert_array_equal(one, other)


class Still:
    """A map whose ln|det J| is not a number."""

    def step(self, state):
        return state

    def tangent(self, state, rows):
        return rows

    def log_determinant(self, state):
        return math.nan


def test_a_determinant_that_is_no_number_certifies_nothing():
    with pytest.raises(FloatingPointError, match=r"Still\.log_determinant returned nan"):
        dynamics.lyapunov_spectrum(Still(), [1.0], k=1, steps=40, certify=True)


def collapsed():
    """A minimum where l2 has made all weights 0, and with them T and Q along u."""
    rng = np.random.default_rng(0)
    net = MLP((2, 3, 1), activation="tanh", reduction="mean", l2=0.5)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    return laplace.mode(net.at(net.initial(seed=0), x, y), tolerance=1e-12)


@pytest.mark.parametrize("kind", ["collapsed", "linear"])
def test_a_flip_that_rounding_would_decide_is_not_decided(kind):
    point = collapsed()
    if kind == "linear":
        net = MLP((2, 1), activation="identity")
        point = net.at([2.0, -1.0, 0.0], np.eye(2, 2) * [3, 1], [[6.0], [-1.0]])
    found = dynamics.flip(point)
    assert found.coefficient == 0
    assert "not decided" in repr(found)
    for step in (0.9 * found.critical_step, 1.1 * found.critical_step):
        with pytest.raises(ValueError, match="the coefficient is 0"):
            found.amplitude(step)


@pytest.mark.parametrize("q", [1e-100, 1e100])
def test_a_flip_in_other_units(q):
    net, x, y = identity_net(q)
    found = dynamics.flip(net.at([1.0, 1.0], x, y))
    assert math.isclose(found.coefficient, 4.0, rel_tol=1e-12)
    assert found.null_fraction < 1e-12
    wide = dynamics.flip(net.at([q, q], [[1.0]], [[q * q]]))
    assert math.isclose(wide.amplitude(1.02 / q / q), 0.1 * q, rel_tol=1e-9)


def test_a_cycle_beyond_float64_is_an_error():
    net, x, y = identity_net(1.0)
    found = dynamics.flip(net.at([1.0, 1.0], x, y))
    with pytest.raises(FloatingPointError, match=r"at a step of 1e\+308 is beyond"):
        found.cycle(1e308)


def test_a_gradient_whose_squares_vanish_is_no_zero():
    net = MLP((1, 1, 1), activation="identity", bias=False)
    with pytest.raises(ValueError, match="no critical point: its gradient has norm"):
        dynamics.landau(net.at([1e-3, 1e-3], [[1e-90]], [[1e-90]]))


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
def test_the_length_of_a_soft_mode_does_not_matter(size):
    net = MLP((1, 1, 1), activation="identity", bias=False, l2=0.92)
    found = dynamics.landau(net.at([0.0, 0.0], [[1.0]], [[1.0]]), vector=[size, size])
    assert math.isclose(found.b4, 3.0, rel_tol=1e-12)


def test_an_energy_of_no_numbers():
    net = MLP((1, 1, 1), activation="identity", bias=False, l2=0.92)
    found = dynamics.landau(net.at([0.0, 0.0], [[1.0]], [[1.0]]))
    with pytest.raises(TypeError, match="x has dtype"):
        found.energy("a")
    with pytest.raises(ValueError, match="x has nan"):
        found.energy([0.0, math.nan])
    with pytest.raises(FloatingPointError, match="beyond float64"):
        found.energy(1e100)
    assert found.energy(0.5) == pytest.approx(-0.08 / 8 + 3 / 384)


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_the_length_of_a_start_does_not_matter(size):
    point = trained()
    start = np.random.default_rng(1).normal(size=38)
    one = dynamics.leading_eigenpairs(point, tolerance=1e-8, start=start)
    other = dynamics.leading_eigenpairs(point, tolerance=1e-8, start=size * start)
    assert math.isclose(one.values[0], other.values[0], rel_tol=1e-12)
    assert one.products == other.products


def test_means_of_the_largest_numbers():
    most = np.finfo(np.float64).max
    np.testing.assert_array_equal(dynamics.smoothed([most] * 9), [most])


class Henon:
    def step(self, state):
        return np.array([1 - 1.4 * state[0] ** 2 + state[1], 0.3 * state[0]])

    def tangent(self, state, rows):
        return np.stack([-2.8 * state[0] * rows[:, 0] + rows[:, 1], 0.3 * rows[:, 0]], axis=1)

    def settings(self):
        return {}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("count", lambda array: array - 20),
        ("count", lambda array: array + 10**6),
        ("blocks", lambda array: array[:3]),
        ("blocks", lambda array: array[:, :1]),
        ("blocks", lambda array: array * math.nan),
        ("state", lambda array: array * math.nan),
        ("deviation", lambda array: array * math.nan),
    ],
)
def test_a_checkpoint_of_no_state_is_refused(tmp_path, name, change):
    path = tmp_path / "run"
    dynamics.lyapunov_spectrum(Henon(), [0.1, 0.1], k=2, steps=200, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    arrays[name] = change(arrays[name])
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(dynamics.CheckpointError, match="damaged"):
        dynamics.lyapunov_spectrum(Henon(), [0.1, 0.1], k=2, steps=200, checkpoint=path)


def test_leading_eigenpairs_of_no_numbers():
    net = MLP((2, 3, 1))
    w = net.initial(seed=0)
    w[0] = math.inf
    with pytest.raises(ValueError, match=r"point\.w has inf"):
        dynamics.leading_eigenpairs(net.at(w, np.eye(2), np.ones((2, 1))))


def test_eigenpairs_are_shown_in_a_line():
    found = dynamics.leading_eigenpairs(trained(), k=6, above=1.0, certify=True)
    assert "\n" not in repr(found)
    assert repr(found).startswith(f"LeadingEigenpairs({found.values[0]:.6g}, ")
    assert f"{found.count} above the threshold, by inertia" in repr(found)


def test_a_flow_that_leaves_the_edge_says_so():
    # (I − W₂ W₁) of two equal singular values: the path along the symmetric matrices is unstable
    # for Euler's method in steps of ½, and what rounding leaves beside it grows.
    net = MLP((2, 2, 2), activation="identity", bias=False)
    point = net.at([0.9, 0, 0, 0.9, 0.8, 0, 0, 0.8], np.eye(2), np.eye(2))
    step = 2 / float(np.linalg.eigvalsh(point.hessian.dense())[-1])
    coarse = dynamics.central_flow(point, step=step, time=20)
    fine = dynamics.central_flow(point, step=step, time=20, substeps=4)
    rises = coarse.eigenvalues[1:, 0] * step / 2 - 1
    assert coarse.excess == pytest.approx(rises.max(), rel=1e-12)
    assert coarse.excess > 0.1
    (said,) = coarse.messages
    time = 1 + int(rises.argmax())
    assert f"% above 2 / η at time {time}" in said
    assert "expected more" in said
    assert "see messages" in repr(coarse)
    assert fine.excess < 1e-3
    assert fine.messages == []
    assert "see messages" not in repr(fine)
    # What the fine one goes to, by hand: W₁ = W₂ = s I has the largest eigenvalue s² + 1.
    s = math.sqrt(2 / step - 1)
    np.testing.assert_allclose(fine.w, s * np.eye(2).ravel()[[0, 1, 2, 3] * 2], atol=2e-3)


def test_a_flow_without_eigenvalues_has_nothing_to_say():
    assert dynamics.central_flow(trained(), step=0.1, time=3, threshold=math.inf).messages == []
    start = dynamics.central_flow(trained(), step=1.2, time=0)
    assert start.excess == 0
    assert dynamics.central_flow(trained(), step=0.8, time=12).messages == []


def test_a_step_far_above_the_edge_is_refused_and_does_not_hang():
    net = MLP((9, 9), activation="identity", bias=False)
    point = net.at(net.initial(seed=0), np.eye(9), np.ones((9, 9)))
    for call in (
        lambda: dynamics.edge(point, step=1e9),
        lambda: dynamics.central_flow(point, step=1e9, time=2),
    ):
        with pytest.raises(
            np.linalg.LinAlgError, match=r"\d+ eigenvalues are critical; .* up to 64"
        ):
            call()


def test_many_leading_eigenpairs_take_few_rounds(monkeypatch):
    net = MLP((9, 9), activation="identity", bias=False)
    point = net.at(net.initial(seed=0), np.diag(np.arange(1.0, 10.0)), np.ones((9, 9)))
    rounds = []
    module = importlib.import_module("swiftnets.dynamics.leading")
    eigsh = module.eigsh
    monkeypatch.setattr(module, "eigsh", lambda *a, **k: rounds.append(a) or eigsh(*a, **k))
    found = dynamics.leading_eigenpairs(point, above=3.5**2, certify=True)
    # The squares of the inputs' lengths, nine times each: six of them are above.
    assert found.count == 54
    np.testing.assert_allclose(
        found.values, np.repeat(np.arange(9.0, 2, -1) ** 2, 9)[:55], rtol=1e-6
    )
    assert len(rounds) <= 10


@pytest.mark.parametrize("scale", [1e-100, 1e-80, 1.0, 1e80, 1e150])
def test_leading_eigenpairs_whose_squares_are_no_numbers(scale):
    """The residual of a start that is no eigenvector was 0 or infinite, and taken for small."""
    net = MLP((3, 1), bias=False)
    x = np.diag([3.0, 2.0, 1.0]) * scale
    point = net.at([1.0, 1.0, 1.0], x, np.zeros((3, 1)))
    found = dynamics.leading_eigenpairs(
        point, k=2, tolerance=1e-6, start=np.ones((3, 2)) + np.eye(3)[:, :2]
    )
    np.testing.assert_allclose(found.values / scale / scale, [9.0, 4.0], rtol=1e-5)
    assert (found.residuals <= 1e-6 * found.values[0]).all()


@pytest.mark.parametrize("q", [1e-90, 1.0, 1e90])
def test_a_vector_is_no_eigenvector_in_any_units(q):
    net, x, y = identity_net(q)
    with pytest.raises(ValueError, match="vector is no eigenvector"):
        dynamics.landau(net.at([0.8, 1.25], x, y), vector=[1.0, 0.0])


@pytest.mark.parametrize("size", [1e2, 1e4, 1e9, 1e13])
def test_the_largest_eigenvalue_beside_a_much_larger_negative_one(size):
    """Residuals were compared with the largest modulus: any vector was the largest one's."""
    net = MLP((6, 1), bias=False, output_activation="sine")
    x = np.zeros((3, 6))
    x[0, 0], x[1, 1], x[2, 2] = 1.0, 1.3, math.sqrt(size)
    w, y = [0.5, 0.4, 1.2 / math.sqrt(size), 0.3, 0.2, 0.1], [0.1, 0.1, -9.0]
    point = net.at(w, x, y)
    # Of ½ (sin z − y)² for one sample each, whose input is a coordinate: diagonal.
    z = (x * w).sum(axis=1)
    curvature = np.cos(z) ** 2 - (np.sin(z) - y) * np.sin(z)
    values = np.sort(curvature * x.max(axis=1) ** 2)[::-1]
    assert values[2] < -size / 2
    # Products are rounded by the norm's digits.
    few = max(2e-3, 1e-15 * size)
    found = dynamics.leading_eigenpairs(point, k=2)
    np.testing.assert_allclose(found.values, values[:2], rtol=few)
    step = 2 / (1.02 * values[0])
    flow = dynamics.central_flow(point, step=step, time=1, certify_every=None)
    assert flow.counts[0] == 1 and abs(flow.eigenvalues[0, 0] / values[0] - 1) < few
