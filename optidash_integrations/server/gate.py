"""What each request passes through: an id, who it is, how often, a log line, JSON for errors."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from optidash_integrations.errors import OptidashError, OptionError, ProcessorError
from optidash_integrations.headers import printable
from optidash_integrations.ratelimit import Tally
from optidash_integrations.server import replies, tracing
from optidash_integrations.server.asked import is_binary_header
from optidash_integrations.server.authentication import (
    STRANGER,
    Authentication,
    check_transport,
    is_loopback,
)
from optidash_integrations.server.keys import Key
from optidash_integrations.server.limits import KeyLimits, RateExceededError
from optidash_integrations.server.logs import FACTS
from optidash_integrations.server.metrics import Metrics
from optidash_integrations.server.refusals import ForbiddenError

logger = logging.getLogger("optidash_integrations.server")

API = "/1.0"
BINARY_PATHS = frozenset({f"{API}/upload", f"{API}/fetch"})
EXCHANGE = "optidash.exchange"
NOBODY = 499
"""The status in logs of a request whose client has gone, as nginx has it."""

LINGER_SECONDS = 2.0
"""For so long the rest of a body is read and dropped: a connection that is closed before takes the
answer with it."""

OTHER = "other"
TROUBLE = frozenset({500, 502, 504})
LOCAL_NAMES = frozenset({"localhost", ""})


@dataclass(slots=True)
class Exchange:
    """What is known of a request and its answer. `id` is in both, and in the log."""

    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    route: str = OTHER
    client: str = ""
    key: Key = STRANGER
    tally: Tally | None = None
    is_binary: bool = False
    is_body_read: bool = False
    is_started: bool = False
    status: int = 0
    reason: str = ""
    bytes_in: int = 0
    bytes_out: int = 0

    def facts(self, method: str, seconds: float) -> dict[str, Any]:
        """Return what the log says of it: neither the address nor any header."""
        facts: dict[str, Any] = {
            "id": self.id,
            "method": method,
            "route": self.route,
            "status": self.status,
            "milliseconds": round(seconds * 1000, 1),
            "client": self.client,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
        }
        more = {"key": self.key.id, "reason": self.reason}
        return facts | {name: value for name, value in more.items() if value}


def exchange_of(scope: Scope) -> Exchange:
    """Return what is known of a request."""
    found: Exchange = scope[EXCHANGE]
    return found


class Gate:
    """The outermost part of the server. Below `/1.0` it lets nobody in without a key."""

    def __init__(
        self, app: ASGIApp, authentication: Authentication, limits: KeyLimits, metrics: Metrics
    ) -> None:
        self.app = app
        self.authentication = authentication
        self.limits = limits
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = (scope.get("client") or ("",))[0]
        exchange = Exchange(client=client, is_body_read=not has_body(headers))
        scope[EXCHANGE] = exchange
        if scope["path"].rstrip("/") in BINARY_PATHS:
            exchange.is_binary = is_binary_header(headers.get("x-optidash-binary"))
        line = Line(exchange, receive, send)
        began = time.perf_counter()
        try:
            with tracing.traced(scope["method"], headers, exchange):
                await self.answer(scope, headers, line)
        finally:
            self.note(scope["method"], exchange, time.perf_counter() - began)

    async def answer(self, scope: Scope, headers: Headers, line: Line) -> None:
        """Answer a request, whatever happens."""
        exchange = line.exchange
        try:
            if is_of_api(scope["path"]):
                await self.admit(scope, exchange, headers)
            await self.app(scope, line.receive, line.send)
        except (ClientDisconnect, asyncio.CancelledError) as error:
            exchange.status = NOBODY
            if isinstance(error, asyncio.CancelledError):
                raise
        except Exception as error:  # noqa: BLE001  each request gets an answer
            await self.fail(scope, line, error)

    async def admit(self, scope: Scope, exchange: Exchange, headers: Headers) -> None:
        """Let a request in. Raises RefusedError where it has no key, or comes too often."""
        known = self.known(headers)
        if known is not None:
            self.admitted(exchange, scope["scheme"], headers, known)
        else:
            await asyncio.to_thread(self.admitted, exchange, scope["scheme"], headers)

    def known(self, headers: Headers) -> Key | None:
        """Return the key of a request that is let in from memory, which needs no thread."""
        if self.limits.is_shared:
            return None
        try:
            return self.authentication.known(headers.get("authorization"))
        except OptidashError:
            return None

    def admitted(
        self, exchange: Exchange, scheme: str, headers: Headers, known: Key | None = None
    ) -> None:
        try:
            check_transport(scheme, exchange.client)
            if self.authentication.insecure:
                check_local(exchange.client, headers.get("host", ""))
            exchange.key = known or self.authentication.key(headers.get("authorization"))
        except OptidashError:
            exchange.tally = self.limits.hit_stranger(exchange.client)
            if exchange.tally.is_over:
                raise RateExceededError(exchange.tally) from None
            raise
        exchange.tally = self.limits.hit(exchange.key)
        if exchange.tally.is_over:
            raise RateExceededError(exchange.tally)

    async def fail(self, scope: Scope, line: Line, error: Exception) -> None:
        """Answer a request that has failed, unless its answer has begun."""
        exchange = line.exchange
        if not isinstance(error, OptidashError):
            logger.error("request %s failed", exchange.id, exc_info=error)
            error = ProcessorError(f"{type(error).__name__}: {error}")
        if exchange.is_started:
            raise error
        exchange.reason = reason_of(error)
        response = replies.failure(exchange.id, error, binary=exchange.is_binary)
        await response(scope, line.receive, line.send)

    def note(self, method: str, exchange: Exchange, seconds: float) -> None:
        self.metrics.answered(exchange.route, exchange.status, seconds)
        level = logging.WARNING if exchange.status in TROUBLE else logging.INFO
        logger.log(level, "request", extra={FACTS: exchange.facts(method, seconds)})


class Line:
    """The two directions of a request: what goes through is counted and completed."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self.exchange = exchange
        self.inner_receive = receive
        self.inner_send = send

    async def receive(self) -> Message:
        """Return the next message of the client."""
        message = await self.inner_receive()
        if message["type"] == "http.request":
            self.exchange.bytes_in += len(message.get("body", b""))
            self.exchange.is_body_read = not message.get("more_body", False)
        elif message["type"] == "http.disconnect":
            self.exchange.is_body_read = True
        return message

    async def send(self, message: Message) -> None:
        """Send a message; an answer before the request's end closes the connection."""
        exchange = self.exchange
        if message["type"] == "http.response.start":
            exchange.is_started = True
            exchange.status = message["status"]
            self.complete(MutableHeaders(scope=message))
        elif message["type"] == "http.response.body":
            exchange.bytes_out += len(message.get("body", b""))
            if not message.get("more_body", False) and not exchange.is_body_read:
                await self.inner_send({**message, "more_body": True})
                await self.linger()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self.inner_send(message)

    def complete(self, headers: MutableHeaders) -> None:
        """Add what all answers carry."""
        exchange = self.exchange
        headers["x-request-id"] = exchange.id
        headers.setdefault("x-content-type-options", "nosniff")
        if exchange.tally is not None:
            for name, value in exchange.tally.headers():
                headers.setdefault(name, value)
        if not exchange.is_body_read:
            headers["connection"] = "close"

    async def linger(self) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self.exchange.is_body_read:
                    await self.receive()
        except TimeoutError:
            pass


def is_of_api(path: str) -> bool:
    """Say whether an address is one of the API's."""
    return path == API or path.startswith(f"{API}/")


def has_body(headers: Headers) -> bool:
    """Say whether a body comes with a request."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def check_local(client: str, host: str) -> None:
    """Raise ForbiddenError for what does not come from this machine, or from a page of another
    site that its name was made to lead here.
    """
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    name = name.strip("[]").lower()
    if not is_loopback(client) or not (name in LOCAL_NAMES or is_loopback(name)):
        raise ForbiddenError("Without keys the server is for this machine alone")


def reason_of(error: OptidashError) -> str:
    """Return what the log says of a failure; what a client wrote may hold its secrets."""
    if isinstance(error, OptionError):
        return f"OptionError: {printable(error.name)[:60]}"
    return f"{type(error).__name__}: {error}"[:300]
