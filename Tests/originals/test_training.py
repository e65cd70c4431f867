"""The training loop: checkpoints, interrupts, callbacks, progress, and the two programs."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest

from swiftnets import FastNet, SlowNet, slow_net
from swiftnets._support.files import writable, write_atomically
from swiftnets.originals import checkpoint, reference
from swiftnets.slow_net import CheckpointError

LIMIT = 300
"""Seconds after which a child counts as hanging."""


def batches(count, n=4, insize=6, start=0):
    result = []
    for k in range(start, start + count):
        draw = np.random.default_rng(k)
        result.append((draw.normal(size=(n, insize)), np.eye(5)[draw.integers(0, 5, n)]))
    return result


MAKE = {"slow": lambda: SlowNet(6, 7, 5, seed=1), "fast": lambda: FastNet(6, 5, seed=1)}


@pytest.fixture(params=list(MAKE))
def make(request):
    return MAKE[request.param]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


@pytest.fixture
def sigint():
    """Ctrl-C raises KeyboardInterrupt, even where a shell started us with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def weights(net):
    return (net.w,) if isinstance(net, FastNet) else (net.w1, net.w2)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


# Runs --------------------------------------------------------------------------------------------


def test_a_callback_sees_every_iteration_and_can_end_the_run(make):
    events = []

    def watch(event):
        events.append(event)
        return event.iteration == 8

    history = make().fit(batches(5), batches(1), epochs=4, callback=watch)
    assert [(event.epoch, event.batch) for event in events] == [divmod(k, 5) for k in range(9)]
    assert [event.err for event in events] == history.errs.tolist()
    assert [
        e.correct_count for e in events if e.correct_count is not None
    ] == history.correct_counts
    assert (np.diff(history.seconds) >= 0).all() and history.seconds.shape == (9,)
    assert "9 iterations" in repr(history)


def test_iterations_end_a_run_within_an_epoch(make):
    whole, part = make(), make()
    assert part.fit(batches(5), epochs=3, iterations=7).errs.shape == (7,)
    whole.fit(batches(5))
    whole.fit(batches(2))
    assert same(whole, part)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_pairs": []}, "^train_pairs is empty"),
        ({"train_pairs": 1}, "^train_pairs is 1; expected a list of pairs"),
        ({"train_pairs": [1]}, r"^train_pairs\[0\] is 1; expected a pair \(xs, ys\)"),
        ({"test_pairs": [np.eye(2)]}, r"^test_pairs\[0\] is .*; expected a pair \(xs, ys\)"),
        ({"test_pairs": batches(1, insize=5)}, r"^xs of test_pairs\[0\] has shape \(4, 5\)"),
        ({"epochs": 0}, "^epochs is 0"),
        ({"epochs": 1.5}, "^epochs is 1.5"),
        ({"iterations": 0}, "^iterations is 0"),
        ({"callback": 3}, "^callback is 3"),
        ({"checkpoint": 3.5}, "^checkpoint is 3.5"),
        ({"checkpoint_every": 0}, "^checkpoint_every is 0"),
    ],
)
def test_fit_names_a_wrong_argument(make, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make().fit(**{"train_pairs": batches(2), **arguments})


def test_the_leak_needs_test_data_and_the_projection_wider_batches():
    with pytest.raises(ValueError, match="^test_pairs is None"):
        SlowNet(6, 7, 5).fit(batches(2), original=True)
    with pytest.raises(ValueError, match=r"^xs of train_pairs\[0\] has shape \(4, 5\); expected 6"):
        SlowNet(6, 7, 5).fit(batches(2, insize=5))
    with pytest.raises(ValueError, match=r"^xs of train_pairs\[1\] has shape \(4, 8\)"):
        SlowNet(6, 7, 5).fit([*batches(1, insize=9), *batches(1, insize=8)])


def test_progress_goes_to_standard_error_with_and_without_tqdm(make, monkeypatch, capsys):
    for missing in (False, True):
        if missing:
            monkeypatch.setitem(sys.modules, "tqdm", None)
        make().fit(batches(3), progress=True)
        out, err = capsys.readouterr()
        assert out == "" and "3" in err and err.endswith("\n")


def test_a_failure_names_its_iteration(make):
    pairs = batches(3)
    pairs[2] = (pairs[2][0] * 1e200, pairs[2][1])
    net, before = make(), make()
    with pytest.raises(FloatingPointError) as caught:
        net.fit(pairs)
    assert "iteration 2, batch 2" in caught.value.__notes__[-1]
    before.fit(pairs[:2])
    assert same(net, before)


# Checkpoints -------------------------------------------------------------------------------------


def test_a_resumed_run_gives_the_bits_of_one_never_stopped(make, path):
    train, test = batches(7), batches(2, start=50)
    whole = make()
    expected = whole.fit(train, test, epochs=5)
    for stop in (1, 9, 20, None, None):  # the last finds nothing left to do
        net = make()  # a new object each time: all it knows comes from the file
        history = net.fit(train, test, epochs=5, iterations=stop, checkpoint=path)
        assert len(history.errs) == (stop or 35)
        assert (np.diff(history.seconds) >= 0).all()
    np.testing.assert_array_equal(history.errs, expected.errs)
    assert history.correct_counts == expected.correct_counts
    assert same(net, whole)
    assert os.listdir(path.parent) == ["run.npz"]


def test_a_run_of_a_net_without_a_seed_goes_on_with_its_projection(path):
    train = batches(4, insize=20)
    first, second = SlowNet(6, 7, 5), SlowNet(6, 7, 5)
    first.fit(train, epochs=2, iterations=3, checkpoint=path)
    assert len(second.fit(train, epochs=2, checkpoint=path).errs) == 8
    whole = SlowNet(6, 7, 5, seed=first.seed)
    whole.fit(train, epochs=2)
    assert second.seed == first.seed and same(second, whole)


def test_ctrl_c_leaves_net_and_checkpoint_at_the_last_whole_iteration(make, path, sigint):
    train, seen = batches(10), []
    net = make()

    def interrupt(event):
        seen.append(weights(net))
        if event.iteration == 12:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        net.fit(train, epochs=3, callback=interrupt, checkpoint=path)
    assert all(a is b for a, b in zip(weights(net), seen[12], strict=True))
    resumed, whole = make(), make()
    assert len(resumed.fit(train, epochs=3, checkpoint=path).errs) == 30
    whole.fit(train, epochs=3)
    assert same(resumed, whole)
    net.fit(train, epochs=3, checkpoint=path)  # the interrupted object itself goes on as well
    assert same(net, whole)


KILLED = """
import sys
import numpy as np
from swiftnets import SlowNet
train = []
for k in range(5):
    draw = np.random.default_rng(k)
    train.append((draw.normal(size=(4, 6)), np.eye(5)[draw.integers(0, 5, 4)]))
SlowNet(6, 7, 5, seed=1).fit(
    train, train[:2], epochs=10**6, checkpoint=sys.argv[1], checkpoint_every=1
)
"""


def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(path):
    draw, done = np.random.default_rng(9), 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", KILLED, path])
        try:
            deadline = time.monotonic() + LIMIT
            while time.monotonic() < deadline and child.poll() is None:
                if path.exists() and len(checkpoint.Checkpoint.read(path).errs) > done + 3:
                    break
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.02))  # any moment
        finally:
            child.kill()
            child.wait()
        now = len(checkpoint.Checkpoint.read(path).errs)
        assert now > done + 3
        done = now
    net, whole = MAKE["slow"](), MAKE["slow"]()
    options = {"epochs": 10**6, "iterations": done + 7}
    history = net.fit(batches(5), batches(2), checkpoint=path, **options)
    expected = whole.fit(batches(5), batches(2), **options)
    assert same(net, whole)
    np.testing.assert_array_equal(history.errs, expected.errs)
    assert history.correct_counts == expected.correct_counts


@pytest.mark.parametrize(
    ("net", "options", "said"),
    [
        (lambda: SlowNet(6, 7, 5, seed=1, alpha=0.2), {}, "alpha is 0.1 there and 0.2 here"),
        (lambda: SlowNet(6, 7, 5, seed=1, damping=1), {}, "damping is 0.1 there and 1.0 here"),
        (lambda: SlowNet(6, 8, 5, seed=1), {}, r"sizes is \[6, 7, 5\] there and \[6, 8, 5\] here"),
        (lambda: SlowNet(6, 7, 5, seed=2), {}, "seed is 1 there and 2 here"),
        (lambda: FastNet(6, 5, seed=1), {}, "net is 'slow_net' there and 'fast_net' here"),
        (MAKE["slow"], {"original": True}, "original is False there and True here"),
        (MAKE["slow"], {"method": "dense"}, "method is 'structured' there and 'dense' here"),
        (MAKE["slow"], {"evaluate_every": 9}, "evaluate_every is 50 there and 9 here"),
        (MAKE["slow"], {"train_pairs": batches(4)}, "train batches is 3 there and 4 here"),
        (MAKE["slow"], {"train_pairs": batches(3, start=1)}, "train_pairs: other data"),
        (MAKE["slow"], {"test_pairs": batches(1, start=30)}, "test_pairs: other data"),
        (MAKE["slow"], {"iterations": 2}, "has 3 iterations behind it, more than the 2 asked for"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_kept(path, net, options, said):
    pairs = {"train_pairs": batches(3), "test_pairs": batches(1)}
    MAKE["slow"]().fit(**pairs, checkpoint=path)
    content, other = path.read_bytes(), net()
    before, seed = weights(other), other.seed
    with pytest.raises(CheckpointError, match=said):
        other.fit(**{**pairs, **options}, checkpoint=path)
    assert path.read_bytes() == content
    assert all(a is b for a, b in zip(weights(other), before, strict=True)) and other.seed == seed


def test_a_damaged_checkpoint_is_refused_and_kept(make, path):
    train = batches(3)
    whole = make()
    whole.fit(train, epochs=2, checkpoint=path)
    content, draw = path.read_bytes(), np.random.default_rng(5)
    refusals = []
    damaged = [b"", b"no checkpoint", content[: len(content) // 2], content[:-30], content[9:]]
    for place in draw.integers(0, len(content), 200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.integers(8)
        damaged.append(bytes(flipped))
    for number, some in enumerate(damaged):
        path.write_bytes(some)
        net = make()
        try:
            net.fit(train, epochs=2, checkpoint=path)
        except CheckpointError as error:
            assert f"{path} is damaged or no checkpoint" in str(error)
            refusals.append(number)
        else:  # a flipped bit in what no reader of archives looks at, such as its date
            assert same(net, whole)
        assert path.read_bytes() == some
    assert set(range(5)) < set(refusals) and len(refusals) > len(damaged) // 2


def test_a_checkpoint_without_some_weights_or_of_other_shapes_is_damaged(make, path):
    """A flipped bit in a member's name hides it, and no checksum covers that."""
    make().fit(batches(3), checkpoint=path)
    with np.load(path) as members:
        content = dict(members)
    last = max(name for name in content if name.startswith("w"))
    for other in ({}, {last: content[last].T}):
        np.savez(path, **{name: some for name, some in content.items() if name != last}, **other)
        with pytest.raises(
            CheckpointError, match="damaged or no checkpoint .*(without w|have shapes)"
        ):
            make().fit(batches(3), epochs=2, checkpoint=path)


def test_a_checkpoint_that_unpacks_to_more_than_the_file_is_refused(make, path):
    make().fit(batches(2), batches(1), checkpoint=path)
    arrays = dict(np.load(path))
    np.savez_compressed(path, **arrays | {"errs": np.zeros(100_000)})
    with pytest.raises(CheckpointError, match="its members are larger than the file"):
        make().fit(batches(2), batches(1), checkpoint=path)


@pytest.mark.parametrize("name", ["errs", "seconds", "corrects", "w0"])
def test_what_is_no_array_of_numbers_or_of_endless_rows_is_refused(make, path, name):
    make().fit(batches(2), batches(1), checkpoint=path)
    arrays = dict(np.load(path))
    for wrong in (np.empty((1 << 50, 0)), np.array("text"), np.ones(3)):
        np.savez(path, **arrays | {name: wrong})
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            make().fit(batches(2), batches(1), checkpoint=path)
    np.savez(path, **{other: array for other, array in arrays.items() if other != name})
    header = io.BytesIO()  # NumPy itself would take days to write that many of nothing
    facts = {"descr": "|V0", "fortran_order": False, "shape": (1 << 50,)}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        make().fit(batches(2), batches(1), checkpoint=path)
    with zipfile.ZipFile(path, "w") as archive:
        for member in arrays:
            archive.writestr(f"{member}.npy" if member != name else member, b"not NumPy's")
    with pytest.raises(CheckpointError, match="is no array"):
        make().fit(batches(2), batches(1), checkpoint=path)


def test_an_archive_that_is_no_checkpoint_runs_no_code_and_is_refused(make, path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('the pickle ran')",))

    for content in ({"header": np.array([Trap()], object)}, {"a": np.eye(2)}):
        np.savez(path, **content)
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            make().fit(batches(2), checkpoint=path)


@pytest.mark.parametrize(
    ("version", "why"), [(1, ", as versions before told runs apart less surely"), (3, "")]
)
def test_a_checkpoint_of_another_version_is_refused(make, path, monkeypatch, version, why):
    with monkeypatch.context() as other:
        other.setattr(checkpoint, "_VERSION", version)
        make().fit(batches(2), checkpoint=path)
    with pytest.raises(CheckpointError, match=f"is of version {version}; this .* reads 2{why}:"):
        make().fit(batches(2), checkpoint=path)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(make, tmp_path):
    calls = []
    for place in (tmp_path / "absent" / "run.npz", tmp_path):
        with pytest.raises(OSError, match=f"^checkpoint is .*{place.name}"):
            make().fit(batches(2), checkpoint=place, callback=calls.append)
    assert not calls and os.listdir(tmp_path) == []


def test_what_is_no_regular_file_is_neither_read_as_a_checkpoint_nor_replaced(tmp_path):
    """A pipe here: a device would be lost for good to a root's run of a wrong version."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match=f"^checkpoint is {pipe}, which is no regular file"):
        writable(pipe, "checkpoint")
    done = program("slow_net", "--iterations", 1, "--quiet", "--save", pipe, status=2)
    assert "save is" in done.stderr and pipe.is_fifo()


def test_a_full_disk_names_the_file_that_was_asked_for(path):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=f"No space left on device: '{path}'$") as caught:
        write_atomically(path, full)
    assert caught.value.errno == errno.ENOSPC and os.listdir(path.parent) == []


DIES = """
import os, signal, sys
from swiftnets._support.files import writable, write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], lambda file: file.write(b"new"))
"""


def test_killed_writers_leave_no_more_than_one_file_and_the_next_one_none(path):
    path.write_bytes(b"old")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(3):
        killed = subprocess.run([sys.executable, "-c", DIES, path], env=env, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert path.read_bytes() == b"old" and len(os.listdir(path.parent)) == 2
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and os.listdir(path.parent) == [path.name]


def test_writers_at_one_time_do_not_take_each_others_files(path):
    def write(file):
        file.write(b"outer")
        write_atomically(path, lambda file: file.write(b"inner"))
        assert path.read_bytes() == b"inner"

    write_atomically(path, write)
    assert path.read_bytes() == b"outer" and os.listdir(path.parent) == [path.name]


def test_a_failing_write_keeps_the_old_file_and_a_link_stays_one(path):
    def fail(file):
        file.write(b"half")
        raise RuntimeError("disk")

    path.write_bytes(b"old")
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(RuntimeError):
        write_atomically(link, fail)
    assert path.read_bytes() == b"old"
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert sorted(os.listdir(path.parent)) == ["link", "run.npz"]


@pytest.mark.filterwarnings("error")
def test_outputs_that_are_no_numbers_are_never_right():
    w1, w2 = np.full((2, 2), 1e300), np.outer([1.0, -1.0], np.ones(3))
    net = SlowNet(2, 2, 3, w1=w1, w2=w2)
    xs, ys = np.full((1, 2), 1e300), np.eye(3)[:1]
    assert np.isnan(net.predict(xs)).all() and net.corrects([(xs, ys)]) == (0, 1)


@pytest.mark.filterwarnings("error")
def test_a_projection_that_overflows_shows_it_without_a_warning():
    images = np.full((4, 9), 1.7e308)
    net = SlowNet(6, 7, 5, seed=1)
    assert not np.isfinite(net.project(images)).all()
    with pytest.raises(ValueError, match=r"the projected xs of train_pairs\[1\] has inf"):
        net.fit([(images / 1e308, np.eye(5)[:4]), (images, np.eye(5)[:4])])


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


@pytest.fixture
def data(made_data):
    return made_data(1000, 500, 3)


def test_slow_net_prints_what_the_script_prints(data, path):
    arguments = ("--data", data, "--seed", 5, "--iterations", 52, "--original", "--save", path)
    lines = program("slow_net", *arguments).stdout.splitlines()
    its = [line for line in lines if line.startswith("it: ")]
    counts = [line for line in lines if line.startswith(("corrects: ", "total: "))]
    assert lines[0] == "epoch:  0" and lines[2] == its[0] and lines[4:6] == counts[:2]
    assert all(float(lines[k]) > 0 for k in (1, 3, 7))
    net = SlowNet(seed=5)
    train, test = (slow_net.project(part, net.shaper()) for part in reference.slow_pairs(data))
    history = net.fit(train, test, iterations=52, original=True)
    assert its == [f"it: {it}, err: {err}" for it, err in enumerate(history.errs.tolist())]
    assert counts == [
        line
        for row in history.correct_counts
        for line in (f"corrects: {float(row.correct)}", f"total: {float(row.total)}")
    ]
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["w1"], net.w1)
        np.testing.assert_array_equal(saved["w2"], net.w2)
        np.testing.assert_array_equal(saved["shaper"], net.shaper())
        np.testing.assert_array_equal(saved["errs"], history.errs)
        np.testing.assert_array_equal(saved["corrects"], history.correct_counts)
        assert saved["seed"] == 5


def test_fast_net_prints_what_the_script_prints(data):
    arguments = ("--data", data, "--seed", 5, "--epochs", 2)
    lines = program("fast_net", *arguments, "--original", "--iterations", 22).stdout.splitlines()
    train, test = reference.fast_pairs(data)
    assert float(lines[0]) == train[0][0].mean()
    net = FastNet(seed=5, r=1e-9)
    history = net.fit(train, test, epochs=2, iterations=22)
    expected = []
    for k, err in enumerate(history.errs.tolist()):
        expected += [f"it: {k % 20}, err: {err}", "start first pinv", "end first pinv"]
        expected += ["start second pinv", "end second pinv"]
        if k == 19:
            expected += [f"corrects: {float(history.correct_counts[0].correct)}", "total: 500.0"]
    assert lines[1:] == expected
    plain = program("fast_net", *arguments, "--iterations", 2).stdout
    assert "pinv" not in plain and plain.count("it: ") == 2
    literal = program("fast_net", *arguments, "--iterations", 2, "--r", "1e-9").stdout.splitlines()
    assert literal[1:] == [line for line in lines[1:7] if line.startswith("it: ")]


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "epochs is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--iterations", "x"], "--iterations: invalid int value: 'x'"),
        (["--nonsense"], "--nonsense"),
        (["--data", "absent"], "absent"),
        (["--save", "absent/file"], "save is "),
        (["--checkpoint", "absent/file"], "checkpoint is "),
        (["--checkpoint", __file__], "damaged or no checkpoint"),
        (["--checkpoint", "one", "--save", "./one"], "expected two files"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2_before_the_work(module, arguments, said):
    done = program(module, *arguments, status=2)
    assert done.stdout.count("it: ") == 0
    assert done.stderr.startswith(f"{module}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
def test_help_names_every_flag(module):
    text = program(module, "--help").stdout
    for flag in ("data", "seed", "epochs", "iterations", "original", "checkpoint", "save", "quiet"):
        assert f"--{flag}" in text


def test_quiet_prints_nothing_and_a_program_without_a_seed_goes_on(data, path):
    arguments = ("--data", data, "--checkpoint", path)
    done = program("slow_net", *arguments, "--iterations", 3, "--quiet")
    assert (done.stdout, done.stderr) == ("", "")
    done = program("slow_net", *arguments, "--iterations", 5)
    assert [line[:6] for line in done.stdout.splitlines()[::2]] == ["it: 3,", "it: 4,"]


@pytest.mark.parametrize("module", ["slow_net", "fast_net"])
def test_ctrl_c_ends_a_program_with_its_checkpoint_written(module, data, path):
    command = [sys.executable, "-u", "-m", f"swiftnets.{module}", "--data", data, "--seed", "1"]
    child = subprocess.Popen(
        [*command, "--epochs", "100000", "--checkpoint", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell may have started us with the signal ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in child.stdout:
        if line.startswith("it: 3"):
            break
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=LIMIT)
    assert child.returncode == 130
    assert err.strip() == f"{module}: interrupted; {path} holds the run so far"
    assert len(checkpoint.Checkpoint.read(path).errs) >= 4


ORIGINALS = ("swiftnets.originals.verify", "swiftnets.originals.demo")
PROGRAMS = [
    ["swiftnets"],
    ["swiftnets", "--help"],
    ["swiftnets", "--version"],
    ["swiftnets.slow_net", "--iterations", "5", "--data"],
    ["swiftnets.fast_net", "--iterations", "2", "--data"],
    ["swiftnets.fast_net", "--help"],
    ["swiftnets.originals.verify", "--net", "slow", "--iterations", "2"],
    ["swiftnets.originals.demo", "--quick"],
]


@pytest.mark.parametrize(
    ("end", "buffered", "command"),
    [
        *[("unread", False, one) for one in PROGRAMS],
        *[("unread", True, one) for one in PROGRAMS[:-1]],
        *[("full", False, one) for one in (PROGRAMS[0], PROGRAMS[-1])],
        *[("full", False, one) for one in PROGRAMS if one[-1] in ("--help", "--version")],
        *[("full", False, [name, "--help"]) for name in ("swiftnets.slow_net", *ORIGINALS)],
        *[("full", True, one) for one in PROGRAMS[:4]],
        *[("closed", False, one) for one in (PROGRAMS[0], PROGRAMS[3])],
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else None,
)
def test_output_that_nobody_takes_ends_a_program_without_a_traceback(
    end, buffered, command, data, tmp_path
):
    """141 is 128 + SIGPIPE, as shells have it of programs that the signal ends."""
    if command[-1] == "--data":
        command = [*command, data]
    with open("/dev/full", "wb", buffering=0) as full:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, *["-u"] * (not buffered), "-m", *command],
            stdout=write if end == "unread" else full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT,
            cwd=tmp_path,
            env={name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"},
            preexec_fn=(lambda: os.close(1)) if end == "closed" else None,
        )
        os.close(write)
    name = command[0].rpartition(".")[2]
    if end == "closed":
        assert (done.returncode, done.stderr) == (0, "")
    elif end == "unread":
        assert (done.returncode, done.stderr) == (141, "")
    else:
        assert done.returncode == 2
        assert done.stderr.startswith(f"{name}: ") and "No space left on device" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("with_tqdm", [True, False], ids=["tqdm", "lines"])
@pytest.mark.parametrize("end", ["closed", "full", "none", "a closed object"])
def test_a_run_goes_on_where_standard_error_takes_nothing(with_tqdm, end, tmp_path):
    code = (
        "import os, sys\n"
        f"if not {with_tqdm}: sys.modules['tqdm'] = sys.modules['tqdm.auto'] = None\n"
        f"end = {end!r}\n"
        "if end == 'closed': os.close(2)\n"
        "if end == 'full': os.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n"
        "if end == 'none': sys.stderr = None\n"
        "if end == 'a closed object': sys.stderr.close()\n"
        "import numpy as np\n"
        "from swiftnets import MLP, FastNet, compare\n"
        "from swiftnets.curvature import tensors\n"
        "from swiftnets.datasets import fetch\n"
        "from swiftnets.originals import demo\n"
        "from swiftnets.optimizers import SGD\n"
        "from swiftnets.problems import NetProblem\n"
        "net, x, y = MLP((2, 2), reduction='mean'), np.eye(2), np.eye(2)\n"
        "w, problem = net.initial(seed=0), NetProblem(net, x, y)\n"
        "SGD().minimize(problem, w, max_iterations=9, progress=True)\n"
        "FastNet(2, 2, seed=0).fit([(x, y)] * 9, progress=True)\n"
        "net.solve(w, x, y, w, damping=1.0, method='cg', progress=True)\n"
        "compare(problem, {'SGD': SGD()}, [w], max_iterations=2, progress=True)\n"
        "tensors.compute(net.at(w, x, y), order=2, path='t.npy', progress=True)\n"
        "with fetch._progress_bar('name', 0, 9, True) as advance: advance(9)\n"
        "with demo._bar('name', 1) as advance: advance()\n"
        "print('done')\n"
        "sys.stdout.flush()\n"
        "os._exit(0)\n"  # the interpreter itself fails to flush what was left in a full stream
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
