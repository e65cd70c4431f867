"""Weights of samples: an integer weight counts a sample that often, 0 leaves it out."""

import numpy as np
import pytest
from mlp_reference import every_sum

from swiftnets import MLP, optimizers
from swiftnets.curvature import layer_states, tensors
from swiftnets.curvature.kronecker import kronecker_factors
from swiftnets.interop import as_scipy
from swiftnets.linalg.lanczos import lanczos
from swiftnets.optimizers import KFAC, SGD, SaddleFreeNewton, TrustRegion
from swiftnets.problems import Counted, Minibatches, NetProblem
from swiftnets.problems.functional_inverse import FunctionalInverse

TIMES = np.array([2, 0, 1, 3, 0, 1, 4])
TARGETS = ("rows", "labels", "one-hot")
EVERY_OPTIMIZER = [
    kind()
    for name in optimizers.__all__
    if isinstance(kind := getattr(optimizers, name), type)
    and issubclass(kind, optimizers.Optimizer)
    and kind not in (optimizers.Optimizer, KFAC)
]
# What defaults do not reach.
MORE = [
    KFAC(targets="exact"),  # targets are drawn for each sample, whatever its weight
    SaddleFreeNewton(method="exact", block="diagonal"),
    SaddleFreeNewton(method="krylov", steps=10),
    SaddleFreeNewton(method="rational"),
    TrustRegion(method="exact"),
]


def case(targets="rows", reduction="sum", dtype=np.float64, l2=0.1):
    random = np.random.default_rng(5)
    loss = "squared_error" if targets == "rows" else "softmax_cross_entropy"
    net = MLP((3, 4, 2), loss=loss, reduction=reduction, l2=l2, dtype=dtype)
    x, labels = random.normal(size=(len(TIMES), 3)), random.integers(0, 2, len(TIMES))
    y = {
        "rows": random.normal(size=(len(TIMES), 2)),
        "labels": labels,
        "one-hot": np.eye(2)[labels],
    }
    return net, net.initial(seed=1), x, y[targets]


def both(x, y):
    """Arguments with weights, NaN in the samples of weight 0, and with samples repeated."""
    x = np.where(TIMES[:, None] > 0, x, np.nan)
    kept = TIMES > 0
    weighted = (x, y), {"sample_weight": TIMES}
    return weighted, ((x[kept].repeat(TIMES[kept], 0), y[kept].repeat(TIMES[kept], 0)), {})


def rest(net, w, data, more, folder):
    """All quantities that the net's own sums are not, by name."""
    found, v = {}, np.random.default_rng(2).normal(size=(2, len(w)))
    point = net.at(w, *data, **more)
    factors = kronecker_factors(point)
    found |= {f"Kronecker in {i}": a for i, a in enumerate(factors.inputs)}
    found |= {f"Kronecker out {i}": a for i, a in enumerate(factors.outputs)}
    found["Kronecker inverse"] = factors.inverse(0.1)(v)
    for method in ("layered", "dense"):
        factored = (point.hessian + 0.3).factorize(method=method)
        found[f"{method} factorisation"] = factored.solve(v[0])
        found[f"{method} inertia"] = np.array(tuple(vars(factored.inertia).values()))
    found["complex"] = (point.hessian + (0.2 - 0.5j)).factorize().solve(v[0])
    for method in ("layered", "dense", "minres"):
        found[method] = net.solve(w, *data, v[0], damping=2.0, method=method, **more).solution
    for kind in ("diagonal", "kronecker"):
        found[kind] = net.solve(
            w, *data, v[0], damping=9.0, method="cg", preconditioner=kind, **more
        ).solution
    found["blocks"] = net.solve(w, *data, v[0], damping=2.0, block="diagonal", **more).solution
    found["runs"] = np.concatenate(point.hessian.lanczos(v[0], 5))
    run = lanczos(point.hessian, v[0], 5)
    found["Ritz values"] = np.linalg.eigvalsh(run.matrix)
    for name, matrix in {
        "Hessian": point.hessian,
        "Gauss-Newton": point.gauss_newton,
        "Fisher": point.fisher(),
    }.items():
        found[f"{name} operator"] = matrix.as_linear_operator() @ v[1]
    scipy = as_scipy(net, *data, **more)
    found |= {"fun": scipy.fun(w), "jac": scipy.jac(w), "hess": scipy.hess(w)}
    found["hessp"] = scipy.hessp(w, v[0])
    tensor = tensors.compute(point, order=2, path=folder / "t.npy")
    found["tensor"] = tensor.contract(v[0])
    problem = NetProblem(net, *data, **more)
    for own in (problem, Counted(problem)):
        found["problem"] = np.append(*own.loss_and_gradient(w))
        found["problem's third"] = own.third(w, v[0], v[1])
        found["problem's series"] = own.taylor(w, v[0]).gradient
        found["problem's Hessian"] = own.hessian(w)
    found["inverse"] = FunctionalInverse(problem, w).series(0 * w).coefficients
    return found


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_weight_counts_a_sample_that_often_in_every_quantity(reduction, targets, tmp_path):
    net, w, x, y = case(targets, reduction)
    directions = np.random.default_rng(3).normal(size=(3, len(w)))
    found = []
    for number, (data, more) in enumerate(both(x, y)):
        folder = tmp_path / str(number)
        folder.mkdir()
        found.append(every_sum(net, w, directions, *data, **more))
        found[-1] |= rest(net, w, data, more, folder)
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        # Sums of up to 11 terms, rounded on each side; solves and recurrences multiply that by
        # conditions below 1e3.
        other = np.asarray(found[1][name])
        np.testing.assert_allclose(
            value, other, rtol=0, atol=1e-11 * max(1, abs(other).max()), err_msg=name
        )


@pytest.mark.parametrize("method", EVERY_OPTIMIZER + MORE, ids=repr)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_weight_counts_a_sample_that_often_in_every_optimizer(reduction, method):
    for targets in ("rows", "labels"):
        net, w, x, y = case(targets, reduction)
        ends = [
            method.minimize(NetProblem(net, *data, **more), w, max_iterations=3)
            for data, more in both(x, y)
        ]
        assert ends[0].status == ends[1].status and len(ends[0].history) == len(ends[1].history)
        # Three steps, each multiplying roundings by a condition below 1e3.
        np.testing.assert_allclose(ends[0].w, ends[1].w, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_weights_of_any_scale_leave_the_inputs_factor_as_it_is(reduction, dtype):
    net, w, x, y = case("rows", reduction, dtype)
    one = kronecker_factors(net.at(w, x, y, sample_weight=TIMES))
    e = 100 if dtype == np.float32 else 1000
    for scale in (2.0**e, 2.0**-e):
        other = kronecker_factors(net.at(w, x, y, sample_weight=TIMES * scale))
        for ours, theirs in zip(other.inputs, one.inputs, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_samples_of_weight_0_are_left_out_of_loaders_and_may_be_all():
    net, w, x, y = case()
    bad = np.full_like(x[:2], np.inf)
    loader = [(x[:3], y[:3]), (bad, y[3:5], [0, 0]), (x[5:], y[5:], [1, 1])]
    rows = [0, 1, 2, 5, 6]
    np.testing.assert_allclose(
        net.hessian(w, iter(loader)), net.hessian(w, x[rows], y[rows]), atol=1e-13
    )
    # Nothing but the penalty is left.
    assert net.loss(w, bad, y[:2], sample_weight=[0, 0]) == pytest.approx(0.05 * (w @ w))
    factors = kronecker_factors(net.at(w, bad, y[:2], sample_weight=[0, 0]))
    assert not any(a.any() for a in factors.inputs + factors.outputs)
    # What a sample is checked for does not depend on its weight.
    with pytest.raises(ValueError, match="^y has shape"):
        net.loss(w, x, y[:3], sample_weight=TIMES)


def test_layer_states_have_a_row_for_every_sample_whatever_its_weight():
    net, w, x, y = case()
    layers, hessian = layer_states(net.at(w, x, y, sample_weight=TIMES))
    assert len(hessian) == len(layers[0].inputs) == len(TIMES)
    np.testing.assert_array_equal(hessian, TIMES[:, None] * np.ones(2))


@pytest.mark.parametrize("targets", ["rows", "labels"])
@pytest.mark.parametrize("number", [np.nan, np.inf, 1e200])
def test_kronecker_factors_that_are_not_finite_are_told_and_end_a_run_as_diverged(number, targets):
    net, w, x, y = case(targets)
    x[0] = number
    quiet = np.errstate(over="ignore", invalid="ignore")
    with quiet, pytest.raises(FloatingPointError, match="not finite"):
        kronecker_factors(net.at(w, x, y))
    assert KFAC().minimize(NetProblem(net, x, y), w, max_iterations=3).status == "diverged"


# Minibatches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", ["rows", "labels"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
def test_the_mean_over_an_epoch_of_minibatches_is_the_whole(size, reduction, weighted, targets):
    net, w, x, y = case(targets, reduction)
    more = {"sample_weight": TIMES} if weighted else {}
    batches = Minibatches(net, x, y, batch_size=size, **more)
    count = np.count_nonzero(TIMES) if weighted else len(TIMES)
    assert batches.per_epoch == -(-count // size)
    for epoch in range(2):
        some = [batches.at(epoch * batches.per_epoch + k) for k in range(batches.per_epoch)]
        shares = np.array([one.sample_count for one in some]) / count
        v = np.arange(len(w)) / len(w)
        for name, given in {"loss": (), "gradient": (), "hvp": (v,), "third": (v, v)}.items():
            parts = [
                share * getattr(one, name)(w, *given)
                for share, one in zip(shares, some, strict=True)
            ]
            whole = np.asarray(getattr(batches.full, name)(w, *given))
            # Sums of up to 11 terms, twice.
            bound = 1e-13 * max(1, abs(whole).max())
            np.testing.assert_allclose(sum(parts), whole, rtol=0, atol=bound)
        if count % size == 0:
            assert np.ptp(shares) == 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_every_place_of_an_epoch_is_unbiased(reduction):
    """The mean over all orders, for the smaller last batch, too."""
    net, w, x, y = case("rows", reduction)
    batches = Minibatches(net, x, y, batch_size=3, sample_weight=TIMES)
    assert batches.full.sample_count == 5
    gradients = []
    for shift in range(5):  # every sample is once in every place
        batches._order = 0, np.roll(np.arange(5), shift)
        gradients.append([batches.at(k).gradient(w) for k in range(2)])
    whole = batches.full.gradient(w)
    np.testing.assert_allclose(np.mean(gradients, 0), [whole] * 2, rtol=0, atol=1e-13)


def test_minibatches_without_samples_of_weight_0_are_those_that_never_had_them():
    for reduction in ("sum", "mean"):
        net, w, x, y = case("labels", reduction)
        (weighted, more), _ = both(x, y)
        rows = TIMES > 0
        one = Minibatches(net, *weighted, batch_size=1, **more)
        other = Minibatches(net, x[rows], y[rows], batch_size=1, sample_weight=TIMES[rows])
        ends = [SGD().minimize(batches, w, max_iterations=7) for batches in (one, other)]
        assert ends[0].status == "iterations"
        np.testing.assert_array_equal(ends[0].w, ends[1].w)
        with pytest.raises(ValueError, match="sample_weight is 0 throughout"):
            Minibatches(net, x, y, batch_size=2, sample_weight=0 * TIMES)


def test_unweighted_means_of_minibatches_are_those_of_their_samples():
    net, w, x, y = case("labels", "mean")
    batches = Minibatches(net, x, y, batch_size=3)
    for k in range(3):
        (batch,) = batches.at(k).batches
        assert batch.weights is None
        ours = batches.at(k).gradient(w)
        np.testing.assert_array_equal(ours, net.gradient(w, batch.x, batch.labels))


def test_minibatch_weights_of_any_scale_make_the_same_run():
    net, w, x, y = case("rows", "mean")
    ends = [
        SGD().minimize(
            Minibatches(net, x, y, batch_size=2, sample_weight=TIMES * 2.0**e), w, max_iterations=5
        )
        for e in (0, 1020, -1060)
    ]
    for end in ends[1:]:
        np.testing.assert_array_equal(end.w, ends[0].w)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_labels_of_samples_of_weight_0_need_not_be_classes(reduction):
    net = MLP((2, 3, 2), loss="softmax_cross_entropy", reduction=reduction)
    w, x = net.initial(0), np.arange(6.0).reshape(3, 2)
    y, s = np.array([0, -100, 1]), [1, 0, 1]
    padded, alone = net.at(w, x, y, sample_weight=s), net.at(w, x[[0, 2]], [0, 1])
    assert padded.loss == alone.loss == net.loss(w, x, y, sample_weight=s)
    assert padded.loss == net.loss(w, [(x, y, s)])
    np.testing.assert_array_equal(padded.gradient, alone.gradient)
    np.testing.assert_array_equal(padded.hessian.dense(), alone.hessian.dense())
    assert padded.per_sample_gradients().shape == (3, net.parameter_count)
    np.testing.assert_array_equal(y, [0, -100, 1])
    for weights in (None, [1, 1e-30, 1]):
        with pytest.raises(ValueError, match="y has -100 at 1"):
            net.at(w, x, y, sample_weight=weights)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "softmax_cross_entropy"])
@pytest.mark.parametrize("padding", [-1.0, np.nan, np.inf])
def test_targets_of_samples_of_weight_0_may_be_anything(loss, padding):
    net = MLP((3, 2), loss=loss)
    w, x, y = net.initial(seed=0), np.ones((2, 3)), np.array([[0.0, 1.0], [padding, 0.5]])
    point = net.at(w, x, y, sample_weight=[1, 0])
    np.testing.assert_array_equal(point.gradient, net.gradient(w, x[:1], y[:1]))
    with pytest.raises(ValueError, match="y has an entry"):
        net.at(w, x, y, sample_weight=[1, 0.5]) if padding != np.inf else net.at(w, x, -y)
