from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optidash_integrations.pacing import Pacer, RateLimit, rate_limit_of, retry_after

NOON = 1_700_000_000.0 // 86400 * 86400 + 12 * 3600
NOON_DATE = "Tue, 14 Nov 2023 12:00:00 GMT"
QUARTER_PAST = "Tue, 14 Nov 2023 12:15:00 GMT"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pacer(clock: Clock) -> Pacer:
    return Pacer(clock)


def limits(limit: object, remaining: object, reset: object) -> dict[str, str]:
    names = ("limit", "remaining", "reset")
    values = (limit, remaining, reset)
    return {f"x-ratelimit-{n}": str(v) for n, v in zip(names, values, strict=True)}


# What answers tell


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (limits(100_000, 99_999, 900), RateLimit(100_000, 99_999, 900.0)),
        (limits(" 10 ", "0", "1.5"), RateLimit(10, 0, 1.5)),
        (
            {"ratelimit-limit": "10", "ratelimit-remaining": "5", "ratelimit-reset": "7"},
            RateLimit(10, 5, 7.0),
        ),
        (
            {"ratelimit": '"default";r=50;t=30', "ratelimit-policy": '"default";q=100;w=60'},
            RateLimit(100, 50, 30.0),
        ),
        ({"ratelimit": '"default"; r=50; t=30'}, RateLimit(50, 50, 30.0)),
        ({}, None),
        (limits(10, 5, ""), None),
        (limits(10, -1, 7), None),
        (limits("ten", 1, 7), None),
        (limits(10, 1, "nan"), None),
        (limits(10, 1, "inf"), None),
        (limits(10, 1, "1e9"), None),
        (limits(10, 1, "9" * 5000), None),
        (limits("\u0661", 1, 1), None),
        ({"ratelimit": '"default";r=50'}, None),
        ({"ratelimit": f"d;r={'9' * 5000};t=1"}, None),
        ({"ratelimit": f"d;r=1;t={'9' * 400}"}, None),
    ],
)
def test_the_rate_limit_is_read_from_headers_or_not_at_all(
    headers: Mapping[str, str], found: RateLimit | None
) -> None:
    assert rate_limit_of(headers) == found


@pytest.mark.parametrize(
    ("limit", "remaining", "short"), [(100, 11, False), (100, 10, True), (100, 0, True)]
)
def test_a_limit_is_short_at_a_tenth(limit: int, remaining: int, short: bool) -> None:
    assert RateLimit(limit, remaining, 1.0).is_short is short


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "778"}, 778.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": QUARTER_PAST}, 900.0),
        ({"retry-after": NOON_DATE}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 14 Nov 2023 13:15:00 +0100"}, 900.0),
        ({"retry-after": "Tuesday, 14-Nov-23 12:15:00 GMT"}, 900.0),
        ({"retry-after": "Tue Nov 14 12:15:00 2023"}, 900.0),
        ({"retry-after": QUARTER_PAST, "date": "Tue, 14 Nov 2023 12:10:00 GMT"}, 300.0),
        ({"retry-after": QUARTER_PAST, "date": "no date"}, 900.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "Tue, 14 Nov 2023 12:15:00 +99999999999999999999"}, None),
        ({"retry-after": "Tue, 99 Nov 2023 12:15:00 GMT"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert retry_after(headers, NOON) == seconds


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_header_makes_reading_it_fail(value: str) -> None:
    names = ("retry-after", "date", "ratelimit", "ratelimit-policy", *limits(0, 0, 0))
    headers = dict.fromkeys(names, value)
    assert rate_limit_of(headers) is None or value.strip()
    assert (retry_after(headers, NOON) or 0.0) >= 0.0


@given(
    st.lists(st.sampled_from([*"0123456789", "99999", " ", ", ", ":", "+", "-"]), max_size=9),
    st.integers(0, 30),
)
def test_no_damaged_date_makes_reading_it_fail(pieces: list[str], at: int) -> None:
    damaged = QUARTER_PAST[:at] + "".join(pieces) + QUARTER_PAST[at:]
    assert (retry_after({"retry-after": damaged}, NOON) or 0.0) >= 0.0


# When calls go


def test_calls_go_at_once_until_a_tenth_is_left(pacer: Pacer) -> None:
    assert pacer.reserve(60.0) == 0.0
    pacer.told(RateLimit(100, 11, 90.0))
    assert [pacer.reserve(60.0) for _ in range(20)] == [0.0] * 20


def test_the_last_tenth_is_spread_over_the_time_that_is_left(pacer: Pacer) -> None:
    pacer.told(RateLimit(100, 9, 50.0))
    assert [pacer.reserve(60.0) for _ in range(4)] == [0.0, 5.0, 10.0, 15.0]


def test_the_fewer_calls_are_left_the_further_apart_they_lie(pacer: Pacer, clock: Clock) -> None:
    gaps = []
    for remaining in (10, 5, 2, 1):
        clock.now += 1000.0
        pacer.told(RateLimit(100, remaining, 60.0))
        gaps.append(pacer.reserve(60.0) or pacer.reserve(60.0))
    assert gaps == sorted(gaps)
    assert len(set(gaps)) == 4


def test_with_no_call_left_the_next_waits_for_the_end_of_the_period(
    pacer: Pacer, clock: Clock
) -> None:
    pacer.told(RateLimit(100, 0, 30.0))
    clock.now += 10.0
    assert pacer.reserve(60.0) == 20.0
    clock.now += 20.0
    assert pacer.reserve(60.0) == 0.0


def test_no_turn_lies_behind_the_end_of_the_period(pacer: Pacer) -> None:
    """There are new calls then: a sixteenth thread need not wait for sixteen gaps."""
    pacer.told(RateLimit(100, 1, 10.0))
    assert max(pacer.reserve(60.0) for _ in range(16)) == 10.0


def test_a_new_period_forgets_the_turns_of_the_last(pacer: Pacer, clock: Clock) -> None:
    pacer.told(RateLimit(100, 1, 900.0))
    assert pacer.reserve(60.0) == 0.0
    assert pacer.reserve(60.0) == pytest.approx(450.0)
    pacer.told(RateLimit(100, 99, 900.0))
    assert pacer.reserve(60.0) == 0.0
    clock.now += 901.0
    assert pacer.reserve(60.0) == 0.0


def test_a_wait_that_is_too_long_keeps_no_turn(pacer: Pacer) -> None:
    pacer.told(RateLimit(100, 1, 100.0))
    assert pacer.reserve(10.0) == 0.0
    assert [pacer.reserve(10.0) for _ in range(3)] == [50.0] * 3


def test_a_block_holds_all_calls_back_and_the_longest_counts(pacer: Pacer, clock: Clock) -> None:
    pacer.block(30.0)
    pacer.block(10.0)
    assert pacer.reserve(60.0) == 30.0
    clock.now += 30.0
    assert pacer.reserve(60.0) == 0.0


def test_a_block_outlasts_the_period(pacer: Pacer) -> None:
    pacer.told(RateLimit(100, 0, 5.0))
    pacer.block(30.0)
    assert pacer.reserve(60.0) == 30.0


def test_no_answer_blocks_calls_for_more_than_a_day(pacer: Pacer) -> None:
    pacer.block(1e12)
    assert pacer.reserve(60.0) == 86400.0


def test_threads_get_turns_of_their_own(pacer: Pacer) -> None:
    pacer.told(RateLimit(1000, 99, 1000.0))
    turns: list[float] = []
    threads = [
        threading.Thread(target=lambda: turns.append(pacer.reserve(2000.0))) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == pytest.approx([10.0 * n for n in range(50)])
