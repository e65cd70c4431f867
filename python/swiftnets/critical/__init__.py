"""Critical points of a net's loss: found from many starts, counted by inertia, certified."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
