"""Problems: their derivatives against mpmath and each other's definitions."""

import copy
import pickle

import mpmath
import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.optimizers import (
    LBFGS,
    SGD,
    Chebyshev,
    FourthOrder,
    Newton,
    QuarticLineSearch,
    TrustRegion,
)
from swiftnets.problems import (
    Counted,
    FunctionPoint,
    LinearRegression,
    Minibatches,
    NetProblem,
    Problem,
    Quadratic,
    Rosenbrock,
)

EPS = np.finfo(float).eps


def rosenbrock(w):
    pairs = zip(w[:-1], w[1:], strict=True)
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairs)


RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((4, 4)), RNG.standard_normal(4)
X, Y = RNG.standard_normal((7, 4)), RNG.standard_normal(7)
CLOSED = [
    (Rosenbrock(2), rosenbrock),
    (Rosenbrock(5), rosenbrock),
    (
        Quadratic(A, B),
        lambda w: (
            sum(
                w[i] * float((A[i, j] + A[j, i]) / 2) * w[j] / 2 for i in range(4) for j in range(4)
            )
            - sum(float(b) * a for a, b in zip(w, B, strict=True))
        ),
    ),
    (
        LinearRegression(X, Y, 0.3),
        lambda w: (
            sum(
                (sum(float(X[i, j]) * w[j] for j in range(4)) - float(Y[i])) ** 2 / 2
                for i in range(7)
            )
            + sum(mpmath.mpf(0.3) * a * a / 2 for a in w)
        ),
    ),
]


def along(function, w, v, order):
    """The derivative of that order of t ↦ f(w + t v), by mpmath."""
    with mpmath.workdps(60):
        start, move = [mpmath.mpf(float(a)) for a in w], [mpmath.mpf(float(a)) for a in v]
        return float(
            mpmath.diff(
                lambda t: function([a + t * b for a, b in zip(start, move, strict=True)]), 0, order
            )
        )


@pytest.mark.parametrize(("problem", "function"), CLOSED, ids=lambda case: repr(case)[:24])
def test_closed_forms(problem, function):
    n = problem.parameter_count
    w, v, u = np.random.default_rng(n).standard_normal((3, n))
    basis = np.eye(n)
    size = 1e5 * EPS  # numbers up to 1e4, a few dozen operations
    assert abs(problem.loss(w) - along(function, w, v, 0)) <= size
    gradient = [along(function, w, e, 1) for e in basis]
    assert np.allclose(problem.gradient(w), gradient, rtol=1e-11, atol=size)
    # Mixed second and third derivatives by polarisation.
    second = [(along(function, w, v + e, 2) - along(function, w, v - e, 2)) / 4 for e in basis]
    assert np.allclose(problem.hvp(w, v), second, rtol=1e-10, atol=size)
    assert np.allclose(problem.hessian(w) @ v, second, rtol=1e-10, atol=size)
    assert np.array_equal(problem.hvp(w, np.stack([v, u]))[1], problem.hvp(w, u))
    point = problem.at(w)
    assert np.array_equal(v @ point.hessian, problem.hvp(w, v))

    for index, e in enumerate(basis):
        # T[u, v, e], from the third derivatives along four sums.
        cubes = [along(function, w, u + a * v + b * e, 3) for a in (1, -1) for b in (1, -1)]
        third = (cubes[0] - cubes[1] - cubes[2] + cubes[3]) / 24
        assert np.isclose(problem.third(w, u, v)[index], third, rtol=1e-9, atol=1e3 * size)
    series = problem.taylor(w, v, 3)
    wanted = [along(function, w, v, k) / float(mpmath.factorial(k)) for k in range(5)]
    assert np.allclose(series.loss, wanted, rtol=1e-11, atol=1e2 * size)
    assert np.allclose(series.gradient @ v, [k * wanted[k] for k in range(1, 5)], atol=1e3 * size)
    assert np.array_equal(problem.taylor(w, v, 1).gradient, series.gradient[:2])


def test_nets_as_problems():
    net = MLP((3, 4, 2), loss="softmax_cross_entropy", l2=0.1)
    rng = np.random.default_rng(0)
    x, y, weight = rng.standard_normal((6, 3)), rng.integers(0, 2, 6), rng.uniform(0.5, 2, 6)
    w, v, u = rng.standard_normal((3, net.parameter_count))
    whole = NetProblem(net, x, y, sample_weight=weight)
    parts = NetProblem(net, ((x[k : k + 2], y[k : k + 2], weight[k : k + 2]) for k in (0, 2, 4)))
    assert whole.sample_count == parts.sample_count == 6
    for problem in (whole, parts):
        close = {"rtol": 1e-12, "atol": 1e-13}
        assert np.isclose(problem.loss(w), net.loss(w, x, y, sample_weight=weight), **close)
        want = net.gradient(w, x, y, sample_weight=weight)
        assert np.allclose(problem.gradient(w), want, **close)
        hessian = net.hessian(w, x, y, sample_weight=weight)
        assert np.allclose(problem.hessian(w), hessian, **close)
        assert np.allclose(problem.hvp(w, v), hessian @ v, **close)
        assert np.allclose(v @ problem.at(w).hessian, hessian @ v, **close)
        third = net.at(w, x, y, sample_weight=weight).third(u, v)
        assert np.allclose(problem.third(w, u, v), third, **close)
        series = net.at(w, x, y, sample_weight=weight).taylor(v, order=2)
        assert np.allclose(problem.taylor(w, v, 2).loss, series.loss, **close)
    single = MLP((3, 4, 2), dtype=np.float32)
    problem = NetProblem(single, x.astype(np.float32), np.ones((6, 2), np.float32))
    assert problem.gradient(single.initial(0)).dtype == np.float32


def test_a_problem_of_ones_own():
    class Own(Problem):
        parameter_count = 1

        def loss_and_gradient(self, w):
            return float(w[0] ** 2), 2 * np.asarray(w)

    own = Own()
    assert own.loss([3.0]) == 9.0
    assert own.gradient([3.0]) == [6.0]
    for call in (
        lambda: own.hvp([1.0], [1.0]),
        lambda: own.hessian([1.0]),
        lambda: own.taylor([1.0], [1.0]),
        lambda: own.third([1.0], [1.0], [1.0]),
        lambda: [1.0] @ own.at([1.0]).hessian,
    ):
        with pytest.raises(NotImplementedError, match="Own has no"):
            call()


def test_minibatches():
    net = MLP((1, 1), reduction="mean")
    x = np.arange(10.0)[:, None]
    batches = Minibatches(net, x, x, batch_size=4, seed=7)
    assert batches.per_epoch == 3

    def rows(which, iteration):
        (batch,) = which.at(iteration).batches
        return batch.x.ravel().tolist()

    epochs = [sum((rows(batches, 3 * e + k) for k in range(3)), []) for e in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [len(rows(batches, k)) for k in range(3)] == [4, 4, 2]
    # In any order of asking, and by another object with the seed.
    again = Minibatches(net, x, x, batch_size=4, seed=7)
    assert rows(again, 7) == epochs[2][4:8]
    assert rows(again, 0) == epochs[0][:4]
    other = Minibatches(net, x, x, batch_size=4, seed=8)
    assert rows(other, 0) != rows(batches, 0)
    # Weights go along with their samples: 10 / 3 times their shares in the mean of all.
    weighted = Minibatches(net, x, x, batch_size=3, sample_weight=x.ravel() + 1)
    (batch,) = weighted.at(1).batches
    np.testing.assert_allclose(batch.weights, (batch.x.ravel() + 1) / 55 * 10 / 3, rtol=1e-15)


def test_costs():
    net = MLP((2, 2))
    counted = Counted(NetProblem(net, np.ones((3, 2)), np.ones((3, 2))))
    w, v = net.initial(0), np.ones(6)
    expected = 0.0
    for call, cost in [
        (lambda: counted.loss(w), 1 / 3),
        (lambda: counted.gradient(w), 1),
        (lambda: counted.loss_and_gradient(w), 1),
        (lambda: counted.hvp(w, v), 3),
        (lambda: counted.hvp(w, np.ones((4, 6))), 12),
        (lambda: np.ones((2, 6)) @ counted.at(w).hessian, 5),
        (lambda: counted.hessian(w), 12),
        (lambda: counted.taylor(w, v, 0), 1),
        (lambda: counted.taylor(w, v, 3), 8),
        (lambda: counted.third(w, v, np.ones((2, 6))), 32 / 3),
    ]:
        call()
        expected += cost
        assert np.isclose(counted.cost, expected)


def test_bad_arguments():
    net = MLP((2, 2))
    ones = np.ones((3, 2))
    with pytest.raises(TypeError, match="net is of type"):
        NetProblem("net", ones, ones)
    with pytest.raises(ValueError, match="y has shape"):
        NetProblem(net, ones, ones[:2])
    with pytest.raises(TypeError, match="net is of type"):
        Minibatches(None, ones, ones, batch_size=1)
    with pytest.raises(ValueError, match="batch_size"):
        Minibatches(net, ones, ones, batch_size=0)
    with pytest.raises(ValueError, match="seed"):
        Minibatches(net, ones, ones, batch_size=1, seed=-1)
    with pytest.raises(ValueError, match="iteration"):
        Minibatches(net, ones, ones, batch_size=1).at(-1)
    with pytest.raises(ValueError, match="matrix has shape"):
        Quadratic(ones)
    with pytest.raises(ValueError, match="matrix has nan"):
        Quadratic([[np.nan]])
    with pytest.raises(ValueError, match="b has shape"):
        Quadratic([[1.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match="y has shape"):
        LinearRegression(ones, [1.0])
    with pytest.raises(ValueError, match="l2"):
        LinearRegression(ones, np.ones(3), -1.0)
    with pytest.raises(ValueError, match="n is 1"):
        Rosenbrock(1)
    with pytest.raises(ValueError, match="order"):
        Rosenbrock(2).taylor([0.0, 0.0], [1.0, 1.0], 4)
    with pytest.raises(ValueError, match="w has shape"):
        Rosenbrock(2).gradient([0.0])


# Problems of one's own ----------------------------------------------------------------------------


def own(**answers):
    """½ ‖w‖² in three variables, but for the methods that answer something else."""

    class Own(Problem):
        parameter_count = 3

        def loss_and_gradient(self, w):
            return float(w @ w) / 2, np.array(w)

        def hvp(self, w, v):
            return np.array(v)

        def third(self, w, u, v):
            return np.zeros_like(v)

        def taylor(self, w, v, order=3):
            return Quadratic(np.eye(3)).taylor(w, v, order)

    for name, answer in answers.items():
        setattr(Own, name, lambda self, w, *rest, answer=answer: answer(w))
    return Own()


def tensor(value):
    return pytest.importorskip("torch").tensor(value)


MISTAKES = [
    (SGD(), {"loss_and_gradient": lambda w: 1.0}, TypeError, "returned type float; .* a pair"),
    (SGD(), {"loss_and_gradient": lambda w: np.zeros(2)}, TypeError, "a pair of a loss"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, [*w])}, TypeError, "type list; .*float64 and s"),
    (
        SGD(),
        {"loss_and_gradient": lambda w: (1.0, tensor(w))},
        TypeError,
        "gradient of type Tensor",
    ),
    (SGD(), {"loss_and_gradient": lambda w: (tensor(1.0), w)}, TypeError, "a loss of type Tensor"),
    (SGD(), {"loss_and_gradient": lambda w: (w**2, w)}, TypeError, r"a loss of .* shape \(3,\)"),
    (SGD(), {"loss_and_gradient": lambda w: (w[:1], w)}, TypeError, r"a loss of .* shape \(1,\)"),
    (SGD(), {"loss_and_gradient": lambda w: (None, w)}, TypeError, "a loss of type NoneType"),
    (SGD(), {"loss_and_gradient": lambda w: (1j, w)}, TypeError, "a loss of type complex"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, w[:2])}, ValueError, r"\(2,\); .* \(3,\)"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, w[:, None])}, ValueError, r"\(3, 1\); .*\(3,\)"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, w.astype("f4"))}, TypeError, "dtype float32 and"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, w.astype(int))}, TypeError, "dtype int64 and"),
    (SGD(), {"loss_and_gradient": lambda w: (1.0, np.ma.array(w))}, TypeError, "type MaskedArray"),
    (Newton(), {"loss": lambda w: w}, TypeError, r"Own.loss returned a loss of .* \(3,\)"),
    (Newton(), {"hvp": lambda w: [1.0]}, TypeError, "Own.hvp returned products of type list"),
    (Newton(), {"hvp": lambda w: w}, ValueError, r"hvp returned .*\(3,\); .* \(3, 3\)"),
    (TrustRegion(), {"hvp": lambda w: np.ones(2)}, ValueError, r"hvp returned .*\(2,\); .* \(3,\)"),
    (
        Newton(),
        {"hessian": lambda w: np.eye(2)},
        ValueError,
        r"hessian returned a matrix .*\(3, 3\)",
    ),
    (Newton(), {"hessian": lambda w: [[1.0] * 3] * 3}, TypeError, "hessian returned .* type list"),
    (Chebyshev(), {"taylor": lambda w: w}, TypeError, "taylor returned .*; .*TaylorSeries"),
    (FourthOrder(), {"third": lambda w: np.eye(3)}, ValueError, r"third returned .*\(3,\)"),
    (
        TrustRegion(),
        {"at": lambda w: FunctionPoint(1.0, [1.0], None)},
        TypeError,
        "at returned .* list",
    ),
]


@pytest.mark.parametrize(("method", "answers", "error", "says"), MISTAKES)
def test_what_problems_of_ones_own_return_is_checked_by_name(method, answers, error, says):
    with pytest.raises(error, match=f"Own.*{says}" if not says.startswith("Own") else says):
        method.minimize(own(**answers), [1.0, 2.0, 3.0])


def test_what_products_at_a_point_return_is_checked_by_name():
    hessian = own(hvp=lambda w: np.ones(2)).at(np.ones(3)).hessian
    assert repr(hessian) == "Hessian of Own, order=3"
    for v in (np.ones(3), np.ones((1, 3))):
        with pytest.raises(ValueError, match=r"^Own.hvp returned products of .* \(2,\)"):
            v @ hessian


def test_functions_at_a_point_are_pickled_with_their_problem():
    point = Rosenbrock(3).at(np.ones(3))
    for twin in (copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        np.testing.assert_array_equal(twin.hessian.dense(), point.hessian.dense())


def test_numbers_of_any_kind_are_losses():
    for kind in (float, np.float64, np.float32, np.array, int):
        problem = own(loss_and_gradient=lambda w, kind=kind: (kind(2), w.copy()))
        assert SGD().minimize(problem, [1.0, 2.0, 3.0], max_iterations=1).loss == 2.0
        assert problem.at(np.ones(3)).loss == 2.0


def test_a_problem_may_keep_its_gradient_in_one_buffer():
    class Thrifty(Rosenbrock):
        def loss_and_gradient(self, w):
            loss, buffer[:] = super().loss_and_gradient(w)
            return loss, buffer

    buffer = np.empty(4)
    for method in (LBFGS(), QuarticLineSearch(), Chebyshev(), TrustRegion()):
        runs = [
            method.minimize(problem, problem.start(), max_iterations=15)
            for problem in (Rosenbrock(4), Thrifty(4))
        ]
        np.testing.assert_array_equal(runs[0].w, runs[1].w)


class Writing(Problem):
    """A problem of one's own that works in place, on what it is given."""

    def __init__(self):
        self.inner = Rosenbrock(3)
        self.parameter_count = 3

    def spoiled(self, method, *given):
        result = getattr(self.inner, method)(*given)
        for array in given:
            if isinstance(array, np.ndarray):
                array[...] = 7.0
        return result

    def loss_and_gradient(self, w):
        return self.spoiled("loss_and_gradient", w)

    def hvp(self, w, v):
        return self.spoiled("hvp", w, v)

    def third(self, w, u, v):
        return self.spoiled("third", w, u, v)

    def taylor(self, w, v, order=3):
        return self.spoiled("taylor", w, v, order)


@pytest.mark.parametrize(
    "method", [SGD(learning_rate=1e-4), LBFGS(), Newton(), FourthOrder(), TrustRegion()]
)
def test_a_problem_of_ones_own_may_write_on_what_it_is_given(method):
    start = np.array([-1.2, 1.0, 1.0])
    one, other = (method.minimize(p, start, max_iterations=9) for p in (Writing(), Writing().inner))
    assert one.status == other.status
    np.testing.assert_array_equal(one.w, other.w)
    np.testing.assert_array_equal(one.history.loss, other.history.loss)


@pytest.mark.filterwarnings("error")
def test_closed_forms_overflow_to_inf_without_a_warning():
    for problem, w in [
        (Rosenbrock(2), [1e200, 1.0]),
        (Quadratic([[1e200]]), [1e200]),
        (LinearRegression([[1e100]], [1.0]), [1e250]),
    ]:
        assert problem.loss(w) == np.inf
        assert not np.isfinite(problem.gradient(w)).all()
        assert not np.isfinite(problem.hvp(w, w)).all()
        assert not np.isfinite(problem.taylor(w, w).loss).all()
    assert LinearRegression([[1e-200]], [1.0]).loss([1e200]) == 0
    with pytest.raises(ValueError, match="^x has numbers so large that"):
        LinearRegression([[1e200]], [1.0])


@pytest.mark.filterwarnings("error")
def test_weights_too_large_for_a_batch_are_refused():
    net = MLP((4, 1))
    options = {"batch_size": 2, "sample_weight": np.full(7, 1e308)}
    # The last batch of seven has one sample, that counts sevenfold.
    with pytest.raises(ValueError, match="^sample_weight is up to 1e.308; expected .* 7 / 1,"):
        Minibatches(net, X, Y[:, None], **options)
    mean = Minibatches(MLP((4, 1), reduction="mean"), X, Y[:, None], **options)
    assert np.isfinite(mean.at(3).loss(net.initial(seed=0)))


def test_what_is_counted_is_a_problem():
    with pytest.raises(TypeError, match="^problem is of type int; expected a Problem"):
        Counted(3)
