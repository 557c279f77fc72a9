"""The memory tier: least recently used first out, sized in bytes."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakSet

from cachetools import LRUCache

from optidash_integrations.cache.entry import CacheStats, Entry, checked

# What an entry costs beside its key, body and facts: the objects, and the places in the dicts of
# values, sizes and order; a source of its own costs a set. A test asks tracemalloc.
OVERHEAD_BYTES = 300
SOURCE_BYTES = 280
PATH_BYTES = 400


class Tagged(LRUCache[str, tuple[Entry, int]]):
    """An LRU cache that knows which keys belong to a source, and counts what it evicts."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda value: value[1])
        self.keys_of: defaultdict[str, set[str]] = defaultdict(set)
        self.evictions = 0

    def popitem(self) -> tuple[str, tuple[Entry, int]]:
        """Evict the least recently used entry."""
        key, value = super().popitem()
        self.evictions += 1
        self.untag(key, value[0].source)
        return key, value

    def untag(self, key: str, source: str) -> None:
        """Forget that a key belongs to a source."""
        keys = self.keys_of.get(source)
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self.keys_of[source]


class MemoryCache:
    """Entries in memory, at most `max_bytes` of it.

    A body in a file stays there: only its path is kept, for as long as the file is there. A
    forked child starts with an empty one.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.start()
        OPEN.add(self)

    def start(self) -> None:
        """Begin anew, with nothing."""
        self.lock = threading.Lock()  # reads reorder, so they need it too
        self.entries = Tagged(self.max_bytes)
        self.hits = 0
        self.misses = 0

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""
        with self.lock:
            try:
                entry = self.entries[key][0]
            except KeyError:
                self.misses += 1
                return None
            self.hits += 1
        if isinstance(entry.body, Path) and not entry.body.exists():
            self.forget_hit(key)
            return None
        return entry

    def forget_hit(self, key: str) -> None:
        """Turn a hit into a miss: the file was evicted by the tier that owns it."""
        with self.lock:
            self.drop(key)
            self.hits -= 1
            self.misses += 1

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, evicting others where there is no room."""
        cost = cost_of(checked(key), entry)
        with self.lock:
            self.drop(key)
            if cost > self.max_bytes:
                return
            self.entries[key] = (entry, cost)
            if entry.source:
                self.entries.keys_of[entry.source].add(key)

    def touch(self, key: str) -> None:
        """Note that an entry was used."""
        with self.lock:
            self.entries.get(key)

    def delete(self, key: str) -> None:
        """Forget an entry."""
        with self.lock:
            self.drop(key)

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        with self.lock:
            keys = list(self.entries.keys_of.get(source, ()))
            for key in keys:
                self.drop(key)
            return len(keys)

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so and have entries."""
        with self.lock:
            return {source for source in self.entries.keys_of if source.startswith(start)}

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            evictions = self.entries.evictions
            self.entries = Tagged(self.max_bytes)
            self.entries.evictions = evictions

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        with self.lock:
            entries = self.entries
            size = int(entries.currsize)
            return CacheStats(len(entries), size, self.hits, self.misses, entries.evictions)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def drop(self, key: str) -> None:
        """Forget an entry; the lock is held."""
        found = self.entries.pop(key, None)
        if found is not None:
            self.entries.untag(key, found[0].source)


OPEN: WeakSet[MemoryCache] = WeakSet()


def start_anew() -> None:
    """Replace locks and entries that another thread may have held when the process was forked."""
    for cache in OPEN:
        cache.start()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=start_anew)


def cost_of(key: str, entry: Entry) -> int:
    """Return about how many bytes of memory an entry takes."""
    if isinstance(entry.body, bytes):
        body = sys.getsizeof(entry.body)
    else:
        body = PATH_BYTES if entry.body else 0
    source = SOURCE_BYTES + len(entry.source) if entry.source else 0
    return OVERHEAD_BYTES + len(key) + source + body + weight(entry.meta)


def weight(value: object) -> int:
    """Return how many bytes a piece of JSON takes in memory."""
    size = sys.getsizeof(value)
    if isinstance(value, Mapping):
        return size + sum(map(weight, value.values()))  # the names are shared by all entries
    if isinstance(value, list | tuple):
        return size + sum(map(weight, value))
    return size
