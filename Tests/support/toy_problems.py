"""Functions of one or two variables whose minima, saddles and inverses are known."""

import numpy as np

from swiftnets.curvature.taylor import TaylorSeries
from swiftnets.problems import Problem


class Saddle(Problem):
    """(x² − 1)² / 4 + y² / 2: minima at x = ±1, a saddle at 0."""

    parameter_count = 2

    def loss_and_gradient(self, w):
        x, y = np.asarray(w, float)
        return (x * x - 1) ** 2 / 4 + y * y / 2, np.array([x**3 - x, y])

    def hvp(self, w, v):
        return np.asarray(v) * np.array([3 * w[0] ** 2 - 1, 1.0])


class Logarithmic(Problem):
    """w² / 2 + w log w − 3 w: the inverse of its gradient is W(exp(g + 2)), with Lambert's W."""

    parameter_count = 1

    def loss_and_gradient(self, w):
        x = float(w[0])
        return x * x / 2 + x * np.log(x) - 3 * x, np.array([x + np.log(x) - 2])

    def hvp(self, w, v):
        return (1 + 1 / w[0]) * np.asarray(v)

    def third(self, w, u, v):
        return -1 / w[0] ** 2 * u * np.asarray(v)

    def taylor(self, w, v, order=3):
        x = w[0]
        terms = [x + np.log(x) - 2, 1 + 1 / x, -1 / x**2 / 2, 2 / x**3 / 6]
        rows = np.array([[t * v[0] ** k] for k, t in enumerate(terms)])[: order + 1]
        return TaylorSeries(np.array([self.loss(w), *(rows @ v / np.arange(1, order + 2))]), rows)
