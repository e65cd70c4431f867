"""The training loop: checkpoints, Ctrl-C, callbacks, and the two programs."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from swiftnets import FastNet, SlowNet, _training, fast_net, reference, slow_net

LIMIT = 120
"""Seconds after which a child counts as hanging."""


def batches(count, n=6, insize=6, outsize=5, start=0):
    result = []
    for k in range(count):
        draw = np.random.default_rng(start + k)
        result.append(
            (draw.normal(size=(n, insize)), np.eye(outsize)[draw.integers(0, outsize, n)])
        )
    return result


def nets():
    return {"slow": SlowNet(6, 7, 5, seed=1), "fast": FastNet(6, 5, seed=1)}


@pytest.fixture(params=["slow", "fast"])
def make(request):
    return lambda: nets()[request.param]


def weights(net):
    return [w.tobytes() for w in net._get_weights()]


def test_a_resumed_run_gives_the_bits_of_one_never_stopped(make, tmp_path):
    train, test = batches(7), batches(2, start=50)
    whole = make()
    expected = whole.fit(train, test, epochs=5)
    path = tmp_path / "run.npz"
    for stop in (1, 9, 20, None):
        net = make()  # a new object each time: all it knows comes from the file
        history = net.fit(train, test, epochs=5, iterations=stop, checkpoint=path)
        assert len(history.errs) == (stop or 35)
    assert history.errs == expected.errs
    assert history.corrects == expected.corrects
    assert weights(net) == weights(whole)
    # Nothing is left to do: the same again, at once.
    again = make().fit(train, test, epochs=5, checkpoint=path)
    assert again.errs == expected.errs
    assert os.listdir(tmp_path) == ["run.npz"]


def test_ctrl_c_leaves_object_and_checkpoint_at_the_last_whole_iteration(make, tmp_path):
    train, path = batches(10), tmp_path / "run.npz"
    net, seen = make(), []

    def interrupt(event):
        seen.append(weights(net))
        if event.iteration == 12:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        net.fit(train, epochs=3, callback=interrupt, checkpoint=path)
    assert weights(net) == seen[12]
    resumed, whole = make(), make()
    resumed.fit(train, epochs=3, checkpoint=path)
    whole.fit(train, epochs=3)
    assert weights(resumed) == weights(whole)
    net.step(*train[0])


def test_a_killed_run_goes_on_from_what_it_had_saved(tmp_path):
    path = tmp_path / "run.npz"
    program = (
        "import sys, numpy as np\n"
        "from swiftnets import SlowNet, _training\n"
        "_training.CHECKPOINT_SECONDS = 0.0\n"
        "draw = np.random.default_rng(0)\n"
        "train = [(draw.normal(size=(6, 6)), np.eye(5)[draw.integers(0, 5, 6)])\n"
        "         for _ in range(10)]\n"
        "SlowNet(6, 7, 5, seed=1).fit(train, epochs=10**6, checkpoint=sys.argv[1])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        deadline = time.monotonic() + LIMIT
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    draw = np.random.default_rng(0)
    train = [(draw.normal(size=(6, 6)), np.eye(5)[draw.integers(0, 5, 6)]) for _ in range(10)]
    done = len(np.load(path)["errs"])
    resumed, whole = SlowNet(6, 7, 5, seed=1), SlowNet(6, 7, 5, seed=1)
    resumed.fit(train, epochs=10**6, iterations=done + 5, checkpoint=path)
    whole.fit(train, epochs=10**6, iterations=done + 5)
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: {"net": SlowNet(6, 7, 5, alpha=0.2)}, "its alpha is 0.1, this one's 0.2"),
        (lambda net: {"net": SlowNet(6, 8, 5)}, r"its sizes is \[6, 7, 5\]"),
        (lambda net: {"net": FastNet(6, 5)}, "its net is 'slow_net'"),
        (lambda net: {"train": batches(4)}, "its batches is 3, this one's 4"),
        (lambda net: {"train": batches(3, start=9)}, "its data is"),
        (lambda net: {"original": True}, "its original is False, this one's True"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(change, message, tmp_path):
    path = tmp_path / "run.npz"
    SlowNet(6, 7, 5).fit(batches(3), batches(1), checkpoint=path)
    content = path.read_bytes()
    new = change(None)
    net = new.pop("net", SlowNet(6, 7, 5))
    train = new.pop("train", batches(3))
    with pytest.raises(ValueError, match=message):
        net.fit(train, batches(1), checkpoint=path, **new)
    assert path.read_bytes() == content


def test_a_damaged_checkpoint_is_refused_and_kept(make, tmp_path):
    path = tmp_path / "run.npz"
    make().fit(batches(3), checkpoint=path)
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not one of these, or is damaged"):
            make().fit(batches(3), checkpoint=path)
        assert path.read_bytes() == content


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(make, tmp_path):
    with pytest.raises(OSError):
        make().fit(batches(2), checkpoint=tmp_path / "absent" / "run.npz")
    assert os.listdir(tmp_path) == []


def test_a_failing_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError):
        _training.write_atomically(str(path), fail)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_callback_sees_every_iteration_and_can_end_the_run(make):
    events = []

    def watch(event):
        events.append(event)
        return event.iteration == 8

    history = make().fit(batches(5), batches(1), epochs=4, callback=watch)
    assert [(event.epoch, event.it) for event in events] == [divmod(k, 5) for k in range(9)]
    assert [event.loss for event in events] == history.errs
    counted = [(k + 1, e.corrects, e.total) for k, e in enumerate(events) if e.total is not None]
    assert counted == history.corrects


def test_progress_goes_to_standard_error(make, capfd):
    make().fit(batches(3), progress=True)
    out, err = capfd.readouterr()
    assert out == "" and "3/3" in err


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"train_pairs": []}, ValueError, "train_pairs is empty"),
        ({"train_pairs": [1]}, TypeError, r"train_pairs\[0\] is int, expected a pair"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"iterations": -3}, ValueError, "iterations is -3"),
    ],
)
def test_fit_names_an_argument_out_of_range(make, arguments, error, message):
    with pytest.raises(error, match=message):
        make().fit(**{"train_pairs": batches(2), **arguments})


def test_the_leak_needs_test_data():
    with pytest.raises(ValueError, match="test_pairs is None"):
        SlowNet(6, 7, 5).fit(batches(2), original=True)


# The programs ------------------------------------------------------------------------------------


def program(module, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", f"swiftnets.{module}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == status, done.stderr
    return done


def test_slow_net_prints_what_the_script_prints(made_data, tmp_path):
    data, save = made_data(1000, 500, 3), tmp_path / "weights.npz"
    arguments = ("--data", data, "--seed", 5, "--iterations", 52, "--original", "--save", save)
    lines = program("slow_net", *arguments).stdout.splitlines()
    assert lines[0] == "epoch:  0"
    assert float(lines[1]) > 0
    its = [line for line in lines if line.startswith("it: ")]
    counts = [line for line in lines if line.startswith(("corrects: ", "total: "))]
    pairs = reference.slow_pairs(data)
    # The reference's dense blocks take a second an iteration: a few suffice here.
    for line, printed in zip(
        reference.slow_run(*pairs, 2, 5, blocks="assembled"), its, strict=False
    ):
        it, error = printed.removeprefix("it: ").split(", err: ")
        assert (int(it), float(error)) == (line.iteration, pytest.approx(line.error, rel=1e-10))
        if line.corrects is not None:
            assert counts[:2] == [f"corrects: {float(line.corrects)}", "total: 500.0"]
    assert len(its) == 52 and len(counts) == 4
    saved = np.load(save)
    assert saved["w1"].shape == (50, 50) and saved["w2"].shape == (50, 100)
    assert [repr(float(e)) for e in saved["errs"]] == [line.split("err: ")[1] for line in its]


def test_fast_net_prints_what_the_script_prints(made_data):
    data = made_data(200, 500, 3)
    lines = program("fast_net", "--data", data, "--seed", 5, "--epochs", 1, "--original").stdout
    lines = lines.splitlines()
    pairs = reference.fast_pairs(data)
    assert float(lines[0]) == pytest.approx(pairs[0][0][0].mean(), rel=1e-12)
    marks = ["start first pinv", "end first pinv", "start second pinv", "end second pinv"]
    assert lines[2:6] == marks
    its = [line for line in lines if line.startswith("it: ")]
    for line, printed in zip(reference.fast_run(*pairs, 19, 5, method="limit"), its, strict=True):
        it, error = printed.removeprefix("it: ").split(", err: ")
        assert (int(it), float(error)) == (line.iteration, pytest.approx(line.error, rel=1e-6))
    assert lines[-2].startswith("corrects: ") and lines[-1] == "total: 500.0"


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
def test_an_error_is_one_line_and_status_2(module, tmp_path):
    done = program(module, "--data", tmp_path / "absent", status=2)
    assert done.stdout == ""
    assert done.stderr.startswith(f"python -m swiftnets.{module}: ")
    assert "absent" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
def test_help_names_every_flag(module):
    text = program(module, "--help").stdout
    for flag in ("data", "seed", "epochs", "iterations", "original", "checkpoint", "save", "quiet"):
        assert f"--{flag}" in text


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
def test_ctrl_c_ends_a_program_with_its_checkpoint_written(module, made_data, tmp_path):
    path = tmp_path / "run.npz"
    child = subprocess.Popen(
        [sys.executable, "-u", "-m", f"swiftnets.{module}", "--data", made_data(1000, 500, 4)]
        + ["--seed", "1", "--epochs", "100000", "--checkpoint", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in child.stdout:
        if line.startswith("it: 3"):
            break
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 130
    assert err.strip() == f"python -m swiftnets.{module}: interrupted"
    assert len(np.load(path)["errs"]) >= 3


def test_the_modules_have_the_scripts_batches(made_data):
    data = made_data(1000, 500, 5)
    for module, sizes in ((slow_net, (1000, 500)), (fast_net, (20, 500))):
        train, test = module.get_pairs(data)
        assert (len(train), len(test)) == sizes
        assert train[0][1].shape[1] == 100
