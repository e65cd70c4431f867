"""What runs and files are told apart by: to the last bit, in words, and whatever killed a run."""

import dataclasses
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from swiftnets import MLP, FastNet, SlowNet, optimizers
from swiftnets._support import identity
from swiftnets._support.checkpoints import write_archive
from swiftnets.curvature import tensors
from swiftnets.nets.activations import LeakyReLU
from swiftnets.nets.losses import Huber
from swiftnets.optimizers import SGD, Adam, Optimizer, StepResult, checkpoints
from swiftnets.optimizers.comparison import compare
from swiftnets.problems import (
    Counted,
    LinearRegression,
    Minibatches,
    NetProblem,
    Problem,
    Quadratic,
    Rosenbrock,
)
from swiftnets.slow_net import CheckpointError

NET = {"activation": LeakyReLU(0.1), "loss": Huber(0.7), "l2": 0.3}
ALIKE = {  # alike to six digits and to the last but one
    "loss": [Huber(0.7000001), Huber(np.nextafter(0.7, 1))],
    "activations": [LeakyReLU(0.1000001), LeakyReLU(np.nextafter(0.1, 1))],
    "l2": [0.3000001, np.nextafter(0.3, 1)],
}


def net(**options):
    return MLP((2, 3, 1), **NET | options)


def data():
    random = np.random.default_rng(0)
    return random.normal(size=(6, 2)), random.normal(size=(6, 1))


def nets_alike():
    for name, values in ALIKE.items():
        for value in values:
            yield name, net(**{"activation" if name == "activations" else name: value})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.npz"


# Settings -----------------------------------------------------------------------------------------


def test_nets_that_differ_in_one_bit_do_not_go_on_with_each_others_files(tmp_path, path):
    x, y = data()
    w = net().initial(seed=0)
    options = {"max_iterations": 2, "checkpoint": path}
    SGD().minimize(NetProblem(net(), x, y), w, **options)
    compare(
        NetProblem(net(), x, y), {"SGD": SGD()}, [w], max_iterations=2, folder=tmp_path / "runs"
    )
    tensors.compute(net().at(w, x, y), order=2, path=tmp_path / "h.npy")
    for name, other in nets_alike():
        problem = NetProblem(other, x, y)
        with pytest.raises(CheckpointError, match=f"problem's net's {name} is .* there"):
            SGD().minimize(problem, w, **options)
        with pytest.raises(CheckpointError, match=f"problem's net's {name} is .* there"):
            compare(problem, {"SGD": SGD()}, [w], max_iterations=2, folder=tmp_path / "runs")
        with pytest.raises(FileExistsError, match=f"net's {name} is .* there"):
            tensors.compute(other.at(w, x, y), order=2, path=tmp_path / "h.npy")


def test_settings_come_back_equal_from_json_and_differ_in_the_last_bit():
    x, y = data()
    things = [
        NetProblem(net(), x, y),
        Minibatches(net(), x, y, batch_size=2, seed=3),
        LinearRegression(x, y[:, 0], 0.1),
        Quadratic(np.eye(2)),
        net(),
        *(getattr(optimizers, n)() for n in ("KFAC", "LBFGS", "SaddleFreeNewton", "Newton")),
        Adam(learning_rate=np.float32(0.1), beta1=1 / 3),
        {"a": (1, 2.5, None, np.True_, np.int8(3)), "b": [np.arange(3)], "c": len},
    ]
    for thing in things:
        told = identity.settings(thing)
        assert json.loads(json.dumps(told)) == told
        assert not list(identity.differences(json.loads(json.dumps(told)), told))
    for one, other in ((0.1, np.nextafter(0.1, 1)), (0.0, 5e-324), (1e300, np.inf)):
        assert list(identity.differences(identity.settings(one), identity.settings(other)))
    nan = identity.settings(float("nan"))
    assert not list(identity.differences(json.loads(json.dumps(nan)), nan))


SAID = """
import json
from test_run_identity import net, data
from swiftnets._support import identity
from swiftnets.problems import Minibatches
print(json.dumps(identity.settings(Minibatches(net(), *data(), batch_size=2))))
"""


def test_settings_are_the_same_in_another_process():
    folder = os.path.dirname(__file__)
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    done = subprocess.run([sys.executable, "-c", SAID], env=env, capture_output=True, text=True)
    here = identity.settings(Minibatches(net(), *data(), batch_size=2))
    assert json.loads(done.stdout) == here, done.stderr


def test_hashes_tell_dtypes_shapes_and_places_apart():
    a = np.arange(6.0)
    some = [
        [a], [a.reshape(2, 3)], [a.reshape(3, 2)], [a[::-1]], [a.astype(np.float32)],
        [a.view(np.int64)], [a[:3], a[3:]], [a, None], [None, a], [], [a[:0]], [a[:0], a[:0]],
    ]  # fmt: skip
    assert len({identity.digest(arrays) for arrays in some}) == len(some)
    assert identity.digest([a.reshape(2, 3).T]) == identity.digest([a.reshape(2, 3).T.copy()])


# Data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["whole", "minibatches", "loader"])
def test_permuted_and_slightly_changed_data_make_another_run(kind, path):
    x, y = data()
    s = np.arange(1.0, 7)
    order = [1, 0, 2, 3, 4, 5]
    nearly = [a.copy() for a in (x, y, s)]
    for a in nearly:
        a[-1] = np.nextafter(a[-1], 99)

    def problem(x=x, y=y, s=s):
        if kind == "whole":
            return NetProblem(net(), x, y, sample_weight=s)
        if kind == "loader":
            return NetProblem(net(), [(x[:4], y[:4], s[:4]), (x[4:], y[4:], s[4:])])
        return Minibatches(net(), x, y, batch_size=2, sample_weight=s)

    w = net().initial(seed=0)
    first = SGD().minimize(problem(), w, max_iterations=2, checkpoint=path)
    for changed in (
        problem(x[order], y[order], s[order]),
        problem(x=nearly[0]),
        problem(y=nearly[1]),
        problem(s=nearly[2]),
    ):
        with pytest.raises(CheckpointError, match="problem's samples: other data"):
            SGD().minimize(changed, w, max_iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="w: other data"):
        SGD().minimize(problem(), np.nextafter(w, 9), max_iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="samples.*other data|problem is "):
        SGD().minimize(NetProblem(net(), x, y), w, max_iterations=2, checkpoint=path)
    problem_again = Counted(problem()) if kind == "whole" else problem()
    again = SGD().minimize(problem_again, w, max_iterations=2, checkpoint=path)
    np.testing.assert_array_equal(again.w, first.w)


def test_going_on_asks_for_no_loss(path, monkeypatch):
    """So that a machine that rounds otherwise finds the run to be the same."""
    problem, w = NetProblem(net(), *data()), net().initial(seed=0)
    SGD().minimize(problem, w, max_iterations=2, checkpoint=path)
    monkeypatch.setattr(checkpoints, "fingerprint", None)
    assert len(SGD().minimize(problem, w, max_iterations=4, checkpoint=path).history) == 4


@pytest.mark.parametrize("make", [lambda: SlowNet(6, 7, 5, seed=1), lambda: FastNet(6, 5, seed=1)])
@pytest.mark.parametrize("which", ["train_pairs", "test_pairs"])
def test_the_two_nets_know_permuted_and_slightly_changed_data(make, which, path):
    random = np.random.default_rng(2)
    pairs = [(random.normal(size=(4, 6)), np.eye(5)[[0, 1, 2, k]]) for k in range(2)]
    given = {"train_pairs": pairs, "test_pairs": pairs}
    make().fit(**given, checkpoint=path)
    (xs, ys), last = pairs
    order = [1, 0, 2, 3]
    nearly = xs.copy()
    nearly[0, 0] = np.nextafter(nearly[0, 0], 9)
    for changed in ([(xs[order], ys[order]), last], [last, (xs, ys)], [(nearly, ys), last]):
        with pytest.raises(CheckpointError, match=f"{which}: other data"):
            make().fit(**given | {which: changed}, checkpoint=path)
    make().fit(**given, checkpoint=path)


@pytest.mark.parametrize(
    "make",
    [
        lambda w: SlowNet(6, 7, 5, seed=1, w1=np.full((6, 7), w)),
        lambda w: FastNet(6, 5, seed=1, w=np.full((6, 5), w)),
    ],
)
def test_the_two_nets_know_the_weights_that_were_given_to_them(make, path):
    random = np.random.default_rng(2)
    pairs = [(random.normal(size=(4, 6)), np.eye(5)[[0, 1, 2, 3]])] * 3
    whole = make(0.5)
    expected = whole.fit(pairs, epochs=2).errs
    net = make(0.5)
    net.fit(pairs, epochs=2, iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="weights: other data"):
        make(np.nextafter(0.5, 1)).fit(pairs, epochs=2, checkpoint=path)
    # The net that was stopped, one with the same start, a copy, and one whose weights were drawn.
    plain = SlowNet(6, 7, 5) if isinstance(net, SlowNet) else FastNet(6, 5)
    for other in (net, make(0.5), pickle.loads(pickle.dumps(make(0.5))), plain):
        np.testing.assert_array_equal(other.fit(pairs, epochs=2, checkpoint=path).errs, expected)


def test_a_projecting_net_knows_its_images_and_not_their_rounded_projections(path, monkeypatch):
    random = np.random.default_rng(2)
    pairs = [(random.normal(size=(4, 9)), np.eye(5)[[0, 1, 2, 3]])]
    SlowNet(6, 7, 5, seed=1).fit(pairs, iterations=1, epochs=2, checkpoint=path)
    shaper = SlowNet._shaper

    def otherwise(self, pixels, seed):  # another machine's product
        return np.nextafter(shaper(self, pixels, seed), 9)

    monkeypatch.setattr(SlowNet, "_shaper", otherwise)
    history = SlowNet(6, 7, 5, seed=1).fit(pairs, epochs=2, checkpoint=path)
    assert len(history.errs) == 2


# Problems and optimisers of one's own ------------------------------------------------------------


class Bowl(Problem):
    """½ a w²; says nothing of a."""

    parameter_count = 1

    def __init__(self, a):
        self.a = a

    def loss_and_gradient(self, w):
        return float(self.a * w[0] ** 2 / 2), self.a * np.asarray(w)


class Told(Bowl):
    def settings(self):
        return {"a": self.a}


class Inheriting(NetProblem):
    """A penalty more, that the settings which it inherits do not know."""

    a = 0.0

    def loss_and_gradient(self, w):
        loss, gradient = super().loss_and_gradient(w)
        return loss + self.a * float(w @ w), gradient + 2 * self.a * w


def test_own_problems_are_known_by_their_settings_or_else_their_start(path):
    slightly = 1 + 1e-9
    SGD().minimize(Bowl(1.0), [1.0], max_iterations=2, checkpoint=path)
    SGD().minimize(Bowl(slightly), [1.0], max_iterations=2, checkpoint=path)  # as documented
    with pytest.raises(CheckpointError, match="problem: other data, as its loss"):
        SGD().minimize(Bowl(1.1), [1.0], max_iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="problem is Bowl there and Told here"):
        SGD().minimize(Told(1.0), [1.0], max_iterations=2, checkpoint=path)
    path.unlink()
    SGD().minimize(Told(1.0), [1.0], max_iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="problem's a is 1.0 there and 1.000000001 here"):
        SGD().minimize(Told(slightly), [1.0], max_iterations=2, checkpoint=path)
    path.unlink()
    problem, w = Inheriting(net(), *data()), net().initial(seed=0)
    SGD().minimize(problem, w, max_iterations=2, checkpoint=path)
    problem.a = 0.5
    with pytest.raises(CheckpointError, match="problem: other data, as its loss"):
        SGD().minimize(problem, w, max_iterations=2, checkpoint=path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(Optimizer):
    rate: float = 0.1
    scale: np.ndarray | None = None

    def step(self, problem, w, state):
        loss, gradient = problem.loss_and_gradient(w)
        return StepResult(w - self.rate * self.scale * gradient, loss, 1.0, state)


def test_own_optimizers_are_known_by_their_fields_arrays_by_their_numbers(path):
    scale = np.ones(2000)  # whose repr leaves out what is in the middle
    SGD().minimize(Quadratic(np.eye(2000)), scale, max_iterations=1)
    Own(scale=scale).minimize(Quadratic(np.eye(2000)), scale, max_iterations=1, checkpoint=path)
    other = scale.copy()
    other[1000] = 2
    with pytest.raises(CheckpointError, match="optimizer's scale: other data"):
        Own(scale=other).minimize(Quadratic(np.eye(2000)), scale, max_iterations=1, checkpoint=path)


class Loose(Optimizer):
    """No dataclass, and with something that it is made of."""

    def __init__(self, rate):
        self.rate = rate

    def step(self, problem, w, state):
        loss, gradient = problem.loss_and_gradient(w)
        return StepResult(w - self.rate * gradient, loss, 1.0, state)


class Plain(Loose):
    def __init__(self):
        pass

    rate = 0.1


class Explicit(Loose):
    def settings(self):
        return {"version": 7, "rate": self.rate}


def test_what_tells_no_settings_has_no_checkpoints_and_says_so_before_the_first_step(path):
    bowl, start = Quadratic(np.eye(2)), [1.0, 1.0]
    assert len(Loose(0.1).minimize(bowl, start, max_iterations=2).history) == 2
    with pytest.raises(TypeError, match="Loose, which is no dataclass and has no settings"):
        Loose(0.1).minimize(bowl, start, max_iterations=2, checkpoint=path)
    with pytest.raises(TypeError, match="optimizer's scale is of type Generator; expected what"):
        Own(scale=np.random.default_rng(0)).minimize(bowl, start, checkpoint=path)
    assert not path.exists()
    Plain().minimize(bowl, start, max_iterations=2, checkpoint=path)
    path.unlink()
    Explicit(0.1).minimize(bowl, start, max_iterations=2, checkpoint=path)
    with pytest.raises(CheckpointError, match="optimizer's rate is 0.1 there and 0.2 here"):
        Explicit(0.2).minimize(bowl, start, max_iterations=2, checkpoint=path)


def test_settings_have_a_version_that_tells_runs_apart(path, monkeypatch):
    for name in optimizers.__all__:
        kind = getattr(optimizers, name)
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer:
            fields = {one.name for one in dataclasses.fields(kind)}
            assert kind().settings().keys() == {"version"} | fields
    bowl, start = Quadratic(np.eye(2)), [1.0, 1.0]
    SGD().minimize(bowl, start, max_iterations=2, checkpoint=path)
    monkeypatch.setattr(SGD, "settings_version", 2)
    with pytest.raises(CheckpointError, match="optimizer's version is 1 there and 2 here"):
        SGD().minimize(bowl, start, max_iterations=2, checkpoint=path)
    monkeypatch.undo()
    x, y = data()
    for problem in (bowl, Rosenbrock(2), LinearRegression(x, y[:, 0]), NetProblem(net(), x, y),
                    Minibatches(net(), x, y, batch_size=2)):  # fmt: skip
        assert problem.settings()["version"] == 1


def test_a_problem_is_not_known_by_what_its_repr_shows(path):
    class Shown(Bowl):
        text = "one"

        def __repr__(self):
            return self.text

    SGD().minimize(Shown(1.0), [1.0], max_iterations=2, checkpoint=path)
    other = Shown(1.0)
    other.text = "another"
    assert len(SGD().minimize(other, [1.0], max_iterations=3, checkpoint=path).history) == 3


# Files of other kinds and versions ----------------------------------------------------------------


def files(tmp_path):
    """One of each kind, and how to go on with it."""
    pairs = [(np.eye(6)[:4], np.eye(5)[:4])]
    bowl = Quadratic(np.eye(2))

    def comparison(path):
        folder = path.with_suffix(".runs")
        name = "SGD-3a14761a-0.npz"
        folder.mkdir(exist_ok=True)
        if path.exists():
            (folder / name).write_bytes(path.read_bytes())
        try:
            compare(bowl, {"SGD": SGD()}, [[1.0, 1.0]], max_iterations=2, folder=folder)
        finally:
            path.write_bytes((folder / name).read_bytes())

    ways = {
        "a SlowNet's or FastNet's checkpoint": lambda path: SlowNet(6, 7, 5, seed=1).fit(
            pairs, checkpoint=path
        ),
        "an optimizer's checkpoint": lambda path: SGD().minimize(
            bowl, [1.0, 1.0], max_iterations=2, checkpoint=path
        ),
        r"a run of compare\(\)": comparison,
    }
    for number, (name, go_on) in enumerate(ways.items()):
        path = tmp_path / f"{number}.npz"
        go_on(path)
        yield name, go_on, path


def test_files_of_another_kind_are_told_by_name_and_kept(tmp_path):
    made = list(files(tmp_path))
    for name, _, path in made:
        content = path.read_bytes()
        for other, go_on, _ in made:
            if other == name:
                go_on(path)
                continue
            with pytest.raises(CheckpointError, match=f"is {name}, not {other}; choose another"):
                go_on(path)
        assert path.read_bytes() == content


def test_a_member_that_a_damaged_directory_hides_is_missed(tmp_path):
    """No checksum covers an archive's directory: a flipped bit can shorten it."""

    def adam(path):
        Adam().minimize(Quadratic(np.eye(2)), [1.0, 1.0], max_iterations=2, checkpoint=path)

    adam(tmp_path / "adam.npz")
    for _, go_on, path in [*files(tmp_path), ("", adam, tmp_path / "adam.npz")]:
        with np.load(path) as members:
            *kept, last = dict(members).items()
        np.savez(path, **dict(kept))
        with pytest.raises(CheckpointError, match=f"is damaged .*without {last[0]}"):
            go_on(path)


def test_files_of_an_older_version_are_refused_in_words(tmp_path):
    for _, go_on, path in files(tmp_path):
        with np.load(path) as file:
            arrays = dict(file)
        header = json.loads(arrays.pop("header").tobytes())
        now = header["version"]
        write_archive(path, header["format"], now - 1, {"of": "then"}, arrays)
        content = path.read_bytes()
        said = rf"is of version {now - 1}; this swiftnets reads {now}, as versions .* remove it"
        with pytest.raises(CheckpointError, match=said):
            go_on(path)
        assert path.read_bytes() == content


def test_an_older_tensor_is_read_but_not_gone_on_with(tmp_path):
    point = net().at(net().initial(seed=0), *data())
    path, sidecar = tmp_path / "h.npy", tmp_path / "h.npy.json"
    whole = tensors.compute(point, order=2, path=path)
    facts = json.loads(sidecar.read_text())
    old = {"format": "swiftnets derivative tensor 1", "order": 2, "count": facts["count"],
           "layer": None, "fingerprint": "0" * 64, "done": facts["done"]}  # fmt: skip
    sidecar.write_text(json.dumps(old))
    v = np.ones(facts["count"])
    np.testing.assert_array_equal(tensors.DerivativeTensor(path).contract(v), whole.contract(v))
    with pytest.raises(FileExistsError, match="format 'swiftnets derivative tensor 1'.*Deriv"):
        tensors.compute(point, order=2, path=path)
    sidecar.write_text("{")
    with pytest.raises(FileExistsError, match=r"json' is not what compute\(\) writes"):
        tensors.compute(point, order=2, path=path)


# Kills --------------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np
    from test_run_identity import data, net
    from swiftnets.curvature import tensors
    from swiftnets.curvature.tensors import run
    kind, path = sys.argv[1:]
    kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if kind == "before the state":
        run.State.write = kill
    elif kind == "after the state":
        write = run.State.write
        run.State.write = lambda state: (write(state), kill())
    else:
        run.create = kill
    tensors.compute(net().at(net().initial(seed=0), *data()), order=3, path=path)
"""


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("before the file", ".npy"),
        ("before the state", ".npy"),
        ("after the state", ".npy"),
        ("after the state", ".zarr"),
    ],
)
def test_a_tensor_killed_at_its_creation_is_begun_again(kind, suffix, tmp_path):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    folder, path = os.path.dirname(__file__), tmp_path / f"t{suffix}"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), kind, str(path)]
    for _ in range(1 if suffix == ".zarr" else 2):
        assert subprocess.run(command, env=env).returncode == -signal.SIGKILL
    point = net().at(net().initial(seed=0), *data())
    found = tensors.compute(point, order=3, path=path)
    whole = tensors.compute(point, order=3, path=tmp_path / "whole.npy")
    np.testing.assert_array_equal(found.contract(point.w), whole.contract(point.w))
    names = {path.name, f"{path.name}.json", "whole.npy", "whole.npy.json"}
    assert names == {*os.listdir(tmp_path)}


FIRST = """
    import os, signal, sys
    import numpy as np
    from swiftnets import SlowNet
    from swiftnets.optimizers import SGD
    from swiftnets.problems import Quadratic
    os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[1] == "optimizer":
        SGD().minimize(Quadratic(np.eye(2)), [1.0, 1.0], max_iterations=2, checkpoint=sys.argv[2])
    else:
        SlowNet(6, 7, 5, seed=1).fit([(np.eye(6)[:4], np.eye(5)[:4])], checkpoint=sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["optimizer", "net"])
def test_a_run_killed_while_it_writes_its_first_checkpoint_starts_again(kind, path):
    command = [sys.executable, "-c", textwrap.dedent(FIRST), kind, str(path)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=env).returncode == -signal.SIGKILL
    assert not path.exists()
    if kind == "optimizer":
        SGD().minimize(Quadratic(np.eye(2)), [1.0, 1.0], max_iterations=2, checkpoint=path)
    else:
        SlowNet(6, 7, 5, seed=1).fit([(np.eye(6)[:4], np.eye(5)[:4])], checkpoint=path)
    assert path.exists()


class InPlace(Problem):
    """w·w / 2, by a method that writes on w."""

    parameter_count = 2

    def loss_and_gradient(self, w):
        loss, gradient = float(w @ w) / 2, w.copy()
        w[...] = 7.0
        return loss, gradient


def test_a_start_is_known_as_it_was_before_a_problem_wrote_on_it(tmp_path):
    SGD().minimize(InPlace(), [1.0, 2.0], max_iterations=2, checkpoint=tmp_path / "run")
    # Loss, gradient's norm and ‖w‖ are those of the other start.
    with pytest.raises(CheckpointError, match="w: other data"):
        SGD().minimize(InPlace(), [2.0, 1.0], max_iterations=4, checkpoint=tmp_path / "run")
