"""The cache as the service sees it: a look into memory that never waits, and one that may."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from optidash_integrations.cache.disk import CacheUnavailableError, DiskCache
from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.cache.shared import open_shared
from optidash_integrations.cache.tiered import TieredCache
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.settings import Settings

logger = logging.getLogger(__name__)


class Store:
    """Variants, decisions and source records in the tiers that the settings name."""

    def __init__(self, memory: Cache, *lower: Cache) -> None:
        self.memory = memory
        self.tiers = TieredCache(memory, *lower)
        self.lower = lower

    @classmethod
    def of(cls, settings: Settings) -> Store:
        """Open the tiers; a folder that can't be written is left out, with a log line.

        Raises SettingsError for a shared tier that can't be opened.
        """
        lower: list[Cache] = []
        if settings.cache_dir is not None and settings.cache_bytes:
            try:
                lower.append(DiskCache(settings.cache_dir, settings.cache_bytes))
            except CacheUnavailableError as error:
                kept = "in memory only" if settings.cache_url is None else "not on disk"
                logger.warning("%s; images are cached %s", error, kept)
        if settings.cache_url is not None:
            lower.append(open_shared(settings.cache_url))
        return cls(MemoryCache(settings.memory_bytes), *lower)

    def quick(self, key: str) -> Entry | None:
        """Look into memory; what is found there counts as used in the tiers below, too."""
        entry = self.memory.get(key)
        if entry is not None:
            for tier in self.lower:
                tier.touch(key)
        return entry

    def get(self, key: str) -> Entry | None:
        """Look into all tiers; a hit in a lower one fills memory."""
        return self.tiers.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Store in all tiers."""
        self.tiers.put(key, entry)

    def remember(self, name: str, record: SourceRecord, *, newest: bool = False) -> None:
        """Keep a record under its name and validator; `newest` also as the name's present one."""
        entry = Entry(record.to_meta(), source=record.digest)
        if record.validator:
            self.put(record_key(name, record.validator), entry)
        if newest:
            self.put(record_key(name, None), entry)


def record_of(entry: Entry | None) -> SourceRecord | None:
    """Read a record from a cache entry."""
    return SourceRecord.from_meta(entry.meta) if entry is not None else None


def kind_of(meta: Mapping[str, object]) -> str:
    """Return what an entry stands for: `variant`, `kept` (the source is as good) or `refused`."""
    return str(meta.get("kind", ""))
