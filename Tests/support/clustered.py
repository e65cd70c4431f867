"""Nets on the embedded images, with exact multiple eigenvalues where units are copies."""

import numpy as np

from swiftnets import MLP, datasets

OPTIONS = {"activation": "tanh", "loss": "softmax_cross_entropy"}


def images(count, size):
    """Grey images of size × size pixels around 0, every class as often, and their labels."""
    data = datasets.load()
    step = len(data.train_images) // count
    grey = np.asarray(data.train_images)[::step][:count].reshape(count, 3, 32, 32).mean(1)
    factor = 32 // size
    blocks = grey.reshape(count, size, factor, size, factor).mean((2, 4))
    labels = np.asarray(data.train_labels)[::step][:count].astype(np.int64)
    return blocks.reshape(count, -1) / 255 - 0.45, labels


def clustered_hessian(groups, count=500):
    """A net 64-h-10 whose hidden units are copies within groups.

    Permutations within a group of m leave the loss as it is, so that eigenvalues have multiplicity
    m - 1.
    """
    hidden = sum(groups)
    net = MLP((64, hidden, 10), **OPTIONS)
    w = net.initial(seed=0)
    into, bias = w[: 64 * hidden].reshape(64, hidden), w[64 * hidden : 65 * hidden]
    out = w[65 * hidden : 75 * hidden].reshape(hidden, 10)
    first = 0
    for size in groups:
        group = slice(first, first + size)
        into[:, group], bias[group], out[group] = into[:, [first]], bias[first], out[first]
        first += size
    return net.at(w, *images(count, 8)).hessian


def spectrum_matrix(values, seed=0):
    """A dense symmetric matrix with these eigenvalues, to rounding."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    matrix = (q * np.asarray(values)) @ q.T
    return (matrix + matrix.T) / 2
