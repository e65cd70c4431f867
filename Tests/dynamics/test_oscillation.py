"""Mean and oscillation beside the iterates that they are; and means of iterates."""

import matplotlib.figure
import numpy as np
import pytest
from edge_problems import fashion

from swiftnets import MLP
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics import mean_and_oscillation, smoothed


def quartic():
    """A loss of degree four: of w₂ w₁ x, whose gradient is its own series of order 3."""
    net = MLP((1, 1, 1), bias=False, activation="identity")
    return net.at([1.3, 0.9], [[1.0], [0.5]], [[1.0], [0.4]])


def small_point(**options):
    net = MLP((2, 3, 1), **options)
    return net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))


D = 0.01 * np.random.default_rng(0).normal(size=13)


@pytest.fixture(scope="module")
def trained():
    problem = fashion()
    rows, _ = problem.iterates(804, 396)
    return problem, smoothed(rows[:9])[0], rows[4:]


def same(a, b):
    for name in a.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


# Beside gradient descent -------------------------------------------------------------------------


def test_it_follows_the_iterates_for_400_steps(trained):
    problem, mean, rows = trained
    errors = {}
    for order in (4, 3):
        found = mean_and_oscillation(
            problem.at(mean), rows[0] - mean, step=problem.step, steps=400, order=order
        )
        distances = np.linalg.norm(found.means + found.oscillations - rows[:401], axis=1)
        errors[order] = distances[-1]
        assert distances.max() < {4: 0.005, 3: 0.05}[order]
    # Recorded: 0.0010 and 0.0030.
    assert errors[4] <= 0.002 < errors[3] <= 0.0045


def test_without_third_and_fourth_derivatives_it_fails(trained):
    problem, mean, rows = trained
    found = mean_and_oscillation(
        problem.at(mean), rows[0] - mean, step=problem.step, steps=50, order=2
    )
    assert np.linalg.norm(found.w - rows[50]) > 1


def test_of_a_quartic_loss_it_is_gradient_descent_itself():
    point, d, step = quartic(), np.array([0.03, -0.02]), 0.9
    found = mean_and_oscillation(point, d, step=step, steps=60)
    w, net, x, y = point.w + d, point.net, [[1.0], [0.5]], [[1.0], [0.4]]
    for time in range(61):
        m, o = found.means[time], found.oscillations[time]
        np.testing.assert_allclose(m + o, w, rtol=1e-11)
        both = (net.loss(m + o, x, y) + net.loss(m - o, x, y)) / 2
        assert found.mean_losses[time] == pytest.approx(both, rel=1e-11)
        assert found.losses[time] == pytest.approx(net.loss(m, x, y), rel=1e-12)
        assert found.amplitudes[time] == pytest.approx(np.linalg.norm(o), rel=1e-13)
        rayleigh = o @ (net.at(m, x, y).hessian @ o) / (o @ o)
        assert found.curvatures[time] == pytest.approx(rayleigh, rel=1e-10)
        w = w - step * net.gradient(w, x, y)
    np.testing.assert_array_equal(found.w, found.mean + found.oscillation)


def test_each_order_is_its_formula():
    point, step = small_point(l2=0.2), 0.7
    g, Hd = point.gradient, point.hessian @ D
    T, Q = point.third(D, D), point.fourth(D, D, D)
    for order, mean, odd in ((2, g, Hd), (3, g + T / 2, Hd), (4, g + T / 2, Hd + Q / 6)):
        found = mean_and_oscillation(point, D, step=step, steps=1, order=order)
        np.testing.assert_allclose(found.mean, point.w - step * mean, rtol=1e-12)
        np.testing.assert_allclose(found.oscillation, D - step * odd, rtol=1e-11, atol=1e-15)


def test_without_oscillation_it_is_gradient_descent():
    point = small_point()
    found = mean_and_oscillation(point, np.zeros(13), step=0.1, steps=5)
    w = point.w
    for _ in range(5):
        w = w - 0.1 * point.net.gradient(w, np.eye(2), np.ones((2, 1)))
    np.testing.assert_allclose(found.w, w, rtol=1e-14)
    assert not found.amplitudes.any() and np.isnan(found.curvatures).all()


# Runs --------------------------------------------------------------------------------------------


def test_a_resumed_run_has_the_same_bits(tmp_path):
    path = tmp_path / "run.npz"

    def run(steps=30, callback=None, **options):
        return mean_and_oscillation(
            small_point(), D, step=0.6, steps=steps, every=4, callback=callback, **options
        )

    def interrupt(event):
        if event.step == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(callback=interrupt, checkpoint=path, checkpoint_every=5)
    same(run(checkpoint=path), run())
    same(run(40, checkpoint=path), run(40))
    with pytest.raises(CheckpointError, match="40 steps behind it"):
        run(checkpoint=path)
    with pytest.raises(CheckpointError, match="d: other data"):
        mean_and_oscillation(small_point(), 2 * D, step=0.6, steps=40, every=4, checkpoint=path)
    with np.load(path) as archive:
        whole = dict(archive)
    for name in ("mean", "oscillation", "means", "oscillations"):
        for other in (whole[name].astype(complex), whole[name][..., :-1], np.nan * whole[name]):
            np.savez(path, **{**whole, name: other})
            with pytest.raises(CheckpointError, match="damaged"):
                run(40, checkpoint=path)


def test_a_callback_sees_each_step_and_may_end_the_run():
    events = []
    found = mean_and_oscillation(small_point(), D, step=0.6, steps=6, callback=events.append)
    assert [event.step for event in events] == list(range(6))
    assert [event.amplitude for event in events] == found.amplitudes[:-1].tolist()
    assert [event.mean_loss for event in events] == found.mean_losses[:-1].tolist()
    ended = mean_and_oscillation(
        small_point(), D, step=0.6, steps=6, callback=lambda event: event.step == 2
    )
    np.testing.assert_array_equal(ended.means, found.means[:4])


def test_the_path_has_the_times_that_were_asked_for():
    for every, times in ((2, [0, 2, 4, 5]), (None, [0, 5])):
        found = mean_and_oscillation(small_point(), D, step=0.6, steps=5, every=every)
        np.testing.assert_array_equal(found.path_times, times)
        assert len(found.means) == len(found.oscillations) == len(times)
        assert len(found.losses) == len(found.times) == 6


def test_what_diverges_says_so():
    with pytest.raises(FloatingPointError, match=r"has diverged after \d+ steps?: .*smaller step"):
        mean_and_oscillation(small_point(), D, step=1e4, steps=100)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"d": np.ones(3)}, ValueError, r"d has shape \(3,\); expected \(13,\)"),
        ({"d": np.full(13, np.inf)}, ValueError, "d has inf"),
        ({"step": 0.0}, ValueError, "step is 0.0"),
        ({"steps": -1}, ValueError, "steps is -1"),
        ({"order": 5}, ValueError, "order is 5; expected an integer from 2 to 4"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"callback": 1}, TypeError, "callback is 1"),
    ],
)
def test_arguments_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        mean_and_oscillation(small_point(), **{"d": D, "step": 0.1, "steps": 2, **options})
    with pytest.raises(ValueError, match="has a kink"):
        mean_and_oscillation(small_point(activation="relu"), D, step=0.1, steps=2)


def test_the_picture_can_be_restyled():
    found = mean_and_oscillation(small_point(), D, step=0.6, steps=5)
    ax = matplotlib.figure.Figure().add_subplot()
    assert found.plot(ax, color="k", label="d", linewidth=3) is ax
    assert ax.lines[0].get_linewidth() == 3
    (line,) = ax.get_lines()
    assert line.get_color() == "k" and line.get_label() == "d"
    np.testing.assert_array_equal(line.get_ydata(), found.amplitudes)
    assert found.plot().get_xlabel() == "steps" and "steps=5" in repr(found)


# Means of iterates -------------------------------------------------------------------------------


def test_means_keep_lines_and_drop_what_changes_its_sign():
    t = np.arange(12.0)
    line, jumps = np.stack([t, 2 - t], 1), np.stack([(-1.0) ** t, 3 * (-1.0) ** t], 1)
    np.testing.assert_allclose(smoothed(line + jumps), line[4:-4], atol=1e-14)
    np.testing.assert_allclose(smoothed(line + jumps, passes=1), line[1:-1], atol=1e-14)
    # A wave of period 4 is halved by each pass.
    wave = np.cos(np.pi * t / 2)
    np.testing.assert_allclose(smoothed(wave, passes=2), wave[2:-2] / 4, atol=1e-14)
    assert smoothed(line[:9]).shape == (1, 2)


def test_too_few_iterates_are_refused():
    with pytest.raises(ValueError, match="iterates has 8 rows and passes is 4; expected at least"):
        smoothed(np.ones((8, 3)))
    with pytest.raises(ValueError, match="iterates has nan"):
        smoothed([0.0, np.nan, 1.0], passes=1)
    with pytest.raises(ValueError, match="passes is 0"):
        smoothed(np.ones(9), passes=0)
