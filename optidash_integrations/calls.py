"""Calls of the API and their tries, without I/O: when one may go, when it is repeated, when not.

A flow is a generator that yields steps (`Send`, `Sleep`, `Do`) and is sent their results. Whoever
drives it sends requests and sleeps.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Callable, Generator, Mapping
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
from optidash_integrations.flows import Do
from optidash_integrations.pacing import Pacer, RateLimit, SharedLimits, rate_limit_of
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
    without harm, `foreign` that it goes to where the API keeps results, without the key.
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


Step = Send | Sleep | Do
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
        if isinstance(self.download_hosts, str | bytes):
            raise OptionError("download_hosts", "a list of host names", self.download_hosts)
        object.__setattr__(self, "download_hosts", tuple(self.download_hosts))
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


@dataclass(frozen=True, slots=True)
class Place:
    """A place among the requests that all processes may have in flight."""

    shared: SharedLimits
    token: str


def leave(place: Place | None) -> None:
    """Give a place back, where there is one."""
    if place is not None:
        place.shared.leave(place.token)


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
        place = None if call.foreign else (yield from self.admitted(call))
        try:
            reply = yield from self.sent(call)
        except GeneratorExit:
            leave(place)
            raise
        except BaseException:
            yield from self.left(place)
            raise
        yield from self.left(place)
        if not call.foreign:
            yield from self.listen(reply.headers)
        return (yield from read(reply))

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
        if wait > longest:
            raise RateLimitError(
                f"the rate limit allows the next call in {wait:.0f} seconds", seconds=wait
            )
        if wait:
            yield Sleep(wait)

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
                return Place(shared, str(token))
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

    def listen(self, headers: Mapping[str, str]) -> Flow[None]:
        """Take note of what an answer tells of the rate limit."""
        limit = rate_limit_of(headers)
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
            wait = min(BACKOFF * 2.0**attempt, self.config.max_wait)
        elif not self.config.waits_for_limits:
            return None
        else:
            wait = BACKOFF * 2.0**attempt if error.seconds is None else error.seconds
        if wait > self.config.max_wait:
            return None
        return wait * (1 + JITTER * self.jitter())
