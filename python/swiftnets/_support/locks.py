"""Locks of objects that threads share, free again in the child of a fork. Nothing here is public.

They are Python's own: a lock written in Python would be lost where a signal handler raises between
taking it and noting so. Their thread may take them again, since a handler may call for what it
interrupts; the engine then says that the object is in use.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

# Without callbacks, such as a WeakSet's, which would run where an owner is freed: what a signal's
# handler raises there, Ctrl-C for one, Python prints and forgets. By the references' own identity.
_owners: dict[int, weakref.ref[Any]] = {}
_room = 64


def lock_of(owner: Any) -> threading.RLock:
    """A lock for `owner._lock`, which a child gets anew: whoever had it is not there."""
    global _room
    if len(_owners) >= _room:
        # `copy` is one step, while a list of items may let another thread in. What it holds keeps
        # its identity: no other thread's reference has the same key until this is over.
        for key, reference in _owners.copy().items():
            if reference() is None:
                _owners.pop(key, None)
        _room = max(64, 2 * len(_owners))
    reference = weakref.ref(owner)
    _owners[id(reference)] = reference
    return threading.RLock()


def _renew() -> None:
    for reference in _owners.copy().values():
        owner = reference()
        if owner is not None:
            owner._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)
