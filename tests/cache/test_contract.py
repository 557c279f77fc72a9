"""What every tier does alike."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optidash_integrations.cache.disk import DiskCache
from optidash_integrations.cache.django import DjangoCache
from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.cache.tiered import TieredCache
from tests.cache.conftest import MIB, Clock, key_of

META = {"type": "image/webp", "width": 640, "why": None, "tags": ["a", "ü"], "more": {"q": 0.5}}
KEY = key_of(0)


class Contract:
    """Inherited once for each tier, which gives a `cache` and a `small` one of `budget` bytes."""

    budget = MIB
    exact = True
    can_be_walked = True
    bounded = True
    """Whether the tier evicts by itself, or leaves that to the server that it lies on."""

    def count(self, cache: Cache, entries: int) -> int:
        """Return how many entries a tier says it holds; `entries` where it can't count."""
        return cache.stats().entries

    def test_gives_back_what_was_put(self, cache: Cache) -> None:
        entry = Entry(META, bytes(range(256)) * 9, "photo")
        cache.put(KEY, entry)
        assert cache.get(KEY) == entry

    def test_tells_an_empty_body_from_none(self, cache: Cache) -> None:
        cache.put(key_of(1), Entry({}, b""))
        cache.put(key_of(2), Entry({}, None))
        assert cache.get(key_of(1)) == Entry({}, b"")
        assert cache.get(key_of(2)) == Entry({}, None)

    def test_misses_what_was_never_put(self, cache: Cache) -> None:
        assert cache.get(KEY) is None

    def test_keeps_the_newest_of_a_key(self, cache: Cache) -> None:
        for entry in (Entry({"n": 1}, b"old", "a"), Entry({"n": 2}, b"newer", "b")):
            cache.put(KEY, entry)
        assert cache.get(KEY) == Entry({"n": 2}, b"newer", "b")
        assert self.count(cache, 1) == 1

    def test_forgets_what_is_deleted_and_nothing_else(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"1"))
        cache.put(key_of(1), Entry({}, b"2"))
        cache.delete(KEY)
        cache.delete(KEY)
        assert cache.get(KEY) is None
        assert cache.get(key_of(1)) is not None

    def test_deletes_all_of_a_source_and_counts_them(self, cache: Cache) -> None:
        for number in range(5):
            cache.put(key_of(number), Entry({}, b"x", "cat" if number < 3 else "dog"))
        assert cache.delete_source("cat") == 3
        assert cache.delete_source("cat") == 0
        assert [cache.get(key_of(n)) is not None for n in range(5)] == [False] * 3 + [True] * 2

    def test_the_newest_source_of_a_key_counts(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"x", "cat"))
        cache.put(KEY, Entry({}, b"x", "dog"))
        assert cache.delete_source("cat") == 0
        assert cache.delete_source("dog") == 1

    def test_entries_without_a_source_are_no_group(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"x"))
        assert cache.delete_source("") == 0
        assert cache.get(KEY) is not None

    def test_tells_the_sources_of_a_family(self, cache: Cache) -> None:
        for number, source in enumerate(("name:ä#1", "name:ä#2", "name:ä#", "name:b#1", "cat")):
            cache.put(key_of(number), Entry({}, b"x", source))
        assert cache.sources("name:ä#") == {"name:ä#1", "name:ä#2", "name:ä#"}
        assert cache.delete_source("name:ä#1") == 1
        assert cache.sources("name:ä#") == {"name:ä#2", "name:ä#"}
        assert cache.sources("name:c#") == set()
        cache.clear()
        assert cache.sources("name:ä#") == set()

    def test_tells_the_sources_of_all_families_that_start_so(self, cache: Cache) -> None:
        for number, source in enumerate(("name:a#1", "name:ab#2", "name:b#1", "name", "cat#1")):
            cache.put(key_of(number), Entry({}, b"x", source))
        found = {"name:a#1", "name:ab#2", "name:b#1"} if self.can_be_walked else set()
        assert cache.sources("name:") == found
        assert cache.sources("name:a") == found - {"name:b#1"}

    def test_clear_leaves_nothing(self, cache: Cache) -> None:
        for number in range(3):
            cache.put(key_of(number), Entry({}, b"x", "cat"))
        cache.clear()
        assert [cache.get(key_of(number)) for number in range(3)] == [None] * 3
        assert (cache.stats().entries, cache.stats().bytes) == (0, 0)
        assert cache.delete_source("cat") == 0

    def test_counts_entries_hits_and_misses(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"x" * 5000))
        cache.get(KEY)
        cache.get(KEY)
        cache.get(key_of(1))
        stats = cache.stats()
        assert (stats.hits, stats.misses, stats.evictions) == (2, 1, 0)
        assert self.count(cache, 1) == 1
        assert stats.bytes >= 5000 * stats.entries

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "../" + KEY,
            "a/../" + KEY,
            "..",
            KEY + "/x",
            KEY + "\n",
            KEY + "\0",
            KEY.upper() + "A",
            "V-" + KEY,
            "a-b-" + KEY,
            "-" + KEY,
            "ab",
            "a" * 200,
            "é" + KEY,
        ],
    )
    def test_takes_no_key_that_is_more_than_a_name(self, cache: Cache, key: str) -> None:
        with pytest.raises(ValueError, match="a cache key is lower-case hex"):
            cache.put(key, Entry({}, b"x"))
        assert cache.get(key) is None
        cache.touch(key)
        cache.delete(key)

    def test_keys_with_different_prefixes_are_different(self, cache: Cache) -> None:
        for prefix in ("", "v-", "r-"):
            cache.put(prefix + KEY, Entry({"prefix": prefix}))
        assert [cache.get(p + KEY).meta["prefix"] for p in ("", "v-", "r-")] == ["", "v-", "r-"]

    def test_what_is_larger_than_the_budget_is_not_kept_nor_what_it_replaces(
        self, small: Cache
    ) -> None:
        small.put(key_of(1), Entry({}, b"other"))
        small.put(KEY, Entry({}, b"old"))
        small.put(KEY, Entry({}, b"x" * self.budget))
        assert small.get(KEY) is None
        assert small.get(key_of(1)) is not None

    def test_counts_bytes_right_after_replacing_and_deleting(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"x" * 10_000))
        before = cache.stats().bytes
        cache.put(KEY, Entry({}, b"y" * 100_000))
        cache.put(KEY, Entry({}, b"x" * 10_000))
        assert cache.stats().bytes == before
        cache.delete(KEY)
        assert cache.stats().bytes == 0

    def test_works_after_it_was_closed(self, cache: Cache) -> None:
        cache.put(KEY, Entry({}, b"x"))
        cache.close()
        cache.put(key_of(1), Entry({}, b"y"))
        assert cache.get(KEY) is not None
        assert self.count(cache, 2) == 2

    def test_six_threads_at_once_leave_it_whole(self, small: Cache) -> None:
        def hammer(thread: int) -> None:
            for turn in range(150):
                number = (turn * (thread + 3)) % 40
                if turn % 3 == 0:
                    body = bytes([number]) * (20_000 + number * 500)
                    small.put(key_of(number), Entry({"n": number}, body, f"s{number % 4}"))
                elif turn % 50 == 49:
                    small.delete_source(f"s{number % 4}")
                elif turn % 20 == 19:
                    small.delete(key_of(number))
                else:
                    entry = small.get(key_of(number))
                    assert entry is None or (
                        entry.meta == {"n": number}
                        and entry.body == bytes([number]) * (20_000 + number * 500)
                    )

        with ThreadPoolExecutor(6) as pool:
            for done in [pool.submit(hammer, thread) for thread in range(6)]:
                done.result()
        stats = small.stats()
        present = sum(small.get(key_of(number)) is not None for number in range(40))
        assert stats.entries == present if self.exact else stats.entries <= present
        if self.bounded:
            assert stats.bytes <= MIB


class Bounded(Contract):
    """What every tier with a budget of its own does, too."""

    @property
    def body(self) -> bytes:
        """About a twentieth of the budget."""
        return b"x" * (self.budget * 50_000 // MIB)

    def test_holds_its_budget_and_uses_it(self, small: Cache) -> None:
        for number in range(60):
            small.put(key_of(number), Entry(META, self.body, "s"))
            assert small.stats().bytes <= self.budget
        assert small.stats().bytes > 0.85 * self.budget
        assert small.stats().evictions > 30

    def test_evicts_what_was_used_longest_ago(self, small: Cache, clock: Clock) -> None:
        for number in range(10):
            small.put(key_of(number), Entry(META, self.body + self.body[: len(self.body) * 3 // 5]))
            clock.hour()
        for number in (0, 3):
            small.get(key_of(number))
            clock.hour()
        small.touch(key_of(1))
        clock.hour()
        for number in range(10, 15):
            small.put(key_of(number), Entry(META, self.body + self.body[: len(self.body) * 3 // 5]))
            clock.hour()
        left = {number for number in range(15) if small.get(key_of(number))}
        assert {0, 1, 3} <= left
        assert not {2, 4} & left
        assert left >= set(range(9, 15))


class TestMemory(Bounded):
    @pytest.fixture
    def cache(self) -> Cache:
        return MemoryCache(64 * MIB)

    @pytest.fixture
    def small(self) -> Cache:
        return MemoryCache(MIB)


class TestDisk(Bounded):
    budget = 16 * MIB  # its index takes a part of it, which is large in a small one

    @pytest.fixture
    def cache(self, disk: DiskCache) -> Cache:
        return disk

    @pytest.fixture
    def small(self, open_disk: Callable[..., DiskCache]) -> Cache:
        return open_disk(self.budget)


class TestTiered(Bounded):
    exact = False  # memory may keep what the disk had to evict
    budget = 16 * MIB

    @pytest.fixture
    def cache(self, disk: DiskCache) -> Cache:
        return TieredCache(MemoryCache(64 * MIB), disk)

    @pytest.fixture
    def small(self, open_disk: Callable[..., DiskCache]) -> Cache:
        return TieredCache(MemoryCache(self.budget), open_disk(self.budget))


class TestDiskWithLargeBodies(TestDisk):
    """The same where every body stays in its file."""

    @pytest.fixture
    def cache(self, open_disk: Callable[..., DiskCache]) -> Cache:
        return Reading(open_disk(read_limit=0))

    @pytest.fixture
    def small(self, open_disk: Callable[..., DiskCache]) -> Cache:
        return Reading(open_disk(self.budget, read_limit=0))


class TestRedis(Contract):
    bounded = False

    @pytest.fixture
    def cache(self, open_redis: Callable[..., Cache]) -> Cache:
        return open_redis()

    @pytest.fixture
    def small(self, open_redis: Callable[..., Cache]) -> Cache:
        return open_redis(max_body_bytes=MIB - 1)


class TestMemoryObjects(Contract):
    bounded = False

    @pytest.fixture
    def url(self) -> str:
        return "memory://"

    @pytest.fixture
    def cache(self, open_objects: Callable[..., Cache], url: str) -> Cache:
        return open_objects(url)

    @pytest.fixture
    def small(self, open_objects: Callable[..., Cache], url: str) -> Cache:
        return open_objects(url, max_body_bytes=MIB - 1)


class TestFileObjects(TestMemoryObjects):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/store"


class TestS3Objects(TestMemoryObjects):
    @pytest.fixture
    def url(self, s3_url: str) -> str:
        return s3_url


class TestDjangoMemory(Contract):
    exact = False
    can_be_walked = False
    bounded = False
    alias = "memory"

    def count(self, cache: Cache, entries: int) -> int:
        return entries

    @pytest.fixture
    def cache(self, django_caches: None, clock: Clock) -> Cache:
        return DjangoCache(self.alias, clock=clock)

    @pytest.fixture
    def small(self, django_caches: None, clock: Clock) -> Cache:
        return DjangoCache(self.alias, max_body_bytes=MIB - 1, clock=clock)


class TestDjangoFiles(TestDjangoMemory):
    alias = "files"


class Reading:
    """A tier whose caller opens the files, as who sends them does."""

    def __init__(self, inner: Cache) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def get(self, key: str) -> Entry | None:
        entry = self.inner.get(key)
        if entry is None or not isinstance(entry.body, Path):
            return entry
        try:
            body = entry.body.read_bytes()
        except FileNotFoundError:
            return None
        assert len(body) == entry.size
        return Entry(entry.meta, body, entry.source)
