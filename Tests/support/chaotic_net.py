"""A net of 17 weights whose gradient descent is chaotic and bounded, and what is known of it."""

import numpy as np

from swiftnets import MLP
from swiftnets.problems import NetProblem

LEARNING_RATE, L2 = 6.0, 0.01

# Of 60,000 steps from two starts, with the larger standard errors; the exponents between are of
# directions along which the softmax does not change: ln(1 - η l2) exactly, four times.
LARGEST = np.array([0.355, 0.211, 0.128, 0.060, 0.014])
LARGEST_ERROR = 0.003
SIXTH, LEAST = -0.020, -0.83
SUM, SUM_ERROR = -1.51, 0.03
DIMENSION, DIMENSION_ERROR = 14.2, 0.1
GAUGE = np.log(1 - LEARNING_RATE * L2)


def samples():
    """Twelve points of the plane, labelled as the exclusive or of their signs, with noise."""
    random = np.random.default_rng(0)
    x = random.normal(size=(12, 2))
    y = ((x[:, 0] * x[:, 1] > 0) ^ (random.random(12) < 0.15)).astype(int)
    return x, y


def net():
    return MLP((2, 3, 2), activation="tanh", loss="softmax_cross_entropy", reduction="mean", l2=L2)


def problem():
    return NetProblem(net(), *samples())


def jax_loss(jax):
    """The loss as a JAX function of the flat weights."""
    x, y = map(jax.numpy.asarray, samples())

    def loss(w):
        hidden = jax.numpy.tanh(x @ w[:6].reshape(2, 3) + w[6:9])
        logits = hidden @ w[9:15].reshape(3, 2) + w[15:17]
        chosen = jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
        return -chosen.mean() + L2 / 2 * w @ w

    return loss
