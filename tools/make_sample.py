"""Makes python/swiftnets/data/fashion_mnist.npz, the sample of images inside the package.

    python tools/make_sample.py [FOLDER]

FOLDER holds Fashion-MNIST's four files; Debian's package dataset-fashion-mnist puts them where the
default says. Taken are the first 500 training images and the first 100 test images of each of the
ten classes, in the order of the files, so that every class is equally frequent.

The images stay 28 x 28 and grey; swiftnets.datasets pads them and copies the channel. Same inputs,
same NumPy and zlib: same bytes.
"""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np

DEBIAN = "/usr/share/datasets/fashion-mnist"
SAMPLE = Path(__file__).resolve().parents[1] / "python/swiftnets/data/fashion_mnist.npz"
CLASSES = 10


def read_idx(path, dimensions):
    """An array of bytes in the IDX format: a magic number, the lengths, then the items."""
    content = gzip.decompress(path.read_bytes())
    header = np.frombuffer(content, ">u4", 1 + dimensions)
    if header[0] != 0x0800 + dimensions:
        sys.exit(f"{path}: not a file of bytes in {dimensions} dimensions")
    return np.frombuffer(content, np.uint8, offset=header.nbytes).reshape(header[1:])


def first_of_each_class(folder, name, count):
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", 1)
    taken = np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(CLASSES)]))
    return images[taken], labels[taken]


def main(folder):
    train_images, train_labels = first_of_each_class(folder, "train", 500)
    test_images, test_labels = first_of_each_class(folder, "t10k", 100)
    SAMPLE.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        SAMPLE,
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
    content = SAMPLE.read_bytes()
    print(f"{SAMPLE.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1] if len(sys.argv) == 2 else DEBIAN))
