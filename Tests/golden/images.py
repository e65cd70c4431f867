"""Images for the recorded runs, in CIFAR-100's Python layout, from a seed alone.

    python Tests/golden/images.py FOLDER TRAIN TEST SEED

Each is a coarse pattern of its class mixed with a random one, under fine noise. What NumPy's legacy
generator draws from a seed is the same in every version.
"""

import pickle
import sys
from pathlib import Path

import numpy as np

CLASSES, COARSE, FINE = 100, 8, 4


def draw(random, count, patterns):
    """Pixels (count, 3072) uint8 and labels."""
    labels = random.randint(0, CLASSES, count)
    others = random.randint(0, 256, (count, 3, COARSE, COARSE))
    noise = random.randint(0, 64, (count, 3, COARSE * FINE, COARSE * FINE))
    mixed = (patterns[labels] + 2 * others) // 3
    large = mixed.repeat(FINE, axis=2).repeat(FINE, axis=3)
    return np.minimum(large * 3 // 4 + noise, 255).astype(np.uint8).reshape(count, -1), labels


def write(folder, train, test, seed):
    """Files `cifar_train` and `cifar_test` in a new folder."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    random = np.random.RandomState(seed)
    patterns = random.randint(0, 256, (CLASSES, 3, COARSE, COARSE))
    for name, count in (("train", train), ("test", test)):
        pixels, labels = draw(random, count, patterns)
        content = {b"data": pixels, b"fine_labels": labels.tolist()}
        (folder / f"cifar_{name}").write_bytes(pickle.dumps(content, protocol=2))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    write(sys.argv[1], *map(int, sys.argv[2:]))
