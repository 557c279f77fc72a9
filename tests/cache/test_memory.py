"""The memory tier: true sizes, bodies in files, forks."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.memory import MemoryCache
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
