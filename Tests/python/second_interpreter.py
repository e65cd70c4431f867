"""Run by test_core.py: uses the core in a second interpreter, then again in the first."""

from swiftnets import _core

CODE = """
from swiftnets import _core
one = memoryview(bytearray(8)).cast("d", (1, 1))
assert _core.slow_loss(one, one, one, one) == 0
try:
    _core.slow_loss(one, one, one)
except TypeError:
    pass
"""


def main():
    # Renamed in Python 3.13: imported where it is used, so that doctests may import this file.
    import _xxsubinterpreters as interpreters

    interpreter = interpreters.create(isolated=False)
    try:
        interpreters.run_string(interpreter, CODE)
    finally:
        interpreters.destroy(interpreter)

    assert issubclass(_core.ConvergenceError, ArithmeticError)
    one = memoryview(bytearray(8)).cast("d", (1, 1))
    assert _core.slow_loss(one, one, one, one) == 0


if __name__ == "__main__":  # the doctests import this file, too
    main()
