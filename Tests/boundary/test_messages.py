"""Mistakes that people make: the message names the argument, what came and what was expected."""

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.curvature import kronecker_factors, layer_states
from swiftnets.curvature.tensors import compute, estimate
from swiftnets.interop import as_scipy
from swiftnets.nets import activations, losses
from swiftnets.optimizers import SGD
from swiftnets.optimizers.comparison import compare
from swiftnets.problems import Minibatches, NetProblem
from swiftnets.slow_net import labels_to_onehots
from swiftnets.solve import factorize, solve

RNG = np.random.default_rng(0)
NET = MLP((3, 4, 2))
W, V = NET.initial(seed=0), RNG.standard_normal(NET.parameter_count)
X, Y = RNG.standard_normal((5, 3)), RNG.standard_normal((5, 2))
BATCHES = [(X[:2], Y[:2]), (X[2:], Y[2:])]
CLASSES = MLP((3, 4, 3), loss="softmax_cross_entropy")
WC, LABELS = CLASSES.initial(seed=0), np.array([0, 1, 2, 0, 1])


class Loader:
    """Batches one after the other, as PyTorch's DataLoader gives them."""

    def __init__(self, data=BATCHES):
        self.data = data

    def __iter__(self):
        return iter(self.data)


class Frame:
    """What makes an array as a frame of pandas does."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


class Sparse:
    """What makes no array by itself, as a sparse matrix."""

    dtype, shape = np.dtype(float), (5, 3)

    def toarray(self):
        return X


MISSING = r"^v is missing; expected a vector \(26,\) after x and y \(with batches .* y=None"


@pytest.mark.parametrize(
    "arguments",
    [(X, Y), (X,), (BATCHES,), (BATCHES, V), (Loader(), V), (X, V)],
    ids=["x, y", "x", "batches", "batches, v", "loader, v", "x, v"],
)
def test_a_product_without_its_vector_says_so(arguments):
    with pytest.raises(TypeError, match=MISSING):
        NET.hvp(W, *arguments)


@pytest.mark.parametrize(
    ("call", "missing"),
    [
        (lambda: NET.at(W, X, Y).taylor(None), "v"),
        (lambda: NET.at(W, X, Y).third(None, V), "u"),
        (lambda: NET.at(W, X, Y).third(V, None), "v"),
        (lambda: NET.at(W, BATCHES).third(V, None), "v"),
        (lambda: NET.at(W, X, Y).fourth(None, V, V), "u"),
        (lambda: NET.at(W, X, Y).fourth(V, None, V), "v"),
        (lambda: NET.at(W, X, Y).fourth(V, V, None), "s"),
        (lambda: NET.at(W, BATCHES).fourth(V, V, None), "s"),
        (lambda: NET.at(W, X).jvp(None), "v"),
        (lambda: NET.at(None, X, Y), "w"),
        (lambda: NET.hvp(None, X, Y, V), "w"),
        (lambda: NetProblem(NET, X, Y).hvp(W, None), "v"),
        (lambda: NetProblem(NET, X, Y).at(None), "w"),
    ],
)
def test_a_vector_that_is_missing_is_named(call, missing):
    with pytest.raises(TypeError, match=rf"^{missing} is missing; expected a vector \(26,\)"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda point: point.loss,
        lambda point: point.gradient,
        lambda point: point.per_sample_gradients(),
        lambda point: V @ point.hessian,
        lambda point: point.gauss_newton.dense(),
        lambda point: point.fisher("empirical").diagonal(),
        lambda point: point.hessian.lanczos(V, 2),
        lambda point: point.hessian.factorize(),
        lambda point: point.hessian.solve(V, damping=1.0),
        lambda point: point.taylor(V),
        lambda point: point.third(V, V),
        lambda point: kronecker_factors(point),
        lambda point: layer_states(point),
        lambda point: estimate(point, order=2),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_point_without_targets_says_that_it_has_none(call, dtype):
    point = NET.astype(dtype).at(W, X)
    assert point.jacobian().shape == (5, 2, 26)
    with pytest.raises(TypeError, match="^the point has no targets; expected y as well"):
        call(point)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (None, "^x is None, or missing; expected real numbers"),
        (X[0], r"^x has shape \(3,\); expected \(N, 3\)"),
        (X[0].tolist(), r"^x has shape \(3,\); expected \(N, 3\)"),
        (X.T, r"^x has shape \(3, 5\); expected \(N, 3\)"),
        (X[None], r"^x has shape \(1, 5, 3\); expected \(N, 3\)"),
        (X.astype(str), "^x has dtype <U32; expected real numbers"),
        ([[1.0, 2.0, 3.0], [1.0]], "^x is of type list and makes no array .* expected real"),
        ("x.npy", "^x is of type str; expected real numbers"),
        ({"x": X}, "^x is of type dict; expected real numbers"),
        (5, r"^x has shape \(\); expected \(N, 3\)"),
        (Sparse(), r"^x is of type Sparse \(see .toarray\); expect"),
        ((X, Y), "^batch 0 is of type ndarray; .* as two arguments"),
        ([X, X], "^batch 0 is of type ndarray; .* as two arguments"),
        ([{"x": X, "y": Y}], "^batch 0 is of type dict; expected a tuple"),
        ([None], "^batch 0 is of type NoneType; expected a tuple"),
        ([], "^x has no batches; expected at least one"),
        (iter(()), "^x has no batches; expected at least one"),
        (Loader([X]), "^batch 0 is of type ndarray; expected a tuple"),
        (Loader([(X, Y[:2])]), r"^y of batch 0 has shape \(2, 2\); expected \(5, 2\)"),
    ],
)
def test_a_point_of_what_is_neither_inputs_nor_batches_is_refused_in_words(x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        NET.at(W, x)


@pytest.mark.parametrize(
    "x",
    [X, X.tolist(), tuple(X), Frame(X), X.astype(np.float32), memoryview(X.copy()), [[1, 2, 3]]],
)
def test_a_point_takes_inputs_alone_in_any_form(x):
    assert NET.at(W, x).jvp(V).shape == (len(np.asarray(x)), 2)


ARRAYS = r"expected real numbers"
CASES = {
    # Arguments in each other's place.
    "w and x": (lambda: NET.loss(X, W, Y), r"^w has shape \(5, 3\); expected \(26,\)"),
    "x and y": (lambda: NET.loss(W, Y, X), r"^x has shape \(5, 2\); expected \(N, 3\)"),
    "v and y": (lambda: NET.hvp(W, X, V, Y), r"^v has shape \(5, 2\); expected \(K, 26\)"),
    "columns": (lambda: NET.hvp(W, X, Y, np.ones((26, 2))), r"^v has shape \(26, 2\); expected"),
    "samples as columns": (lambda: NET.loss(W, X.T, Y), r"^x has shape \(3, 5\); expected \(N, 3"),
    "lengths": (lambda: NET.loss(W, X, Y[:3]), r"^y has shape \(3, 2\); expected \(5, 2\)"),
    "x without y": (lambda: NET.loss(W, X), "^y is None and x is of type ndarray; expected x and"),
    "a pair": (lambda: NET.loss(W, (X, Y)), "^batch 0 is of type ndarray; .* as two arguments"),
    "weights of batches": (
        lambda: NET.loss(W, BATCHES, sample_weight=np.ones(5)),
        "^sample_weight goes with x and y",
    ),
    "a dict as w": (lambda: NET.loss(NET.unflatten(W), X, Y), "^w is of type dict; expected real"),
    "a vector as names": (lambda: NET.flatten([W]), "^arrays is of type list; expected names"),
    # Loaders and batches where arrays belong.
    "loader and y": (lambda: NET.loss(W, Loader(), Y), "^x is of type Loader .*batches in place"),
    "x and loader": (lambda: NET.loss(W, X, Loader()), "^y is of type Loader .*batches in place"),
    "batches and y": (lambda: NET.loss(W, BATCHES, Y), "^x is of type list .*batches in place"),
    "predict a loader": (lambda: NET.predict(W, Loader()), f"^x is of type Loader .*{ARRAYS}"),
    "a generator": (lambda: NET.predict(W, (r for r in X)), f"^x is of type generator .*{ARRAYS}"),
    "Minibatches of a loader": (
        lambda: Minibatches(NET, Loader(), batch_size=2),
        "^batch_size is given and y is missing: x, of type Loader, is taken for a loader",
    ),
    "Minibatches of batches": (
        lambda: Minibatches(NET, BATCHES, None, batch_size=2),
        "^batch_size is given and y is missing: x, of type list, is taken for a loader",
    ),
    "Minibatches of a loader and y": (
        lambda: Minibatches(NET, Loader(), Y, batch_size=2),
        "^x is of type Loader",
    ),
    "NetProblem without net": (
        lambda: NetProblem(X, Y, NET),
        "^net is of type ndarray; expected an MLP",
    ),
    "factorize": (
        lambda: factorize(NET.hessian(W, X, Y)),
        "^matrix is of type ndarray; expected a CurvatureMatrix",
    ),
    "solve": (lambda: solve(NET, V), "^matrix is of type MLP; expected a CurvatureMatrix"),
    "Kronecker factors": (lambda: kronecker_factors(NET), "^point is of type MLP; expected a Poi"),
    "layers' states": (lambda: layer_states(W), "^point is of type ndarray; expected a Point"),
    "SciPy's problem": (lambda: as_scipy(W, X, Y), "^net is of type ndarray; expected an MLP"),
    "seeds": (
        lambda: compare(
            NetProblem(NET, X, Y), {"SGD": SGD()}, lambda s: W, seeds=3, max_iterations=1
        ),
        r"^seeds is 3; expected several",
    ),
    "tensor": (
        lambda: compute(NET, order=2, path="t.npy"),
        "^point is of type MLP; expected a Point",
    ),
    "no right-hand side": (
        lambda: NET.solve(W, X, Y, damping=1.0),
        "^b is None; expected a right-",
    ),
    "a matrix as shift": (
        lambda: NET.at(W, X, Y).hessian + np.eye(26),
        "^shift is array.* of type ndarray; expected a finite number",
    ),
    "an array plus a matrix": (
        lambda: np.eye(26) + NET.at(W, X, Y).hessian,
        "^shift is array.* of type ndarray; expected a finite number",
    ),
    "a flag as shift": (
        lambda: NET.at(W, X, Y).hessian - True,
        "^shift is True; expected a finite number",
    ),
    "a shift of NaN": (
        lambda: NET.at(W, X, Y).hessian + np.nan,
        "^shift is nan; expected a finite number",
    ),
    "a product with None": (
        lambda: None @ NET.at(W, X, Y).hessian,
        "^v is None, or missing; expected real numbers",
    ),
    "a product with too many": (
        lambda: np.ones((2, 25)) @ NET.at(W, X, Y).hessian,
        r"^v has shape \(2, 25\); expected \(K, 26\)",
    ),
    "weights without targets": (
        lambda: NET.at(W, X, sample_weight=np.ones(5)),
        "^sample_weight goes with x and y; y is missing",
    ),
    # What makes no array of real numbers, or loses something on the way.
    "None": (lambda: NET.loss(W, None, Y), f"^x is None, or missing; {ARRAYS}"),
    "complex": (lambda: NET.loss(W, X + 0j, Y), f"^x has dtype complex128; {ARRAYS}"),
    "objects": (lambda: NET.loss(W, X.astype(object), Y), f"^x has dtype object; {ARRAYS}"),
    "text": (lambda: NET.loss(W, "x.npy", Y), f"^x is of type str; {ARRAYS}"),
    "sparse": (lambda: NET.loss(W, Sparse(), Y), r"^x is of type Sparse \(see .toarray\); expect"),
    "a frame of objects": (
        lambda: NET.loss(W, Frame(X.astype(object)), Y),
        f"^x has dtype object; {ARRAYS}",
    ),
    "masked": (lambda: NET.loss(W, np.ma.array(X, mask=X > 0), Y), "^x is a masked array; expect"),
    "masked rows": (
        lambda: NET.loss(W, [np.ma.array(row, mask=row > 0) for row in X], Y),
        "^x has masked arrays in it; expected one without",
    ),
    "masked labels": (
        lambda: CLASSES.loss(WC, X, np.ma.array(LABELS, mask=LABELS > 0)),
        "^y is a masked array; expected",
    ),
    "masked labels as rows": (
        lambda: labels_to_onehots(np.ma.array(LABELS, mask=LABELS > 0)),
        "^labels is a masked array; expected",
    ),
    "masked vector": (lambda: NET.hvp(W, X, Y, np.ma.array(V)), "^v is a masked array; expected"),
    "masked weights": (
        lambda: NET.loss(W, X, Y, sample_weight=np.ma.array(np.ones(5), mask=LABELS > 0)),
        "^sample_weight is a masked array; expected",
    ),
    # Labels.
    "float labels": (
        lambda: CLASSES.loss(WC, X, LABELS * 1.0),
        "^y has dtype float64; expected 5 integers from 0 to 2",
    ),
    "bool labels": (lambda: CLASSES.loss(WC, X, LABELS > 0), "^y has dtype bool; expected 5 int"),
    "NaN labels": (
        lambda: CLASSES.loss(WC, X, np.where(LABELS, LABELS, np.nan)),
        "^y has dtype float64; expected 5 integers",
    ),
    "labels from 1": (lambda: CLASSES.loss(WC, X, LABELS + 1), "^y has 3 at 2; expected 5 integer"),
    "labels from -1": (lambda: CLASSES.loss(WC, X, LABELS - 1), "^y has -1 at 0; expected 5 inte"),
    "labels as a column": (
        lambda: CLASSES.loss(WC, X, LABELS[:, None]),
        r"^y has shape \(5, 1\); expected \(5, 3\)",
    ),
    "one-hot rows too wide": (
        lambda: CLASSES.loss(WC, X, np.eye(4)[LABELS]),
        r"^y has shape \(5, 4\); expected \(5, 3\)",
    ),
    "NaN rows": (
        lambda: CLASSES.loss(WC, X, np.full((5, 3), np.nan)),
        "^y has an entry below 0 or",
    ),
    "labels for squares": (lambda: NET.loss(W, X, LABELS), r"^y has shape \(5,\); expected \(5, 2"),
    # Settings.
    "reduction": (lambda: MLP((2, 1), reduction="none"), "^reduction is 'none'; .*one number"),
    "average": (lambda: MLP((2, 1), reduction="avg"), "^reduction is 'avg'; .*mean 'mean'"),
    "a negative size": (lambda: MLP((2, -1)), r"^sizes\[1\] is -1; expected an integer from 1"),
    "a size of 2.0": (lambda: MLP((2.0, 1)), r"^sizes\[0\] is 2.0; expected an integer"),
    "one size": (lambda: MLP((2,)), r"^sizes is \(2,\); expected at least 2 widths"),
    "scheme": (lambda: NET.initial(0, "xavier"), "^scheme is 'xavier'; .*mean 'glorot'"),
    "scheme as seed": (lambda: NET.initial("he"), "^seed is 'he'; expected an integer"),
    "float16": (lambda: MLP((2, 1), dtype="float16"), "^dtype is float16; expected float64 or"),
    "block": (lambda: NET.hessian(W, X, Y, block="diag"), "^block is 'diag'; .*mean 'diagonal'"),
    "kind": (lambda: NET.at(W, X, Y).fisher("Exact"), "^kind is 'Exact'; .*mean 'exact'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_named(case):
    call, message = CASES[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize(
    ("value", "suggested"),
    [
        ("tahn", "tanh"),
        ("relux", "relu"),
        ("softmax", "identity"),
        (np.tanh, "tanh"),
        (activations.Tanh, "tanh"),
    ],
)
def test_an_activation_is_suggested(value, suggested):
    with pytest.raises((TypeError, ValueError), match=f"; did you mean '{suggested}'"):
        MLP((2, 3, 1), activation=value)


@pytest.mark.parametrize(
    ("value", "suggested"),
    [
        ("squarederr", "squared_error"),
        ("nll", "softmax_cross_entropy"),
        ("NLLLoss", "softmax_cross_entropy"),
        ("log_loss", "binary_cross_entropy"),
        (losses.Huber, "huber"),
    ],
)
def test_a_loss_is_suggested(value, suggested):
    with pytest.raises((TypeError, ValueError), match=f"^loss is .*; did you mean '{suggested}'"):
        MLP((2, 1), loss=value)


@pytest.mark.parametrize("value", ["l1", None, 3])
def test_nothing_is_suggested_where_nothing_is_near(value):
    with pytest.raises((TypeError, ValueError), match="'softmax_cross_entropy'$"):
        MLP((2, 1), loss=value)


@pytest.mark.parametrize(
    "x",
    [X.tolist(), X.astype(">f8"), np.asfortranarray(X), Frame(X), list(X), memoryview(X.copy())],
    ids=["list", "big-endian", "fortran", "frame", "rows", "memoryview"],
)
def test_what_holds_the_same_numbers_gives_the_same_loss(x):
    assert NET.loss(W, x, Y) == NET.loss(W, X, Y)


def test_half_precision_is_taken_as_the_numbers_that_it_holds():
    half = X.astype(np.float16)
    assert NET.loss(W, half, Y) == NET.loss(W, half.astype(float), Y)


def test_loaders_of_pytorch_are_named_and_taken_where_they_belong():
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    loader = DataLoader(TensorDataset(torch.tensor(X), torch.tensor(Y)), batch_size=2)
    with pytest.raises(TypeError, match="^x is of type DataLoader .*batches in place of x"):
        NET.loss(W, loader, Y)
    with pytest.raises(TypeError, match="^batch_size is given .* x, of type DataLoader"):
        Minibatches(NET, loader, batch_size=2)
    # Sums of five losses of order 1 in another order.
    assert NET.loss(W, loader) == pytest.approx(NET.loss(W, X, Y), rel=1e-14)
