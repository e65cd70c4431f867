"""`MLPClassifier`, of scikit-learn's interface."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from swiftnets._support.types import FloatArray
from swiftnets.sklearn._base import BaseMLP, _dense, is_incremental
from swiftnets.sklearn._targets import Classes

__all__ = ["MLPClassifier"]


def __dir__() -> list[str]:
    return __all__


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multilayer perceptron that tells classes apart, with any of our optimisers.

    The loss is scikit-learn's: the mean cross-entropy of a softmax over classes, or of a logistic
    output where there are two, or one for each of several labels, plus ½ alpha Σ W² / N.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Widths of hidden layers; an empty one makes logistic regression.
    activation : str, Activation, or a sequence of them
        Of hidden layers: ``"relu"``, ``"tanh"``, ``"logistic"``, ``"identity"``, or another of
        `swiftnets.nets.activations`.
    solver : str or Optimizer
        ``"adam"``, ``"sgd"``, ``"lbfgs"``, ``"kfac"``, ``"cubic_regularization"``,
        ``"gauss_newton"``, ``"levenberg_marquardt"``, ``"newton"``, ``"quartic_line_search"``,
        ``"saddle_free_newton"`` or ``"trust_region"``; or an object of `swiftnets.optimizers`, with
        its own settings. Those of third order take the last steps to a minimum, with `warm_start`.
    alpha : float
        Strength of the L2 penalty of the weights, not of the biases. As in scikit-learn the
        penalty is divided by the sum of the sample weights that a step sees, so that a minibatch
        decays as much as all samples.
    batch_size : int or "auto"
        Samples in a minibatch. ``"auto"``: 200 for Adam and SGD, 500 for K-FAC where there are 1000
        or more, and all for other solvers. L-BFGS takes all samples whatever it is.
    learning_rate : {"constant", "invscaling", "adaptive"}
        Of ``"sgd"``: as it is, divided by the number of samples seen to the power of `power_t`, or
        a fifth whenever `n_iter_no_change` epochs bring nothing.
    learning_rate_init : float
        Of ``"adam"`` and ``"sgd"``.
    power_t : float
        See `learning_rate`.
    max_iter : int
        Epochs of minibatches, or iterations on all samples.
    shuffle : bool
        Whether minibatches are drawn anew in each epoch.
    random_state : int, RandomState or None
        Of the start, the minibatches and the validation split: drawn as scikit-learn draws them.
    tol : float
        By how much the loss (or the score with `early_stopping`) has to improve at least once in
        `n_iter_no_change` epochs or iterations, or else the fit ends. On all samples it also ends
        where the gradient's norm is not above `tol`; with L-BFGS where no entry of the gradient is,
        or the loss is at rest.
    verbose : bool
        Show progress on standard error.
    warm_start : bool
        Whether `fit` goes on from the weights of the fit before.
    momentum : float
        Of ``"sgd"``, in [0, 1).
    nesterovs_momentum : bool
        Of ``"sgd"``.
    early_stopping : bool
        Hold `validation_fraction` of the samples back, end where their accuracy no longer improves,
        and keep the best weights.
    validation_fraction : float
        Between 0 and 1.
    beta_1, beta_2, epsilon : float
        Of ``"adam"``.
    n_iter_no_change : int
        See `tol`.
    max_fun : int
        Gradients at most, of ``"lbfgs"``.
    mixed_precision : bool
        Whether Adam, SGD, L-BFGS and K-FAC work on float64 samples in float32 as long as the loss
        is above a hundredth of the first one and, where they see all samples, falls by more than
        float32 shows; then in float64. Small data is worked on in float64 throughout.
    laplace : bool or str
        Average probabilities over the posterior of the weights (`swiftnets.laplace`), so that they
        are as often right as they say. `validation_fraction` of the samples is held back: its prior
        precision is the one that makes them most probable. True is ``"kronecker"``; or another
        structure of `swiftnets.laplace.fit`, of which ``"last_layer"`` is quicker. Predictions then
        cost a Jacobian and a solve each.
    class_weight : dict, "balanced" or None
        Weights of classes, as in scikit-learn; they multiply those of samples. A list of dicts for
        several labels.

    Attributes
    ----------
    classes_ : (n_classes,) array
        The classes, in the order of columns of probabilities.
    coefs_, intercepts_ : list of arrays
        Weights (in, out) and biases (out,) of each layer, of the samples' dtype: float32 stays.
    loss_ : float
        The last loss.
    best_loss_ : float or None
        The least; None with early stopping.
    loss_curve_ : list of float
        After each iteration, or the mean over each epoch's minibatches.
    validation_scores_, best_validation_score_
        With early stopping, else None.
    n_iter_ : int
        Epochs or iterations of the last fit.
    n_features_in_, n_outputs_, n_layers_ : int
        Inputs, outputs, and layers of units.
    feature_names_in_ : array of str
        Where X has names of columns.
    out_activation_ : str
        ``"softmax"`` or ``"logistic"``.
    t_ : int
        Samples seen.
    posterior_ : swiftnets.laplace.Laplace
        With ``laplace``.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : Whose parameters and attributes these are.
    swiftnets.MLP : The net, for all else.

    Notes
    -----
    A sparse X is taken, and made dense. Results depend on `random_state` and the data alone, not on
    the number of threads, but for rounding.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> x, y = load_digits(return_X_y=True)
    >>> x_train, x_test, y_train, y_test = train_test_split(x / 16, y, random_state=0)
    >>> model = MLPClassifier((32,), "tanh", solver="lbfgs", alpha=0.1, random_state=0)
    >>> bool(model.fit(x_train, y_train).score(x_test, y_test) > 0.95)
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
        class_weight: Any = None,
    ) -> None:
        self._keep(locals())

    # What the base asks

    def _loss_name(self) -> str:
        return self._classes.loss

    def _read(self, x: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Any]:
        x, y = validate_data(
            self,
            x,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=first,
        )
        y = _dense(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if first and not (incremental and hasattr(self, "_classes")):
            self._classes = Classes(y)
        else:
            self._classes.require(y, all_of_them=not incremental)
        self.classes_, self.n_outputs_ = self._classes.names, self._classes.outputs
        self.out_activation_ = "softmax" if self._classes.loss.startswith("softmax") else "logistic"
        return _dense(x), y

    def _encoded(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        return self._classes.encode(y, dtype)

    def _class_weights(self, y: Any, incremental: bool) -> npt.NDArray[Any] | None:
        if self.class_weight is None:
            return None
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight is {self.class_weight!r}, which needs all samples; expected a dict "
                "for partial_fit (see sklearn.utils.class_weight.compute_class_weight)"
            )
        found: npt.NDArray[Any] = compute_sample_weight(self.class_weight, y)
        return found

    def _stratify(self, y: Any, held: int) -> Any:
        """What both parts have alike: the classes, where each has samples for both."""
        if self._classes.is_multilabel:
            return None
        fewest = int(np.unique(y, return_counts=True)[1].min())
        return y if fewest >= 2 and held >= len(self.classes_) else None

    def _score_outputs(self, y: Any, outputs: FloatArray, weights: Any) -> float:
        return float(accuracy_score(y, self._classes.decide(outputs), sample_weight=weights))

    # The interface

    def fit(self, X: Any, y: Any, sample_weight: npt.ArrayLike | None = None) -> Self:
        """Train on samples.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame
        y : (N,) array_like, or (N, n_labels) of 0 and 1
            Classes: numbers, strings or booleans.
        sample_weight : (N,) array_like, optional
            Not negative; 0 leaves a sample out.

        Returns
        -------
        MLPClassifier
            Itself. A `sklearn.exceptions.ConvergenceWarning` says that `max_iter` was not enough.

        Raises
        ------
        ValueError, TypeError
            If a setting or the data are not as above, or numbers of the training overflow.
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(is_incremental)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
    ) -> Self:
        """Go once over some samples, in minibatches, from where the last call ended.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : (n_classes,) array_like
            All there are: for the first call, of which y may lack some.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            If the first call lacks classes, or a later one has others; with
            ``class_weight="balanced"``, which needs all samples.

        Notes
        -----
        It is not there, as `hasattr` says, with L-BFGS, ``early_stopping`` and ``laplace``.
        """
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            names = np.asarray(classes)
            is_multilabel = np.ndim(y) == 2 and np.shape(y)[1] > 1
            self._classes = Classes(np.asarray(y)) if is_multilabel else Classes(names, names)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                f"{self.classes_!r}"
            )
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Classes of samples.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame

        Returns
        -------
        (N,) array of classes, or (N, n_labels) of 0 and 1
            The most probable ones.
        """
        if hasattr(self, "posterior_"):
            return self._classes.decide(self._averaged(X), 0.5)
        outputs = self._outputs(X)
        return self._classes.decide(outputs)

    def predict_proba(self, X: Any) -> FloatArray:
        """Probabilities of classes.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame

        Returns
        -------
        (N, n_classes) float array
            Columns in the order of ``classes_``; of several labels each is its own. With
            ``laplace`` averaged over the posterior of the weights.
        """
        if hasattr(self, "posterior_"):
            return self._classes.columns(self._averaged(X))
        outputs = self._outputs(X)
        return self._classes.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> FloatArray:
        """Logarithms of `predict_proba`.

        Parameters
        ----------
        X : (N, n_features) array_like, sparse matrix or DataFrame

        Returns
        -------
        (N, n_classes) float array
            -inf where a probability is below the smallest number.
        """
        with np.errstate(divide="ignore"):
            found: FloatArray = np.log(self.predict_proba(X))
        return found

    def _averaged(self, x: Any) -> FloatArray:
        """Probabilities of the net's outputs over the posterior."""
        found = self.posterior_.predictive(self._inputs(x)).probabilities()
        return found.astype(self._dtype, copy=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
