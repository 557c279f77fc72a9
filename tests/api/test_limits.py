"""Rate limits, budgets and requests in flight: what both clients wait for, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.errors import BudgetExceededError, RateLimitError, ServerError
from optidash_integrations.ledger import Ledger, MonthlyBudget, account_of
from optidash_integrations.pacing import RateLimit
from tests.api import faults
from tests.api.conftest import MakeSpeaker
from tests.api.server import ApiServer
from tests.api.speakers import KEY, Speaker

IMAGE = b"\xff\xd8\xff" + bytes(2_000)
ECHO = {"echo": True}


def test_every_answer_tells_the_rate_limit(speaker: Speaker, server: ApiServer) -> None:
    assert speaker.client.rate_limit is None
    speaker.account()
    assert speaker.client.rate_limit == RateLimit(100_000, 99_999, 900)
    server.rate = (100_000, 80_000, 300)
    server.fail(faults.status(422))
    with pytest.raises(Exception, match="factor"):
        speaker.upload(IMAGE, ECHO)
    assert speaker.client.rate_limit == RateLimit(100_000, 80_000, 300)


def test_the_fewer_calls_are_left_the_longer_the_waits(speaker: Speaker, server: ApiServer) -> None:
    server.rate = (1000, 101, 60)
    for _ in range(3):
        speaker.account()
    assert speaker.waits == []  # more than a tenth is left
    server.rate = (1000, 99, 50)
    for _ in range(3):
        speaker.account()
    server.rate = (1000, 9, 50)
    for _ in range(3):
        speaker.account()
    plenty, scarce = speaker.waits[:2], speaker.waits[-1:]
    assert plenty == pytest.approx([0.5], abs=0.05) or plenty == pytest.approx([0.5] * 2, abs=0.05)
    assert scarce == pytest.approx([5.0], abs=0.5)


def test_where_none_is_left_the_next_call_waits_for_the_reset(
    speaker: Speaker, server: ApiServer
) -> None:
    server.rate = (1000, 0, 30)
    speaker.account()
    server.rate = (1000, 999, 900)
    speaker.account()
    assert speaker.waits == [30.0]


def test_a_reset_too_far_away_is_an_error_at_once(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(max_wait=60)
    server.rate = (1000, 0, 778)
    speaker.account()
    with pytest.raises(RateLimitError, match="778 seconds") as caught:
        speaker.account()
    assert caught.value.seconds == pytest.approx(778)
    assert (len(server.seen), speaker.waits) == (1, [])


def test_after_a_429_all_calls_of_the_client_leave_the_api_alone(
    speaker: Speaker, server: ApiServer
) -> None:
    server.fail(faults.retry_after(778))
    with pytest.raises(RateLimitError, match="Retry in 778 seconds") as caught:
        speaker.upload(IMAGE, ECHO)
    assert (caught.value.seconds, caught.value.status) == (778, 429)
    with pytest.raises(RateLimitError):
        speaker.account()
    assert len(server.seen) == 1
    speaker.time.now += 779
    assert speaker.account().name == "Team"


def test_a_longer_wait_is_obeyed_where_the_client_is_patient(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(max_wait=800)
    server.fail(faults.retry_after(778))
    assert speaker.upload(IMAGE, ECHO).output.bytes == len(IMAGE)
    assert speaker.waits == [778.0]


def test_a_503_may_tell_how_long_to_wait(speaker: Speaker, server: ApiServer) -> None:
    server.fail(faults.retry_after(7, code=503))
    assert speaker.account().name == "Team"
    assert speaker.waits[0] == 7.0


def test_waits_are_jittered(make_speaker: MakeSpeaker, server: ApiServer) -> None:
    speaker = make_speaker(jitter=lambda: 0.5)
    server.always = faults.status(500)
    with pytest.raises(ServerError):
        speaker.account()
    assert speaker.waits == [1.125, 2.25, 4.5]


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_the_number_of_tries_is_a_setting(
    retries: int, make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(retries=retries, max_wait=10)
    server.always = faults.status(502)
    with pytest.raises(ServerError):
        speaker.account()
    assert len(server.seen) == retries + 1
    assert speaker.waits == [1.0, 2.0, 4.0, 8.0, 10.0][:retries]


def used(path: Path, url: str, speaker: Speaker) -> int:
    budget = MonthlyBudget(Ledger(path), account_of(url, KEY), 0, clock=speaker.time)
    try:
        return budget.used()
    finally:
        budget.ledger.close()


def test_a_budget_counts_every_try_of_what_costs_something(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    path = tmp_path / "api.sqlite3"
    speaker = make_speaker(monthly_budget=5, budget_file=path)
    speaker.account()
    server.fail(faults.status(500), faults.close_before_head())
    speaker.upload(IMAGE, ECHO)
    assert used(path, server.url, speaker) == 3
    speaker.download(speaker.upload(IMAGE, ECHO), tmp_path / "a.jpg")
    speaker.upload_to_bytes(IMAGE, ECHO)
    before = len(server.seen)
    with pytest.raises(BudgetExceededError, match="monthly_budget of 5"):
        speaker.upload(IMAGE, ECHO)
    assert len(server.seen) == before
    assert speaker.account().name == "Team"


def test_a_budget_runs_out_in_the_middle_of_tries(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    speaker = make_speaker(monthly_budget=2, budget_file=tmp_path / "api.sqlite3")
    server.always = faults.status(500)
    with pytest.raises(BudgetExceededError):
        speaker.upload(IMAGE, ECHO)
    assert len(server.seen) == 2


def test_a_new_month_has_a_new_budget(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    speaker = make_speaker(monthly_budget=1, budget_file=tmp_path / "api.sqlite3")
    speaker.upload(IMAGE, ECHO)
    with pytest.raises(BudgetExceededError):
        speaker.upload(IMAGE, ECHO)
    speaker.time.now += 31 * 24 * 3600
    speaker.upload(IMAGE, ECHO)


def test_calls_that_can_not_be_counted_are_not_made(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    speaker = make_speaker(monthly_budget=5, budget_file=tmp_path / "file" / "api.sqlite3")
    with pytest.raises(BudgetExceededError, match="can't be counted"):
        speaker.upload(IMAGE, ECHO)
    assert server.seen == []


def test_processes_share_requests_in_flight_and_what_the_api_told(
    make_speaker: MakeSpeaker, server: ApiServer, redis_url: str
) -> None:
    one, other = (make_speaker(shared_url=redis_url, concurrency=1, max_wait=1) for _ in range(2))
    server.rate = (1000, 0, 778)
    one.account()
    with pytest.raises(RateLimitError, match="seconds"):
        other.account()
    assert len(server.seen) == 1


def test_a_place_in_flight_is_waited_for_and_given_back(
    make_speaker: MakeSpeaker, server: ApiServer, redis_url: str
) -> None:
    one, other = (make_speaker(shared_url=redis_url, concurrency=1, max_wait=1) for _ in range(2))
    taken = one.client.api.shared.enter(1, 60.0)
    with pytest.raises(RateLimitError, match="as allowed, 1, are in flight"):
        other.upload(IMAGE, ECHO)
    assert (server.seen, sum(other.waits)) == ([], pytest.approx(1.0, abs=0.15))
    one.client.api.shared.leave(taken)
    for _ in range(3):
        other.upload(IMAGE, ECHO)
    server.always = faults.status(422)
    for _ in range(3):
        with pytest.raises(Exception, match="factor"):
            other.upload(IMAGE, ECHO)
    assert one.client.api.shared.enter(1, 60.0) is not None
