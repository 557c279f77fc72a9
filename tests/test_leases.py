from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.redis import RedisCache, connect
from optidash_integrations.cache.redis_locks import RedisLocks
from optidash_integrations.leases import FIRST_KEY, Leases, LockFile, place_of
from optidash_integrations.pool import TURNSTILE, Rounds, Slots
from tests.cache.conftest import key_of
from tests.cache.servers import redis_address, redis_program, redis_url

__all__ = ["redis_address", "redis_program", "redis_url"]

KEY = key_of(0)
ENTRY = Entry({"type": "image/avif"}, b"body", "stock.host/cat#1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "locks"


@pytest.fixture
def files(path: Path) -> Iterator[tuple[LockFile, LockFile]]:
    """The file as two processes have it open."""
    two = LockFile(path), LockFile(path)
    yield two
    for file in two:
        for place in tuple(file.held):
            file.release(place)
        file.close()


@pytest.fixture
def locks(redis_url: str) -> Iterator[RedisLocks]:
    cache = RedisCache(*connect(redis_url))
    yield RedisLocks(cache, 0.1)
    cache.clear()
    for name in list(cache.names(cache.root.removesuffix("cache:"))):
        cache.client.delete(name)
    cache.close()


# The file


def test_a_place_is_held_once(files: tuple[LockFile, LockFile]) -> None:
    one, other = files
    assert one.take(7)
    assert not one.take(7)
    assert not other.take(7)
    assert other.take(8)
    one.release(7)
    assert other.take(7)


def test_a_place_that_is_not_held_is_not_given_back(files: tuple[LockFile, LockFile]) -> None:
    one, other = files
    assert one.take(7)
    other.release(7)
    assert not other.take(7)


def test_the_file_stays_empty_and_alone(files: tuple[LockFile, LockFile], path: Path) -> None:
    for number in range(500):
        place = place_of(key_of(number))
        assert files[0].take(place)
        if number % 2:
            files[0].release(place)
    assert path.stat().st_size == 0
    assert list(path.parent.iterdir()) == [path]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_no_two_keys_have_one_place() -> None:
    places = {place_of(key_of(number)) for number in range(10_000)}
    assert len(places) == 10_000
    assert min(places) >= FIRST_KEY
    assert max(places) < 2**63


def test_a_file_that_somebody_removed_is_made_again(
    files: tuple[LockFile, LockFile], path: Path
) -> None:
    one, other = files
    assert one.take(1)
    path.unlink()
    assert other.take(2)
    assert not one.take(2)
    one.release(1)
    assert one.take(1)
    assert not other.take(1)


def test_what_is_held_stays_held_when_the_file_is_closed(
    files: tuple[LockFile, LockFile],
) -> None:
    one, other = files
    assert one.take(1)
    one.close()
    assert not other.take(1)
    one.release(1)
    assert one.descriptor is None
    assert other.take(1)


def test_a_file_that_cannot_be_used_bounds_nobody_and_says_so_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)
    file = LockFile(path)
    with caplog.at_level(logging.WARNING):
        assert all(file.take(1) for _ in range(3))
    file.release(1)
    assert len(caplog.records) == 1


def test_in_a_child_the_parents_places_are_not_held(files: tuple[LockFile, LockFile]) -> None:
    one, other = files
    assert one.take(1)
    one.forget()
    assert (one.held, one.descriptor) == ({}, None)
    assert other.take(1)


# Slots


def test_a_slot_is_one_of_so_many(files: tuple[LockFile, LockFile]) -> None:
    slots = [Slots(file, 2) for file in files]
    with slots[0].one(), slots[1].one():
        assert not any(files[0].take(place) for place in slots[0].places)
    with slots[0].one():
        assert not files[1].take(slots[0].places[0])


def test_whoever_waits_for_a_slot_is_the_next_to_get_one(
    files: tuple[LockFile, LockFile],
) -> None:
    """A process that is busy all the time must not keep all slots for itself."""
    busy, other = (Slots(file, 1) for file in files)
    entered = threading.Event()

    def wait() -> None:
        with other.one():
            entered.set()

    with busy.one():
        waiting = threading.Thread(target=wait)
        waiting.start()
        while files[0].take(TURNSTILE):
            files[0].release(TURNSTILE)
    with busy.one():
        assert entered.is_set()
    waiting.join(10)


def test_a_slot_is_given_back_when_the_work_fails(files: tuple[LockFile, LockFile]) -> None:
    slots = Slots(files[0], 1)
    with pytest.raises(ZeroDivisionError), slots.one():
        raise ZeroDivisionError
    assert files[1].take(slots.places[0])


def test_without_a_file_there_is_no_bound() -> None:
    slots = Slots(None, 1)
    with slots.one(), slots.one():
        pass


# Leases


def test_one_process_has_the_lease_of_a_key(files: tuple[LockFile, LockFile]) -> None:
    one, other = (Leases(file) for file in files)
    lease = one.take(KEY)
    assert lease is not None
    assert other.take(KEY) is None
    another = other.take(key_of(1))
    assert another is not None
    one.release(lease)
    again = other.take(KEY)
    assert again is not None


def test_without_a_file_and_redis_everybody_may() -> None:
    leases = Leases()
    assert leases.is_alone
    assert leases.take(KEY) is not None
    assert leases.take(KEY) is not None


def test_a_host_that_does_not_get_redis_lease_gives_back_its_place(
    files: tuple[LockFile, LockFile], locks: RedisLocks
) -> None:
    number = locks.take(KEY)
    assert number
    one, other = (Leases(file, locks) for file in files)
    assert one.take(KEY) is None
    assert (one.file.held, other.take(KEY)) == ({}, None)
    locks.release(KEY, number)
    lease = other.take(KEY)
    assert lease is not None
    assert lease.number > number
    other.release(lease)
    assert locks.take(KEY)
    for leases in (one, other):
        leases.close()


# In Redis


def test_whoever_takes_a_lease_learns_whether_the_tier_has_the_entry(locks: RedisLocks) -> None:
    leases = Leases(None, locks)
    first = leases.take(KEY)
    assert first is not None
    assert not first.may_be_there
    assert leases.put(first, ENTRY)
    second = leases.take(KEY)
    assert second is not None
    assert second.may_be_there
    leases.release(second)
    leases.close()


def test_numbers_grow(locks: RedisLocks) -> None:
    numbers = []
    for _ in range(5):
        number = locks.take(KEY)
        numbers.append(number)
        locks.release(KEY, number)
    assert numbers == sorted(set(numbers))
    assert locks.TAKEN not in numbers


def test_a_lease_ends_by_itself(locks: RedisLocks) -> None:
    first = locks.take(KEY)
    assert locks.take(KEY) == locks.TAKEN
    second = taken(locks)
    assert second > first
    assert not locks.renew(KEY, first)
    assert locks.renew(KEY, second)


def taken(locks: RedisLocks) -> int:
    """Take a lease as soon as that is to be had."""
    while (number := locks.take(KEY)) == locks.TAKEN:
        pass
    assert number is not None
    return number


def test_whoever_has_an_older_lease_stores_nothing(locks: RedisLocks) -> None:
    old = locks.take(KEY)
    new = taken(locks)
    newer = Entry({"type": "image/webp"}, b"new", "stock.host/cat#1")
    assert locks.put(KEY, new, newer)
    assert not locks.put(KEY, old, ENTRY)
    assert locks.cache.get(KEY) == newer


def test_a_lease_that_is_over_but_the_newest_may_still_store(locks: RedisLocks) -> None:
    number = locks.take(KEY)
    locks.release(KEY, number)
    assert locks.put(KEY, number, ENTRY)
    assert locks.cache.get(KEY) == ENTRY


def test_what_was_released_is_not_renewed(locks: RedisLocks) -> None:
    """The thread that renews may be late."""
    locks.seconds = 60
    number = locks.take(KEY)
    locks.release(KEY, number)
    assert not locks.renew(KEY, number)
    assert locks.take(KEY) > number


def test_storing_ends_the_lease(locks: RedisLocks) -> None:
    locks.seconds = 60
    number = locks.take(KEY)
    assert locks.put(KEY, number, ENTRY)
    assert locks.take(KEY) > number


def test_what_is_stored_so_is_as_what_the_tier_stores(locks: RedisLocks) -> None:
    """The same value, found by its source, with a lifetime."""
    cache = locks.cache

    def stored() -> dict[bytes, object]:
        found: dict[bytes, object] = {}
        for name in cache.names(cache.root):
            is_set = cache.client.type(name) == b"set"
            value = cache.client.smembers(name) if is_set else cache.client.get(name)
            found[name] = value, cache.client.ttl(name) > 0
        return found

    locks.put(KEY, locks.take(KEY), ENTRY)
    ours = stored()
    cache.clear()
    cache.put(KEY, ENTRY)
    assert ours == stored()
    assert cache.delete_source(ENTRY.source) == 1


def test_a_body_that_is_too_long_for_the_tier_is_not_stored(locks: RedisLocks) -> None:
    locks.cache.max_body_bytes = 3
    locks.cache.put(KEY, Entry({}, b"old"))
    assert locks.put(KEY, locks.take(KEY), ENTRY)
    assert locks.cache.get(KEY) is None
    assert locks.take(KEY) != locks.TAKEN


def test_a_lock_is_forgotten_after_an_hour(locks: RedisLocks) -> None:
    locks.take(KEY)
    assert 3500 < locks.cache.client.ttl(locks.root + KEY) <= 3600


def test_clearing_the_cache_does_not_let_an_older_lease_store(locks: RedisLocks) -> None:
    old = locks.take(KEY)
    new = taken(locks)
    locks.cache.clear()
    assert not locks.put(KEY, old, ENTRY)
    assert locks.put(KEY, new, ENTRY)


def test_a_clock_that_was_set_back_blocks_nobody(locks: RedisLocks) -> None:
    locks.take(KEY)
    in_an_hour = int(locks.cache.client.hget(locks.root + KEY, "until")) + 3_600_000
    locks.cache.client.hset(locks.root + KEY, "until", in_an_hour)
    assert locks.take(KEY) != locks.TAKEN


# Rounds


def test_what_is_due_is_called_again_until_it_says_never() -> None:
    rounds, seen, over = Rounds(), [], threading.Event()

    def visit() -> float | None:
        seen.append(len(seen))
        if len(seen) == 3:
            over.set()
            return None
        return 0.001

    rounds.add(visit, 0)
    assert over.wait(10)
    rounds.close()
    assert seen == [0, 1, 2]


def test_what_fails_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    rounds, over = Rounds(), threading.Event()

    def fail() -> float | None:
        raise ZeroDivisionError

    rounds.add(fail, 0)
    rounds.add(lambda: over.set(), 0.001)
    assert over.wait(10)
    rounds.close()
    assert "ZeroDivisionError" in caplog.text


def test_what_is_due_sooner_does_not_wait_for_what_came_first() -> None:
    rounds, over = Rounds(), threading.Event()
    rounds.add(lambda: None, 3600)
    rounds.add(lambda: over.set(), 0.001)
    assert over.wait(10)
    rounds.close()
