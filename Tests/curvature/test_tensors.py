"""swiftnets.curvature.tensors: whole derivative tensors on disk."""

import errno
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from swiftnets import MLP
from swiftnets.curvature import tensors
from swiftnets.curvature.tensors import run, slabs

EPS = np.finfo(float).eps
EMPTY_NPZ = b"PK\5\6" + bytes(18)


def case(seed=0):
    rng = np.random.default_rng(seed)
    net = MLP((2, 3, 2), activation="tanh", reduction="mean", l2=0.1)
    return net, net.initial(seed=seed), rng.standard_normal((5, 2)), rng.standard_normal((5, 2))


def point():
    net, w, x, y = case()
    return net.at(w, x, y)


def dense(net, w, x, y, order):
    """The whole tensor from the net's own products, which other tests hold against differences."""
    e = np.eye(net.parameter_count)
    if order == 2:
        return net.hvp(w, x, y, e)
    if order == 3:
        return np.array([net.at(w, x, y).third(u, e) for u in e])
    return np.array([[net.at(w, x, y).fourth(u, v, e) for v in e] for u in e])


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_entries_and_contractions_are_those_of_the_dense_tensor(order, suffix, tmp_path):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    net, w, x, y = case()
    tensor = tensors.compute(net.at(w, x, y), order=order, path=tmp_path / f"t{suffix}")
    whole = dense(net, w, x, y, order)
    assert tensor.shape == whole.shape and tensor.dtype == np.float64
    # Each order of the indices is a sum over five samples and three layers, rounded on its own.
    scale = 64 * EPS * np.abs(whole).max()
    rng = np.random.default_rng(1)
    for index in rng.integers(-net.parameter_count, net.parameter_count, (40, order)).tolist():
        assert tensor[tuple(index)] == pytest.approx(whole[tuple(index)], abs=scale)
    vectors = rng.standard_normal((order, net.parameter_count))
    for count in range(max(1, order - 2), order + 1):
        expected = whole
        for v in vectors[:count]:
            expected = np.tensordot(v, expected, 1)
        bound = scale * np.prod([np.abs(v).sum() for v in vectors[:count]])
        np.testing.assert_allclose(tensor.contract(*vectors[:count]), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_contractions_with_vectors_of_any_sizes_are_those_of_their_directions(order, tmp_path):
    """Powers of two are exact: vectors times 2ᵃ, 2ᵇ, … give 2ᵃ⁺ᵇ⁺… times as much."""
    net, w, x, y = case()
    tensor = tensors.compute(net.at(w, x, y), order=order, path=tmp_path / "t.npy")
    vectors = np.random.default_rng(2).standard_normal((order, net.parameter_count))
    for count in range(max(1, order - 2), order + 1):
        plain = tensor.contract(*vectors[:count])
        for exponents in itertools.permutations([700, -700, 700, -700][:count]):
            ours = tensor.contract(*np.ldexp(vectors[:count], np.array(exponents)[:, None]))
            np.testing.assert_array_equal(ours, np.ldexp(plain, sum(exponents)))
    assert not np.isfinite(tensor.contract(*[1e300 * vectors[0]] * order))  # without a warning


def test_a_hessian_is_a_plain_square_numpy_file(tmp_path):
    net, w, x, y = case()
    tensors.compute(net.at(w, x, y), order=2, path=tmp_path / "h.npy")
    stored = np.load(tmp_path / "h.npy", mmap_mode="r")
    np.testing.assert_allclose(stored, net.hessian(w, x, y), rtol=0, atol=1e-14)


def test_the_packed_order_is_as_documented(tmp_path):
    from math import comb

    net, w, x, y = case()
    tensors.compute(net.at(w, x, y), order=3, path=tmp_path / "t.npy")
    packed, whole = np.load(tmp_path / "t.npy"), dense(net, w, x, y, 3)
    count = net.parameter_count
    assert packed.shape == (comb(count + 2, 3),)
    for i, j, k in itertools.islice(itertools.product(range(count), repeat=3), 0, None, 7):
        if i >= j >= k:
            place = comb(i + 2, 3) + comb(j + 1, 2) + k
            assert packed[place] == pytest.approx(whole[i, j, k], abs=1e-13)


@pytest.mark.parametrize("order", [2, 3])
def test_one_layer_is_its_part_of_the_whole(order, tmp_path):
    net, w, x, y = case()
    tensor = tensors.compute(net.at(w, x, y), order=order, layer=1, path=tmp_path / "t.npy")
    part = net.layer_slices[1]
    whole = dense(net, w, x, y, order)[(part,) * order]
    assert tensor.shape == whole.shape
    v = np.arange(1.0, len(whole) + 1)
    np.testing.assert_allclose(tensor.contract(v), np.tensordot(v, whole, 1), atol=1e-11)


def test_batches_and_weights_are_taken(tmp_path):
    net, w, x, y = case()
    s = np.arange(1.0, 6)
    whole = tensors.compute(net.at(w, x, y, sample_weight=s), order=2, path=tmp_path / "a.npy")
    pieces = [(x[:2], y[:2], s[:2]), (x[2:], y[2:], s[2:])]
    batches = tensors.compute(net.at(w, pieces), order=2, path=tmp_path / "b.npy")
    np.testing.assert_allclose(batches.contract(w), whole.contract(w), rtol=0, atol=1e-13)


KILLED = """
    import os, signal, sys
    from test_tensors import case
    from swiftnets.curvature import tensors
    from swiftnets.curvature.tensors.run import State
    net, w, x, y = case()
    write, slabs = State.write, []
    def stop(state):
        write(state)
        slabs.append(state.done)
        if len(slabs) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    State.write = stop
    tensors.compute(net.at(w, x, y), order=3, path=sys.argv[1])
"""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tmp_path):
    net, w, x, y = case()
    path = tmp_path / "t.npy"
    folder = os.path.dirname(__file__)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(path)]
    assert subprocess.run(command, env=env).returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="not complete: 4 of 17 slabs"):
        tensors.DerivativeTensor(path)
    tensors.compute(net.at(w, x, y), order=3, path=path)
    tensors.compute(net.at(w, x, y), order=3, path=tmp_path / "whole.npy")
    assert path.read_bytes() == (tmp_path / "whole.npy").read_bytes()


KILLED_ANYWHERE = """
    import os, shutil, signal, sys
    from pathlib import Path
    from test_tensors import case
    from swiftnets.curvature import tensors

    net, w, x, y = case()
    folder = Path(sys.argv[1])
    left = -1

    def hook(event, arguments):
        global left
        if event.split(".")[0] in ("open", "os", "mmap", "fcntl", "shutil"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def compute(name):
        tensors.compute(net.at(w, x, y), order=2, path=folder / name)
        return (folder / name).read_bytes()

    expected = compute("whole.npy")
    sys.addaudithook(hook)
    for moment in range(1, 1000):
        shutil.rmtree(folder / "t", ignore_errors=True)
        (folder / "t").mkdir()
        child = os.fork()
        if child == 0:
            left = moment
            compute("t/t.npy")
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert compute("t/t.npy") == expected, moment
        assert not (folder / "t/.t.npy.part").exists(), moment
        if killed == 0:
            break
        assert killed == -signal.SIGKILL
    print(moment)
"""


def test_a_run_killed_at_any_moment_goes_on(tmp_path):
    """Before its file, between that and its first state, and after: each system call is one."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])}
    command = [sys.executable, "-c", textwrap.dedent(KILLED_ANYWHERE), str(tmp_path)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 20  # moments


def test_what_is_complete_is_opened_and_not_made_again(tmp_path, monkeypatch):
    net, w, x, y = case()
    tensors.compute(net.at(w, x, y), order=2, path=tmp_path / "h.npy")
    monkeypatch.setattr(slabs.Job, "_products", None)
    assert tensors.compute(net.at(w, x, y), order=2, path=tmp_path / "h.npy").order == 2


def test_other_data_do_not_go_on_with_a_file(tmp_path):
    net, w, x, y = case()
    path = tmp_path / "h.npy"
    tensors.compute(net.at(w, x, y), order=2, path=path)
    before = path.read_bytes()
    for changed in [net.at(w + 1, x, y), net.at(w, x + 1, y), MLP((2, 3, 2)).at(w, x, y)]:
        with pytest.raises(FileExistsError, match="another net"):
            tensors.compute(changed, order=2, path=path)
    with pytest.raises(FileExistsError, match="another net"):
        tensors.compute(net.at(w, x, y), order=3, path=path)
    assert path.read_bytes() == before


def test_a_file_of_the_users_is_not_overwritten(tmp_path):
    net, w, x, y = case()
    path = tmp_path / "mine.npy"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="no tensor"):
        tensors.compute(net.at(w, x, y), order=2, path=path)
    assert path.read_text() == "precious"


def test_an_estimate_says_bytes_and_whether_they_fit(tmp_path):
    net, w, x, y = case()
    found = tensors.estimate(net.at(w, x, y), order=4, path=tmp_path / "not" / "there.npy")
    assert found.entries == 17 * 18 * 19 * 20 // 24 and found.bytes == 8 * found.entries
    assert found.fits and found.seconds > 0
    assert "4,845 numbers" in str(found) and "fits" in str(found)


def test_what_does_not_fit_is_refused_with_the_bytes(tmp_path, monkeypatch):
    net, w, x, y = case()
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert not tensors.estimate(net.at(w, x, y), order=2, path=tmp_path).fits
    with pytest.raises(OSError, match=r"needs 2,312 bytes .* 1,000 .* are free"):
        tensors.compute(net.at(w, x, y), order=2, path=tmp_path / "h.npy")
    assert not list(tmp_path.iterdir())
    tensors.compute(net.at(w, x, y), order=2, path=tmp_path / "h.npy", force=True)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"order": 5}, ValueError, "order"),
        ({"order": 2, "path": "h.txt"}, ValueError, r"\.npy or \.zarr"),
        ({"order": 2, "layer": 2}, ValueError, "layer"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words, tmp_path):
    net, w, x, y = case()
    given = {"path": "h.npy", **arguments}
    given["path"] = tmp_path / given["path"]
    with pytest.raises(error, match=words):
        tensors.compute(net.at(w, x, y), **given)


def test_bad_contractions_and_indices_are_named(tmp_path):
    net, w, x, y = case()
    tensor = tensors.compute(net.at(w, x, y), order=3, path=tmp_path / "t.npy")
    with pytest.raises(TypeError, match="0 vectors for order 3; expected from 1 to 3"):
        tensor.contract()
    with pytest.raises(ValueError, match=r"vector 1 has shape \(3,\); expected \(17,\)"):
        tensor.contract(w, np.ones(3))
    with pytest.raises(TypeError, match="expected 3 integers"):
        tensor[0, 1]
    with pytest.raises(ValueError, match="index"):
        tensor[0, 1, 17]


def test_a_tensor_that_is_not_there_or_not_ours_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        tensors.DerivativeTensor(tmp_path / "t.npy")
    (tmp_path / "t.npy.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ValueError, match="format"):
        tensors.DerivativeTensor(tmp_path / "t.npy")


@pytest.mark.parametrize(
    "facts",
    [
        {"order": None},
        {"order": 1e400},
        {"order": 10**9},
        {"count": -1},
        {"count": [3]},
        {"done": "17"},
        {"done": 18},
    ],
)
def test_damaged_facts_beside_a_tensor_are_named(facts, tmp_path):
    path = tmp_path / "t.npy"
    tensors.compute(point(), order=3, path=path)
    beside = tmp_path / "t.npy.json"
    told = json.loads(beside.read_text())
    beside.write_text(json.dumps({**told, **facts}))
    with pytest.raises(ValueError, match=r"t\.npy\.json' is damaged"):
        tensors.DerivativeTensor(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '"format"', "{}", "\0"])
def test_facts_of_another_form_are_refused(text, tmp_path):
    path = tmp_path / "t.npy"
    tensors.compute(point(), order=3, path=path)
    (tmp_path / "t.npy.json").write_text(text)
    with pytest.raises(ValueError, match=r"t\.npy\.json' is not of the format"):
        tensors.DerivativeTensor(path)
    with pytest.raises(FileExistsError, match="not what compute"):
        tensors.compute(point(), order=3, path=path)


def test_numbers_of_another_type_are_refused(tmp_path):
    path = tmp_path / "t.npy"
    tensors.compute(point(), order=3, path=path)
    np.save(path, np.zeros(969, "V8"))
    with pytest.raises(ValueError, match=r"holds \|V8; expected float32 or float64"):
        tensors.DerivativeTensor(path)


def some_zarr(folder):
    pytest.importorskip("zarr")
    path = folder / "t.zarr"
    return path, tensors.compute(point(), order=3, path=path)


def test_a_zarr_store_that_unpickles_is_not_opened(tmp_path, monkeypatch):
    """Zarr lets a store name any codec: numcodecs' older versions run what this one says."""
    path, _ = some_zarr(tmp_path)
    pickles = pytest.importorskip("numcodecs.pickles")
    monkeypatch.setattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    ran = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    (path / "zarr.json").unlink()
    filters = [{"id": "vlen-bytes"}, {"id": "pickle"}]
    told = {"zarr_format": 2, "shape": [969], "chunks": [969], "dtype": "|O", "order": "C"}
    told |= {"compressor": None, "fill_value": "", "filters": filters}
    (path / ".zarray").write_text(json.dumps(told))
    (path / "0").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises((ValueError, FileNotFoundError), match=r"t\.zarr"):
        tensors.DerivativeTensor(path)[0, 0, 0]
    assert not ran.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}]},
        {"codecs": None},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1 << 40]}}},
        {"shape": [1 << 40]},
        {"zarr_format": 2},
    ],
)
def test_a_zarr_store_of_another_form_is_refused(change, tmp_path):
    path, _ = some_zarr(tmp_path)
    told = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(ValueError, match=r"t\.zarr' is damaged or no tensor"):
        tensors.DerivativeTensor(path)


def test_a_damaged_part_of_a_zarr_store_is_named(tmp_path):
    path, tensor = some_zarr(tmp_path)
    part = path / "c" / "0"
    content = bytearray(part.read_bytes())
    content[len(content) // 2 :] = b"?" * (len(content) - len(content) // 2)
    part.write_bytes(content)
    for read in (lambda: tensor[0, 0, 0], lambda: tensor.contract(np.ones(17))):
        with pytest.raises(ValueError, match=r"t\.zarr' is damaged"):
            read()


@pytest.mark.parametrize(
    "damage", [b"", b"\x93NUMPY", b"x" * 4000, -8, b"\x93NUMPY\1\0\2\0{\n", EMPTY_NPZ]
)
def test_a_damaged_file_is_named_and_kept(damage, tmp_path):
    net, w, x, y = case()
    path = tmp_path / "t.npy"
    tensors.compute(net.at(w, x, y), order=3, path=path)
    left = path.read_bytes()[:damage] if isinstance(damage, int) else damage
    path.write_bytes(left)
    with pytest.raises(ValueError, match=r"t\.npy' is damaged or no tensor"):
        tensors.DerivativeTensor(path)
    with pytest.raises(FileExistsError, match=r"t\.npy' is damaged .* choose another path"):
        tensors.compute(net.at(w, x, y), order=3, path=path)
    assert path.read_bytes() == left


def test_another_tensors_file_under_the_name_is_refused(tmp_path):
    net, w, x, y = case()
    path = tmp_path / "t.npy"
    tensors.compute(net.at(w, x, y), order=3, path=path)
    np.save(path, np.zeros(7))
    with pytest.raises(ValueError, match=r"holds 7 numbers; expected the 969 "):
        tensors.DerivativeTensor(path)


def test_room_on_the_disk_is_taken_before_the_work(tmp_path, monkeypatch):
    """A page of a sparse file that finds the disk full would kill the process."""
    net, w, x, y = case()
    path = tmp_path / "t.npy"

    def stop(store):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "flush", stop)
        with pytest.raises(KeyboardInterrupt):
            tensors.compute(net.at(w, x, y), order=4, path=path)
    found = path.stat()
    assert found.st_size > 8 * 4096 and 512 * found.st_blocks >= found.st_size

    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device: .*new\.npy"):
        tensors.compute(net.at(w, x, y), order=4, path=tmp_path / "new.npy", force=True)
    assert not [name for name in os.listdir(tmp_path) if "new" in name]


def test_what_zarr_leaves_of_a_chunk_that_was_being_written_is_removed(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    net, w, x, y = case()
    path = tmp_path / "t.zarr"

    def stop(store):
        (path / "c" / ".0123.partial").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "flush", stop)
        with pytest.raises(KeyboardInterrupt):
            tensors.compute(net.at(w, x, y), order=3, path=path)
    tensors.compute(net.at(w, x, y), order=3, path=path)
    assert not [*path.rglob("*.partial")]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_contraction_that_overflows_shows_it_without_a_warning(order, tmp_path):
    net, w, x, y = case()
    tensor = tensors.compute(net.at(w, x, y), order=order, path=tmp_path / "t.npy")
    vectors = [np.full(net.parameter_count, 1e308)] * order
    assert not np.isfinite(tensor.contract(*vectors))


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_two_calls_at_one_path_do_not_mix(suffix, tmp_path, monkeypatch):
    """The second would replace the file that the first goes on to fill, and leave zeros in it."""
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    net, w, x, y = case()
    path = tmp_path / f"t{suffix}"
    create, flush, refused = run.create, run.flush, []

    def second(*given):
        monkeypatch.undo()
        with pytest.raises(FileExistsError, match="being computed by another call") as caught:
            tensors.compute(net.at(w, x, y), order=3, path=path)
        refused.append(caught)
        return given

    for name, real in (("create", create), ("flush", flush)):
        monkeypatch.setattr(run, name, lambda *given, real=real: real(*second(*given)))
        tensor = tensors.compute(net.at(w, x, y), order=3, path=path)
        assert np.allclose(tensor.contract(w, w), net.at(w, x, y).third(w, w))
        path = tmp_path / f"u{suffix}"
    assert len(refused) == 2
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
