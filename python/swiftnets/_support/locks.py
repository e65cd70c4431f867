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

_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def lock_of(owner: Any) -> threading.RLock:
    """A lock for `owner._lock`, which a child gets anew: whoever had it is not there."""
    _owners.add(owner)
    return threading.RLock()


def _renew() -> None:
    for owner in list(_owners):
        owner._lock = threading.RLock()


os.register_at_fork(after_in_child=_renew)
