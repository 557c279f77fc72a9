from __future__ import annotations

from pathlib import Path

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store

KIB = 1024


def test_what_is_hot_in_memory_alone_is_not_evicted_from_the_disk(tmp_path: Path):
    now = [1_800_000_000.0]
    disk = DiskCache(tmp_path, 2_000 * KIB, clock=lambda: now[0])
    store = Store(MemoryCache(10_000 * KIB), disk)
    hot, cold = "a" * 40, "b" * 40
    for key in (hot, cold):
        store.put(key, Entry({"kind": "variant"}, bytes(400 * KIB)))
        now[0] += 1000
    assert store.quick(hot) is not None
    now[0] += 1000
    for number in range(3):
        store.put(f"{number:040x}", Entry({"kind": "variant"}, bytes(400 * KIB)))
        now[0] += 1
    assert disk.get(hot) is not None
    assert disk.get(cold) is None


def test_a_folder_that_can_not_be_written_leaves_memory_and_a_log_line(tmp_path: Path, caplog):
    (tmp_path / "file").write_text("in the way")
    store = Store.of(Settings(cache_dir=tmp_path / "file" / "cache"))
    store.put("c" * 40, Entry({}, b"x"))
    assert store.quick("c" * 40) is not None
    assert "memory only" in caplog.text
