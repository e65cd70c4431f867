"""Eigenvalues with proof: extremal pairs, counts, densities and traces of symmetric operators."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
