"""Everything that reads files, on bytes that atheris chooses by what they reach.

    python Tests/fuzz/readers.py TARGET [libFuzzer's arguments]

Targets: pickles, archives, checkpoints, tensors, models (of ONNX). A file that is damaged or
hostile must be one of the exceptions that the documentation promises, in bounded time and memory,
and nothing that it says may be run, nor any file be written or removed. Some of a file's own
checksums are made right, so that what lies behind them is reached too.
"""

import contextlib
import difflib  # noqa: F401 (imported late, by messages, it runs code of its own)
import gzip
import io
import pickle
import resource
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

READERS = ["swiftnets", "tarfile", "zipfile", "numpy.lib._format_impl", "numpy.lib._npyio_impl"]
with atheris.instrument_imports(include=READERS):
    import tarfile
    import zipfile

    import numpy as np

    from swiftnets import MLP, Network, SlowNet, datasets
    from swiftnets._support.checkpoints import CheckpointError
    from swiftnets.curvature import tensors
    from swiftnets.datasets import cifar, forms
    from swiftnets.interop import onnx as _onnx  # noqa: F401 (imported late, it is not watched)
    from swiftnets.nets import Conv2d, CustomActivation, Dense, Flatten, LeakyReLU, Residual
    from swiftnets.optimizers import SGD, Adam
    from swiftnets.optimizers.checkpoints import Identity, read_run
    from swiftnets.optimizers.trials import Limits, Trial
    from swiftnets.originals.checkpoint import Checkpoint
    from swiftnets.problems import Quadratic

try:
    import zarr
except ImportError:
    zarr = None
try:
    import onnx
    import onnx.reference
except ImportError:
    onnx = None

MEMORY = 6 << 30
SCRATCH = Path(tempfile.mkdtemp())
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
FORBIDDEN += ("ctypes.dlopen", "socket.connect", "pickle.find_class")
FORBIDDEN += ("os.remove", "os.rename", "os.rmdir")
WRITES = ("w", "a", "x", "+")


class Ran(BaseException):
    """Something that a file must never lead to."""


armed = False


def watch(event, arguments):
    """An audit hook: what readers have no business with."""
    if not armed:
        return
    if event in FORBIDDEN:
        raise Ran(f"{event} {arguments}")
    if event == "exec" and not Path(arguments[0].co_filename).is_file():  # an import has a file
        raise Ran(f"{event} {arguments}")
    if event == "open" and arguments[1] and any(c in str(arguments[1]) for c in WRITES):
        raise Ran(f"{event} {arguments}")


@contextlib.contextmanager
def reading(*promised):
    """Only exceptions that are promised, and nothing run."""
    global armed
    armed = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except promised:
        pass
    finally:
        armed = False


def put(name, content):
    path = SCRATCH / name
    path.write_bytes(content)
    return path


# Pickles ------------------------------------------------------------------------------------------


def pickles(data):
    """The first byte tells the set, the kind of label, and whether the binary form is read."""
    kind, content = data[0], data[1:]
    of = (forms.CIFAR100, forms.CIFAR10)[kind & 1]
    labels = "coarse" if kind & 2 and kind & 1 == 0 else "fine"
    read = cifar.from_records if kind & 4 else cifar.from_pickle
    with reading(datasets.DatasetError):
        images, found = read(content, of, labels)
        assert images.shape == (len(found), 3072) and images.dtype == np.uint8
        assert found.min() >= 0 and found.max() < of.classes[labels]


def some_pickles():
    images = np.zeros((1, 3072), np.uint8)
    for protocol in (2, 4, 5):
        entries = {b"data": images, b"fine_labels": [7], b"coarse_labels": [1], b"names": [b"a"]}
        yield b"\0" + pickle.dumps(entries, protocol)
        yield b"\1" + pickle.dumps({b"data": images, b"labels": [7]}, protocol)
        small = {b"data": images[:, :8], "text": [True, None, -5, 1 << 40, 1.5], b"labels": (1, ())}
        yield b"\1" + pickle.dumps(small, protocol)
        yield b"\0" + pickle.dumps({b"data": print, b"fine_labels": np.arange(3)}, protocol)
    yield b"\4" + bytes(3074)


# Archives -----------------------------------------------------------------------------------------


def archives(data):
    """The first byte tells whether the rest is packed first: behind gzip's checksum."""
    content = gzip.compress(data[1:], 1) if data[0] & 1 else data[1:]
    path = put("archive.tar.gz", content)
    with reading(datasets.DatasetError):
        datasets.load(path, "coarse" if data[0] & 2 else "fine")


def some_archives():
    pickled = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"fine_labels": [7]}, 2)
    record = bytes(3074)
    sets = (
        {"cifar-100-python/train": pickled, "cifar-100-python/test": pickled},
        {"train.bin": record, "test.bin": record, "long/" * 22 + "name": b"", "ü": b"x"},
        {"train.bin": None, "test.bin": record},
    )
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for files in sets:
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
                for name, content in files.items():
                    member = tarfile.TarInfo(name)
                    if content is None:
                        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                    else:
                        member.size = len(content)
                    archive.addfile(member, content and io.BytesIO(content))
                size = archive.offset + 1024  # of the zeros that follow, these are the end
            yield b"\0" + stream.getvalue()[:size]
            yield b"\1" + stream.getvalue()[:size]
    yield b"\0" + gzip.compress(b"nothing")


# Checkpoints --------------------------------------------------------------------------------------

MEMBERS = ["header", "errs", "corrects", "w0", "w1", "w", "start", "x", "end", "info a"]
COLUMNS = ["loss", "gradient_norm", "seconds", "cost", "accepted"]
MEMBERS += [*COLUMNS, *(f"history {name}" for name in COLUMNS)]
MEMBERS += ["state mean", "state square", "state steps"]
BOWL = Quadratic(np.diag([1.0, 2.0]))
SQUARE = CustomActivation("square", np.square, lambda a: 2 * a)


def packed(data):
    """An .npz of what the bytes tell: for each member its name, two bytes of length, and those."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        while len(data) >= 3:
            name, size = MEMBERS[data[0] % len(MEMBERS)], int.from_bytes(data[1:3], "little")
            archive.writestr(zipfile.ZipInfo(name + ".npy"), data[3 : 3 + size])
            data = data[3 + size :]
    return stream.getvalue()


def unpacked(content):
    """The bytes that `packed` makes such an .npz of."""
    data = b""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            member = archive.read(name)
            data += bytes([MEMBERS.index(name.removesuffix(".npy"))])
            data += len(member).to_bytes(2, "little") + member
    return data


def checkpoints(data):
    """The first byte tells who reads, and whether the rest is put together first."""
    kind = data[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = put("run.npz", packed(data[1:]) if kind & 1 else data[1:])
    with reading(CheckpointError):
        if kind & 8:
            Network.load(path, activations=[SQUARE] if kind & 16 else ())
        elif kind & 6 == 0:
            found = Checkpoint.read(path)
            settings = found.settings
            found.require(path, {**settings, "seed": 3}, 1 << 40)
        elif kind & 6 == 2:
            read_run(path, Identity.of(SGD(), BOWL, np.ones(2)), 3)
        elif kind & 6 == 4:
            read_run(path, Identity.of(Adam(), BOWL, np.ones(2)), 3)
        else:
            trial().kept(path)


def trial():
    limits = Limits(2, None, None, 1e-6)
    return Trial("a", 0, SGD(), BOWL, np.ones(2), limits, None, None)


def some_checkpoints():
    x, y = np.eye(2), np.ones((2, 1))
    path = SCRATCH / "made.npz"
    made = []
    SlowNet(2, 2, 1, seed=0).fit([(x, y)], [(x, y)], iterations=2, checkpoint=path)
    made.append((0, path.read_bytes()))
    for kind, method in ((2, SGD()), (4, Adam())):
        path.unlink()
        method.minimize(BOWL, [1.0, 1.0], max_iterations=2, checkpoint=path)
        made.append((kind, path.read_bytes()))
    path.unlink()
    trial().kept(path)
    made.append((6, path.read_bytes()))
    layers = [Conv2d(1, 1, 2), "tanh", Residual([LeakyReLU(0.1)]), Flatten(), Dense(4, 1)]
    for kind, net in (
        (8, MLP((2, 1), loss="huber")),
        (8, Network(layers, input_shape=(1, 3, 3))),
        (24, MLP((2, 1), output_activation=SQUARE)),
    ):
        net.save(path, net.initial(seed=0))
        made.append((kind, path.read_bytes()))
    for kind, content in made:
        yield bytes([kind]) + content
        yield bytes([kind | 1]) + unpacked(content)


# Tensors ------------------------------------------------------------------------------------------


def tensor(data):
    """The first byte tells the form; two bytes the length of what is beside the tensor."""
    kind, size, data = data[0], int.from_bytes(data[1:3], "little"), data[3:]
    folder = SCRATCH / "tensor"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if kind & 1 and zarr is not None:
        path = folder / "third.zarr"
        (path / "c").mkdir(parents=True)
        middle = int.from_bytes(data[size : size + 2], "little")
        (path / "zarr.json").write_bytes(data[size + 2 : size + 2 + middle])
        (path / "c" / "0").write_bytes(data[size + 2 + middle :])
    else:
        path = folder / "third.npy"
        path.write_bytes(data[size:])
    Path(f"{path}.json").write_bytes(data[:size])
    return path


def read_tensors(data):
    path = tensor(data)
    # A process has bounded memory: what is larger is the system's refusal.
    with reading(ValueError, OSError, MemoryError):
        found = tensors.DerivativeTensor(path)
        count, order = found.parameter_count, found.order
        assert found.shape == (count,) * order and repr(found) and 2 <= order <= 4 and count >= 1
        assert found.dtype in (np.float32, np.float64)
        if count <= 8:
            found[(0,) * order], found[(-1,) * order]
            found.contract(*[np.ones(count)] * order)
            found.contract(*[np.ones(count)] * max(1, order - 2))


def some_tensors():
    from swiftnets import MLP

    net = MLP((1, 1, 1))
    for order, suffix in ((2, ".npy"), (3, ".npy"), (4, ".npy"), (3, ".zarr")):
        if suffix == ".zarr" and zarr is None:
            continue
        path = SCRATCH / f"made{order}{suffix}"
        tensors.compute(net.at([0.5, 0.1, 0.7, 0.2], [[1.0]], [[0.2]]), order=order, path=path)
        beside = Path(f"{path}.json").read_bytes()
        start = bytes([suffix == ".zarr"]) + len(beside).to_bytes(2, "little") + beside
        if suffix == ".npy":
            yield start + path.read_bytes()
        else:
            told = (path / "zarr.json").read_bytes()
            chunk = next(one for one in path.rglob("*") if one.is_file() and one.suffix == "")
            yield start + len(told).to_bytes(2, "little") + told + chunk.read_bytes()


# Models ------------------------------------------------------------------------------------------


def models(data):
    """An ONNX model; nodes that nothing comes of may be any, and the same are never run."""
    path = put("model.onnx", data)
    # A model may ask for arrays that no memory holds, and NumPy says so in a way of its own.
    with reading(ValueError, TypeError, OSError, MemoryError):
        net, w = Network.from_onnx(path)
        assert w.shape == (net.parameter_count,) and np.isfinite(w).all()


def some_models():
    if onnx is None:
        return
    for text in (
        """net (float[N, 2] x) => (float[N, 1] y) <float[2, 1] w = {3, 4}, float[1] b = {1}>
        { h = MatMul (x, w) a = Add (h, b) y = Sigmoid (a) }""",
        """net (double[N, 1, 3, 3] x) => (double[N, 1] y)
        <double[1, 1, 2, 2] w = {3, 4, 1, 2}, double[1, 4] v = {1, 2, 3, 4}, double[1] b = {1}>
        { c = Conv <strides = [1, 1], pads = [0, 0, 0, 0]> (x, w) t = Tanh (c) f = Flatten (t)
          y = Gemm <transB = 1> (f, v, b) }""",
        """net (double[N, 2, 3, 3] x) => (double[N, 2] y)
        <double[2] w = {3, 4}, double[2] b = {1, 2}>
        { n = InstanceNormalization (x, w, b) p = MaxPool <kernel_shape = [2, 2]> (n)
          s = Sigmoid (p) m = Mul (p, s) r = Add (m, p) g = GlobalAveragePool (r)
          y = Flatten (g) }""",
        """net (int64[N, 3] x) => (double[N, 2] y) <double[4, 2] e = {1, 2, 3, 4, 5, 6, 7, 8},
        double[2] w = {1, 1}, double[2] b = {0, 0}>
        { g = Gather (e, x) n = LayerNormalization (g, w, b)
          y = ReduceMean <axes = [1], keepdims = 0> (n) }""",
    ):
        opset = [onnx.helper.make_opsetid("", 17)]
        model = onnx.helper.make_model(onnx.parser.parse_graph(text), opset_imports=opset)
        yield model.SerializeToString()


TARGETS = {
    "pickles": (pickles, some_pickles),
    "archives": (archives, some_archives),
    "checkpoints": (checkpoints, some_checkpoints),
    "tensors": (read_tensors, some_tensors),
    "models": (models, some_models),
}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [libFuzzer's arguments]")
    target, seeds = TARGETS[sys.argv.pop(1)]
    corpus = SCRATCH / "seeds"
    corpus.mkdir()
    for index, seed in enumerate(seeds()):
        (corpus / str(index)).write_bytes(seed)
        target(seed)  # also: what is imported late is there before anything is forbidden
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.addaudithook(watch)
    atheris.Setup([*sys.argv, str(corpus)], lambda data: target(data) if data else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
