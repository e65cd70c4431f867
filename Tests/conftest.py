"""Fixtures that all tests may use: a folder of real images, and data made from a seed."""

import pickle
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

# In the background of a shell it is ignored, in programs that tests start as well, and tests of
# interruption would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs, and what tests import.
collect_ignore = ["c", "fuzz", "golden", "long", "sanitize.py", "stress", "support"]

CLASSES = 100


@pytest.fixture(scope="session")
def shared():
    """The folder `shared` beside the repository, with real images; without it
    the test is skipped, so every claim also needs a test that makes its own data."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the repository")
    return folder


def _draw(random, prototypes, count):
    """Images that can be told apart: a coarse pattern of the class under as much noise."""
    labels = random.randint(CLASSES, size=count)
    patterns = prototypes[labels].repeat(8, axis=2).repeat(8, axis=3)
    noise = random.randint(128, size=patterns.shape)
    return (patterns + noise).astype(np.uint8).reshape(count, 3072), labels


@pytest.fixture(scope="session")
def made_arrays():
    """A function: `(train_images, train_labels), (test_images, test_labels)` from a seed alone,
    uint8 `(n, 3072)` and int64 `(n,)` of 100 classes, the same on every NumPy."""

    def make(train, test, seed):
        random = np.random.RandomState(seed)
        prototypes = random.randint(128, size=(CLASSES, 3, 4, 4))
        return _draw(random, prototypes, train), _draw(random, prototypes, test)

    return make


@pytest.fixture
def write_python_form():
    """A function that writes a pickle in CIFAR-100's layout, with more entries by keyword."""

    def write(path, images, labels, **more):
        content = {b"data": images, b"fine_labels": [int(label) for label in labels]}
        content |= {key.encode(): value for key, value in more.items()}
        path.write_bytes(pickle.dumps(content, protocol=2))

    return write


@pytest.fixture
def made_data(tmp_path, made_arrays, write_python_form):
    """A function: a new folder with `cifar_train` and `cifar_test`, holding `made_arrays`."""

    def make(train, test, seed):
        folder = Path(tempfile.mkdtemp(prefix=f"made-{train}-{test}-{seed}-", dir=tmp_path))
        halves = made_arrays(train, test, seed)
        for name, (images, labels) in zip(("cifar_train", "cifar_test"), halves, strict=True):
            write_python_form(folder / name, images, labels, coarse_labels=(labels // 5).tolist())
        return folder

    return make
