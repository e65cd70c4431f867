"""The module when interpreters end and begin: daemon threads, late calls, imports once more."""

import os
import subprocess
import sys
import textwrap

import pytest
from sanitized import without_leaks

START = """
    import gc, os, sys, threading, time
    import numpy as np
    from swiftnets import MLP, FastNet, SlowNet, _core
    from swiftnets.nets import CustomActivation

    _core.set_threads(2)
    r = np.random.default_rng(0)
    x, y = r.standard_normal((3000, 40)), r.standard_normal((3000, 10))
    net = MLP((40, 60, 10))
    custom = MLP(net.sizes, activation=CustomActivation("x", np.sin, np.cos))
    w = net.initial(0)
    v = r.standard_normal((8, net.parameter_count))
    point = net.at(w, x, y)
    expected = (v @ point.hessian).tobytes()
    slow_x, slow_y = r.standard_normal((50, 50)), np.eye(100)[r.integers(0, 100, 50)]
    images = r.integers(0, 256, (300, 600)) / 256 - 0.5
    targets = np.eye(10)[r.integers(0, 10, 300)]
    loops = {
        "hessian": lambda: net.hessian(w, x, y),
        "lanczos": lambda: point.hessian.lanczos(v[:2], 40),
        "slow step": lambda: SlowNet(seed=0).step(slow_x, slow_y),
        "fast step": lambda: FastNet(600, 10, seed=0).step(images, targets),
        "own activation": lambda: custom.gradient(w, x, y),
    }

    class Late:
        \"\"\"Calls the engine when the interpreter ends and other threads are shut out.\"\"\"

        def __init__(self):
            # Names of modules are gone by then; the lock of `point` may be a daemon thread's.
            own = net.at(w, x, y)
            self.sleep, self.write = time.sleep, os.write
            self.call = lambda: (v @ own.hessian).tobytes() == expected

        def __del__(self):
            self.sleep(0.4)  # without the GIL: whoever takes it is ended
            self.write(1, b"right" if self.call() else b"wrong")
"""


def run(code, *words):
    script = textwrap.dedent(START) + textwrap.dedent(code)
    command = [sys.executable, "-X", "faulthandler", "-c", script, *words]
    env = {**without_leaks(), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", ["hessian", "lanczos", "slow step", "fast step", "own activation"])
def test_daemon_threads_that_the_end_of_the_interpreter_ends_hold_nothing_of_the_engine(name):
    code = """
        sys.modules["late"] = Late()

        def loop(operation=loops[sys.argv[1]]):
            while True:
                operation()

        for _ in range(3):
            threading.Thread(target=loop, daemon=True).start()
        time.sleep(0.3)
    """
    assert run(code, name) == "right"


def test_handles_in_cycles_and_in_modules_outlive_the_module():
    code = """
        cycle = [point, net]
        cycle.append(cycle)
        import builtins
        shifted = net.at(w, x[:9], y[:9]).hessian + 1.0
        builtins.kept = [shifted.factorize(method="layered"), Late()]
    """
    assert run(code) in ("right", "")  # what builtins hold may never be freed


def test_a_module_that_is_imported_once_more_takes_the_handles_of_the_first():
    code = """
        first = _core
        for name in [name for name in sys.modules if name.split(".")[0] == "swiftnets"]:
            del sys.modules[name]
        from swiftnets import MLP, _core
        assert (v @ point.hessian).tobytes() == expected
        again = MLP((40, 60, 10)).at(w, x, y)
        assert (v @ again.hessian).tobytes() == expected
        del point, first, net, MLP, _core, again
        gc.collect()
        from swiftnets import MLP
        assert (v @ MLP((40, 60, 10)).at(w, x, y).hessian).tobytes() == expected
    """
    assert run(code) == ""
