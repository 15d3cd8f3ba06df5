"""How many indexes stay in memory: the least recently used go when all of a process's together are over a budget.

An index is derived: one that went is read again from its snapshot, and caught up, at its next search.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from typing import Protocol

DEFAULT_BUDGET_BYTES = 2 << 30
"""Two GiB: five million vectors of 384 dimensions in 8 bits, or 1.3 million in float32."""


class Evictable(Protocol):
    """What the cache knows of an index."""

    def evict(self) -> bool:
        """Leave memory; False when it can't be done now. Must not wait for a lock."""
        ...


class IndexCache:
    """Counts the bytes of the indexes in memory. Holds no index alive; safe to use from several threads."""

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self._lock = threading.Lock()
        self._used: OrderedDict[weakref.ref[Evictable], int] = OrderedDict()
        self._total = 0
        self._budget = budget_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of all indexes in memory, as they said at their last use."""
        return self._total

    def set_budget(self, budget_bytes: int) -> None:
        """Another budget, from the next use of any index on."""
        with self._lock:
            self._budget = budget_bytes

    def use(self, index: Evictable, nbytes: int) -> None:
        """Note that an index of so many bytes is in use; others may be evicted for it, never itself."""
        mine = weakref.ref(index)
        with self._lock:
            self._total += nbytes - self._used.pop(mine, 0)
            self._used[mine] = nbytes
            if self._total <= self._budget:
                return
            others = [ref for ref in self._used if ref != mine]
        # Without the lock: an index that is evicted comes back here, through `drop`.
        for ref in others:
            if self._total <= self._budget:
                return
            index_there = ref()
            if index_there is None or index_there.evict():
                self._forget(ref)

    def drop(self, index: Evictable) -> None:
        """The index is in memory no more."""
        self._forget(weakref.ref(index))

    def _forget(self, ref: weakref.ref[Evictable]) -> None:
        with self._lock:
            self._total -= self._used.pop(ref, 0)


SHARED = IndexCache()
"""The process's own; `SHARED.set_budget(bytes)` changes how much its indexes may take."""
