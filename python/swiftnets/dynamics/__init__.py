"""Training as a dynamical system: the edge of stability, the flow through it, bifurcations, chaos."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
