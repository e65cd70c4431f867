"""`spectra.density` against all eigenvalues, and its error bars against what errors are."""

import math

import numpy as np
import pytest

import swiftnets
from swiftnets import MLP, datasets, optimizers, spectra
from swiftnets.linalg import FunctionOperator
from swiftnets.spectra.quadrature import Rule, Runs, counted, sphere


def images(count):
    grey = datasets.load(None).train_images[:count].reshape(-1, 3, 32, 32).mean(axis=1)
    x = grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64) / 255 - 0.3
    return x, datasets.load(None).train_labels[:count]


@pytest.fixture(scope="module")
def fashion():
    """64-12-10 on 2000 images: (matrix, eigenvalues) at the start and after 300 steps of L-BFGS."""
    x, labels = images(2000)
    net = MLP((64, 12, 10), loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    problem = swiftnets.problems.NetProblem(net, x, labels)
    start = net.initial(seed=0)
    end = optimizers.LBFGS().minimize(problem, start, max_iterations=300).w
    found = {}
    for name, w in (("start", start), ("end", end)):
        hessian = net.at(w, x, labels).hessian
        found[name] = hessian, np.linalg.eigvalsh(hessian.dense())
    return found


@pytest.fixture(scope="module")
def deep():
    """64-8⁷-10 on 48 images."""
    x, labels = images(48)
    net = MLP((64, *[8] * 7, 10), loss="softmax_cross_entropy", reduction="mean", l2=1e-4)
    problem = swiftnets.problems.NetProblem(net, x, labels)
    w = optimizers.LBFGS().minimize(problem, net.initial(seed=0), max_iterations=200).w
    hessian = net.at(w, x, labels).hessian
    return hessian, np.linalg.eigvalsh(hessian.dense())


# W1 relative to the spread, as measured by others at 4 starts of 64 steps: not 1.6 times more.
@pytest.mark.parametrize(
    ("name", "deflate", "bar"),
    [("start", 0, 2.2e-3), ("start", 20, 2.2e-3), ("end", 0, 1.2e-3), ("end", 20, 5.1e-5)],
)
def test_densities_of_a_net_are_as_near_as_they_say(fashion, name, deflate, bar):
    hessian, values = fashion[name]
    runs = [
        spectra.density(hessian, deflate=deflate, method="lanczos", seed=seed) for seed in range(3)
    ]
    errors = [run.distance(values) for run in runs]
    mean = np.mean(errors)
    assert mean <= 1.6 * bar * np.ptp(values)
    # The acceptance rule, by means; and single runs within the error that they state.
    sampling = np.mean([run.sampling_error for run in runs])
    truncation = np.mean([run.truncation_error + run.deflation_error for run in runs])
    assert 0.4 * sampling < mean <= 2 * sampling + truncation
    assert all(e <= run.wasserstein_error for e, run in zip(errors, runs, strict=True))
    for run in runs:
        assert run.truncation_error <= 5 * run.sampling_error and "more steps" not in run.message
        assert 0 <= run.products - 4 * run.steps <= (150 if deflate else 0)
        assert len(run.deflated) == deflate and math.isclose(run.weights.sum(), 1, rel_tol=1e-12)
        known = values[np.argsort(-abs(values))[:deflate]]
        assert np.allclose(np.sort(known), run.deflated, rtol=0, atol=1e-9)


def test_deflation_makes_a_deep_net_a_thousand_times_more_exact(deep):
    hessian, values = deep
    spread = np.ptp(values)
    plain = [spectra.density(hessian, deflate=0, method="lanczos", seed=s) for s in range(3)]
    better = [spectra.density(hessian, method="lanczos", seed=s) for s in range(3)]
    assert np.mean([run.distance(values) for run in plain]) <= 2e-3 * spread
    assert np.mean([run.distance(values) for run in better]) <= 1e-6 * spread
    bound = np.mean([2 * run.sampling_error + run.truncation_error for run in better])
    assert np.mean([run.distance(values) for run in better]) <= bound


def test_bounds_hold_for_the_whole_cdf_where_one_node_carries_much(fashion, deep):
    for hessian, values in (*fashion.values(), deep):
        share = np.arange(1, len(values) + 1) / len(values)
        for seed in range(2):
            found = spectra.density(hessian, method="lanczos", seed=seed)
            # At both sides of each eigenvalue.
            slack = 1e-10 * abs(values).max()
            assert (found.bounds(values + slack)[0] <= share + 1e-12).all()
            assert (found.bounds(values - slack)[1] >= share - 1 / len(values) - 1e-12).all()


def complete(values, probes, seed):
    """Density of a matrix so small that steps find all of it: sampling errors alone."""
    operator = FunctionOperator(len(values), lambda rows: values * rows)
    return spectra.density(
        operator, probes=probes, steps=3 * len(values), deflate=0, method="lanczos", seed=seed
    )


def test_band_and_expected_distance_have_their_levels():
    # Two spectra far from each other; the law of the weights does not depend on them.
    levels = np.arange(60.0), np.sort(np.random.default_rng(0).standard_normal(60) ** 3)
    for values in levels:
        share = np.arange(1, 61) / 60
        inside, ratios, squares = [], [], []
        for seed in range(100):
            run = complete(values, 2, seed)
            middle = (values + np.append(values[1:], values[-1] + 1)) / 2
            differences = run.cdf(middle) - share
            inside.append(abs(differences).max() <= run.band)
            ratios.append(run.distance(values) / run.sampling_error)
            squares.append(differences**2)
        # 0.95 and more, as between 60 eigenvalues the bridge is not seen; 2 deviations of 100 draws
        assert 0.91 <= np.mean(inside) <= 1
        assert 0.88 <= np.mean(ratios) <= 1.15
        assert np.mean(np.array(ratios) > 2.5) <= 0.08
        std = np.sqrt(np.mean(squares, axis=0))[5:55]
        theory = np.sqrt(2 * share * (1 - share) / (62 * 2))[5:55]
        assert 0.88 <= np.mean(std / theory) <= 1.12


def test_truncation_is_what_chebyshev_markov_and_stieltjes_say():
    values = np.linspace(-1, 1, 200) ** 3
    matrix = counted(FunctionOperator(200, lambda rows: values * rows))
    start = sphere(1, 200, np.empty((0, 200)), np.random.default_rng(3))
    runs = Runs(matrix, start, np.empty((0, 200)))
    own = np.cumsum(start[0] ** 2)
    for steps in (1, 2, 5, 20, 40):
        runs.advance(steps - runs.steps)
        (rule,) = runs.rules()
        merged = np.sort(np.concatenate([values, rule.nodes]))
        left = np.searchsorted(values, merged[:-1], side="right")
        f = np.concatenate([[0.0], own])[left]
        g = np.concatenate([[0.0], np.cumsum(rule.weights)])[
            np.searchsorted(rule.nodes, merged[:-1], side="right")
        ]
        distance = abs(f - g) @ np.diff(merged)
        assert distance <= rule.transport(-1.0, 1.0) + 1e-12
        # Exact for polynomials up to degree 2 m - 1.
        for power in range(min(2 * steps, 12)):
            moment = start[0] ** 2 @ values**power
            assert math.isclose(
                rule.integral(lambda x, p=power: x**p), moment, rel_tol=1e-9, abs_tol=1e-12
            )


def test_a_rule_by_hand():
    rule = Rule(np.array([0.0, 1.0, 3.0]), np.array([0.7, 0.2, 0.1]), (0.0, 0.0))
    assert rule.transport(-1.0, 4.0) == pytest.approx(0.7 * 1 + 0.7 * 1 + 0.2 * 2 + 0.1 * 1)
    assert rule.integral(np.square) == pytest.approx(0.2 + 0.9)


def test_deflated_outliers_do_not_come_back():
    values = np.append(np.linspace(1, 2, 480), np.linspace(50, 100, 20))
    operator = FunctionOperator(500, lambda rows: values * rows)
    found = spectra.density(operator, steps=100, max_steps=100, method="lanczos")
    assert np.allclose(found.deflated, values[480:], rtol=0, atol=1e-10)
    rest = found.nodes[~np.isin(found.nodes, found.deflated)]
    # Neither copies of outliers nor, as what is projected away has eigenvalue 0, that.
    assert len(rest) == 400 and rest.min() >= 1 - 1e-9 and rest.max() <= 2 + 1e-9
    logarithm = spectra.logdet(operator, method="lanczos", deflate=20, probes=4)
    assert abs(logarithm.value - np.log(values).sum()) <= logarithm.error


def test_steps_are_raised_until_truncation_is_small_or_it_is_said():
    values = np.linspace(0, 1, 3000)
    operator = FunctionOperator(3000, lambda rows: values * rows)
    few = spectra.density(operator, steps=8, max_steps=8, deflate=0)
    assert few.steps == 8 and few.truncation_error > 5 * few.sampling_error
    assert "more steps would lower it" in few.message
    raised = spectra.density(operator, steps=8, max_steps=200, deflate=0)
    assert raised.truncation_error <= 5 * raised.sampling_error and 8 < raised.steps <= 200
    assert "steps were raised from 8" in raised.message
    assert raised.distance(values) <= raised.wasserstein_error


def test_small_matrices_are_exact():
    random = np.random.default_rng(0).standard_normal((40, 40))
    matrix = random + random.T
    values = np.linalg.eigvalsh(matrix)
    found = spectra.density(matrix)
    assert found.method == "exact" and found.products == 0 and found.wasserstein_error == 0
    assert found.distance(values) <= 1e-13 and found.band == 0
    assert found.cdf(np.inf) == 1 and found.cdf(-np.inf) == 0
    assert found.bounds(0.0) == (found.cdf(0.0), found.cdf(0.0))
    assert np.allclose(found.cdf([-1.0, 1.0]), [(values <= x).mean() for x in (-1, 1)], atol=1e-14)
    operator = FunctionOperator(40, lambda rows: rows @ matrix)
    assert spectra.density(operator).products == 40
    assert spectra.density(found.nodes[:, None] * np.eye(40)).distance(found) <= 1e-14
    assert found.distance([0.0]) == pytest.approx(abs(values).mean())


@pytest.mark.parametrize("scale", [1.0, 0.0, -3.0, 1e150, 1e-150])
def test_multiples_of_one_end_in_a_step(scale):
    operator = FunctionOperator(500, lambda rows: scale * rows)
    found = spectra.density(operator, method="lanczos")
    assert found.steps == 1 and found.distance(np.full(500, scale)) <= 1e-12 * abs(scale)


def test_multiple_eigenvalues_have_the_weight_of_all():
    values = np.repeat([0.0, 1.0, 10.0], [700, 299, 1])
    operator = FunctionOperator(1000, lambda rows: values * rows)
    found = spectra.density(operator, method="lanczos", probes=16)
    assert found.distance(values) <= found.wasserstein_error
    assert abs(found.cdf(0.5) - 0.7) <= found.band


def test_float32_and_layers_and_seeds():
    x, labels = images(50)
    net = MLP((64, 6, 10), loss="softmax_cross_entropy", reduction="mean", dtype="float32")
    hessian = net.at(net.initial(seed=1), x, labels).hessian
    found = spectra.density(hessian, method="lanczos")
    assert found.distance(np.linalg.eigvalsh(hessian.dense().astype(float))) <= (
        found.wasserstein_error
    )
    again = spectra.density(hessian, method="lanczos")
    assert np.array_equal(found.nodes, again.nodes)
    other = spectra.density(hessian, method="lanczos", seed=1)
    assert not np.array_equal(found.nodes, other.nodes)


def test_plots_take_an_axis_and_a_style():
    figure = pytest.importorskip("matplotlib.figure").Figure()
    ax = figure.add_subplot()
    found = spectra.density(np.diag(np.linspace(0, 1, 20)))
    assert found.plot(ax, color="red", label="init") is ax
    assert ax.lines[0].get_color() == "red" and ax.get_yscale() == "log"
    # It is a density: its integral is 1.
    x, y = ax.lines[0].get_data()
    assert math.isclose(np.trapezoid(np.nan_to_num(y), x), 1, rel_tol=1e-3)
    drawn = found.plot(kind="cdf")
    assert drawn is not ax and drawn.lines[0].get_ydata()[-1] == 1
    spectra.density(np.zeros((3, 3))).plot()


def test_blocks_of_layers_and_batches():
    x, labels = images(60)
    net = MLP((64, 6, 10), loss="softmax_cross_entropy", reduction="mean")
    w = net.initial(seed=1)
    hessian = net.at(w, x, labels).hessian
    block = swiftnets.curvature.layer_block(hessian, 0)
    values = np.linalg.eigvalsh(block.dense())
    found = spectra.density(block, method="lanczos")
    assert found.order == 65 * 6 and found.distance(values) <= found.wasserstein_error
    exact = spectra.density(block, method="exact")
    assert exact.products == 0 and exact.distance(values) <= 1e-12
    assert spectra.trace(block, "square").value == pytest.approx((values**2).sum(), rel=1e-12)
    batched = net.at(w, [(x[:25], labels[:25]), (x[25:], labels[25:])]).hessian
    again = spectra.density(batched, method="lanczos")
    assert again.distance(spectra.density(hessian, method="exact")) <= again.wasserstein_error
    shifted = spectra.trace(batched + 0.3, "inverse").value
    assert shifted == pytest.approx(spectra.trace(hessian + 0.3, "inverse").value, rel=1e-9)


def test_progress_is_shown(capsys):
    operator = FunctionOperator(500, lambda rows: np.arange(500.0) * rows)
    spectra.density(operator, progress=True)
    assert "256" in capsys.readouterr().err


def test_bad_arguments_are_named():
    for wrong, message in [
        ({"probes": 0}, "probes is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"deflate": -1}, "deflate is -1"),
        ({"steps": 9, "max_steps": 8}, "max_steps is 8"),
        ({"method": "kpm"}, "method is 'kpm'"),
        ({"progress": 1}, "progress is 1"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            spectra.density(np.eye(3), **wrong)
    for matrix, error, message in [
        (np.ones((2, 3)), ValueError, r"A has shape \(2, 3\)"),
        (
            [[1.0, 2.0], [3.0, 4.0]],
            ValueError,
            r"A has 2.0 at \[0, 1\] and 3.0 at \[1, 0\]; expected a symmetric",
        ),
        ([[np.nan]], ValueError, "A"),
        (lambda v: v, TypeError, "A is of type function"),
        ("matrix", TypeError, "A"),
    ]:
        with pytest.raises(error, match=message):
            spectra.density(matrix)
    net = MLP((2, 1))
    hessian = net.at(np.zeros(3), [[1.0, 2.0]], [[0.0]]).hessian
    with pytest.raises(ValueError, match="dtype complex128"):
        spectra.density(hessian + 1j)
    with pytest.raises(TypeError, match="x has dtype"):
        spectra.density(np.eye(2)).cdf("1")
    operator = FunctionOperator(500, lambda rows: rows * np.inf)
    with pytest.raises(FloatingPointError, match="not finite"):
        spectra.density(operator, deflate=0)


def test_it_says_what_it_is():
    assert repr(spectra.density(np.eye(3))).startswith("Density(3 nodes from 1 to 1, order=3")
