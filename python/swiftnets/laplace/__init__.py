"""Laplace's approximation: posteriors of the weights, predictions and the evidence."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
