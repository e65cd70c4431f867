"""Logs of runs, and pictures of their histories."""

import csv
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from swiftnets.optimizers import SGD, CSVWriter, Event, TensorBoardWriter, WandbWriter
from swiftnets.problems import Quadratic

BOWL = Quadratic(np.diag([1.0, 2.0]))


def run(callback, iterations=6, **options):
    return SGD(learning_rate=0.1).minimize(
        BOWL, [1.0, 1.0], max_iterations=iterations, callback=callback, **options
    )


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def check(path, history):
    """The file has the history, to the last bit."""
    table = rows(path)
    assert [int(row["iteration"]) for row in table] == list(range(len(history)))
    for name in ("loss", "gradient_norm", "seconds", "cost"):
        np.testing.assert_array_equal([float(r[name]) for r in table], getattr(history, name))
    for name, values in history.info.items():
        found = [float(row[name]) if row[name] else np.nan for row in table]
        np.testing.assert_array_equal(found, values)


def test_a_csv_file_has_every_step(tmp_path):
    path = tmp_path / "run.csv"
    result = run(CSVWriter(path), schedule="cosine")
    check(path, result.history)
    assert [row["accepted"] for row in rows(path)] == ["1"] * 6


def test_columns_that_come_later_are_added(tmp_path):
    path = tmp_path / "run.csv"
    result = run(CSVWriter(path), validation=lambda w: w[0], validation_every=3, schedule="linear")
    check(path, result.history)
    assert rows(path)[0]["validation_loss"] == "" != rows(path)[2]["validation_loss"]


def test_steps_with_a_validation_loss_are_written_in_any_case(tmp_path):
    path = tmp_path / "run.csv"
    run(CSVWriter(path, every=4), validation=lambda w: w[0], validation_every=3)
    assert [row["iteration"] for row in rows(path)] == ["2", "3", "5"]


def test_a_run_that_goes_on_has_each_line_once(tmp_path):
    path, kept = tmp_path / "run.csv", tmp_path / "run.npz"

    def part(count, stop=None):
        log = CSVWriter(path)
        ends = None if stop is None else lambda event: event.iteration == stop
        callback = [log, ends] if ends else log
        return run(callback, count, checkpoint=kept, schedule=halved)

    part(4)
    # Killed after lines that no checkpoint knows, one of them torn.
    with open(path, "a") as file:
        file.write("4,1.0,1.0,1.0,5.0,1,0.1\n5,9.9,9.")
    part(9, stop=6)
    result = part(9)
    check(path, result.history)


def halved(step):
    return 0.5


def test_a_new_run_begins_a_new_file(tmp_path):
    path = tmp_path / "run.csv"
    run(CSVWriter(path), 9, schedule="cosine")
    result = run(CSVWriter(path), 3)
    assert len(rows(path)) == 3
    check(path, result.history)


def test_readers_see_whole_lines_at_any_time(tmp_path):
    path, seen = tmp_path / "run.csv", []
    run([CSVWriter(path), lambda event: seen.append(path.read_bytes())])
    for index, content in enumerate(seen):
        assert content.endswith(b"\n") and content.count(b"\n") == index + 2


def test_a_file_of_another_kind_stays_as_it_is(tmp_path):
    path = tmp_path / "notes.csv"
    for content in (
        b"a,b\n1,2\n",
        b"text",
        b"\xff\xfe\x00",
        b"iteration,loss\n0,1\n",
        b"iteration,loss,gradient_norm,seconds,cost,accepted\nx,1,1,1,1,1\n",
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^path is .*notes\.csv, which is no log"):
            CSVWriter(path)
        assert path.read_bytes() == content
    path.write_bytes(b"")
    check(path, run(CSVWriter(path)).history)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: CSVWriter(folder), "^path is the folder"),
        (lambda folder: CSVWriter(folder / "no" / "run.csv"), "^path is .* there is no folder"),
        (lambda folder: CSVWriter(3), "^path is 3"),
        (lambda folder: CSVWriter(folder / "run.csv", every=0), "^every is 0"),
        (lambda folder: TensorBoardWriter(3), "^writer is of type int; expected a SummaryWriter"),
        (lambda folder: TensorBoardWriter(Scalars), "^writer is of type type"),
        (lambda folder: TensorBoardWriter(Scalars(), prefix=3), "^prefix is 3"),
        (lambda folder: WandbWriter(object()), "^run is of type object; expected what wandb.init"),
        (lambda folder: WandbWriter(Run(), every="2"), "^every is '2'"),
    ],
)
def test_bad_arguments_are_named(make, message, tmp_path):
    with pytest.raises((TypeError, ValueError, OSError), match=message):
        make(tmp_path)


class Scalars:
    """The method of TensorBoard's SummaryWriter, with its arguments."""

    def __init__(self):
        self.found = []

    def add_scalar(self, tag, scalar_value, global_step=None, walltime=None, new_style=False):
        assert type(scalar_value) is float and type(global_step) is int and walltime is None
        self.found.append((tag, scalar_value, global_step))


class Run:
    """The method of a run of Weights & Biases, with its arguments."""

    def __init__(self):
        self.found = []

    def log(self, data, step=None, commit=None):
        assert all(type(value) is float for value in data.values()) and commit is None
        self.found.append((data, step))


def test_tensorboard_gets_numbers_by_name_and_step():
    writer = Scalars()
    result = run(TensorBoardWriter(writer, "sgd/", every=2), schedule="cosine")
    losses = {step: value for tag, value, step in writer.found if tag == "sgd/loss"}
    assert losses == {k: result.history.loss[k] for k in (1, 3, 5)}
    rates = {step: value for tag, value, step in writer.found if tag == "sgd/learning_rate"}
    assert rates == {k: result.history.info["learning_rate"][k] for k in (1, 3, 5)}


def test_weights_and_biases_get_a_dictionary_a_step():
    wandb = Run()
    result = run(WandbWriter(wandb), validation=lambda w: w[0], validation_every=4)
    assert [step for _, step in wandb.found] == list(range(6))
    assert [data["loss"] for data, _ in wandb.found] == result.history.loss.tolist()
    assert [step for data, step in wandb.found if "validation_loss" in data] == [3]


def test_numbers_that_are_missing_are_not_sent():
    event = Event(0, np.zeros(1), 1.0, 2.0, 3.0, 4.0, True, {"ratio": np.nan, "damping": 0.5})
    writer, wandb = Scalars(), Run()
    TensorBoardWriter(writer)(event)
    WandbWriter(wandb)(event)
    expected = {"loss", "gradient_norm", "seconds", "cost", "accepted", "damping"}
    assert {tag for tag, *_ in writer.found} == set(wandb.found[0][0]) == expected


def test_nothing_is_imported_for_logs():
    code = (
        "import sys, swiftnets.optimizers.writers\n"
        "assert not {'torch', 'tensorboard', 'wandb', 'pandas', 'matplotlib'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


# Pictures -----------------------------------------------------------------------------------------


def test_a_history_is_drawn():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    history = run(None, validation=lambda w: w[0], validation_every=3).history
    ax = history.plot()
    loss, validation = ax.lines
    np.testing.assert_array_equal(loss.get_xdata(), np.arange(6))
    np.testing.assert_array_equal(loss.get_ydata(), history.loss)
    np.testing.assert_array_equal(validation.get_xdata(), [3, 6])
    np.testing.assert_array_equal(validation.get_ydata(), history.info["validation_loss"][[2, 5]])
    assert ax.get_yscale() == "log" and ax.get_xlabel() == "iterations"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "validation loss"]

    mine = Figure().add_subplot()
    assert history.plot("gradient_norm", "cost", mine, color="red", lw=3) is mine
    (line,) = mine.lines
    assert line.get_color() == "red" and line.get_linewidth() == 3
    np.testing.assert_array_equal(line.get_xdata(), [0, *history.cost[:-1]])
    assert mine.get_ylabel() == "gradient norm" and mine.get_legend() is None

    mine = Figure().add_subplot()
    history.plot(["validation_loss", "loss"], "seconds", ax=mine)
    np.testing.assert_array_equal(mine.lines[0].get_xdata(), history.seconds[[2, 5]])


def test_numbers_that_are_not_positive_are_drawn_along_a_line():
    pytest.importorskip("matplotlib")
    history = run(None, validation=lambda w: -w[0]).history
    assert history.plot().get_yscale() == "linear"


def test_what_cannot_be_drawn_is_named():
    history = run(None, validation=lambda w: w[0]).history
    with pytest.raises(ValueError, match="^what is 'lss'; expected one of loss, gradient_norm, va"):
        history.plot("lss")
    with pytest.raises(ValueError, match="^against is 'time'"):
        history.plot(against="time")
    with pytest.raises(ValueError, match="^the history has no iterations"):
        run(None, 0).history.plot()


def test_a_full_disk_leaves_whole_lines(tmp_path):
    """It takes a part of a line first, and nothing the next time: the next line was joined on."""
    path, losses = tmp_path / "run.csv", [1 / 3 ** (k + 1) for k in range(20)]
    log = CSVWriter(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lost = []
    for iteration, loss in enumerate(losses):
        event = Event(iteration, np.zeros(2), loss, 1 / 7, 0.1, 1.0, True, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (500 if iteration < 10 else soft, hard))
        try:
            log(event)
        except OSError as error:
            assert error.filename == str(path)
            lost.append(iteration)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert lost and max(lost) == 9
    kept = [k for k in range(20) if k not in lost]
    assert [float(row["loss"]) for row in rows(path)] == [losses[k] for k in kept]
    CSVWriter(path)  # is a log still
