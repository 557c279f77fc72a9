"""Rate limits, budgets and requests in flight: what both clients wait for, and what they refuse."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from optidash_integrations.api import Api
from optidash_integrations.calls import Config, Send, Sleep
from optidash_integrations.client import AsyncOptidashClient
from optidash_integrations.errors import ApiError, BudgetExceededError, RateLimitError, ServerError
from optidash_integrations.ledger import Ledger, MonthlyBudget, account_of
from optidash_integrations.pacing import Places, RateLimit
from optidash_integrations.payload import MemorySink
from tests.api import faults
from tests.api.conftest import MakeSpeaker
from tests.api.faults import Fault
from tests.api.server import ApiServer
from tests.api.speakers import KEY, Speaker, Time

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


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (faults.status(500), [1.25, 2.5, 4.0]),
        (faults.retry_after(4), [4.0, 4.0, 4.0]),
        (faults.retry_after(3), [3.75, 3.75, 3.75]),
    ],
    ids=["500", "429 in 4 s", "429 in 3 s"],
)
def test_no_wait_is_longer_than_max_wait(
    fault: Fault, waits: list[float], make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(jitter=lambda: 1.0, max_wait=4)
    server.always = fault
    with pytest.raises(ApiError):
        speaker.account()
    assert speaker.waits == waits


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


class Book:
    """What processes share, in memory: places with leases, and whether one ended too early."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.ends: dict[str, float] = {}
        self.lost: list[bool] = []
        self.renewed = 0

    def enter(self, limit: int, lease: float) -> str | None:
        self.ends["token"] = self.time.now + lease
        return "token"

    def renew(self, token: str, lease: float) -> None:
        assert token in self.ends
        self.renewed += 1
        self.lost.append(self.ends[token] <= self.time.now)
        self.ends[token] = self.time.now + lease

    def leave(self, token: str) -> None:
        self.lost.append(self.ends.pop(token) <= self.time.now)

    def told(self, limit: int, remaining: int, reset: float) -> None:
        pass

    def state(self) -> tuple[int, int, float] | None:
        return None

    def block(self, seconds: float) -> None:
        pass

    def blocked(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


class SlowSource(io.BytesIO):
    """An image of which 20 kB are read in a second."""

    def __init__(self, data: bytes, time: Time) -> None:
        super().__init__(data)
        self.time = time

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.time.now += len(data) / 20_000
        return data


class SlowSink(MemorySink):
    """A place where 20 kB are written in a second."""

    def __init__(self, time: Time) -> None:
        super().__init__()
        self.time = time

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
        self.time.now += len(chunk) / 20_000


@pytest.mark.parametrize("slow", ["source", "sink"])
def test_a_call_that_lasts_longer_than_its_lease_keeps_its_place(
    slow: str, make_speaker: MakeSpeaker
) -> None:
    speaker = make_speaker(timeout=10.0)
    book, began = Book(speaker.time), speaker.time.now
    speaker.client.api.shared = book
    if slow == "source":
        speaker.upload(SlowSource(bytes(IMAGE) * 500, speaker.time), ECHO)
    else:
        sink = SlowSink(speaker.time)
        speaker.run(speaker.client.api.upload_image(IMAGE, {"zeros": 1_000_000}, sink))
    lasted = speaker.time.now - began
    assert lasted > 2 * speaker.client.api.lease
    assert True not in book.lost
    assert lasted / speaker.client.api.lease < book.renewed <= 3 * lasted / speaker.client.api.lease
    assert book.ends == {}


def test_calls_in_line_for_a_connection_heed_a_429_that_comes_meanwhile(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    server.always = faults.retry_after(778)
    items = make_speaker(concurrency=1).many([IMAGE] * 50, ECHO, concurrency=50, delay=0)
    assert {type(item.error) for item in items} == {RateLimitError}
    assert len(server.seen) == 1


def test_calls_in_line_are_not_counted_before_they_go(
    make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    path = tmp_path / "api.sqlite3"
    speaker = make_speaker(concurrency=1, monthly_budget=100, budget_file=path)
    server.always = faults.retry_after(778)
    speaker.many([IMAGE] * 50, ECHO, concurrency=50, delay=0)
    assert used(path, server.url, speaker) == 1


def test_who_waits_for_a_turn_waits_on_where_the_api_asks_to_be_left_alone_meanwhile() -> None:
    time = Time()
    api = Api(Config(api_url="https://api.example/1.0"), clock=time, monotonic=time)
    api.pacer.told(RateLimit(100, 4, 20.0))
    api.pacer.reserve(60.0)  # the turn of another call
    flow = api.account()
    assert next(flow) == Sleep(4.0)
    api.pacer.block(10.0)
    time.sleep(4.0)
    assert flow.send(None) == Sleep(6.0)
    time.sleep(6.0)
    assert isinstance(flow.send(None), Send)
    flow.close()
    assert api.places.free == api.config.concurrency


def test_a_place_goes_to_whoever_has_waited_longest_and_still_waits() -> None:
    places = Places(1)
    assert places.enter() is None
    first, second, third = (places.enter() for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    places.give_up(first)
    places.leave()
    assert (second.done(), third.done()) == (True, False)
    places.give_up(second)  # it came, and nobody was there any more
    assert third.done()
    places.leave()
    places.leave()  # by somebody who was not there: one place stays one
    assert places.enter() is None
    assert places.enter() is not None


async def come_true(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not come true")


def test_a_call_that_is_cancelled_in_line_takes_no_place(server: ApiServer) -> None:
    async def calls() -> str:
        async with AsyncOptidashClient(KEY, server.url, concurrency=1, timeout=60) as client:
            server.fail(faults.stall_before_head())
            stalled = asyncio.create_task(client.account())
            await come_true(lambda: bool(server.seen))
            waiting = asyncio.create_task(client.account())
            await come_true(lambda: bool(client.api.places.line))
            for task in (waiting, stalled):
                task.cancel()
            await asyncio.gather(waiting, stalled, return_exceptions=True)
            return (await client.account()).name

    assert asyncio.run(calls()) == "Team"
    assert len(server.seen) == 2
    assert server.wait_closed()


FORK = """
import os, sys, threading
from pathlib import Path
from optidash_integrations.ledger import Ledger, MonthlyBudget
ledger = Ledger(Path(sys.argv[1]))
budget = MonthlyBudget(ledger, "a", 100)
begun, forked = threading.Event(), threading.Event()
def hold():
    with ledger.transaction():
        begun.set()
        forked.wait(0.3)
thread = threading.Thread(target=hold)
thread.start()
begun.wait()
child = os.fork()
if not child:
    budget.spend()
    os._exit(0)
forked.set()
thread.join()
assert os.waitpid(child, 0)[1] == 0
budget.spend()
print(budget.used())
ledger.close()
"""


def test_a_process_that_is_forked_while_a_thread_counts_can_count_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(tmp_path / "api.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_tries_without_number_come_to_an_end(make_speaker: MakeSpeaker, server: ApiServer) -> None:
    speaker = make_speaker(retries=1100, max_wait=0)
    server.always = faults.status(500)
    with pytest.raises(ServerError):
        speaker.account()
    assert len(server.seen) == 1101
