"""`MLPRegressor`, of scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from swiftnets._support.types import FloatArray
from swiftnets.nets import losses
from swiftnets.sklearn._base import BaseMLP, _dense, is_incremental

__all__ = ["MLPRegressor"]


def __dir__() -> list[str]:
    return __all__


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that fits numbers, with any of our optimisers.

    The loss is the mean over samples of ½ Σ (z − y)², the sum being over outputs, plus
    ½ alpha Σ W² / N. Its gradient is scikit-learn's; of several outputs scikit-learn's ``loss_``
    alone has their mean in place of the sum.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size
        As of `MLPClassifier`.
    learning_rate, learning_rate_init, power_t, max_iter, shuffle
        As of `MLPClassifier`.
    random_state, tol, verbose, warm_start, momentum, nesterovs_momentum
        As of `MLPClassifier`.
    early_stopping, validation_fraction
        As of `MLPClassifier`; the score is R².
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun, mixed_precision
        As of `MLPClassifier`.
    laplace : bool or str
        Find the posterior of the weights (`swiftnets.laplace`) for `predict` with ``return_std``,
        with the prior precision and the noise's variance that make `validation_fraction` of the
        samples, which is held back, most probable. True is ``"kronecker"``.
    loss : {"squared_error", "huber"} or Loss
        See `swiftnets.nets.losses`.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_
        As of `MLPClassifier`.
    validation_scores_, best_validation_score_, n_iter_
        As of `MLPClassifier`.
    n_features_in_, n_outputs_, n_layers_, feature_names_in_, t_
        As of `MLPClassifier`.
    out_activation_ : str
        ``"identity"``.
    posterior_ : swiftnets.laplace.Laplace
        With ``laplace``.

    See Also
    --------
    sklearn.neural_network.MLPRegressor : Whose parameters and attributes these are.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 50)[:, None]
    >>> y = np.sin(3 * x[:, 0])
    >>> model = MLPRegressor(8, "tanh", solver="levenberg_marquardt", alpha=1e-6, random_state=0)
    >>> bool(model.fit(x, y).score(x, y) > 0.999)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        mixed_precision: bool = True,
        laplace: Any = False,
        loss: Any = "squared_error",
    ) -> None:
        self._keep(locals())

    # What the base asks

    def _loss_name(self) -> losses.Loss:
        found = losses.resolve(self.loss, "loss")
        if found.name not in ("squared_error", "huber"):
            raise ValueError(f"loss is {found.name!r}; expected 'squared_error' or 'huber'")
        return found

    def _require_likelihood(self) -> None:
        if (name := self._loss_name().name) != "squared_error":
            raise ValueError(
                f"laplace is {self.laplace!r} and loss {name!r}, which is no likelihood; expected "
                "loss='squared_error', or laplace=False"
            )

    def _read(self, x: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Any]:
        x, y = validate_data(
            self,
            x,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
        self.out_activation_ = "identity"
        return _dense(x), y

    def _encoded(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return np.asarray(y, dtype).reshape(len(y), -1)

    def _score_outputs(self, y: Any, outputs: FloatArray, weights: Any) -> float:
        return float(r2_score(y, outputs, sample_weight=weights))

    # The interface

    def fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame
        y : (N,) or (N, n_outputs) array_like
        sample_weight : (N,) array_like, optional
            Not negative; 0 leaves a sample out.

        Returns
        -------
        MLPRegressor
            Itself. A `sklearn.exceptions.ConvergenceWarning` says that `max_iter` was not enough.

        Raises
        ------
        ValueError, TypeError
            If a setting or the data are not as above, or numbers of the training overflow.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(is_incremental)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Go once over some samples, in minibatches, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        MLPRegressor
            Itself.

        Notes
        -----
        It is not there, as `hasattr` says, with L-BFGS, ``early_stopping`` and ``laplace``.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    @overload
    def predict(self, X: Any, return_std: Literal[False] = False) -> FloatArray: ...
    @overload
    def predict(self, X: Any, return_std: Literal[True]) -> tuple[FloatArray, FloatArray]: ...
    def predict(
        self, X: Any, return_std: bool = False
    ) -> FloatArray | tuple[FloatArray, FloatArray]:
        """Numbers of samples.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame
        return_std : bool
            Also the standard deviations of targets there: of the posterior of the weights and of
            the noise. Needs ``laplace``.

        Returns
        -------
        (N,) or (N, n_outputs) float array, or a tuple of two

        Raises
        ------
        ValueError
            If `return_std` is asked of an estimator without ``laplace``.
        """
        outputs = self._outputs(X)
        mean = outputs.ravel() if self.n_outputs_ == 1 else outputs
        if not return_std:
            return mean
        if not hasattr(self, "posterior_"):
            raise ValueError("return_std is True; expected a fit with laplace=True before")
        found = self.posterior_.predictive(self._inputs(X)).observation_variance
        spread: FloatArray = np.sqrt(found).astype(self._dtype, copy=False)
        return mean, spread.ravel() if self.n_outputs_ == 1 else spread

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
