"""Verification finds agreement where there is some, and says so where there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import swiftnets
from swiftnets.originals import verify
from swiftnets.originals.rows import HEADER
from swiftnets.originals.scripts import _scratch

# What the scripts do, in terms of the reference: every array is changed in place, as theirs are.
READ = """
import pickle
from types import SimpleNamespace
import numpy as np
from swiftnets.originals import reference

images = SimpleNamespace()
for name in ("train", "test"):
    with open("cifar_" + name, "rb") as file:
        content = pickle.load(file, encoding="bytes")
    setattr(images, name + "_images", content[b"data"])
    setattr(images, name + "_labels", content[b"fine_labels"])
"""
SLOW = (
    READ
    + """
if __name__ == "__main__":
    train, test = reference.slow_pairs(images)
    w1 = np.random.randn(50, 50) / 100
    w2 = np.random.randn(50, 100) / 150
    shaper = np.random.randn(48, 50) / np.sqrt(48)
    print("epoch: ", 0)
    for it, (xs, ys) in enumerate(train):
        h2 = reference.act(reference.act(xs @ shaper @ w1) @ w2)
        print("it: {}, err: {}".format(it, reference.errfn(h2, ys)))
        print("some time")
        if it % 50 == 0:
            xs, ys = test[-1]
        new = reference.slow_step(xs @ shaper, ys, w1, w2, blocks="assembled")
        w1[:], w2[:] = new[:2]
"""
)
FAST = (
    READ
    + """
if __name__ == "__main__":
    train, test = reference.fast_pairs(images)
    w = np.random.randn(48, 100) / 148
    for epoch in range(10):
        for it, (xs, ys) in enumerate(train):
            print("it: {}, err: {}".format(it, reference.errfn(reference.act(xs @ w), ys)))
            w[:], _ = reference.fast_step(xs, ys, w)
"""
)


@pytest.fixture
def images():
    draw = np.random.RandomState(4)
    return SimpleNamespace(
        train_images=draw.randint(0, 256, (1000, 48)).astype(np.uint8),
        train_labels=draw.randint(0, 100, 1000),
        test_images=draw.randint(0, 256, (500, 48)).astype(np.uint8),
        test_labels=draw.randint(0, 100, 500),
    )


@pytest.fixture
def few(images):
    """So few images that fast_net's batches have full row rank."""
    images.train_images, images.train_labels = images.train_images[:400], images.train_labels[:400]
    return images


@pytest.fixture
def scripts(tmp_path):
    """Write scripts that read `cifar_train` and `cifar_test` from their current folder."""

    def write(**texts):
        for net, text in texts.items():
            (tmp_path / f"{net}_net.py").write_text(text)
        return tmp_path

    return write


def test_the_engine_agrees_with_the_slow_reference_through_the_leaks(images):
    rows = verify.check("slow", images, seed=2, iterations=105, insize=6, hidsize=5)
    assert [row.iteration for row in rows] == list(range(106))
    assert all(row.held for row in rows)
    assert [row.iteration for row in rows if row.correct is not None] == [0, 50, 100]
    assert verify.parity(rows)


def test_the_engine_agrees_with_limit_and_literal_while_batches_come_back(few):
    rows = verify.check("fast", few, seed=2, iterations=42)
    assert [row.against for row in rows[:2]] == ["limit", "literal"]
    assert len(rows) == 2 * 43
    assert all(row.held for row in rows)
    assert {row.error_tolerance for row in rows} == {1e-10, 1e-6}


def test_reports_come_in_order_and_equal_the_result(images):
    seen = []
    rows = verify.check(
        "slow", images, iterations=2, insize=4, hidsize=3, report=lambda row: seen.append(row)
    )
    assert rows == seen
    assert rows[0].seconds is None and rows[0].ratio is None
    assert rows[1].ratio == rows[1].other_seconds / rows[1].seconds


@pytest.mark.parametrize("wrong", [1 + 1e-9, np.nan])
def test_an_engine_that_is_slightly_wrong_loses_parity(images, monkeypatch, wrong):
    taken = []

    class Wrong(swiftnets.SlowNet):
        def step(self, xs, ys):
            taken.append(super().step(xs, ys))

        def loss(self, xs, ys):
            return super().loss(xs, ys) * (wrong if len(taken) > 1 else 1.0)

    monkeypatch.setattr(verify, "SlowNet", Wrong)
    rows = verify.check("slow", images, iterations=3, insize=4, hidsize=3)
    assert [row.held for row in rows] == [True, True, False, False]
    assert not verify.parity(rows)
    assert "parity LOST" in verify.summary(rows)[0]


def test_wrong_weights_lose_parity_though_the_error_agrees(images):
    rows = verify.check("slow", images, iterations=1, insize=4, hidsize=3)
    assert not replace(rows[1], weight_difference=1.1e-10).held
    assert not replace(rows[1], weight_difference=np.nan).held
    assert not replace(rows[1], correct=3, other_correct=4).held
    assert not verify.parity([])
    assert not verify.parity(rows[:1])


@pytest.mark.filterwarnings("ignore:a batch of")
def test_without_full_row_rank_only_the_limit_counts(few):
    few.train_images[25] = few.train_images[21]  # both in batch 1
    with pytest.warns(swiftnets.fast_net.RankWarning, match="batch 1 has 20 rows and rank 19"):
        rows = verify.check("fast", few, iterations=4)
    literal = [row for row in rows if row.against == "literal"]
    assert [row.iteration for row in literal] == [0, 1, 2]
    assert [row.note for row in literal] == ["", "", "excluded: batch 1 has rank 19 of 20"]
    limit = [row for row in rows if row.against == "limit"]
    assert len(limit) == 5 and all(row.held for row in limit)
    assert verify.parity(rows)
    assert "excluded: batch 1" in verify.summary(rows)[1]


def test_scripts_run_as_they_are_and_are_compared_with(few, scripts):
    folder = scripts(fast=FAST)
    rows = verify.check("fast", few, seed=7, iterations=22, originals=folder)
    original = [row for row in rows if row.against == "original"]
    assert len(original) == 23
    assert all(row.held for row in rows)
    assert all(row.other_seconds > 0 for row in original[1:])
    # Its weights were taken line by line, not once they had changed.
    literal = [row for row in rows if row.against == "literal"]
    for ours, theirs in zip(literal, original, strict=True):
        assert theirs.other_error == pytest.approx(ours.other_error, rel=1e-12)


def test_the_slow_script_runs_at_its_own_size(images, scripts):
    folder = scripts(slow=SLOW)
    rows = verify.check("slow", images, seed=7, iterations=2, originals=folder)
    assert [row.against for row in rows] == ["reference", "original"] * 3
    assert all(row.held for row in rows)
    with pytest.raises(ValueError, match="insize, hidsize are 6, 5; expected 50, 50"):
        verify.check("slow", images, insize=6, hidsize=5, originals=folder)


def test_a_script_that_differs_loses_parity(few, scripts):
    folder = scripts(fast=FAST.replace("fast_step(xs, ys, w)", "fast_step(xs, ys, w, 0.11)"))
    rows = verify.check("fast", few, iterations=2, originals=folder)
    held = [row.held for row in rows if row.against == "original"]
    assert held == [True, False, False]
    assert not verify.parity(rows)


@pytest.mark.parametrize(
    "text, words",
    [
        ("raise RuntimeError('no luck')", "fast_net.py ended with status 1 .*no luck"),
        ("print('it: 0, err: 1.0')", "fast_net.py ended with status 1 .*KeyError: 'w'"),
        ("", r"ended with status 0 before iteration 0 of 3; its last words: \(none\)"),
        ("import numpy as np; w = np.ones(3); print('it: 0, err: 1.0')", r"w has shape \(3,\)"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_script_that_fails_is_named_with_its_last_words(few, scripts, text, words):
    with pytest.raises(verify.OriginalError, match=f"(?s){words}"):
        verify.check("fast", few, iterations=3, originals=scripts(fast=text))


def gone(pid_file):
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
    return True


def test_a_script_that_hangs_is_ended(few, scripts, tmp_path):
    pid = tmp_path / "pid"
    text = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    waited = []
    with pytest.raises(verify.OriginalError, match="did not print .* iteration 0 within 2.5 s"):
        verify.check(
            "fast",
            few,
            iterations=3,
            originals=scripts(fast=text),
            timeout=2.5,
            waiting=lambda *arguments: waited.append(arguments),
        )
    assert [arguments[:2] for arguments in waited][:1] == [("fast_net.py", 0)]
    assert gone(pid)


def test_scratch_files_of_a_killed_run_are_removed_by_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        "import os, signal, sys, tempfile; from swiftnets.originals.scripts import _scratch; "
        "tempfile.tempdir = sys.argv[1]; place = _scratch(); place.__enter__(); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with _scratch() as live:
        subprocess.run([sys.executable, "-c", code, tmp_path], env=env, check=False)
        assert len(os.listdir(tmp_path)) == 2
        with _scratch() as scratch:
            assert {str(path) for path in tmp_path.iterdir()} == {live, scratch}
    assert os.listdir(tmp_path) == []


def test_an_interrupt_ends_the_script_too(made_data, scripts, tmp_path, capsys):
    pid = tmp_path / "pid"
    text = (
        f"import os, signal, time; open({str(pid)!r}, 'w').write(str(os.getpid())); "
        "os.kill(os.getppid(), signal.SIGINT); time.sleep(600)"
    )
    folder = scripts(fast=text)
    data = made_data(400, 500, 3)
    status = verify.main(["--net", "fast", "--data", str(data), "--originals", str(folder)])
    assert status == 130
    assert "interrupted" in capsys.readouterr().err
    assert gone(pid)


def test_the_command_prints_a_table_and_writes_json_at_once(made_data, tmp_path, capsys):
    data = made_data(400, 500, 3)
    target = tmp_path / "rows.json"
    status = verify.main(
        ["--net", "fast", "--data", str(data), "--iterations", "2", "--seed", "5"]
        + ["--json", str(target)]
    )
    lines = capsys.readouterr().out.splitlines()
    assert status == 0
    assert lines[0].split() == HEADER.split()
    assert len(lines) == 1 + 2 * 3 + 1 + 2
    assert "parity held over 2 iterations" in lines[-1]
    content = json.loads(target.read_text())
    assert content["parity"] is True and content["seed"] == 5
    assert len(content["rows"]) == 6 and all(row["held"] for row in content["rows"])
    assert [path.name for path in tmp_path.glob("rows*")] == ["rows.json"]


def test_lost_parity_is_status_one_and_marked(made_data, capsys, monkeypatch):
    data = made_data(400, 500, 3)
    monkeypatch.setattr(verify, "EXACT", -1.0)
    status = verify.main(["--net", "fast", "--data", str(data), "--iterations", "1"])
    said = capsys.readouterr()
    assert status == 1
    assert said.out.count("PARITY LOST") == 2
    assert "parity was not shown" in said.err


@pytest.mark.parametrize(
    "options, words",
    [
        (["--iterations", "0"], "iterations is 0; expected 1 or more"),
        (["--seed", "-1"], "seed is -1"),
        (["--timeout", "0"], "timeout is 0.0"),
        (["--originals", "nowhere"], "fast_net.py does not exist"),
        (["--json", "nowhere/rows.json"], "there is no folder"),
        (["--json", "."], "is the folder"),
        (["--plot", "nowhere/plot.png"], "there is no folder"),
    ],
)
def test_what_cannot_be_compared_is_status_two(made_data, capsys, options, words):
    data = made_data(400, 500, 3)
    assert verify.main(["--net", "fast", "--data", str(data), *options]) == 2
    assert words in capsys.readouterr().err


def test_rows_go_to_no_pipe_or_device(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert verify.main(["--json", str(tmp_path / "pipe")]) == 2
    assert "no regular file" in capsys.readouterr().err


def test_a_plot_of_an_unknown_format_is_refused_before_the_work(capsys):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    assert verify.main(["--plot", "curves.docx"]) == 2
    said = capsys.readouterr()
    assert "ends in one of" in said.err and not said.out


def test_more_iterations_than_a_script_prints_are_refused(few, scripts):
    with pytest.raises(ValueError, match="iterations is 200; expected less than 200"):
        verify.check("fast", few, iterations=200, originals=scripts(fast=""))
    with pytest.raises(ValueError, match="net is 'both'"):
        verify.check("both", few)


@pytest.mark.parametrize("ending, begins", [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_plot_shows_both_nets(images, few, tmp_path, ending, begins):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    rows = verify.check("fast", few, iterations=3)
    images.train_images = np.resize(images.train_images, (1000, 48))
    images.train_labels = np.resize(images.train_labels, 1000)
    rows += verify.check("slow", images, iterations=3, insize=4, hidsize=3)
    target = tmp_path / f"plot.{ending}"
    verify.draw(rows, target)
    assert target.read_bytes().startswith(begins)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install swiftnets\[plot\]"):
        verify.draw([], "plot.png")


@pytest.mark.skipif(
    "SWIFTNETS_ORIGINALS" not in os.environ, reason="SWIFTNETS_ORIGINALS names no checkout"
)
@pytest.mark.parametrize("net, iterations", [("fast", 21), ("slow", 1)])
def test_the_real_originals_agree(shared, net, iterations):
    rows = verify.check(
        net,
        shared / "data" / "cifar10",
        seed=21,
        iterations=iterations,
        originals=os.environ["SWIFTNETS_ORIGINALS"],
    )
    assert verify.parity(rows)
