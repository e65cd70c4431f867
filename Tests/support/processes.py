"""The engine in children of a process that has used it, for test_core.py.

`python processes.py fork|spawn` fails unless the children get the parent's bits.
"""

import multiprocessing
import sys

import numpy as np

from swiftnets import _core


def step(seed):
    """One slow_net step, and a matrix product large enough for OpenBLAS's threads."""
    random = np.random.RandomState(seed)
    xs, ys = random.randn(50, 50), np.eye(100)[random.randint(100, size=50)]
    w1, w2 = random.randn(50, 50) / 7, random.randn(50, 100) / 7
    w1_out, w2_out = np.empty_like(w1), np.empty_like(w2)
    _core.slow_step(_core.slow_workspace(), xs, ys, w1, w2, 0.1, 0.1, 0, w1_out, w2_out)
    large, w, outputs = random.randn(600, 700), random.randn(700, 500), np.empty((600, 500))
    _core.fast_predict(large, w, outputs)
    return w1_out.tobytes() + w2_out.tobytes() + outputs.tobytes()


def main(method):
    _core.set_threads(2)
    expected = [step(seed) for seed in range(3)]
    context = multiprocessing.get_context(method)
    with context.Pool(2, initializer=_core.set_threads, initargs=(2,)) as pool:
        assert pool.map(step, range(3)) == expected
    assert [step(seed) for seed in range(3)] == expected


if __name__ == "__main__":
    main(sys.argv[1])
