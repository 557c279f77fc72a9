"""The cache as the service sees it: a look into memory that never waits, and one that may."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from cachetools import TTLCache

from optidash_integrations.cache.disk import CacheUnavailableError, DiskCache
from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.cache.index import CROWD
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.cache.readonly import DiskReader, ReadOnly
from optidash_integrations.cache.shared import Locked, open_shared
from optidash_integrations.cache.tiered import TieredCache
from optidash_integrations.errors import OptidashError
from optidash_integrations.invalidation import Invalidation, Purged, Wanted, label_of, tag_of_name
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.settings import Settings

logger = logging.getLogger(__name__)

SENT_BY_SERVER = 0o750
"""Permissions of a cache folder whose files the web server sends: it is of the same group."""


class Store:
    """Variants, decisions and source records in the tiers that the settings name.

    What other processes purge is forgotten here within `fresh_for` seconds; `clock` gives seconds
    that only ever grow.
    """

    def __init__(
        self,
        memory: Cache,
        *lower: Cache,
        fresh_for: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.memory = memory
        self.tiers = TieredCache(memory, *lower)
        self.lower = lower
        self.invalidation = Invalidation(self.tiers, (memory, *lower), fresh_for, clock=clock)
        self.crowds = Crowds(clock)

    @classmethod
    def of(cls, settings: Settings) -> Store:
        """Open the tiers; a folder that can't be written is left out, with a log line.

        Raises SettingsError for a shared tier that can't be opened.
        """
        lower: list[Cache] = []
        if settings.cache_dir is not None and settings.read_only:
            lower.append(DiskReader(settings.cache_dir))
        elif settings.cache_dir is not None and settings.cache_bytes:
            try:
                mode = 0o700 if settings.send_file is None else SENT_BY_SERVER
                lower.append(DiskCache(settings.cache_dir, settings.cache_bytes, mode=mode))
            except CacheUnavailableError as error:
                kept = "in memory only" if settings.cache_url is None else "not on disk"
                logger.warning("%s; images are cached %s", error, kept)
        if settings.cache_url is not None:
            shared = open_shared(settings.cache_url)
            lower.append(ReadOnly(shared) if settings.read_only else shared)
        return cls(MemoryCache(settings.memory_bytes), *lower, fresh_for=settings.fresh_for)

    def quick(self, key: str) -> Entry | None:
        """Look into memory; what is found there counts as used in the tiers below, too.

        Now and then nothing is found, so that the look into all tiers follows other processes.
        """
        if self.invalidation.is_due:
            return None
        entry = self.memory.get(key)
        if entry is not None:
            for tier in self.lower:
                tier.touch(key)
        return entry

    def get(self, key: str) -> Entry | None:
        """Look into all tiers; a hit in a lower one fills memory."""
        return self.find(key)[0]

    def find(self, key: str) -> tuple[Entry | None, str]:
        """Look into all tiers; return an entry, and the kind of tier that had it, or None."""
        if self.invalidation.is_due:
            self.invalidation.follow()
        entry, place = self.tiers.find(key)
        return entry, kind_of_tier(self.tiers.tiers[place]) if entry is not None else ""

    def put(self, key: str, entry: Entry) -> None:
        """Store in all tiers."""
        self.tiers.put(key, entry)

    def remember(self, name: str, record: SourceRecord, *, newest: bool = False) -> None:
        """Keep a record under its name and validator; `newest` also as the name's present one."""
        entry = Entry(record.to_meta(), source=tag_of_name(name, record.digest))
        if record.validator:
            self.put_record(record_key(name, record.validator), entry)
        if newest:
            self.put(record_key(name, None), entry)

    def forget_newest(self, name: str) -> None:
        """Forget what a name stood for last: it stands for nothing now."""
        key = record_key(name, None)
        if self.get(key) is not None:
            self.tiers.delete(key)

    def remember_refusal(self, name: str, validator: str, error: OptidashError) -> None:
        """Keep the note that a name's present bytes are not an image to work on."""
        meta = {"kind": "refused", "status": error.public_status, "detail": str(error)}
        self.put_record(record_key(name, validator), Entry(meta, source=tag_of_name(name)))

    def put_record(self, key: str, entry: Entry) -> None:
        """Store what is known of a name; of a crowd of names for one thing, in memory only."""
        if self.crowds.have_room(entry.source, key):
            self.put(key, entry)
        else:
            self.memory.put(key, entry)

    # Forgetting

    def purge(self, name: str) -> Purged:
        """Forget a source: its variants, records and refusals, in all tiers.

        `name` is a source's, or as people write it: host and path, or a path on any host; each
        with all its queries.
        """
        return self.invalidation.purge(Wanted(label_of(name)))

    def purge_prefix(self, prefix: str) -> Purged:
        """Forget all sources whose names start so."""
        return self.invalidation.purge(Wanted(prefix, is_prefix=True))

    def clear(self) -> None:
        """Forget everything."""
        self.invalidation.clear()

    def close(self) -> None:
        """Give back files and connections; the next use opens them again."""
        self.tiers.close()


class Crowds(Locked):
    """Counts names of one thing, for a day: one path's bytes have a few, but for junk in queries.

    `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.keys: TTLCache[int, set[int]] = TTLCache(SOURCES, DAY, timer=clock)

    def have_room(self, source: str, key: str) -> bool:
        """Count one more key of a source; False where it is one too many."""
        place, number = hash(source), hash(key)
        with self.lock:
            known = self.keys.get(place)
            if known is None:
                known = self.keys[place] = set()
            if number not in known and len(known) >= CROWD:
                return False
            known.add(number)
            return True


DAY = 86_400.0
SOURCES = 10_000
"""Of how many sources names are counted at a time."""


def kind_of_tier(tier: Cache) -> str:
    """Return `memory`, `disk` or `shared`."""
    kinds = {MemoryCache: "memory", DiskCache: "disk", DiskReader: "disk"}
    return kinds.get(type(tier), "shared")


def record_of(entry: Entry | None) -> SourceRecord | None:
    """Read a record from a cache entry."""
    return SourceRecord.from_meta(entry.meta) if entry is not None else None


def kind_of(meta: Mapping[str, object]) -> str:
    """Return what an entry stands for: `variant`, `kept` (the source is as good) or `refused`."""
    return str(meta.get("kind", ""))
