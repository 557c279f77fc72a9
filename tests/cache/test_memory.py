"""The memory tier: true sizes, bodies in files, forks."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.index import CROWD
from optidash_integrations.cache.memory import FACTS_PART, MemoryCache
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.store import Store
from tests.cache.conftest import MIB, key_of


@pytest.mark.parametrize("source", ["", "photo {}"])
@pytest.mark.parametrize(("length", "count"), [(0, 3000), (300, 3000), (20_000, 100)])
def test_counts_about_what_the_interpreter_allocates(length: int, count: int, source: str) -> None:
    cache = MemoryCache(64 * MIB)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            meta = {"type": "image/webp", "width": 1000 + number, "detail": f"entry {number}"}
            cache.put(key_of(number), Entry(meta, bytes(length), source.format(number)))
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.85 < cache.stats().bytes / allocated < 1.2


def test_keeps_the_path_of_a_body_in_a_file_and_not_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"x" * MIB)
    cache = MemoryCache(10_000)
    entry = Entry({}, file, length=MIB)
    cache.put(key_of(0), entry)
    assert cache.get(key_of(0)) == entry
    assert entry.size == MIB


def test_misses_when_the_file_is_gone(tmp_path: Path) -> None:
    cache = MemoryCache(10_000)
    cache.put(key_of(0), Entry({}, tmp_path / "gone", "cat", length=9))
    assert cache.get(key_of(0)) is None
    stats = cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (0, 0, 1)


def test_evicted_entries_are_no_longer_of_their_source() -> None:
    cache = MemoryCache(MIB)
    for number in range(40):
        cache.put(key_of(number), Entry({}, b"x" * 100_000, "cat"))
    assert cache.delete_source("cat") == 10


# Junk: what a stranger can have stored by asking for addresses that mean nothing


def name_of(photo: int, query: int) -> str:
    return f"stock.host\0/photo-{photo}.jpg\0?x={query}"


def record(name: str) -> SourceRecord:
    return SourceRecord("d" * 64, "jpeg", 1600, 1200, 1, alpha=False, bytes=9, validator=name)


def test_records_of_many_names_push_out_no_variant() -> None:
    cache = MemoryCache(MIB)
    variants = [key_of(number) for number in range(30)]
    for key in variants:
        cache.put(key, Entry({}, b"x" * 20_000, "d" * 64))
    store = Store(cache)
    for photo in range(10_000):
        store.remember(name_of(photo, 0), record(name_of(photo, 0)))
        store.remember(name_of(photo, 1), record(name_of(photo, 1)), newest=True)
    assert all(cache.get(key) for key in variants)
    assert cache.facts.evictions > 10_000
    assert cache.facts.currsize <= MIB / FACTS_PART
    assert cache.stats().bytes <= MIB


def test_variants_leave_a_fourth_to_records_and_take_what_they_leave() -> None:
    cache = MemoryCache(MIB)
    for number in range(10):
        cache.put(key_of(number, "r-"), Entry({"n": number}))
    for number in range(100):
        cache.put(key_of(number), Entry({}, b"x" * 20_000))
    assert all(cache.get(key_of(number, "r-")) for number in range(10))
    assert cache.stats().bytes > 0.95 * MIB


def test_junk_in_the_queries_of_one_photo_pushes_out_no_record_of_others() -> None:
    cache = MemoryCache(MIB // 4)
    store = Store(cache)
    for photo in range(8):
        store.remember(name_of(photo, 0), record(name_of(photo, 0)))
    known = [record_key(name_of(photo, 0), name_of(photo, 0)) for photo in range(8)]
    for query in range(1000):
        store.remember(name_of(8, query), record(name_of(8, query)))
    assert all(cache.get(key) for key in known)
    assert cache.stats().entries == 8 + CROWD


def test_of_a_crowd_in_memory_what_is_used_stays() -> None:
    cache = MemoryCache(MIB)
    for number in range(100):
        cache.put(key_of(number, "r-"), Entry({}, None, "name:a#1"))
        assert cache.get(key_of(0, "r-"))
    assert not cache.get(key_of(50, "r-"))
    assert cache.delete_source("name:a#1") == CROWD
    assert cache.stats().entries == 0


def test_a_body_that_fills_the_budget_is_kept_whatever_the_records_take() -> None:
    cache = MemoryCache(MIB)
    for number in range(1000):
        cache.put(key_of(number, "r-"), Entry({"n": number}))
    cache.put(key_of(0), Entry({}, bytes(int(0.95 * MIB))))
    assert cache.get(key_of(0))
    assert cache.stats().bytes <= MIB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_the_lock_is_held_starts_empty_and_works() -> None:
    cache = MemoryCache(MIB)
    cache.put(key_of(0), Entry({}, b"x"))
    cache.lock.acquire()  # as another thread of the parent would
    child = os.fork()
    if child == 0:
        fine = cache.get(key_of(0)) is None
        cache.put(key_of(1), Entry({}, b"y"))
        os._exit(0 if fine and cache.get(key_of(1)) == Entry({}, b"y") else 1)
    cache.lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get(key_of(0)) == Entry({}, b"x")
