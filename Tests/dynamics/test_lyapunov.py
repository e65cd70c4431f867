"""Lyapunov spectra with known values, and runs that are looked at, refused, saved and resumed."""

import re
import signal
import sys

import chaotic_net
import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.dynamics import (
    AdamMap,
    CheckpointError,
    GradientDescentMap,
    LyapunovSpectrum,
    MomentumMap,
    NewtonMap,
    StochasticMap,
    lyapunov_spectrum,
)
from swiftnets.dynamics.spectrum import kaplan_yorke
from swiftnets.problems import Minibatches, NetProblem, Problem, Quadratic

EPS = np.finfo(float).eps


def a_net_of_two_weights():
    """(w₁ w₂ − 1)² / 2: with a step of 2 and w₁ = w₂ it is w ↦ 3 w − 2 w³."""
    net = MLP((1, 1, 1), activation="identity", bias=False)
    return GradientDescentMap(NetProblem(net, [[1.0]], [[1.0]]), learning_rate=2.0)


class Cubic(Problem):
    """w³ / 3 + w, whose Newton steps (w − 1 / w) / 2 double an angle."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        return float(w[0] ** 3 / 3 + w[0]), np.asarray(w) ** 2 + 1

    def hvp(self, w, v):
        return 2 * w[0] * np.asarray(v)

    def third(self, w, u, v):
        return 2 * u[0] * np.asarray(v)


class Linear:
    """A constant matrix: its exponents are ln abs(eigenvalue) where those are real."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, float)

    def step(self, state):
        return self.matrix @ state

    def tangent(self, state, rows):
        return rows @ self.matrix.T

    def log_determinant(self, state):
        return np.linalg.slogdet(self.matrix)[1]

    def settings(self):
        return {"matrix": self.matrix}


# Known exponents ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1000, 8000])
def test_a_net_of_two_weights_has_ln_3_and_0(steps):
    one, transient = a_net_of_two_weights(), 60
    found = lyapunov_spectrum(one, [0.3, 0.3], k=2, steps=steps, transient=transient, certify=True)
    first = np.array([0.3, 0.3])
    for _ in range(transient):
        first = one.step(first)
    # With w = √2 cos θ a step is θ ↦ 3 θ, and its factors, along w₁ = w₂ and across, are 3 and 1
    # times sin 3θ / sin θ: sums are of the ends alone.
    left = np.log((2 - found.state[0] ** 2) / (2 - first[0] ** 2)) / 2 / steps
    assert abs(left) <= 4 / steps
    assert abs(found.exponents - [np.log(3) + left, left]).max() <= 1e-9
    assert abs(found.exponents - [np.log(3), 0.0]).max() <= 4 / steps
    assert found.sum_deviation <= 1e-11
    assert found.positive == 1
    assert found.exponents.sum() > 0 and found.kaplan_yorke == 2.0  # it does not attract


def test_newtons_method_without_a_root_has_ln_2():
    one, steps = NewtonMap(Cubic(), damping=0.0), 4000
    found = lyapunov_spectrum(one, one.state([0.3]), k=1, steps=steps, certify=True)
    # ln abs(J) is ln 2 and the change of ln((1 + w²) / 2), which is of the ends alone.
    ends = np.log((1 + np.array([0.3, found.state[0]]) ** 2) / 2)
    assert abs(found.exponents[0] - np.log(2)) <= 2 * (abs(ends).sum() + 1) / steps
    assert found.sum_deviation <= 1e-12


def test_scalar_sgd_has_the_mean_over_the_samples():
    x = np.array([0.5, 1.0, 1.5, 3.0, 0.1])
    net = MLP((1, 1), bias=False, reduction="mean")
    batches = Minibatches(net, x[:, None], 2 * x[:, None], batch_size=1, seed=5)
    one = StochasticMap(batches, learning_rate=0.3)
    found = lyapunov_spectrum(one, one.state([0.0]), k=1, steps=5 * 40, blocks=40, certify=True)
    want = np.log(abs(1 - 0.3 * x * x)).mean()
    # Each block is an epoch, which has each sample once.
    np.testing.assert_allclose(found.blocks[:, 0], want, rtol=1e-12)
    assert found.sum_deviation <= 1e-14


def test_an_underdamped_heavy_ball_has_half_the_logarithm():
    values = np.array([0.5, 1.0, 2.0])
    one = MomentumMap(Quadratic(np.diag(values)), learning_rate=0.1, momentum=0.8)
    assert ((1 + 0.8 - 0.1 * values) ** 2 < 4 * 0.8).all()  # complex pairs
    steps = 4000
    found = lyapunov_spectrum(one, one.state(np.ones(3)), k=6, steps=steps, certify=True)
    # A pair's modulus is √β; what its turning leaves is bounded, and so is that of equal moduli.
    bound = 6 * np.log(np.linalg.cond(one.tangent(one.state(np.ones(3)), np.eye(6)))) / steps
    assert abs(found.exponents - np.log(0.8) / 2).max() <= bound <= 5e-3
    assert found.sum_deviation <= 1e-12


@pytest.mark.parametrize(("damping", "saddle_free"), [(0.5, False), (0.5, True)])
def test_newtons_method_at_a_minimum(damping, saddle_free):
    values = np.array([4.0, 1.0, 0.25])
    one = NewtonMap(
        Quadratic(np.diag(values)), damping=damping, learning_rate=0.9, saddle_free=saddle_free
    )
    scale = np.hypot(values, damping) if saddle_free else values + damping
    want = np.sort(np.log(abs(1 - 0.9 * values / scale)))[::-1]
    # From the minimum itself, which stays, so that only the tangents' turning is left.
    found = lyapunov_spectrum(one, np.zeros(3), k=3, steps=400, transient=200, certify=True)
    np.testing.assert_allclose(found.exponents, want, rtol=1e-12)
    assert found.sum_deviation <= 1e-13


def test_linear_maps_have_the_logarithms_of_their_eigenvalues():
    turned, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))
    values = np.array([1.2, -0.9, 0.5, 0.1])
    one = Linear(turned * values @ turned.T)
    found = lyapunov_spectrum(one, np.zeros(4), k=4, steps=100, transient=300, certify=True)
    np.testing.assert_allclose(found.exponents, np.log(abs(values)), rtol=1e-12)
    # 0.182 - 0.105 - 0.693 < 0 after two.
    want = 2 + (np.log(1.2) + np.log(0.9)) / np.log(2)
    assert found.kaplan_yorke == pytest.approx(want, rel=1e-12)


def test_a_direction_that_a_step_sends_to_0_has_minus_infinity():
    one = Linear([[2.0, 0.0], [0.0, 0.0]])
    found = lyapunov_spectrum(one, np.zeros(2), k=2, steps=20, certify=True)
    np.testing.assert_allclose(found.exponents, [np.log(2), -np.inf], atol=0.05)
    assert found.sum_deviation == 0 and found.kaplan_yorke == 1.0
    assert np.isfinite(found.standard_errors).all() and found.messages


# A chaotic net ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chaos():
    one = GradientDescentMap(chaotic_net.problem(), learning_rate=chaotic_net.LEARNING_RATE)
    start = one.state(chaotic_net.net().initial(seed=1))
    return one, lyapunov_spectrum(one, start, k=17, steps=12_000, transient=1000, certify=True)


def test_a_chaotic_nets_spectrum(chaos):
    _, found = chaos
    recorded = chaotic_net

    def near(value, error, want, recorded_error):
        return abs(value - want) <= 4 * np.hypot(error, recorded_error)

    exponents, errors = found.exponents, found.standard_errors
    for i, want in enumerate(recorded.LARGEST):
        assert near(exponents[i], errors[i], want, recorded.LARGEST_ERROR), i
    assert near(exponents[5], errors[5], recorded.SIXTH, recorded.LARGEST_ERROR)
    assert near(exponents[-1], errors[-1], recorded.LEAST, 0.005)
    sums = found.blocks.sum(axis=1)
    error = np.std(sums, ddof=1) / np.sqrt(len(sums))
    assert near(exponents.sum(), error, recorded.SUM, recorded.SUM_ERROR)
    assert near(
        found.kaplan_yorke,
        found.kaplan_yorke_error,
        recorded.DIMENSION,
        recorded.DIMENSION_ERROR,
    )
    assert found.positive == 5


def test_four_of_its_exponents_are_known(chaos):
    """Four directions that the softmax does not see shrink by 1 - η l2 at every step."""
    _, found = chaos
    nearest = np.sort(abs(found.exponents - chaotic_net.GAUGE))[:4]
    assert nearest.max() <= 2e-4


def test_its_sums_are_determinants(chaos):
    _, found = chaos
    assert found.sum_deviation <= 1e-10


def test_two_orbits_part_at_its_rate(chaos):
    """Two trajectories 1e-7 apart, brought back at every step, on one window."""
    one, long = chaos
    state, steps, distance = long.state, 500, 1e-7
    found = lyapunov_spectrum(one, state, k=1, steps=steps, transient=100, seed=4)
    direction = np.random.default_rng(9).standard_normal(17)
    other = state + distance * direction / np.linalg.norm(direction)
    logs = []
    for _ in range(100 + steps):
        state, other = one.step(state), one.step(other)
        gap = np.linalg.norm(other - state)
        logs.append(np.log(gap / distance))
        other = state + (other - state) * (distance / gap)
    # Second order in the distance, and rounding over it; both small beside 1e-5 a step.
    assert np.mean(logs[100:]) == pytest.approx(found.exponents[0], abs=1e-5)


def test_the_first_exponents_do_not_depend_on_how_many_there_are(chaos):
    one, long = chaos
    few = lyapunov_spectrum(one, long.state, k=3, steps=200)
    more = lyapunov_spectrum(one, long.state, k=17, steps=200)
    np.testing.assert_allclose(few.blocks, more.blocks[:, :3], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(few.state, more.state)


def test_momentum_and_adam_have_constant_sums():
    problem, w = chaotic_net.problem(), chaotic_net.net().initial(seed=0)
    ball = MomentumMap(problem, learning_rate=0.5, momentum=0.9)
    found = lyapunov_spectrum(ball, ball.state(w), k=34, steps=200, certify=True)
    assert found.sum_deviation <= 1e-12
    assert found.exponents.sum() == pytest.approx(17 * np.log(0.9), rel=1e-12)
    adam = AdamMap(problem, learning_rate=0.05, beta1=0.8, beta2=0.9, epsilon=1e-3)
    found = lyapunov_spectrum(adam, adam.state(w), k=51, steps=1000, certify=True)
    assert found.sum_deviation <= 1e-12
    assert found.exponents.sum() == pytest.approx(17 * np.log(0.8 * 0.9), rel=1e-12)


def test_adams_sums_are_as_sharp_as_its_derivative_is_well_conditioned():
    """With its usual constants that is little: where a gradient is small, v moves w by far."""
    problem, w = chaotic_net.problem(), chaotic_net.net().initial(seed=0)
    adam = AdamMap(problem, learning_rate=0.05)
    state, worst = adam.state(w), 0.0
    found = lyapunov_spectrum(adam, state, k=51, steps=100, certify=True)
    for _ in range(100):
        worst = max(worst, np.linalg.cond(adam.tangent(state, np.eye(51))))
        state = adam.step(state)
    assert 1e-12 < found.sum_deviation <= 51 * EPS * worst
    assert found.exponents.sum() == pytest.approx(17 * np.log(0.9 * 0.999), rel=1e-9)


def test_a_small_step_is_not_chaotic():
    one = GradientDescentMap(chaotic_net.problem(), learning_rate=1.0)
    start = one.state(chaotic_net.net().initial(seed=0))
    found = lyapunov_spectrum(one, start, k=3, steps=2000, transient=3000)
    assert found.positive == 0 and found.exponents[0] < 0
    assert found.kaplan_yorke == 0.0


# Estimates ----------------------------------------------------------------------------------------


class Noise:
    """Growth by independent normal logarithms, so that errors are known."""

    dimension = 1

    def __init__(self, deviation=0.5, drift=0.0):
        self.deviation, self.drift = deviation, drift
        self.draws = np.random.default_rng(1).standard_normal(100_000)

    def step(self, state):
        return state + [0.0, 1.0]

    def tangent(self, state, rows):
        count = int(state[1])
        return rows * np.exp(0.1 + self.deviation * self.draws[count] + self.drift * count)


def test_standard_errors_are_those_of_independent_steps():
    found = lyapunov_spectrum(Noise(), [0.0, 0.0], k=1, steps=8000, blocks=100)
    want = 0.5 / np.sqrt(8000)
    # Of 100 blocks the estimate itself has a standard error of 1 / √200.
    assert found.standard_errors[0] == pytest.approx(want, rel=4 / np.sqrt(200))
    assert abs(found.exponents[0] - 0.1) <= 4 * want


def test_a_run_that_is_not_stationary_says_so():
    still = lyapunov_spectrum(Noise(), [0.0, 0.0], k=1, steps=2000)
    drifting = lyapunov_spectrum(Noise(drift=1e-4), [0.0, 0.0], k=1, steps=2000)
    assert not any("not stationary" in line for line in still.messages)
    assert any("not stationary" in line for line in drifting.messages)


def test_messages_say_what_is_not_known():
    one = Linear(np.diag([1.5, 1.0, 0.9]))
    found = lyapunov_spectrum(one, np.zeros(3), k=2, steps=100, transient=200)
    text = "\n".join(found.messages)
    assert "finite-time exponents of one orbit: means over 100 steps after 200" in text
    assert found.kaplan_yorke is None and found.kaplan_yorke_error is None
    assert "no Kaplan–Yorke dimension: the sum of these 2 exponents is not below 0" in text
    assert found.sum_deviation is None and "sums agree" not in text
    noisy = lyapunov_spectrum(Noise(deviation=50.0), [0.0, 0.0], k=1, steps=100)
    assert "without a sign, within 3 standard errors of 0: 0" in "\n".join(noisy.messages)


def test_blocks_cover_all_steps_and_weigh_by_their_length():
    found = lyapunov_spectrum(Noise(), [0.0, 0.0], k=1, steps=103, blocks=10, transient=7)
    assert found.steps == found.block_steps.sum() == 103
    assert set(found.block_steps) == {10, 11}
    want = 0.1 + 0.5 * Noise().draws[7:110].mean()
    assert found.exponents[0] == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("exponents", "dimension", "want"),
    [
        ([0.5, 0.0, -1.0], 3, 2.5),
        ([-1.0, 0.5, 0.0], 3, 2.5),
        ([-0.1, -0.2], 2, 0.0),
        ([0.1, 0.2], 2, 2.0),
        ([0.1, 0.2], 3, None),
        ([0.3, -0.1, -0.1, -0.2], 9, 3.5),
    ],
)
def test_the_kaplan_yorke_dimension(exponents, dimension, want):
    found = kaplan_yorke(np.array(exponents), dimension)
    assert found == want if want is None else found == pytest.approx(want, rel=1e-14)


def test_the_error_of_the_dimension_is_the_exponents_where_it_is_linear_in_one():
    first = np.random.default_rng(2).normal(0.5, 0.1, 30)
    blocks = np.stack([first, np.zeros(30), np.full(30, -1.0)], axis=1)
    found = LyapunovSpectrum(blocks, np.full(30, 10), 0, 3, None, np.zeros(3), np.eye(3))
    assert found.kaplan_yorke == pytest.approx(2 + first.mean())
    assert found.kaplan_yorke_error == pytest.approx(found.standard_errors[0], rel=1e-10)
    assert found.standard_errors[0] == pytest.approx(np.std(first, ddof=1) / np.sqrt(30))


# Runs that end badly ------------------------------------------------------------------------------


def test_an_orbit_that_diverges_says_when():
    one = GradientDescentMap(Cubic(), learning_rate=2.0)
    with pytest.raises(FloatingPointError, match=r"state has -inf at 0 after \d+ steps: the map"):
        lyapunov_spectrum(one, one.state([-3.0]), k=1, steps=100)
    net = GradientDescentMap(a_net_of_two_weights().problem, learning_rate=9.0)
    with pytest.raises(FloatingPointError) as caught:
        lyapunov_spectrum(net, [2.0, 2.0], k=1, steps=100)
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert re.search(r"after \d+ steps?", text)


def test_adam_without_a_gradient_says_after_how_many_steps():
    one = AdamMap(Quadratic(np.diag([1.0, 0.0])), learning_rate=0.1)
    with pytest.raises(FloatingPointError, match="Adam's map has no derivative") as caught:
        lyapunov_spectrum(one, one.state([1.0, 1.0]), k=1, steps=20)
    assert caught.value.__notes__ == ["This was AdamMap.tangent after 0 steps."]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"k": 3}, ValueError, "k is 3; expected at most 2, the entries of a tangent"),
        ({"k": 0}, ValueError, "k is 0; expected an integer from 1"),
        ({"k": 1, "certify": True}, ValueError, "k is 1 with certify=True; expected 2"),
        ({"steps": 1}, ValueError, "steps is 1; expected an integer from 2"),
        ({"blocks": 1}, ValueError, "blocks is 1; expected an integer from 2 to 50"),
        ({"blocks": 51}, ValueError, "blocks is 51; expected an integer from 2 to 50"),
        ({"transient": -1}, ValueError, "transient is -1"),
        ({"certify": 1}, TypeError, "certify is 1; expected True or False"),
        ({"progress": "yes"}, TypeError, "progress is 'yes'"),
        ({"seed": 0.5}, TypeError, "seed is 0.5"),
        ({"checkpoint": "/nowhere/at/all"}, FileNotFoundError, "checkpoint is /nowhere"),
        ({"state": [np.nan, 0.0]}, ValueError, r"state has nan at \[0\]"),
        ({"state": [[1.0, 1.0]]}, ValueError, r"state has shape \(1, 2\); expected \(S,\)"),
        ({"state": [1.0]}, ValueError, r"state has 1 entries and map.dimension is 2"),
        ({"map": 3}, TypeError, "map is of type int, which has no method step; expected a map"),
        ({"map": AdamMap}, TypeError, "map is the class AdamMap; expected an object made by it"),
        ({"map": Noise(), "k": 1, "certify": True}, TypeError, "has no method log_determinant"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    given = {"map": a_net_of_two_weights(), "state": [0.3, 0.3], "k": 2, "steps": 50} | options
    with pytest.raises(error, match=message):
        lyapunov_spectrum(given.pop("map"), given.pop("state"), **given)


@pytest.mark.parametrize(
    ("method", "value", "error", "message"),
    [
        ("step", [0.0, 0.0], TypeError, "Broken.step returned what is of type list"),
        ("step", np.zeros(3), ValueError, r"Broken.step .*shape \(3,\); expected .*\(2,\)"),
        ("tangent", np.zeros((2, 2), int), TypeError, "Broken.tangent .* dtype int64"),
        ("tangent", np.full((2, 2), np.inf), FloatingPointError, "a tangent is not finite"),
        ("log_determinant", "big", TypeError, "Broken.log_determinant returned str"),
    ],
)
def test_what_a_map_of_ones_own_returns_is_looked_at(method, value, error, message):
    class Broken(Linear):
        pass

    setattr(Broken, method, lambda *_: value)
    with pytest.raises(error, match=message):
        lyapunov_spectrum(Broken(np.eye(2)), np.zeros(2), k=2, steps=5, blocks=2, certify=True)


def test_a_map_may_return_its_own_working_memory():
    class Reusing(Linear):
        memory = np.zeros(2)

        def step(self, state):
            self.memory[:] = self.matrix @ state
            return self.memory

    matrix = [[0.5, 0.2], [0.0, 0.25]]
    one, other = Reusing(matrix), Linear(matrix)
    found = lyapunov_spectrum(one, [1.0, 1.0], k=1, steps=5, blocks=2)
    kept = found.state.copy()
    one.step(np.full(2, 9.0))
    np.testing.assert_array_equal(found.state, kept)
    want = lyapunov_spectrum(other, [1.0, 1.0], k=1, steps=5, blocks=2).state
    np.testing.assert_array_equal(found.state, want)


# Checkpoints --------------------------------------------------------------------------------------


class Stop(Exception):
    pass


class Interrupted:
    """A map that stops after some steps."""

    def __init__(self, one, calls):
        self.one, self.calls, self.dimension = one, calls, one.dimension

    def __getattr__(self, name):
        return getattr(self.one, name)

    def settings(self):
        return {"one": self.one}

    def ends_by(self):
        raise Stop

    def step(self, state):
        self.calls -= 1
        if self.calls < 0:
            self.ends_by()
        return self.one.step(state)


def same(one, other):
    np.testing.assert_array_equal(one.blocks, other.blocks)
    np.testing.assert_array_equal(one.state, other.state)
    np.testing.assert_array_equal(one.tangents, other.tangents)
    assert one.sum_deviation == other.sum_deviation
    assert one.messages == other.messages


CHECKPOINTED = {
    "descent": lambda: GradientDescentMap(chaotic_net.problem(), learning_rate=6.0),
    "adam": lambda: AdamMap(chaotic_net.problem(), learning_rate=0.05),
    "minibatches": lambda: StochasticMap(
        Minibatches(chaotic_net.net(), *chaotic_net.samples(), batch_size=5), learning_rate=1.0
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTED)
def test_a_resumed_run_is_the_same_to_the_bit(tmp_path, name):
    one = CHECKPOINTED[name]()
    start, k = one.state(chaotic_net.net().initial(seed=0)), one.dimension
    options = {"k": k, "steps": 150, "transient": 20, "certify": True, "blocks": 7}
    whole = lyapunov_spectrum(one, start, **options)
    file = tmp_path / "run"
    for calls in (15, 90):  # in the transient, and within a block
        with pytest.raises(Stop):
            lyapunov_spectrum(
                Interrupted(CHECKPOINTED[name](), calls),
                start,
                **options,
                checkpoint=file,
                checkpoint_every=40,
            )
    resumed = Interrupted(CHECKPOINTED[name](), 1000)
    same(lyapunov_spectrum(resumed, start, **options, checkpoint=file), whole)
    # One step a call to tell files apart; 14 and 89 went before.
    assert 1000 - resumed.calls == 170 - 14 - 89 + 1
    again = Interrupted(CHECKPOINTED[name](), 1)
    same(lyapunov_spectrum(again, start, **options, checkpoint=file), whole)


def test_ctrl_c_saves_and_the_run_goes_on(tmp_path):
    one, file = a_net_of_two_weights(), tmp_path / "run"
    options = {"k": 2, "steps": 60, "certify": True, "checkpoint": file}

    pressed = Interrupted(one, 30)
    pressed.ends_by = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        lyapunov_spectrum(pressed, [0.3, 0.3], **options)
    # One step a call tells files apart.
    rest = Interrupted(one, 60 - 29 + 1)
    found = lyapunov_spectrum(rest, [0.3, 0.3], **options)
    assert rest.calls == 0
    same(found, lyapunov_spectrum(one, [0.3, 0.3], k=2, steps=60, certify=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 51}, "steps is 50 there and 51 here"),
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"k": 1}, "k is 2 there and 1 here"),
        ({"state": [0.4, 0.4]}, "state: other data"),
        (
            {"map": GradientDescentMap(a_net_of_two_weights().problem, learning_rate=1.0)},
            "learning_rate is 2.0 there and 1.0 here",
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    base = {"map": a_net_of_two_weights(), "state": [0.3, 0.3], "k": 2, "steps": 50}
    file = tmp_path / "run"

    def go(map, state, **options):
        return lyapunov_spectrum(map, state, checkpoint=file, **options)

    go(**base)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        go(**base | change)


def test_problems_without_settings_are_told_apart_by_their_first_step(tmp_path):
    class Other(Cubic):
        def loss_and_gradient(self, w):
            loss, gradient = super().loss_and_gradient(w)
            return loss, 1.1 * gradient

    Other.__qualname__ = Cubic.__qualname__
    file = tmp_path / "run"
    for problem in (Cubic(), Cubic()):
        one = GradientDescentMap(problem, learning_rate=0.01)
        lyapunov_spectrum(one, [0.5], k=1, steps=20, checkpoint=file)
    one = GradientDescentMap(Other(), learning_rate=0.01)
    with pytest.raises(CheckpointError, match="its first step is another"):
        lyapunov_spectrum(one, [0.5], k=1, steps=20, checkpoint=file)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    file = tmp_path / "run"
    lyapunov_spectrum(a_net_of_two_weights(), [0.3, 0.3], k=2, steps=50, checkpoint=file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        lyapunov_spectrum(a_net_of_two_weights(), [0.3, 0.3], k=2, steps=50, checkpoint=file)


def test_a_map_that_nothing_tells_from_others_needs_settings_for_a_checkpoint(tmp_path):
    class Bare:
        def step(self, state):
            return state

        def tangent(self, state, rows):
            return rows

    with pytest.raises(TypeError, match="map is of type Bare; expected what tells runs apart"):
        lyapunov_spectrum(Bare(), [1.0], k=1, steps=9, blocks=2, checkpoint=tmp_path / "run")


# Looks --------------------------------------------------------------------------------------------


def test_progress_is_shown(capsys):
    one = a_net_of_two_weights()
    lyapunov_spectrum(one, [0.3, 0.3], k=1, steps=20, progress=True)
    shown = capsys.readouterr()
    assert not shown.out and "20" in shown.err


def test_the_plot_has_a_line_an_exponent(chaos):
    pytest.importorskip("matplotlib")
    _, found = chaos
    ax = found.plot(lw=0.5)
    lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 20]
    assert len(lines) == 17 and all(line.get_linewidth() == 0.5 for line in lines)
    np.testing.assert_allclose([line.get_ydata()[-1] for line in lines], found.exponents)
    np.testing.assert_allclose(lines[0].get_ydata()[0], found.blocks[0, 0])
    colours = [line.get_color() for line in lines]
    assert colours.count("tab:red") == found.positive
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["positive", "not positive"]
    assert found.plot(ax) is ax
    assert found.plot(linewidth=3).lines[0].get_linewidth() == 3
    assert {line.get_color() for line in found.plot(color="k").get_lines()[:17]} == {"k"}


def test_a_plot_without_matplotlib_says_how_to_get_it(chaos, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install swiftnets\[plot\]"):
        chaos[1].plot()


def test_a_result_says_what_it_is(chaos):
    assert isinstance(chaos[1], LyapunovSpectrum)
    assert re.fullmatch(
        r"LyapunovSpectrum\(17 exponents of 17, the first 0\.3\d+ ± 0\.\d+, 5 positive, "
        r"12000 steps\)",
        repr(chaos[1]),
    )
