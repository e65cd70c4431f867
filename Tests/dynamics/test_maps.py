"""The maps beside differences of their steps, JAX's derivatives, and the optimizers' own steps."""

import copy
import pickle

import chaotic_net
import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets.dynamics import (
    AdamMap,
    GradientDescentMap,
    MomentumMap,
    NewtonMap,
    StochasticMap,
)
from swiftnets.nets import ELU, Dense, Flatten, LeakyReLU, MaxPool2d, Residual
from swiftnets.optimizers import SGD, Adam, Momentum, Newton, SaddleFreeNewton
from swiftnets.problems import Counted, Minibatches, NetProblem, Problem, Quadratic, Rosenbrock

EPS = np.finfo(float).eps


def batches(size=5):
    return Minibatches(chaotic_net.net(), *chaotic_net.samples(), batch_size=size, seed=3)


MAPS = {
    "descent": lambda p: GradientDescentMap(p, learning_rate=2.0),
    "momentum": lambda p: MomentumMap(p, learning_rate=0.5, momentum=0.9),
    "adam": lambda p: AdamMap(p, learning_rate=0.05, beta1=0.8, beta2=0.9, epsilon=1e-3),
    "newton": lambda p: NewtonMap(p, damping=0.7, learning_rate=0.8),
    "whole newton": lambda p: NewtonMap(p, damping=0.7),
    "indefinite newton": lambda p: NewtonMap(p, damping=-0.05, learning_rate=0.5),
    "saddle-free": lambda p: NewtonMap(p, damping=0.1, learning_rate=0.5, saddle_free=True),
    "sgd": lambda p: StochasticMap(batches(), learning_rate=1.0),
    "minibatch adam": lambda p: StochasticMap(
        batches(), AdamMap, learning_rate=0.05, beta2=0.9, epsilon=1e-3
    ),
}


@pytest.fixture(params=MAPS, ids=lambda name: name.replace(" ", "-"))
def moved(request):
    """A map, and a state of a few steps."""
    one = MAPS[request.param](chaotic_net.problem())
    state = one.state(chaotic_net.net().initial(seed=1))
    for _ in range(4):
        state = one.step(state)
    return one, state


def differences(one, state, rows, h):
    """Derivatives of a step along rows, by central differences of sixth order."""
    weights = {1: 45, 2: -9, 3: 1}

    def at(shift):
        other = state.copy()
        other[: one.dimension] += shift
        return one.step(other)[: one.dimension]

    return np.array(
        [
            sum(c * (at(n * h * v) - at(-n * h * v)) for n, c in weights.items()) / (60 * h)
            for v in rows
        ]
    )


def test_tangents_are_the_derivative_of_the_step(moved):
    one, state = moved
    random = np.random.default_rng(7)
    rows = random.standard_normal((5, one.dimension))
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    if one.dimension == 51:
        rows[:, 34:] *= state[34:51]  # the squares' means stay above 0
    h = 2e-3
    found, want = one.tangent(state, rows), differences(one, state, rows, h)
    # h⁶ of the series' next terms, and rounding of the step over h.
    size = abs(one.tangent(state, np.eye(one.dimension))).max()
    assert abs(found - want).max() <= 1e-8 * size


def test_adjoints_are_transposed(moved):
    one, state = moved
    eye = np.eye(one.dimension)
    jacobian, back = one.tangent(state, eye).T, one.adjoint(state, eye)
    assert abs(back - jacobian).max() <= 1e4 * EPS * abs(jacobian).max()


def test_log_determinants_are_those_of_the_tangents(moved):
    one, state = moved
    jacobian = one.tangent(state, np.eye(one.dimension)).T
    condition = np.linalg.cond(jacobian)
    found = one.log_determinant(state)
    assert abs(found - np.linalg.slogdet(jacobian)[1]) <= 10 * one.dimension * EPS * condition
    assert abs(found) > 0.1


def test_neither_state_nor_rows_are_changed_and_both_may_be_fixed(moved):
    one, state = moved
    rows = np.eye(one.dimension)[:2]
    kept = state.copy(), rows.copy()
    state.flags.writeable = rows.flags.writeable = False
    one.step(state), one.tangent(state, rows), one.adjoint(state, rows)
    np.testing.assert_array_equal(state, kept[0])
    np.testing.assert_array_equal(rows, kept[1])


@pytest.mark.parametrize("name", MAPS)
def test_what_is_kept_of_one_state_is_not_used_at_another(name):
    one, other = (MAPS[name](chaotic_net.problem()) for _ in range(2))
    state = one.state(chaotic_net.net().initial(seed=1))
    one.step(state)
    state[:17] *= 1.5  # the same array, changed by its owner
    np.testing.assert_array_equal(one.step(state), other.step(state))
    if name.startswith("minibatch") or name == "sgd":
        state[-1] += 1  # another batch at the same place
        fresh = MAPS[name](chaotic_net.problem())
        np.testing.assert_array_equal(one.step(state), fresh.step(state))


def test_copies_and_pickles_step_alike_and_leave_the_pass_behind(moved):
    one, state = moved
    for other in (copy.copy(one), pickle.loads(pickle.dumps(one))):
        size = len(pickle.dumps(other))
        np.testing.assert_array_equal(other.step(state), one.step(state))
        assert len(pickle.dumps(other)) == size


@pytest.fixture(scope="module")
def jax():
    module = pytest.importorskip("jax")
    before = module.config.jax_enable_x64
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", before)


def test_adam_and_newton_are_those_of_jax(jax):
    gradient = jax.grad(chaotic_net.jax_loss(jax))

    def adam(state, count, rate=0.05, b1=0.8, b2=0.9, epsilon=1e-3):
        w, m, v = state.reshape(3, -1)
        g = gradient(w)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        corrected = m / (1 - b1**count), jax.numpy.sqrt(v / (1 - b2**count))
        return jax.numpy.concatenate([w - rate * corrected[0] / (corrected[1] + epsilon), m, v])

    def newton(w, damping=0.7, rate=0.8):
        hessian = jax.jacfwd(gradient)(w) + damping * jax.numpy.eye(17)
        return w - rate * jax.numpy.linalg.solve(hessian, gradient(w))

    w = chaotic_net.net().initial(seed=1)
    ours = MAPS["adam"](chaotic_net.problem())
    state = ours.state(w)
    for _ in range(3):
        state = ours.step(state)
    cases = [
        (ours, state, lambda s: adam(s, 4)),
        (MAPS["newton"](chaotic_net.problem()), w, newton),
    ]
    for one, state, program in cases:
        inner = state[: one.dimension]
        rows = np.random.default_rng(2).standard_normal((3, one.dimension))
        step = np.asarray(program(inner))
        np.testing.assert_allclose(one.step(state)[: one.dimension], step, rtol=1e-11, atol=1e-13)
        for row, tangent in zip(rows, one.tangent(state, rows), strict=True):
            want = np.asarray(jax.jvp(program, (inner,), (row,))[1])
            assert abs(tangent - want).max() <= 1e-11 * abs(want).max()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("descent", SGD(learning_rate=2.0)),
        ("momentum", Momentum(learning_rate=0.5, momentum=0.9)),
        ("adam", Adam(learning_rate=0.05, beta1=0.8, beta2=0.9, epsilon=1e-3)),
        ("whole newton", Newton(damping=0.7, line_search=False)),
        (
            "saddle-free",
            SaddleFreeNewton(damping=0.1, learning_rate=0.5, line_search=False, method="exact"),
        ),
    ],
)
def test_the_orbit_is_the_optimizers_run(name, method):
    problem, w = chaotic_net.problem(), chaotic_net.net().initial(seed=2)
    one = MAPS[name](problem)
    state = one.state(w)
    for _ in range(5):
        state = one.step(state)
    run = method.minimize(problem, w, max_iterations=5)
    np.testing.assert_allclose(one.parameters(state), run.w, rtol=1e-9)
    if name in ("momentum", "adam"):  # a run goes on as a map
        np.testing.assert_allclose(one.state(run.w, **run.state), state, rtol=1e-9)


def test_minibatches_are_those_of_the_optimizers_run():
    w = chaotic_net.net().initial(seed=2)
    run = SGD(learning_rate=1.0).minimize(batches(), w, max_iterations=7)
    one = StochasticMap(batches(), learning_rate=1.0)
    state = one.state(w)
    for _ in range(7):
        state = one.step(state)
    np.testing.assert_allclose(one.parameters(state), run.w, rtol=1e-12)
    np.testing.assert_array_equal(one.state(one.parameters(state), iteration=7), state)


def test_a_step_and_its_tangents_share_one_pass():
    counted = Counted(Rosenbrock(4))
    one = GradientDescentMap(counted, learning_rate=1e-3)
    state = one.state(np.full(4, 0.5))
    one.tangent(state, np.eye(4)), one.step(state)
    assert counted.cost == 1 + 4 * 2


def test_problems_of_ones_own_are_taken():
    quadratic = Quadratic(np.diag([1.0, 3.0]))
    for one in (
        GradientDescentMap(quadratic, learning_rate=0.5),
        NewtonMap(quadratic, damping=1.0),
        NewtonMap(quadratic, damping=2.0, saddle_free=True),
    ):
        factors = one.tangent(one.state([1.0, 1.0]), np.eye(2)).diagonal()
        want = {0.5: [0.5, -0.5], 1.0: [0.5, 0.25]}.get(
            getattr(one, "damping", 0.5), 1 - np.array([1, 3]) / np.hypot([1, 3], 2)
        )
        np.testing.assert_allclose(factors, want, rtol=1e-14)
        assert one.log_determinant(one.state([1.0, 1.0])) == pytest.approx(
            np.log(abs(np.array(want))).sum(), rel=1e-13
        )


# What is refused ----------------------------------------------------------------------------------


class Cubic(Problem):
    """w³ / 3 + w."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        return float(w[0] ** 3 / 3 + w[0]), np.asarray(w) ** 2 + 1

    def hvp(self, w, v):
        return 2 * w[0] * np.asarray(v)

    def third(self, w, u, v):
        return 2 * u[0] * np.asarray(v)


def test_adam_without_a_gradient_has_no_derivative():
    one = AdamMap(Quadratic(np.diag([1.0, 0.0])), learning_rate=0.1)
    state = one.step(one.state([1.0, 1.0]))  # the step itself is known
    np.testing.assert_allclose(state[:2], [0.9, 1.0])
    for method in (one.tangent, one.adjoint):
        with pytest.raises(FloatingPointError, match="1 weight of 2, the first at 1, had no grad"):
            method(state, np.eye(6))


def test_newton_at_a_singular_matrix_says_so():
    one = NewtonMap(Cubic(), damping=0.0)
    with pytest.raises(np.linalg.LinAlgError, match=r"the Hessian plus damping=0.0 is singular"):
        one.step(one.state([0.0]))


KINKED = {
    "relu": lambda: MLP((1, 2, 1), activation="relu"),
    "leaky_relu": lambda: MLP((1, 2, 1), activation="leaky_relu"),
    "relu within": lambda: Network([Residual([Dense(1, 1), "relu", Dense(1, 1)])], input_shape=1),
}


def test_a_maximum_is_refused():
    layers = [MaxPool2d(2), Flatten(), Dense(1, 1)]
    problem = NetProblem(Network(layers, input_shape=(1, 2, 2)), np.ones((1, 1, 2, 2)), [[1.0]])
    with pytest.raises(ValueError, match=r"problem is of a net with MaxPool2d\(2\), which has"):
        GradientDescentMap(problem, learning_rate=0.1)


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_a_leaky_relu_has_a_kink_unless_it_is_a_line(slope):
    net = MLP((1, 2, 1), activation=LeakyReLU(slope))
    problem = NetProblem(net, [[1.0]], [[1.0]])
    if slope == 1.0:
        GradientDescentMap(problem, learning_rate=0.1)
    else:
        with pytest.raises(ValueError, match=r"LeakyReLU\(0\.5\)"):
            GradientDescentMap(problem, learning_rate=0.1)


def test_an_elu_has_a_kink_unless_alpha_is_1_and_then_a_jump_of_the_second_derivative():
    def problem(alpha):
        return NetProblem(MLP((1, 2, 1), activation=ELU(alpha)), [[1.0]], [[1.0]])

    GradientDescentMap(problem(1.0), learning_rate=0.1)
    with pytest.raises(ValueError, match=r"ELU\(1\.0\), whose .* jumps, which NewtonMap cannot"):
        NewtonMap(problem(1.0), damping=0.1)
    with pytest.raises(ValueError, match=r"problem is of a net with ELU\(0\.5\), which has a kink"):
        GradientDescentMap(problem(0.5), learning_rate=0.1)


@pytest.mark.parametrize("name", KINKED)
def test_a_kink_is_refused(name):
    problem = NetProblem(KINKED[name](), [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"problem is of a net with (Leaky)?ReLU\(.*\), which"):
        GradientDescentMap(problem, learning_rate=0.1)
    with pytest.raises(ValueError, match="which AdamMap cannot know"):
        AdamMap(Counted(problem), learning_rate=0.1)


def test_hubers_loss_is_refused_where_third_derivatives_count():
    problem = NetProblem(MLP((1, 2, 1), loss="huber"), [[1.0]], [[1.0]])
    GradientDescentMap(problem, learning_rate=0.1)
    with pytest.raises(ValueError, match="the loss 'huber', whose second derivative jumps"):
        NewtonMap(problem, damping=0.1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: GradientDescentMap(batches(), learning_rate=1.0), TypeError, "StochasticMap"),
        (lambda p: GradientDescentMap(p.net, learning_rate=1.0), TypeError, "type MLP; expected a"),
        (lambda p: GradientDescentMap(p, learning_rate=0.0), ValueError, "learning_rate is 0.0"),
        (lambda p: MomentumMap(p, learning_rate=1.0, momentum=0.0), ValueError, "momentum is 0.0"),
        (lambda p: MomentumMap(p, learning_rate=1.0, momentum=1.0), ValueError, "between 0 and 1"),
        (lambda p: AdamMap(p, learning_rate=1.0, beta2=0.0), ValueError, "beta2 is 0.0; expected"),
        (lambda p: AdamMap(p, learning_rate=1.0, epsilon=0.0), ValueError, "epsilon is 0.0"),
        (lambda p: NewtonMap(p, damping=np.nan), ValueError, "damping is nan"),
        (lambda p: NewtonMap(p, damping=0.0, saddle_free=True), ValueError, "damping is 0.0"),
        (lambda p: NewtonMap(p, damping=1.0, saddle_free=1), TypeError, "saddle_free is 1"),
        (lambda p: StochasticMap(p, learning_rate=1.0), TypeError, "batches is of type NetProblem"),
        (lambda p: StochasticMap(batches(), "adam"), TypeError, "method is 'adam'; expected a fun"),
        (lambda p: StochasticMap(batches(), Counted), TypeError, "expected a Problem"),
        (lambda p: StochasticMap(batches(), lambda q: 3), TypeError, "method makes int; expected"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make(chaotic_net.problem())


def test_float32_is_refused():
    net = chaotic_net.net().astype(np.float32)
    x, y = chaotic_net.samples()
    with pytest.raises(ValueError, match="problem is of float32; expected float64"):
        GradientDescentMap(NetProblem(net, x.astype(np.float32), y), learning_rate=1.0)


def test_bad_states_and_rows_are_named():
    problem = chaotic_net.problem()
    adam, w = AdamMap(problem, learning_rate=0.1), np.zeros(17)
    with pytest.raises(ValueError, match=r"state has shape \(17,\); expected \(52,\)"):
        adam.step(w)
    with pytest.raises(ValueError, match=r"rows has shape \(2, 17\); expected \(K, 51\)"):
        adam.tangent(adam.state(w + 1), np.ones((2, 17)))
    with pytest.raises(ValueError, match="square has -1.0; expected numbers not below 0"):
        adam.state(w, w, w - 1)
    with pytest.raises(ValueError, match=r"w has nan at \[0\]"):
        adam.state(w + np.nan)
    with pytest.raises(TypeError, match="steps is 1.5"):
        adam.state(w, steps=1.5)
    state = adam.state(w + 1)
    state[-1] = 0.5
    with pytest.raises(ValueError, match="state ends with 0.5; expected the steps made"):
        adam.step(state)
