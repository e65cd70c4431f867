"""What both estimators share: settings and their checks, the fit, weights in and out."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from swiftnets._support import checks
from swiftnets._support.types import FloatArray
from swiftnets.laplace.posterior import Laplace
from swiftnets.mlp import MLP
from swiftnets.nets import activations
from swiftnets.nets.activations import ActivationLike
from swiftnets.nets.samples import Batch
from swiftnets.sklearn._decay import DecayedMLP
from swiftnets.sklearn._laplace import posterior_of, structure_of
from swiftnets.sklearn._training import Outcome, Trainer, resolve, takes_all

__all__ = ["BaseMLP"]


def __dir__() -> list[str]:
    return __all__


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """A multilayer perceptron for scikit-learn; its parameters are those of its subclasses."""

    def _keep(self, settings: dict[str, Any]) -> None:
        """What an ``__init__`` was given, untouched and by name, as scikit-learn asks for it."""
        for name, value in settings.items():
            if name != "self":
                setattr(self, name, value)

    # What the subclasses say

    _score_outputs: Callable[..., float]
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    def _loss_name(self) -> Any:
        raise NotImplementedError

    def _read(self, x: Any, y: Any, first: bool, incremental: bool) -> tuple[Any, Any]:
        """X and y, checked."""
        raise NotImplementedError

    def _encoded(self, y: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """y as targets or labels of the net."""
        raise NotImplementedError

    def _class_weights(self, y: Any, incremental: bool) -> npt.NDArray[Any] | None:
        return None

    def _require_likelihood(self) -> None:
        """A ValueError where the loss is none that `laplace` takes."""

    def _stratify(self, y: Any, held: int) -> Any:
        return None

    # Settings

    def _check_settings(self) -> None:
        checks.nonnegative(self.alpha, "alpha")
        checks.nonnegative(self.tol, "tol")
        checks.nonnegative(self.power_t, "power_t")
        checks.integer(self.max_iter, "max_iter")
        checks.integer(self.max_fun, "max_fun")
        checks.choice(self.learning_rate, "learning_rate", ("constant", "invscaling", "adaptive"))
        names = ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping")
        for name in (*names, "mixed_precision"):
            checks.flag(getattr(self, name), name)
        if not 0 <= checks.real(self.validation_fraction, "validation_fraction") < 1:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction!r}; expected a number from 0 to "
                "below 1"
            )
        if self.n_iter_no_change != np.inf:
            checks.integer(self.n_iter_no_change, "n_iter_no_change")

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        single = isinstance(sizes, numbers.Integral)
        if not single and (isinstance(sizes, (str, bytes)) or not checks.iterable(sizes)):
            raise TypeError(
                f"hidden_layer_sizes is {sizes!r}; expected an integer or a sequence of them"
            )
        given = [sizes] if single else checks.several(sizes, "hidden_layer_sizes")
        return [
            checks.integer(size, "hidden_layer_sizes" + ("" if single else f"[{index}]"), 1)
            for index, size in enumerate(given)
        ]

    def _activations(self, hidden: list[int]) -> list[ActivationLike]:
        given = self.activation
        if isinstance(given, (str, activations.Activation)):
            given = [given] * len(hidden)
        names = checks.several(given, "activation")
        if len(names) != len(hidden):
            raise ValueError(
                f"activation has {len(names)} entries; expected {len(hidden)}, one for each hidden "
                "layer"
            )
        return ["sigmoid" if one == "logistic" else one for one in names]

    # The fit

    def _fit(self, x: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        self._check_settings()
        structure = structure_of(self.laplace)
        if structure is not None:
            self._require_likelihood()
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        x, y = self._read(x, y, first, incremental)
        weights = self._weights(sample_weight, x, y, incremental)
        random = check_random_state(self.random_state)
        if first:
            self._begin(x.shape[1], x.dtype, random)
        else:
            self._require_same(x.shape[1])
        net, w = self._net, self._joined().astype(self._net.dtype, copy=False)
        x, targets = x.astype(net.dtype, copy=False), self._encoded(y, net.dtype)
        held: Any = None
        if self.early_stopping or structure is not None:
            kept, held = self._hold_back(y, random)
            for part, words in ((kept, "trained on"), (held, "held back")):
                if weights is not None and not weights[part].any():
                    raise ValueError(
                        f"sample_weight is 0 for all samples that are {words}; expected one above "
                        "0: leave out samples that do not count, or take another random_state"
                    )
            held = x[held], y[held], None if weights is None else weights[held], targets[held]
            x, targets, weights = (
                x[kept],
                targets[kept],
                weights if weights is None else weights[kept],
            )
        batch = _batch(x, targets, weights, net.dtype)
        optimizer = resolve(self, int(random.randint(2**31 - 1)) if self.solver == "kfac" else 0)
        trainer = Trainer(self, net, batch, optimizer, random, self.loss_curve_)
        try:
            with np.errstate(all="ignore"):
                outcome, w = self._trained(trainer, w, held, incremental)
            if not np.isfinite(w).all():
                raise FloatingPointError("the weights are not finite")
        except FloatingPointError as error:
            raise ValueError(
                "Solver produced non-finite parameter weights or loss "
                f"({error}). The input data may contain large values and need to be preprocessed "
                "(see sklearn.preprocessing.StandardScaler), or the learning rate is too large."
            ) from error
        self._split(w)
        self.n_iter_ = outcome.iterations
        self.t_ += outcome.iterations * len(batch.x)
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else np.nan
        self.best_loss_ = None if self.early_stopping else min(self.loss_curve_, default=np.nan)
        if outcome.problem and not incremental:
            warnings.warn(
                f"{type(self).__name__} with solver={self.solver!r}: {outcome.problem}. Raise "
                "max_iter, or scale the data (see sklearn.preprocessing.StandardScaler).",
                ConvergenceWarning,
                stacklevel=3,
            )
        if structure is not None:
            plain = self._made(MLP, reduction="mean")
            x, _, weights, targets = held
            back = _batch(x, targets, weights, net.dtype)
            self.posterior_: Laplace = posterior_of(plain, w, batch, back, structure)
        elif hasattr(self, "posterior_"):
            del self.posterior_
        return self

    def _trained(
        self, trainer: Trainer, w: FloatArray, held: Any, incremental: bool
    ) -> tuple[Outcome, FloatArray]:
        if incremental:
            kind, state = getattr(self, "_state", (None, None))
            outcome = trainer.partial(w, state if kind is type(trainer.optimizer) else None)
            self._state = type(trainer.optimizer), outcome.state
            return outcome, outcome.w
        score = None
        if self.early_stopping:
            x, y, weights, _ = held

            def score(w: FloatArray) -> float:
                outputs = self._net.predict(w, x)
                if not np.isfinite(outputs).all():
                    return float("nan")
                return self._score_outputs(y, outputs, weights)

        outcome, best = trainer.run(w, score)
        if not takes_all(self.solver):  # of no use to partial_fit
            self._state = type(trainer.optimizer), outcome.state
        self.validation_scores_ = trainer.scores if self.early_stopping else None
        self.best_validation_score_ = max(trainer.scores) if trainer.scores else None
        return outcome, best

    def _weights(self, given: Any, x: Any, y: Any, incremental: bool) -> npt.NDArray[Any] | None:
        """Of samples: those that are given times those of their classes."""
        weights = None
        if given is not None:
            if isinstance(given, numbers.Real):
                given = np.full(len(x), float(given))
            weights = checks.array(given, "sample_weight", (len(x),))
            if not (weights >= 0).all() or not np.isfinite(weights).all():
                raise ValueError(
                    "sample_weight has an entry that is negative or not finite; expected "
                    "weights ≥ 0"
                )
        by_class = self._class_weights(y, incremental)
        if by_class is not None:
            if not (by_class >= 0).all() or not np.isfinite(by_class).all():
                raise ValueError(
                    "class_weight has a weight that is negative or not finite; expected weights ≥ 0"
                )
            weights = by_class if weights is None else weights * by_class
        if weights is not None and not weights.any():
            raise ValueError("every sample_weight is zero; expected a weight above 0")
        return weights

    def _hold_back(self, y: Any, random: np.random.RandomState) -> tuple[Any, Any]:
        """Which samples are trained on, and which are held back."""
        held = math.ceil(self.validation_fraction * len(y))
        if held < 2:
            raise ValueError(
                f"The validation set is too small: it has {held} of {len(y)} samples. Increase "
                "'validation_fraction' or the size of your dataset."
            )
        kept, back = train_test_split(
            np.arange(len(y)),
            random_state=random,
            test_size=self.validation_fraction,
            stratify=self._stratify(y, held),
        )
        return kept, back

    # Weights in and out

    def _made(self, kind: type[MLP], **settings: Any) -> Any:
        hidden = self._hidden()
        sizes = [self.n_features_in_, *hidden, self.n_outputs_]
        return kind(
            sizes,
            activation=self._activations(hidden),
            loss=self._loss_name(),
            dtype=self._dtype,
            **settings,
        )

    def _begin(self, features: int, dtype: npt.DTypeLike, random: np.random.RandomState) -> None:
        """A net at its start, drawn as scikit-learn does: the same of the same random_state."""
        self.n_features_in_, self._dtype = features, np.dtype(dtype)
        self._net: DecayedMLP = self._made(DecayedMLP, alpha=float(self.alpha), total=1.0)
        self.n_layers_ = self._net.depth + 1
        factor = 2.0 if isinstance(self.activation, str) and self.activation == "logistic" else 6.0
        self.coefs_: list[FloatArray] = []
        self.intercepts_: list[FloatArray] = []
        for m, n in zip(self._net.sizes, self._net.sizes[1:], strict=False):
            bound = np.sqrt(factor / (m + n))
            self.coefs_.append(random.uniform(-bound, bound, (m, n)).astype(dtype, copy=False))
            self.intercepts_.append(random.uniform(-bound, bound, n).astype(dtype, copy=False))
        self.loss_curve_: list[float] = []
        self.t_ = 0
        self.validation_scores_, self.best_validation_score_ = None, None
        for name in ("_state", "posterior_", "n_iter_"):  # a fit that fails leaves none fitted
            self.__dict__.pop(name, None)

    def _require_same(self, features: int) -> None:
        """Going on needs the net of the fit before; alpha alone may be another."""
        shapes = [coef.shape for coef in self.coefs_]
        net = self._made(DecayedMLP, alpha=float(self.alpha), total=1.0)
        expected = list(zip(net.sizes, net.sizes[1:], strict=False))
        if shapes != expected:
            raise ValueError(
                f"coefs_ has shapes {shapes}, and these settings give {expected}; expected those "
                "of the fit before with warm_start or partial_fit"
            )
        self._net = net

    def _joined(self) -> FloatArray:
        """`coefs_` and `intercepts_`, which users may have changed, as one vector."""
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        return np.concatenate([np.ravel(part) for pair in pairs for part in pair])

    def _split(self, w: FloatArray) -> None:
        views = self._net.unflatten(w)
        layers = range(self._net.depth)
        self.coefs_ = [views[f"w{layer}"].copy() for layer in layers]
        self.intercepts_ = [views[f"b{layer}"].copy() for layer in layers]

    # Predictions

    def _inputs(self, x: Any) -> FloatArray:
        check_is_fitted(self)
        found = validate_data(self, x, accept_sparse=["csr", "csc"], dtype=self._dtype, reset=False)
        return _dense(found)

    def _outputs(self, x: Any) -> FloatArray:
        """Of the net: logits for a classifier."""
        rows = self._inputs(x)
        found = self._net.predict(self._joined().astype(self._dtype, copy=False), rows)
        if np.isnan(found).any():  # which compares as the first class
            count = checks.counted(int(np.isnan(found).any(axis=1).sum()), "sample")
            raise ValueError(
                f"outputs of {count} are NaN; expected an X that {self._dtype} has room for"
            )
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_iter_")


def _dense(x: Any) -> npt.NDArray[Any]:
    """Of a sparse matrix, all entries: the engine has no others."""
    if not hasattr(x, "toarray"):
        return np.asarray(x)
    checks.memory(x.dtype.itemsize * x.shape[0] * x.shape[1], "a sparse matrix with all its zeros")
    return np.asarray(x.toarray())


def _batch(x: Any, targets: Any, weights: Any, dtype: npt.DTypeLike) -> Batch:
    """Samples for the net: those of weight 0 are left out."""
    is_labels = targets.ndim == 1
    if weights is not None:
        weights = weights.astype(dtype)
    batch = Batch(
        np.ascontiguousarray(x),
        None if is_labels else np.ascontiguousarray(targets),
        targets if is_labels else None,
        weights,
    )
    return batch.counted


def is_incremental(estimator: Any) -> bool:
    """Whether it can be trained on a part of the samples; an AttributeError if not."""
    if takes_all(estimator.solver):
        raise AttributeError(
            f"partial_fit is not there with solver={estimator.solver!r}, whose curvature is of "
            "differences of gradients of the same samples; use 'adam', 'sgd' or 'kfac'"
        )
    for name in ("early_stopping", "laplace"):
        value = getattr(estimator, name)
        if value:
            raise AttributeError(
                f"partial_fit is not there with {name}={value!r}, which needs all samples"
            )
    return True
