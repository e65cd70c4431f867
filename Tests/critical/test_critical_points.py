"""Searches for critical points: a landscape that is known in full, and one that is not."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from swiftnets import MLP, Network, critical, datasets
from swiftnets.critical import models, search
from swiftnets.nets import Conv2d, Flatten

N, INPUTS, HIDDEN = 60, 5, 3
X = np.random.default_rng(0).standard_normal((N, INPUTS))
AUTOENCODER = MLP((INPUTS, HIDDEN, INPUTS), activation="identity", bias=False)
STARTS = np.array([np.random.default_rng(k).standard_normal(30) / 2 for k in range(300)])


def classes():
    """Loss, index and nullity of each class of critical points (Baldi & Hornik 1989)."""
    values = np.linalg.eigvalsh(X.T @ X)[::-1]
    rows = []
    for rank in range(HIDDEN + 1):
        for chosen in itertools.combinations(range(INPUTS), rank):
            passed_over = sum(j not in chosen for i in chosen for j in range(i))
            loss = (values.sum() - values[list(chosen)].sum()) / 2
            index = passed_over + (HIDDEN - rank) * (INPUTS - rank)
            rows.append((loss, index, rank * (2 * HIDDEN - rank)))
    return np.array(rows)


CLASSES = classes()


def mismatches(found):
    """Of which class each point is, and for how many index or nullity are not that class's."""
    which = abs(found.losses[:, None] - CLASSES[:, 0]).argmin(1)
    wrong = (found.indices != CLASSES[which, 1]) | (found.nullities != CLASSES[which, 2])
    return which, np.count_nonzero(wrong)


def test_a_linear_autoencoder_has_26_classes_and_all_are_found_with_their_index():
    found = critical.find(AUTOENCODER, X, X, STARTS)
    assert len(found) == 300 and set(found.statuses) == {"critical"}
    which, wrong = mismatches(found)
    assert len(CLASSES) == 26 == len(set(which)) and wrong == 0
    # Of the loss at w = 0. Losses are sums of N squares: some units of rounding.
    assert abs(found.losses - CLASSES[which, 0]).max() <= 1.3e-15 * CLASSES[:, 0].max()
    assert np.median([one.iterations for one in found]) <= 30
    same = found.distinct()
    assert len(same) == 26 and list(same.losses) == sorted(same.losses)
    # Those with hidden units turned are one by their outputs, and many by their weights.
    assert len(found.distinct(by="weights")) > 200
    assert same.rank_correlation() > 0.9


@pytest.mark.parametrize(("method", "count"), [("layered", 12), ("krylov", 20)])
def test_other_ways_to_the_same_points(method, count):
    found = critical.find(AUTOENCODER, X, X, STARTS[:count], method=method)
    dense = critical.find(AUTOENCODER, X, X, STARTS[:count], method="dense")
    assert set(found.statuses) == {"critical"}
    which, wrong = mismatches(found)
    assert wrong == 0
    assert np.mean(which == mismatches(dense)[0]) > 0.7  # from far away rounding may decide


@pytest.mark.parametrize("mu", [1.0, 1e-2, 1e-4])
def test_steps_are_those_of_levenberg_and_marquardt(mu):
    """Against NumPy's solve with H² + μ, whose condition bounds the error."""
    net = MLP((4, 3, 2), loss="softmax_cross_entropy", l2=1e-2)
    rng = np.random.default_rng(1)
    point = net.at(net.initial(seed=1), rng.standard_normal((20, 4)), rng.integers(0, 2, 20))
    hessian, g = point.hessian.dense(), point.gradient
    squared = hessian @ hessian + mu * np.eye(len(g))
    exact = -np.linalg.solve(squared, hessian @ g)
    left = np.linalg.norm(g + hessian @ exact)
    bound = 1e-13 * np.linalg.cond(squared)
    for make in (models.DenseModel, models.LayeredModel, models.Krylov):
        model = make(point)
        for _ in range(2):  # the second time from factors that are there
            step, size = model.step(mu)
            assert np.linalg.norm(step - exact) <= bound * np.linalg.norm(exact)
            assert size == pytest.approx(left, rel=bound)
        assert model.slope == pytest.approx(np.linalg.norm(hessian @ g), rel=1e-12)
        assert model.norm == pytest.approx(np.linalg.norm(hessian, 2), rel=0.05)


def test_a_small_krylov_space_says_what_its_steps_leave(monkeypatch):
    monkeypatch.setattr(models, "_MOST_KRYLOV", 6)
    point = AUTOENCODER.at(STARTS[3], X, X)
    hessian, g = point.hessian.dense(), point.gradient
    model = models.Krylov(point)
    space = np.array([np.linalg.matrix_power(hessian / model.norm, k) @ g for k in range(6)])
    basis = np.linalg.qr(space.T)[0]
    image = hessian @ basis
    for mu in (1e2, 1e-2):
        step, size = model.step(mu)
        assert size == pytest.approx(np.linalg.norm(g + hessian @ step), rel=1e-10)
        best = -basis @ np.linalg.solve(image.T @ image + mu * np.eye(6), image.T @ g)
        assert step == pytest.approx(best, rel=1e-6, abs=1e-6 * np.linalg.norm(best))
    # Slow, and honest: what the space does not reach is no null space.
    for one in critical.find(AUTOENCODER, X, X, STARTS[:4], method="krylov", max_iterations=60):
        assert one.status == ("critical" if one.gradient_norm <= 1e-12 else "iterations")


# Where methods that minimise ‖g‖² end ---------------------------------------------------------


def photographs():
    """Three classes of the embedded sample in 4 x 4 pixels, and a small net."""
    data = datasets.load(None)
    pictures = data.train_images.reshape(-1, 3, 32, 32).mean(1) / 255 - 0.45
    x = pictures.reshape(-1, 4, 8, 4, 8).mean((2, 4)).reshape(-1, 16)
    rows = np.flatnonzero(data.train_labels < 3)[:300]
    net = MLP((16, 4, 3), loss="softmax_cross_entropy", reduction="mean", l2=1e-3)
    return net, x[rows], data.train_labels[rows].astype(int)


@pytest.fixture(scope="module")
def landscape():
    """Starts along gradient descent, as saddles are met in training."""
    net, x, y = photographs()
    starts = []
    for seed in range(4):
        w = net.initial(seed=seed)
        for _ in range(2):
            starts.append(w)
            for _ in range(300):
                w = w - 0.5 * net.gradient(w, x, y)
    return net, x, y, critical.find(net, x, y, starts)


def test_gradient_flat_points_are_told_from_critical_ones(landscape):
    net, x, y, found = landscape
    assert len(found.critical) >= 4 and len(found.flat) >= 1
    assert len(found.critical) + len(found.flat) == len(found)
    for one in found:
        point = net.at(one.w, x, y)
        gradient, (values, vectors) = point.gradient, np.linalg.eigh(point.hessian.dense())
        size, parts = np.linalg.norm(gradient), vectors.T @ gradient
        assert one.gradient_norm == pytest.approx(size, rel=1e-6, abs=1e-16)
        if one.is_critical:
            assert size <= 1e-12
            # A Newton step from there is short: it is no small gradient far from any zero.
            assert np.linalg.norm(parts / values) < 1e-7
        else:
            null = np.linalg.norm(parts[abs(values) < 1e-6 * abs(values).max()]) / size
            assert size > 1e-7 and null > 0.99 and one.null_share == pytest.approx(null, abs=1e-6)
            assert one.flatness < 1e-5 and "null space" in one.message
            assert models.LayeredModel(point).null_share() > 0.9
            least = models.Krylov(point).null_share()
            assert least <= null + 1e-12 and (least > 0.9 or one.flatness > 4e-7)


def test_indices_are_counts_of_negative_eigenvalues(landscape):
    *_, found = landscape
    for one in found.critical:
        values = np.linalg.eigvalsh(one.point.hessian.dense())
        assert one.index == np.count_nonzero(values < 0) and one.nullity == 0
    distinct = found.distinct()
    assert 2 <= len(distinct) < len(found.critical)
    assert distinct.rank_correlation() > 0.5  # Spearman's, of loss and index


def test_a_loss_that_levels_out_has_no_critical_point():
    net = MLP((1, 1), loss="binary_cross_entropy")
    (one,) = critical.find(net, [[-1.0], [1.0]], [[0.0], [1.0]], [[0.3, 0.0]])
    assert one.gradient_norm < 1e-12 and one.status == "escaping" and not one.is_critical
    assert np.linalg.norm(one.w) > 20 and "infinity" in one.message


def test_other_nets_and_precisions():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((12, 1, 4, 4)), rng.standard_normal((12, 1))
    net = Network([Conv2d(1, 2, 3), "tanh", Flatten(), *MLP((8, 1)).layers], (1, 4, 4), l2=0.1)
    found = critical.find(net, x, y, 3, seed=7)
    assert "critical" in found.statuses
    for one in found.critical:
        assert np.linalg.norm(net.gradient(one.w, x, y)) <= 1e-12
    with pytest.raises(NotImplementedError, match='method="layered" of find needs dense layers'):
        critical.find(net, x, y, 1, method="layered")
    single = MLP((2, 2, 1), l2=0.1, dtype=np.float32)
    samples = x[:, 0, 0, :2].astype(np.float32)
    weights = np.arange(12) % 3
    wide = single.astype(np.float64)
    (one,) = critical.find(single, samples, y.astype(np.float32), 1, sample_weight=weights)
    assert one.w.dtype == np.float64
    gradient = wide.gradient(
        one.w,
        samples.astype(float),
        y.astype(np.float32).astype(float),
        sample_weight=weights.astype(float),
    )
    assert np.linalg.norm(gradient) <= 1e-12
    batches = [(AUTO, AUTO) for AUTO in (X[:20], X[20:])]
    (other,) = critical.find(AUTOENCODER, batches, None, STARTS[0])
    assert other.loss == pytest.approx(critical.find(AUTOENCODER, X, X, STARTS[0])[0].loss)


def test_an_index_that_is_not_proved_is_none(monkeypatch):
    def refuse(point, tau):
        raise np.linalg.LinAlgError("singular to working precision")

    monkeypatch.setattr(search, "_index", refuse)
    found = critical.find(AUTOENCODER, X, X, STARTS[:1])
    assert found[0].index is None and found[0].nullity is None and found[0].is_critical
    assert "the index is not proved: singular" in found[0].message
    assert list(found.indices) == [-1] == list(found.nullities)
    assert math.isnan(found.rank_correlation())
    found.plot()


@pytest.mark.parametrize("method", ["dense", "layered", "krylov"])
def test_a_matrix_of_zeros(method):
    """Three linear layers at 0: gradient and Hessian vanish; with one layer not 0 the latter."""
    net = MLP((2, 2, 2, 2), activation="identity", bias=False)
    (one,) = critical.find(net, np.eye(2), np.eye(2), np.zeros(12), method=method)
    assert one.is_critical and (one.index, one.nullity, one.iterations) == (0, 12, 0)
    assert not critical.certify(one)
    start = np.concatenate([np.eye(2).ravel(), np.zeros(8)])
    (one,) = critical.find(net, np.eye(2), np.eye(2), start, method=method)
    assert one.is_critical and (one.index, one.nullity) == (4, 4)


def test_limits_and_the_end_at_rounding():
    (one,) = critical.find(AUTOENCODER, X, X, STARTS[0], max_iterations=2)
    assert one.status == "iterations" and one.iterations == 2
    assert critical.find(AUTOENCODER, X, X, np.zeros(30))[0].iterations == 0
    (one,) = critical.find(AUTOENCODER, X, X, STARTS[0], gradient_tolerance=1e-300)
    assert one.is_critical and one.message == "the gradient is 0 to rounding"
    # Units do not matter: the same net with a loss 1e12 times as large.
    big = critical.find(AUTOENCODER, X, X, STARTS[:3], sample_weight=np.full(N, 1e12))
    assert set(big.statuses) == {"critical"}
    which = abs(big.losses[:, None] / 1e12 - CLASSES[:, 0]).argmin(1)
    assert list(big.indices) == list(CLASSES[which, 1])


def test_sequences_and_pictures(landscape):
    *_, found = landscape
    assert isinstance(found[1:3], critical.CriticalPoints) and len(found[1:3]) == 2
    assert found[-1] is list(found)[-1] and len(found.losses) == len(found)
    assert repr(found).startswith(f"CriticalPoints({len(found.critical)} of 8 critical")
    assert "index" in repr(found[0])
    with pytest.raises(TypeError, match=r"points\[0\] is of type int; expected a CriticalPoint"):
        critical.CriticalPoints([1])
    axes = found.plot()
    assert axes.get_xlabel() == "loss" and axes.get_ylabel() == "index"
    offsets = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    assert len(offsets) == len(found)
    assert set(offsets[:, 1]) == set(found.indices)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels[0] == f"critical ({len(found.critical)})" and len(labels) == 2
    styled = found.critical.plot(axes.figure.add_subplot(), fraction=True, color="red", s=5)
    heights = np.asarray(styled.collections[0].get_offsets())[:, 1]
    assert heights == pytest.approx(found.critical.indices / 83)


def test_progress_is_shown(capfd):
    critical.find(AUTOENCODER, X, X, STARTS[:2], progress=True)
    assert "2/2" in capfd.readouterr().err  # tqdm's bar


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"net": 3}, TypeError, "net is of type int; expected an MLP or a Network"),
        ({"starts": np.ones((2, 4))}, ValueError, "starts has shape"),
        ({"starts": np.full(30, np.nan)}, ValueError, "starts has nan at"),
        ({"starts": 0}, ValueError, "starts is 0"),
        ({"method": "newton"}, ValueError, "method"),
        ({"gradient_tolerance": 0.0}, ValueError, "gradient_tolerance"),
        ({"max_iterations": 1.5}, TypeError, "max_iterations"),
        ({"null_tolerance": -1.0}, ValueError, "null_tolerance"),
        ({"progress": 2}, TypeError, "progress"),
        ({"y": None}, TypeError, "targets"),
        ({"x": np.full((N, INPUTS), np.inf)}, ValueError, "x has inf"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    given = {"net": AUTOENCODER, "x": X, "y": X, "starts": STARTS[:1]} | arguments
    with pytest.raises(error, match=message):
        critical.find(**given)


def test_distinct_points_and_bad_arguments():
    found = critical.find(AUTOENCODER, X, X, STARTS[:1])
    other = dataclasses.replace(found[0], index=found[0].index + 1, gradient_norm=1.0)
    assert len(critical.CriticalPoints([*found, other]).distinct()) == 2
    other = dataclasses.replace(found[0], gradient_norm=1.0)
    assert list(critical.CriticalPoints([other, *found]).distinct()) == list(found)
    other = dataclasses.replace(other, status="flat", gradient_norm=0.0)
    assert list(critical.CriticalPoints([other, *found]).distinct()) == list(found)
    with pytest.raises(ValueError, match="by"):
        found.distinct(by="loss")
    with pytest.raises(ValueError, match="tolerance"):
        found.distinct(tolerance=0.0)


def test_krylov_steps_count_where_the_gradient_is_rounding_in_a_null_space():
    """Its Krylov space has next to nothing of ‖H‖, by which eigenvalues are told from 0."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((5, 2)), np.arange(5) % 2
    net = MLP((2, 2, 2), activation="identity", loss="softmax_cross_entropy")
    (point,) = critical.find(net, x, y, np.zeros((1, net.parameter_count)), method="krylov")
    values = np.linalg.eigvalsh(point.point.hessian.dense())
    assert point.status == "critical"
    assert point.index == (values < -0.1).sum() == 2
    assert point.nullity == (abs(values) < 1e-8).sum() == 7


def test_krylov_steps_where_squares_of_the_hessian_are_0():
    """Without dividing by them: warnings are errors here."""
    net = MLP((1, 1), bias=False, loss="binary_cross_entropy")
    options = {"method": "krylov", "gradient_tolerance": 1e-200}
    (point,) = critical.find(net, [[1e-100]], [[1.0]], [[0.5]], **options)
    assert point.status != "critical" and point.point.w == 0.5
