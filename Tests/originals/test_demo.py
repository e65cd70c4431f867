"""The demo says what it found, shows it, and its exit status can be trusted."""

import subprocess
import sys
from dataclasses import replace

import pytest

from swiftnets.originals import demo, verify
from swiftnets.originals.reference import labels_to_onehots

LEAST = demo.Amount(1, 1, 1, 1, 1, literal=False)


@pytest.fixture
def least(monkeypatch):
    """A run that leaves nothing out, with as little of everything as there can be."""
    monkeypatch.setattr(demo, "QUICK", LEAST)


def test_a_quick_run_holds_parity_learns_and_leaves_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "not" / "there yet"
    run = subprocess.run(
        [sys.executable, "-m", "swiftnets.originals.demo", "--quick", "--out", folder],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert "Parity held." in run.stdout
    assert run.stdout.count("of the test images right before") == 2
    assert max(map(len, run.stdout.splitlines()[:-1])) <= 90
    assert run.stdout.splitlines()[-1].endswith(str(folder / "demo.png"))
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert run.stderr == ""  # no bar where there is no terminal


def test_it_runs_without_matplotlib_and_tqdm_and_says_what_is_missing(
    tmp_path, monkeypatch, capsys, least
):
    for name in ("matplotlib", "matplotlib.figure", "tqdm"):
        monkeypatch.setitem(sys.modules, name, None)
    assert demo.main(["--quick", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "pip install swiftnets[plot]" in output
    assert "pip install swiftnets[progress]" in output
    assert not list(tmp_path.iterdir())


def test_lost_parity_is_seen_in_the_exit_status(tmp_path, monkeypatch, capsys, least):
    check = verify.check

    def check_and_lose(net, *arguments, **options):
        rows = check(net, *arguments, **options)
        if net == "fast":
            rows[-1] = replace(rows[-1], weight_difference=2 * rows[-1].weight_tolerance)
        return rows

    monkeypatch.setattr(verify, "check", check_and_lose)
    assert demo.main(["--quick", "--out", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "Parity was LOST." in output
    assert [line.split()[0] for line in output.splitlines() if line.endswith("LOST")] == ["fast"]


def test_the_literal_iteration_agrees_with_the_engine_and_is_timed(monkeypatch):
    # The script's own algorithm at a size that it does in no time.
    small = demo.SlowNet
    monkeypatch.setattr(demo, "SlowNet", lambda seed: small(6, 5, 4, seed=seed))
    xs = small(6, 5, 4, seed=1).project(demo.np.random.RandomState(0).randn(9, 20))
    line, seconds = demo._literal_step(xs, labels_to_onehots([0, 1, 2, 3, 0, 1, 2, 3, 0], 4))
    assert line.held
    assert seconds > 0


def test_a_file_in_the_place_of_the_folder_is_an_error_before_any_work(tmp_path, capsys):
    taken = tmp_path / "taken"
    taken.write_text("")
    assert demo.main(["--out", str(taken)]) == 2
    captured = capsys.readouterr()
    assert f"demo: --out is {taken}, and cannot be made: File exists" in captured.err
    assert captured.out == ""
