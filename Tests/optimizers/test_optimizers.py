"""The loop around optimisers, its checkpoints, and methods of first order beside PyTorch's."""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
import time
from dataclasses import dataclass, fields

import numpy as np
import pytest

import swiftnets.optimizers as optimizers
from swiftnets import MLP
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.optimizers import (
    LBFGS,
    SGD,
    Adam,
    Momentum,
    Newton,
    Optimizer,
    QuarticLineSearch,
    StepResult,
    checkpoints,
)
from swiftnets.problems import (
    Counted,
    LinearRegression,
    Minibatches,
    NetProblem,
    Problem,
    Quadratic,
    Rosenbrock,
)
from swiftnets.problems.counted import count_cost, net_problem

METHODS = {
    name: cls
    for name, cls in vars(optimizers).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and not inspect.isabstract(cls)
}


def data(seed=0, count=24, dtype=np.float64):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3))
    y = np.sin(x @ random.normal(size=(3, 2)))
    return x.astype(dtype), y.astype(dtype)


def a_net(dtype="float64"):
    return MLP((3, 4, 2), reduction="mean", dtype=dtype)


def a_problem(dtype="float64"):
    return NetProblem(a_net(dtype), *data(dtype=dtype))


def some_minibatches(data_seed=0, **options):
    return Minibatches(a_net(), *data(data_seed), **{"batch_size": 7, "seed": 3} | options)


def same(one, other):
    """Everything that a run determines, bit for bit: all but seconds."""
    assert one.w.tobytes() == other.w.tobytes()
    assert (one.loss, one.status, one.message) == (other.loss, other.status, other.message)
    for name in ("loss", "gradient_norm", "cost", "accepted"):
        assert getattr(one.history, name).tobytes() == getattr(other.history, name).tobytes(), name
    assert one.history.info.keys() == other.history.info.keys()
    for name, values in one.history.info.items():
        # Times differ from run to run wherever a method tells them.
        if "seconds" not in name:
            assert values.tobytes() == other.history.info[name].tobytes(), name
    assert one.state.keys() == other.state.keys()
    for name, values in one.state.items():
        there = other.state[name]
        assert (values.dtype, values.shape) == (there.dtype, there.shape), name
        assert values.tobytes() == there.tobytes(), name


# Beside PyTorch and SciPy -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "ours, theirs, settings",
    [
        (SGD(learning_rate=0.05), "SGD", {"lr": 0.05}),
        (Momentum(learning_rate=0.05, momentum=0.8), "SGD", {"lr": 0.05, "momentum": 0.8}),
        (
            Momentum(learning_rate=0.05, momentum=0.8, nesterov=True),
            "SGD",
            {"lr": 0.05, "momentum": 0.8, "nesterov": True},
        ),
        (Adam(learning_rate=0.02), "Adam", {"lr": 0.02}),
        (
            Adam(learning_rate=0.02, beta1=0.7, beta2=0.95, epsilon=1e-3, weight_decay=0.3),
            "AdamW",
            {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3, "weight_decay": 0.3},
        ),
    ],
)
def test_trajectories_are_those_of_pytorch(ours, theirs, settings, dtype):
    torch = pytest.importorskip("torch")
    problem = a_problem(dtype)
    start = problem.net.initial(seed=1)
    tensor = torch.nn.Parameter(torch.tensor(start))
    optimizer = getattr(torch.optim, theirs)([tensor], **settings)
    trajectory = []
    steps = 40
    ours.minimize(
        problem,
        start,
        max_iterations=steps,
        callback=lambda event: trajectory.append(event.w.copy()),
    )
    # A step rounds some ten numbers, each by eps/2 of w's size, which is about 1. Adam divides by
    # the gradient's size and so magnifies the gradient's rounding by rate / smallest |g|; the
    # problem, and these steps on it, are contractive enough for errors to add up and no more.
    tolerance = 20 * steps * np.finfo(dtype).eps
    for iteration, w in enumerate(trajectory):
        tensor.grad = torch.tensor(problem.gradient(tensor.detach().numpy()))
        optimizer.step()
        assert w.dtype == np.dtype(dtype)
        np.testing.assert_allclose(w, tensor.detach().numpy(), 0, tolerance, err_msg=str(iteration))
    assert len(trajectory) == steps
    assert np.abs(trajectory[-1] - start).max() > 1000 * tolerance


def test_lbfgs_reaches_rosenbrocks_minimum_as_scipy_does():
    scipy = pytest.importorskip("scipy.optimize")
    problem = Rosenbrock(10)
    start = 0.5 * problem.start()
    ours = LBFGS().minimize(problem, start, gradient_tolerance=1e-8, max_iterations=300)
    theirs = scipy.minimize(
        problem.loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"gtol": 1e-8, "ftol": 0, "maxiter": 300},
    )
    assert ours.status == "converged"
    # ‖w − 1‖ ≤ ‖g‖ / λ_min, and the Hessian's smallest eigenvalue at the minimum is 0.46 or more.
    np.testing.assert_allclose(ours.w, 1, atol=1e-8 / 0.4)
    np.testing.assert_allclose(theirs.x, ours.w, atol=1e-6)


def test_lbfgs_on_a_net_gets_as_low_as_scipy():
    scipy = pytest.importorskip("scipy.optimize")
    # Linear, with decay: one minimum, which both have to find to the square of their gradients.
    net = MLP((3, 2), reduction="mean", l2=0.01)
    problem = NetProblem(net, *data())
    start = net.initial(seed=0)
    ours = LBFGS(memory=4).minimize(problem, start, gradient_tolerance=1e-9)
    theirs = scipy.minimize(
        problem.loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"ftol": 0}
    )
    assert ours.status == "converged"
    # The loss lies above its minimum by ‖g‖² / 2 λ at most: far below rounding for ours.
    assert ours.loss <= theirs.fun + 1e-14
    assert ours.loss == pytest.approx(theirs.fun, abs=1e-9)


def test_lbfgs_on_a_small_net_gets_where_scipy_gets():
    scipy = pytest.importorskip("scipy.optimize")
    net = MLP((3, 4, 2), reduction="mean", l2=1e-3)  # decay, so that there is a minimum
    problem = NetProblem(net, *data())
    start = net.initial(seed=2)
    ours = LBFGS().minimize(problem, start, gradient_tolerance=1e-7, max_iterations=3000)
    theirs = scipy.minimize(
        problem.loss_and_gradient,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"ftol": 0, "gtol": 1e-7, "maxiter": 3000},
    )
    assert ours.status == "converged"
    # Both at a minimum, of losses that differ by ‖g‖² / 2 λ with λ at least 1e-3: 5e-12.
    assert ours.loss == pytest.approx(theirs.fun, abs=1e-11)


@pytest.mark.parametrize("scale", [1e-6, 1e8])
def test_lbfgs_does_not_mind_units(scale):
    result = LBFGS().minimize(
        Quadratic(scale * np.diag([1.0, 2.0, 5.0])), [1.0, -2.0, 3.0], gradient_tolerance=1e-8
    )
    assert result.status == "converged"


def test_lbfgs_comes_back_from_where_the_loss_overflows():
    class Walled(Problem):
        parameter_count = 1

        def loss_and_gradient(self, w):
            asked.append(w[0])
            if w[0] > 0:
                raise FloatingPointError("the loss is inf")
            root = np.sqrt(-w[0])
            return float(-root * (w[0] + 0.6)), np.array([(w[0] + 0.6) / (2 * root) - root])

    asked = []
    result = LBFGS().minimize(Walled(), [-0.5], gradient_tolerance=1e-7)
    # d/dw of √−w (w + 0.6) is 0 where w + 0.6 = −2 w; the second derivative there is 3 / 2 √0.2.
    assert result.status == "converged" and max(asked) > 0
    np.testing.assert_allclose(result.w, [-0.2], atol=1e-7)


@pytest.mark.filterwarnings("error")
def test_lbfgs_says_where_no_step_decreases_the_loss():
    class Lying(Quadratic):
        def loss_and_gradient(self, w):
            loss, gradient = super().loss_and_gradient(w)
            return loss, -gradient

    result = LBFGS().minimize(Lying([[1.0]]), [1.0])
    assert (result.status, len(result.history)) == ("failed", 0)
    assert "no decrease" in result.message
    np.testing.assert_array_equal(result.w, [1.0])


def test_lbfgs_works_in_float32_and_counts_every_gradient_once():
    problem = a_problem("float32")
    asked = []

    class Watched(Problem):
        parameter_count, dtype = problem.parameter_count, problem.dtype

        def loss_and_gradient(self, w):
            asked.append(np.asarray(w).tobytes())
            return problem.loss_and_gradient(w)

    result = LBFGS().minimize(Watched(), problem.net.initial(seed=0), max_iterations=20)
    asked.pop()  # the loss at the end
    assert result.w.dtype == np.float32
    assert result.history.cost[-1] == len(asked) == len(set(asked))
    assert result.loss < 0.7 * result.history.loss[0]


# Histories ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [a_problem(), some_minibatches()], ids=["full", "minibatches"])
def test_a_history_has_what_was_before_each_step(problem):
    start = a_net().initial(seed=0)
    ws, seconds = [start], []

    def callback(event):
        assert event.iteration == len(seconds)
        ws.append(event.w.copy())
        seconds.append((event.loss, event.gradient_norm, event.seconds, event.cost))

    result = Adam().minimize(problem, start, max_iterations=9, callback=callback)
    history = result.history
    assert len(history) == len(history.seconds) == 9
    for i, w in enumerate(ws[:-1]):
        at = problem.at(i) if isinstance(problem, Minibatches) else problem
        loss, gradient = at.loss_and_gradient(w)
        assert history.loss[i] == loss
        assert history.gradient_norm[i] == pytest.approx(np.linalg.norm(gradient), rel=1e-14)
    full = problem.full if isinstance(problem, Minibatches) else problem
    assert result.loss == full.loss(ws[-1])
    np.testing.assert_array_equal(result.w, ws[-1])
    np.testing.assert_array_equal(history.cost, np.arange(1, 10))
    assert (np.diff(history.seconds) > 0).all() and history.seconds[0] > 0
    assert history.accepted.all() and history.accepted.dtype == bool
    columns = [history.loss, history.gradient_norm, history.seconds, history.cost]
    assert [*zip(*columns, strict=True)] == seconds
    assert "9 iterations" in repr(history) and "9 iterations" in repr(result)


@pytest.mark.parametrize("name", METHODS)
def test_steps_leave_w_and_state_and_start_as_they_were(name):
    problem, method = a_problem(), METHODS[name]()
    start = problem.net.initial(seed=0)
    kept = start.copy()
    method.minimize(problem, start, max_iterations=2)
    np.testing.assert_array_equal(start, kept)
    w, state = start, method.initial_state(problem, start)
    for _ in range(3):
        w.flags.writeable = False
        for values in state.values():
            assert isinstance(values, np.ndarray)
            values.flags.writeable = False
        before = w.tobytes(), {key: values.tobytes() for key, values in state.items()}
        result = method.step(problem, w, state)
        assert before == (w.tobytes(), {key: values.tobytes() for key, values in state.items()})
        again = method.step(problem, w, state)
        assert result.w.tobytes() == again.w.tobytes()
        w, state = result.w, result.state


@dataclass(frozen=True)
class Scripted(Optimizer):
    """Goes through what the test tells, one a step; the gradient's rule where it tells nothing."""

    script: tuple = ()

    def initial_state(self, problem, w):
        return {"count": np.array(0)}

    def step(self, problem, w, state):
        count = int(state["count"])
        loss, gradient = problem.loss_and_gradient(w)
        told = self.script[count] if count < len(self.script) else {}
        if isinstance(told, Exception):
            raise told
        state = {"count": np.array(count + 1)}
        length = float(np.linalg.norm(gradient))
        return StepResult(**{"w": w - 0.1 * gradient, "loss": loss, "gradient_norm": length,
                             "state": state} | told)  # fmt: skip


BOWL = Quadratic(np.diag([1.0, 2.0]))


def test_info_that_comes_late_or_goes_missing_is_nan():
    method = Scripted(({}, {"info": {"a": 1.0}}, {"info": {"b": 2}, "accepted": False}))
    events = []
    history = method.minimize(BOWL, [1.0, 1.0], max_iterations=4, callback=events.append).history
    nan = np.nan
    np.testing.assert_array_equal(history.info["a"], [nan, 1, nan, nan])
    np.testing.assert_array_equal(history.info["b"], [nan, nan, 2, nan])
    np.testing.assert_array_equal(history.accepted, [True, True, False, True])
    assert [dict(event.info) for event in events] == [{}, {"a": 1.0}, {"b": 2.0}, {}]
    assert [event.accepted for event in events] == [True, True, False, True]


def test_a_run_ends_where_the_gradient_is_small_enough():
    result = SGD(learning_rate=0.5).minimize(
        Quadratic([[1.0]]), [8.0], gradient_tolerance=1.0, max_iterations=100
    )
    assert result.status == "converged" and "gradient" in result.message
    np.testing.assert_array_equal(result.history.gradient_norm, [8, 4, 2])
    np.testing.assert_array_equal(result.w, [1.0])
    assert SGD().minimize(BOWL, [0.0, 0.0]).status == "converged"


def test_a_run_ends_after_its_iterations():
    result = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=3)
    assert result.status == "iterations" and "3" in result.message and len(result.history) == 3
    nothing = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=0)
    assert nothing.status == "iterations" and len(nothing.history) == 0 and nothing.loss == 1.5
    assert repr(nothing.history) == "History(no iterations)"


def test_a_run_ends_when_the_time_is_over():
    result = SGD().minimize(BOWL, [1.0, 1.0], max_iterations=10**9, time_limit=0.02)
    assert result.status == "time"
    assert result.history.seconds[-1] >= 0.02 and (result.history.seconds[:-1] < 0.02).all()


def test_a_run_ends_when_the_callback_says_so():
    result = SGD().minimize(BOWL, [1.0, 1.0], callback=lambda event: event.iteration == 4)
    assert result.status == "callback" and len(result.history) == 5


def test_the_clock_stands_while_the_callback_runs():
    result = SGD().minimize(
        BOWL, [1.0, 1.0], max_iterations=3, callback=lambda event: time.sleep(0.1) or False
    )
    assert result.history.seconds[-1] < 0.1  # three steps of microseconds, and 0.3 s of callbacks


@pytest.mark.filterwarnings("error")
def test_divergence_is_a_status():
    fast = SGD(learning_rate=1e3).minimize(Rosenbrock(4), Rosenbrock(4).start())
    assert fast.status == "diverged" and 0 < len(fast.history) < 100
    assert np.isfinite(fast.w).all() and np.isfinite(fast.history.loss).all()
    problem = a_problem()
    net = SGD(learning_rate=1e200).minimize(problem, problem.net.initial(seed=0))
    assert net.status == "diverged" and np.isfinite(net.w).all()
    for told in (
        FloatingPointError("the sum is inf"),
        {"loss": np.inf},
        {"gradient_norm": np.nan},
        {"w": np.array([np.inf, 0.0])},
    ):
        result = Scripted(({}, told)).minimize(BOWL, [1.0, 1.0])
        assert (result.status, len(result.history)) == ("diverged", 1)
        assert "iteration 1" in result.message
        np.testing.assert_array_equal(result.w, [0.9, 0.8])


def test_a_loss_that_overflows_at_the_end_is_infinite():
    class Wall(Quadratic):
        def loss_and_gradient(self, w):
            if w[0] < 1:
                raise FloatingPointError("the loss is inf")
            return super().loss_and_gradient(w)

    result = SGD().minimize(Wall([[1.0]]), [1.0], max_iterations=1)
    assert (result.status, result.loss, len(result.history)) == ("diverged", np.inf, 1)


def test_break_down_is_a_status():
    for told in (np.linalg.LinAlgError("singular"), {"failure": "nothing fits"}):
        result = Scripted(({}, told)).minimize(BOWL, [1.0, 1.0])
        assert (result.status, len(result.history)) == ("failed", 1)
        assert "iteration 1" in result.message
        assert ("singular" in result.message) or ("nothing fits" in result.message)


def test_other_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        Scripted((ZeroDivisionError(),)).minimize(BOWL, [1.0, 1.0])


# Numbers that are not finite ----------------------------------------------------------------------


class Curve(Problem):
    """Of one variable, by its derivatives from the zeroth to the fourth."""

    parameter_count = 1

    def __init__(self, jet):
        self.jet = jet

    def derivatives(self, w):
        with np.errstate(all="ignore"):
            return [np.float64(value) for value in self.jet(np.float64(w[0]))]

    def loss_and_gradient(self, w):
        jet = self.derivatives(w)
        return jet[0], np.array([jet[1]])

    def hvp(self, w, v):
        return np.asarray(v) * self.derivatives(w)[2]

    def third(self, w, u, v):
        return np.asarray(v) * u * self.derivatives(w)[3]

    def taylor(self, w, v, order=3):
        jet = self.derivatives(w)
        rows = [[jet[k + 1] * v[0] ** k / math.factorial(k)] for k in range(order + 1)]
        loss = [jet[0], *(row[0] * v[0] / (k + 1) for k, row in enumerate(rows))]
        return TaylorSeries(np.array(loss), np.array(rows))


def takes(method, problem):
    """Whether a method that needs a net has one."""
    needs = ("GaussNewton", "LevenbergMarquardt", "KFAC")
    return isinstance(problem, (NetProblem, Minibatches)) or type(method).__name__ not in needs


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["full", "batches", "minibatches"])
@pytest.mark.parametrize("name", METHODS)
def test_numbers_in_the_data_that_are_not_finite_end_a_run_as_diverged(name, kind):
    net = a_net()
    for bad, which in ((np.nan, "x"), (np.inf, "x"), (np.nan, "y"), (-np.inf, "y")):
        x, y = data()
        (x if which == "x" else y)[3, 1] = bad
        says = rf"{which} has {bad} at \[3, 1\]"
        if kind == "full":
            problem = NetProblem(net, x, y)
        elif kind == "minibatches":
            problem = Minibatches(net, x, y, batch_size=7, seed=3)
        else:
            problem = NetProblem(net, [(x[10:], y[10:]), (x[:10], y[:10])])
            says = rf"{which} of batch 1 has {bad} at \[3, 1\]"
        result = METHODS[name]().minimize(problem, net.initial(seed=0), max_iterations=5)
        assert result.status == "diverged", (bad, which, result)
        assert re.search(says, result.message)
        assert np.isfinite(result.w).all() and np.isfinite(result.history.loss).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", METHODS)
def test_a_loss_that_explodes_ends_a_run_as_diverged(name):
    method = METHODS[name]()
    for dtype, far in (("float64", 1e200), ("float32", 1e30)):
        problem = a_problem(dtype)
        start = problem.net.initial(seed=0) * problem.dtype.type(far)
        result = method.minimize(problem, start, max_iterations=3)
        assert (result.status, len(result.history)) == ("diverged", 0), result
        np.testing.assert_array_equal(result.w, start)
    if takes(method, Rosenbrock(3)):
        for far in (1e100, 1e200, -1e300):
            assert method.minimize(Rosenbrock(3), np.full(3, far)).status == "diverged"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", METHODS)
def test_no_derivative_that_is_not_finite_is_raised(name):
    method = METHODS[name]()
    if not takes(method, Rosenbrock(2)):
        return
    for bad in (np.nan, np.inf, -np.inf):
        for place in range(5):
            # w²/2 but for one derivative. What a method does not ask for it cannot mind.
            def jet(w, place=place, bad=bad):
                return [bad if k == place else v for k, v in enumerate((w * w / 2, w, 1, 0, 0))]

            result = method.minimize(Curve(jet), [1.0], max_iterations=5, gradient_tolerance=1e-9)
            assert place > 1 or result.status == "diverged"
            assert result.status in ("diverged", "converged", "iterations", "failed", "rounding")
            assert np.isfinite(result.w).all()


def test_a_run_whose_last_step_leads_to_nothing_finite_has_diverged():
    x, y = data()
    x[-1, 0] = np.nan
    batches = Minibatches(a_net(), x, y, batch_size=4, seed=0)
    iterations = next(
        k for k in range(6) if not np.isfinite(batches.at(k).loss(a_net().initial(0)))
    )
    result = SGD().minimize(batches, a_net().initial(seed=0), max_iterations=iterations)
    assert iterations and len(result.history) == iterations  # each of its batches was finite
    assert result.status == "diverged" and "x has nan at [23, 0]" in result.message


def logarithmic(w):
    """5 (w − log w): NaN below 0, where Newton's and unit steps lead from beyond 2."""
    return 5 * (w - np.log(w)), 5 - 5 / w, 5 / w**2, -10 / w**3, 30 / w**4


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("start", [3.0, 30.0, 1e3, 1e8, 1e-2, 1e-8])
def test_lbfgs_comes_back_from_where_the_loss_is_nan(start):
    result = LBFGS().minimize(Curve(logarithmic), [start], gradient_tolerance=1e-9)
    assert result.status == "converged", result
    # The second derivative at 1 is 5.
    assert abs(result.w[0] - 1) <= 1e-9 / 5 + 1e-15


# Ends ---------------------------------------------------------------------------------------------


def test_reaching_the_tolerance_in_the_last_step_is_converged(tmp_path):
    bowl, method = Quadratic([[1.0]]), SGD(learning_rate=0.5)
    options = {"gradient_tolerance": 1.0, "checkpoint": tmp_path / "run.npz"}
    before = method.minimize(bowl, [8.0], max_iterations=2, **options)
    assert (before.status, before.gradient_norm) == ("iterations", 2.0)
    last = method.minimize(bowl, [8.0], max_iterations=3, **options)
    assert (last.status, last.gradient_norm, last.loss) == ("converged", 1.0, 0.5)
    same(last, method.minimize(bowl, [8.0], max_iterations=100, gradient_tolerance=1.0))
    np.testing.assert_array_equal(last.history.cost, [1, 2, 3])
    for end in (
        {"time_limit": 1e-9, "max_iterations": 3},
        {"callback": lambda e: e.iteration == 2},
    ):
        assert method.minimize(bowl, [4.0], gradient_tolerance=2.0, **end).status == "converged"
    assert (
        method.minimize(bowl, [1.0], gradient_tolerance=1.0, max_iterations=0).status == "converged"
    )


def a_saddle_net():
    """At w = 0: the Hessian couples the layers, by −Σ x yᵀ: 0 on its diagonal but for biases."""
    x, y = data()
    return NetProblem(MLP((3, 4, 2)), x, y - y.mean(axis=0))


@pytest.mark.parametrize("name", METHODS)
def test_no_saddle_passes_for_a_minimum(name):
    method, problem = METHODS[name](), a_saddle_net()
    start = np.zeros(problem.parameter_count)
    assert np.linalg.eigvalsh(problem.hessian(start))[0] < -5
    result = method.minimize(problem, start, max_iterations=60, gradient_tolerance=1e-6)
    if result.status == "converged":
        # Either the method has left it, or it says that it sees no curvature.
        left = np.linalg.eigvalsh(problem.hessian(result.w))[0] > -1e-2
        assert left or "does not see" in result.message
    if name in ("Newton", "Chebyshev", "Halley", "FourthOrder"):
        assert result.status == "saddle" and "curvature of -" in result.message
        plain = Quadratic(np.diag([2.0, -1e-3]))
        for w in ([0.0, 0.0], [1e-8, 1e-8], [1.0, 0.0]):  # there, near, and there in one step
            for iterations in (1, 9):
                end = method.minimize(plain, w, max_iterations=iterations, gradient_tolerance=1e-9)
                assert end.status == "saddle", (w, iterations, end)
    if name in ("SGD", "Momentum", "Adam", "LBFGS", "GaussNewton", "LevenbergMarquardt", "KFAC"):
        assert result.status == "converged" and "does not see" in result.message


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
def test_what_is_a_saddle_does_not_depend_on_the_units_of_the_loss(scale):
    for least, status in ((-1e-3, "saddle"), (-1e-17, "converged"), (0.0, "converged")):
        problem = Quadratic(scale * np.diag([2.0, least]))
        assert Scripted(({"least_curvature": np.inf},)).minimize(problem, [0, 0]).status == status
    told = Scripted(({"least_curvature": 0.5 * scale},))
    message = told.minimize(Quadratic(scale * np.diag([2.0, 0.25])), [0, 0]).message
    assert f"least curvature that was seen is {scale / 4:.3g}" in message


def test_minima_that_are_not_isolated_are_no_saddles():
    class Valley(Problem):
        """x² y²: 0 on both axes. Beside them the Hessian is indefinite, by 6 y² at (1, y)."""

        parameter_count = 2

        def loss_and_gradient(self, w):
            x, y = w
            return float(x * x * y * y), np.array([2 * x * y * y, 2 * x * x * y])

        def hvp(self, w, v):
            x, y = w
            return np.asarray(v) @ np.array([[2 * y * y, 4 * x * y], [4 * x * y, 2 * x * x]])

    told = Scripted(({"least_curvature": np.inf},))
    near = told.minimize(Valley(), [1.0, 1e-5], gradient_tolerance=1e-4)
    assert near.status == "converged" and "seen is -6e-10" in near.message
    # Where the curvature outweighs the gradient, no tolerance makes a minimum of it.
    place = np.array([0.01, 0.01])
    still = Scripted(({"least_curvature": np.inf, "w": place},))
    assert still.minimize(Valley(), place, gradient_tolerance=1.0).status == "saddle"


def test_a_method_that_knows_a_way_down_from_a_saddle_goes_on():
    class Down(Optimizer):
        def step(self, problem, w, state):
            loss, gradient = problem.loss_and_gradient(w)
            new = w + np.array([0.0, 0.01]) if w[1] < 0.015 else w
            return StepResult(new, loss, float(np.linalg.norm(gradient)), {}, least_curvature=-1.0)

    result = Down().minimize(Quadratic(np.diag([1.0, -1.0])), [0.0, 0.0], gradient_tolerance=0.1)
    # Where it knows none any more, it is told.
    assert (result.status, len(result.history)) == ("saddle", 2)


def rounding_problem():
    x, y = data()
    return NetProblem(MLP((3, 4, 2), reduction="mean", l2=1e-3), x, y)


def test_lbfgs_says_that_rounding_is_reached():
    problem = rounding_problem()
    result = LBFGS().minimize(problem, problem.net.initial(seed=2), max_iterations=5000)
    assert result.status == "rounding" and "rounding of the loss" in result.message
    # So near the minimum that no step can lower the loss by what its float64 shows: what is left,
    # half of gᵀ H⁻¹ g, is below the rounding of a sum of 24 · 2 squares.
    hessian, gradient = problem.hessian(result.w), problem.gradient(result.w)
    assert np.linalg.eigvalsh(hessian)[0] > 0
    left = gradient @ np.linalg.solve(hessian, gradient) / 2
    assert 0 < result.gradient_norm < 1e-6 and left <= 48 * np.finfo(float).eps * result.loss


def test_a_tolerance_of_0_means_0_however_small_gradients_are():
    for scale in (1e-170, 1e-300):
        problem = Quadratic(scale * np.eye(2))
        result = SGD(learning_rate=0.5 / scale).minimize(problem, [1.0, 1.0], max_iterations=3)
        assert result.status == "iterations"
        np.testing.assert_allclose(result.history.gradient_norm, scale * np.sqrt([2, 0.5, 0.125]))


@pytest.mark.parametrize("scale", [2.0**-990, 2.0**-500, 2.0**-70, 2.0**500, 2.0**990])
def test_methods_that_do_not_mind_units_take_the_same_steps_in_all(scale):
    matrix, b = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, -1.0])
    for method in (LBFGS(), Newton(), QuarticLineSearch(), QuarticLineSearch(conjugate=False)):
        runs = [
            method.minimize(Quadratic(c * matrix, c * b), [5.0, 7.0], gradient_tolerance=1e-7 * c)
            for c in (1.0, scale)
        ]
        assert runs[1].status == "converged", (method, runs[1])
        # Powers of 2 change no digit; L-BFGS's first step is as long as a large gradient tells.
        np.testing.assert_allclose(runs[1].w, runs[0].w, rtol=0, atol=1e-7)
        if not isinstance(method, LBFGS):
            np.testing.assert_array_equal(runs[1].w, runs[0].w)


# Minibatches --------------------------------------------------------------------------------------


def one_sided_batches():
    """A batch of one sample is fitted at w = (1, 0), the other three are not."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    y = np.array([[1.0], [1.0], [1.0], [1.0]])
    net = MLP((2, 1), activation="identity", bias=False, reduction="mean")
    return Minibatches(net, x, y, batch_size=1, seed=0)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_without_a_gradient_is_not_convergence(name):
    batches = one_sided_batches()
    fitted = next(k for k in range(4) if batches.at(k).loss([1.0, 0.0]) == 0)
    assert fitted > 0  # at this seed it is not the first
    result = METHODS[name]().minimize(
        batches, [1.0, 0.0], max_iterations=fitted + 1, gradient_tolerance=1e-8
    )
    if result.status == "converged":
        assert np.linalg.norm(batches.full.gradient(result.w)) <= 1e-8
    elif result.status == "iterations":
        assert len(result.history) == fitted + 1


def test_the_gradient_of_all_samples_is_looked_at_once_an_epoch_and_counted():
    batches = one_sided_batches()
    # No step goes anywhere: each epoch has one batch whose gradient is 0.
    still = Scripted(({"w": np.array([1.0, 0.0])},) * 8)
    result = still.minimize(batches, [1.0, 0.0], max_iterations=8, gradient_tolerance=1e-8)
    assert result.status == "iterations" and (result.history.gradient_norm == 0).sum() == 2
    costs = np.diff(result.history.cost, prepend=0)
    np.testing.assert_array_equal(costs, 1 + 4 * (result.history.gradient_norm == 0))
    # With a tolerance that all batches keep, but not all samples: once an epoch still.
    wide = still.minimize(batches, [1.0, 0.0], max_iterations=8, gradient_tolerance=0.7)
    np.testing.assert_array_equal(wide.history.cost, result.history.cost)
    np.testing.assert_allclose(wide.gradient_norm, 0.75)


def test_runs_on_minibatches_converge_where_all_samples_do():
    batches = one_sided_batches()
    at_minimum = SGD().minimize(batches, [1.0, 1.0], max_iterations=50)
    assert (at_minimum.status, at_minimum.gradient_norm) == ("converged", 0.0)
    run = SGD(learning_rate=0.5).minimize(
        batches, [0.0, 0.0], max_iterations=500, gradient_tolerance=1e-6
    )
    assert run.status == "converged" and 0 < len(run.history) < 500
    assert np.linalg.norm(batches.full.gradient(run.w)) == run.gradient_norm <= 1e-6
    # And in the last step, whatever its batch says: norms of 1, and of ¾ for all samples.
    still = Scripted(({"w": np.array([1.0, 0.0])},))
    for iterations in (0, 1):
        last = still.minimize(
            batches, [1.0, 0.0], max_iterations=iterations, gradient_tolerance=0.8
        )
        assert (last.status, len(last.history)) == ("converged", iterations)


# The clock ----------------------------------------------------------------------------------------


def test_the_clock_does_not_count_the_import_of_scipy():
    code = (
        "import sys\n"
        "from swiftnets.optimizers import LBFGS\n"
        "assert 'scipy.optimize' not in sys.modules\n"
        "LBFGS()\n"
        "assert 'scipy.optimize' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, names",
    [
        ({"max_iterations": -1}, ValueError, "max_iterations"),
        ({"max_iterations": 1.5}, TypeError, "max_iterations"),
        ({"gradient_tolerance": -1.0}, ValueError, "gradient_tolerance"),
        ({"gradient_tolerance": "x"}, TypeError, "gradient_tolerance"),
        ({"time_limit": 0.0}, ValueError, "time_limit"),
        ({"callback": 3}, TypeError, "callback"),
        ({"checkpoint": 3}, TypeError, "checkpoint"),
        ({"checkpoint": "/no such folder/run.npz"}, FileNotFoundError, "checkpoint"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every"),
        ({"w": [1.0]}, ValueError, "w has shape"),
        ({"w": [1.0, np.nan]}, ValueError, "w has nan"),
        ({"w": ["a", "b"]}, TypeError, "w has dtype"),
        ({"problem": "BOWL"}, TypeError, "problem is of type str"),
    ],
)
def test_bad_arguments_are_named(options, error, names):
    with pytest.raises(error, match=names):
        SGD().minimize(**{"problem": BOWL, "w": [1.0, 1.0]} | options)


@pytest.mark.parametrize(
    "method, settings, error",
    [
        (SGD, {"learning_rate": 0.0}, ValueError),
        (SGD, {"learning_rate": np.inf}, ValueError),
        (SGD, {"learning_rate": "fast"}, TypeError),
        (Momentum, {"momentum": 1.0}, ValueError),
        (Momentum, {"momentum": -0.1}, ValueError),
        (Adam, {"beta1": 1.0}, ValueError),
        (Adam, {"beta2": -0.1}, ValueError),
        (Adam, {"epsilon": 0.0}, ValueError),
        (Adam, {"weight_decay": -1.0}, ValueError),
        (LBFGS, {"memory": 0}, ValueError),
        (LBFGS, {"memory": 2.5}, TypeError),
    ],
)
def test_bad_settings_are_named(method, settings, error):
    with pytest.raises(error, match=next(iter(settings))):
        method(**settings)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_shown_of_a_method_makes_it_again(name):
    defaults = {one.name: getattr(METHODS[name](), one.name) for one in fields(METHODS[name])}
    of_numpy = {key: np.array([value])[0] for key, value in defaults.items()}
    for settings in (defaults, of_numpy):
        method = METHODS[name](**settings)
        assert eval(repr(method), dict(METHODS)) == method == METHODS[name]()


# Cost ---------------------------------------------------------------------------------------------


def test_costs_are_what_problems_says():
    problem = a_problem()
    w = problem.net.initial(seed=0)
    size = problem.parameter_count
    v, rows = np.ones(size), np.ones((4, size))
    for ask, cost in (
        (lambda p: p.loss(w), 1 / 3),
        (lambda p: p.gradient(w), 1),
        (lambda p: p.loss_and_gradient(w), 1),
        (lambda p: p.hvp(w, v), 3),
        (lambda p: p.hvp(w, rows), 12),
        (lambda p: p.at(w), 1),
        (lambda p: rows @ p.at(w).hessian, 9),
        (lambda p: p.hessian(w), 2 * size),
        (lambda p: p.taylor(w, v, 0), 1),
        (lambda p: p.taylor(w, v, 1), 3),
        (lambda p: p.taylor(w, v, 2), 16 / 3),
        (lambda p: p.taylor(w, v, 3), 8),
        (lambda p: p.third(w, v, v), 16 / 3),
        (lambda p: p.third(w, v, rows), 64 / 3),
        (lambda p: count_cost(p, 2.5), 2.5),
    ):
        counted = Counted(problem)
        ask(counted)
        assert counted.cost == pytest.approx(cost, rel=1e-15)
    count_cost(problem, 1)  # nothing to count on: nothing happens
    assert net_problem(Counted(Counted(problem)), "this") is problem
    with pytest.raises(TypeError, match=r"Rosenbrock; expected a NetProblem, as this needs"):
        net_problem(Counted(Rosenbrock(2)), "this")


def test_a_run_adds_up_what_its_steps_cost():
    class Dear(Scripted):
        def step(self, problem, w, state):
            problem.hvp(w, np.ones(2))
            return super().step(problem, w, state)

    history = Dear().minimize(BOWL, [1.0, 1.0], max_iterations=3).history
    np.testing.assert_array_equal(history.cost, [4, 8, 12])


# Checkpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "minibatches"])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_in_parts_is_the_run_in_one(name, kind, tmp_path):
    problem = a_problem() if kind == "full" else some_minibatches()
    start, path = a_net().initial(seed=0), tmp_path / "run.npz"
    whole = METHODS[name]().minimize(problem, start, max_iterations=8)

    def interrupt(event):
        if event.iteration == 4:
            raise KeyboardInterrupt

    def part(**options):
        # Everything anew, as in another process.
        problem = a_problem() if kind == "full" else some_minibatches()
        return METHODS[name]().minimize(problem, start, checkpoint=path, **options)

    stopped = part(max_iterations=8, callback=lambda event: event.iteration == 1)
    if len(whole.history) > 2:
        assert (stopped.status, len(stopped.history)) == ("callback", 2)
    if len(whole.history) > 5:
        with pytest.raises(KeyboardInterrupt):
            part(max_iterations=8, callback=interrupt)
    resumed = part(max_iterations=8)
    same(resumed, whole)
    assert (np.diff(resumed.history.seconds) > 0).all()
    same(part(max_iterations=8), whole)  # once more: it is over already


def test_an_interrupt_within_a_step_leaves_the_steps_before(tmp_path):
    path = tmp_path / "run.npz"
    broken = Scripted(({"info": {"a": 1.0}},) * 2 + (KeyboardInterrupt(),))
    fine = Scripted(({"info": {"a": 1.0}},) * 2)
    with pytest.raises(KeyboardInterrupt):
        _raising(broken).minimize(BOWL, [1.0, 1.0], max_iterations=5, checkpoint=path)
    object.__setattr__(broken, "script", fine.script)
    resumed = _raising(broken).minimize(BOWL, [1.0, 1.0], max_iterations=5, checkpoint=path)
    same(resumed, _raising(fine).minimize(BOWL, [1.0, 1.0], max_iterations=5))


def _raising(method):
    class Interrupted(Scripted):
        def step(self, problem, w, state):
            count = int(state["count"])
            if count < len(method.script) and isinstance(method.script[count], BaseException):
                raise method.script[count]
            return method.step(problem, w, state)

    return Interrupted()


def test_checkpoints_come_every_so_many_steps_and_at_the_end(tmp_path, monkeypatch):
    written = []
    write = checkpoints.write_archive

    def watch(path, name, version, settings, arrays):
        written.append(len(arrays["loss"]))
        write(path, name, version, settings, arrays)

    monkeypatch.setattr(checkpoints, "write_archive", watch)
    path = tmp_path / "run.npz"
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=7, checkpoint=path, checkpoint_every=3)
    assert written == [3, 6, 7]
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=7, checkpoint=path, checkpoint_every=3)
    assert written == [3, 6, 7]
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=9, checkpoint=path, checkpoint_every=3)
    assert written == [3, 6, 7, 9]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    start = a_net().initial(seed=0)
    SGD().minimize(some_minibatches(), start, max_iterations=3, checkpoint=path)
    content = path.read_bytes()
    x, y = data()
    last = some_minibatches().at(3).batches[0].x[-1]  # not of the first minibatch
    x[(x == last).all(axis=1), 0] += 0.5
    for says, method, problem, w, iterations in (
        ("learning_rate is 0.01 there and 0.02", SGD(learning_rate=0.02), None, start, 9),
        ("optimizer is SGD there and Adam", Adam(), None, start, 9),
        ("problem's seed is 3 there and 4", SGD(), some_minibatches(seed=4), start, 9),
        ("problem is Minibatches there and NetProblem", SGD(), a_problem(), start, 9),
        ("other data", SGD(), some_minibatches(data_seed=1), start, 9),
        ("other data", SGD(), Minibatches(a_net(), x, y, batch_size=7, seed=3), start, 9),
        ("w: other data", SGD(), None, np.nextafter(start, 9.0), 9),
        ("3 iterations behind it, more than the 2", SGD(), None, start, 2),
    ):
        with pytest.raises(CheckpointError, match=rf"run\.npz.*{says}"):
            method.minimize(
                problem or some_minibatches(), w, max_iterations=iterations, checkpoint=path
            )
    assert path.read_bytes() == content


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=3, checkpoint=path)
    whole = path.read_bytes()
    bent = bytearray(whole)
    bent[bent.index(b"learning_rate")] ^= 0xFF  # not what zip says twice of a member
    for content in (whole[:-20], bytes(bent), b"", b"something else"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"run\.npz is damaged.*remove it"):
            SGD().minimize(BOWL, [1.0, 1.0], max_iterations=5, checkpoint=path)
        assert path.read_bytes() == content


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=3, checkpoint=path)
    with np.load(path) as file:
        arrays = dict(file)
    for change in (
        {"w": np.ones(3)},
        {"w": np.ones(2, np.float32)},
        {"cost": np.ones(2)},
        {"loss": None},
        {"start": np.array("text")},
        {"info a": np.empty((1 << 50, 0))},
    ):
        kept = {name: values for name, values in (arrays | change).items() if values is not None}
        np.savez(path, **kept)
        with pytest.raises(CheckpointError, match="damaged"):
            SGD().minimize(BOWL, [1.0, 1.0], max_iterations=5, checkpoint=path)


def test_problems_of_ones_own_go_on_from_checkpoints(tmp_path):
    class Own(Problem):
        parameter_count = 2

        def loss_and_gradient(self, w):
            return BOWL.loss_and_gradient(w)

    path = tmp_path / "run.npz"
    first = Own()
    SGD().minimize(first, [1.0, 1.0], max_iterations=3, checkpoint=path)
    second = Own()  # at another address, which is what object.__repr__ tells
    SGD().minimize(Counted(second), [1.0, 1.0], max_iterations=5, checkpoint=path)
    result = SGD().minimize(Own(), [1.0, 1.0], max_iterations=9, checkpoint=path)
    same(result, SGD().minimize(Own(), [1.0, 1.0], max_iterations=9))


def test_progress_goes_to_standard_error(capsys):
    SGD().minimize(BOWL, [1.0, 1.0], max_iterations=3, progress=True)
    said = capsys.readouterr()
    assert said.out == "" and "3" in said.err


def test_linear_regression_converges_to_the_normal_equations():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(30, 4)), random.normal(size=30)
    result = LBFGS().minimize(LinearRegression(x, y, 0.1), np.zeros(4), gradient_tolerance=1e-9)
    expected = np.linalg.solve(x.T @ x + 0.1 * np.eye(4), x.T @ y)
    # ‖w − w*‖ ≤ ‖g‖ / λ_min, with λ_min above 1 here.
    assert np.linalg.eigvalsh(x.T @ x)[0] > 1
    np.testing.assert_allclose(result.w, expected, atol=2e-9)


def test_a_callback_cannot_change_the_run():
    problem = Rosenbrock(3)

    def spoil(event):
        event.w[:] = 0

    one = Newton().minimize(problem, problem.start(), max_iterations=5, callback=spoil)
    other = Newton().minimize(problem, problem.start(), max_iterations=5)
    np.testing.assert_array_equal(one.w, other.w)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("Momentum", "nesterov"),
        ("Newton", "line_search"),
        ("GaussNewton", "line_search"),
        ("SaddleFreeNewton", "line_search"),
        ("QuarticLineSearch", "conjugate"),
    ],
)
@pytest.mark.parametrize("value", ["no", None, np.nan, 0, [1]])
def test_a_switch_is_true_or_false(method, name, value):
    with pytest.raises(TypeError, match=rf"^{name} is .*; expected True or False$"):
        getattr(optimizers, method)(**{name: value})
    getattr(optimizers, method)(**{name: np.bool_(False)})
