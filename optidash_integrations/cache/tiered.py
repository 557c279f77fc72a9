"""Several tiers as one: the fastest first."""

from __future__ import annotations

from pathlib import Path

from optidash_integrations.cache.entry import Cache, CacheStats, Entry


class TieredCache:
    """Looks into the tiers in order; what a lower one has is put into those above it."""

    def __init__(self, *tiers: Cache) -> None:
        self.tiers = tiers
        self.hits = 0
        self.misses = 0
        self.purge = object()  # another one after every deletion

    def get(self, key: str) -> Entry | None:
        """Return an entry from the first tier that has it, or None."""
        return self.find(key)[0]

    def find(self, key: str) -> tuple[Entry | None, int]:
        """Return an entry, and the place of the first tier that has it; or None."""
        purge = self.purge
        for position, tier in enumerate(self.tiers):
            entry = tier.get(key)
            if entry is not None:
                self.hits += 1
                self.fill(position, key, entry)
                if purge is not self.purge:
                    self.forget_above(position, key)
                return entry, position
        self.misses += 1
        return None, len(self.tiers)

    def fill(self, position: int, key: str, entry: Entry) -> None:
        """Put what a tier had into those above it, and tell those below that it is in use."""
        for above in self.tiers[:position]:
            above.put(key, entry)
        for below in self.tiers[position + 1 :]:
            below.touch(key)

    def forget_above(self, position: int, key: str) -> None:
        """Undo a fill: something was deleted meanwhile, perhaps this, and would live on here."""
        for above in self.tiers[:position]:
            above.delete(key)

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry in every tier, the lowest first: what is above is never alone.

        A body in a file is the caller's and may go. The lowest tier copies it; those above learn
        of that copy with the next `get`.
        """
        purge = self.purge
        *above, lowest = self.tiers
        lowest.put(key, entry)
        for tier in reversed(above):
            if isinstance(entry.body, Path):
                tier.delete(key)
            else:
                tier.put(key, entry)
        if purge is not self.purge:
            self.forget_above(len(above), key)

    def touch(self, key: str) -> None:
        """Note in every tier that an entry was used."""
        for tier in self.tiers:
            tier.touch(key)

    def delete(self, key: str) -> None:
        """Forget an entry in every tier, the lowest first."""
        for tier in reversed(self.tiers):
            tier.delete(key)
            self.purge = object()

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source in every tier; return the most that one had."""
        most = 0
        for tier in reversed(self.tiers):
            most = max(most, tier.delete_source(source))
            self.purge = object()
        return most

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so and have entries in any tier."""
        found: set[str] = set()
        return found.union(*(tier.sources(start, complete=complete) for tier in self.tiers))

    def clear(self) -> None:
        """Forget everything in every tier."""
        for tier in reversed(self.tiers):
            tier.clear()
            self.purge = object()

    def stats(self) -> CacheStats:
        """Return what the lowest tier holds, which is what all hold, and the hits of any tier."""
        lowest = self.tiers[-1].stats()
        return CacheStats(lowest.entries, lowest.bytes, self.hits, self.misses, lowest.evictions)

    def close(self) -> None:
        """Close every tier."""
        for tier in self.tiers:
            tier.close()
