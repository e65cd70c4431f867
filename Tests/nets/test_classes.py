"""Classes and accuracies beside scikit-learn and PyTorch, and targets in other forms."""

import itertools

import numpy as np
import pytest

from swiftnets import MLP, Network
from swiftnets.nets import Conv2d, Dense, Flatten
from swiftnets.optimizers import SGD
from swiftnets.problems import Minibatches, NetProblem

EPS = 2.3e-16
X = np.random.default_rng(1).normal(size=(40, 3))


def net(outputs, loss, **options):
    one = MLP((3, 5, outputs), loss=loss, **options)
    return one, 2 * one.initial(seed=1)


# Predictions --------------------------------------------------------------------------------------


def test_probabilities_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    for loss, theirs in (
        ("softmax_cross_entropy", lambda z: torch.softmax(z, 1)),
        ("binary_cross_entropy", torch.sigmoid),
    ):
        one, w = net(4, loss)
        z = torch.tensor(one.predict(w, X))
        # A few roundings, of exponentials and sums of four.
        np.testing.assert_allclose(one.predict_probabilities(w, X), theirs(z), rtol=16 * EPS)


def test_probabilities_do_not_overflow():
    one = MLP((1, 2), bias=False, loss="softmax_cross_entropy")
    np.testing.assert_array_equal(one.predict_probabilities([1e4, -1e4], [[1.0]]), [[1, 0]])
    one = MLP((1, 1), bias=False, loss="binary_cross_entropy")
    found = one.predict_probabilities([1e4], [[1.0], [-1.0], [-0.07]])
    np.testing.assert_array_equal(found[:2], [[1], [0]])
    assert 0 < found[2, 0] == pytest.approx(np.exp(-700.0), rel=1e-12)
    single = MLP((1, 1), bias=False, loss="bce", dtype="float32")
    assert single.predict_probabilities([1.0], [[1.0]]).dtype == np.float32


def test_classes_are_those_of_the_largest_output():
    one, w = net(4, "softmax_cross_entropy")
    found = one.predict_classes(w, X)
    assert found.dtype == np.int64 and len(set(found)) > 1
    np.testing.assert_array_equal(found, one.predict(w, X).argmax(axis=1))
    tie = MLP((1, 3), bias=False, loss="softmax_cross_entropy")
    assert tie.predict_classes([0.0, 1.0, 1.0], [[1.0]]) == [1]


def test_two_classes_have_a_threshold():
    softmax, w = net(2, "softmax_cross_entropy")
    binary, v = net(1, "binary_cross_entropy")
    for threshold in (0.0, 0.3, 0.5, 0.9, 1.0):
        found = softmax.predict_classes(w, X, threshold=threshold)
        expected = softmax.predict_probabilities(w, X)[:, 1] > threshold
        np.testing.assert_array_equal(found, expected)
        found = binary.predict_classes(v, X, threshold=threshold)
        assert found.shape == (40,) and found.dtype == np.int64
        np.testing.assert_array_equal(found, binary.predict_probabilities(v, X)[:, 0] > threshold)
    many, u = net(3, "binary_cross_entropy")
    found = many.predict_classes(u, X, threshold=0.4)
    np.testing.assert_array_equal(found, many.predict_probabilities(u, X) > 0.4)
    plain, w = net(1, "squared_error")
    found = plain.predict_classes(w, X, threshold=-0.2)
    np.testing.assert_array_equal(found, plain.predict(w, X)[:, 0] > -0.2)
    assert 0 < found.sum() < 40
    one = MLP((3, 1), loss="softmax_cross_entropy")
    np.testing.assert_array_equal(one.predict_classes(one.initial(0), X), 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracies_are_those_of_scikit_learn(weighted):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(2)
    weights = random.integers(0, 3, 40).astype(float) if weighted else None
    labels, bits = random.integers(0, 3, 40), random.integers(0, 2, (40, 3))
    cases = []
    one, w = net(3, "softmax_cross_entropy")
    cases += [(one, w, labels, labels), (one, w, np.eye(3)[labels], labels)]
    one, w = net(3, "squared_error")
    cases += [(one, w, np.eye(3)[labels], labels)]
    one, w = net(1, "binary_cross_entropy")
    cases += [(one, w, bits[:, :1], bits[:, 0]), (one, w, bits[:, 0] > 0, bits[:, 0])]
    one, w = net(3, "binary_cross_entropy")
    cases += [(one, w, bits, bits)]
    for one, w, y, true in cases:
        found = one.accuracy(w, X, y, sample_weight=weights)
        expected = metrics.accuracy_score(true, one.predict_classes(w, X), sample_weight=weights)
        assert found == pytest.approx(expected, rel=8 * EPS) and 0 < found < 1
        parts = [(X[k : k + 9], y[k : k + 9]) for k in range(0, 40, 9)]
        if not weighted:
            assert one.accuracy(w, parts) == found


def test_accuracy_of_images():
    one = Network(
        [Conv2d(1, 2, 3), "tanh", Flatten()], input_shape=(1, 3, 3), loss="softmax_cross_entropy"
    )
    w, x = one.initial(seed=0), np.random.default_rng(0).normal(size=(9, 1, 3, 3))
    classes = one.predict_classes(w, x)
    assert one.accuracy(w, x, classes) == 1.0
    assert one.accuracy(w, x, 1 - classes) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one, w: one.predict_probabilities(w, X), "^the net's loss is 'squared_error'"),
        (lambda one, w: one.predict_classes(w, X, threshold=0.3), "^threshold is 0.3, and the cl"),
        (lambda one, w: one.predict_classes(w, X, threshold="a"), "^threshold is 'a'"),
        (lambda one, w: one.accuracy(w, X), "^y is None"),
        (lambda one, w: one.accuracy(w, X, np.ones((40, 4))), r"^y has shape \(40, 4\)"),
        (
            lambda one, w: one.accuracy(w, X, np.ones((40, 3)), sample_weight=np.zeros(40)),
            "^sample_weight sums to 0",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    one, w = net(3, "squared_error")
    with pytest.raises((TypeError, ValueError), match=message):
        call(one, w)
    binary, v = net(1, "bce")
    with pytest.raises(ValueError, match="^threshold is 1.5; expected a probability"):
        binary.predict_classes(v, X, threshold=1.5)


# Targets in other forms ---------------------------------------------------------------------------


def everything(one, w, y, weights=None):
    """What the loss and all that knows samples make of y."""
    found = [
        one.loss(w, X, y, sample_weight=weights),
        *one.gradient(w, X, y, sample_weight=weights),
        *(one.at(w, X, y, sample_weight=weights).hessian @ w),
        NetProblem(one, X, y, sample_weight=weights).loss(w),
        Minibatches(one, X, y, batch_size=40, sample_weight=weights).at(0).loss(w),
        one.accuracy(w, X, y, sample_weight=weights),
    ]
    return np.array(found)


NAMES = np.array(["cat", "dog", "Eel"])  # in their order: Eel, cat, dog
LABELS = np.random.default_rng(3).integers(0, 3, 40)
CODES = np.array([1, 2, 0])[LABELS]
BITS = LABELS > 0


def in_pandas(values):
    return pytest.importorskip("pandas").Series(values)


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y,
        lambda y: y.tolist(),
        lambda y: y.astype(object),
        lambda y: in_pandas(y),
        lambda y: in_pandas(y).astype("category"),
        lambda y: y.astype(np.dtypes.StringDType()) if hasattr(np.dtypes, "StringDType") else y,
    ],
    ids=["array", "list", "objects", "pandas", "categories", "strings of NumPy 2"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_may_be_text(form, weighted):
    one, w = net(3, "softmax_cross_entropy", classes=["Eel", "cat", "dog"])
    weights = np.ones(40) + np.arange(40) if weighted else None
    text = form(NAMES[LABELS])
    np.testing.assert_array_equal(
        everything(one, w, text, weights), everything(one, w, CODES, weights)
    )
    found = one.predict_classes(w, X)
    assert (found == NAMES[LABELS]).mean() == one.accuracy(w, X, CODES)
    np.testing.assert_array_equal(found, np.array(one.classes)[one.predict(w, X).argmax(axis=1)])
    # Some of the classes are enough, in batches as well.
    some = slice(0, 3)
    assert one.loss(w, X[some], text[some]) == one.loss(w, X[some], CODES[some])
    assert one.accuracy(w, [(X[some], text[some])]) == one.accuracy(w, X[some], CODES[some])


def test_two_classes_may_be_text_or_truth_values():
    two, w = net(2, "softmax_cross_entropy")
    np.testing.assert_array_equal(everything(two, w, BITS), everything(two, w, BITS.astype(int)))
    one, w = net(1, "binary_cross_entropy", classes=("no", "yes"))
    expected = everything(one, w, BITS[:, None].astype(float))
    for y in (
        BITS,
        BITS.astype(np.uint8),
        BITS.tolist(),
        np.where(BITS, "yes", "no"),
        BITS[:, None],
    ):
        np.testing.assert_array_equal(everything(one, w, y), expected)
    np.testing.assert_array_equal(one.predict_classes(w, X) == "yes", one.predict(w, X)[:, 0] > 0)


@pytest.mark.parametrize("loss", ["squared_error", "huber", "binary_cross_entropy"])
def test_targets_of_one_output_may_have_one_dimension(loss):
    one, w = net(1, loss)
    y = np.random.default_rng(5).uniform(size=40)
    for form in (y, y.tolist(), in_pandas(y)):
        np.testing.assert_array_equal(everything(one, w, form), everything(one, w, y[:, None]))
    parts = [(X[:20], y[:20]), (X[20:], y[20:])]
    assert one.loss(w, parts) == one.loss(w, [(x, v[:, None]) for x, v in parts])


@pytest.mark.parametrize(
    ("outputs", "loss", "y", "message"),
    [
        (
            3,
            "cross_entropy",
            NAMES[LABELS],
            r"^y has labels that are text, and the net.*classes=\('Eel', 'cat', 'dog'\)",
        ),
        (1, "bce", NAMES[LABELS], "^y has labels that are text, and the net"),
        (1, "mse", NAMES[LABELS], "^y has dtype <U3"),
        (3, "mse", LABELS, r"^y has shape \(40,\); expected \(40, 3\)"),
        (3, "bce", LABELS, r"^y has shape \(40,\); expected \(40, 3\)"),
        (1, "mse", LABELS[:9], r"^y has shape \(9, 1\); expected \(40, 1\)"),
        (3, "cross_entropy", [None, "a"] * 20, r"^y\[0\] is None, beside text; expected labels of"),
        (1, "bce", np.array(["a", None] * 20), r"^y\[1\] is None, beside text; expected labels of"),
        (3, "cross_entropy", [None] * 40, "^y has dtype object"),
        (3, "cross_entropy", LABELS + 0.5, "^y has dtype float64"),
        (3, "cross_entropy", BITS, "^y has dtype bool"),
    ],
)
def test_targets_that_are_none_are_named(outputs, loss, y, message):
    one, w = net(outputs, loss)
    with pytest.raises((TypeError, ValueError), match=message):
        one.loss(w, X, y)


def test_text_is_one_label_a_sample():
    one, w = net(3, "cross_entropy", classes=NAMES)
    for y in (
        NAMES[LABELS][:, None],
        NAMES[LABELS][:, None].tolist(),
        NAMES[LABELS][:, None, None],
    ):
        with pytest.raises(
            ValueError, match=r"^y has text of shape \(40, 1.*; expected labels \(N"
        ):
            one.loss(w, X, y)


def test_classes_that_a_net_has_not_are_named():
    """They were coded by the order of what a y had: a fish as the dog that it was trained on."""
    one, w = net(2, "cross_entropy", classes=("cat", "dog"))
    binary, v = net(1, "bce", classes=("cat", "dog"))
    known = ["cat", "dog"] * 20
    other = ["cat", "fish"] * 20
    message = "^y{} has 'fish', no class of the net; expected its classes: 'cat', 'dog'$"
    for kind, vector in ((one, w), (binary, v)):
        problem = NetProblem(kind, X, known)
        calls = [
            lambda kind=kind, vector=vector: kind.accuracy(vector, X, other),
            lambda kind=kind, vector=vector: kind.loss(vector, X, other),
            lambda kind=kind, vector=vector: kind.at(vector, X, other),
            lambda kind=kind: Minibatches(kind, X, other, batch_size=10),
            lambda problem=problem, vector=vector: SGD().minimize(
                problem, vector, validation=(X, other)
            ),
            lambda kind=kind, vector=vector: SGD().minimize(
                Minibatches(kind, X, known, batch_size=10), vector, validation=(X, other)
            ),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=message.format("")):
                call()
        turned = NetProblem(
            MLP(kind.sizes, loss=kind.loss_function, classes=("dog", "cat")), X, known
        )
        with pytest.raises(ValueError, match=r"^validation has a net of classes \('dog', 'cat'\)"):
            SGD().minimize(problem, vector, validation=turned)
        with pytest.raises(ValueError, match=message.format(" of batch 1")):
            kind.loss(vector, [(X, known), (X, other)])
        # As any label of a sample that does not count.
        weights = np.tile([1.0, 0.0], 20)
        assert kind.loss(vector, X, other, sample_weight=weights) == kind.loss(
            vector, X, known, sample_weight=weights
        )


@pytest.mark.parametrize(
    ("outputs", "loss", "classes", "error", "message"),
    [
        (3, "cross_entropy", ["a", "b"], ValueError, "^classes has 2 names; expected 3, one"),
        (1, "bce", ["a"], ValueError, "^classes has 1 name; expected 2, what 0 and 1"),
        (2, "bce", ["a", "b"], ValueError, "^classes is given.*'binary_cross_entropy' of 2"),
        (2, "mse", ["a", "b"], ValueError, "^classes is given, and the loss is 'squared_error'"),
        (2, "cross_entropy", ["a", "a"], ValueError, "^classes has 'a' twice"),
        (2, "cross_entropy", ["a", "b\0"], ValueError, "^classes.1. is .*NumPy keeps whole"),
        (2, "cross_entropy", "ab", TypeError, "^classes is 'ab'; expected a sequence"),
        (2, "cross_entropy", {"a", "b"}, TypeError, "^classes is {'.*'}; expected .*, in order"),
        (2, "cross_entropy", [0, 1], TypeError, r"^classes\[0\] is 0; expected text"),
        (2, "cross_entropy", itertools.repeat("a"), ValueError, "^classes has over "),
    ],
)
def test_names_that_do_not_fit_are_refused(outputs, loss, classes, error, message):
    with pytest.raises(error, match=message):
        MLP((2, outputs), loss=loss, classes=classes)
    with pytest.raises(error, match=message):
        Network([Dense(2, outputs)], input_shape=2, loss=loss, classes=classes)


def test_half_precision_is_widened():
    one, w = net(1, "mse", dtype="float32")
    half = X.astype(np.float16)
    expected = one.loss(w, half.astype(np.float32), np.ones(40))
    assert one.loss(w, half, np.ones(40, np.float16)) == expected
    jax = pytest.importorskip("jax.numpy")
    for kind in (jax.float16, jax.bfloat16):
        x = jax.asarray(X, kind)
        wide = np.array(x.astype(jax.float32))
        assert one.loss(w, x, np.ones(40)) == one.loss(w, wide, np.ones(40))
    dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = X.astype(dtype)
    wide = x.astype(np.float32)
    assert abs(wide - X).max() > 1e-3  # it is another number
    for given in (x, np.asfortranarray(x), x.tolist()):
        assert one.loss(w, given, np.ones(40)) == one.loss(w, wide, np.ones(40))
    np.testing.assert_array_equal(
        one.predict(w.astype(dtype), x), one.predict(w.astype(dtype).astype("f4"), wide)
    )


def test_half_precision_of_pytorch_is_widened():
    torch = pytest.importorskip("torch")
    one, w = net(1, "mse")
    for kind in (torch.float16, torch.bfloat16):
        x = torch.tensor(X).to(kind)
        y = torch.ones(40, 1, dtype=kind, requires_grad=True)
        assert one.loss(w, x, y) == one.loss(w, x.double().numpy(), np.ones((40, 1)))


# Names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("mse", "squared_error"),
        ("MSELoss", "squared_error"),
        ("mean_squared_error", "squared_error"),
        ("Squared-Error", "squared_error"),
        ("cross_entropy", "softmax_cross_entropy"),
        ("CrossEntropyLoss", "softmax_cross_entropy"),
        ("sparse_categorical_crossentropy", "softmax_cross_entropy"),
        ("bce", "binary_cross_entropy"),
        ("BCEWithLogitsLoss", "binary_cross_entropy"),
        ("Huber", "huber"),
        ("HuberLoss", "huber"),
        ("smooth_l1", "huber"),
    ],
)
def test_losses_have_the_names_of_other_libraries(name, loss):
    assert MLP((2, 1), loss=name).settings() == MLP((2, 1), loss=loss).settings()
    assert MLP((2, 1), loss=name).loss_function.name == loss


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("ReLU", "relu"),
        ("Tanh", "tanh"),
        ("LeakyReLU", "leaky_relu"),
        ("ELU", "elu"),
        ("Sigmoid", "sigmoid"),
        ("logistic", "sigmoid"),
        ("swish", "silu"),
        ("SiLU", "silu"),
        ("GELU", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("linear", "identity"),
        ("Softplus", "softplus"),
        ("sin", "sine"),
    ],
)
def test_activations_have_the_names_of_other_libraries(name, activation):
    expected = MLP((2, 3, 1), activation=activation)
    assert MLP((2, 3, 1), activation=name).settings() == expected.settings()
    assert MLP((2, 3, 1), activation=[name]).settings() == expected.settings()
    first, second = (
        Network([Conv2d(1, 1, 1), one, Flatten()], input_shape=(1, 2, 2))
        for one in (name, activation)
    )
    assert first.settings() == second.settings()


def test_names_that_other_libraries_mean_otherwise_are_not_taken():
    for name in ("softmax", "log_softmax", "selu", "tanhloss"):
        with pytest.raises(ValueError, match=f"^output_activation is '{name}'"):
            MLP((2, 1), output_activation=name)
    for name in ("nll", "log_loss", "mae", "loss", ""):
        with pytest.raises(ValueError, match=f"^loss is '{name}'"):
            MLP((2, 1), loss=name)


def test_what_is_no_number_is_no_class():
    """A NaN compares as the first class, so that a net of NaNs was right about all of those."""
    bad = X.copy()
    bad[[3, 5]] = np.nan
    for outputs, loss in ((3, "cross_entropy"), (1, "bce"), (4, "bce"), (1, "mse"), (2, "mse")):
        one, w = net(outputs, loss)
        with pytest.raises(FloatingPointError, match="^outputs of 2 samples have NaN"):
            one.predict_classes(w, bad)
        y = np.zeros((len(X), outputs)) if outputs > 1 and loss != "cross_entropy" else None
        y = np.zeros(len(X), int) if y is None else y
        with pytest.raises(FloatingPointError, match="^outputs of 2 samples have NaN"):
            one.accuracy(w, bad, y)
        weight = np.isfinite(bad[:, 0]).astype(float)
        assert one.accuracy(w, bad, y, sample_weight=weight) == one.accuracy(
            w, X, y, sample_weight=weight
        )
    one, w = net(1, "mse")
    with pytest.raises(FloatingPointError, match="^targets of 40 samples have NaN"):
        one.accuracy(w, X, np.full(len(X), np.nan))


@pytest.mark.parametrize("other", [float("nan"), None, 1])
def test_labels_of_two_kinds_are_refused(other):
    """NumPy makes text of what is missing: a class of its own, where as many are expected."""
    one, w = net(1, "bce", classes=("no", "yes"))
    with pytest.raises(TypeError, match=r"^y\[1\] is .*, beside text"):
        one.loss(w, X[:4], ["yes", other, "yes", "yes"])
    assert one.loss(w, X[:4], ["yes", "no", "yes", "yes"]) == one.loss(w, X[:4], [1, 0, 1, 1])
