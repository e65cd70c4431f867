"""The recorded runs of the scripts of 2019, and the images that they ran on: see Tests/golden."""

import runpy
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PIXELS, STEP = 3072, 61


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def write_images(folder, train, test, seed):
    runpy.run_path(str(GOLDEN / "images.py"))["write"](folder, train, test, seed)


def as_recorded(weights):
    """The rows that the recordings keep of an array."""
    return weights[::STEP] if len(weights) == PIXELS else weights
