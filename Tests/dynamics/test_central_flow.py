"""The central flow beside the iterates that it is the mean of, and beside SciPy's integrator."""

import os
import re

import matplotlib.figure
import numpy as np
import pytest
from edge_problems import cifar_small, fashion
from scipy.integrate import solve_ivp

from swiftnets import MLP
from swiftnets._support import checks
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.dynamics import central_flow, flow, leading_eigenpairs


def small_point(**options):
    net = MLP((2, 3, 1), **options)
    return net.at(net.initial(seed=0), np.eye(2), np.ones((2, 1)))


def same(a, b):
    """All fields to the last bit."""
    for name in a.__dataclass_fields__:
        one, other = getattr(a, name), getattr(b, name)
        if name == "X":
            assert len(one) == len(other)
            assert all(np.array_equal(p, q) for p, q in zip(one, other, strict=True))
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            assert one == other, name


# Beside gradient descent -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    problem = fashion()
    return problem, *problem.means()


@pytest.fixture(scope="module")
def followed(trained):
    problem, means, *_ = trained
    return central_flow(problem.at(means[0]), step=problem.step, time=problem.time)


def test_it_is_the_path_of_the_iterates_means(trained, followed):
    problem, means, rows, losses = trained
    time, begin = problem.time, problem.begin
    assert np.linalg.norm(followed.w - means[time]) < 0.003
    assert np.linalg.norm(followed.path - means[: time + 1], axis=1).max() < 0.004
    assert abs(followed.mean_losses[-1] - 0.05646) <= 5e-5
    assert abs(followed.traces[-1] / 9.03e-4 - 1) <= 0.02
    # Means over 31 steps of what the iterates do.
    box = np.ones(31) / 31
    mean = np.convolve(losses[begin : begin + time + 1], box, "valid")
    assert np.abs(followed.mean_losses[15:-15] / mean - 1).max() <= 0.002
    spread = np.sum((rows - means)[: time + 1] ** 2, axis=1)
    ratio = followed.traces[15:-15] / np.convolve(spread, box, "valid")
    assert ratio[20:].min() > 0.98 and ratio[20:].max() < 1.02


def test_the_gradient_flow_is_not(trained):
    problem, means, _, losses = trained
    found = central_flow(
        problem.at(means[0]), step=problem.step, time=problem.time, threshold=np.inf, every=None
    )
    assert abs(np.linalg.norm(found.w - means[problem.time]) - 0.226) <= 0.002
    assert found.eigenvalues.shape == (201, 0) and not found.traces.any()
    assert found.products == found.thirds == 0 and found.certificates == ()
    assert 0.04 < 1 - found.losses[-1] / losses[600 - 15 : 600 + 16].mean() < 0.07


def test_it_costs_what_it_should_and_misses_no_critical_eigenvalue(trained, followed):
    problem, *_ = trained
    substeps = 2 * problem.time
    assert followed.products / substeps <= 2.6 and followed.thirds == substeps
    assert [time for time, _ in followed.certificates] == [0, 50, 100, 150, 200]
    assert all(c is not None and c.count >= 1 for _, c in followed.certificates)
    assert followed.missed == 0
    for time in range(0, 201, 25):
        values = np.linalg.eigvalsh(problem.at(followed.path[time]).hessian.dense())[::-1]
        assert (values > 0.95 * 2 / 0.4).sum() == followed.counts[time] == 1
        k = np.isfinite(followed.eigenvalues[time]).sum()
        np.testing.assert_allclose(followed.eigenvalues[time, :k], values[:k], rtol=1e-3)
    assert abs(0.4 * followed.eigenvalues[20:, 0] - 2).max() < 0.003


@pytest.mark.skipif(
    "SWIFTNETS_CIFAR10" not in os.environ, reason="SWIFTNETS_CIFAR10 names no folder of CIFAR-10"
)
def test_three_eigenvalues_are_held_at_once():
    problem = cifar_small(os.environ["SWIFTNETS_CIFAR10"])
    means, *_ = problem.means()
    found = central_flow(
        problem.at(means[0]), step=problem.step, time=problem.time, certify_every=100
    )
    assert abs(np.linalg.norm(found.w - means[300]) / 0.043 - 1) <= 0.3
    assert found.missed == 0 and found.counts[-1] == 3
    assert found.products / 600 <= 5 and found.thirds <= 6 * 600
    # At t = 100: eigenvalues of X, of rank 2.
    np.testing.assert_allclose(
        np.linalg.eigvalsh(found.X[100])[::-1], [1.49e-3, 1.08e-3, 0], rtol=0.02, atol=1e-6
    )


# On its own --------------------------------------------------------------------------------------


def test_it_holds_two_eigenvalues_at_the_edge():
    point = small_point()
    found = central_flow(point, step=1.0, time=60)
    assert found.eigenvalues[0, 0] > 3
    values = np.linalg.eigvalsh(point.net.hessian(found.w, np.eye(2), np.ones((2, 1))))
    assert found.counts[-1] == 2
    np.testing.assert_allclose(values[-2:], 2, atol=1e-3)
    assert found.losses[-1] < 1e-6


@pytest.mark.parametrize("options", [{}, {"l2": 0.1}, {"loss": "binary_cross_entropy"}])
def test_below_the_edge_it_is_the_gradient_flow(options):
    point = small_point(**options)
    step, time = 0.05, 40
    found = central_flow(point, step=step, time=time, substeps=4)
    assert not found.counts.any() and not found.traces.any()
    np.testing.assert_array_equal(found.mean_losses, found.losses)

    def velocity(_, w):
        return -step * point.net.gradient(w, np.eye(2), np.ones((2, 1)))

    exact = solve_ivp(velocity, (0, time), point.w, "DOP853", rtol=1e-10, atol=1e-12).y[:, -1]
    finer = central_flow(point, step=step, time=time, substeps=8)
    # Euler's method: half the step, half the error.
    errors = [np.linalg.norm(f.w - exact) for f in (found, finer)]
    assert errors[0] < 0.01 and 1.8 < errors[0] / errors[1] < 2.2


def test_a_mode_that_was_lost_is_found_by_the_next_proof(monkeypatch):
    def blind(products, start, k, **options):
        found = original(products, start, k, **options)
        if options.get("guard", 1.0) == 1.0 or len(found.rows) < 3:  # not that of the flow
            return found
        return type(found)(
            found.values[1:], found.rows[1:], found.residuals[1:], found.products, True
        )

    original = flow.refine
    whole = central_flow(small_point(), step=1.0, time=30, certify_every=10)
    assert whole.missed == 0
    monkeypatch.setattr(flow, "refine", blind)
    found = central_flow(small_point(), step=1.0, time=30, certify_every=10)
    assert found.missed >= 1


def test_without_proofs_it_is_the_same_flow():
    found = central_flow(small_point(), step=1.0, time=12, certify_every=None)
    assert found.certificates == () and found.missed == 0
    whole = central_flow(small_point(), step=1.0, time=12)
    np.testing.assert_allclose(found.w, whole.w, atol=1e-4)
    np.testing.assert_array_equal(found.counts, whole.counts)


def test_the_path_has_the_times_that_were_asked_for():
    point = small_point()
    whole = central_flow(point, step=0.4, time=7)
    np.testing.assert_array_equal(whole.path_times, range(8))
    np.testing.assert_array_equal(whole.path[0], point.w)
    np.testing.assert_array_equal(whole.path[-1], whole.w)
    assert len(whole.times) == len(whole.losses) == len(whole.X) == len(whole.counts) == 8
    for every, times in ((3, [0, 3, 6, 7]), (None, [0, 7]), (7, [0, 7])):
        found = central_flow(point, step=0.4, time=7, every=every)
        np.testing.assert_array_equal(found.path_times, times)
        np.testing.assert_array_equal(found.path, whole.path[times])
    assert central_flow(point, step=0.4, time=0).path.shape == (1, 13)


def test_a_callback_sees_each_time_and_may_end_the_run():
    events = []
    whole = central_flow(small_point(), step=1.0, time=12, callback=events.append)
    assert [event.time for event in events] == list(range(12))
    for event in events:
        np.testing.assert_array_equal(event.w, whole.path[event.time])
        assert event.loss == whole.losses[event.time]
        assert event.mean_loss == whole.mean_losses[event.time]
        np.testing.assert_array_equal(event.X, whole.X[event.time])
    ended = central_flow(small_point(), step=1.0, time=12, callback=lambda e: e.time == 4)
    assert len(ended.times) == 6
    np.testing.assert_array_equal(ended.w, whole.path[5])


# In the span of the inputs -----------------------------------------------------------------------


def wide_point(count=4, **options):
    net = MLP((12, 3, 1), **options)
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((count, 12)), rng.standard_normal((count, 1))
    return net.at(net.initial(seed=0), x, y, sample_weight=[1.0, 0.0, 2.0, 0.5, 1.0, 1.0][:count])


def without_span(monkeypatch):
    monkeypatch.setattr(flow, "spanned", lambda point: np.empty((0, 0)))


@pytest.mark.parametrize(
    "options", [{}, {"bias": False, "reduction": "mean"}, {"activation": "sigmoid"}]
)
def test_with_more_inputs_than_samples_the_path_is_the_same(options, monkeypatch):
    monkeypatch.setattr(flow, "_TOLERANCE", 1e-11)  # else eigenvectors differ by 1e-3
    monkeypatch.setattr(flow, "_FIRST", 1e-11)
    point, events = wide_point(**options), []
    step = 2.4 / float(np.linalg.eigvalsh(point.hessian.dense())[-1])
    found = central_flow(point, step=step, time=40, every=3, callback=events.append)
    assert found.counts.any() and found.traces.any()
    without_span(monkeypatch)
    whole = central_flow(point, step=step, time=40, every=3)
    moved = np.linalg.norm(whole.w - point.w)
    np.testing.assert_array_equal(found.path[0], point.w)
    np.testing.assert_allclose(found.path, whole.path, rtol=0, atol=1e-8 * moved)
    np.testing.assert_array_equal(found.path[-1], found.w)
    np.testing.assert_array_equal(events[3].w, found.path[1])
    assert not events[3].w.flags.writeable
    np.testing.assert_allclose(found.mean_losses, whole.mean_losses, rtol=1e-8)
    np.testing.assert_allclose(found.traces, whole.traces, rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(found.counts, whole.counts)
    np.testing.assert_allclose(found.eigenvalues, whole.eigenvalues, rtol=1e-8, atol=1e-12)
    assert [proof.count for _, proof in found.certificates] == [
        proof.count for _, proof in whole.certificates
    ]
    # Nothing moves outside of the span.
    x = point.samples.batches[0].x
    weights = (found.w - point.w)[:36].reshape(12, 3)
    inside = x.T @ np.linalg.lstsq(x.T, weights)[0]
    np.testing.assert_allclose(inside, weights, atol=1e-13 * moved)


def test_weights_of_inputs_that_are_0_may_be_of_any_size():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 12)), rng.standard_normal((4, 1))
    x[:, 1::2] = 0
    net = MLP((12, 3, 1))
    w = net.initial(seed=0)
    known = central_flow(net.at(w, x, y), step=0.03, time=5)
    large = w.copy()
    net.unflatten(large)["w0"][1::2] *= 1e150
    found = central_flow(net.at(large, x, y), step=0.03, time=5)
    np.testing.assert_array_equal(found.losses, known.losses)
    moved = net.unflatten(found.w)["w0"]
    np.testing.assert_array_equal(moved[1::2], net.unflatten(large)["w0"][1::2])
    np.testing.assert_array_equal(moved[::2], net.unflatten(known.w)["w0"][::2])


def test_zeros_outside_of_the_span_are_among_the_eigenvalues():
    for seed in range(20):  # until one has a single eigenvalue above 0
        net = MLP((9, 1, 1), bias=False)
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((2, 9)), rng.standard_normal((2, 1))
        point = net.at(rng.standard_normal(10), x, y)
        values = np.linalg.eigvalsh(point.hessian.dense())[::-1]
        if values[1] < 1e-10 < values[0]:
            break
    found = central_flow(point, step=0.1 / values[0], time=3)
    np.testing.assert_allclose(found.eigenvalues[0], values[:2], rtol=1e-6, atol=1e-10)
    assert values[-1] < -1e-3  # which the net of fewer inputs has as its second
    # What the proofs count is counted of the whole matrix.
    _, proof = found.certificates[0]
    inside = (values > proof.lower) & (values < proof.upper)
    assert proof.count == (inside if proof.inside else ~inside).sum()


@pytest.mark.parametrize(
    "point",
    [
        wide_point(l2=0.1),
        wide_point().net.at(np.ones(43), np.eye(12)[:6] + 1, np.ones((6, 1))),
        wide_point().net.at(np.ones(43), np.eye(12)[:2] + 1e-9, np.ones((2, 1))),
        wide_point().net.at(np.ones(43), np.zeros((2, 12)), np.ones((2, 1))),
        wide_point().net.at(np.ones(43), [(np.ones((2, 12)), np.ones((2, 1)))] * 2),
        wide_point().net.at(np.ones(43), np.ones((1, 12)), np.ones((1, 1))),
    ],
    ids=["l2", "samples", "scales", "zeros", "batches", "one"],
)
def test_the_span_is_left_where_it_is_of_no_use_or_loses_digits(point, request):
    is_of_use = request.node.callspec.id == "samples"  # twice as many inputs
    assert bool(flow.spanned(point).size) == is_of_use
    assert len(central_flow(point, step=1e-3, time=2).w) == 43


def test_a_resumed_run_in_the_span_has_the_same_bits(tmp_path, monkeypatch):
    path, point = tmp_path / "flow.npz", wide_point()

    def run(**options):
        return central_flow(point, step=0.1, time=12, every=5, certify_every=4, **options)

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callback=Interrupt(6))
    with np.load(path) as archive:
        assert archive["basis"].shape == (12, 3)
    same(run(checkpoint=path), whole)
    # Of another machine, whose basis has other digits.
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callback=Interrupt(6))
    without_span(monkeypatch)
    same(run(checkpoint=path), whole)
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callback=Interrupt(6))
    monkeypatch.undo()
    np.testing.assert_allclose(run(checkpoint=path).w, whole.w, atol=1e-4)


# Checkpoints -------------------------------------------------------------------------------------


class Interrupt:
    """Ctrl-C at some time."""

    def __init__(self, time):
        self.time = time

    def __call__(self, event):
        if event.time == self.time:
            raise KeyboardInterrupt


@pytest.mark.parametrize("time", [0, 7, 19])
def test_a_resumed_run_has_the_same_bits(time, tmp_path):
    path = tmp_path / "flow.npz"

    def run(**options):
        return central_flow(small_point(), step=1.0, time=30, every=4, certify_every=5, **options)

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=path, callback=Interrupt(time), checkpoint_every=5)
    same(run(checkpoint=path), whole)
    same(run(checkpoint=path), whole)  # of a run that is done


def test_a_run_goes_on_further_than_it_was_asked_to(tmp_path):
    path = tmp_path / "flow.npz"
    central_flow(small_point(), step=1.0, time=9, checkpoint=path)
    longer = central_flow(small_point(), step=1.0, time=21, checkpoint=path)
    same(longer, central_flow(small_point(), step=1.0, time=21))
    with pytest.raises(CheckpointError, match="has 21 steps behind it, more than the 9 asked for"):
        central_flow(small_point(), step=1.0, time=9, checkpoint=path)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "flow.npz"
    central_flow(small_point(), step=1.0, time=3, checkpoint=path)
    for point, options, message in (
        (small_point(), {"step": 0.9}, "step is 1.0 there and 0.9 here"),
        (small_point(), {"step": 1.0, "substeps": 3}, "substeps is 2 there and 3 here"),
        (small_point(l2=0.1), {"step": 1.0}, "l2 is 0.0 there and 0.1 here"),
    ):
        with pytest.raises(CheckpointError, match=message):
            central_flow(point, time=3, checkpoint=path, **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is damaged or no checkpoint"):
        central_flow(small_point(), step=1.0, time=3, checkpoint=path)


@pytest.mark.parametrize("name", ["basis", "w", "rows", "X", "losses", "path", "eigenvalues"])
def test_a_checkpoint_with_other_arrays_is_damaged(name, tmp_path):
    path, point = tmp_path / "flow.npz", wide_point()
    central_flow(point, step=0.3, time=4, checkpoint=path)
    with np.load(path) as archive:
        whole = dict(archive)
    array = whole[name]
    others = [array.astype(complex), array.astype(">f8"), array.astype(bool), array[None]]
    others += [array.ravel()[:-1], array.astype(str)]
    if array.size:
        others.append(np.where(np.arange(array.size).reshape(array.shape) == 0, np.nan, array))
    if name == "basis":
        others += [2 * array, array[:, :-1], np.eye(12)[:, :3]]
    for other in others:
        np.savez(path, **{**whole, name: other})
        with pytest.raises(CheckpointError, match="damaged"):
            central_flow(point, step=0.3, time=6, checkpoint=path)


# What goes wrong ---------------------------------------------------------------------------------


def test_a_flow_that_diverges_says_so():
    with pytest.raises(FloatingPointError, match=r"has diverged after \d+ steps?: .*smaller step"):
        central_flow(small_point(), step=1e3, time=50, threshold=np.inf)


def test_a_mode_that_nothing_holds_says_so():
    net = MLP((1, 1), bias=False)  # quadratic: T is 0
    point = net.at([3.0], [[1.0]], [[0.0]])
    with pytest.raises(np.linalg.LinAlgError, match="after 0 steps: .* nothing holds"):
        central_flow(point, step=3.0, time=5)


def test_eigenvectors_that_are_lost_say_so(monkeypatch):
    monkeypatch.setattr(flow, "_MOST", 1)
    with pytest.raises(
        np.linalg.LinAlgError, match="lost after 0 steps: .* expected more substeps"
    ):
        central_flow(small_point(), step=1.0, time=5)


def test_a_path_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "_memory_limit", lambda: 10**4)
    with pytest.raises(MemoryError, match="102 points of the path would need"):
        central_flow(small_point(), step=0.1, time=100)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"step": -1.0}, ValueError, "step is -1.0"),
        ({"time": 1.5}, TypeError, "time is 1.5; expected an integer"),
        ({"substeps": 0}, ValueError, "substeps is 0"),
        ({"threshold": 1.0}, ValueError, "threshold is 1.0; expected a number between 0 and 1"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"certify_every": 0}, ValueError, "certify_every is 0"),
        ({"callback": 3}, TypeError, "callback is 3"),
        ({"progress": "yes"}, TypeError, "progress is 'yes'"),
        ({"checkpoint": "no/such/folder"}, FileNotFoundError, "checkpoint is"),
        ({"checkpoint": "file", "checkpoint_every": 0}, ValueError, "checkpoint_every is 0"),
    ],
)
def test_arguments_are_checked(options, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        central_flow(small_point(), **{"step": 0.1, "time": 2, **options})


def test_kinks_are_refused():
    with pytest.raises(ValueError, match="has a kink"):
        central_flow(small_point(activation="relu"), step=0.1, time=2)


def test_progress_is_told(capsys):
    central_flow(small_point(), step=0.1, time=3, progress=True)
    assert re.search("3(/| of )3", capsys.readouterr().err)


def test_the_picture_can_be_restyled():
    found = central_flow(small_point(), step=1.0, time=5)
    ax = matplotlib.figure.Figure().add_subplot()
    assert found.plot(ax, color="k", ls=":", linewidth=3) is ax
    assert ax.lines[0].get_linewidth() == 3
    lines = ax.get_lines()
    assert len(lines) == found.eigenvalues.shape[1] + 1
    assert lines[0].get_color() == "k" and lines[-1].get_ydata()[0] == 2.0
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["central flow", "2 / η"]
    assert found.plot().get_xlabel() == "steps"
    assert "critical=2" in repr(found)


def test_eigenvalues_are_those_that_are_followed():
    found = central_flow(small_point(), step=1.0, time=5)
    w = found.path[3]
    exact = leading_eigenpairs(
        small_point().net.at(w, np.eye(2), np.ones((2, 1))), k=3, tolerance=1e-9
    )
    np.testing.assert_allclose(found.eigenvalues[3][:2], exact.values[:2], rtol=1e-3)
