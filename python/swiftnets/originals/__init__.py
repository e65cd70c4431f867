"""The two nets of 2019 and what belongs to them.

`slow` and `fast` are the nets, under the scripts' names also in `swiftnets.slow_net` and
`swiftnets.fast_net`. `reference` is their mathematics in plain NumPy, `verify` compares the engine
with it and with the scripts themselves, `demo` shows both in a minute, and `relaxations` is a study
of iterations that go round the circle of a net's equations.
"""

__all__ = ["demo", "fast", "reference", "relaxations", "slow", "verify"]


def __dir__() -> list[str]:
    return __all__
