"""Run by test_core.py: uses the core in second interpreters, then again in the first."""

from swiftnets import _core

CODE = """
try:
    from swiftnets import _core
except ImportError as error:  # an interpreter with a lock of its own, from Python 3.12 on
    assert "does not support loading in subinterpreters" in str(error), error
else:
    one = memoryview(bytearray(8)).cast("d", (1, 1))
    assert _core.slow_loss(one, one, one, one) == 0
    net = _core.mlp((1, 1), ((0, 0.0),), 0, 1, 0, 0.0, None)  # freed when the interpreter ends
    try:
        _core.slow_loss(one, one, one)
    except TypeError:
        pass
"""


def create(isolated):
    # Renamed in Python 3.13: imported where it is used, so that doctests may import this file.
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

        return interpreters, interpreters.create(isolated=isolated)
    return interpreters, interpreters.create("isolated" if isolated else "legacy")


def main():
    for isolated in (False, True, False):
        interpreters, one = create(isolated)
        try:
            failed = interpreters.run_string(one, CODE)
        finally:
            interpreters.destroy(one)
        assert failed is None, failed

    assert issubclass(_core.ConvergenceError, ArithmeticError)
    one = memoryview(bytearray(8)).cast("d", (1, 1))
    assert _core.slow_loss(one, one, one, one) == 0


if __name__ == "__main__":  # the doctests import this file, too
    main()
