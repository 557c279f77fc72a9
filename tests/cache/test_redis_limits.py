"""What processes that call one API tell each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from optidash_integrations.cache.redis_limits import SharedLimits
from optidash_integrations.errors import SettingsError
from tests.cache.conftest import Clock
from tests.cache.servers import RedisServer

OpenLimits = Callable[..., SharedLimits]


@pytest.fixture
def open_limits(redis_url: str, clock: Clock) -> Iterator[OpenLimits]:
    """Opens the limits as a process of its own would."""
    opened = []

    def open_one(name: str = "api", clock: Clock | None = clock) -> SharedLimits:
        opened.append(SharedLimits(redis_url, name, clock))
        return opened[-1]

    yield open_one
    for limits in opened:
        for name in ("flying", "told", "blocked"):
            limits.client.delete(limits.root + name)
        limits.close()


def test_no_more_places_are_taken_than_there_are(open_limits: OpenLimits) -> None:
    one, two = open_limits(), open_limits()
    tokens = [one.enter(2, 60), two.enter(2, 60)]
    assert None not in tokens
    assert len(set(tokens)) == 2
    assert one.enter(2, 60) is None
    two.leave(tokens[0])
    assert one.enter(2, 60) is not None
    assert two.enter(2, 60) is None


def test_a_place_whose_holder_died_is_free_when_its_lease_ends(
    open_limits: OpenLimits, clock: Clock
) -> None:
    limits = open_limits()
    limits.enter(2, 60)
    limits.enter(2, 10)
    clock.seconds += 9
    assert limits.enter(2, 60) is None
    clock.seconds += 2
    assert limits.enter(2, 60) is not None
    assert limits.enter(2, 60) is None


def test_a_place_that_is_renewed_is_kept_until_its_holder_dies(
    open_limits: OpenLimits, clock: Clock
) -> None:
    one, two = open_limits(), open_limits()
    token = one.enter(1, 10)
    for _ in range(5):
        clock.seconds += 9
        one.renew(token, 10)
        assert two.enter(1, 10) is None
    clock.seconds += 11
    assert two.enter(1, 10) is not None


def test_who_lost_a_place_and_is_still_there_counts_again(
    open_limits: OpenLimits, clock: Clock
) -> None:
    one, two = open_limits(), open_limits()
    token = one.enter(2, 10)
    clock.seconds += 11
    assert two.enter(2, 60) is not None
    one.renew(token, 10)
    assert two.enter(2, 60) is None
    one.leave(token)
    assert two.enter(2, 60) is not None


def test_a_lease_outlives_the_key_of_shorter_ones(open_limits: OpenLimits) -> None:
    limits = open_limits(clock=None)
    token = limits.enter(1, 0.5)
    limits.renew(token, 60)
    assert limits.client.pttl(limits.root + "flying") > 50_000


def test_threads_at_once_never_take_too_many(open_limits: OpenLimits) -> None:
    several = [open_limits(clock=None) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda n: several[n % 4].enter(5, 60), range(40)))
    assert sum(token is not None for token in tokens) == 5


def test_all_know_what_the_api_said_last(open_limits: OpenLimits, clock: Clock) -> None:
    one, two = open_limits(), open_limits()
    assert two.state() is None
    one.told(1000, 12, 60)
    clock.seconds += 20
    limit, remaining, left = two.state()
    assert (limit, remaining) == (1000, 12)
    assert left == pytest.approx(40, abs=0.01)
    two.told(1000, 999, 60)
    assert one.state()[:2] == (1000, 999)


def test_what_the_api_said_ends_with_its_window(open_limits: OpenLimits, clock: Clock) -> None:
    limits = open_limits()
    limits.told(1000, 0, 60)
    clock.seconds += 61
    assert limits.state() is None
    limits.told(1000, 0, 60)
    limits.told(1000, 0, 0)
    assert limits.state() is None


def test_all_leave_the_api_alone_for_the_longest_time_that_it_asked_for(
    open_limits: OpenLimits, clock: Clock
) -> None:
    one, two = open_limits(), open_limits()
    assert one.blocked() == 0
    one.block(30)
    two.block(5)
    assert two.blocked() == pytest.approx(30, abs=0.01)
    clock.seconds += 31
    assert two.blocked() == 0
    two.block(5)
    assert one.blocked() == pytest.approx(5, abs=0.01)


def test_without_a_clock_redis_own_counts(open_limits: OpenLimits) -> None:
    limits = open_limits(clock=None)
    limits.block(50)
    limits.told(10, 5, 50)
    assert 40 < limits.blocked() <= 50
    assert 40 < limits.state()[2] <= 50


def test_nothing_stays_in_redis_for_ever(open_limits: OpenLimits) -> None:
    limits = open_limits()
    limits.enter(5, 60)
    limits.enter(5, 6)
    limits.told(10, 5, 50)
    limits.block(40)
    lives = [limits.client.ttl(limits.root + name) for name in ("flying", "told", "blocked")]
    assert [
        life in range(wanted - 2, wanted + 1)
        for life, wanted in zip(lives, (60, 50, 40), strict=True)
    ] == [True] * 3


def test_names_are_apart(open_limits: OpenLimits) -> None:
    one, two = open_limits("one"), open_limits("two")
    one.enter(1, 60)
    one.told(1, 1, 60)
    one.block(60)
    assert two.enter(1, 60) is not None
    assert two.state() is None
    assert two.blocked() == 0


def test_without_redis_a_process_behaves_as_if_alone(
    redis_server: RedisServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    limits = SharedLimits(redis_server.url, "api", clock)
    held = limits.enter(1, 600)
    limits.told(10, 5, 50)
    limits.block(50)
    redis_server.stop()
    for _ in range(30):
        token = limits.enter(1, 60)
        assert token is not None
        limits.leave(token)
        limits.told(10, 5, 50)
        limits.block(50)
        assert limits.state() is None
        assert limits.blocked() == 0
        clock.seconds += 1
    assert len(caplog.records) == 1
    limits.leave(held)
    redis_server.start()
    clock.hour()
    assert limits.enter(1, 60) is not None
    assert limits.enter(1, 60) is None
    limits.close()


@pytest.mark.parametrize("url", ["redis://host/x", "s3://pictures", "hunter2"])
def test_a_wrong_address_is_an_error(url: str) -> None:
    with pytest.raises(SettingsError, match="cache_url"):
        SharedLimits(url, "api")
