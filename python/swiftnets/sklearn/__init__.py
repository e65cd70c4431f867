"""Estimators for scikit-learn: `MLPClassifier` and `MLPRegressor`, trained by our optimisers.

They take the place of scikit-learn's own of these names: the same parameters, attributes and
starts, and the same meaning of each; K-FAC, trust regions and all else in `swiftnets.optimizers`
are solvers beside L-BFGS, SGD and Adam, and ``laplace=True`` calibrates what is predicted. Needs
scikit-learn: ``pip install swiftnets[sklearn]``.

>>> from sklearn.datasets import load_iris
>>> from sklearn.pipeline import make_pipeline
>>> from sklearn.preprocessing import StandardScaler
>>> from swiftnets.sklearn import MLPClassifier
>>> x, y = load_iris(return_X_y=True, as_frame=True)
>>> model = make_pipeline(StandardScaler(), MLPClassifier((10,), solver="kfac", random_state=0))
>>> bool(model.fit(x, y).score(x, y) > 0.97)
True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from swiftnets.sklearn._classifier import MLPClassifier
    from swiftnets.sklearn._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

_HOMES = {"MLPClassifier": "_classifier", "MLPRegressor": "_regressor"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = import_module("sklearn.utils.validation")
        if not hasattr(found, "validate_data"):
            raise ImportError(f"scikit-learn is {import_module('sklearn').__version__}")
    except ImportError as error:
        value = _missing(name, error)
    else:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _missing(name: str, error: ImportError) -> type:
    """What stands for an estimator without scikit-learn: help shows it, and making one says why."""

    def refuse(*arguments: Any, **settings: Any) -> NoReturn:
        raise ImportError(
            "the estimators need scikit-learn 1.6 or later: pip install swiftnets[sklearn]"
        ) from error

    text = "Needs scikit-learn 1.6 or later: ``pip install swiftnets[sklearn]``."
    return type(name, (), {"__new__": refuse, "__doc__": text, "__module__": __name__})
