"""swiftnets.datasets: every published form gives the same arrays, and no file, however made, does
more than raise a DatasetError. Downloads are from a server in this process."""

import builtins
import gzip
import hashlib
import io
import os
import pickle
import runpy
import struct
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftnets.datasets import (
    DatasetError,
    FetchError,
    cifar,
    fetch,
    fetch_cifar100,
    files,
    forms,
    load,
    pickles,
    pixels,
)

# The embedded sample ------------------------------------------------------------------------------


def test_the_sample_is_balanced_and_in_cifar_layout():
    data = load()
    assert (data.name, data.classes) == ("Fashion-MNIST sample", 10)
    for images, labels, each in (
        (data.train_images, data.train_labels, 500),
        (data.test_images, data.test_labels, 100),
    ):
        assert images.shape == (10 * each, 3072) and images.dtype == np.uint8
        assert labels.dtype == np.int64 and np.bincount(labels).tolist() == [each] * 10
        planes = images.reshape(-1, 3, 32, 32)
        assert (planes == planes[:, :1]).all()
        frame = planes.copy()
        frame[:, :, 2:30, 2:30] = 0
        assert not frame.any()
        assert images.flags.writeable and labels.flags.writeable
    everything = np.concatenate([data.train_images, data.test_images])
    assert len(np.unique(everything, axis=0)) == len(everything)


def test_the_sample_is_what_its_script_takes_from_the_debian_package():
    script = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "make_sample.py"))
    folder = Path(script["DEBIAN"])
    if not folder.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load()
    for name, count, images, labels in (
        ("train", 500, data.train_images, data.train_labels),
        ("t10k", 100, data.test_images, data.test_labels),
    ):
        grey, classes = script["first_of_each_class"](folder, name, count)
        np.testing.assert_array_equal(images.reshape(-1, 3, 32, 32)[:, 1, 2:30, 2:30], grey)
        np.testing.assert_array_equal(labels, classes)


def test_the_notice_of_the_sample_is_there():
    notice = Path(__file__).resolve().parents[2] / "licenses" / "Fashion-MNIST.txt"
    text = notice.read_text(encoding="utf-8")
    assert "Zalando" in text and "Permission is hereby granted" in text


def test_two_loads_do_not_share_memory():
    first, second = load(), load()
    assert not np.shares_memory(first.train_images, second.train_images)


def test_loading_the_sample_imports_neither_the_engine_nor_the_network():
    code = (
        "import sys; from swiftnets import datasets; datasets.load(); "
        "assert not {'swiftnets._core', 'tqdm', 'http.client', 'urllib.request'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pixels_are_exact():
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    scaled = pixels(images)
    assert scaled.dtype == np.float64 and scaled.shape == images.shape
    np.testing.assert_array_equal((scaled + 0.5) * 256, images)
    with pytest.raises(TypeError, match="images has dtype float64; expected uint8"):
        pixels(scaled)


# The published forms -----------------------------------------------------------------------------


def operation(code, size, content):
    return code + len(content).to_bytes(size, "little") + content


def python2_pickle(entries):
    """The bytes that Python 2's cPickle writes at protocol 2: strings without an encoding, every
    container and string remembered, lists in parts of 1000."""
    remembered = 0

    def put():
        nonlocal remembered
        remembered += 1
        return (
            b"q" + bytes([remembered]) if remembered < 256 else b"r" + struct.pack("<I", remembered)
        )

    def value(item):
        if isinstance(item, bytes):
            return (
                operation(b"U", 1, item) if len(item) < 256 else operation(b"T", 4, item)
            ) + put()
        if isinstance(item, int):
            for code, form in ((b"K", "<B"), (b"M", "<H"), (b"J", "<i")):
                try:
                    return code + struct.pack(form, item)
                except struct.error:
                    continue
            return operation(b"\x8a", 1, item.to_bytes(9, "little", signed=True))
        if isinstance(item, list):
            parts = [b"]" + put()]
            for start in range(0, len(item), 1000):
                parts.append(b"(" + b"".join(map(value, item[start : start + 1000])) + b"e")
            return b"".join(parts)
        shape = b"".join(value(size) for size in item.shape)
        shape += {1: b"\x85", 2: b"\x86"}[item.ndim] + put()
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n"
            + (put() + b"cnumpy\nndarray\n" + put() + b"K\x00\x85" + value(b"b") + b"\x87" + put())
            + (b"R" + put() + b"(K\x01" + shape + b"cnumpy\ndtype\n" + put())
            + (value(item.dtype.str[1:].encode()) + b"K\x00K\x01\x87" + put() + b"R" + put())
            + (b"(K\x03" + value(item.dtype.str[:1].encode()) + b"NNNJ\xff\xff\xff\xff")
            + (b"J\xff\xff\xff\xffK\x00t" + put() + b"b\x89" + value(item.tobytes()))
            + (b"t" + put() + b"b")
        )

    body = b"".join(value(key) + value(item) for key, item in entries.items())
    return b"\x80\x02}" + put() + b"(" + body + b"u."


def columns(labels):
    return {b"fine_labels": labels.tolist(), b"coarse_labels": (labels // 5).tolist()}


def python100(images, labels):
    names = [b"image_%d.png" % i for i in range(len(images))]
    return python2_pickle(
        {b"filenames": names, b"batch_label": b"batch 1 of 1", **columns(labels), b"data": images}
    )


def binary100(images, labels):
    return np.column_stack([labels // 5, labels, images]).astype(np.uint8).tobytes()


def python10(images, labels):
    return python2_pickle({b"batch_label": b"", b"labels": labels.tolist(), b"data": images})


def binary10(images, labels):
    return np.column_stack([labels, images]).astype(np.uint8).tobytes()


BATCHES = [f"data_batch_{i}" for i in range(1, 6)]

# name: (upstream's folder, upstream's archive, training files, test file, writer, classes)
FORMS = {
    "cifar_train": (
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ["cifar_train"],
        "cifar_test",
        python100,
        100,
    ),
    "python100": (
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        ["train"],
        "test",
        python100,
        100,
    ),
    "binary100": (
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        ["train.bin"],
        "test.bin",
        binary100,
        100,
    ),
    "python10": (
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        BATCHES,
        "test_batch",
        python10,
        10,
    ),
    "binary10": (
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        [f"{name}.bin" for name in BATCHES],
        "test_batch.bin",
        binary10,
        10,
    ),
}


def add(archive, name, content, **more):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in more.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(params=FORMS)
def published(request, made_arrays):
    """One form: its name, its files' contents, and the arrays they hold."""
    folder, archive, train, test, write, classes = FORMS[request.param]
    halves = tuple((images, labels % classes) for images, labels in made_arrays(1115, 20, 3))
    contents = {
        name: write(*part)
        for name, *part in zip(
            train, *(np.array_split(half, len(train)) for half in halves[0]), strict=True
        )
    }
    contents[test] = write(*halves[1])
    return folder, archive, contents, halves, classes


def check(data, published):
    *_, ((train_images, train_labels), (test_images, test_labels)), classes = published
    np.testing.assert_array_equal(data.train_images, train_images)
    np.testing.assert_array_equal(data.train_labels, train_labels)
    np.testing.assert_array_equal(data.test_images, test_images)
    np.testing.assert_array_equal(data.test_labels, test_labels)
    assert data.classes == classes and data.name == f"CIFAR-{classes}"
    for array, dtype in zip(data[:4], (np.uint8, np.int64) * 2, strict=True):
        assert array.dtype == dtype and array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize("place", ["folder itself", "upstream's folder inside"])
def test_every_form_is_read_from_a_folder(published, place, tmp_path):
    folder = tmp_path if place == "folder itself" else tmp_path / published[0]
    folder.mkdir(exist_ok=True)
    for name, content in published[2].items():
        (folder / name).write_bytes(content)
    (folder / "readme.html").write_text("not data")
    check(load(tmp_path), published)
    check(load(str(tmp_path)), published)


@pytest.mark.parametrize("mode", ["w:gz", "w"])
@pytest.mark.parametrize("prefix", ["upstream's folder", "./", ""])
def test_every_form_is_read_from_an_archive(published, mode, prefix, tmp_path):
    path = tmp_path / "archive"
    prefix = f"{published[0]}/" if prefix == "upstream's folder" else prefix
    with tarfile.open(path, mode) as archive:
        add(archive, prefix + "meta", b"not looked at")
        for name, content in published[2].items():
            add(archive, prefix + name, content)
    check(load(path), published)


def test_an_archive_in_the_folder_is_found(published, tmp_path):
    with tarfile.open(tmp_path / published[1], "w:gz") as archive:
        for name, content in published[2].items():
            add(archive, f"{published[0]}/{name}", content)
    check(load(tmp_path), published)


def test_coarse_labels_are_read_where_there_are_some(published, tmp_path):
    for name, content in published[2].items():
        (tmp_path / name).write_bytes(content)
    if published[-1] == 100:
        data = load(tmp_path, labels="coarse")
        assert data.classes == 20
        np.testing.assert_array_equal(data.train_labels, published[3][0][1] // 5)
        np.testing.assert_array_equal(data.test_labels, published[3][1][1] // 5)
    else:
        with pytest.raises(DatasetError, match=r"labels is 'coarse', but .* CIFAR-10's"):
            load(tmp_path, labels="coarse")


def test_the_writer_of_these_tests_writes_what_python_reads(made_arrays):
    images, labels = made_arrays(1115, 1, 3)[0]
    content = pickle.loads(python100(images, labels), encoding="bytes")
    np.testing.assert_array_equal(content[b"data"], images)
    assert content[b"fine_labels"] == labels.tolist()
    assert content[b"filenames"][1114] == b"image_1114.png"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pickles_of_python_3_by_either_numpy_are_read(protocol, core, order, made_arrays):
    images, labels = made_arrays(300, 1, 5)[0]
    entries = {b"data": np.array(images, order=order), b"batch_label": b"", **columns(labels)}
    content = pickle.dumps(entries, protocol=protocol)
    for module in ("multiarray", "numeric"):
        for written in (f"numpy.core.{module}", f"numpy._core.{module}"):
            wanted = f"{core}.{module}"
            content = content.replace(f"c{written}\n".encode(), f"c{wanted}\n".encode())
            content = content.replace(
                operation(b"\x8c", 1, written.encode()), operation(b"\x8c", 1, wanted.encode())
            )
    # The frame's length, where there is one, is not looked at.
    found, fine = cifar.from_pickle(content, forms.CIFAR100, "fine")
    np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(fine, labels)


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<i8", ">u8"])
def test_labels_may_be_an_array_of_any_integers(dtype, made_arrays):
    images, labels = made_arrays(30, 1, 5)[0]
    content = pickle.dumps({b"data": images, b"fine_labels": labels.astype(dtype)}, protocol=2)
    np.testing.assert_array_equal(cifar.from_pickle(content, forms.CIFAR100, "fine")[1], labels)


def test_the_form_is_chosen_in_the_documented_order(made_data, tmp_path, made_arrays):
    folder = made_data(20, 10, 1)
    images, labels = made_arrays(7, 1, 2)[0]
    for name in ("train", "test"):
        (folder / name).write_bytes(python100(images, labels))
    assert len(load(folder).train_images) == 20
    (folder / "cifar_test").unlink()
    assert len(load(folder).train_images) == 7


def test_real_images_give_what_pickle_gives(shared):
    data = load(shared / "data" / "cifar10")
    for name, images, labels in (("train", *data[:2]), ("test", *data[2:4])):
        written = (shared / "data" / "cifar10" / f"cifar_{name}").read_bytes()
        if not hasattr(np, "_core"):  # NumPy 1 itself cannot read what NumPy 2 has written
            written = written.replace(b"cnumpy._core.", b"cnumpy.core.")
        content = pickle.loads(written, encoding="bytes")
        np.testing.assert_array_equal(images, content[b"data"])
        assert labels.tolist() == content[b"fine_labels"]
    assert len(data.train_images) == 5000 and data.classes == 100
    with pytest.raises(
        DatasetError, match=r"no coarse labels: looked for the key b'coarse_labels'"
    ):
        load(shared / "data" / "cifar10", labels="coarse")


# What is not there, or damaged -------------------------------------------------------------------


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data: .*nowhere does not exist"):
        load(tmp_path / "nowhere")


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="labels is 'medium'; expected 'fine' or 'coarse'"):
        load(labels="medium")
    with pytest.raises(TypeError, match="data is of type int; expected the path"):
        load(3)
    with pytest.raises(DatasetError, match="the embedded Fashion-MNIST sample has fine labels"):
        load(labels="coarse")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DatasetError, match="neither a folder nor a regular file"):
        load(tmp_path / "pipe")


def test_what_was_looked_for_and_what_was_found_is_listed(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(b"")
    (tmp_path / "train").mkdir()
    (tmp_path / "test").write_bytes(b"")
    with pytest.raises(DatasetError) as failure:
        load(tmp_path)
    for words in (
        str(tmp_path),
        "cifar_train, cifar_test (CIFAR-100's python form, renamed)",
        "data_batch_1.bin to data_batch_5.bin, test_batch.bin",
        "cifar-100-python.tar.gz",
        "Found data_batch_1, test, train.",
    ):
        assert words in str(failure.value)


def test_a_folder_of_many_files_is_not_listed_whole(tmp_path):
    for index in range(40):
        (tmp_path / f"{index:02}").touch()
    with pytest.raises(DatasetError, match=r"Found 00, .*, 11 and 28 more\."):
        load(tmp_path)


IMAGES = np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8)


def entries(**changes):
    content = {b"data": IMAGES, b"fine_labels": [3, 99]}
    return content | {key.encode(): value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (entries(data=IMAGES[:, :-1]), r"shape \(2, 3071\) and dtype uint8, expected \(n, 3072\)"),
        (entries(data=IMAGES[0]), r"shape \(3072,\)"),
        (entries(data=IMAGES.reshape(2, 3, 32, 32)), "neither one dimension nor two"),
        (entries(data=IMAGES.astype(np.int16)), "dtype int16, expected .* uint8"),
        (entries(data=IMAGES.astype(np.float64)), "an array of dtype 'f8', expected integers"),
        (entries(data=IMAGES.astype(object)), "an array of dtype 'O8', expected integers"),
        (entries(data=IMAGES.tobytes()), "b'data' is of type bytes, expected a uint8 array"),
        (entries(data=IMAGES[:0], fine_labels=[]), "no images"),
        (entries(data=None), "b'data' is of type NoneType"),
        (entries(fine_labels=[1]), "b'fine_labels' has 1 labels for 2 images"),
        (entries(fine_labels=[1, 100]), "fine label of image 1 is 100, expected 0 to 99"),
        (entries(fine_labels=[-1, 0]), "fine label of image 0 is -1, expected 0 to 99"),
        (entries(fine_labels=[0, 1 << 100]), f"fine label of image 1 is {1 << 100}"),
        (entries(fine_labels=[0, "1"]), r"b'fine_labels'\[1\] is of type str, expected int"),
        (entries(fine_labels=[0, True]), r"b'fine_labels'\[1\] is of type bool, expected int"),
        (entries(fine_labels=(0, 1)), "b'fine_labels' is of type tuple, expected a list"),
        (entries(fine_labels=IMAGES), r"b'fine_labels' has shape \(2, 3072\), expected \(n,\)"),
        ({b"data": IMAGES}, "no fine labels: looked for the key b'fine_labels', found b'data'"),
        ({b"labels": [0]}, "no images: looked for the key b'data', found b'labels'"),
        ({}, "found none"),
        ([1, 2], "something other than one dictionary"),
    ],
)
def test_a_pickle_of_other_content_is_refused(content, words, tmp_path):
    (tmp_path / "train").write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "test").write_bytes(pickle.dumps(entries(), protocol=2))
    with pytest.raises(DatasetError, match=words) as failure:
        load(tmp_path)
    assert str(tmp_path / "train") in str(failure.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes, expected a positive multiple of 3074"),
        (bytes(3073), "3073 bytes, expected a positive multiple of 3074"),
        (bytes(3074) + b"\x00\x64" + bytes(3072), "fine label of image 1 is 100"),
    ],
)
def test_a_binary_file_of_other_content_is_refused(content, words, tmp_path):
    (tmp_path / "train.bin").write_bytes(bytes(3074))
    (tmp_path / "test.bin").write_bytes(content)
    with pytest.raises(DatasetError, match=words) as failure:
        load(tmp_path)
    assert str(tmp_path / "test.bin") in str(failure.value)


def test_a_pickle_truncated_anywhere_is_refused():
    for content in (pickle.dumps(entries(), protocol=2), python2_pickle(entries())):
        end = len(content)
        for size in (*range(400), *range(400, end - 300, 31), *range(end - 300, end)):
            with pytest.raises(DatasetError):
                cifar.from_pickle(content[:size], forms.CIFAR100, "fine")
        with pytest.raises(DatasetError, match="1 bytes after its end"):
            cifar.from_pickle(content + b"\0", forms.CIFAR100, "fine")


def test_a_file_larger_than_any_of_cifar_is_refused(tmp_path, monkeypatch):
    (tmp_path / "train").write_bytes(pickle.dumps(entries()))
    (tmp_path / "test").write_bytes(pickle.dumps(entries()))
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    with pytest.raises(DatasetError, match=r"train: larger than 1000 bytes"):
        load(tmp_path)


# Hostile pickles ---------------------------------------------------------------------------------


class Calls:
    """Pickled, it is a call."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced


def touch(path):
    return f"open({str(path)!r}, 'w')"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.system, eval, exec, getattr, __import__, np.load])
def test_a_pickle_that_calls_runs_nothing(function, protocol, tmp_path):
    canary = tmp_path / "canary"
    argument = f"touch {canary}" if function is os.system else touch(canary)
    for hostile in (entries(more=Calls(function, argument)), Calls(function, argument)):
        (tmp_path / "train").write_bytes(pickle.dumps(hostile, protocol=protocol))
        (tmp_path / "test").write_bytes(pickle.dumps(entries(), protocol=2))
        with pytest.raises(DatasetError, match="nothing of it was run"):
            load(tmp_path)
    assert not canary.exists()


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n"
BLANK = ARRAY + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
BYTES_DTYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"


def nested(depth):
    return b")" + b"\x85" * depth


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        (b"cos\nsystem\n(X\x04\0\0\0truetR", "the name 'os.system'"),
        (b"cposix\nsystem\nN\x85R", "the name 'posix.system'"),
        (b"c__builtin__\neval\nN\x85R", "the name '__builtin__.eval'"),
        (b"cnumpy\nndarray.__class__\n", "the name"),
        (b"\x8c\x05numpy\x8c\x04load\x93", "the name 'numpy.load'"),
        (b"N\x8c\x04load\x93", "a name that is no string"),
        (b"c" + b"a" * 1000, "a name without an end"),
        (b"ios\nsystem\n", "operation b'i'"),
        (b"(cos\nsystem\no", "the name 'os.system'"),
        (b")\x81", r"operation b'\\x81'"),
        (b"Pid\n", "operation b'P'"),
        (b"\x82\x01", r"operation b'\\x82'"),
        # Calls of what may be named, with other arguments.
        (b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0hex\x86R", "a call of encode with arguments"),
        (b"c_codecs\nencode\nX\x01\0\0\0a\x85R", "a call of encode with arguments"),
        (b"c__builtin__\nbytes\nJ\0\0\0\x7f\x85R", "a call of bytes with arguments"),
        (ARRAY + b"cnumpy\ndtype\nK\x00\x85U\x01b\x87R", "a call of reconstruct with arguments"),
        (b"cnumpy\nndarray\nJ\0\0\0\x7f\x85R", "a call of ndarray with arguments"),
        (b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R", "an array of dtype 'O', expected integers"),
        (b"cnumpy\ndtype\nU\x05u1,u1K\x00K\x01\x87R", "an array of dtype 'u1,u1'"),
        (b"cnumpy\ndtype\n]K\x00K\x01\x87R", "a call of dtype with arguments"),
        (b"NNR", "a call of something that is no function"),
        (b"cnumpy\ndtype\n]R", "a call of something that is no function"),
        (BLANK + b")R", "a call of something that is no function"),
        # States for what takes none, which pickle would set as attributes.
        (b"cnumpy\nndarray\n}U\x01aK\x01sb", "a state"),
        (b"c_codecs\nencode\nN}U\x08__call__Ns\x86b", "a state"),
        (BLANK + b"}U\x05arrayNsb", "a state"),
        (BLANK + b"N}U\x05arrayNs\x86b", "a state"),
        (BLANK + b"(K\x01)" + BYTES_DTYPE + b"\x89]tb", "a state"),
        (BYTES_DTYPE + b"(K\x03U\x01|U\x01aNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb", "a state"),
        (BYTES_DTYPE + b"(K\x03U\x01!NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb", "byte order"),
        (BYTES_DTYPE + b"(K\x03" + nested(100_000) + b"NNNtb", "byte order"),
        # What would hash deeply, or not at all.
        (b"}" + nested(200_000) + b"Ns", "a key that is no string"),
        (b"}]Ns", "a key that is no string"),
        (b"}(U\x01au", "entries for something"),
        (b"](NNu", "entries for something"),
        (b"}Na", "items for something"),
        # Sizes that are not there.
        (b"\x8e\0\0\0\0\0\0\0\x70", "truncated"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "truncated"),
        (b"\x96\0\0\0\0\0\0\0\x70", "truncated"),
        (b"T\xff\xff\xff\x7f", "truncated"),
        (b"X\x02\0\0\0\xff\xff", "damaged pickle at byte .*UnicodeDecodeError"),
        (b"h\x07", "damaged pickle at byte .*KeyError"),
        (b"e", "damaged pickle at byte .*IndexError"),
        (b"0", "operation b'0'"),
        (b"2", "operation b'2'"),
    ],
)
def test_hostile_operations_are_refused(operations, words):
    with pytest.raises(DatasetError, match=words):
        cifar.from_pickle(b"\x80\x02" + operations + b".", forms.CIFAR100, "fine")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (b"J\xff\xff\xff\x7fM\x00\x0c\x86", r"shape \(2147483647, 3072\) .* has 1 bytes, expected"),
        (b"\x8a\x08" + b"\xff" * 7 + b"\x7fM\x00\x0c\x86", "an impossible one"),
        (b"J\xff\xff\xff\xffM\x00\x0c\x86", "an impossible one"),
        (b"U\x01aM\x00\x0c\x86", "an impossible one"),
        (nested(100_000) + b"\x85", "an impossible one"),
        (b"(" + b"K\x01" * 100 + b"t", "neither one dimension nor two"),
    ],
)
def test_an_array_of_an_impossible_shape_is_refused_before_it_is_allocated(shape, words):
    array = BLANK + b"(K\x01" + shape + BYTES_DTYPE + b"\x89U\x01xtb"
    content = b"\x80\x02}(U\x04data" + array + b"U\x0bfine_labels]u."
    with pytest.raises(DatasetError, match=words):
        cifar.from_pickle(content, forms.CIFAR100, "fine")


def test_a_list_that_holds_itself_is_refused():
    content = b"\x80\x02}(U\x04data]q\x00h\x00aU\x0bfine_labelsh\x00u."
    with pytest.raises(DatasetError, match="b'data' is of type list"):
        cifar.from_pickle(content, forms.CIFAR100, "fine")


def test_one_string_encoded_again_and_again_is_refused():
    text = operation(b"X", 4, b"a" * 100_000) + b"q\x00"
    again = b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R"
    with pytest.raises(DatasetError, match="a call of encode"):
        pickles.PickleReader(b"\x80\x02" + text + again * 100 + b".").read()


def test_more_operations_than_any_file_of_cifar_has_are_refused(monkeypatch):
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 10_000)
    with pytest.raises(DatasetError, match="a pickle of more than 10000 operations"):
        pickles.PickleReader(b"]" * 20_000).read()


def test_nothing_a_pickle_names_is_imported(monkeypatch):
    def refused(name, *arguments, **more):
        raise AssertionError(f"imported {name}")

    content = pickle.dumps(entries(), protocol=2)
    monkeypatch.setattr(builtins, "__import__", refused)
    images, _ = cifar.from_pickle(content, forms.CIFAR100, "fine")
    monkeypatch.undo()
    np.testing.assert_array_equal(images, IMAGES)


PICKLES = [python2_pickle(entries()), *(pickle.dumps(entries(), protocol=p) for p in (2, 4, 5))]
# What is in the middle of a file is pixels, which may be anything.
PLACES = st.one_of(st.integers(0, 350), st.integers(-250, -1))
FRAGMENTS = [
    *pickles._ACTIONS,
    b".",
    b"0",
    b"\x81",
    ARRAY,
    BLANK,
    BYTES_DTYPE,
    b"K\x01",
    b"U\x01a",
]


def reads_or_refuses(content):
    try:
        images, labels = cifar.from_pickle(content, forms.CIFAR100, "fine")
    except DatasetError:
        return
    assert images.dtype == np.uint8 and images.shape == (len(labels), 3072)
    assert labels.dtype == np.int64 and labels.min() >= 0 and labels.max() < 100


@settings(max_examples=200)
@given(st.data())
def test_a_mutated_pickle_is_read_or_refused(data):
    which = data.draw(st.integers(0, len(PICKLES) - 1))
    content = bytearray(PICKLES[which])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(PLACES) % len(content)
        removed = data.draw(st.integers(0, 3))
        content[place : place + removed] = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from(FRAGMENTS))
        )
    reads_or_refuses(bytes(content))


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3)), max_size=30))
def test_any_sequence_of_operations_is_read_or_refused(operations):
    reads_or_refuses(b"\x80\x02" + b"".join(operations) + b".")


# Hostile and damaged archives --------------------------------------------------------------------


@pytest.fixture
def packed(tmp_path):
    """A function that writes an archive of (name, content, member's fields) and gives its path."""

    def write(*members, mode="w:gz", **more):
        path = tmp_path / "cifar-100-python.tar.gz"
        with tarfile.open(path, mode, **more) as archive:
            for name, content, fields in members:
                add(archive, name, content, **fields)
        return path

    return write


GOOD = pickle.dumps(entries(), protocol=2)


@pytest.mark.parametrize("name", ["../train", "/train", "../../x/train", "x/../train", "a/b/train"])
def test_members_elsewhere_do_not_count_and_nothing_is_written(name, packed, tmp_path, monkeypatch):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    path = packed((name, GOOD, {}), ("test", GOOD, {}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match=r"no complete set.*Found .*train, test"):
        load(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_link_or_device_in_an_archive_is_refused(kind, packed):
    link = {"type": kind, "linkname": "/etc/passwd"}
    with pytest.raises(DatasetError, match="member 'train' is not a plain file"):
        load(packed(("train", b"", link), ("test", GOOD, {})))


def test_a_sparse_member_is_refused_before_its_zeros_are_made(tmp_path):
    header = bytearray(512)
    for place, field in (
        (0, b"train"),
        (100, b"0000644\0" + b"0000000\0" * 2),
        (124, b"%011o\0" % 512),  # bytes in the archive
        (136, b"%011o\0" % 0),
        (148, b" " * 8 + b"S"),
        (257, b"ustar  \0"),
        (386, b"%011o\0" % (8**11 - 512) + b"%011o\0" % 512),  # where they belong, how many
        (483, b"%011o\0" % (8**11 - 1)),  # the size with the zeros
    ):
        header[place : place + len(field)] = field
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "archive.tar"
    path.write_bytes(bytes(header) + bytes(512 * 3))
    with tarfile.open(path) as archive:
        member = archive.next()
        assert member.isreg() and member.issparse() and member.size == 8**11 - 1
    with pytest.raises(DatasetError, match="member 'train' is not a plain file"):
        load(path)


def test_two_members_of_one_name_are_refused(packed):
    with pytest.raises(DatasetError, match="more than one member is called train"):
        load(packed(("train", GOOD, {}), ("a/train", GOOD, {}), ("test", GOOD, {})))


@pytest.mark.parametrize("name", ["train", "other"])
def test_an_archive_that_unpacks_to_too_much_is_refused(name, packed, monkeypatch):
    path = packed((name, bytes(3 << 20), {}), ("test", GOOD, {}))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    with pytest.raises(DatasetError, match=r"tar\.gz: unpacks to more than 1048576 bytes"):
        load(path)


def test_a_stated_size_is_not_believed(tmp_path):
    header = tarfile.TarInfo("train")
    header.size = 1 << 40
    path = tmp_path / "archive.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + GOOD)
    with pytest.raises(DatasetError, match="damaged archive"):
        load(path)


def test_more_members_than_any_archive_of_cifar_has_are_refused(packed):
    with pytest.raises(DatasetError, match="more than 1000 members"):
        load(packed(*[(f"file {i}", b"", {}) for i in range(1001)]))


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    for content in (b"", b"train", GOOD, bytes(range(256)) * 8):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DatasetError, match=r"file: not an archive \(.tar.gz or .tar\)"):
            load(tmp_path / "file")


def test_an_archive_truncated_anywhere_is_refused(packed):
    path = packed(("cifar-100-python/train", GOOD, {}), ("cifar-100-python/test", GOOD, {}))
    content = path.read_bytes()
    assert len(load(path).train_images) == 2
    for size in [*range(0, len(content), 7), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(DatasetError, match=r"cifar-100-python\.tar\.gz"):
            load(path)


def test_the_checksum_of_gzip_is_looked_at(packed):
    path = packed(("train", GOOD, {}), ("test", GOOD, {}))
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged archive: CRC check failed"):
        load(path)


def test_headers_of_other_programs_are_read(packed):
    fields = {"mtime": 0.5, "pax_headers": {"comment": "kept by some programs"}}
    path = packed(
        ("train", GOOD, fields),
        ("test", GOOD, fields),
        ("x" * 300, b"", {}),
        format=tarfile.PAX_FORMAT,
    )
    assert len(load(path).test_images) == 2


TAR = io.BytesIO()
with tarfile.open(fileobj=TAR, mode="w") as _archive:
    for _name in ("train", "test"):
        add(_archive, _name, GOOD, mtime=0.5, pax_headers={"comment": "x"})


@settings(max_examples=100)
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=8))))
@pytest.mark.parametrize("compressed", [False, True])
def test_a_mutated_archive_is_read_or_refused(compressed, changes, tmp_path_factory):
    content = bytearray(gzip.compress(TAR.getvalue()) if compressed else TAR.getvalue())
    for place, change in changes:
        content[place : place + len(change)] = change
    path = tmp_path_factory.getbasetemp() / "mutated.tar"
    path.write_bytes(content)
    try:
        data = load(path)
    except DatasetError:
        return
    assert data.train_images.shape == (len(data.train_labels), 3072)


# Downloading -------------------------------------------------------------------------------------

PAYLOAD = np.random.RandomState(7).bytes(300_000)
RIGHT = {"md5": hashlib.md5(PAYLOAD).hexdigest(), "size": len(PAYLOAD), "progress": False}


class Server(ThreadingHTTPServer):
    """Serves `payload`; the attributes say how well. `asked` lists the Range headers received."""

    daemon_threads = True
    payload = PAYLOAD
    ranges = True
    lengths = True
    status = None
    breaks_after = ()
    """Bytes sent of each answer in turn, before the connection breaks."""

    def __init__(self):
        self.asked = []
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers["Range"]
        limits = list(server.breaks_after)
        limit = limits[len(server.asked)] if len(server.asked) < len(limits) else None
        server.asked.append(wanted)
        if server.status:
            self.send_error(server.status)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and server.ranges else 0
        if start >= len(server.payload):
            self.send_error(416)
            return
        self.send_response(206 if wanted and server.ranges else 200)
        if wanted and server.ranges:
            last, total = len(server.payload) - 1, len(server.payload)
            self.send_header("Content-Range", f"bytes {start}-{last}/{total}")
        if server.lengths:
            self.send_header("Content-Length", str(len(server.payload) - start))
        self.end_headers()
        self.wfile.write(server.payload[start:][:limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.url = f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz"
        yield server
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


FINAL, PART = "cifar-100-python.tar.gz", "cifar-100-python.tar.gz.part"


def test_a_download_gets_its_name_when_it_is_complete_and_is_not_repeated(server, tmp_path):
    folder = tmp_path / "new" / "folder"
    path = fetch_cifar100(folder, url=server.url, **RIGHT)
    assert path == folder / FINAL and path.read_bytes() == PAYLOAD and names(folder) == [FINAL]
    assert fetch_cifar100(str(folder), url=server.url, **RIGHT) == path
    assert server.asked == [None]


def test_what_is_downloaded_can_be_loaded_from_its_folder(server, packed, tmp_path):
    server.payload = packed(("cifar-100-python/train", GOOD, {}), ("test", GOOD, {})).read_bytes()
    right = {"md5": hashlib.md5(server.payload).hexdigest(), "size": len(server.payload)}
    fetch_cifar100(tmp_path / "data", url=server.url, progress=False, **right)
    np.testing.assert_array_equal(load(tmp_path / "data").train_images, IMAGES)


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.breaks_after = (100_000, 50_000)
    path = fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert path.read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_is_kept_and_resumed_by_the_next_call(server, tmp_path):
    server.breaks_after = (1000, 0)
    with pytest.raises(FetchError, match=r"stopped at 1000 of 300000 bytes: .*call again"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert names(tmp_path) == [PART] and (tmp_path / PART).read_bytes() == PAYLOAD[:1000]
    assert fetch_cifar100(tmp_path, url=server.url, **RIGHT).read_bytes() == PAYLOAD
    assert server.asked == [None, "bytes=1000-", "bytes=1000-"] and names(tmp_path) == [FINAL]


def test_a_server_that_always_breaks_is_given_up(server, tmp_path):
    server.breaks_after = (10,) * 100
    with pytest.raises(FetchError, match="stopped at 50 of 300000 bytes"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert len(server.asked) == 5 and names(tmp_path) == [PART]


def test_a_server_that_cannot_resume_starts_over(server, tmp_path):
    (tmp_path / PART).write_bytes(PAYLOAD[:777])
    server.ranges = False
    assert fetch_cifar100(tmp_path, url=server.url, **RIGHT).read_bytes() == PAYLOAD
    assert server.asked == ["bytes=777-"]


def test_a_server_that_states_no_length_is_good_enough(server, tmp_path):
    server.lengths = False
    assert fetch_cifar100(tmp_path, url=server.url, **RIGHT).read_bytes() == PAYLOAD


def test_a_wrong_checksum_leaves_no_file(server, tmp_path):
    wrong = RIGHT | {"md5": "0" * 32}
    with pytest.raises(FetchError, match=rf"MD5 {RIGHT['md5']}, expected {'0' * 32}; it was dele"):
        fetch_cifar100(tmp_path, url=server.url, **wrong)
    assert names(tmp_path) == []


def test_a_wrong_start_is_found_out_and_downloaded_again(server, tmp_path):
    for start in (b"x" * 500, b"x" * len(PAYLOAD), b"x" * (len(PAYLOAD) + 1)):
        (tmp_path / PART).write_bytes(start)
        path = fetch_cifar100(tmp_path, url=server.url, **RIGHT)
        assert path.read_bytes() == PAYLOAD
        path.unlink()
    assert server.asked == ["bytes=500-", None, None, None]


def test_a_wrong_file_under_the_final_name_does_not_stay_there(server, tmp_path):
    (tmp_path / FINAL).write_bytes(PAYLOAD[:1000])
    server.status = 503
    with pytest.raises(FetchError, match="HTTP 503"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert names(tmp_path) == [PART]
    (tmp_path / FINAL).write_bytes(b"x" * len(PAYLOAD))
    server.status = None
    assert fetch_cifar100(tmp_path, url=server.url, **RIGHT).read_bytes() == PAYLOAD
    assert server.asked == ["bytes=1000-"] * 2 and names(tmp_path) == [FINAL]


def test_a_file_of_another_size_is_not_downloaded(server, tmp_path):
    server.payload = b"<html>moved</html>"
    with pytest.raises(FetchError, match="the server offers 18 bytes, expected 300000"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert names(tmp_path) == []


def test_a_server_without_end_is_cut_off(server, tmp_path):
    server.payload, server.lengths = PAYLOAD * 10, False
    with pytest.raises(FetchError, match="sends more than the expected 300000 bytes"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert (tmp_path / PART).stat().st_size <= len(PAYLOAD) and FINAL not in names(tmp_path)


def test_a_part_longer_than_the_servers_file_starts_over(server, tmp_path):
    (tmp_path / PART).write_bytes(PAYLOAD[:2000])
    server.payload = PAYLOAD[:1000]
    with pytest.raises(FetchError, match="the server offers 1000 bytes, expected 300000"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert server.asked == ["bytes=2000-", None] and names(tmp_path) == []


def test_an_answer_for_another_range_is_refused(server, tmp_path, monkeypatch):
    (tmp_path / PART).write_bytes(PAYLOAD[:2000])
    real = Handler.send_header
    monkeypatch.setattr(
        Handler,
        "send_header",
        lambda self, key, value: real(self, key, value.replace("bytes 2000-", "bytes 0-")),
    )
    with pytest.raises(FetchError, match="another range"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert (tmp_path / PART).read_bytes() == PAYLOAD[:2000]


def test_a_missing_file_is_an_error_with_the_address(server, tmp_path):
    server.status = 404
    with pytest.raises(FetchError, match=r"http://127.*tar\.gz: HTTP 404 Not Found"):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    assert names(tmp_path) == [] and len(server.asked) == 1


def test_a_server_that_is_not_there_is_an_error_with_the_address(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        url = f"http://127.0.0.1:{gone.server_port}/x"
    with pytest.raises(FetchError, match=r"stopped at 0 of 300000 bytes: .*refused"):
        fetch_cifar100(tmp_path, url=url, **RIGHT)
    assert names(tmp_path) == []


def test_only_http_is_spoken(tmp_path):
    (tmp_path / "file").write_bytes(PAYLOAD)
    with pytest.raises(ValueError, match="url is 'file:"):
        fetch_cifar100(tmp_path / "new", url=f"file://{tmp_path}/file", **RIGHT)
    assert not (tmp_path / "new").exists()


def test_ctrl_c_keeps_what_has_arrived(server, tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "_progress_bar", lambda *_: _Reports(interrupted))
    with pytest.raises(KeyboardInterrupt):
        fetch_cifar100(tmp_path, url=server.url, **RIGHT)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "*")
    kept = (tmp_path / PART).stat().st_size
    assert 0 < kept < len(PAYLOAD)
    assert fetch_cifar100(tmp_path, url=server.url, **RIGHT).read_bytes() == PAYLOAD
    assert server.asked == [None, f"bytes={kept}-"]


class _Reports:
    def __init__(self, report):
        self.report = report

    def __enter__(self):
        return self.report

    def __exit__(self, *_):
        return None


def test_progress_is_drawn_with_tqdm_if_there_is_one(server, tmp_path, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    (tmp_path / PART).write_bytes(PAYLOAD[:100_000])
    fetch_cifar100(tmp_path, url=server.url, **RIGHT | {"progress": True})
    assert "300k/300k" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    fetch_cifar100(tmp_path / "again", url=server.url, **RIGHT | {"progress": True})
    assert capsys.readouterr().err == ""


def test_the_defaults_are_the_published_ones():
    defaults = fetch_cifar100.__kwdefaults__
    assert defaults["url"] == "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    assert defaults["md5"] == "eb9058c3a382ffc7106e4002c42a8d85"
    assert defaults["size"] == 169_001_437


@pytest.mark.parametrize(
    "argument, words",
    [
        ({"timeout": 0}, "timeout is 0; expected a finite number above 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"size": 0}, "size is 0; expected an integer from 1"),
        ({"md5": "0x3"}, "md5 is '0x3'; expected 32 hexadecimal digits"),
    ],
)
def test_wrong_arguments_of_a_download_are_named_before_the_network(argument, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        fetch_cifar100(tmp_path / "data", url="http://127.0.0.1:9/", **RIGHT | argument)
    assert names(tmp_path) == []
