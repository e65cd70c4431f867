"""Comparing optimisers: the same start and batches for all, numbers as NumPy's, nothing hidden."""

from __future__ import annotations

import inspect
import io
import sys

import numpy as np
import pytest

import swiftnets.optimizers as optimizers
from swiftnets import MLP
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.optimizers import SGD, Adam, Momentum, Optimizer, StepResult
from swiftnets.optimizers.comparison import Comparison, compare
from swiftnets.problems import Minibatches, NetProblem, Quadratic, Rosenbrock

METHODS = {
    name: cls
    for name, cls in vars(optimizers).items()
    if inspect.isclass(cls) and issubclass(cls, Optimizer) and not inspect.isabstract(cls)
}
BOWL = Quadratic(np.diag([1.0, 3.0]))
STARTS = [[1.0, 1.0], [-2.0, 0.5], [4.0, 4.0], [0.1, -3.0]]


def some_minibatches(seed=0, data_seed=0):
    random = np.random.default_rng(data_seed)
    x = random.normal(size=(10, 3))
    return Minibatches(MLP((3, 2), reduction="mean"), x, np.sin(x[:, :2]), batch_size=4, seed=seed)


class Spy(Optimizer):
    """Gradient descent that keeps what it was asked."""

    def __init__(self, kept, rate=0.1):
        self.kept, self.rate = kept, rate

    def settings(self):
        return {"version": 1, "rate": self.rate}

    def step(self, problem, w, state):
        loss, gradient = problem.loss_and_gradient(w)
        batches = getattr(problem.problem, "batches", None)
        self.kept.append((w.copy(), np.zeros(0) if batches is None else batches[0].x.copy()))
        return StepResult(w - self.rate * gradient, loss, float(np.linalg.norm(gradient)), state)


class Breaking(Optimizer):
    """Breaks down on the left."""

    def step(self, problem, w, state):
        loss, gradient = problem.loss_and_gradient(w)
        if w[0] < 0:
            raise np.linalg.LinAlgError("singular")
        return StepResult(w - 0.1 * gradient, loss, float(np.linalg.norm(gradient)), state)


def cells(table):
    """Rows of a Markdown table, head first."""
    lines = table.splitlines()
    assert set(lines[1]) <= set("|-:")
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])
    ]


def without_seconds(run):
    history = run.history
    arrays = [run.w, history.loss, history.gradient_norm, history.cost, history.accepted]
    arrays += [*history.info.values(), *run.evaluated.values()]
    rest = (run.name, run.start, run.loss, run.gradient_norm, run.status, run.message)
    return rest, [*history.info, *run.evaluated], [(a.dtype, a.tobytes()) for a in arrays]


# The same for all ---------------------------------------------------------------------------------


def test_all_get_the_same_starts_and_minibatches():
    one, other = [], []
    problem = some_minibatches()
    result = compare(
        problem,
        {"one": Spy(one), "other": Spy(other, 0.2)},
        lambda seed: problem.net.initial(seed=seed),
        seeds=[5, 2],
        max_iterations=7,
    )
    assert [(run.name, run.start) for run in result.runs] == [
        ("one", 5), ("other", 5), ("one", 2), ("other", 2)
    ]  # fmt: skip
    assert len(one) == len(other) == 14
    for i, ((w, x), (v, z)) in enumerate(zip(one, other, strict=True)):
        np.testing.assert_array_equal(x, z)
        np.testing.assert_array_equal(x, problem.at(i % 7).batches[0].x)
        if i % 7 == 0:
            np.testing.assert_array_equal(w, v)
            np.testing.assert_array_equal(w, problem.net.initial(seed=(5, 2)[i // 7]))


def test_a_problem_of_a_seed_is_made_once_a_start():
    asked = []

    def problem(seed):
        asked.append(seed)
        return Quadratic([[1.0 + seed]])

    methods = {"a": SGD(learning_rate=0.1), "b": SGD(learning_rate=0.2)}
    result = compare(problem, methods, [[1.0]] * 3, seeds=[4, 0, 7], max_iterations=1)
    assert asked == [4, 0, 7]
    for run in result.runs:
        rate = methods[run.name].learning_rate
        np.testing.assert_allclose(run.w, 1 - rate * (1 + run.start), rtol=1e-15)
    assert [run.start for run in compare(problem, methods, [[1.0]] * 2, max_iterations=1).runs] == [
        0, 0, 1, 1
    ]  # fmt: skip


def test_a_run_is_what_minimize_makes():
    methods = {"Adam": Adam(learning_rate=0.1), "Momentum": Momentum()}
    starts = [np.array(w) for w in STARTS]
    kept = [w.copy() for w in starts]
    result = compare(BOWL, methods, starts, max_iterations=20, gradient_tolerance=0.3)
    np.testing.assert_array_equal(starts, kept)
    for run in result.runs:
        alone = methods[run.name].minimize(
            BOWL, starts[run.start], max_iterations=20, gradient_tolerance=0.3
        )
        assert (run.status, run.message, run.loss) == (alone.status, alone.message, alone.loss)
        np.testing.assert_array_equal(run.w, alone.w)
        np.testing.assert_array_equal(run.history.loss, alone.history.loss)
        assert run.gradient_norm == np.linalg.norm(BOWL.gradient(run.w))
        assert (run.iterations, run.cost) == (len(alone.history), len(alone.history))
        assert run.seconds == run.history.seconds[-1]
        assert not run.minibatches and not run.evaluated


# Ends ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_data_that_is_not_finite_loses_no_run():
    x, y = np.ones((6, 2)), np.ones((6, 1))
    x[4, 1] = np.nan
    methods = {name: cls() for name, cls in METHODS.items()}
    for problem in (
        NetProblem(MLP((2, 2, 1)), x, y),
        Minibatches(MLP((2, 2, 1), reduction="mean"), x, y, batch_size=2),
    ):
        result = compare(
            problem, methods, lambda seed: np.ones(9) * seed, seeds=[1, 2], max_iterations=4
        )
        assert len(result.runs) == 2 * len(methods)
        assert {run.status for run in result.runs} == {"diverged"}
        assert {run.loss for run in result.runs} == {np.inf}
        assert all("x has nan at [4, 1]" in run.message for run in result.runs)


def test_a_run_that_converges_as_its_cost_runs_out_has_converged():
    methods = {"half": SGD(learning_rate=0.5)}
    (run,) = compare(
        Quadratic([[1.0]]), methods, [[8.0]], cost_limit=3, gradient_tolerance=1.0
    ).runs
    assert (run.status, run.iterations, run.gradient_norm) == ("converged", 3, 1.0)
    (run,) = compare(
        Quadratic([[1.0]]), methods, [[8.0]], cost_limit=2, gradient_tolerance=1.0
    ).runs
    assert (run.status, run.iterations, run.gradient_norm) == ("cost", 2, 2.0)


@pytest.mark.filterwarnings("error")
def test_runs_that_diverge_or_fail_are_told_and_counted():
    starts = [[1.0, 1.0, 0.0], [-2.0, 1.0, 0.0], [0.5, 0.0, 0.0], [1.0, 1.0, 1.0]]
    methods = {
        "slow": SGD(learning_rate=1e-4),
        "fast": SGD(learning_rate=1.0),
        "breaking": Breaking(),
    }
    result = compare(Rosenbrock(3), methods, starts, max_iterations=30)
    status = {(run.name, run.start): run.status for run in result.runs}
    assert [status["slow", i] for i in range(3)] == ["iterations"] * 3
    assert [status["fast", i] for i in range(3)] == ["diverged"] * 3
    # At its minimum the gradient is 0, which is not larger than the tolerance.
    assert [status[name, 3] for name in methods] == ["converged"] * 3
    table = {row[0]: row[-1] for row in cells(result.table())}
    assert table["slow"] == "3 × iterations, 1 × converged"
    assert table["fast"] == "3 × diverged, 1 × converged"
    assert table["breaking"] == "3 × failed, 1 × converged"
    # A run that ended at its start has not cost anything, and has its loss.
    (still,) = [run for run in result.of("slow") if run.start == 3]
    assert (still.iterations, still.cost, still.seconds, still.loss) == (0, 0.0, 0.0, 0.0)


def test_an_end_that_overflows_is_infinite_in_the_table():
    result = compare(
        Quadratic([[1e120]]), {"far": SGD(learning_rate=1.0)}, [[1.0]], max_iterations=1
    )
    (run,) = result.runs
    assert (run.loss, run.status) == (np.inf, "diverged")
    assert cells(result.table())[1][1] == "inf"


def test_cost_limits_end_runs_at_the_first_step_that_reaches_them():
    class Dear(Spy):
        def step(self, problem, w, state):
            problem.hvp(w, np.ones(2))
            return super().step(problem, w, state)

    result = compare(BOWL, {"cheap": SGD(), "dear": Dear([])}, STARTS[:1], cost_limit=10)
    assert [(run.status, run.cost) for run in result.runs] == [("cost", 10), ("cost", 12)]
    assert all("10" in run.message for run in result.runs)


def test_time_limits_end_runs():
    (run,) = compare(BOWL, {"SGD": SGD()}, STARTS[:1], time_limit=0.01).runs
    assert run.status == "time" and run.seconds >= 0.01


# Evaluating ---------------------------------------------------------------------------------------


def test_minibatches_are_evaluated_by_the_full_loss_once_an_epoch():
    problem = some_minibatches()
    start = problem.net.initial(seed=1)
    result = compare(problem, {"Adam": Adam(learning_rate=0.1)}, [start], max_iterations=8)
    (run,) = result.runs
    # Ten samples by four are three batches.
    np.testing.assert_array_equal(run.evaluated["iterations"], [0, 3, 6, 8])
    ws = [start]
    Adam(learning_rate=0.1).minimize(
        problem, start, max_iterations=8, callback=lambda event: ws.append(event.w.copy())
    )
    expected = [problem.full.loss(ws[i]) for i in (0, 3, 6, 8)]
    np.testing.assert_array_equal(run.evaluated["loss"], expected)
    assert run.loss == pytest.approx(expected[-1], rel=1e-15)
    assert run.minibatches
    np.testing.assert_array_equal(run.history.cost, np.arange(1, 9))  # evaluating is free
    x, values = run.curve("loss", "cost")
    np.testing.assert_array_equal(x, [0, 3, 6, 8])
    np.testing.assert_array_equal(values, expected)
    x, values = run.curve("gradient_norm")
    np.testing.assert_array_equal(x, np.arange(8))
    np.testing.assert_array_equal(values, run.history.gradient_norm)


def test_evaluate_is_called_so_often_and_at_both_ends():
    asked = []

    def evaluate(w):
        asked.append(w.copy())
        told = {"half": w[0] / 2}
        return told | {"late": 1} if len(asked) > 2 else told

    (run,) = compare(
        BOWL, {"SGD": SGD()}, STARTS[:1], max_iterations=5, evaluate=evaluate, evaluate_every=2
    ).runs
    np.testing.assert_array_equal(run.evaluated["iterations"], [0, 2, 4, 5])
    assert len(asked) == 4
    np.testing.assert_allclose(run.evaluated["half"], 0.5 * 0.99 ** np.array([0, 2, 4, 5]), 1e-14)
    np.testing.assert_array_equal(run.evaluated["late"], [np.nan, np.nan, 1, 1])
    x, values = run.curve("half", "seconds")
    np.testing.assert_array_equal(x, [0, *run.history.seconds[[1, 3, 4]]])
    np.testing.assert_array_equal(values, run.evaluated["half"])
    assert len(compare(BOWL, {"SGD": SGD()}, STARTS[:1], max_iterations=2, evaluate=evaluate)
               .runs[0].evaluated["half"]) == 3  # fmt: skip


def test_what_evaluates_to_overflow_is_not_a_number():
    def evaluate(w):
        if w[0] < 1:
            raise FloatingPointError("the loss is inf")
        return {"test": 1.0}

    (run,) = compare(BOWL, {"SGD": SGD()}, STARTS[:1], max_iterations=2, evaluate=evaluate).runs
    np.testing.assert_array_equal(run.evaluated["test"], [1, np.nan, np.nan])
    assert run.status == "iterations"


def test_curves_have_the_loss_at_the_end_and_what_methods_tell():
    class Telling(Spy):
        def step(self, problem, w, state):
            result = super().step(problem, w, state)
            return StepResult(
                result.w, result.loss, result.gradient_norm, state, info={"told": w[0]}
            )

    (run,) = compare(BOWL, {"a": Telling([])}, STARTS[:1], max_iterations=3).runs
    x, values = run.curve()
    np.testing.assert_array_equal(x, [0, 1, 2, 3])
    np.testing.assert_array_equal(values, [*run.history.loss, run.loss])
    np.testing.assert_array_equal(run.curve("gradient_norm")[1][-1], run.gradient_norm)
    x, values = run.curve("told", "seconds")
    np.testing.assert_array_equal(x, run.history.seconds)
    np.testing.assert_allclose(values, [1, 0.9, 0.81], rtol=1e-15)
    with pytest.raises(
        ValueError, match="what is 'lass'; expected one of gradient_norm, loss, told"
    ):
        run.curve("lass")
    with pytest.raises(ValueError, match="against is 'time'"):
        run.curve("loss", "time")


# Tables -------------------------------------------------------------------------------------------


def test_tables_have_medians_and_spreads_as_numpy_does():
    methods = {"SGD | plain": SGD(learning_rate=0.05), "Adam": Adam(learning_rate=0.5)}
    result = compare(BOWL, methods, STARTS, max_iterations=60, gradient_tolerance=0.05)
    head, *rows = cells(result.table())
    assert head == [
        "optimizer", "loss", "gradient norm", "iterations", "cost", "seconds", "ended"
    ]  # fmt: skip
    assert [row[0] for row in rows] == [r"SGD \| plain", "Adam"]
    for row, name in zip(rows, methods, strict=True):
        runs = result.of(name)
        for column, text in zip(
            ("loss", "gradient_norm", "iterations", "cost", "seconds"), row[1:-1], strict=True
        ):
            values = np.array([getattr(run, column) for run in runs], float)
            spread = f"{np.median(values):.4g} ({np.min(values):.4g}–{np.max(values):.4g})"
            assert text == (spread if np.ptp(values) else f"{values[0]:.4g}")
    for by in ("loss", "gradient_norm", "iterations", "cost", "seconds"):
        medians = {
            name: np.median([getattr(run, by) for run in result.of(name)]) for name in methods
        }
        names = [row[0].replace("\\", "") for row in cells(result.table(by))[1:]]
        assert names == sorted(methods, key=medians.__getitem__)
    with pytest.raises(ValueError, match="by is 'name'"):
        result.table("name")
    with pytest.raises(ValueError, match="name is 'SGDD'; expected one of SGD"):
        result.of("SGDD")
    assert repr(result) == "Comparison(8 runs of SGD | plain, Adam)"


def test_reached_tells_when_the_loss_first_was_low_enough():
    # w halves in each step: ½ w² is at 0.5 after 1, 2 and 6 steps from 2, 4 and 64.
    starts = [[2.0], [4.0], [64.0]]
    result = compare(Quadratic([[1.0]]), {"SGD": SGD(learning_rate=0.5)}, starts, max_iterations=4)
    got = [run.reached(0.5) for run in result.runs]
    assert [one and one["iterations"] for one in got] == [1, 2, None]
    assert [one["seconds"] for one in got[:2]] == [
        run.history.seconds[i] for i, run in enumerate(result.runs[:2])
    ]
    assert result.runs[0].reached(2.0) == {"iterations": 0, "cost": 0, "seconds": 0}
    # The end's loss counts, though no step was made from there: 64 / 2⁴ = 4.
    assert result.runs[2].reached(8.0)["iterations"] == 4
    head, row = cells(result.reached(0.5))
    assert head == ["optimizer", "runs", "iterations", "cost", "seconds"]
    assert row[:4] == ["SGD", "2 of 3", "1.5 (1–2)", "1.5 (1–2)"]
    assert cells(result.reached(0.0))[1] == ["SGD", "0 of 3", "–", "–", "–"]
    with pytest.raises(TypeError, match="loss is 'low'"):
        result.reached("low")


# The folder ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "minibatches"])
def test_what_is_in_the_folder_is_not_run_again(kind, tmp_path):
    problem = BOWL if kind == "full" else some_minibatches()
    size = problem.parameter_count
    starts = [np.random.default_rng(i).normal(size=size) for i in range(2)]
    kept = []
    options = {"max_iterations": 6, "folder": tmp_path / "new" / "runs",
               "evaluate": lambda w: {"first": w[0]}}  # fmt: skip
    methods = {"a/b": Spy(kept), "a b": Adam(), "far": SGD(learning_rate=1e200)}
    first = compare(problem, methods, starts, **options)
    assert len(kept) == 12 and len(list(options["folder"].iterdir())) == 6
    again = compare(problem, methods, starts, **options)
    assert len(kept) == 12
    for one, other in zip(first.runs, again.runs, strict=True):
        assert without_seconds(one) == without_seconds(other)
        np.testing.assert_array_equal(one.history.seconds, other.history.seconds)
        assert one.minibatches == other.minibatches == (kind == "minibatches")
    assert {run.status for run in again.of("far")} == {"diverged"}
    assert again.table() == first.table()
    more = compare(problem, methods | {"new": Spy(kept, 0.2)}, [*starts, starts[0] / 2], **options)
    assert len(kept) == 12 + 6 + 18 and len(more.runs) == 12


@pytest.mark.parametrize("kind", ["full", "minibatches"])
def test_functions_that_evaluate_otherwise_are_told_apart(kind, tmp_path):
    """By their numbers where runs start and end: both are lambdas of one name."""
    problem = BOWL if kind == "full" else some_minibatches()
    start = np.linspace(-1, 1, problem.parameter_count)

    def again(evaluate):
        return compare(
            problem, {"a": SGD()}, [start], max_iterations=3, folder=tmp_path, evaluate=evaluate
        )

    again(lambda w: {"first": w[0]})
    for other, words in (
        (lambda w: {"first": w[1]}, "evaluate's 'first' after 0 iterations is -1 there"),
        (lambda w: {"first": -1.0}, "evaluate's 'first' after 3 iterations is .* and -1 here"),
        (lambda w: {"last": w[0]}, "evaluate's 'last' after 0 iterations is nan there"),
        (lambda w: {}, "evaluate's 'first' after 0 iterations is -1 there and nan here"),
    ):
        with pytest.raises(CheckpointError, match=f"^folder: .* is of another run: {words}"):
            again(other)
    assert again(lambda w: {"first": float(w[:1].sum())}).runs[0].evaluated["first"][0] == -1


def test_a_break_keeps_the_runs_that_had_ended(tmp_path):
    broken = Spy([])

    def step(problem, w, state):
        if len(broken.kept) == 7:
            raise KeyboardInterrupt
        return Spy.step(broken, problem, w, state)

    broken.step = step
    with pytest.raises(KeyboardInterrupt):
        compare(BOWL, {"a": broken}, STARTS, max_iterations=3, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    kept = []
    resumed = compare(BOWL, {"a": Spy(kept)}, STARTS, max_iterations=3, folder=tmp_path)
    assert len(kept) == 6
    whole = compare(BOWL, {"a": Spy([])}, STARTS, max_iterations=3)
    assert [*map(without_seconds, resumed.runs)] == [*map(without_seconds, whole.runs)]


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path):
    def again(problem=None, rate=0.01, start=(1.0, 1.0), **options):
        options = {"max_iterations": 3, "folder": tmp_path} | options
        return compare(problem or BOWL, {"SGD": SGD(learning_rate=rate)}, [start], **options)

    again()
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("SGD-") and file.name.endswith("-0.npz")
    for says, options in (
        ("optimizer's learning_rate is 0.01 there and 0.02 here", {"rate": 0.02}),
        ("problem is Quadratic there and Rosenbrock", {"problem": Rosenbrock(2)}),
        ("max_iterations is 3 there and 4 here", {"max_iterations": 4}),
        ("time_limit is None there and 9.* here", {"time_limit": 9}),
        ("cost_limit is None there and 9.* here", {"cost_limit": 9}),
        ("gradient_tolerance is 0.0 there and 1.* here", {"gradient_tolerance": 1}),
        ("evaluate is False there and True here", {"evaluate": lambda w: {}}),
        ("evaluate_every is None there and 2 here", {"evaluate_every": 2}),
        ("w: other data", {"start": (1.0, np.nextafter(1.0, 2))}),
        ("problem's matrix: other data", {"problem": Quadratic(np.diag([1.0, 3.1]))}),
    ):
        with pytest.raises(CheckpointError, match=f"^folder: .*SGD-.*{says}"):
            again(**options)
    whole = file.read_bytes()
    for content in (whole[:-20], b"", whole[:200] + b"\xff" * 20 + whole[220:]):
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"^folder: .*SGD-.*npz is damaged.*remove it"):
            again()
    file.unlink()
    assert len(again().runs) == 1


# Pictures -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_plots_have_median_band_crosses_and_labels(tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    methods = {"slow": SGD(learning_rate=1e-4), "fast": SGD(learning_rate=1.0)}
    starts = [[1.0, 0.0], [-2.0, 1.0], [0.5, 0.5]]
    result = compare(Rosenbrock(2), methods, starts, max_iterations=5)
    axes = result.plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iterations", "loss")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["slow", "fast"]
    slow = axes.get_lines()[0]
    rows = np.array([run.curve()[1] for run in result.of("slow")])
    np.testing.assert_array_equal(slow.get_xdata(), np.arange(6))
    np.testing.assert_array_equal(slow.get_ydata(), np.median(rows, axis=0))
    assert len(axes.collections) == 2  # the bands
    low, high = rows.min(axis=0), rows.max(axis=0)
    corners = {(float(x), float(y)) for x, y in axes.collections[0].get_paths()[0].vertices}
    assert {(float(i), float(low[i])) for i in range(5)} <= corners
    assert {(float(i), float(high[i])) for i in range(5)} <= corners
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert len(crosses) == sum(run.status == "diverged" for run in result.runs) == 3
    assert {line.get_color() for line in crosses} == {axes.get_lines()[1].get_color()}
    for against, label in (("cost", "cost in gradients"), ("seconds", "seconds")):
        axes = result.plot(against, "gradient_norm")
        assert (axes.get_xlabel(), axes.get_ylabel()) == (label, "gradient norm")
    path = tmp_path / "plot.png"
    axes.figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_plots_go_where_they_are_told_and_stay_linear_below_zero():
    pytest.importorskip("matplotlib", exc_type=ImportError)
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    saddle = Quadratic(np.diag([1.0, -1.0]))
    result = compare(saddle, {"SGD": SGD(learning_rate=0.1)}, STARTS, max_iterations=5)
    assert result.plot("seconds", axes=axes) is axes
    assert axes.get_yscale() == "linear"
    line = axes.get_lines()[0]
    # Between its own points a run keeps its last value: at the very end, each run's last.
    assert line.get_ydata()[-1] == np.median([run.loss for run in result.runs])
    assert line.get_xdata()[-1] == max(run.seconds for run in result.runs)


def test_plots_leave_out_who_does_not_have_it():
    pytest.importorskip("matplotlib", exc_type=ImportError)

    class Telling(Spy):
        def step(self, problem, w, state):
            result = super().step(problem, w, state)
            return StepResult(result.w, result.loss, 1.0, state, info={"told": 1.0})

    result = compare(BOWL, {"SGD": SGD(), "t": Telling([])}, STARTS, max_iterations=2)
    axes = result.plot(what="told")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["t"]
    with pytest.raises(ValueError, match="what is 'untold'"):
        result.plot(what="untold")
    with pytest.raises(ValueError, match="against is 'loss'"):
        result.plot("loss")


def test_without_matplotlib_a_plot_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install swiftnets\[plot\]"):
        Comparison(()).plot()


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, says",
    [
        ({"problem": 3}, TypeError, "problem is of type int"),
        ({"problem": lambda seed: 3}, TypeError, "problem is of type int"),
        ({"optimizers": {}}, TypeError, "optimizers is {}"),
        ({"optimizers": [SGD()]}, TypeError, "optimizers is "),
        ({"optimizers": {"SGD": SGD}}, TypeError, "optimizers has 'SGD'"),
        ({"optimizers": {1: SGD()}}, TypeError, "optimizers has 1"),
        ({"starts": []}, ValueError, "starts is empty"),
        ({"starts": [[1.0]]}, ValueError, r"starts\[0\] has shape"),
        ({"starts": [[1.0, 1.0], [np.nan, 1.0]]}, ValueError, r"starts\[1\] has nan"),
        ({"starts": lambda seed: [1.0, 1.0]}, ValueError, "seeds is None"),
        ({"seeds": [1]}, ValueError, "seeds has 1 entries; expected 4"),
        ({"seeds": [1, 2, 3, 1]}, ValueError, "each once"),
        ({"seeds": [-1, 0, 1, 2]}, ValueError, "seeds is -1"),
        (
            {"max_iterations": None},
            ValueError,
            "max_iterations, time_limit and cost_limit are None",
        ),
        ({"max_iterations": -1}, ValueError, "max_iterations is -1"),
        ({"time_limit": 0}, ValueError, "time_limit is 0"),
        ({"cost_limit": 0}, ValueError, "cost_limit is 0"),
        ({"gradient_tolerance": -1}, ValueError, "gradient_tolerance is -1"),
        ({"evaluate": 3}, TypeError, "evaluate is 3"),
        ({"evaluate": lambda w: 3}, TypeError, "evaluate returned 3"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every is 0"),
    ],
)
def test_bad_arguments_are_named(options, error, says):
    usual = {"problem": BOWL, "optimizers": {"SGD": SGD()}, "starts": STARTS, "max_iterations": 2}
    options = usual | options
    arguments = [options.pop(name) for name in ("problem", "optimizers", "starts")]
    with pytest.raises(error, match=says):
        compare(*arguments, **options)


def test_progress_is_a_line_a_run_on_standard_error(capsys):
    compare(BOWL, {"SGD": SGD(), "Adam": Adam()}, STARTS[:2], max_iterations=2, progress=True)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert said.out == "" and len(lines) == 4
    assert lines[1].startswith("2 of 4: Run('Adam' from 0: iterations, loss ")


def test_the_number_of_steps_is_not_what_evaluate_tells():
    with pytest.raises(ValueError, match='^evaluate returned a number named "iterations"'):
        compare(
            BOWL, {"SGD": SGD()}, STARTS, max_iterations=2, evaluate=lambda w: {"iterations": 7}
        )
    with pytest.raises(TypeError, match="^evaluate returned 'a': 'x'; expected a number"):
        compare(BOWL, {"SGD": SGD()}, STARTS[:1], max_iterations=2, evaluate=lambda w: {"a": "x"})


def test_a_name_of_two_lines_does_not_break_the_table():
    table = compare(BOWL, {"a\nb": SGD()}, STARTS[:1], max_iterations=2).table()
    assert len(table.splitlines()) == 3 and table.splitlines()[2].startswith("| a b |")


@pytest.mark.filterwarnings("error")
def test_runs_that_are_not_finite_from_the_start_are_drawn_without_a_warning():
    pytest.importorskip("matplotlib")
    result = compare(Quadratic([[1e300]]), {"SGD": SGD()}, [[1e100]], max_iterations=2)
    result.plot().figure.savefig(io.BytesIO())
