"""Calls of the API and their tries, without I/O: when one may go, when it is repeated, when not.

A flow is a generator that yields steps (`Send`, `Sleep`, `Do`, `Wait`) and is sent their results.
Whoever drives it sends requests, sleeps and waits.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin

from optidash_integrations.addresses import (
    checked_url,
    has_control,
    host_of,
    is_header_safe,
    is_same_origin,
    normal_url,
    without_secrets,
)
from optidash_integrations.documents import described
from optidash_integrations.errors import (
    ApiError,
    CircuitOpenError,
    ConnectionFailedError,
    OptionError,
    ProtocolError,
    RateLimitError,
    Said,
)
from optidash_integrations.flows import Do, Wait
from optidash_integrations.pacing import (
    Pacer,
    Place,
    Places,
    RateLimit,
    SharedLimits,
    leave,
    rate_limit_of,
    retry_after,
)
from optidash_integrations.payload import Arrival, Sink, Upload

T = TypeVar("T")

API_URL = "https://api.optidash.ai/1.0"
BACKOFF = 1.0
"""The first wait before another try, in seconds; each further one is twice as long."""
JITTER = 0.25
REDIRECTS = 3
REDIRECT = frozenset({301, 302, 303, 307, 308})
PLACE_SECONDS = 0.1
"""How long a call waits before it looks again for a free place among the requests in flight."""


class Budget(Protocol):
    """Counts the calls that cost something."""

    def spend(self) -> None:
        """Count one call; raises BudgetExceededError where there is none left."""


class Gate(Protocol):
    """Decides whether the API is called at all; a circuit breaker is one."""

    def enter(self) -> None:
        """Raise CircuitOpenError where it is not."""

    def heard(self, error: BaseException | None) -> None:
        """Take note of how a call that was let through ended; None is success."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `form` is the operations document of an upload, `sink` takes an image.

    `counted` says that it costs one of the account's calls, `repeatable` that it may be sent twice
    without harm, `foreign` that it goes to where the API keeps results, without the key. `place` is
    what it holds while it lasts, among the requests of all processes.
    """

    method: str
    url: str = field(repr=False)  # a sub-key or a signature may be part of it
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    form: str | None = field(default=None, repr=False)
    upload: Upload | None = None
    sink: Sink | None = None
    counted: bool = False
    repeatable: bool = True
    foreign: bool = False
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `body` is what is no image, `image` what is, `broken` why that ended too early.

    Header names are lower-case. `framed` says that the answer told where its body ends.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    image: Arrival | None = None
    broken: ApiError | None = None
    framed: bool = True


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and read its answer."""

    call: Call


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


Step = Send | Sleep | Do | Wait
Flow = Generator[Step, Any, T]


@dataclass(frozen=True, kw_only=True)
class Config:
    """How an API is spoken to; see `OptidashClient` for the meaning of each."""

    api_key: str | None = field(default=None, repr=False)
    api_url: str = API_URL
    auth: str = "basic"
    timeout: float = 30.0
    retries: int = 3
    max_wait: float = 60.0
    waits_for_limits: bool = True
    max_bytes: int = 512 * 1024 * 1024
    concurrency: int = 16
    allow_http: bool = False
    any_type: bool = False
    download_hosts: tuple[str, ...] = ()
    fallback_image: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.auth not in ("basic", "bearer"):
            raise OptionError("auth", "basic or bearer", self.auth)
        check_key(self.api_key, self.auth)
        for name, (kinds, lowest, takes) in NUMBERS.items():
            value = getattr(self, name)
            if type(value) not in kinds or not lowest <= value < math.inf:
                raise OptionError(name, takes, value)
        for name in ("allow_http", "any_type", "waits_for_limits"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(name, "True or False", getattr(self, name))
        hosts = self.download_hosts
        if isinstance(hosts, str | bytes) or not isinstance(hosts, Iterable):
            raise OptionError("download_hosts", "a list of host names", hosts)
        object.__setattr__(self, "download_hosts", tuple(map(str, hosts)))
        parts = checked_url(self.api_url, "api_url", allow_http=self.allow_http)
        if parts.query or parts.fragment:
            raise OptionError(
                "api_url", "an address without ? and #", without_secrets(self.api_url)
            )
        object.__setattr__(self, "api_url", normal_url(self.api_url))

    @property
    def authorization(self) -> Mapping[str, str]:
        """The header that carries the key."""
        if not self.api_key:
            return {}
        if self.auth == "bearer":
            return {"authorization": f"Bearer {self.api_key}"}
        pair = base64.b64encode(f"{self.api_key}:".encode()).decode()
        return {"authorization": f"Basic {pair}"}


ANY_NUMBER, WHOLE = (int, float), (int,)
NUMBERS: Mapping[str, tuple[tuple[type, ...], float, str]] = {
    "timeout": (ANY_NUMBER, 0.001, "a number of seconds above 0"),
    "max_wait": (ANY_NUMBER, 0, "a number of seconds, 0 or more"),
    "retries": (WHOLE, 0, "a whole number, 0 or more"),
    "max_bytes": (WHOLE, 1, "a whole number of bytes above 0"),
    "concurrency": (WHOLE, 1, "a whole number above 0"),
}


def check_key(key: object, auth: str) -> None:
    """Raise OptionError for a key that no header can carry; it does not show the key."""
    if key is None:
        return
    takes = "printable ASCII characters without white space"
    if not isinstance(key, str):
        raise OptionError("api_key", takes, type(key))
    if not is_header_safe(key):
        wrong = "an empty text" if not key else "white space" if key.split() != [key] else "others"
        raise OptionError("api_key", takes, Said(wrong))
    if auth == "basic" and ":" in key:  # RFC 7617, 2: the colon ends the user name
        raise OptionError("api_key", "no colon, unless auth is bearer", Said("one with a colon"))


def backoff(attempt: int) -> float:
    """Return the seconds to wait after a try, counted from 0; from a year on it is as long."""
    return BACKOFF * 2.0 ** min(attempt, 25)


class Caller:
    """Sends calls as often as it makes sense, no sooner than the rate limit allows.

    `clock` gives seconds since 1970, `monotonic` seconds that only ever grow, `jitter` a number
    from 0 to 1.
    """

    def __init__(
        self,
        config: Config,
        *,
        budget: Budget | None = None,
        gate: Gate | None = None,
        shared: SharedLimits | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.config = config
        self.budget = budget
        self.gate = gate
        self.shared = shared
        self.clock = clock
        self.jitter = jitter
        self.pacer = Pacer(monotonic)
        self.places = Places(config.concurrency)

    def repeated(self, call: Call, read: Callable[[Reply], Flow[T]]) -> Flow[T]:
        """Send a call until it succeeds, its tries are used up, or another one can't help."""
        tries = 1 if call.upload and not call.upload.can_be_repeated else self.config.retries + 1
        for attempt in range(tries):
            try:
                result = yield from self.attempt(call, read)
            except ApiError as error:
                yield from self.told(call, error)
                wait = self.wait_after(attempt, call, error)
                if attempt + 1 == tries or wait is None:
                    raise
            except CircuitOpenError:
                raise
            except BaseException as error:
                if self.gate is not None and not call.foreign:
                    self.gate.heard(error)
                raise
            else:
                yield from self.told(call, None)
                return result
            yield Sleep(wait)
        raise AssertionError("a loop of one try or more has ended")

    def attempt(self, call: Call, read: Callable[[Reply], Flow[T]]) -> Flow[T]:
        reply = yield from (self.sent(call) if call.foreign else self.answered(call))
        return (yield from read(reply))

    def answered(self, call: Call) -> Flow[Reply]:
        """Send a call as soon as it may go, and take note of what its answer tells of limits."""
        yield from self.stood_in_line()
        try:
            place = yield from self.admitted(call)
            try:
                reply = yield from self.sent(replace(call, place=place))
            except GeneratorExit:
                leave(place)
                raise
            except BaseException:
                yield from self.left(place)
                raise
            yield from self.left(place)
            yield from self.listen(reply)
            return reply
        finally:
            self.places.leave()

    def stood_in_line(self) -> Flow[None]:
        """Wait for a place among the requests that this process may have in flight."""
        turn = self.places.enter()
        if turn is None:
            return
        try:
            yield Wait(turn, None)
        except BaseException:
            self.places.give_up(turn)
            raise

    def left(self, place: Place | None) -> Flow[None]:
        if place is not None:
            try:
                yield Do(lambda: leave(place))
            except GeneratorExit:  # nobody will do it any more
                leave(place)
                raise

    def admitted(self, call: Call) -> Flow[Place | None]:
        """Wait until a call may go, and count it; return its place among those of all processes."""
        if self.gate is not None:
            yield Do(self.gate.enter)
        yield from self.paced()
        place = None
        if self.shared is not None:
            place = yield from self.placed(self.shared)
        if call.counted and self.budget is not None:
            try:
                yield Do(self.budget.spend)
            except BaseException:
                leave(place)
                raise
        return place

    def paced(self) -> Flow[None]:
        if self.shared is not None:
            yield Do(self.learn)
        longest = self.config.max_wait if self.config.waits_for_limits else 0.0
        wait = self.pacer.reserve(longest)
        while wait:
            if wait > longest:
                raise RateLimitError(
                    f"the rate limit allows the next call in {wait:.0f} seconds", seconds=wait
                )
            yield Sleep(wait)
            wait = self.pacer.held()  # another call may have been told meanwhile

    def learn(self) -> None:
        """Take over what other processes know of the rate limit."""
        assert self.shared is not None
        state = self.shared.state()
        if state is not None:
            self.pacer.told(RateLimit(*state))
        blocked = self.shared.blocked()
        if blocked:
            self.pacer.block(blocked)

    def placed(self, shared: SharedLimits) -> Flow[Place]:
        waited = 0.0
        while True:
            token = yield Do(lambda: shared.enter(self.config.concurrency, self.lease))
            if token is not None:
                return Place(shared, str(token), self.lease, self.pacer.clock)
            if waited >= self.config.max_wait or not self.config.waits_for_limits:
                most = self.config.concurrency
                raise RateLimitError(f"as many requests as allowed, {most}, are in flight")
            yield Sleep(PLACE_SECONDS)
            waited += PLACE_SECONDS

    @property
    def lease(self) -> float:
        """For how many seconds a process that died may keep a place."""
        return 2 * self.config.timeout

    def sent(self, call: Call) -> Flow[Reply]:
        """Send a request; follow a redirect as far as that is safe."""
        for _ in range(REDIRECTS + 1):
            reply: Reply = yield Send(call)
            if reply.status not in REDIRECT:
                return reply
            call = self.redirected(call, reply)
        raise ProtocolError(f"more than {REDIRECTS} redirects")

    def redirected(self, call: Call, reply: Reply) -> Call:
        """Return the call that a redirect leads to.

        The key goes to no other host, and a body is sent again only where the status says so.
        """
        target = self.target_of(call, reply)
        if call.foreign:
            return replace(call, url=target)
        if not is_same_origin(call.url, target):
            raise ProtocolError(
                f"the API answered {described(reply.status)} with a redirect to another host, "
                f"{host_of(target)}, which is not followed",
                status=reply.status,
            )
        body_stays = call.upload is None or call.upload.can_be_repeated
        if call.method != "GET" and not (reply.status in (307, 308) and body_stays):
            raise ProtocolError(
                f"the API answered {described(reply.status)} to a {call.method}",
                status=reply.status,
            )
        return replace(call, url=target)

    def target_of(self, call: Call, reply: Reply) -> str:
        """Return where a redirect leads; raises ProtocolError where it may lead nowhere."""
        location = reply.headers.get("location", "")
        try:
            target = urljoin(call.url, location)
            checked_url(target, "location", allow_http=self.config.allow_http)
        except ValueError as error:  # OptionError is one
            raise ProtocolError(
                f"the API answered {described(reply.status)} with a redirect that can't be "
                f"followed: {error}",
                status=reply.status,
            ) from error
        if not location or has_control(location):
            raise ProtocolError(
                f"the API answered {described(reply.status)} without saying whereto",
                status=reply.status,
            )
        return target

    def seconds_of(self, reply: Reply) -> float | None:
        """Return for how long an answer wants the API to be left alone; None: it does not say."""
        seconds = retry_after(reply.headers, self.clock())
        if seconds is None and reply.status == 429:
            limit = rate_limit_of(reply.headers)
            seconds = limit.reset if limit and not limit.remaining else None
        return seconds

    def listen(self, reply: Reply) -> Flow[None]:
        """Take note of what an answer tells of the rate limit, before the next call goes."""
        if reply.status == 429:
            self.pacer.block(self.seconds_of(reply) or 0.0)
        limit = rate_limit_of(reply.headers)
        if limit is None:
            return
        self.pacer.told(limit)
        if self.shared is not None:
            shared = self.shared
            yield Do(lambda: shared.told(limit.limit, limit.remaining, limit.reset))

    def told(self, call: Call, error: ApiError | None) -> Flow[None]:
        """Take note of how a call ended."""
        if call.foreign:
            return
        if isinstance(error, RateLimitError) and error.status is not None and error.seconds:
            seconds = error.seconds
            self.pacer.block(seconds)
            if self.shared is not None:
                shared = self.shared
                yield Do(lambda: shared.block(seconds))
        if self.gate is not None:
            gate = self.gate
            yield Do(lambda: gate.heard(error))

    def wait_after(self, attempt: int, call: Call, error: ApiError) -> float | None:
        """Return how long to wait before another try; None where there is none."""
        unsent = isinstance(error, ConnectionFailedError) and not error.sent
        refused = isinstance(error, RateLimitError) and error.status is not None
        if not error.is_retryable or not (call.repeatable or unsent or refused):
            return None
        if isinstance(error, RateLimitError) and not refused:
            return None  # our own decision not to wait that long
        if error.seconds is None and not refused:
            wait = min(backoff(attempt), self.config.max_wait)
        elif not self.config.waits_for_limits:
            return None
        else:
            wait = backoff(attempt) if error.seconds is None else error.seconds
        if wait > self.config.max_wait:
            return None
        return min(wait * (1 + JITTER * self.jitter()), self.config.max_wait)
