"""The API's rate limit: what its answers tell of it, and when the next call may go."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol

# From this part of the limit on the calls that are left are spread over the time that is left.
SHORT = 0.1

LONGEST_BLOCK = 24 * 3600.0
"""For how many seconds an answer may block calls: a wrong one must not do so for ever."""

# IETF draft-ietf-httpapi-ratelimit-headers: `"default";r=50;t=30`, and `"default";q=100;w=60`.
PARAMETER = re.compile(r";\s*([a-z]+)=(\d{1,12})(?!\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many calls a period allows, how many are left, and how many seconds of it are."""

    limit: int
    remaining: int
    reset: float

    @property
    def is_short(self) -> bool:
        """Whether a tenth of the calls is left, or less."""
        return self.remaining <= self.limit * SHORT


def rate_limit_of(headers: Mapping[str, str]) -> RateLimit | None:
    """Read the headers of an answer, by lower-case name; None where they tell nothing."""
    for prefix in ("x-ratelimit-", "ratelimit-"):
        values = [headers.get(prefix + name, "") for name in ("limit", "remaining", "reset")]
        numbers = [n for n in map(number, values) if n is not None]
        if len(numbers) == 3:
            return RateLimit(int(numbers[0]), int(numbers[1]), numbers[2])
    now: dict[str, str] = dict(PARAMETER.findall(headers.get("ratelimit", "")))
    policy: dict[str, str] = dict(PARAMETER.findall(headers.get("ratelimit-policy", "")))
    if "r" in now and "t" in now:
        return RateLimit(int(policy.get("q", now["r"])), int(now["r"]), float(now["t"]))
    return None


def number(text: str) -> float | None:
    """Read a number of seconds or calls, 0 or more; None for anything else."""
    digits = text.strip()
    return float(digits) if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", digits, re.ASCII) else None


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that `Retry-After` tells (RFC 9110, 10.2.3); None where it does not.

    A date counts from the answer's own `Date`, so that a wrong clock here does not matter; without
    one from `now`, in seconds since 1970.
    """
    value = headers.get("retry-after", "")
    seconds = number(value)
    if seconds is not None:
        return seconds
    then = moment(value)
    if then is None:
        return None
    return max(0.0, then - (moment(headers.get("date", "")) or now))


def moment(value: str) -> float | None:
    """Read an HTTP date as seconds since 1970."""
    try:
        found = parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


class SharedLimits(Protocol):
    """What several processes with the same key know together. It never raises."""

    def enter(self, limit: int, lease: float) -> str | None:
        """Take one of `limit` places for at most `lease` seconds; None where all are taken."""

    def renew(self, token: str, lease: float) -> None:
        """Keep a place for `lease` seconds from now on."""

    def leave(self, token: str) -> None:
        """Give a place back."""

    def told(self, limit: int, remaining: int, reset: float) -> None:
        """Note what an answer told of the rate limit."""

    def state(self) -> tuple[int, int, float] | None:
        """Return what any process was told last, while it still counts."""

    def block(self, seconds: float) -> None:
        """Note that the API wants to be left alone."""

    def blocked(self) -> float:
        """Return for how many seconds it does."""

    def close(self) -> None:
        """Give connections back."""


@dataclass(slots=True)
class Place:
    """A place among the requests that all processes may have in flight, held for `lease` seconds.

    It is to be renewed every third of them, so that who holds it may be silent for `timeout` more,
    and is free after them where that died. `clock` gives seconds that only ever grow.
    """

    shared: SharedLimits
    token: str = field(repr=False)
    lease: float
    clock: Callable[[], float] = field(repr=False)
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.due = self.clock() + self.lease / 3

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew it."""
        return self.clock() >= self.due

    def renew(self) -> None:
        """Hold it for as long again."""
        self.due = self.clock() + self.lease / 3
        self.shared.renew(self.token, self.lease)


def leave(place: Place | None) -> None:
    """Give a place back, where there is one."""
    if place is not None:
        place.shared.leave(place.token)


class Pacer:
    """When the next call may go. Threads share one; `clock` gives seconds that only ever grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.lock = threading.Lock()
        LIVING.add(self)
        self.rate_limit: RateLimit | None = None
        self.until = 0.0  # when the period of `rate_limit` ends
        self.next = 0.0  # the next turn within that period
        self.blocked = 0.0  # no call may go before

    def told(self, rate_limit: RateLimit) -> None:
        """Take note of what an answer tells."""
        with self.lock:
            self.rate_limit = rate_limit
            self.until = self.clock() + rate_limit.reset

    def block(self, seconds: float) -> None:
        """Let no call go for so many seconds."""
        with self.lock:
            self.blocked = max(self.blocked, self.clock() + min(seconds, LONGEST_BLOCK))

    def held(self) -> float:
        """Return the seconds for which no call may go, turns aside."""
        with self.lock:
            return max(0.0, self.blocked - self.clock())

    def reserve(self, longest: float) -> float:
        """Return the seconds that a new call has to wait, and keep that place for it.

        The fewer calls are left, the further apart they lie; where none is, the next one waits for
        the end of the period. Past `longest` no place is kept.
        """
        with self.lock:
            now = self.clock()
            wait = max(0.0, self.blocked - now)
            limit = self.rate_limit
            if limit is None or not limit.is_short or now >= self.until:
                return wait
            # The period's end gives new calls, so that no turn lies behind it.
            turn = min(self.next, self.until) if limit.remaining else self.until
            wait = max(wait, turn - now)
            if limit.remaining and wait <= longest:
                self.next = now + wait + (self.until - now) / (limit.remaining + 1)
            return wait

    def begin_anew(self) -> None:
        """Replace a lock that another thread may have held when the process was forked."""
        self.lock = threading.Lock()


class Places:
    """How many calls one process may have in flight; whoever finds no place stands in line.

    A call comes here first, before it asks whether the API wants to be left alone: the answer may
    change while it stands in line.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.begin_anew()
        LIVING.add(self)

    def begin_anew(self) -> None:
        """Have all places free, in a forked child too: who had one or waited is not there."""
        self.lock = threading.Lock()
        self.free = self.number
        self.line: deque[Future[None]] = deque()

    def enter(self) -> Future[None] | None:
        """Take a place and return None, or return what is done once there is one."""
        with self.lock:
            if self.free:
                self.free -= 1
                return None
            turn: Future[None] = Future()
            self.line.append(turn)
            return turn

    def leave(self) -> None:
        """Give a place back: to whoever has waited longest."""
        with self.lock:
            while self.line:
                turn = self.line.popleft()
                if turn.set_running_or_notify_cancel():
                    break
            else:
                self.free = min(self.free + 1, self.number)
                return
        turn.set_result(None)

    def give_up(self, turn: Future[None]) -> None:
        """Wait no longer; where the place has come already, the next one gets it."""
        if not turn.cancel():
            self.leave()


LIVING: weakref.WeakSet[Pacer | Places] = weakref.WeakSet()


def begin_anew() -> None:
    """Leave behind, in a forked child, what its parent's threads have locked or taken."""
    for each in LIVING:
        each.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_anew)
