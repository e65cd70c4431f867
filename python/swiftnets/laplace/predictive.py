"""What a posterior says of outputs: means, covariances, class probabilities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swiftnets._support import checks
from swiftnets._support.plotting import axes_of
from swiftnets._support.probabilities import sigmoid, softmax
from swiftnets._support.types import Array

__all__ = ["Predictive"]


def __dir__() -> list[str]:
    return __all__


_METHODS = ("probit", "samples")
_CHUNK = 2**22  # numbers of outputs that are drawn at once


@dataclass(frozen=True, eq=False)
class Predictive:
    """Normal distributions of a net's outputs, one a sample; made by `Laplace.predictive`.

    Attributes
    ----------
    mean : (N, outputs) float64 array
        The net's outputs at the mode: logits, for the cross-entropies.
    covariance : (N, outputs, outputs) float64 array
        J S Jᵀ of each sample, with J the Jacobian of its outputs and S the posterior covariance of
        the parameters.
    loss : str
        The net's.
    noise_variance : float
        σ² of a squared error.
    """

    mean: Array
    covariance: Array
    loss: str
    noise_variance: float = field(default=1.0)

    @property
    def variance(self) -> Array:
        """Of each output (N, outputs), without noise."""
        return np.maximum(self.covariance.diagonal(axis1=1, axis2=2), 0)

    @property
    def observation_variance(self) -> Array:
        """Of each target (N, outputs) of a squared error: the output's and the noise's.

        Raises
        ------
        ValueError
            If the loss is another.
        """
        if self.loss != "squared_error":
            raise ValueError(
                f"the loss is {self.loss!r}; expected 'squared_error', whose targets have noise"
            )
        return self.variance + self.noise_variance

    def probabilities(
        self,
        method: Literal["probit", "samples"] = "probit",
        *,
        n: int = 1000,
        seed: int | None = 0,
    ) -> Array:
        """Class probabilities (N, outputs), averaged over the posterior of the logits.

        Parameters
        ----------
        method : {"probit", "samples"}
            ``"probit"``: closed forms. Of the sigmoid σ(m / √(1 + π v / 8)) (MacKay 1992), within
            0.01. Of the softmax by the variances of differences of logits (Lu, Ie & Sha 2020), off
            by 0.02 where logits vary by 1 and 0.1 where by 3 at most, some half of what the scaled
            softmax with each logit's own variance is. ``"samples"``: the mean over drawn logits,
            off by the sampling error, 0.5 / √n at most.
        n : int
            How many are drawn for each sample.
        seed : int, optional

        Returns
        -------
        (N, outputs) float64 array
            Rows sum to 1 for the softmax cross-entropy; of the binary one each is an event's own.

        Raises
        ------
        ValueError
            If the loss is no cross-entropy.

        Examples
        --------
        >>> sure = Predictive(np.array([[2.0, 0.0]]), np.zeros((1, 2, 2)), "softmax_cross_entropy")
        >>> sure.probabilities().round(3)
        array([[0.881, 0.119]])
        """
        checks.choice(method, "method", _METHODS)
        if not self.loss.endswith("cross_entropy"):
            raise ValueError(f"the loss is {self.loss!r}; expected a cross-entropy")
        is_softmax = self.loss.startswith("softmax")
        if method == "samples":
            return self._sampled(checks.integer(n, "n"), checks.seed(seed), is_softmax)
        if not is_softmax:
            return sigmoid(self.mean / np.sqrt(1 + np.pi / 8 * self.variance))
        # pₖ = 1 / Σᵢ exp((mᵢ − mₖ) / √(1 + π/8 var(zᵢ − zₖ))): shifts of all logits cancel.
        variance = self.variance
        spread = variance[:, :, None] + variance[:, None, :] - 2 * self.covariance
        differences = self.mean[:, None, :] - self.mean[:, :, None]
        scaled = differences / np.sqrt(1 + np.pi / 8 * np.maximum(spread, 0))
        top = scaled.max(axis=2, keepdims=True)
        found: Array = np.exp(-top[:, :, 0]) / np.exp(scaled - top).sum(axis=2)
        found /= found.sum(axis=1, keepdims=True)
        return found

    def samples(self, n: int, *, seed: int | None = 0) -> Array:
        """Outputs drawn from these distributions.

        Parameters
        ----------
        n : int
        seed : int, optional

        Returns
        -------
        (n, N, outputs) float64 array
            Those of different samples x are independent of each other; for functions, whose outputs
            at all x belong together, see `Laplace.predictive_samples`.
        """
        n = checks.integer(n, "n")
        checks.memory(16 * n * self.mean.size, "the drawn outputs")
        generator = np.random.default_rng(checks.seed(seed))
        return self._draw(n, generator, self._roots)

    def plot(
        self, x: npt.ArrayLike, output: int = 0, *, deviations: float = 2, ax: Any = None
    ) -> Any:
        """Draw an output's mean against a number of each sample, with a band of its deviations.

        Parameters
        ----------
        x : (N,) array_like
            Where each sample is: of nets of one input, that.
        output : int
            Which one.
        deviations : float
            Half of the band's width, in standard deviations. A squared error has a second band
            around it, of the targets with their noise.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            ``.figure.savefig(path)`` writes it.

        Raises
        ------
        ImportError
            Without Matplotlib: ``pip install swiftnets[plot]``.
        """
        count, outputs = self.mean.shape
        places = checks.array(x, "x", (count,))
        output = checks.integer(output, "output", 0, outputs - 1)
        width = checks.real(deviations, "deviations", positive=True)
        ax = axes_of(ax)
        order = np.argsort(places)
        places, mean = places[order], self.mean[order, output]
        (line,) = ax.plot(places, mean)
        variances = [self.variance]
        if self.loss == "squared_error":
            variances.append(self.observation_variance)
        for variance in variances:
            half = width * np.sqrt(variance[order, output])
            ax.fill_between(
                places, mean - half, mean + half, alpha=0.2, color=line.get_color(), linewidth=0
            )
        return ax

    def _draw(self, n: int, generator: np.random.Generator, roots: Array) -> Array:
        noise = generator.standard_normal((n, *self.mean.shape))
        found: Array = self.mean + np.einsum("nij,snj->sni", roots, noise)
        return found

    @property
    def _roots(self) -> Array:
        """R of each covariance, which may be singular: R Rᵀ."""
        values, vectors = np.linalg.eigh(self.covariance)
        roots: Array = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
        return roots

    def _sampled(self, n: int, seed: int | None, is_softmax: bool) -> Array:
        generator, roots = np.random.default_rng(seed), self._roots
        total, step = np.zeros(self.mean.shape), max(1, _CHUNK // self.mean.size)
        for first in range(0, n, step):
            logits = self._draw(min(step, n - first), generator, roots)
            total += (softmax if is_softmax else sigmoid)(logits).sum(axis=0)
        return total / n

    def __repr__(self) -> str:
        samples, outputs = self.mean.shape
        return (
            f"Predictive({checks.counted(samples, 'sample')}, "
            f"{checks.counted(outputs, 'output')}, {self.loss!r})"
        )
