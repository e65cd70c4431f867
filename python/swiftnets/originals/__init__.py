"""What the two nets of 2019 share: their mathematics in plain NumPy, parity, demo, and a study."""

__all__ = ["demo", "reference", "relaxations", "verify"]


def __dir__() -> list[str]:
    return __all__
