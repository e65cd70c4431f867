"""The leading eigenpairs along runs, beside NumPy's dense ones at the same places."""

import sys

import numpy as np
import pytest

from swiftnets import MLP, spectra
from swiftnets.optimizers import KFAC, LBFGS, SGD
from swiftnets.problems import Minibatches, NetProblem, Problem, Quadratic, Rosenbrock

EPS = np.finfo(float).eps


def a_net(inputs=6, hidden=5, **options):
    random = np.random.default_rng(0)
    x, y = random.standard_normal((40, inputs)), random.integers(0, 3, 40)
    net = MLP(
        (inputs, hidden, 3), loss="softmax_cross_entropy", reduction="mean", l2=1e-3, **options
    )
    return net, x.astype(net.dtype), y


def followed(problem, method, w, steps, **options):
    """The tracker, and where it measured."""
    places = []
    tracker = spectra.track(problem, callback=lambda event: places.append(event.w), **options)
    result = method.minimize(problem, w, max_iterations=steps, callback=tracker)
    assert len(places) == len(result.history)
    every = options.get("every", 1)
    return tracker, places[every - 1 :: every]


def dense(net, w, x, y, matrix="hessian"):
    return np.linalg.eigh(getattr(net.at(w, x, y), matrix).dense().astype(float))


@pytest.mark.parametrize("which", ["LA", "SA", "BE", "LM"])
@pytest.mark.parametrize("matrix", ["hessian", "gauss_newton"])
def test_what_is_followed_are_the_eigenpairs_of_each_place(which, matrix):
    net, x, y = a_net()
    tracker, places = followed(
        NetProblem(net, x, y),
        KFAC(),
        net.initial(seed=0),
        9,
        k=4,
        every=3,
        which=which,
        matrix=matrix,
        tolerance=1e-10,
    )
    np.testing.assert_array_equal(tracker.iterations, [3, 6, 9])
    for row, w in enumerate(places):
        values, _ = dense(net, w, x, y, matrix)
        if which == "LM":
            want = np.sort(values[np.argsort(abs(values))[-4:]])
        else:
            want = {"LA": values[-4:], "SA": values[:4]}.get(which, values[[0, 1, -2, -1]])
        size = abs(values).max()
        # Residuals of 1e-10 ‖A‖ bound errors of values.
        np.testing.assert_allclose(tracker.values[row], want, rtol=0, atol=1e-9 * size)
        assert tracker.loss[row] == pytest.approx(net.loss(w, x, y))
        assert (tracker.residual_norms[row] <= 1e-9 * size).all()
    assert tracker.certified.all() and len(tracker.messages) == 3
    assert "3 measurements of 4 eigenvalues, now " in repr(tracker)
    if which in ("LA", "BE"):
        np.testing.assert_array_equal(tracker.sharpness, tracker.values[:, -1])
    else:
        with pytest.raises(ValueError, match=f"^which is '{which}'; the sharpness"):
            tracker.sharpness  # noqa: B018


def test_larger_nets_are_followed_by_products_from_the_last_vectors(monkeypatch):
    net, x, y = a_net(inputs=40, hidden=30)
    starts = []

    def watched(*arguments, start, **options):
        starts.append(start)
        return spectra.eigsh(*arguments, start=start, **options)

    monkeypatch.setattr(sys.modules["swiftnets.spectra.track"], "eigsh", watched)
    tracker, places = followed(
        NetProblem(net, x, y), SGD(learning_rate=0.1), net.initial(seed=0), 4, k=3, every=2
    )
    assert net.parameter_count > 1000 and (tracker.products < net.parameter_count / 2).all()
    for row, w in enumerate(places):
        values, vectors = dense(net, w, x, y)
        np.testing.assert_allclose(
            tracker.values[row], values[-3:], rtol=0, atol=1e-5 * abs(values).max()
        )
    assert starts[0] is None and starts[1].shape == (net.parameter_count, 3)
    # The same spaces as NumPy's, hence the same overlap.
    _, before = dense(net, places[0], x, y)
    want = np.sum((before[:, -3:].T @ vectors[:, -3:]) ** 2) / 3
    assert np.isnan(tracker.overlaps[0]) and tracker.overlaps[1] == pytest.approx(want, abs=1e-3)
    assert tracker.certified.all()
    unproved, _ = followed(
        NetProblem(net, x, y),
        SGD(learning_rate=0.1),
        net.initial(seed=0),
        2,
        k=3,
        every=2,
        certificate=None,
    )
    assert not unproved.certified.any()


def test_minibatches_are_followed_on_all_samples():
    net, x, y = a_net()
    batches = Minibatches(net, x, y, batch_size=7)
    tracker, places = followed(batches, SGD(learning_rate=0.5), net.initial(seed=0), 4, k=2)
    for row, w in enumerate(places):
        values, _ = dense(net, w, x, y)
        np.testing.assert_allclose(tracker.values[row], values[-2:], atol=1e-5 * values[-1])


def test_problems_without_nets_and_float32():
    problem = Rosenbrock(4)
    tracker, places = followed(problem, LBFGS(), problem.start(), 5, k=1)
    for row, w in enumerate(places):
        assert tracker.sharpness[row] == pytest.approx(np.linalg.eigvalsh(problem.hessian(w))[-1])
    with pytest.raises(TypeError, match="^problem.at.w. is of type .* has no gauss_newton"):
        spectra.track(problem, 1, matrix="gauss_newton").measure(problem.start(), 0)
    net, x, y = a_net(dtype=np.float32)
    single, places = followed(NetProblem(net, x, y), SGD(learning_rate=0.1), net.initial(0), 2, k=2)
    values, _ = dense(net, places[-1], x, y)
    np.testing.assert_allclose(single.values[-1], values[-2:], rtol=1e-4)


def test_a_start_is_measured_by_hand_and_another_callback_ends_the_run():
    problem, w = Quadratic(np.diag([1.0, 3.0])), np.array([1.0, 1.0])
    tracker = spectra.track(problem, 1, callback=lambda event: event.iteration == 3)
    np.testing.assert_allclose(tracker.measure(w, 0), [3.0])
    result = SGD(learning_rate=0.1).minimize(problem, w, callback=tracker)
    assert result.status == "callback"
    np.testing.assert_array_equal(tracker.iterations, np.arange(5))
    np.testing.assert_allclose(tracker.sharpness, 3.0)
    np.testing.assert_allclose(tracker.overlaps[1:], 1.0)
    with pytest.raises(ValueError, match="^iteration is 1; expected at least 4"):
        tracker.measure(w, 1)


def test_numbers_that_are_not_finite_leave_a_gap_and_the_run_goes_on():
    class Gap(Problem):
        parameter_count = 2

        def loss_and_gradient(self, w):
            return float(w @ w) / 2, w.copy()

        def hvp(self, w, v):
            return np.asarray(v) * (np.nan if 0.75 < w[0] < 0.85 else 2.0)

    tracker = spectra.track(Gap(), 1)
    result = SGD(learning_rate=0.1).minimize(Gap(), [1.0, 0.0], max_iterations=4, callback=tracker)
    assert result.status == "iterations"
    np.testing.assert_allclose(tracker.values[:, 0], [2.0, np.nan, 2.0, 2.0])
    assert "not finite" in tracker.messages[1] and not tracker.certified[1]


def test_bad_arguments_are_named():
    net, x, y = a_net()
    problem = NetProblem(net, x, y)
    for call, error, says in (
        (lambda: spectra.track(net.at(net.initial(0), x, y)), TypeError, "^problem is of type Poi"),
        (lambda: spectra.track(problem, 0), ValueError, "^k is 0"),
        (lambda: spectra.track(problem, every=0), ValueError, "^every is 0"),
        (lambda: spectra.track(problem, matrix="fisher"), ValueError, "^matrix is 'fisher'"),
        (lambda: spectra.track(problem, which="largest"), ValueError, "^which is 'largest'"),
        (lambda: spectra.track(problem, tolerance=0), ValueError, "^tolerance is 0"),
        (lambda: spectra.track(problem, certificate="yes"), ValueError, "^certificate is 'yes'"),
        (lambda: spectra.track(problem, callback=3), TypeError, "^callback is 3; expected a func"),
        (lambda: spectra.track(problem, seed=-1), ValueError, "^seed is -1"),
        (
            lambda: spectra.track(problem, 60).measure(net.initial(0), 0),
            ValueError,
            "^k is 60; expected at most as many as there are parameters, 53",
        ),
        (lambda: spectra.track(problem).plot(), ValueError, "^nothing was measured"),
    ):
        with pytest.raises(error, match=says):
            call()
    assert repr(spectra.track(problem, 3)) == "SpectrumTracker(0 measurements of 3 eigenvalues)"


def test_the_plot_has_a_line_for_each_pair_and_can_be_restyled():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    net, x, y = a_net()
    tracker, _ = followed(NetProblem(net, x, y), SGD(learning_rate=0.5), net.initial(0), 4, k=3)
    ax = tracker.plot(figure.add_subplot(), learning_rate=0.5)
    assert ax.figure is figure
    *rest, top, edge = ax.get_lines()
    for column, line in enumerate([*rest, top]):
        np.testing.assert_array_equal(line.get_xdata(), tracker.iterations)
        np.testing.assert_array_equal(line.get_ydata(), tracker.values[:, column])
    assert list(edge.get_ydata()) == [4.0, 4.0]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["eigenvalues", "sharpness", "2 / η"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("iterations", "eigenvalues")
    styled = tracker.plot(color="black", linewidth=3.0)
    assert {(line.get_color(), line.get_lw()) for line in styled.get_lines()} == {("black", 3.0)}
    lowest, _ = followed(NetProblem(net, x, y), SGD(), net.initial(0), 2, k=2, which="SA")
    assert len(lowest.plot().get_lines()) == 2
    with pytest.raises(ValueError, match="^learning_rate is 0"):
        tracker.plot(learning_rate=0)
