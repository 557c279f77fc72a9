"""Several tiers as one: the fastest first."""

from __future__ import annotations

from optidash_integrations.cache.entry import Cache, CacheStats, Entry


class TieredCache:
    """Looks into the tiers in order; what a lower one has is put into those above it."""

    def __init__(self, *tiers: Cache) -> None:
        self.tiers = tiers

    def get(self, key: str) -> Entry | None:
        """Return an entry from the first tier that has it, or None."""
        for position, tier in enumerate(self.tiers):
            entry = tier.get(key)
            if entry is not None:
                for above in self.tiers[:position]:
                    above.put(key, entry)
                return entry
        return None

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry in every tier, the lowest first: what is above is never alone."""
        for tier in reversed(self.tiers):
            tier.put(key, entry)

    def delete(self, key: str) -> None:
        """Forget an entry in every tier, the lowest first."""
        for tier in reversed(self.tiers):
            tier.delete(key)

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source in every tier; return the most that one had."""
        return max((tier.delete_source(source) for tier in reversed(self.tiers)), default=0)

    def clear(self) -> None:
        """Forget everything in every tier."""
        for tier in reversed(self.tiers):
            tier.clear()

    def stats(self) -> CacheStats:
        """Return how the lowest tier is doing, which holds what all hold."""
        return self.tiers[-1].stats()
