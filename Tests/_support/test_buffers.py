"""Memory of results that is used again: never while anybody can see it."""

import threading

import numpy as np

from swiftnets import MLP
from swiftnets._support import buffers

COUNT, KIND = 50_000, np.dtype(np.float64)


def address(array):
    return array.__array_interface__["data"][0]


def test_an_array_comes_back_when_nobody_holds_it():
    first = buffers.take(COUNT, KIND)
    where = address(first)
    assert address(buffers.take(COUNT, KIND)) != where
    del first
    again = [buffers.take(COUNT, KIND) for _ in range(3)]
    assert where in {address(array) for array in again}
    assert len({address(array) for array in again}) == 3


def test_views_and_buffers_hold_it():
    for hold in (lambda a: a[1:], lambda a: a.reshape(2, -1), memoryview, lambda a: a.data):
        held = hold(buffers.take(COUNT, KIND))
        where = np.asarray(held).__array_interface__["data"][0] & ~15
        others = [buffers.take(COUNT, KIND) for _ in range(20)]
        assert all(address(array) & ~15 != where for array in others)
        del held, others


def test_other_sizes_kinds_and_threads_are_apart():
    del_me = buffers.take(COUNT, KIND)
    where = address(del_me)
    del del_me
    assert address(buffers.take(COUNT + 1, KIND)) != where
    assert buffers.take(2 * COUNT, np.dtype(np.float32)).dtype == np.float32
    found = []
    thread = threading.Thread(target=lambda: found.append(buffers.take(COUNT, KIND)))
    thread.start()
    thread.join()
    assert address(found[0]) != where


def test_gradients_that_are_kept_stay_what_they_were():
    net = MLP((100, 120, 10))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 100)), rng.standard_normal((4, 10))
    points = [net.initial(seed) for seed in range(20)]
    kept = [net.gradient(w, x, y) for w in points]
    for w, gradient in zip(points, kept, strict=True):
        assert np.array_equal(gradient, net.gradient(w, x, y))


def test_a_result_that_was_frozen_or_reshaped_spoils_nothing_for_the_next():
    net = MLP((100, 120, 10))
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((4, 100)), rng.standard_normal((4, 10)), net.initial(0)
    expected = net.gradient(w, x, y).copy()

    def freeze(g):
        g.flags.writeable = False

    def reshape(g):
        g.shape = (2, -1)

    def retype(g):
        g.dtype = np.int64

    for change in (freeze, reshape, retype):
        for _ in range(20):  # more than are kept
            change(net.gradient(w, x, y))
        assert np.array_equal(net.gradient(w, x, y), expected)


def test_large_arrays_begin_on_a_cache_line():
    for count, kind in ((COUNT, KIND), (COUNT + 1, KIND), (99_999, np.dtype(np.float32))):
        assert address(buffers.take(count, kind)) % 64 == 0
