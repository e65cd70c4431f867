"""K-FAC against dense algebra, and its acceptance numbers on the notebook's net."""

from itertools import product

import numpy as np
import pytest
from scipy.linalg import block_diag

from swiftnets import MLP, datasets
from swiftnets.curvature import kronecker_factors
from swiftnets.curvature.kronecker import mixed_factors
from swiftnets.optimizers import KFAC
from swiftnets.problems import Counted, Minibatches, NetProblem

EPS = np.finfo(float).eps


def data(count=30):
    random = np.random.default_rng(0)
    return random.standard_normal((count, 4)), random.integers(0, 3, count)


def a_problem(**options):
    options = {"reduction": "mean", "l2": 0.01, "loss": "softmax_cross_entropy", **options}
    net = MLP((4, 5, 3), **options)
    x, y = data()
    return NetProblem(net, x, y), net.initial(seed=1)


def minibatches(size=7):
    return Minibatches(a_problem()[0].net, *data(), batch_size=size, seed=2)


def same(one, other):
    assert one.w.tobytes() == other.w.tobytes()
    assert one.state.keys() == other.state.keys()
    for name, values in one.state.items():
        assert values.tobytes() == other.state[name].tobytes(), name


# Steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["sampled", "exact"])
def test_steps_are_those_of_dense_algebra(targets):
    problem, w = a_problem()
    damping, eye = 0.02, np.eye(len(w))
    method = KFAC(damping=damping, period=2, targets=targets, seed=7, adaptation=1.0)
    state, previous, means = method.initial_state(problem, w), None, []
    for number in range(5):
        point = problem.at(w)
        if number % 2 == 0:
            drawn = np.random.default_rng([7, number])
            new = kronecker_factors(point, targets=targets, seed=drawn)
            pairs = list(zip(new.inputs, new.outputs, strict=True))
            kept = 1 - 1 / (number // 2 + 1)
            means = (
                pairs
                if not means
                else [
                    [kept * old + (1 - kept) * now for old, now in zip(*both, strict=True)]
                    for both in zip(means, pairs, strict=True)
                ]
            )
        matrix = block_diag(*(np.kron(a, g) for a, g in means)) + (damping + 0.01) * eye
        directions = [-np.linalg.solve(matrix, point.gradient)]
        if previous is not None:
            directions.append(previous)
        rows = np.array(directions)
        exact = point.gauss_newton.dense() + damping * eye
        step = np.linalg.solve(rows @ exact @ rows.T, -rows @ point.gradient) @ rows
        found = method.step(problem, w, state)
        # Conditions of a few hundred in each of two solves.
        np.testing.assert_allclose(found.w, w + step, rtol=0, atol=1e-9)
        model = point.gradient @ step + step @ exact @ step / 2
        ratio = (problem.loss(found.w) - point.loss) / model
        assert found.info["ratio"] == pytest.approx(ratio, rel=1e-6)
        assert found.info["damping"] == damping and found.accepted
        w, state, previous = found.w, found.state, found.w - w


@pytest.mark.parametrize("targets", ["sampled", "exact"])
def test_split_damping_is_that_of_dense_algebra(targets):
    problem, w = a_problem()
    damping = 0.02
    method = KFAC(damping=damping, period=2, targets=targets, split_damping=True, adaptation=1.0)
    found = method.step(problem, w, method.initial_state(problem, w))
    point, blocks = problem.at(w), []
    for layer in range(2):
        a, g = found.state[f"inputs{layer}"], found.state[f"outputs{layer}"]
        unit = np.sqrt(np.diag(a).mean() / np.diag(g).mean())
        root = np.sqrt(damping + 0.01)
        a, g = a + unit * root * np.eye(len(a)), g + root / unit * np.eye(len(g))
        blocks.append(np.kron(a, g))
    if targets == "exact":
        exact = kronecker_factors(point)
        for layer in range(2):
            np.testing.assert_allclose(found.state[f"inputs{layer}"], exact.inputs[layer])
            np.testing.assert_allclose(found.state[f"outputs{layer}"], exact.outputs[layer])
    d = -np.linalg.solve(block_diag(*blocks), point.gradient)
    matrix = point.gauss_newton.dense() + damping * np.eye(len(w))
    want = w - (point.gradient @ d) / (d @ matrix @ d) * d
    np.testing.assert_allclose(found.w, want, rtol=0, atol=1e-11)
    # A refused step's damping is in the next step's inverses, between updates too.
    state = dict(found.state) | {"damping": np.array(0.08)}
    later = method.step(problem, found.w, state).state
    assert later["inverted"] == 0.09
    assert (later["left0"] != found.state["left0"]).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weights", [None, np.linspace(0.0, 2.0, 90)])
@pytest.mark.parametrize(
    "loss", ["softmax_cross_entropy", "binary_cross_entropy", "squared_error", "huber"]
)
def test_signed_roots_are_the_exact_factors_over_all_signs(loss, weights, dtype):
    # The mean over all signs of ε εᵀ is 1, of any root: no draw is left to chance.
    net = MLP((5, 70, 3), loss=loss, reduction="mean", dtype=dtype)
    random = np.random.default_rng(0)
    x, labels = random.standard_normal((90, 5)), random.integers(0, 3, 90)
    y = labels if loss.startswith("softmax") else np.eye(3)[labels]
    point = net.at(net.initial(seed=1), x, y, sample_weight=weights)
    exact = kronecker_factors(point)

    class Signs:
        def __init__(self, signs):
            self._signs = signs

        def integers(self, low, high, size, kind):
            return np.resize(np.array(self._signs, kind), size)

    found = [mixed_factors(point, Signs(signs)) for signs in product((0, 1), repeat=3)]
    # Sums of 90 terms, each of a few roundings.
    tolerance = 200 * np.finfo(dtype).eps
    for kind in ("inputs", "outputs"):
        for layer, want in enumerate(getattr(exact, kind)):
            mean = sum(getattr(one, kind)[layer].astype(float) for one in found) / 8
            np.testing.assert_allclose(mean, want, rtol=0, atol=tolerance * abs(want).max())
            assert getattr(found[0], kind)[layer].dtype == dtype


def test_mixed_factors_of_one_output_are_exact_in_batches_and_with_weights_too():
    """Signs square to 1. Batches become one, in float64."""
    net = MLP((4, 3, 1), dtype=np.float32)
    rng = np.random.default_rng(5)
    x, y, weights = rng.standard_normal((9, 4)), rng.standard_normal((9, 1)), rng.random(9)
    weights[3] = 0
    w = net.initial(seed=0)
    whole = kronecker_factors(net.at(w, x, y, sample_weight=weights))
    batches = [(x[part], y[part], weights[part]) for part in (slice(0, 4), slice(4, 9))]
    for point, dtype in (
        (net.at(w, batches), np.float64),
        (net.at(w, x, y, sample_weight=weights), np.float32),
    ):
        found = mixed_factors(point, np.random.default_rng(0))
        for kind in ("inputs", "outputs"):
            for one, want in zip(getattr(found, kind), getattr(whole, kind), strict=True):
                assert one.dtype == dtype
                # Sums of 8 terms, each of a few roundings.
                tolerance = 30 * np.finfo(dtype).eps * abs(want).max()
                np.testing.assert_allclose(one, want, rtol=0, atol=tolerance)


def test_a_fixed_step_length_takes_no_model():
    problem, w = a_problem()
    method = KFAC(learning_rate=0.3, momentum=False, targets="exact", damping=0.1)
    counted = Counted(problem)
    found = method.step(counted, w, method.initial_state(problem, w))
    want = w - 0.3 * kronecker_factors(problem.at(w)).inverse(0.11)(problem.gradient(w))
    np.testing.assert_allclose(found.w, want, rtol=1e-12)
    assert np.isnan(found.info["ratio"])
    assert counted.cost == pytest.approx(1 + 3 + 1 / 3)


def test_what_a_step_costs():
    problem, w = a_problem()
    history = KFAC().minimize(problem, w, max_iterations=7).history
    # Gradient, products of one direction and then two, a loss; a drawn target every fifth step.
    each = np.array([1 + 1 + 2, *[1 + 4] * 4, 1 + 1 + 4, 1 + 4]) + 1 / 3
    np.testing.assert_allclose(np.diff(history.cost, prepend=0), each)
    plain = KFAC(momentum=False, period=1, targets="exact").minimize(problem, w, max_iterations=2)
    np.testing.assert_allclose(np.diff(plain.history.cost, prepend=0), 1 + 3 + 2 + 1 / 3)


def test_the_period_is_longer_with_minibatches():
    def updates(problem, steps, **options):
        w = problem.net.initial(seed=0)
        return int(KFAC(**options).minimize(problem, w, max_iterations=steps).state["updates"])

    problem, _ = a_problem()
    assert (updates(problem, 10), updates(problem, 11)) == (2, 3)
    assert (updates(minibatches(), 20), updates(minibatches(), 21)) == (1, 2)
    # A batch of all samples is none.
    assert updates(minibatches(30), 11) == 3
    assert updates(minibatches(), 20, period=4) == 5


def test_the_damping_follows_the_model():
    # Least squares without hidden layers: the model lacks nothing but that λ is in it.
    net = MLP((4, 2), reduction="mean")
    x, _ = data()
    y = np.random.default_rng(3).standard_normal((30, 2))
    problem, w = NetProblem(net, x, y), net.initial(seed=0)
    result = KFAC(adaptation=0.8).minimize(problem, w, max_iterations=12)
    np.testing.assert_allclose(
        result.history.info["damping"], 0.01 * 0.8 ** np.repeat([0, 5, 10], 5)[:12]
    )
    assert (result.history.info["ratio"][:8] >= 1).all()  # later differences are rounding
    assert set(KFAC(adaptation=1.0).minimize(problem, w).history.info["damping"]) == {0.01}
    best = np.linalg.lstsq(np.column_stack([x, np.ones(30)]), y, rcond=None)[0]
    np.testing.assert_allclose(
        KFAC().minimize(problem, w, max_iterations=60).w, best.ravel(), atol=1e-8
    )
    # Of a batch its own model is nearly always right: the damping stays in sight of the first.
    small = Minibatches(net, x, y, batch_size=7)
    history = KFAC(adaptation=0.5).minimize(small, w, max_iterations=30).history
    assert history.info["damping"][-1] == 1e-4


def test_a_step_that_raises_the_loss_by_half_is_not_taken():
    x = np.array([[1.0], [-0.5], [2.0]])
    net = MLP((1, 3, 1), activation="sine")
    problem = NetProblem(net, 3 * x, np.sin(5 * x))
    # Hardly damped, with a model that is right in a small region alone.
    result = KFAC(damping=1e-9).minimize(problem, 3 * net.initial(seed=1), max_iterations=80)
    history = result.history
    refused = np.flatnonzero(~history.accepted[:-1])
    assert len(refused)
    np.testing.assert_array_equal(history.loss[refused + 1], history.loss[refused])
    np.testing.assert_allclose(
        history.info["damping"][refused + 1], 4 * history.info["damping"][refused]
    )
    taken = np.flatnonzero(history.accepted[:-1])
    assert (history.loss[taken + 1] <= 1.5 * history.loss[taken]).all()
    assert result.loss < history.loss[0] / 10


@pytest.mark.parametrize(
    "options",
    [{}, {"ekfac": True}, {"targets": "exact"}, {"momentum": False}, {"split_damping": True}],
)
@pytest.mark.parametrize("kind", ["full", "minibatches"])
def test_a_resumed_run_ends_with_the_same_bits(kind, options, tmp_path):
    problem = a_problem()[0] if kind == "full" else minibatches()
    w, path = a_problem()[1], tmp_path / "run.npz"
    method = KFAC(period=3, **options)
    whole = method.minimize(problem, w, max_iterations=14)
    for count in (2, 7, 14):
        resumed = KFAC(period=3, **options).minimize(
            problem, w, max_iterations=count, checkpoint=path
        )
    same(resumed, whole)
    assert int(whole.state["updates"]) == 5 and (whole.w != w).all()


def test_seeds_make_other_runs():
    problem, w = a_problem()
    ends = [KFAC(seed=seed).minimize(problem, w, max_iterations=6) for seed in (0, 0, 1)]
    same(ends[0], ends[1])
    assert (ends[0].w != ends[2].w).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [2.0**-400, 2.0**400])
def test_the_units_of_the_loss_do_not_matter(scale):
    net, x = MLP((4, 5, 3)), data()[0]
    y = np.random.default_rng(0).standard_normal((30, 3))
    ends = []
    for unit in (1.0, scale):
        problem = NetProblem(net, x, y, sample_weight=np.full(30, unit))
        ends.append(KFAC(damping=unit).minimize(problem, net.initial(seed=1), max_iterations=25))
    np.testing.assert_array_equal(ends[0].w, ends[1].w)
    assert ends[0].loss < ends[0].history.loss[0] / 3


def test_settings_are_checked():
    for options, error, says in (
        ({"damping": 0.0}, ValueError, "^damping"),
        ({"decay": 1.0}, ValueError, "^decay is 1.0; expected a number below 1"),
        ({"period": 0}, ValueError, "^period"),
        ({"adaptation": 1.1}, ValueError, "^adaptation is 1.1; expected a number up to 1"),
        ({"adaptation": 0.0}, ValueError, "^adaptation"),
        ({"targets": "empirical"}, ValueError, "^targets is 'empirical'"),
        ({"momentum": 0.9}, TypeError, "^momentum is 0.9; expected True or False"),
        ({"ekfac": "no"}, TypeError, "^ekfac"),
        ({"split_damping": 1}, TypeError, "^split_damping"),
        ({"ekfac": True, "split_damping": True}, ValueError, "^ekfac and split_damping are True"),
        ({"seed": -1}, ValueError, "^seed"),
        ({"learning_rate": 0.5}, ValueError, "^learning_rate is 0.5 and momentum is True"),
        ({"learning_rate": -1.0, "momentum": False}, ValueError, "^learning_rate"),
    ):
        with pytest.raises(error, match=says):
            KFAC(**options)
    assert KFAC().settings()["version"] == 2


# Acceptance ---------------------------------------------------------------------------------------


def pixels(images):
    grey = images.reshape(-1, 3, 32, 32).mean(axis=1)
    return grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255 - 0.3


@pytest.fixture(scope="module")
def fashion():
    """The notebook's net on its 2000 images."""
    found = datasets.load(None)
    net = MLP((64, 12, 10), loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    return net, pixels(found.train_images[:2000]), found.train_labels[:2000]


def iterations(fashion, loss, seeds, most, **options):
    """The median of how many it takes to this loss; infinite where it is not reached."""
    net, x, labels = fashion
    problem, taken = NetProblem(net, x, labels), []
    for seed in seeds:
        history = (
            KFAC(**options)
            .minimize(
                problem,
                net.initial(seed=seed),
                max_iterations=most,
                callback=lambda event: event.loss <= loss,
            )
            .history
        )
        there = np.flatnonzero(history.loss <= loss)
        taken.append(there[0] if len(there) else np.inf)
    return np.median(taken)


def test_it_reaches_a_loss_of_04_and_03_on_the_notebooks_net(fashion):
    assert iterations(fashion, 0.4, range(5), 40) <= 25
    assert iterations(fashion, 0.3, range(5), 80) <= 52


def test_every_part_of_it_counts(fashion):
    whole = iterations(fashion, 0.3, range(2), 80)
    assert iterations(fashion, 0.3, range(2), 150, momentum=False) > 1.6 * whole
    assert iterations(fashion, 0.3, range(2), 120, adaptation=1.0) > 1.5 * whole
    # Steps of the factors alone are too long and get nowhere.
    alone = {"learning_rate": 1.0, "momentum": False, "adaptation": 1.0}
    assert iterations(fashion, 0.4, range(2), 60, **alone) == np.inf
    for options in ({"targets": "exact"}, {"ekfac": True}, {"period": 1}, {"damping": 0.001}):
        assert iterations(fashion, 0.3, range(1), 80, **options) < 1.3 * whole


def test_minibatches_of_500(fashion):
    net, x, labels = fashion
    problem = Minibatches(net, x, labels, batch_size=500, seed=0)
    result = KFAC().minimize(problem, net.initial(seed=0), max_iterations=120)
    assert result.loss < 0.4
