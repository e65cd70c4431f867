"""What a minimum would be without samples: expansions to third order from one factorisation."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
