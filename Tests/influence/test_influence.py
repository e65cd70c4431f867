"""Leave-one-outs against closed forms and against retraining by Newton's method."""

import pickle

import numpy as np
import pytest

from swiftnets import MLP, Network, datasets, laplace
from swiftnets.influence import leave_one_out
from swiftnets.nets import Conv2d, Dense, Flatten
from swiftnets.nets.losses import Huber
from swiftnets.optimizers import TrustRegion
from swiftnets.problems import NetProblem

ORDERS = (1, 2, 3)


# Problems -----------------------------------------------------------------------------------------


def images(size, count, classes=10):
    """Of the embedded sample, averaged to size × size pixels."""
    data = datasets.load(None)
    rows = np.flatnonzero(data.train_labels < classes)[:count]
    grey = data.train_images[rows].reshape(-1, 3, 32, 32).mean(axis=1)
    step = 32 // size
    x = grey.reshape(-1, size, step, size, step).mean(axis=(2, 4)).reshape(count, -1) / 255 - 0.3
    return x, data.train_labels[rows]


def minimum(net, x, y, weights=None, start=None, seed=0):
    """Where the gradient is down to rounding: a trust region, then Newton's steps."""
    problem = NetProblem(net, x, y, sample_weight=weights)
    w = net.initial(seed=seed) if start is None else start
    w = TrustRegion().minimize(problem, w, max_iterations=400, gradient_tolerance=1e-9).w
    return newton(w, *functions(net, x, y, weights))


def functions(net, x, y, weights):
    return (
        lambda w: net.gradient(w, x, y, sample_weight=weights),
        lambda w: net.hessian(w, x, y, sample_weight=weights),
    )


def newton(w, gradient, hessian, steps=30):
    """Retraining: plain Newton steps as long as they make the gradient smaller."""
    g = gradient(w)
    for _ in range(steps):
        trial = w - np.linalg.solve(hessian(w), g)
        after = gradient(trial)
        if not np.linalg.norm(after) < 0.7 * np.linalg.norm(g):
            break
        w, g = trial, after
    assert np.linalg.norm(g) < 1e-12
    return w


def without(weights, members):
    left = np.array(weights, float)
    left[members] = 0
    return left


class Small:
    """16-3-3 on three classes, softmax cross-entropy, P 63."""

    def __init__(self):
        self.net = MLP((16, 3, 3), loss="softmax_cross_entropy", reduction="mean", l2=1e-2)
        self.x, self.y = images(4, 200, 3)
        self.w = minimum(self.net, self.x, self.y)

    @property
    def point(self):
        return self.net.at(self.w, self.x, self.y)

    def replicated(self, k, rows):
        """Each sample k times, one of the copies of `rows` on its own: those to leave out."""
        x, y = np.concatenate([self.x, self.x[rows]]), np.concatenate([self.y, self.y[rows]])
        weights = np.full(len(x), float(k))
        weights[rows] -= 1
        weights[len(self.x) :] = 1
        return x, y, weights

    def retrained(self, start, x, y, weights):
        return newton(start, *functions(self.net, x, y, weights))


@pytest.fixture(scope="module")
def small():
    return Small()


class Medium:
    """64-12-10, P 910, 1000 images."""

    def __init__(self):
        self.net = MLP((64, 12, 10), loss="softmax_cross_entropy", reduction="mean", l2=1e-2)
        self.x, self.y = images(8, 1000)
        self.w = minimum(self.net, self.x, self.y)
        self.point = self.net.at(self.w, self.x, self.y)

    def retrained(self, members, start):
        weights = without(np.ones(1000), members)
        return newton(start, *functions(self.net, self.x, self.y, weights))

    def losses(self, w, rows):
        net = MLP((64, 12, 10), loss="softmax_cross_entropy")
        return np.array([net.loss(w[i], self.x[[n]], self.y[[n]]) for i, n in enumerate(rows)])


@pytest.fixture(scope="module")
def medium():
    return Medium()


# Orders -------------------------------------------------------------------------------------------


def test_errors_fall_as_powers_of_the_weight_and_estimates_are_those_errors(small):
    rows = np.random.default_rng(0).choice(200, 10, replace=False)
    copies = (1, 8, 64)
    errors = np.empty((3, len(copies), len(rows)))
    for i, k in enumerate(copies):
        x, y, weights = small.replicated(k, rows)
        point = small.net.at(small.w, x, y, sample_weight=weights)
        found = [leave_one_out(point, order, range(200, 210)) for order in ORDERS]
        for j in range(len(rows)):
            left = without(weights, [200 + j])
            w = small.retrained(found[2].moved(j), x, y, left)
            for order, one in zip(ORDERS, found, strict=True):
                errors[order - 1, i, j] = np.linalg.norm(one.moved(j) - w)
        for order, one in zip(ORDERS, found, strict=True):
            assert (one.error_estimates > errors[order - 1, i]).all()
            # No more than a millionth of the energy is left, and four times rounding.
            assert (one.error_estimates < 1.001 * errors[order - 1, i] + 1e-11).all()
    slopes = np.log(errors[:, 0] / errors[:, 1]).mean(axis=1) / np.log(8)
    np.testing.assert_allclose(slopes, [2, 3, 4], atol=0.2)
    slopes = np.log(errors[:2, 1] / errors[:2, 2]).mean(axis=1) / np.log(8)
    np.testing.assert_allclose(slopes, [2, 3], atol=0.03)


def test_least_squares_is_the_geometric_series_of_the_leverage():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))
    columns = np.hstack([x, np.ones((30, 1))])
    w = np.linalg.lstsq(columns, y, rcond=None)[0][:, 0]
    inverse = np.linalg.inv(columns.T @ columns)
    leverage = np.einsum("ij,jk,ik->i", columns, inverse, columns)
    first = (columns @ w - y[:, 0])[:, None] * (columns @ inverse)
    for reduction in ("sum", "mean"):
        found = leave_one_out(MLP((4, 1), reduction=reduction).at(w, x, y), 3)
        for k in range(3):
            want = first * leverage[:, None] ** k
            np.testing.assert_allclose(found.terms[k], want, rtol=0, atol=1e-14)
        # And what remains of it is all of the rest.
        rest = np.linalg.norm(first, axis=1) * leverage**3 / (1 - leverage)
        assert (found.error_estimates > rest).all()
        exact = first / (1 - leverage)[:, None]
        assert np.linalg.norm(found.moves() - exact, axis=1) == pytest.approx(rest, abs=1e-13)


SETTINGS = {
    "labels": {"loss": "softmax_cross_entropy"},
    "logits": {"loss": "binary_cross_entropy", "reduction": "mean"},
    "squares": {"reduction": "mean", "activation": "sine"},
    "sum of squares": {"activation": "softplus"},
    "huber": {"loss": Huber(2.0), "reduction": "mean"},
}


@pytest.mark.parametrize("divisor", ["remaining", "all"])
@pytest.mark.parametrize("name", SETTINGS)
def test_groups_of_weighted_samples_against_retraining(name, divisor):
    rng = np.random.default_rng(len(name))
    count = 120
    # The same penalty a sample, whatever the reduction.
    ridge = 0.05 if SETTINGS[name].get("reduction") == "mean" else 0.05 * count
    net = MLP((4, 3, 2), l2=ridge, **SETTINGS[name])
    x, weights = rng.standard_normal((count, 4)), rng.uniform(0.5, 1.5, count)
    weights[7] = 0
    scores = np.tanh(x @ rng.standard_normal((4, 2))) + 0.3 * rng.standard_normal((count, 2))
    y = scores.argmax(axis=1) if name == "labels" else 1 / (1 + np.exp(-scores))
    w = minimum(net, x, y, weights, seed=1)
    groups = [[3], [0, 7, 12], 20, [7], np.arange(30, 33)]
    point = net.at(w, x, y, sample_weight=weights)
    found = [leave_one_out(point, order, groups, divisor=divisor) for order in ORDERS]
    plain = MLP((4, 3, 2), **(SETTINGS[name] | {"reduction": "sum"}))
    total = weights.sum() if net.reduction == "mean" else 1.0
    for i, group in enumerate(groups):
        left = without(weights, group)
        divide = left.sum() if divisor == "remaining" and net.reduction == "mean" else total

        def gradient(v, left=left, divide=divide):
            return plain.gradient(v, x, y, sample_weight=left) / divide + ridge * v

        def hessian(v, left=left, divide=divide):
            whole = plain.hessian(v, x, y, sample_weight=left) / divide
            return whole + ridge * np.eye(len(v))

        true = newton(found[2].moved(i), gradient, hessian)
        errors = [np.linalg.norm(one.moved(i) - true) for one in found]
        if i == 3:  # of weight 0
            assert not found[2].terms[:, i].any() and not found[2].is_flagged[i]
            assert max(errors) < 1e-12
            continue
        assert errors[2] < 0.5 * errors[1] < 0.2 * errors[0] < 0.1 * np.linalg.norm(true - w)
        for one, error in zip(found, errors, strict=True):
            assert error < one.error_estimates[i]
        norm = np.linalg.norm(gradient(found[2].moved(i)))
        assert found[2].gradient_norms[i] == pytest.approx(norm, rel=1e-6, abs=1e-13)
        refitted = found[0].refit(i)
        assert refitted.success and np.linalg.norm(refitted.w - true) < 1e-12
        assert refitted.error == pytest.approx(errors[0], rel=1e-6)


def test_nets_beyond_dense():
    rng = np.random.default_rng(3)
    net = Network([Conv2d(1, 2, 2), "tanh", Flatten()], (1, 2, 3), l2=0.05, reduction="mean")
    x, y = rng.standard_normal((25, 1, 2, 3)), rng.standard_normal((25, 4))
    w = minimum(net, x, y)
    found = leave_one_out(net.at(w, x, y), 3)
    for n in range(0, 25, 6):
        keep = np.arange(25) != n
        true = newton(found.moved(n), *functions(net, x[keep], y[keep], None))
        assert np.linalg.norm(found.moved(n) - true) < found.error_estimates[n]
        assert np.linalg.norm(found.moved(n) - true) < 0.1 * found.move_norms[n]


# A net on images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("divisor", ["remaining", "all"])
def test_estimates_are_what_they_are_said_to_be(small, divisor):
    net, x, y = small.net, small.x, small.y
    group = np.arange(0, 200, 20)
    found = leave_one_out(small.point, 1, [group], divisor=divisor)
    hessian = net.hessian(small.w, x, y)
    w, left = found.moved(0), without(np.ones(200), group)

    def gradient(w):  # of E − D
        penalty = net.l2 * w
        mean = net.gradient(w, x, y, sample_weight=left) - penalty
        return 0.95 * mean + (0.95 if divisor == "remaining" else 1) * penalty

    def energy(g):
        return np.sqrt(g @ np.linalg.solve(hessian, g))

    g = gradient(w)
    least = np.linalg.eigvalsh(hessian)[0]
    # Of the loss that is a mean of the remaining samples both are 1 / 0.95 of E − D's.
    unit = 0.95 if divisor == "remaining" else 1
    assert 0.89 * least < found.curvatures[0] * unit < 0.91 * least
    assert found.gradient_norms[0] * unit == pytest.approx(np.linalg.norm(g), rel=1e-9)
    first, contraction, v = energy(g), 0.0, w.copy()
    while energy(g) > 1e-6 * first:
        before = energy(g)
        v -= np.linalg.solve(hessian, g)
        g = gradient(v)
        contraction = max(contraction, energy(g) / before)
    rest = 4 * energy(g) / np.sqrt(found.curvatures[0] * unit)
    assert found.error_estimates[0] == pytest.approx(np.linalg.norm(v - w) + rest, rel=1e-8)
    # Rounding, some 1e-15, is taken off energies, the last of which are 1e-6 of the first.
    assert found.contractions[0] == pytest.approx(contraction, rel=1e-4)
    assert 1e-3 < contraction < 0.5


@pytest.mark.parametrize("certificate", ["minimum", "prediction"])
def test_estimates_of_nets_with_many_minima_hold_or_are_withheld(certificate):
    """Where minima vanish steps may end at saddles, slowly: 2-3-2, sine, 25 samples at random."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((25, 2)), rng.integers(0, 2, 25)
    options = {"activation": "sine", "loss": "softmax_cross_entropy", "reduction": "mean"}
    net = MLP((2, 3, 2), l2=0.003, **options)
    point = net.at(minimum(net, x, y, seed=1), x, y)
    good = saddles = 0
    for order in ORDERS:
        found = leave_one_out(point, order, certificate=certificate)
        assert (np.isinf(found.error_estimates) <= found.is_flagged).all()
        for i in range(25):
            retrained = found.refit(i)
            if not found.is_flagged[i]:
                assert retrained.success, retrained
                assert retrained.error <= found.error_estimates[i]
                good += 1
            elif found.contractions[i] < 0.5:
                saddles += "below 0" in retrained.message
    assert good >= 15
    assert saddles  # which contractions alone do not tell


@pytest.mark.parametrize("certificate", ["minimum", "prediction"])
def test_saddles_in_directions_in_which_no_gradient_is(certificate):
    """Weights of 0 stay at a critical point; the last sample is what makes it a minimum.

    Beside the bias the Hessian is ((λ, c), (c, λ)), c the mean of −x (y − b).
    """
    count = 40
    x, y = np.ones((count, 1)), np.full((count, 1), 1.0)
    x[::2], y[::2] = -1.0, -1.0
    y[-1], x[-1] = -19.0, 1.0
    net = MLP((1, 1, 1), l2=0.6, reduction="mean")
    ahead = y.mean() / 1.6  # the bias; the others are 0
    w = np.zeros(net.parameter_count)
    w[-1] = ahead
    point = net.at(w, x, y)
    assert np.linalg.norm(point.gradient) < 1e-14
    assert np.linalg.eigvalsh(point.hessian.dense())[0] > 0.05
    found = leave_one_out(point, order=3, groups=[0, count - 1], certificate=certificate)
    without = net.at(found.moved(1), x[:-1], y[:-1])
    assert np.linalg.norm(without.gradient) < 1e-3
    assert np.linalg.eigvalsh(without.hessian.dense())[0] < -0.05
    assert found.move_norms[1] > 0.1
    assert found.is_flagged.tolist() == [False, True]
    assert np.isinf(found.error_estimates[1])
    assert found.error_estimates[0] < 1e-4
    # Without a move, too.
    y = np.array([[1.0], [1.0], [1.0], [-2.0]])
    net = MLP((1, 1, 1), l2=0.5, reduction="mean", bias=False)
    point = net.at([0.0, 0.0], np.ones((4, 1)), y)
    found = leave_one_out(point, certificate=certificate)
    assert found.move_norms.tolist() == [0.0] * 4
    assert found.is_flagged.tolist() == [False, False, False, True]
    assert np.isinf(found.error_estimates[3])


def test_refits_end_where_gradients_fall_no_further():
    """A bit above the model of their rounding, and far below what a step away from there has."""
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((25, 2)), rng.integers(0, 2, 25)
    options = {"activation": "sine", "loss": "softmax_cross_entropy", "reduction": "mean"}
    net = MLP((2, 3, 2), l2=0.003, **options)
    found = leave_one_out(net.at(minimum(net, x, y, seed=7), x, y), 1)
    for i in np.flatnonzero(~found.is_flagged):
        retrained = found.refit(i)
        assert retrained.success and retrained.iterations < 20, retrained
        assert retrained.gradient_norm < 2e-15
        assert retrained.error_estimate < 1e-10


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_refits_end_where_nets_go_through_their_samples(reduction):
    """Terms of gradients are nearly 0 there, and say little of their rounding: w's digits do."""
    for seed in (1, 4, 5, 11):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((3, 2)), 3 * rng.standard_normal((3, 1))
        net = MLP((2, 2, 1), l2=1e-3, reduction=reduction)
        point = laplace.mode(net.at(net.initial(seed=seed), x, y), tolerance=1e-10)
        found = leave_one_out(point, gradient_tolerance=1e-4)
        for i in range(2):
            retrained = found.refit(i)
            assert retrained.success, retrained
            without = net.at(retrained.w, np.delete(x, i, 0), np.delete(y, i, 0))
            assert np.linalg.norm(without.gradient) < 1e-13
            least = np.linalg.eigvalsh(without.hessian.dense())[0]
            assert 0 < retrained.error_estimate < 1e-11 / least


@pytest.mark.parametrize("l2", [1e-3, 1e-6])
def test_minima_of_nets_that_go_through_their_samples_are_taken(l2):
    """And samples without which little changes have small estimates."""
    for seed in (2, 4, 5):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((3, 2)), 3 * rng.standard_normal((3, 1))
        net = MLP((2, 2, 1), l2=l2)
        point = laplace.mode(net.at(net.initial(seed=seed), x, y), tolerance=1e-14)
        weights = np.array([1.0, 1.0, 1.0, 1e-9])  # of a sample of which next to nothing depends
        x, y = np.append(x, x[:1], 0), np.append(y, y[:1], 0)
        found = leave_one_out(net.at(point.w, x, y, sample_weight=weights), groups=[3])
        assert found.error_estimates[0] < 1e-6
        assert found.refit(0).success


def test_losses_of_samples_of_a_net_on_images(medium):
    rows = np.random.default_rng(0).choice(1000, 12, replace=False)
    found = {order: leave_one_out(medium.point, order, rows) for order in ORDERS}
    true = np.array([medium.retrained([n], found[3].moved(i)) for i, n in enumerate(rows)])
    before = medium.losses(np.tile(medium.w, (12, 1)), rows)
    changes = medium.losses(true, rows) - before
    relative = []
    for one in found.values():
        errors = np.linalg.norm(one.minimum + one.moves() - true, axis=1)
        assert (errors < one.error_estimates).all()
        assert (one.error_estimates < 1.001 * errors + 1e-11).all()
        missed = one.left_out_loss_changes() - changes
        relative.append(np.linalg.norm(missed) / np.linalg.norm(changes))
        np.testing.assert_allclose(one.left_out_losses(), missed + changes + before)
    # Of all samples the first two are 5.6e-2 and 4.0e-3.
    assert relative[0] < 0.1 and relative[1] < 8e-3 and relative[2] < 1e-3
    # All of them, of which a few are too far for an expansion; the same numbers as alone.
    everything = leave_one_out(medium.point)
    assert 0 < everything.is_flagged.sum() < 20
    np.testing.assert_allclose(everything.moves()[rows], found[2].moves(), atol=1e-12)


def test_groups_of_a_net_on_images(medium):
    groups = [
        np.random.default_rng(k).choice(1000, n, replace=False)
        for k, n in enumerate((10, 10, 50, 50))
    ]
    found = leave_one_out(medium.point, 3, groups)
    for i, (group, most) in enumerate(zip(groups, (0.02, 0.02, 0.08, 0.08), strict=True)):
        true = medium.retrained(group, found.moved(i))
        error = np.linalg.norm(found.moved(i) - true)
        assert error < min(found.error_estimates[i], most * np.linalg.norm(true - medium.w))


def test_a_minimum_that_is_left_is_flagged(medium):
    group = np.random.default_rng(1).choice(1000, 100, replace=False)
    found = leave_one_out(medium.point, 3, [group])
    assert found.contractions[0] > 0.5
    assert found.is_flagged[0] and found.error_estimates[0] == np.inf


def test_curvature_at_predictions(medium):
    rows = [3, 500]
    found = leave_one_out(medium.point, 2, rows, certificate="prediction")
    for i, n in enumerate(rows):
        left = without(np.ones(1000), [n])
        hessian = medium.net.hessian(found.moved(i), medium.x, medium.y, sample_weight=left)
        least = np.linalg.eigvalsh(hessian)[0]
        assert 0.85 * least < found.curvatures[i] < least
        error = np.linalg.norm(found.moved(i) - medium.retrained([n], found.moved(i)))
        assert error < found.error_estimates[i] and not found.is_flagged[i]
    least = np.linalg.eigvalsh(medium.net.hessian(medium.w, medium.x, medium.y))[0]
    found = leave_one_out(medium.point, 1, rows)
    assert 0.85 * least < found.curvatures[0] * (1 - 1e-3) < least


# Exact symmetries ---------------------------------------------------------------------------------


def test_the_autoencoder_whose_weights_can_be_rotated():
    rng = np.random.default_rng(0)
    n, p, count = 5, 3, 60
    spread = np.diag([2.0, 1.6, 1.2, 0.8, 0.5]) @ np.linalg.qr(rng.standard_normal((n, n)))[0]
    x = rng.standard_normal((count, n)) @ spread

    def projection(matrix):
        leading = np.linalg.eigh(matrix)[1][:, -p:]
        return leading @ leading.T

    net = MLP((n, p, n), activation="identity", bias=False, reduction="mean")
    leading = np.linalg.eigh(x.T @ x)[1][:, -p:]
    mixed = rng.standard_normal((p, p)) + 2 * np.eye(p)
    w = net.flatten({"w0": leading @ mixed, "w1": np.linalg.solve(mixed, leading.T)})
    copies = (2, 16, 128)
    errors = np.empty((3, len(copies), count))
    for i, k in enumerate(copies):
        weights = np.r_[np.full(count, k - 1.0), np.ones(count)]
        point = net.at(w, np.tile(x, (2, 1)), np.tile(x, (2, 1)), sample_weight=weights)
        for order in ORDERS:
            found = leave_one_out(point, order, range(count, 2 * count))
            assert found.nullity == p * p and found.null_parts.max() < 1e-12
            outputs = found.outputs(x)
            for j in range(count):
                true = x @ projection(k * x.T @ x - np.outer(x[j], x[j]))
                errors[order - 1, i, j] = np.linalg.norm(outputs[j] - true)
    medians = np.median(errors, axis=2)
    slopes = np.log(medians[:, 0] / medians[:, 1]) / np.log(8)
    np.testing.assert_allclose(slopes, [2, 3, 4], atol=0.15)
    slopes = np.log(medians[:2, 1] / medians[:2, 2]) / np.log(8)
    np.testing.assert_allclose(slopes, [2, 3], atol=0.02)
    assert "9 eigenvalues of H 0" in repr(found)
    with pytest.raises(
        ValueError, match="certificate is 'prediction' and the inverse is by the ps"
    ):
        leave_one_out(point, certificate="prediction")


def test_gradients_in_the_null_space_are_refused_with_their_part():
    # Two samples pull at a weight from Huber's linear branches: E is flat there, its parts are not.
    net = MLP((2, 1), bias=False, loss=Huber(0.5))
    x = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    point = net.at([0.0, 0.0], x, [[3.0], [-3.0], [0.1], [-0.1]])
    message = r"singular, and of the gradient of groups\[0\] a part of 1 of its norm"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        leave_one_out(point)
    assert leave_one_out(point, 1, [2]).moved(0) == pytest.approx([0, -0.05])


def test_eigenvalues_that_are_neither_0_nor_not_are_refused():
    net = MLP((3, 1), bias=False)

    def point(least):
        x = np.diag([1.0, least, 1e-9])
        return net.at(np.ones(3), x, x.sum(axis=1)[:, None])

    message = r"has 1 eigenvalue below 1\.0e-12, .* and the next is 1\.0e-10; expected a gap"
    with pytest.raises(np.linalg.LinAlgError, match=message):
        leave_one_out(point(1e-5))
    assert leave_one_out(point(1e-4)).nullity == 1


# Other problems -----------------------------------------------------------------------------------


def test_damping_is_exact_for_the_problem_that_it_states(small):
    rng = np.random.default_rng(5)
    w = small.w + 0.05 * rng.standard_normal(len(small.w))
    rows = rng.choice(200, 6, replace=False)
    g, damping = small.net.gradient(w, small.x, small.y), 0.3
    errors = np.empty((3, 2, len(rows)))
    for i, k in enumerate((1, 8)):
        x, y, weights = small.replicated(k, rows)
        point = small.net.at(w, x, y, sample_weight=weights)
        for j in range(len(rows)):
            left = without(weights, [200 + j])
            share = 1 / weights.sum()

            def gradient(v, left=left, share=share, x=x, y=y):
                kept = small.net.gradient(v, x, y, sample_weight=left) * (1 - share)
                return kept - g + damping * (v - w)

            def hessian(v, left=left, share=share, x=x, y=y):
                kept = small.net.hessian(v, x, y, sample_weight=left) * (1 - share)
                return kept + damping * np.eye(len(v))

            true = newton(w, gradient, hessian)
            for order in ORDERS:
                found = leave_one_out(point, order, [200 + j], damping)
                errors[order - 1, i, j] = error = np.linalg.norm(found.moved(0) - true)
                assert error < found.error_estimates[0] and not found.is_flagged[0]
                assert found.refit(0).error == pytest.approx(error, rel=1e-3, abs=1e-12)
    slopes = np.log(errors[:2, 0] / errors[:2, 1]).mean(axis=1) / np.log(8)
    np.testing.assert_allclose(slopes, [2, 3], atol=0.15)
    assert "damping 0.3" in repr(found)
    with pytest.raises(ValueError, match="gradient_tolerance is for damping=0"):
        leave_one_out(point, damping=0.3, gradient_tolerance=1e-3)


def test_points_that_are_no_minimum_are_refused_with_the_figure(small):
    net, x, y = small.net, small.x, small.y
    norm = np.linalg.norm(net.gradient(small.w + 1e-3, x, y))
    with pytest.raises(ValueError, match=rf"norm {norm:.2e}, and rounding leaves \d"):
        leave_one_out(net.at(small.w + 1e-3, x, y))
    start = np.zeros(len(small.w))  # a saddle: all units are alike
    hessian = net.hessian(start, x, y)
    count = int((np.linalg.eigvalsh(hessian) < 0).sum())
    for damping, wanted in ((0.0, "a minimum, or a damping above"), (1e-3, "a larger damping")):
        message = rf"has {count} eigenvalues of 63 below 0, down to -0\.\d+; expected {wanted}"
        with pytest.raises(np.linalg.LinAlgError, match=message):
            leave_one_out(
                net.at(start, x, y),
                damping=damping,
                **({} if damping else {"gradient_tolerance": 10.0}),
            )


def test_near_a_minimum_newtons_method_goes_there(small):
    near = small.w + 1e-6 * np.random.default_rng(1).standard_normal(len(small.w))
    found = leave_one_out(small.net.at(near, small.x, small.y), gradient_tolerance=1e-4)
    assert np.linalg.norm(found.minimum - small.w) < 1e-13
    np.testing.assert_allclose(found.moves(), leave_one_out(small.point).moves(), atol=1e-12)
    net = MLP((1, 1), bias=False, loss="binary_cross_entropy", l2=1e-3)
    far = net.at([6.0], [[1.0], [-1.0]], [[0.0], [1.0]])  # whose step overshoots
    with pytest.raises(ValueError, match="Newton's method from the point ends at"):
        leave_one_out(far, gradient_tolerance=10.0)


def test_float32_points_are_computed_in_float64(small):
    single = small.net.astype(np.float32)
    w, x = small.w.astype(np.float32), small.x.astype(np.float32)
    found = leave_one_out(single.at(w, x, small.y))
    wide = x.astype(np.float64)
    true = newton(small.w, *functions(small.net, wide, small.y, None))
    assert found.minimum.dtype == np.float64 and np.linalg.norm(found.minimum - true) < 1e-13
    want = leave_one_out(small.net.at(true, wide, small.y)).moves()
    np.testing.assert_allclose(found.moves(), want, atol=1e-12)
    assert found.point.net is single


# The inverse --------------------------------------------------------------------------------------


def test_all_ways_to_invert_agree(small):
    want = leave_one_out(small.point, 3, method="factors")
    least = np.linalg.eigvalsh(small.net.hessian(small.w, small.x, small.y))[0]
    for method, error in (("eigen", 1e-13), ("krylov", 1e-8)):
        found = leave_one_out(small.point, 3, method=method)
        scale = abs(want.terms).max(axis=(1, 2))
        assert (abs(found.terms - want.terms).max(axis=(1, 2)) < error * scale).all()
        assert found.is_proven == (method == "eigen")
        assert found.curvatures[0] * (1 - 1 / 200) == pytest.approx(least, rel=1e-6)
    with pytest.raises(ValueError, match="by conjugate gradients; expected 'minimum'"):
        leave_one_out(small.point, method="krylov", certificate="prediction")


def test_large_nets_take_krylov_steps_unless_groups_are_many():
    rng = np.random.default_rng(0)
    net = Network([Dense(50, 36), "tanh", Dense(36, 5)], 50, l2=30.0)
    x, y = rng.standard_normal((20, 50)), rng.standard_normal((20, 5))
    point = net.at(minimum(net, x, y), x, y)
    found = leave_one_out(point, 2, [4])
    assert found.method == "conjugate gradients" and not found.is_proven
    many = leave_one_out(point, 1, [[i, j] for i in range(20) for j in range(i)])
    assert many.method == "dense factors"
    np.testing.assert_allclose(
        found.moves()[0], leave_one_out(point, 2, [4], method="factors").moves()[0], atol=1e-12
    )


def test_layered_factors():
    rng = np.random.default_rng(0)
    net = MLP((3, *[3] * 20, 2), activation="sine", l2=0.5)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    w = minimum(net, x, y)
    point = net.at(w, x, y)
    found = leave_one_out(point, 3)
    assert found.method == "layered factors"
    np.testing.assert_allclose(
        found.terms, leave_one_out(point, 3, method="eigen").terms, atol=1e-12
    )


# What follows -------------------------------------------------------------------------------------


def test_losses_and_outputs_are_those_at_the_predictions(small):
    groups = [[1], [2, 3], [150]]
    found = leave_one_out(small.point, 2, groups)
    x, y = images(4, 230, 3)
    test_x, test_y = x[200:], y[200:]
    plain = MLP((16, 3, 3), loss="softmax_cross_entropy", reduction="mean")
    outputs, changes = found.outputs(test_x), found.output_changes(test_x)
    for i, group in enumerate(groups):
        for order in (1, 2):
            w = small.w + found.terms[:order, i].sum(axis=0)
            np.testing.assert_array_equal(found.moved(i, order), found.minimum + (w - small.w))
            for data, some in ((test_x, test_y), (small.x, small.y)):
                given = {} if data is small.x else {"x": data, "y": some}
                want = plain.loss(w, data, some) - plain.loss(small.w, data, some)
                assert found.loss_changes(**given, order=order)[i] == pytest.approx(want, abs=1e-14)
            own = plain.loss(w, small.x[group], small.y[group])
            assert found.left_out_losses(order)[i] == pytest.approx(own, abs=1e-14)
        before = small.net.predict(small.w, test_x)
        np.testing.assert_allclose(outputs[i], small.net.predict(w, test_x), atol=1e-15)
        np.testing.assert_allclose(changes[i], outputs[i] - before, atol=1e-14)
    assert found.move_norms == pytest.approx(np.linalg.norm(found.moves(), axis=1))
    with pytest.raises(TypeError, match="x is missing"):
        found.loss_changes(y=test_y)
    with pytest.raises(ValueError, match="order is 3; expected an integer from 1 to 2"):
        found.moved(0, 3)
    with pytest.raises(ValueError, match="group is 3; expected an integer from 0 to 2"):
        found.refit(3)


@pytest.mark.parametrize("scale", [2.0**-660, 2.0**-565, 2.0**520])
def test_units_whose_squares_are_no_numbers(scale):
    """The gradient's norm was 0 or infinite, points were taken for minima and errors for 0."""
    net, x, y = MLP((1, 1)), np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [1.0], [4.0]])
    w = np.array([2.0, -1 / 3])
    found = leave_one_out(net.at(scale * w, x, scale * y))
    known = leave_one_out(net.at(w, x, y))
    for name in ("error_estimates", "gradient_norms", "move_norms"):
        np.testing.assert_allclose(getattr(found, name) / scale, getattr(known, name), rtol=1e-10)
    np.testing.assert_array_equal(found.is_flagged, known.is_flagged)
    refit = found.refit(1)
    assert refit.success and abs(refit.error / scale - 1 / 27) < 1e-12
    with pytest.raises(ValueError, match="the gradient at the point has norm"):
        leave_one_out(net.at(scale * (w + 0.1), x, scale * y))


def test_samples_of_weight_0_may_hold_anything():
    net = MLP((2, 1), l2=0.1)
    x, y = [[1.0, 2.0], [np.nan, 0.0], [0.5, -1.0]], [[1.0], [np.inf], [2.0]]
    rows = [0, 2]
    w = minimum(net, np.array(x)[rows], np.array(y)[rows])
    found = leave_one_out(net.at(w, x, y, sample_weight=[1.0, 0.0, 1.0]))
    want = leave_one_out(net.at(w, np.array(x)[rows], np.array(y)[rows]))
    np.testing.assert_allclose(found.moves()[rows], want.moves(), atol=1e-15)
    assert not found.moves()[1].any() and np.isnan(found.left_out_losses()[1])


def test_groups_count_samples_over_batches(small):
    x, y = small.x, small.y
    batches = [(x[:50], y[:50]), (x[50:], y[50:], np.ones(150))]
    found = leave_one_out(small.net.at(small.w, batches), 2, [[7, 60]])
    want = leave_one_out(small.point, 2, [[7, 60]])
    np.testing.assert_allclose(found.moves(), want.moves(), atol=1e-13)


def test_samples_without_influence_are_not_flagged():
    x = np.random.default_rng(0).standard_normal((5, 2))
    found = leave_one_out(MLP((2, 1)).at([1.0, 2.0, 0.0], x, x @ [[1.0], [2.0]]))
    assert not found.is_flagged.any() and found.move_norms.max() < 1e-14


def test_results_can_be_pickled_drawn_and_left_without_estimates(small, capsys):
    found = leave_one_out(small.point, 1, range(5), progress=True)
    shown = capsys.readouterr().err
    assert "5 of 5" in shown or "5/5" in shown
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.left_out_losses(), found.left_out_losses())
    assert repr(found).startswith("Influence(5 samples left out, order 1, by dense factors")
    assert not found.terms.flags.writeable and not found.minimum.flags.writeable
    bare = leave_one_out(small.point, 1, range(5), certificate=None)
    assert bare.is_flagged.all() and "errors not estimated" in repr(bare)
    np.testing.assert_array_equal(bare.terms, found.terms)
    with pytest.raises(ValueError, match="no error estimates to draw"):
        bare.plot()
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ax = figure.add_subplot()
    assert found.plot(ax) is ax
    drawn = np.concatenate([c.get_offsets() for c in ax.collections])
    known = np.where(np.isinf(found.error_estimates), found.move_norms, found.error_estimates)
    assert sorted(drawn[:, 1]) == pytest.approx(sorted(known))
    assert found.plot().get_xlabel() == "move"


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"order": 4}, ValueError, "order is 4; expected an integer from 1 to 3"),
        ({"order": 2.0}, TypeError, "order is 2.0; expected an integer"),
        ({"groups": 3}, TypeError, "groups is of type int; expected a list of indices"),
        ({"groups": []}, ValueError, "groups is empty"),
        ({"groups": [[]]}, ValueError, r"groups\[0\] is empty"),
        ({"groups": [0, [1, 1]]}, ValueError, r"groups\[1\] has 1 more than once"),
        ({"groups": [200]}, ValueError, r"groups\[0\] is 200; expected an integer from 0 to 199"),
        ({"groups": [[-1]]}, ValueError, r"groups\[0\] is -1"),
        ({"groups": ["ab"]}, TypeError, r"groups\[0\] is 'ab'"),
        ({"groups": [range(200)]}, ValueError, r"groups\[0\] has all samples"),
        ({"damping": -1.0}, ValueError, "damping is -1.0"),
        ({"divisor": "rest"}, ValueError, "divisor is 'rest'; expected 'remaining' or 'all'"),
        ({"certificate": "yes"}, ValueError, "certificate is 'yes'"),
        ({"method": "lu"}, ValueError, "method is 'lu'"),
        ({"tolerance": 0.0}, ValueError, "tolerance is 0"),
        ({"gradient_tolerance": -1.0}, ValueError, "gradient_tolerance is -1"),
        ({"progress": 1}, TypeError, "progress is 1"),
    ],
)
def test_arguments_are_checked(small, arguments, error, message):
    with pytest.raises(error, match=message):
        leave_one_out(small.point, **arguments)


def test_points_are_checked(small):
    with pytest.raises(TypeError, match="point is of type MLP; expected a Point"):
        leave_one_out(small.net)
    with pytest.raises(TypeError, match="no targets"):
        leave_one_out(small.net.at(small.w, small.x))


def test_memory_is_stated_before_it_is_taken(small, monkeypatch):
    monkeypatch.setattr("swiftnets._support.checks._memory_limit", lambda: 10**5)
    message = "moves of 200 groups, 63 parameters, order 2, would need 403,200 bytes"
    with pytest.raises(MemoryError, match=message):
        leave_one_out(small.point)
