"""Several tiers as one: filling upwards, bodies in files, deletions that meet a read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.cache.tiered import TieredCache
from tests.cache.conftest import MIB, Clock, key_of

KEY = key_of(0)


def test_what_a_lower_tier_has_fills_those_above(disk: DiskCache) -> None:
    disk.put(KEY, Entry({"n": 1}, b"body", "cat"))
    memory = MemoryCache(MIB)
    cache = TieredCache(memory, disk)
    assert cache.get(KEY) == Entry({"n": 1}, b"body", "cat") == memory.get(KEY)
    assert cache.delete_source("cat") == 1
    assert memory.get(KEY) is None


def test_put_and_delete_reach_every_tier(disk: DiskCache) -> None:
    memory = MemoryCache(MIB)
    cache = TieredCache(memory, disk)
    cache.put(KEY, Entry({}, b"body"))
    assert memory.get(KEY) == disk.get(KEY) == Entry({}, b"body")
    cache.delete(KEY)
    assert memory.get(KEY) is disk.get(KEY) is None


def test_a_file_that_was_put_may_go_because_the_lowest_tier_has_a_copy(
    disk: DiskCache, tmp_path: Path
) -> None:
    file = tmp_path / "upload"
    file.write_bytes(b"x" * MIB)
    memory = MemoryCache(MIB)
    cache = TieredCache(memory, disk)
    cache.put(KEY, Entry({}, b"an older body"))
    cache.put(KEY, Entry({}, file, length=MIB))
    file.unlink()
    entry = cache.get(KEY)
    assert entry is not None
    assert entry == memory.get(KEY)
    assert isinstance(entry.body, Path)
    assert (entry.body.read_bytes(), entry.size) == (b"x" * MIB, MIB)


def test_what_is_hot_in_memory_stays_on_disk(
    open_disk: Callable[..., DiskCache], clock: Clock
) -> None:
    disk = open_disk(MIB)
    cache = TieredCache(MemoryCache(64 * MIB), disk)
    for number in range(30):
        cache.put(key_of(number), Entry({}, b"x" * 100_000))
        clock.hour()
        assert cache.get(KEY) is not None
    assert disk.get(KEY) is not None
    assert disk.get(key_of(1)) is None


def test_a_read_that_meets_a_deletion_does_not_bring_the_entry_back(disk: DiskCache) -> None:
    class Slow(MemoryCache):
        """Somebody deletes between the look into the disk and the fill of memory."""

        def put(self, key: str, entry: Entry) -> None:
            cache.delete_source("cat")
            super().put(key, entry)

    disk.put(KEY, Entry({}, b"body", "cat"))
    memory = Slow(MIB)
    cache = TieredCache(memory, disk)
    assert cache.get(KEY) is not None
    assert memory.get(KEY) is None
    assert cache.get(KEY) is None


def test_a_write_that_meets_a_deletion_does_not_live_on_in_memory(disk: DiskCache) -> None:
    class Slow(MemoryCache):
        """Somebody deletes between the write to the disk and that to memory."""

        def put(self, key: str, entry: Entry) -> None:
            cache.delete_source("cat")
            super().put(key, entry)

    memory = Slow(MIB)
    cache = TieredCache(memory, disk)
    cache.put(KEY, Entry({}, b"body", "cat"))
    assert memory.get(KEY) is disk.get(KEY) is None
