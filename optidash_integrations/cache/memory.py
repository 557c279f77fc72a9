"""The memory tier: least recently used first out, sized in bytes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakSet

from cachetools import LRUCache

from optidash_integrations.cache.entry import CacheStats, Entry, checked, family_of
from optidash_integrations.cache.index import CROWD

# What an entry costs beside its key, body and facts: the objects, and the places in the dicts of
# values, sizes and order; a source of its own costs a dict. A test asks tracemalloc.
OVERHEAD_BYTES = 300
SOURCE_BYTES = 280
PATH_BYTES = 400

FACTS_PART = 4
"""What part of the budget entries without a body may take at most: a fourth. They are what is known
of sources, and a stranger can have more of them made with addresses that mean nothing."""


class Tagged(LRUCache[str, tuple[Entry, int]]):
    """An LRU cache that knows which keys belong to a source, and counts what it evicts."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, getsizeof=lambda value: value[1])
        self.keys_of: dict[str, dict[str, None]] = {}
        self.evictions = 0

    def use(self, key: str) -> Entry | None:
        """Return an entry, which is then the last of its family to be evicted; or None."""
        try:
            entry = self[key][0]
        except KeyError:
            return None
        if "#" in entry.source:
            self.tag(key, entry.source)
        return entry

    def add(self, key: str, entry: Entry, cost: int) -> None:
        """Store an entry that is not there; a crowd loses what was used longest ago of it."""
        source = entry.source
        self[key] = entry, cost
        if source:
            self.tag(key, source)
            if family_of(source) and len(self.keys_of[source]) > CROWD:
                self.forget(next(iter(self.keys_of[source])))
                self.evictions += 1

    def popitem(self) -> tuple[str, tuple[Entry, int]]:
        """Evict the least recently used entry."""
        key, value = super().popitem()
        self.evictions += 1
        self.untag(key, value[0].source)
        return key, value

    def forget(self, key: str) -> None:
        """Remove an entry, where there is one."""
        value = self.pop(key, None)
        if value is not None:
            self.untag(key, value[0].source)

    def tag(self, key: str, source: str) -> None:
        """Note that a key belongs to a source, and is the newest one there."""
        keys = self.keys_of.setdefault(source, {})
        keys.pop(key, None)
        keys[key] = None

    def untag(self, key: str, source: str) -> None:
        """Forget that a key belongs to a source."""
        keys = self.keys_of.get(source)
        if keys is not None:
            keys.pop(key, None)
            if not keys:
                del self.keys_of[source]


class MemoryCache:
    """Entries in memory, at most `max_bytes` of it, and a fourth of that for those without a body.

    A body in a file stays there: only its path is kept, for as long as the file is there. Of a
    source that belongs to a family as many entries are kept as on disk. A forked child starts with
    an empty one.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.start()
        OPEN.add(self)

    def start(self) -> None:
        """Begin anew, with nothing."""
        self.lock = threading.Lock()  # reads reorder, so they need it too
        self.bodies = Tagged(self.max_bytes)
        self.facts = Tagged(self.max_bytes // FACTS_PART)
        self.hits = 0
        self.misses = 0

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""
        with self.lock:
            entry = self.holder(key).use(key)
            if entry is None:
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
            kind = self.facts if entry.body is None else self.bodies
            if cost <= kind.maxsize:
                self.make_room(kind, cost)
                kind.add(key, entry, cost)

    def make_room(self, kind: Tagged, cost: int) -> None:
        """Evict of one kind what is above its own budget, then bodies before facts."""
        while kind.currsize + cost > kind.maxsize:
            kind.popitem()
        while self.bodies.currsize + self.facts.currsize + cost > self.max_bytes:
            (self.bodies or self.facts).popitem()

    def touch(self, key: str) -> None:
        """Note that an entry was used."""
        with self.lock:
            self.holder(key).use(key)

    def delete(self, key: str) -> None:
        """Forget an entry."""
        with self.lock:
            self.drop(key)

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        with self.lock:
            kinds = self.bodies, self.facts
            keys = [key for kind in kinds for key in kind.keys_of.get(source, ())]
            for key in keys:
                self.drop(key)
            return len(keys)

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so and have entries."""
        with self.lock:
            known = {*self.bodies.keys_of, *self.facts.keys_of}
            return {source for source in known if source.startswith(start)}

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            for kind in (self.bodies, self.facts):
                kind.clear()
                kind.keys_of.clear()

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        with self.lock:
            bodies, facts = self.bodies, self.facts
            return CacheStats(
                len(bodies) + len(facts),
                int(bodies.currsize + facts.currsize),
                self.hits,
                self.misses,
                bodies.evictions + facts.evictions,
            )

    @property
    def entries(self) -> list[str]:
        """The keys of what is held."""
        with self.lock:
            return [*self.bodies, *self.facts]

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def holder(self, key: str) -> Tagged:
        """Return what has an entry, if anything has; the lock is held."""
        return self.bodies if key in self.bodies else self.facts

    def drop(self, key: str) -> None:
        """Forget an entry; the lock is held."""
        self.holder(key).forget(key)


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
