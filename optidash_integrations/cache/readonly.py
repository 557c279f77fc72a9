"""Tiers that are read and never written: for sites whose variants were made ahead."""

from __future__ import annotations

from pathlib import Path

from optidash_integrations.cache.disk import LAYOUT, READ_LIMIT
from optidash_integrations.cache.entry import Cache, CacheStats, Entry, is_key
from optidash_integrations.cache.files import DamagedError, Files


class Unwritten:
    """What a tier does that takes nothing: nothing."""

    def put(self, key: str, entry: Entry) -> None:
        """Keep nothing."""

    def touch(self, key: str) -> None:
        """Note nothing."""

    def delete(self, key: str) -> None:
        """Leave it there."""

    def delete_source(self, source: str) -> int:
        """Leave them there."""
        return 0

    def clear(self) -> None:
        """Leave everything there."""


class ReadOnly(Unwritten):
    """Another tier, read only."""

    def __init__(self, tier: Cache) -> None:
        self.tier = tier

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""
        return self.tier.get(key)

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so."""
        return self.tier.sources(start, complete=complete)

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        return self.tier.stats()

    def close(self) -> None:
        """Give back files and connections."""
        self.tier.close()


class DiskReader(Unwritten):
    """The entries in a folder of the disk tier, which may lie on a disk that can't be written."""

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder / LAYOUT, 0o700)
        self.hits = self.misses = 0

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is none."""
        entry = None
        if is_key(key):
            try:
                entry = self.files.read(key, READ_LIMIT)
            except (OSError, DamagedError):
                entry = None
        self.hits += entry is not None
        self.misses += entry is None
        return entry

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return none: nothing can be purged here."""
        return set()

    def stats(self) -> CacheStats:
        """Return hits and misses; what is there is not counted."""
        return CacheStats(0, 0, self.hits, self.misses, 0)

    def close(self) -> None:
        """Do nothing: no file stays open."""
