"""The tier in a Django site's cache: what it leaves alone, damage, a cache that fails."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from optidash_integrations.cache.django import GENERATION, DjangoCache
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.shared import open_shared
from tests.cache.conftest import MIB, Clock, key_of

pytest.importorskip("django")
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

pytestmark = pytest.mark.usefixtures("django_caches")

KEY = key_of(0)
ENTRY = Entry({"type": "image/avif"}, b"body" * 1000, "cat")


class Failing(LocMemCache):
    """Fails as a backend does whose server is gone, while `error` is set; counts calls."""

    error: Exception | None = None
    calls = 0

    def _has_expired(self, key: str) -> bool:
        Failing.calls += 1
        if Failing.error is not None:
            raise Failing.error
        return super()._has_expired(key)


@pytest.fixture
def failing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> type[Failing]:
    monkeypatch.setattr(Failing, "error", None)
    monkeypatch.setattr(Failing, "calls", 0)
    settings.CACHES = {
        "default": {"BACKEND": f"{__name__}.Failing", "LOCATION": "failing"},
        "memory": settings.CACHES["memory"],
        "files": settings.CACHES["files"],
    }
    return Failing


@pytest.fixture
def cache(clock: Clock) -> DjangoCache:
    return DjangoCache("memory", clock=clock)


def stored_name(cache: DjangoCache) -> str:
    return cache.name(KEY, cache.generation())


def test_the_address_names_an_alias() -> None:
    opened = open_shared("django://files")
    opened.put(KEY, ENTRY)
    assert DjangoCache("files").get(KEY) == ENTRY


def test_values_are_plain_bytes(cache: DjangoCache) -> None:
    cache.put(KEY, ENTRY)
    assert type(caches["memory"].get(stored_name(cache))) is bytes


def test_clear_leaves_what_the_site_keeps_there(cache: DjangoCache) -> None:
    caches["memory"].set("theirs", 1)
    cache.put(KEY, ENTRY)
    cache.clear()
    assert cache.get(KEY) is None
    assert caches["memory"].get("theirs") == 1


def test_clear_counts_in_other_processes_at_once(clock: Clock) -> None:
    one, two = DjangoCache("files", clock=clock), DjangoCache("files", clock=clock)
    one.put(KEY, ENTRY)
    assert two.get(KEY) == ENTRY
    one.clear()
    assert two.get(KEY) is None
    two.put(KEY, ENTRY)
    assert one.get(KEY) == ENTRY


def test_a_lost_generation_does_not_bring_back_what_was_cleared(cache: DjangoCache) -> None:
    cache.put(KEY, ENTRY)
    cache.clear()
    caches["memory"].delete(GENERATION)
    assert cache.get(KEY) is None


def test_a_generation_that_is_not_ours_is_replaced(cache: DjangoCache) -> None:
    caches["memory"].set(GENERATION, {"not": "ours"})
    cache.put(KEY, ENTRY)
    assert cache.get(KEY) == ENTRY


@pytest.mark.parametrize("value", ["text", 5, b"", b"odc1", {"a": 1}, pickle.dumps(1)])
def test_a_damaged_value_is_a_miss_and_dropped(
    cache: DjangoCache, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    caches["memory"].set(stored_name(cache), value)
    assert cache.get(KEY) is None
    assert caches["memory"].get(stored_name(cache)) is None
    assert "a damaged entry in the Django cache memory was dropped" in caplog.text


def test_a_damaged_list_of_a_sources_keys_is_as_none(cache: DjangoCache) -> None:
    cache.put(KEY, ENTRY)
    for value in (5, b"../../x\n\xff", "text"):
        caches["memory"].set(index_name(cache), value)
        assert cache.delete_source("cat") == 0
    assert cache.get(KEY) == ENTRY


def index_name(cache: DjangoCache) -> str:
    from optidash_integrations.cache.shared import tag_of

    return cache.index(tag_of("cat"), cache.generation())


def expiry(name: str) -> float:
    backend = caches["memory"]
    return backend._expire_info[backend.make_key(name)]


def test_use_gives_new_life_to_an_entry_and_to_its_sources_keys(
    cache: DjangoCache, clock: Clock
) -> None:
    cache.put(KEY, ENTRY)
    names = [stored_name(cache), index_name(cache)]
    for name in names:
        caches["memory"].touch(name, 100)
    before = [expiry(name) for name in names]
    clock.hour()
    assert cache.get(KEY) == ENTRY
    assert [expiry(name) for name in names] == before, "touched without need of a request"
    cache.get(key_of(1))
    assert [expiry(name) > was + 1000 for name, was in zip(names, before, strict=True)] == [
        True
    ] * 2


def test_an_entry_lives_for_thirty_days(cache: DjangoCache, clock: Clock) -> None:
    cache.put(KEY, ENTRY)
    assert expiry(stored_name(cache)) == pytest.approx(clock.seconds + 30 * 24 * 3600, abs=60)


def test_the_default_limit_of_a_body_is_eight_mebibytes(cache: DjangoCache) -> None:
    cache.put(KEY, Entry({}, bytes(8 * MIB)))
    assert cache.get(KEY) is not None
    cache.put(KEY, Entry({}, bytes(8 * MIB + 1)))
    assert cache.get(KEY) is None


def test_a_cache_that_fails_is_left_alone_and_recovers(
    failing: type[Failing], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = DjangoCache("default", clock=clock)
    cache.put(KEY, ENTRY)
    failing.error = RuntimeError("the server is gone")
    assert cache.get(KEY) is None
    calls = failing.calls
    for _ in range(20):
        assert cache.get(KEY) is None
        cache.put(KEY, ENTRY)
    assert failing.calls == calls
    cache.delete(KEY)
    assert cache.delete_source("cat") == 0
    failing.error = None
    clock.hour()
    assert cache.get(KEY) == ENTRY
    assert len(caplog.records) == 1
