"""Locks of shared objects: a fork frees them, whoever had them."""

import os
import sys
import threading
import weakref

import pytest

from swiftnets._support import locks
from swiftnets._support.locks import lock_of


class Owner:
    def __init__(self):
        self._lock = lock_of(self)


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


def takes_it(owner):
    """Whether another thread gets the lock within a few seconds."""
    got = []

    def take():
        if owner._lock.acquire(timeout=5):
            got.append(1)
            owner._lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return bool(got)


def test_a_child_is_not_kept_out_by_a_thread_of_its_parent():
    owner, taken, done = Owner(), threading.Event(), threading.Event()

    def hold():
        with owner._lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(30)

    def body():
        assert takes_it(owner)

    assert in_child(body) == 0
    done.set()
    thread.join()


def test_a_fork_inside_leaves_parent_and_child_with_a_lock_that_works():
    owner = Owner()

    def body():
        assert takes_it(owner)

    with owner._lock:
        assert in_child(body) == 0
    body()


def test_owners_are_not_kept_alive():
    import gc

    owner = Owner()
    seen = weakref.ref(owner)
    del owner
    gc.collect()
    assert seen() is None


def test_no_code_runs_where_an_owner_is_freed():
    """What Ctrl-C raises in a callback of a weak reference is lost."""
    owner = Owner()
    (reference,) = weakref.getweakrefs(owner)
    assert reference.__callback__ is None


@pytest.mark.thread_unsafe(reason="owners of all threads are counted")
def test_what_is_noted_of_owners_that_are_gone_goes_too():
    kept = [Owner() for _ in range(300)]
    for _ in range(5000):
        Owner()
    assert len(locks._owners) < 2000  # twice those that lived at the last look
    assert {id(one()) for one in locks._owners.values()} >= {id(one) for one in kept}


class Loop:
    """Garbage whose end lets another thread run."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        sum(range(50))


@pytest.mark.thread_unsafe(reason="the interpreter's switching is of all threads")
def test_threads_make_owners_at_once(monkeypatch):
    """One looked through what is noted while another noted: a RuntimeError out of `net.at`."""
    before, errors = sys.getswitchinterval(), []

    def work():
        try:
            kept = [Owner() for _ in range(500)]
            for _ in range(100):
                locks._room = 0  # look through it now
                kept.append(Owner())
                Loop()
        except RuntimeError as error:
            errors.append(error)

    monkeypatch.setattr(locks, "_room", locks._room)
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not errors
