"""The nets on images whose training at the edge of stability is recorded in the tests."""

from typing import NamedTuple

import numpy as np

from swiftnets import MLP, datasets
from swiftnets.dynamics import smoothed


class Problem(NamedTuple):
    """A net on samples, with the step of gradient descent and the time from which to compare."""

    net: MLP
    x: np.ndarray
    y: np.ndarray
    step: float
    begin: int
    time: int

    def at(self, w):
        return self.net.at(w, self.x, self.y)

    def iterates(self, count, first=0):
        """Those of gradient descent from `first` to `count`, and the losses of all."""
        w, rows, losses = self.net.initial(seed=0), [], []
        for t in range(count + 1):
            if t >= first:
                rows.append(w)
            loss, gradient = self.net.loss_and_gradient(w, self.x, self.y)
            losses.append(loss)
            w = w - self.step * gradient
        return np.array(rows), np.array(losses)

    def means(self):
        """The iterates' means and the iterates, from `begin` on for `time` steps and 20 more."""
        rows, losses = self.iterates(self.begin + self.time + 24, self.begin - 4)
        return smoothed(rows), rows[4:-4], losses


def _standard(x):
    return (x - x.mean(0)) / (x.std(0) + 1e-8)


def _first(data, count):
    chosen = np.flatnonzero(data.train_labels < 4)[:count]
    images = data.train_images[chosen].reshape(-1, 3, 32, 32) / 255
    return images, np.eye(4)[data.train_labels[chosen]]


def _means(images):
    return images.reshape(*images.shape[:2], 4, 8, 4, 8).mean(axis=(3, 5)).reshape(len(images), -1)


def _net(sizes, activation):
    return MLP(sizes, activation=activation, reduction="mean")


def fashion(activation="tanh"):
    """16-16-16-4 on 200 images of the embedded sample, of four classes, in means of 8 x 8."""
    images, y = _first(datasets.load(None), 200)
    x = _standard(_means(images[:, :1]))
    step, begin, time = (0.4, 400, 200) if activation == "tanh" else (0.2, 600, 400)
    return Problem(_net((16, 16, 16, 4), activation), x, y, step, begin, time)


def cifar_small(folder):
    """48-16-16-4 on 200 of CIFAR-10's."""
    images, y = _first(datasets.load(folder), 200)
    return Problem(_net((48, 16, 16, 4), "tanh"), _standard(_means(images)), y, 0.2, 400, 300)


def cifar_wide(folder):
    """3072-32-32-4 on all pixels of 400: 99,524 parameters."""
    images, y = _first(datasets.load(folder), 400)
    x = _standard(images.reshape(len(images), -1))
    return Problem(_net((3072, 32, 32, 4), "gelu"), x, y, 0.013, 200, 300)
