"""How often a key may call."""

from __future__ import annotations

from contextlib import closing

import pytest

from optidash_integrations.ratelimit import Tally
from optidash_integrations.server.keys import Key
from optidash_integrations.server.limits import (
    DEFAULT_RATE,
    KeyLimits,
    RateExceededError,
    checked_rate,
)
from optidash_integrations.server.refusals import InvalidError
from optidash_integrations.server.shared_counts import PLACES, SharedCounts
from tests.cache.servers import redis_address, redis_program, redis_server, redis_url
from tests.server.children import outputs
from tests.server.clocks import Clock

__all__ = ["redis_address", "redis_program", "redis_server", "redis_url"]

SHOP, OTHER = Key(id="1a", name="shop"), Key(id="2b", name="other")
SLOW = Key(id="3c", name="slow", rate_limit="2/1 hours")


@pytest.fixture
def clock():
    return Clock()


def counts(limits: KeyLimits, key: Key, times: int) -> list[bool]:
    return [limits.hit(key).is_over for _ in range(times)]


def test_a_hundred_thousand_in_fifteen_minutes_unless_told_otherwise(clock):
    with closing(KeyLimits(clock=clock)) as limits:
        tally = limits.hit(SHOP)
    assert (tally.limit, tally.remaining, tally.reset, tally.is_over) == (100_000, 99_999, 900, 0)
    assert DEFAULT_RATE == "100000/15 minutes"


def test_every_answer_tells_the_limit_what_is_left_and_the_seconds(clock):
    limits = KeyLimits("5/15 minutes", clock=clock)
    limits.hit(SHOP)
    clock.seconds += 121.5
    assert limits.hit(SHOP).headers() == [
        ("x-ratelimit-limit", "5"),
        ("x-ratelimit-remaining", "3"),
        ("x-ratelimit-reset", "779"),
    ]


def test_over_the_limit_is_refused_as_the_contract_says(clock):
    limits = KeyLimits("1/15 minutes", clock=clock)
    assert not limits.hit(SHOP).is_over
    clock.seconds += 122
    tally = limits.hit(SHOP)
    assert tally.is_over
    refusal = RateExceededError(tally)
    assert refusal.public_status == 429
    assert refusal.public == "Rate limit exceeded. Retry in 778 seconds."
    assert refusal.headers == [
        ("retry-after", "778"),
        ("x-ratelimit-limit", "1"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "778"),
    ]


def test_nobody_is_told_to_come_back_at_once():
    headers = dict(RateExceededError(Tally(1, 0, 0, True)).headers)
    assert headers["retry-after"] == headers["x-ratelimit-reset"] == "1"


def test_after_the_period_calls_are_allowed_again(clock):
    limits = KeyLimits("2/15 minutes", clock=clock)
    assert counts(limits, SHOP, 3) == [False, False, True]
    clock.seconds += 900
    assert counts(limits, SHOP, 3) == [False, False, True]


def test_each_key_is_counted_for_itself(clock):
    limits = KeyLimits("1/minute", clock=clock)
    assert counts(limits, SHOP, 2) == [False, True]
    assert counts(limits, OTHER, 2) == [False, True]


def test_a_key_may_have_a_rate_of_its_own(clock):
    limits = KeyLimits("1/minute", clock=clock)
    assert counts(limits, SLOW, 3) == [False, False, True]
    assert limits.hit(SLOW).reset == 3600


def test_whoever_has_no_key_is_counted_by_address(clock):
    limits = KeyLimits("1/minute", clock=clock)
    assert not limits.hit_stranger("192.0.2.1").is_over
    assert limits.hit_stranger("::ffff:192.0.2.1").is_over
    assert not limits.hit_stranger("2001:db8::1").is_over
    assert limits.hit_stranger("2001:db8::2").is_over
    assert not limits.hit(Key(id="192.0.2.1", name="odd")).is_over


def test_servers_with_one_redis_count_together(redis_url):
    with (
        closing(KeyLimits("3/hour", redis_url)) as one,
        closing(KeyLimits("3/hour", redis_url)) as two,
    ):
        assert counts(one, SHOP, 2) == [False, False]
        assert counts(two, SHOP, 2) == [False, True]
        assert one.hit(SHOP).is_over
        assert 3590 <= one.hit(SHOP).reset <= 3600
        assert counts(two, SLOW, 1) == [False]


def test_without_redis_each_server_counts_alone(redis_server):
    with closing(KeyLimits("2/hour", redis_server.url)) as limits:
        assert not limits.hit(SHOP).is_over
        redis_server.stop()
        assert counts(limits, SHOP, 3) == [False, False, True]


# Several processes without Redis


@pytest.fixture
def rates(tmp_path):
    return tmp_path / "rates"


def test_the_workers_of_a_server_count_together(rates, clock):
    with (
        closing(KeyLimits("3/hour", shared=rates, clock=clock)) as one,
        closing(KeyLimits("3/hour", shared=rates, clock=clock)) as two,
    ):
        assert counts(one, SHOP, 2) == [False, False]
        clock.seconds += 600
        assert two.hit(SHOP) == Tally(3, 0, 3000, False)
        assert one.hit(SHOP) == Tally(3, 0, 3000, True)
        assert counts(two, OTHER, 1) + counts(two, SLOW, 1) == [False, False]
        clock.seconds += 3000
        assert counts(two, SHOP, 4) == [False, False, False, True]
        assert one.hit(SHOP).is_over
        assert not two.is_shared  # which would cost each request a thread


def test_no_request_is_lost_between_processes(rates):
    code = """
from pathlib import Path
from optidash_integrations.server.keys import Key
from optidash_integrations.server.limits import KeyLimits
limits = KeyLimits("1500/hour", shared=Path(sys.argv[1]))
print(sum(not limits.hit(Key(id="1a", name="shop")).is_over for _ in range(1000)))
"""
    assert sum(map(int, outputs(code, str(rates), count=3))) == 1500


def test_a_process_that_is_killed_while_it_counts_stops_nobody(rates):
    code = """
import os, signal
from pathlib import Path
from optidash_integrations.server.shared_counts import SharedCounts
counts = SharedCounts(Path(sys.argv[1]), lambda: 0.0)
counts.incr("shop", 60)
if not os.fork():
    with counts.alone():
        os.kill(os.getpid(), signal.SIGKILL)
os.wait()
print(counts.incr("shop", 60))
"""
    assert outputs(code, str(rates)) == ["2"]
    with closing(SharedCounts(rates, lambda: 0.0)) as found:
        assert found.get("shop") == 2


def test_where_all_places_are_taken_the_window_that_ends_first_is_forgotten(rates, clock):
    with closing(SharedCounts(rates, clock)) as found:
        found.name_of = lambda key: bytes(8) + int(key).to_bytes(8, "big")  # all in one place
        for number in range(1, PLACES + 1):
            found.incr(str(number), 100 - number)
        found.incr("50", 100)
        assert [found.get(str(number)) for number in range(1, PLACES + 1)] == [1] * 7 + [0]
        assert found.get("50") == 1
        clock.seconds += 99
        assert found.incr("1", 10) == 1
        assert found.get("50") == 1


def test_counts_can_be_forgotten(rates, clock):
    with closing(SharedCounts(rates, clock)) as found:
        found.incr("a", 10)
        found.incr("b", 10)
        found.clear("a")
        found.clear("nobody")
        assert (found.get("a"), found.get("b")) == (0, 1)
        assert found.get_expiry("b") == clock.seconds + 10
        found.reset()
        assert found.get("b") == 0


def test_where_the_file_can_not_be_had_each_process_counts_alone(tmp_path, caplog):
    with closing(KeyLimits("1/hour", shared=tmp_path / "missing" / "rates")) as limits:
        assert counts(limits, SHOP, 2) == [False, True]
    assert "each process counts requests for itself" in caplog.text


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("600/minute", "600/1 minutes"),
        (" 100000 / 15 Minutes ", "100000/15 minutes"),
        ("1/1second", "1/1 seconds"),
        ("5/2 days", "5/2 days"),
        ("100000/15 minutes", "100000/15 minutes"),
    ],
)
def test_a_rate_has_one_form(rate, expected):
    assert checked_rate(rate) == checked_rate(expected) == expected
    tally = KeyLimits(rate).hit(SHOP)
    assert tally.limit == int(expected.partition("/")[0])


@pytest.mark.parametrize(
    "rate",
    ["", "600", "0/minute", "-1/minute", "5/0 minutes", "5/week", "1/minute; 2/hour", "٣/minute"],
)
def test_a_wrong_rate_is_refused_with_a_sentence(rate):
    with pytest.raises(InvalidError, match="such as 600/minute or 100000/15 minutes, not"):
        KeyLimits(rate)
