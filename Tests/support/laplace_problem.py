"""A posterior of 63 parameters: shirts told apart by 4 x 4 pixels, 16-3-3, l2 of 2."""

import numpy as np

from swiftnets import MLP
from swiftnets.datasets import load

SIZES = (16, 3, 3)


def problem(classes=(0, 2, 6), count=200, tested=40, data=None):
    """A net, images, labels, and images to predict."""
    images = load(data)

    def chosen(rows, labels, most):
        places = np.flatnonzero(np.isin(labels, classes))[:most]
        grey = rows[places].reshape(-1, 3, 32, 32).mean(axis=1) / 255 - 0.45
        found = np.searchsorted(classes, labels[places])
        return grey.reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4)).reshape(-1, 16), found

    x, labels = chosen(images.train_images, images.train_labels, count)
    test, _ = chosen(images.test_images, images.test_labels, tested)
    return MLP(SIZES, loss="softmax_cross_entropy", l2=2.0), x, labels, test
