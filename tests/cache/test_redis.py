"""The Redis tier: lifetimes, damage, a server that goes and comes back, other programs' keys."""

from __future__ import annotations

import logging
import multiprocessing
import secrets
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.redis import RedisCache, connect
from optidash_integrations.cache.shared import open_shared
from tests.cache.children import read_shared, write_shared
from tests.cache.conftest import MIB, Clock, key_of
from tests.cache.servers import RedisServer

OpenRedis = Callable[..., RedisCache]

KEY = key_of(0)
ENTRY = Entry({"type": "image/avif"}, b"body" * 1000, "cat")
DAY = 24 * 3600


@pytest.fixture
def mortal(redis_server: RedisServer, clock: Clock) -> Iterator[RedisCache]:
    """A tier whose Redis the test may stop."""
    cache = RedisCache(*connect(redis_server.url), clock=clock)
    yield cache
    cache.client.connection_pool.disconnect()


def lifetime(cache: RedisCache, name: str = f"e:{KEY}") -> int:
    return cache.client.ttl(cache.root + name)


def index_of(cache: RedisCache) -> str:
    (name,) = cache.client.scan_iter(match=f"{cache.root}s:*")
    return name.decode().removeprefix(cache.root)


# Lifetimes


def test_an_entry_and_its_sources_keys_live_for_thirty_days(open_redis: OpenRedis) -> None:
    cache = open_redis()
    cache.put(KEY, ENTRY)
    assert 30 * DAY - 60 < lifetime(cache) <= 30 * DAY
    assert 30 * DAY - 60 < lifetime(cache, index_of(cache)) <= 30 * DAY


def test_use_gives_new_life_to_an_entry_and_to_its_sources_keys(
    open_redis: OpenRedis, clock: Clock
) -> None:
    cache = open_redis(lifetime=1000)
    cache.put(KEY, ENTRY)
    names = [f"e:{KEY}", index_of(cache)]
    for name in names:
        cache.client.expire(cache.root + name, 100)
    cache.touch(KEY)
    cache.get(key_of(1))
    assert [lifetime(cache, name) <= 100 for name in names] == [True, True]
    clock.hour()
    cache.touch(KEY)
    cache.get(key_of(1))
    assert [lifetime(cache, name) > 900 for name in names] == [True, True]


def test_touch_asks_the_server_for_nothing(open_redis: OpenRedis, clock: Clock) -> None:
    cache = open_redis()
    cache.put(KEY, ENTRY)
    clock.hour()
    before = cache.client.info("commandstats")
    cache.touch(KEY)
    after = cache.client.info("commandstats")
    assert {n: c["calls"] for n, c in after.items() if n != "cmdstat_info"} == {
        n: c["calls"] for n, c in before.items() if n != "cmdstat_info"
    }


def test_a_forgotten_entry_is_no_longer_among_its_sources_keys(open_redis: OpenRedis) -> None:
    cache = open_redis()
    cache.put(KEY, ENTRY)
    cache.delete(KEY)
    assert list(cache.client.scan_iter(match=f"{cache.root}*")) == []


# What is not ours


def test_clear_leaves_the_keys_of_others(open_redis: OpenRedis, redis_address: str) -> None:
    """A prefix with characters that mean something in a pattern matches only itself."""
    mark = secrets.token_hex(4)
    cache = open_shared(f"{redis_address}?prefix={mark}%5Ba-z%5D*:")
    other = open_shared(f"{redis_address}?prefix={mark}bcache:x:")
    try:
        for tier in (cache, other):
            tier.put(KEY, ENTRY)
        cache.client.set(f"{mark}theirs", "1")
        cache.clear()
        assert cache.get(KEY) is None
        assert other.get(KEY) == ENTRY
        assert cache.client.get(f"{mark}theirs") == b"1"
    finally:
        other.clear()
        cache.client.delete(f"{mark}theirs")
        cache.close()
        other.close()


def test_two_prefixes_are_two_caches(redis_address: str) -> None:
    mark = secrets.token_hex(4)
    one, two = (open_shared(f"{redis_address}?prefix={mark}{n}:") for n in "12")
    one.put(KEY, ENTRY)
    assert two.get(KEY) is None
    assert two.delete_source("cat") == 0
    one.clear()
    one.close()
    two.close()


# Damage


@pytest.mark.parametrize("value", [b"", b"odc1", b"\x80\x04N.", b"x" * 5000])
def test_a_damaged_value_is_a_miss_and_dropped(
    open_redis: OpenRedis, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = open_redis()
    cache.client.set(cache.name(KEY), value)
    assert cache.get(KEY) is None
    assert cache.client.exists(cache.name(KEY)) == 0
    assert "a damaged entry in Redis was dropped" in caplog.text


def test_a_cut_body_is_a_miss(open_redis: OpenRedis) -> None:
    cache = open_redis()
    cache.put(KEY, ENTRY)
    cache.client.setrange(cache.name(KEY), 300, b"\0")
    assert cache.get(KEY) is None


def test_a_value_of_another_kind_is_a_miss_and_can_be_replaced(open_redis: OpenRedis) -> None:
    cache = open_redis()
    cache.client.sadd(cache.name(KEY), "x")
    assert cache.get(KEY) is None
    cache.put(KEY, ENTRY)
    assert cache.get(KEY) == ENTRY


# Redis gone


def test_a_stopped_redis_misses_is_left_alone_and_recovers(
    mortal: RedisCache, redis_server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    mortal.put(KEY, ENTRY)
    redis_server.stop()
    assert mortal.get(KEY) is None
    redis_server.start()
    mortal.put(KEY, ENTRY)
    assert mortal.get(KEY) is None, "it was asked again at once"
    clock.seconds += 1.1
    mortal.put(KEY, ENTRY)
    assert mortal.get(KEY) == ENTRY
    assert len(caplog.records) == 1


def test_without_redis_nothing_is_raised_and_little_is_logged(
    mortal: RedisCache, redis_server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.stop()
    with caplog.at_level(logging.DEBUG, "optidash_integrations"):
        for _ in range(50):
            mortal.put(KEY, ENTRY)
            mortal.touch(KEY)
            mortal.delete(KEY)
            assert mortal.get(KEY) is None
            assert mortal.delete_source("cat") == 0
            mortal.clear()
            assert mortal.stats().entries == 0
            mortal.close()
            clock.seconds += 1
    assert len(caplog.records) == 1


def test_all_connections_of_a_redis_that_restarted_are_made_anew(
    mortal: RedisCache, redis_server: RedisServer, clock: Clock
) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: mortal.put(key_of(n), ENTRY), range(30)))
    redis_server.stop()
    redis_server.start()
    mortal.get(KEY)
    clock.seconds += 1.1
    mortal.put(KEY, ENTRY)
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(lambda n: mortal.get(KEY) == ENTRY, range(30))) == {True}


def test_a_silent_redis_is_asked_once_and_left_alone(clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        port = silent.getsockname()[1]
        cache = RedisCache(*connect(f"redis://127.0.0.1:{port}/0?socket_timeout=0.05"), clock=clock)
        for _ in range(5):
            assert cache.get(KEY) is None
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_after_a_failure_no_idle_connection_is_kept(
    redis_server: RedisServer, clock: Clock
) -> None:
    """They would fail one after the other, each with a pause."""
    cache = RedisCache(*connect(f"{redis_server.url}?socket_timeout=0.05"), clock=clock)
    pipelines = [cache.client.pipeline() for _ in range(5)]
    for pipeline in pipelines:
        pipeline.watch("x")
    for pipeline in pipelines:
        pipeline.reset()
    with closing(connect(f"{redis_server.url}?socket_timeout=5")[0]) as other:
        assert len(other.client_list()) == 6
        other.client_pause(100)
        assert cache.get(KEY) is None
        assert len(other.client_list()) <= 2
    cache.close()


def test_a_full_redis_is_still_read(mortal: RedisCache, caplog: pytest.LogCaptureFixture) -> None:
    mortal.put(KEY, ENTRY)
    mortal.client.config_set("maxmemory", 1)
    mortal.put(key_of(1), ENTRY)
    assert mortal.get(KEY) == ENTRY
    assert "Redis refused" in caplog.text


def test_a_wrong_password_is_never_logged(
    redis_server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    url = redis_server.url.replace("redis://", "redis://me:hunter2@")
    cache = RedisCache(*connect(url), clock=clock)
    assert cache.get(KEY) is None
    assert "Redis failed" in caplog.text
    assert "hunter2" not in caplog.text
    cache.close()


# Several processes


def test_two_processes_read_each_others_entries_whole(redis_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    children = [
        context.Process(target=work, args=(redis_url, seed, answers))
        for seed, work in enumerate((write_shared, read_shared, write_shared))
    ]
    for child in children:
        child.start()
    results = [answers.get(timeout=30) for _ in children]
    for child in children:
        child.join()
    assert sum(read for read, _ in results) > 20
    assert sum(broken for _, broken in results) == 0
    cache = open_shared(redis_url)
    counted = cache.stats().entries
    assert counted > 20
    assert sum(cache.delete_source(f"s{number}") for number in range(7)) == counted
    assert cache.stats().entries == 0
    cache.clear()
    cache.close()


def test_the_default_limit_of_a_body_is_eight_mebibytes(open_redis: OpenRedis) -> None:
    cache = open_redis()
    cache.put(KEY, Entry({}, bytes(8 * MIB)))
    assert cache.get(KEY) is not None
    cache.put(KEY, Entry({}, bytes(8 * MIB + 1)))
    assert cache.get(KEY) is None
