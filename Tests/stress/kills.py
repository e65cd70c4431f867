"""Runs of every kind that are killed at random moments, or find the disk full, and run again.

    python Tests/stress/kills.py [--seconds 60] [--kills 100] [--seed 0] [NAME ...]

Every run is started in a process of its own and ended at a random moment: mostly by SIGKILL, else
by SIGTERM, Ctrl-C, or a limit on the size of files. What it left must be whole files and little
that is temporary; started again, and again, it must come to its end with the files of a run that
nothing ended, to the last bit, and nothing beside them. Where mounts can be made each run also
meets a full disk, which then gets room. Exits with 1 if a run did anything else.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure

from swiftnets import (
    MLP,
    FastNet,
    Network,
    SlowNet,
    _core,
    datasets,
    fast_net,
    nets,
    optimizers,
    problems,
    slow_net,
)
from swiftnets.curvature import tensors
from swiftnets.optimizers import comparison as compare
from swiftnets.originals import demo, scripts, verify
from swiftnets.originals import rows as rows_of

PATIENCE = 60  # seconds that a run may take
LITTER = 3  # temporary files and folders that kills may leave, however many they were
RIGHT, FAILED, TOLD, INTERRUPTED = 0, 1, 2, 130

# What runs ---------------------------------------------------------------------------------------


def batches(columns, classes, count):
    r = np.random.default_rng(1)
    return [
        (r.standard_normal((6, columns)), np.eye(classes)[r.integers(0, classes, 6)])
        for _ in range(count)
    ]


def fit_slow_net(folder):
    pairs = batches(6, 5, 8)
    net = SlowNet(6, 7, 5, seed=1)
    net.fit(pairs, pairs[:2], epochs=3, checkpoint=folder / "net.npz", checkpoint_every=1)


def fit_fast_net(folder):
    pairs = batches(20, 5, 8)
    net = FastNet(20, 5, seed=1)
    net.fit(pairs, pairs[:2], epochs=3, checkpoint=folder / "net.npz", checkpoint_every=1)


def program(main, iterations):
    def run(folder):
        words = f"--seed 1 --quiet --iterations {iterations} --checkpoint {folder}/net.npz"
        return main([*words.split(), "--save", str(folder / "end.npz")])

    return run


def case():
    r = np.random.default_rng(0)
    net = MLP((4, 6, 3))
    return net, net.initial(0), r.standard_normal((20, 4)), r.standard_normal((20, 3))


def convolution_case():
    r = np.random.default_rng(0)
    net = Network(
        [
            nets.Conv2d(1, 2, 3, padding=1),
            nets.Tanh(),
            nets.AvgPool2d(2),
            nets.Flatten(),
            nets.Dense(8, 3),
        ],
        input_shape=(1, 4, 4),
    )
    return net, net.initial(0), r.standard_normal((20, 1, 4, 4)), r.standard_normal((20, 3))


def minimize(method, batch_size=None, case=case):
    def run(folder):
        net, w, x, y = case()
        problem = problems.NetProblem(net, x, y)
        if batch_size is not None:
            problem = problems.Minibatches(net, x, y, batch_size=batch_size, seed=0)
        options = {"checkpoint": folder / "run.npz", "checkpoint_every": 1}
        method().minimize(problem, w, max_iterations=12, **options)

    return run


def compare_some(folder):
    problem = problems.Rosenbrock(4)
    methods = {"L-BFGS": optimizers.LBFGS(), "Newton": optimizers.Newton()}
    starts = [np.full(4, value) for value in (-1.0, 0.0, 2.0)]
    compare.compare(problem, methods, starts, max_iterations=15, folder=folder / "runs")


def tensor(order, suffix, case=case):
    def run(folder):
        net, w, x, y = case()
        tensors.compute(net.at(w, x, y), order=order, path=folder / f"tensor{suffix}")

    return run


def download(address):
    def run(folder):
        right = {"md5": hashlib.md5(ARCHIVE).hexdigest(), "size": len(ARCHIVE)}
        datasets.fetch_cifar100(folder, url=address, progress=False, **right)

    return run


def made_images(count):
    r = np.random.default_rng(0)
    images, labels = r.integers(0, 256, (count, 48), np.uint8), r.integers(0, 100, count)
    return SimpleNamespace(
        train_images=images, train_labels=labels, test_images=images, test_labels=labels
    )


def verify_net(folder):
    """What the program writes, of fewer images; the demo's picture is of such rows, too."""
    rows = verify.check("fast", made_images(500), iterations=1)
    rows_of.write_json(f"{folder}/rows.json", rows, 0, None)
    verify.draw(rows, folder / "rows.svg")
    curves = {net: demo.Curve([0, 1], [0.0, 1.0], [1.0], 1.0) for net in ("slow", "fast")}
    demo._draw(Figure, rows, curves, {"slow": "", "fast": ""}, folder / "demo.png")


SCRIPT = """
import numpy as np
w = np.zeros((3072, 100))
for it in range(20):
    print(f"it: {it}, err: {it}.0")
    w += 1
"""


def verify_script(folder):
    """An original script in a process of its own, with scratch files that are nobody's to keep."""
    scratch, script = folder / "tmp", folder / "script.py"
    scratch.mkdir(exist_ok=True)
    tempfile.tempdir = str(scratch)
    script.write_text(SCRIPT)
    few = made_images(500)
    with contextlib.closing(scripts.script_lines("fast", script, few, 0, 9, 60.0, None)) as lines:
        np.save(folder / "lines.npy", [line.error for line, _ in lines])


ARCHIVE = np.random.default_rng(2).bytes(2_000_000)


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(len(ARCHIVE) - start))
        self.send_header("Content-Range", f"bytes {start}-{len(ARCHIVE) - 1}/{len(ARCHIVE)}")
        self.end_headers()
        for place in range(start, len(ARCHIVE), 50_000):
            self.wfile.write(ARCHIVE[place : place + 50_000])
            time.sleep(0.002)

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def server():
    """The address of a server in a process of its own: one with threads would not be forked."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    listening.handle_error = lambda *_: None  # those who ask are killed
    child = os.fork()
    if child == 0:
        try:
            listening.serve_forever()
        finally:
            os._exit(0)
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/archive"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        listening.server_close()


def runs(address):
    """All runs by name: functions of the folder that they write in."""
    found = {
        "SlowNet.fit": fit_slow_net,
        "FastNet.fit": fit_fast_net,
        "slow_net": program(slow_net.main, 20),
        "fast_net": program(fast_net.main, 4),
        "compare": compare_some,
        "Hessian .npy": tensor(2, ".npy"),
        "third .npy": tensor(3, ".npy"),
        "fetch_cifar100": download(address),
        "verify": verify_net,
        "verify a script": verify_script,
    }
    if find_spec("zarr"):
        found["third .zarr"] = tensor(3, ".zarr")
    for name in optimizers.__all__:
        method = getattr(optimizers, name)
        if isinstance(method, type) and optimizers.Optimizer in method.__mro__[1:]:
            found[name] = minimize(method)
    for method in (optimizers.Adam, optimizers.LBFGS, optimizers.TrustRegion):
        found[f"{method.__name__} of a Network"] = minimize(method, case=convolution_case)
    found["SGD on batches of a Network"] = minimize(optimizers.SGD, 7, convolution_case)
    found["Hessian .npy of a Network"] = tensor(2, ".npy", convolution_case)
    for method in (optimizers.SGD, optimizers.Adam, optimizers.KFAC):
        found[f"{method.__name__} on batches"] = minimize(method, 7)
    return found


# Files -------------------------------------------------------------------------------------------


def is_temporary(path):
    return path.name.startswith(".") or ".part" in path.name or path.parent.name == "tmp"


def litter(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if is_temporary(path))


def content(path):
    """What a whole file says but for the seconds that it took; an error if it is damaged."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
        with np.load(path) as members:
            return {name: members[name].tobytes() for name in members if "seconds" not in name}
    if path.suffix == ".npy":
        return np.load(path).tobytes()
    if path.name == "rows.json":
        rows = json.loads(path.read_text())["rows"]
        return [{name: row[name] for name in row if "seconds" not in name} for row in rows]
    if path.suffix == ".json":
        return json.loads(path.read_text())
    data = path.read_bytes()
    if path.suffix == ".png":
        assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
        return None
    if path.suffix == ".svg":
        assert data.rstrip().endswith(b"</svg>")
        return None
    return data


def contents(folder):
    """By name, those that are only on their way to a place left out."""
    return {
        str(path.relative_to(folder)): content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(is_temporary(one) for one in (path, *path.parents))
    }


# A run in a process of its own -------------------------------------------------------------------


def child(run, folder, limit):
    """The exit status of a run, and what it said in the file `log` beside the folder."""
    status = FAILED
    try:
        with open(f"{folder}.log", "wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            # Where it is when it hangs.
            faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        status = run(folder) or RIGHT
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError:
        status = TOLD
        traceback.print_exc()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def attempt(run, folder, seconds=None, number=None, limit=None):
    """How a run ended that may have got a signal after so many seconds: as `os.waitpid` says."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    pid = os.fork()
    if pid == 0:
        child(run, folder, limit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    start = time.monotonic()
    sent = False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        spent = time.monotonic() - start
        if number is not None and not sent and spent >= seconds:
            os.kill(pid, number)
            sent = True
        if spent > PATIENCE:
            # "D" waits for a disk, which is not ours to hurry.
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            os.kill(pid, signal.SIGUSR1)
            time.sleep(1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"hung in state {state}"
        time.sleep(0.0005)


class Kind:
    """One kind of run, and what happened to it."""

    def __init__(self, name, run, place):
        self.name, self.run = name, run
        self.folder, whole = place / "killed", place / "whole"
        whole.mkdir(parents=True)
        start = time.monotonic()
        ended = attempt(run, whole)
        self.seconds = time.monotonic() - start
        assert ended == RIGHT, f"{name} ended with {ended}:\n{self.log(whole)}"
        self.whole, self.left = contents(whole), litter(whole)
        self.largest = max(path.stat().st_size for path in whole.rglob("*") if path.is_file())
        self.space = sum(path.stat().st_size for path in whole.rglob("*"))
        self.kills = self.disks = self.ends = 0
        self.failures = []
        self.anew()

    def log(self, folder):
        return Path(f"{folder}.log").read_text(errors="replace")[-3000:]

    def anew(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def strike(self, generator):
        """Start it once more and end it, in whatever way."""
        number, limit = generator.choices(
            [
                (signal.SIGKILL, None),
                (signal.SIGTERM, None),
                (signal.SIGINT, None),
                (None, generator.randrange(self.largest)),
            ],
            [7, 1, 1, 1],
        )[0]
        seconds = generator.uniform(0, 1.1 * self.seconds)
        ended = attempt(self.run, self.folder, seconds, number, limit)
        self.kills += 1
        what = (
            f"{signal.Signals(number).name} after {seconds:.3f} s" if number else f"{limit} bytes"
        )
        usual = {RIGHT, TOLD if number is None else -number}
        if number == signal.SIGINT:
            usual = {RIGHT, INTERRUPTED}
        as_it_must = self.judge(ended, usual, what)
        self.ends += ended == RIGHT
        if ended == RIGHT or not as_it_must:
            self.anew()

    def judge(self, ended, usual, what, folder=None):
        """Whether what an end left is as it must be."""
        folder = folder or self.folder
        if ended not in usual:
            return self.fail(f"{what}: ended with {ended}:\n{self.log(folder)}")
        try:
            found = contents(folder)
        except Exception as error:
            return self.fail(f"{what}: damaged: {error!r}")
        left = litter(folder)
        if ended == RIGHT:
            for name in sorted({*found} | {*self.whole}):
                if found.get(name) != self.whole.get(name):
                    return self.fail(f"{what}: {name} is not that of a whole run")
            if left != self.left:
                return self.fail(f"{what}: left {left} beside a run that ended")
        elif len(left) > LITTER:
            return self.fail(f"{what}: left {left}")
        return True

    def fail(self, what):
        self.failures.append(what)
        print(f"{self.name}: {what}", flush=True)
        return False

    def fill(self, place, generator):
        """On a disk that is too small, which is then made larger. Mounts are this process's own."""
        disk = place / "disk"
        disk.mkdir(exist_ok=True)
        small = int(self.space * generator.uniform(0, 1.2))
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={small // 4096 + 1}p", "none", disk], check=True
        )
        try:
            if self.judge(attempt(self.run, disk), {RIGHT, TOLD}, f"disk of {small} bytes", disk):
                subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
                self.judge(attempt(self.run, disk), {RIGHT}, f"{small} bytes, then room", disk)
        finally:
            subprocess.run(["umount", disk], check=True)
        self.kills += 1
        self.disks += 1


def can_mount():
    """The command that gives what follows mounts of its own, or None."""
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    mount = "mount -t tmpfs -o size=4k none /tmp"
    try:
        made = subprocess.run([*namespace, "sh", "-c", mount], capture_output=True, check=False)
    except OSError:
        return None
    return namespace if made.returncode == 0 else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="kinds of runs; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="in all")
    parser.add_argument("--kills", type=int, default=100, help="of each kind at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mounts", action="store_true", help="made here are this process's own")
    options = parser.parse_args()
    if not options.mounts:
        if namespace := can_mount():
            command = [*namespace, sys.executable, __file__, *sys.argv[1:], "--mounts"]
            os.execvp(command[0], command)
        print("no disks are filled: that needs mounts of one's own")
    end = time.monotonic() + options.seconds
    generator = random.Random(options.seed)
    _core.set_threads(2)
    with server() as address, tempfile.TemporaryDirectory() as scratch:
        chosen = runs(address)
        if options.names:
            chosen = {name: chosen[name] for name in options.names}
        kinds = [
            Kind(name, run, Path(scratch) / str(number))
            for number, (name, run) in enumerate(chosen.items())
        ]
        while time.monotonic() < end and kinds[-1].kills < options.kills:
            for kind in kinds:
                if time.monotonic() >= end:
                    break
                if options.mounts and generator.random() < 0.1:
                    kind.fill(Path(scratch), generator)
                else:
                    kind.strike(generator)
    for kind in kinds:
        print(
            f"{kind.name:24s} {kind.seconds:6.3f} s, {kind.kills:4d} ends at random, "
            f"{kind.disks:3d} full disks, {kind.ends:3d} whole runs, {len(kind.failures)} failures"
        )
    sys.exit(any(kind.failures for kind in kinds))


if __name__ == "__main__":
    main()
