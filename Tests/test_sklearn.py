"""`swiftnets.sklearn` keeps scikit-learn's rules, and beside its own MLP says the same."""

import inspect
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network as theirs
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

from swiftnets import MLP
from swiftnets.optimizers import KFAC, LBFGS, Adam, FourthOrder, TrustRegion
from swiftnets.sklearn import MLPClassifier, MLPRegressor
from swiftnets.sklearn._training import SOLVERS

quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

REASONS = {
    "early": "which samples are held back depends on how many there are",
}


def expected(estimator):
    """Checks whose demands the settings cannot meet, with the reason."""
    reason = REASONS.get("early" if estimator.early_stopping else str(estimator.solver))
    names = ["check_sample_weight_equivalence_on_dense_data"]
    names += ["check_sample_weight_equivalence_on_sparse_data"]
    return dict.fromkeys(names, reason) if reason else {}


SETTINGS = [
    MLPClassifier(max_iter=100),
    MLPRegressor(max_iter=100),
    MLPClassifier((10,), "tanh", solver="lbfgs", alpha=0.5, max_iter=50),
    MLPRegressor((10,), solver="kfac", max_iter=15),
    # A decay that makes the minimum well conditioned: rounding stays rounding.
    MLPRegressor((4,), "tanh", solver=TrustRegion(), alpha=0.5, max_iter=15),
    MLPRegressor((10,), early_stopping=True, validation_fraction=0.3, learning_rate_init=0.01),
]


@quiet
@parametrize_with_checks(SETTINGS, expected_failed_checks=expected)
def test_it_keeps_the_rules_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


# Beside scikit-learn's own --------------------------------------------------------------------


def digits(count=600):
    x, y = load_digits(return_X_y=True)
    return x[:count] / 16, y[:count]


def targets_of(kind, y):
    return {
        "multiclass": y,
        "binary": y > 4,
        "multilabel": np.stack([y > 4, y % 2 == 0, y < 8], axis=1).astype(int),
    }[kind]


KINDS = ["multiclass", "binary", "multilabel"]


@quiet
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_the_same_weights_give_the_same_predictions(kind, activation):
    x, y = digits(300)
    y = targets_of(kind, y)
    settings = {"hidden_layer_sizes": (9, 7), "activation": activation, "random_state": 1}
    other = theirs.MLPClassifier(**settings, max_iter=5).fit(x, y)
    ours = MLPClassifier(**settings, max_iter=1).fit(x, y)
    ours.coefs_, ours.intercepts_ = other.coefs_, other.intercepts_
    # Sums of up to 64 products, exponentials of numbers near 1.
    np.testing.assert_allclose(ours.predict_proba(x), other.predict_proba(x), rtol=1e-12)
    np.testing.assert_allclose(
        ours.predict_log_proba(x), other.predict_log_proba(x), rtol=1e-11, atol=1e-15
    )
    np.testing.assert_array_equal(ours.predict(x), other.predict(x))
    assert ours.score(x, y) == other.score(x, y)
    assert ours.out_activation_ == other.out_activation_
    assert (ours.n_layers_, ours.n_outputs_) == (other.n_layers_, other.n_outputs_)


@quiet
@pytest.mark.parametrize("kind", [*KINDS, "numbers"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("rate", ["constant", "invscaling", "adaptive"])
def test_sgd_goes_the_same_way_step_for_step(kind, momentum, rate):
    # Starts, minibatches, losses, gradients with alpha, and learning rates: all of them at once.
    x, y = digits()
    takes = "sample_weight" in inspect.signature(theirs.MLPClassifier.fit).parameters  # from 1.7 on
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(x))
    more = {"sample_weight": weights} if takes else {}
    settings = {
        "hidden_layer_sizes": (12,),
        "solver": "sgd",
        "alpha": 3.0,
        "learning_rate": rate,
        "learning_rate_init": 0.1,
        "momentum": momentum,
        "max_iter": 12,
        "tol": 1e-2,
        "n_iter_no_change": 1,
        "random_state": 3,
    }
    if kind == "numbers":
        y, pair = y / 10, (MLPRegressor, theirs.MLPRegressor)
    else:
        y, pair = targets_of(kind, y), (MLPClassifier, theirs.MLPClassifier)
    ours, other = (one(**settings).fit(x, y, **more) for one in pair)
    assert ours.n_iter_ == other.n_iter_ and ours.t_ == other.t_
    # A few dozen steps, each with roundings of sums of 200 samples.
    np.testing.assert_allclose(ours.loss_curve_, other.loss_curve_, rtol=1e-11)
    np.testing.assert_allclose(ours.best_loss_, other.best_loss_, rtol=1e-11)
    arrays = [one.coefs_ + one.intercepts_ for one in (ours, other)]
    for mine, their in zip(*arrays, strict=True):
        np.testing.assert_allclose(mine, their, rtol=1e-9, atol=1e-12)


@quiet
@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_the_same_random_state_is_the_same_start(activation):
    x, y = digits(100)
    settings = {"hidden_layer_sizes": (5, 4), "activation": activation, "random_state": 7}
    still = {"solver": "sgd", "learning_rate_init": 1e-15, "max_iter": 1}
    ours = MLPClassifier(**settings, **still).fit(x, y)
    other = theirs.MLPClassifier(**settings, **still).fit(x, y)
    arrays = [one.coefs_ + one.intercepts_ for one in (ours, other)]
    for mine, their in zip(*arrays, strict=True):
        np.testing.assert_allclose(mine, their, rtol=0, atol=1e-12)


@quiet
def test_adam_goes_the_same_way_but_for_where_epsilon_is():
    x, y = digits()
    settings = {"hidden_layer_sizes": (12,), "epsilon": 1e-14, "max_iter": 10, "random_state": 3}
    # Of pixels that are hardly ever on the gradient is near epsilon.
    x = x[:, x.std(axis=0) > 0.1]
    ours = MLPClassifier(**settings, mixed_precision=False).fit(x, y)
    other = theirs.MLPClassifier(**settings).fit(x, y)
    np.testing.assert_allclose(ours.loss_curve_, other.loss_curve_, rtol=1e-8)


def objective(model, x, y, alpha):
    """½ Σ r² per sample, and ½ alpha ‖W‖² / N."""
    squares = 0.5 * ((model.predict(x) - y) ** 2).reshape(len(x), -1).sum(axis=1)
    return squares.mean() + 0.5 * alpha * sum((c**2).sum() for c in model.coefs_) / len(x)


@pytest.mark.parametrize(
    "solver", ["lbfgs", "kfac", "trust_region", "newton", "levenberg_marquardt", LBFGS(), "sgd"]
)
def test_every_solver_ends_at_the_ridge_of_a_linear_net(solver):
    # Closed form: weights of ridge regression, its intercept not penalised. alpha is large, so that
    # a penalty of the intercept or by another count would show.
    random = np.random.default_rng(0)
    x = random.standard_normal((60, 4))
    y = x @ [1.0, -2.0, 0.5, 3.0] + 7 + random.standard_normal(60)
    alpha = 25.0
    centred = x - x.mean(axis=0)
    w = np.linalg.solve(centred.T @ centred + alpha * np.eye(4), centred.T @ (y - y.mean()))
    more = {"learning_rate_init": 0.1, "n_iter_no_change": 200} if solver == "sgd" else {}
    model = MLPRegressor(
        (), solver=solver, alpha=alpha, tol=1e-9, max_iter=2000, random_state=0, **more
    )
    model.fit(x, y)
    # The gradient's norm is below 1e-9 or the loss at rest, and the least curvature near 1: an
    # error of the weights of the root of 2e-9 at most.
    np.testing.assert_allclose(model.coefs_[0][:, 0], w, atol=1e-4)
    np.testing.assert_allclose(model.intercepts_[0], y.mean() - x.mean(axis=0) @ w, atol=1e-4)
    assert model.loss_ == pytest.approx(objective(model, x, y, alpha), rel=1e-12)


def test_the_penalty_is_in_losses_gradients_products_and_matrices():
    from swiftnets.sklearn._decay import DecayedMLP

    random = np.random.default_rng(1)
    x, y = random.standard_normal((30, 3)), random.standard_normal((30, 2))
    net = DecayedMLP((3, 4, 2), alpha=5.0, total=30.0)
    plain = MLP((3, 4, 2), reduction="mean")
    w = plain.initial(seed=0) + 0.1
    mask = np.concatenate([np.ones(12), np.zeros(4), np.ones(8), np.zeros(2)])
    here, bare = net.at(w, x, y), plain.at(w, x, y)
    ridge = 5.0 / 30 * mask
    assert here.loss == pytest.approx(bare.loss + 0.5 * (ridge * w**2).sum(), rel=1e-14)
    np.testing.assert_allclose(here.gradient, bare.gradient + ridge * w, rtol=1e-12)
    for name in ("hessian", "gauss_newton"):
        mine, dense = getattr(here, name), getattr(bare, name).dense()
        np.testing.assert_allclose(mine.dense(), dense + np.diag(ridge), rtol=1e-12, atol=1e-15)
        v = random.standard_normal((2, len(w)))
        np.testing.assert_allclose(v @ mine, v @ (dense + np.diag(ridge)), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(
        here.hessian.solve(w).solution, np.linalg.solve(dense * 0 + here.hessian.dense(), w),
        rtol=1e-6, atol=1e-8,
    )  # fmt: skip
    net.weigh(10.0)
    assert net.loss(w, x, y) == pytest.approx(bare.loss + 1.5 * (ridge * w**2).sum(), rel=1e-14)
    narrow = net.astype(np.float32)
    assert narrow.loss(w, x, y) == pytest.approx(net.loss(w, x, y), rel=1e-5)


def test_the_loss_of_several_outputs_is_their_sum_whose_gradient_scikit_learn_takes():
    random = np.random.default_rng(2)
    x, y = random.standard_normal((50, 3)), random.standard_normal((50, 4))
    settings = {"hidden_layer_sizes": (5,), "solver": "sgd", "max_iter": 3, "random_state": 0}
    with pytest.warns(ConvergenceWarning):
        ours = MLPRegressor(**settings, alpha=0.0).fit(x, y)
        other = theirs.MLPRegressor(**settings, alpha=0.0).fit(x, y)
    np.testing.assert_allclose(ours.loss_curve_, 4 * np.array(other.loss_curve_), rtol=1e-12)
    np.testing.assert_allclose(ours.predict(x), other.predict(x), rtol=1e-11)


# Data in and out ------------------------------------------------------------------------------


@quiet
@pytest.mark.parametrize(
    "names",
    [np.array(["no", "yes", "maybe"]), np.array(["no", "yes"], object), np.array([False, True])],
)
def test_classes_of_any_kind_come_back(names):
    x, y = load_iris(return_X_y=True)
    keep = y < len(names)
    x, y = StandardScaler().fit_transform(x)[keep], names[y[keep]]
    model = MLPClassifier((8,), solver="lbfgs", random_state=0).fit(x, y)
    assert model.classes_.tolist() == sorted(names.tolist())
    assert model.predict(x).dtype == np.asarray(y).dtype and model.score(x, y) > 0.97
    assert model.predict_proba(x).shape == (len(x), len(names))
    np.testing.assert_allclose(model.predict_proba(x).sum(axis=1), 1, rtol=1e-15)


@quiet
def test_pandas_comes_in_and_its_names_are_kept():
    pandas = pytest.importorskip("pandas")
    x, y = load_iris(return_X_y=True, as_frame=True)
    y = y.map({0: "a", 1: "b", 2: "c"})
    model = MLPClassifier((5,), max_iter=3, random_state=0).fit(x, y)
    assert model.feature_names_in_.tolist() == x.columns.tolist()
    with pytest.raises(ValueError, match="feature names"):
        model.predict(x.rename(columns={x.columns[0]: "other"}))
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(x.to_numpy())
    frame = pandas.DataFrame({"one": [0.0, 1.0, 2.0], "two": [1.0, 0.0, 5.0]})
    targets = MLPRegressor(3, max_iter=2).fit(frame, frame).predict(frame)
    assert targets.shape == (3, 2)


@quiet
def test_sparse_samples_and_labels_are_their_dense_ones():
    sparse = pytest.importorskip("scipy.sparse")
    x, y = digits(120)
    y = targets_of("multilabel", y)
    settings = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
    settings |= {"early_stopping": True}
    dense = MLPClassifier(**settings).fit(x, y)
    other = MLPClassifier(**settings).fit(sparse.csr_array(x), sparse.csr_array(y))
    np.testing.assert_array_equal(dense.predict_proba(x), other.predict_proba(sparse.csc_array(x)))


@quiet
@pytest.mark.parametrize("solver", ["adam", "lbfgs", "kfac"])
def test_float32_stays_and_float64_stays(solver):
    x, y = digits(300)
    for dtype in (np.float32, np.float64):
        model = MLPClassifier((40,), solver=solver, max_iter=5, random_state=0)
        model.fit(x.astype(dtype), y)
        assert {part.dtype for part in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
        assert model.predict_proba(x).dtype == dtype
        number = MLPRegressor((40,), solver=solver, max_iter=2).fit(x.astype(dtype), y)
        assert number.predict(x).dtype == dtype


@quiet
def test_class_weights_are_sample_weights():
    x, y = digits(300)
    given = np.random.default_rng(0).uniform(0, 2, len(x))
    for weight in ("balanced", {0: 5.0, 3: 0.0}):
        by_class = compute_sample_weight(weight, y)
        settings = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}
        one = MLPClassifier(**settings, class_weight=weight).fit(x, y, sample_weight=given)
        other = MLPClassifier(**settings).fit(x, y, sample_weight=given * by_class)
        np.testing.assert_array_equal(one.coefs_[0], other.coefs_[0])
    assert 3 not in one.predict(x)  # whose weight is 0


# Training -------------------------------------------------------------------------------------


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_lowers_the_loss(solver):
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    settings = {"hidden_layer_sizes": (4,), "activation": "tanh", "alpha": 1.0, "random_state": 0}
    start = MLPClassifier(**settings, solver="sgd", learning_rate_init=1e-15, max_iter=1).fit(x, y)
    model = MLPClassifier(**settings, solver=solver, learning_rate_init=0.03, max_iter=8)
    losses = [log_loss(y, one.predict_proba(x)) for one in (start, model.fit(x, y))]
    assert losses[1] < 0.99 * losses[0]


@quiet
def test_a_method_of_third_order_takes_the_last_steps():
    x, y = load_iris(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    model = MLPClassifier(
        (4,), "tanh", solver="lbfgs", alpha=1.0, max_iter=300, warm_start=True, random_state=0
    ).fit(x, y)
    before = model.loss_
    # Damped, as the softmax does not see a shift of all its biases.
    model.set_params(solver=FourthOrder(damping=1e-8), max_iter=5, tol=1e-12).fit(x, y)
    # At rest to tol=1e-4, with curvatures of 1e-2 and more: below by 1e-6 at most.
    assert before - 1e-6 < model.loss_ < before
    assert model.n_iter_ <= 5


def test_a_solver_that_breaks_down_is_said_to():
    class Breaking(Adam):
        def step(self, problem, w, state):
            raise np.linalg.LinAlgError("the matrix is singular")

    x, y = digits(50)
    with pytest.warns(ConvergenceWarning, match="after 0 epochs the matrix is singular"):
        MLPClassifier((3,), solver=Breaking()).fit(x, y)


def test_samples_beyond_the_range_of_float32_are_worked_on_in_float64():
    random = np.random.default_rng(0)
    x = random.standard_normal((500, 20)) * 1e60
    y = x[:, 0] / 1e60
    model = MLPRegressor((60,), "tanh", solver="lbfgs", max_iter=3, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    assert np.isfinite(model.predict(x)).all() and np.isfinite(model.loss_)


@quiet
def test_mixed_precision_changes_digits_beyond_the_sixth():
    x, y = digits()
    for solver, most in (("lbfgs", 12), ("adam", 4)):
        runs = [
            MLPClassifier(
                (100,), solver=solver, max_iter=most, random_state=0, mixed_precision=mixed
            ).fit(x, y)
            for mixed in (True, False)
        ]
        first, second = (np.array(run.loss_curve_) for run in runs)
        assert not np.array_equal(first, second)  # or it does nothing
        np.testing.assert_allclose(first, second, rtol=1e-4)


@quiet
def test_a_run_that_begins_in_float32_ends_in_float64():
    x, y = load_diabetes(return_X_y=True)
    x, y = StandardScaler().fit_transform(x), (y - y.mean()) / y.std()
    settings = {"hidden_layer_sizes": (80,), "activation": "tanh", "alpha": 30.0, "tol": 1e-7}
    model = MLPRegressor(**settings, solver="lbfgs", max_iter=3000, random_state=0).fit(x, y)
    assert model.n_iter_ < 3000
    # The gradient, by the net itself and the penalty of the weights alone: of a size that float32,
    # whose gradients are off by more than 1e-7, does not reach.
    net = MLP((10, 80, 1), reduction="mean")
    pairs = list(zip(model.coefs_, model.intercepts_, strict=True))
    w = np.concatenate([np.ravel(one) for pair in pairs for one in pair])
    weights = np.concatenate([np.ravel(one) for c, b in pairs for one in (c, 0 * b)])
    gradient = net.gradient(w, x, y[:, None]) + 30.0 / len(x) * weights
    assert abs(gradient).max() <= 1.001e-7
    assert model.loss_ == pytest.approx(objective(model, x, y, 30.0), rel=1e-13)


@pytest.mark.parametrize("solver", ["adam", "sgd", "kfac", Adam(learning_rate=0.01)])
def test_partial_fit_goes_on_where_it_was(solver):
    x, y = digits(450)
    settings = {"hidden_layer_sizes": (10,), "solver": solver, "shuffle": False}
    model = MLPClassifier(**settings, random_state=0)
    losses = []
    for _ in range(4):
        losses.append(model.partial_fit(x, y, classes=np.arange(12)).loss_)
    assert model.predict_proba(x).shape == (450, 12)
    assert losses == model.loss_curve_ and np.all(np.diff(losses) < 0)
    if solver != "kfac":  # whose targets begin with another seed
        with pytest.warns(ConvergenceWarning):
            whole = MLPClassifier(**settings, random_state=0, max_iter=4).fit(
                np.vstack([x, np.zeros((2, 64))]), np.append(y, [10, 11]), [1.0] * 450 + [0.0] * 2
            )
        np.testing.assert_allclose(model.coefs_[0], whole.coefs_[0], rtol=1e-12)
    with pytest.raises(ValueError, match="expected those of the fit before"):
        model.partial_fit(x[:3], [0, 1, 99])
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(x, y)
    for setting in (
        {"solver": "lbfgs"},
        {"solver": LBFGS()},
        {"early_stopping": True},
        {"laplace": True},
    ):
        assert not hasattr(MLPClassifier(**setting), "partial_fit")


@quiet
def test_warm_start_goes_on_from_the_weights():
    x, y = digits(300)
    model = MLPClassifier((8,), solver="lbfgs", max_iter=6, warm_start=True, random_state=0)
    first = model.fit(x, y).loss_
    second = model.fit(x, y).loss_
    assert second < first and len(model.loss_curve_) == 12 and model.n_iter_ == 6
    with pytest.raises(ValueError, match="coefs_ has shapes"):
        model.set_params(hidden_layer_sizes=(9,)).fit(x, y)
    with pytest.raises(ValueError, match="expected those of the fit before"):
        model.set_params(hidden_layer_sizes=(8,)).fit(x[y < 5], y[y < 5])


@pytest.mark.parametrize("solver", ["adam", "lbfgs", "kfac"])
def test_early_stopping_keeps_the_best_weights(solver):
    x, y = digits(400)
    model = MLPClassifier(
        (10,),
        solver=solver,
        early_stopping=True,
        n_iter_no_change=4,
        learning_rate_init=0.02,
        max_iter=200,
        random_state=0,
    ).fit(x, y)
    scores = model.validation_scores_
    assert model.n_iter_ == len(scores) < 200
    assert model.best_validation_score_ == max(scores) and model.best_loss_ is None
    # The split is scikit-learn's, from a generator that has drawn the start.
    random = np.random.RandomState(0)
    for m, n in ((64, 10), (10, 10)):
        random.uniform(size=(m, n)), random.uniform(size=n)
    _, held = train_test_split(np.arange(400), random_state=random, test_size=0.1, stratify=y)
    assert model.score(x[held], y[held]) == max(scores)
    # Five epochs after the best in a row brought less than tol.
    assert max(scores[:-5]) + 1e-4 > max(scores[-5:])


@quiet
@pytest.mark.parametrize("solver", ["adam", "lbfgs", "kfac", KFAC(seed=2), "saddle_free_newton"])
def test_the_same_random_state_gives_the_same_bits(solver):
    x, y = digits(250)
    runs = [
        MLPClassifier((6,), "tanh", solver=solver, max_iter=5, random_state=seed).fit(x, y)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0].coefs_[0], runs[1].coefs_[0])
    assert runs[0].loss_curve_ == runs[1].loss_curve_ != runs[2].loss_curve_


def test_it_says_when_it_has_not_converged_and_when_it_cannot():
    x, y = digits(300)
    with pytest.warns(ConvergenceWarning, match="after max_iter=2 epochs"):
        MLPClassifier(max_iter=2).fit(x, y)
    with pytest.warns(ConvergenceWarning, match="after max_iter=2 iterations"):
        MLPClassifier(solver="lbfgs", max_iter=2).fit(x, y)
    with pytest.warns(ConvergenceWarning, match="after max_fun=7 gradients"):
        assert MLPClassifier((5,), solver="lbfgs", max_fun=7).fit(x, y).n_iter_ <= 7
    with pytest.raises(ValueError, match="need to be preprocessed"):
        MLPRegressor((5,), "identity", solver="sgd", learning_rate_init=1e3).fit(1e6 * x, 1e6 * y)
    with pytest.warns(UserWarning, match="all are one batch"), pytest.warns(ConvergenceWarning):
        MLPClassifier((3,), batch_size=1000, max_iter=1).fit(x, y)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"solver": "sag"}, ValueError, "solver is 'sag'; expected"),
        ({"solver": 3}, TypeError, "solver is of type int"),
        ({"activation": "swoosh"}, ValueError, "activation"),
        ({"activation": ["tanh", "tanh"]}, ValueError, "activation has 2 entries; expected 1"),
        ({"hidden_layer_sizes": (3, 0)}, ValueError, r"hidden_layer_sizes\[1\] is 0"),
        ({"alpha": -1.0}, ValueError, "alpha is -1.0"),
        ({"max_iter": 0}, ValueError, "max_iter is 0"),
        ({"batch_size": "all"}, ValueError, "batch_size is 'all'"),
        ({"learning_rate": "slow"}, ValueError, "learning_rate is 'slow'"),
        ({"laplace": "dense"}, ValueError, "laplace is 'dense'"),
        ({"early_stopping": True, "validation_fraction": 0.0}, ValueError, "too small"),
        ({"momentum": 1.0, "solver": "sgd"}, ValueError, "momentum is 1.0"),
    ],
)
def test_bad_settings_are_refused_by_name(setting, error, message):
    x, y = digits(50)
    with pytest.raises(error, match=message):
        MLPClassifier((3,)).set_params(**setting).fit(x, y)


def test_bad_data_is_refused():
    x, y = digits(50)
    with pytest.raises(ValueError, match="Unknown label type"):
        MLPClassifier().fit(x, y + 0.5)
    with pytest.raises(ValueError, match="one class"):
        MLPClassifier().fit(x, np.zeros(50))
    with pytest.raises(ValueError, match="columns of several classes"):
        MLPClassifier().fit(x, np.stack([y, y], axis=1))
    with pytest.raises(ValueError, match="sample_weight has an entry that is negative"):
        MLPClassifier().fit(x, y, sample_weight=-np.ones(50))
    with pytest.raises(ValueError, match="expected 'squared_error' or 'huber'"):
        MLPRegressor(loss="softmax_cross_entropy").fit(x, y)


@quiet
def test_it_shows_progress_and_ctrl_c_keeps_what_there_is(capfd):
    x, y = digits(300)
    MLPClassifier((3,), max_iter=3, verbose=True).fit(x, y)
    assert "loss" in capfd.readouterr().err

    class Stopping(Adam):
        def step(self, problem, w, state):
            if int(state["steps"]) == 5:
                raise KeyboardInterrupt
            return super().step(problem, w, state)

    with pytest.warns(UserWarning, match="interrupted"):
        model = MLPClassifier((3,), solver=Stopping(), max_iter=100).fit(x, y)
    assert model.n_iter_ == 2 and model.predict(x).shape == (300,)


# With the rest of scikit-learn ----------------------------------------------------------------


@quiet
def test_it_is_cloned_pickled_piped_and_searched():
    x, y = load_iris(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), MLPClassifier((6,), solver="kfac", max_iter=20))
    grid = {"mlpclassifier__alpha": [1e-4, 1e4], "mlpclassifier__random_state": [0]}
    search = GridSearchCV(pipe, grid, cv=3).fit(x, y)
    assert search.best_params_["mlpclassifier__alpha"] == 1e-4 and search.best_score_ > 0.9
    best = search.best_estimator_
    again = pickle.loads(pickle.dumps(best))
    np.testing.assert_array_equal(best.predict_proba(x), again.predict_proba(x))
    solver = KFAC(damping=0.1)
    assert clone(MLPRegressor(solver=solver)).get_params()["solver"] == solver


# Posteriors -----------------------------------------------------------------------------------


@quiet
@pytest.mark.parametrize("structure", [True, "last_layer", "diagonal"])
def test_laplace_calibrates_probabilities_of_a_net_that_is_too_sure(structure):
    x, y = load_breast_cancer(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    x_train, x_test, y_train, y_test = train_test_split(x, y, train_size=400, random_state=0)
    settings = {"hidden_layer_sizes": (32,), "solver": "lbfgs", "random_state": 0}
    sure = MLPClassifier(**settings).fit(x_train, y_train)
    model = MLPClassifier(**settings, laplace=structure).fit(x_train, y_train)
    found, before = (log_loss(y_test, one.predict_proba(x_test)) for one in (model, sure))
    assert found < 0.5 * before
    p = model.predict_proba(x_test)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(model.predict(x_test), model.classes_[p.argmax(axis=1)])
    assert abs(p.max(axis=1).mean() - model.score(x_test, y_test)) < 0.06
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_allclose(again.predict_proba(x_test), p, rtol=1e-9)


@quiet
@pytest.mark.parametrize("outputs", [1, 2])
def test_laplace_says_how_far_numbers_are_off(outputs):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (400, 1))
    y = np.hstack([np.sin(3 * x), np.cos(2 * x)])[:, :outputs]
    y = y + 0.3 * random.standard_normal(y.shape)
    y = y[:, 0] if outputs == 1 else y
    model = MLPRegressor((10,), "tanh", solver="lbfgs", laplace=True, random_state=0)
    model.fit(x[:200], y[:200])
    mean, std = model.predict(x[200:], return_std=True)
    assert mean.shape == std.shape == y[200:].shape
    z = (y[200:] - mean) / std
    # 20 held back numbers say the noise to 1 / √40, 16%; thrice that.
    assert 0.5 < z.std() < 1.5
    assert 0.15 < np.median(std) < 0.45
    # Of the noise and of the net: ½ log(σ² (1 + S)) of the held back ones was the least of all.
    assert np.all(std > model.posterior_.noise_variance**0.5)
    with pytest.raises(ValueError, match="return_std is True; expected a fit with laplace"):
        MLPRegressor(2, max_iter=1).fit(x, x[:, 0]).predict(x, return_std=True)


# Hostile input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_of_classes_are_not_negative(weight):
    """A negative one makes a loss without a minimum."""
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="^class_weight has a weight that is negative or not"):
        MLPClassifier(class_weight={0: weight, 1: 1, 2: 1}).fit(x, y)


@pytest.mark.parametrize("part", ["held back", "trained on"])
def test_weights_must_count_on_both_sides_of_a_split(part):
    """Scores of nothing are NaN, and the first epoch was the best."""
    x, y = load_iris(return_X_y=True)
    model = MLPClassifier((4,), early_stopping=True, random_state=0, max_iter=3)
    _, back = train_test_split(
        np.arange(150), test_size=0.1, stratify=y, random_state=_after_the_start(model, x)
    )
    weight = np.full(150, float(part == "held back"))
    weight[back] = 1 - weight[back]
    with pytest.raises(ValueError, match=f"^sample_weight is 0 for all samples that are {part}"):
        model.fit(x, y, sample_weight=weight)


def _after_the_start(model, x):
    """Random numbers as they are when the split is drawn: after the weights."""
    random = np.random.RandomState(model.random_state)
    for m, n in ((x.shape[1], 4), (4, 3)):
        random.uniform(size=(m, n)), random.uniform(size=n)
    return random


@quiet
def test_a_fit_that_fails_leaves_nothing_fitted():
    """Its weights were those of the start, and predicted."""
    x, y = load_iris(return_X_y=True)
    model = MLPClassifier((4,), max_iter=3, laplace=True, random_state=0).fit(x, y)
    with pytest.raises(ValueError, match="^Solver produced non-finite"):
        model.fit(x[:, :2] * 1e300, y)
    for call in (model.predict, model.predict_proba):
        with pytest.raises(NotFittedError):
            call(x[:, :2])
    warm = MLPClassifier((4,), max_iter=3, warm_start=True, random_state=0).fit(x, y)
    before = warm.predict_proba(x)
    with pytest.raises(ValueError, match="^Solver produced non-finite"):
        warm.fit(x * 1e300, y)
    np.testing.assert_array_equal(warm.predict_proba(x), before)


def test_what_laplace_does_not_take_is_said_before_the_training():
    x, y = load_diabetes(return_X_y=True)
    model = MLPRegressor((4,), loss="huber", laplace=True)
    with pytest.raises(
        ValueError, match="^laplace is True and loss 'huber', which is no likelihood"
    ):
        model.fit(x, y)
    assert not hasattr(model, "loss_curve_")


@pytest.mark.parametrize("sizes", [5.5, "5", None])
def test_sizes_of_layers_are_integers(sizes):
    with pytest.raises(TypeError, match="^hidden_layer_sizes is .*; expected an integer or a seq"):
        MLPRegressor(sizes).fit(np.ones((4, 2)), np.arange(4.0))


@quiet
def test_outputs_that_are_no_numbers_are_no_predictions():
    """inf - inf in float32: NaN, which compares as the first class."""
    x, y = load_iris(return_X_y=True)
    x = x.astype(np.float32)
    huge = np.full((2, 4), 3e38, np.float32)
    for model in (MLPClassifier(5, "identity"), MLPRegressor(5, "identity")):
        model.set_params(random_state=0, max_iter=3).fit(x, y)
        model.coefs_[0][:] = [[10], [-10], [10], [-10]]
        for call in {"predict", "predict_proba"} & set(dir(model)):
            with pytest.raises(ValueError, match="^outputs of 2 samples are NaN"):
                getattr(model, call)(huge)
