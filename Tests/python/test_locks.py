"""The lock of shared objects: threads take turns, re-entrance is told, a fork frees it."""

import os
import threading

import pytest

from swiftnets._locks import Lock


def test_threads_take_turns():
    lock, inside, most = Lock("it"), [], []

    def work():
        for _ in range(200):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1


def test_who_has_it_already_is_told_and_keeps_it():
    lock = Lock("the net")
    with lock:
        with pytest.raises(RuntimeError, match="the net is in use by the call that this one"), lock:
            pass
        free = []
        thread = threading.Thread(target=lambda: free.append(lock._lock.acquire(timeout=0.05)))
        thread.start()
        thread.join()
        assert free == [False]
    with lock:
        pass


def test_an_exception_lets_go():
    lock = Lock("it")
    with pytest.raises(KeyError), lock:
        raise KeyError
    with lock:
        pass


def in_child(body):
    """The exit status of a fork that runs `body`, which must not take long."""
    child = os.fork()
    if child == 0:
        try:
            body()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_child_is_not_kept_out_by_a_thread_of_its_parent():
    lock, taken, done = Lock("it"), threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)

    def body():
        got = []

        def take():
            with lock:
                got.append(1)

        other = threading.Thread(target=take, daemon=True)
        other.start()
        other.join(10)
        assert got

    assert in_child(body) == 0
    done.set()
    thread.join()


def test_a_fork_inside_leaves_parent_and_child_with_a_lock_that_works():
    lock = Lock("it")

    def body():
        with lock:
            pass

    with lock:
        assert in_child(body) == 0
    body()
