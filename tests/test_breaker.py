from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from optidash_integrations.breaker import Breaker
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    BudgetExceededError,
    CircuitOpenError,
    ConnectionFailedError,
    DownloadError,
    InvalidOperationsError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
    RejectedImageError,
    RejectedSizeError,
    RequestRefusedError,
    ServerError,
)
from optidash_integrations.ledger import Ledger

ROOT = Path(__file__).parents[1]

DOWN = ServerError("the API is down", status=500)

ANOTHER_PROCESS = """
import sys
from pathlib import Path
from optidash_integrations.breaker import Breaker
from optidash_integrations.errors import CircuitOpenError
from optidash_integrations.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
breaker = Breaker(ledger, "a", clock=lambda: float(sys.argv[2]))
try:
    breaker.enter()
except CircuitOpenError as error:
    print(error)
else:
    print("entered")
ledger.close()
"""


class Clock:
    """Seconds since 1970 that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


MakeBreaker = Callable[..., Breaker]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sqlite3"


@pytest.fixture
def make(path: Path, clock: Clock) -> Iterator[MakeBreaker]:
    """Give a function that makes breakers over one file, each with a connection of its own."""
    with ExitStack() as stack:

        def made(account: str = "a", file: Path | None = path) -> Breaker:
            breaker = Breaker(Ledger(file), account, clock=clock)
            stack.callback(lambda: breaker.ledger.close())
            return breaker

        yield made


@pytest.fixture
def breaker(make: MakeBreaker) -> Breaker:
    return make()


def is_open(breaker: Breaker) -> bool:
    """Say whether a call is held back; one that is not is the one that tries."""
    try:
        breaker.enter()
    except CircuitOpenError:
        return True
    return False


def fail(breaker: Breaker, times: int, error: ApiError = DOWN) -> None:
    for _ in range(times):
        breaker.enter()
        breaker.heard(error)


def limited(seconds: float | None) -> RateLimitError:
    return RateLimitError("too many calls", status=429, seconds=seconds)


# From closed to open


def test_it_opens_after_five_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 4)
    assert not is_open(breaker)
    fail(breaker, 1)
    with pytest.raises(CircuitOpenError, match="left alone for 30 s: the API is down"):
        breaker.enter()


def test_a_success_in_between_counts_from_the_beginning(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker, 4)
        breaker.heard(None)
    assert not is_open(breaker)
    assert breaker.state().failures == 0


@pytest.mark.parametrize(
    "error",
    [
        ServerError("x", status=501),
        ConnectionFailedError("x", sent=False),
        ApiTimeoutError("x"),
        DownloadError("x"),
        ProtocolError("x"),
        AuthenticationError("x", status=401),
        QuotaExceededError("x", status=402),
    ],
)
def test_what_is_the_apis_fault_opens_it(breaker: Breaker, error: ApiError) -> None:
    fail(breaker, 5, error)
    assert is_open(breaker)


@pytest.mark.parametrize(
    "error",
    [
        InvalidOperationsError("x", status=422),
        RejectedImageError("x", status=415),
        RejectedSizeError("x", status=413),
        RequestRefusedError("x", status=404),
    ],
)
def test_what_is_the_calls_own_fault_shows_that_the_api_is_there(
    breaker: Breaker, error: ApiError
) -> None:
    fail(breaker, 4)
    fail(breaker, 10, error)
    assert breaker.state().is_closed
    assert breaker.state().failures == 0


@pytest.mark.parametrize("error", [BudgetExceededError("x"), RateLimitError("x", seconds=90.0)])
def test_a_call_that_never_went_says_nothing(breaker: Breaker, error: ApiError) -> None:
    fail(breaker, 4)
    fail(breaker, 10, error)
    assert breaker.state().failures == 4
    fail(breaker, 1)
    assert is_open(breaker)


# From open to one that tries


@pytest.fixture
def rested(breaker: Breaker, clock: Clock) -> Breaker:
    """Give a breaker whose first rest has just ended."""
    fail(breaker, 5)
    clock.now += 29.9
    assert is_open(breaker)
    clock.now += 0.1
    return breaker


def test_after_its_rest_one_call_tries_and_the_others_are_held_back(rested: Breaker) -> None:
    rested.enter()
    for _ in range(3):
        with pytest.raises(CircuitOpenError, match="one call tries"):
            rested.enter()


def test_a_try_that_succeeds_closes_it(rested: Breaker) -> None:
    rested.enter()
    rested.heard(None)
    assert rested.state().is_closed
    fail(rested, 4)
    assert not is_open(rested)


def test_each_try_that_fails_doubles_the_rest_up_to_ten_minutes(
    rested: Breaker, clock: Clock
) -> None:
    for seconds in (60.0, 120.0, 240.0, 480.0, 600.0, 600.0):
        fail(rested, 1)
        assert rested.state().until - clock.now == seconds
        clock.now += seconds - 0.1
        assert is_open(rested)
        clock.now += 0.1


def test_after_a_success_the_first_rest_is_short_again(rested: Breaker, clock: Clock) -> None:
    fail(rested, 1)
    clock.now += 60.0
    rested.enter()
    rested.heard(None)
    fail(rested, 5)
    assert rested.state().until - clock.now == 30.0


def test_a_try_that_is_never_heard_of_again_gives_way_to_another(
    rested: Breaker, clock: Clock
) -> None:
    rested.enter()
    clock.now += 119.9
    assert is_open(rested)
    clock.now += 0.1
    assert not is_open(rested)


@pytest.mark.parametrize(
    "error",
    [
        BudgetExceededError("x"),
        RateLimitError("x", seconds=9.0),
        OSError("no such file"),
        GeneratorExit(),
    ],
)
def test_a_try_that_never_went_gives_way_at_once(rested: Breaker, error: BaseException) -> None:
    rested.enter()
    rested.heard(error)
    assert not is_open(rested)
    assert is_open(rested)


# What the API asks for


@pytest.mark.parametrize("error", [limited(7.5), ServerError("x", status=503, seconds=7.5)])
def test_a_retry_after_opens_it_at_once_for_just_so_long(
    breaker: Breaker, clock: Clock, error: ApiError
) -> None:
    fail(breaker, 1, error)
    clock.now += 7.4
    assert is_open(breaker)
    clock.now += 0.1
    assert not is_open(breaker)


def test_a_429_without_retry_after_opens_it_and_doubles_like_a_failure(
    breaker: Breaker, clock: Clock
) -> None:
    for seconds in (30.0, 60.0, 120.0):
        fail(breaker, 1, limited(None))
        assert breaker.state().until - clock.now == seconds
        clock.now += seconds


def test_a_long_retry_after_is_kept_to(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 1, limited(3600.0))
    clock.now += 3599.0
    assert is_open(breaker)


def test_a_wrong_retry_after_does_not_end_all_calls_for_ever(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 1, limited(1e12))
    clock.now += 86_399.0
    assert is_open(breaker)
    clock.now += 1.0
    assert not is_open(breaker)


def test_a_retry_after_of_nothing_is_a_failure_and_no_rest(breaker: Breaker) -> None:
    fail(breaker, 4, limited(0.0))
    assert not is_open(breaker)
    assert not is_open(breaker)
    fail(breaker, 1, limited(0.0))
    assert is_open(breaker)


# Calls on their way when it opens


@pytest.mark.parametrize("late", [None, InvalidOperationsError("x", status=422)])
def test_a_late_success_does_not_close_what_has_just_opened(
    breaker: Breaker, clock: Clock, late: ApiError | None
) -> None:
    """Of sixteen calls on their way the API limits one, and still answers the others."""
    breaker.heard(limited(900.0))
    breaker.heard(late)
    clock.now += 899.0
    assert is_open(breaker)


def test_late_failures_do_not_prolong_the_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    for error in (DOWN, limited(None), limited(3.0)) * 5:
        breaker.heard(error)
    assert breaker.state().until - clock.now == 30.0


def test_late_failures_do_not_shorten_a_long_rest(breaker: Breaker, clock: Clock) -> None:
    breaker.heard(limited(900.0))
    for error in (limited(5.0), limited(None), DOWN):
        breaker.heard(error)
    clock.now += 899.0
    assert is_open(breaker)


def test_a_late_retry_after_prolongs_a_shorter_rest(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 5)
    breaker.heard(limited(100.0))
    assert breaker.state().until - clock.now == 100.0


# Clocks


def test_a_clock_that_is_set_back_does_not_keep_it_open_for_ever(
    breaker: Breaker, clock: Clock
) -> None:
    fail(breaker, 5)
    clock.now -= 86_400.0
    breaker.enter()
    breaker.heard(DOWN)
    assert breaker.state().until - clock.now == 60.0
    clock.now += 60.0
    breaker.enter()
    breaker.heard(None)
    assert breaker.state().is_closed


def test_a_try_before_the_clock_was_set_back_does_not_hold_others_for_ever(
    rested: Breaker, clock: Clock
) -> None:
    rested.enter()
    clock.now -= 86_400.0
    assert not is_open(rested)


# Shared state


def test_breakers_over_one_file_see_the_same(make: MakeBreaker, clock: Clock) -> None:
    one, other = make(), make()
    fail(one, 3)
    fail(other, 2)
    assert is_open(one)
    assert is_open(other)
    clock.now += 30.0
    assert not is_open(other)
    assert is_open(one)
    other.heard(None)
    assert one.state().is_closed


def test_another_process_sees_the_same(breaker: Breaker, path: Path, clock: Clock) -> None:
    fail(breaker, 5)
    said = []
    for later in (10.0, 30.0, 31.0):
        arguments = [sys.executable, "-c", ANOTHER_PROCESS, str(path), str(clock.now + later)]
        done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
        said.append(done.stdout.strip())
    assert said[0] == "the API is left alone for 20 s: the API is down"
    assert said[1] == "entered"
    assert said[2] == "one call tries whether the API is back: the API is down"
    clock.now += 32.0
    assert is_open(breaker)


def test_accounts_are_apart(make: MakeBreaker) -> None:
    fail(make("a"), 5)
    assert not is_open(make("b"))


# A disk that fails


def test_where_the_disk_fails_each_process_has_its_own_state(
    make: MakeBreaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    one, other = (make(file=tmp_path / "file" / "api.sqlite3") for _ in range(2))
    with caplog.at_level(logging.WARNING):
        fail(one, 5)
    assert is_open(one)
    assert not is_open(other)
    assert "can't be kept" in caplog.text


def test_a_disk_that_fails_in_between_lets_calls_go_on(
    breaker: Breaker, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fail(breaker, 4)
    breaker.ledger.close()
    path.write_bytes(b"no database " * 1000)
    with caplog.at_level(logging.WARNING):
        fail(breaker, 4)
        assert not is_open(breaker)
        fail(breaker, 1)
    assert is_open(breaker)


def test_without_a_file_it_works_in_memory(clock: Clock) -> None:
    with closing(Ledger(None)) as ledger:
        breaker = Breaker(ledger, "a", clock=clock)
        fail(breaker, 5)
        assert is_open(breaker)


def test_a_ledger_that_was_locked_for_a_while_is_used_again(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "api.sqlite3"
    mine, other = (Breaker(Ledger(path), "account", clock=clock) for _ in range(2))
    mine.enter()
    mine.ledger.close()
    path.write_bytes(b"damaged" * 1000)
    mine.enter()
    path.unlink()
    clock.now += 11
    fail(mine, 5)
    with pytest.raises(CircuitOpenError):
        other.enter()
    mine.close()
    other.close()
