"""The memory tier: least recently used first out, sized in bytes."""

from __future__ import annotations

import threading
from collections import defaultdict

from cachetools import LRUCache

from optidash_integrations.cache.entry import CacheStats, Entry, checked

# What an entry costs beside its body: the objects, the key, the places in two dicts.
OVERHEAD_BYTES = 800


class Tagged(LRUCache[str, tuple[Entry, int]]):
    """An LRU cache that tells of what it evicts."""

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
    """Entries in memory, at most `max_bytes` of them.

    A body in a file stays there; only its path is kept. An entry larger than the whole budget is
    not kept at all.
    """

    def __init__(self, max_bytes: int) -> None:
        self.lock = threading.Lock()  # reads reorder, so they need it too
        self.entries = Tagged(max_bytes)
        self.hits = 0
        self.misses = 0

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""
        with self.lock:
            found = self.entries.get(key)
            if found is None:
                self.misses += 1
                return None
            self.hits += 1
            return found[0]

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, evicting others where there is no room."""
        cost = cost_of(checked(key), entry)
        with self.lock:
            self.drop(key)
            if cost > self.entries.maxsize:
                return
            self.entries[key] = (entry, cost)
            self.entries.keys_of[entry.source].add(key)

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

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self.entries.clear()
            self.entries.keys_of.clear()

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        with self.lock:
            entries = self.entries
            size = int(entries.currsize)
            return CacheStats(len(entries), size, self.hits, self.misses, entries.evictions)

    def drop(self, key: str) -> None:
        """Forget an entry; the lock is held."""
        found = self.entries.pop(key, None)
        if found is not None:
            self.entries.untag(key, found[0].source)


def cost_of(key: str, entry: Entry) -> int:
    """Return about how many bytes of memory an entry takes."""
    body = len(entry.body) if isinstance(entry.body, bytes) else 0
    facts = sum(len(name) + len(str(value)) + 120 for name, value in entry.meta.items())
    return OVERHEAD_BYTES + len(key) + len(entry.source) + facts + body
