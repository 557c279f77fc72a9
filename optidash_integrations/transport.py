"""The only importer of httpx: requests are sent, answers are read piece by piece and checked.

httpx's transports are used without its clients, which would write every address to a log, keys in
it included, follow redirects and decode what nobody asked them to.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from optidash_integrations.addresses import is_loopback
from optidash_integrations.calls import Call, Config, Reply
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    ConnectionFailedError,
    ImageTooLargeError,
    OptionError,
    ProtocolError,
)
from optidash_integrations.flows import in_thread
from optidash_integrations.guard import RefusedAddressError, Resolve, checked_addresses, resolved
from optidash_integrations.payload import Arrival

Destination = Callable[[Call, int, Mapping[str, str]], Arrival | None]
Verify = ssl.SSLContext | str | os.PathLike[str] | bool

MOST_JSON = 8 * 1024 * 1024
MOST_ERROR = 64 * 1024
SLOWEST = 16 * 1024
"""Bytes a second; an answer that comes more slowly, `timeout` seconds aside, is given up."""

KEEPALIVE_SECONDS = 15.0
DISCONNECTED = ("disconnected", "closed connection", "incomplete")


def context_of(verify: Verify) -> ssl.SSLContext | bool:
    """Return the certificates to trust: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's."""
    if verify is True:
        return usual_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    if isinstance(verify, str | os.PathLike):
        return ssl.create_default_context(cafile=os.fspath(verify))
    return verify


@lru_cache(maxsize=8)
def usual_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Return the same context to all clients: to read the certificates takes tens of milliseconds.

    The arguments are those that httpx reads from the environment itself.
    """
    return httpx.create_ssl_context()


class Wire:
    """What the sync and the async transport have in common."""

    def __init__(
        self,
        config: Config,
        *,
        proxy: str | None = None,
        verify: Verify = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.proxy = proxy
        self.verify = verify
        self.clock = clock
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.lines: dict[tuple[object, bool], Any] = {}

    def options(self, *, foreign: bool) -> dict[str, Any]:
        """Return what httpx's transports are made with."""
        limits = httpx.Limits(
            max_connections=self.config.concurrency,
            max_keepalive_connections=self.config.concurrency,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        proxy = self.proxy or (None if foreign else proxy_for(self.config.api_url))
        return {
            "verify": context_of(self.verify),
            "trust_env": False,
            "limits": limits,
            "proxy": proxy,
        }

    @property
    def allowed(self) -> Collection[str]:
        """Hosts that a result may lie on although they are not on the public internet."""
        own = urlsplit(self.config.api_url).hostname or ""
        return {own.lower(), *(host.lower() for host in self.config.download_hosts)}

    def line(self, call: Call) -> Any:
        """Return the connections that a call goes through; a forked child begins anew."""
        if self.pid != os.getpid():
            self.pid, self.lines, self.lock = os.getpid(), {}, threading.Lock()
        key = self.owner(), call.foreign
        found = self.lines.get(key)
        if found is not None:
            return found
        with self.lock:
            if key not in self.lines:
                self.lines[key] = self.made(foreign=call.foreign)
            return self.lines[key]

    def owner(self) -> object:
        """Return whose connections they are."""
        return None

    def made(self, *, foreign: bool) -> Any:
        try:
            return self.opened(foreign=foreign)
        except (ValueError, ImportError) as error:  # of a proxy, from the environment too
            raise OptionError("proxy", "the address of a proxy", str(error)) from error

    def opened(self, *, foreign: bool) -> Any:
        raise NotImplementedError

    def request(self, call: Call, stack: ExitStack) -> httpx.Request:
        """Return a request; a file to send stays open as long as `stack` does."""
        seconds = self.config.timeout
        timeout = {"connect": seconds, "read": seconds, "write": seconds, "pool": None}
        body: dict[str, Any] = {"content": call.content}
        if call.upload is not None:
            source = stack.enter_context(call.upload.opened())
            part = (call.upload.name, source, "application/octet-stream")
            body = {"data": {"data": call.form}, "files": {"file": part}}
        with translated():
            return httpx.Request(
                call.method, call.url, headers=call.headers, extensions={"timeout": timeout}, **body
            )


class Reading:
    """An answer as it comes in: where its body goes, and when it is given up."""

    def __init__(self, wire: Wire, call: Call, response: httpx.Response, to: Destination) -> None:
        self.wire = wire
        self.status = response.status_code
        self.headers = dict(response.headers)
        self.image = to(call, self.status, self.headers)
        self.body = bytearray()
        self.received = 0
        self.deadline = wire.clock() + wire.config.timeout
        self.broken: ApiError | None = None

    @property
    def writes_slowly(self) -> bool:
        """Whether the body goes to a disk."""
        return self.image is not None and self.image.sink.is_slow

    def begin(self) -> None:
        if self.image is not None:
            self.image.sink.begin()

    def take(self, chunk: bytes) -> bool:
        """Take a piece of the body; say whether more is wanted."""
        self.received += len(chunk)
        if self.wire.clock() > self.deadline + self.received / SLOWEST:
            raise ApiTimeoutError("the answer comes too slowly")
        if self.image is not None:
            self.image.take(chunk)
            return True
        self.body += chunk
        if self.status >= 400:
            return len(self.body) < MOST_ERROR
        if len(self.body) > MOST_JSON:
            raise ProtocolError(f"the answer has more than {MOST_JSON} bytes", status=self.status)
        return True

    def reply(self) -> Reply:
        return Reply(
            self.status,
            self.headers,
            bytes(self.body),
            self.image,
            self.broken,
            framed="content-length" in self.headers or "transfer-encoding" in self.headers,
        )


class Transport(Wire):
    """Sends requests in the caller's thread; threads share one. `close` ends its connections."""

    def opened(self, *, foreign: bool) -> httpx.HTTPTransport:
        line = httpx.HTTPTransport(**self.options(foreign=foreign))
        if foreign and not self.proxy:
            line._pool._network_backend = Guarded(self.allowed)  # httpx has no public way
        return line

    def send(self, call: Call, to: Destination) -> Reply:
        """Send a request and read its answer.

        Raises ApiError where there is none; what is wrong with its body is in the reply.
        """
        with ExitStack() as stack:
            request = self.request(call, stack)
            with translated():
                response: httpx.Response = self.line(call).handle_request(request)
            stack.callback(closed, response)
            return self.read(Reading(self, call, response, to), response)

    def read(self, reading: Reading, response: httpx.Response) -> Reply:
        reading.begin()
        try:
            with translated():
                for chunk in response.iter_bytes():
                    if not reading.take(chunk):
                        break
        except ConnectionFailedError as error:
            reading.broken = error
        return reading.reply()

    def close(self) -> None:
        """End all connections; the next call opens new ones."""
        lines, self.lines = self.lines, {}
        for line in lines.values():
            line.close()


class AsyncTransport(Wire):
    """Sends requests on the running event loop; each loop has connections of its own."""

    def owner(self) -> object:
        """Return the running loop; what belongs to loops that have ended is forgotten."""
        running = asyncio.get_running_loop()
        for key in list(self.lines):
            if isinstance(key[0], asyncio.AbstractEventLoop) and key[0].is_closed():
                self.lines.pop(key, None)
        return running

    def opened(self, *, foreign: bool) -> httpx.AsyncHTTPTransport:
        line = httpx.AsyncHTTPTransport(**self.options(foreign=foreign))
        if foreign and not self.proxy:
            line._pool._network_backend = AsyncGuarded(self.allowed)  # httpx has no public way
        return line

    async def send(self, call: Call, to: Destination) -> Reply:
        """Send a request and read its answer, as `Transport.send` does."""
        with ExitStack() as stack:
            if call.upload is None or isinstance(call.upload.source, bytes):
                request = self.request(call, stack)
            else:
                request = await in_thread(self.request, call, stack)
                request.stream = Threaded(request.stream)
            with translated():
                response: httpx.Response = await self.line(call).handle_async_request(request)
            try:
                return await self.read(Reading(self, call, response, to), response)
            finally:
                with suppress(httpx.HTTPError):
                    await response.aclose()

    async def read(self, reading: Reading, response: httpx.Response) -> Reply:
        slow = reading.writes_slowly
        await in_thread(reading.begin) if slow else reading.begin()
        try:
            with translated():
                async for chunk in response.aiter_bytes():
                    more = await in_thread(reading.take, chunk) if slow else reading.take(chunk)
                    if not more:
                        break
        except ConnectionFailedError as error:
            reading.broken = error
        return reading.reply()

    async def close(self) -> None:
        """End this loop's connections; the next call opens new ones."""
        running = self.owner()
        for key in [key for key in self.lines if key[0] is running]:
            await self.lines.pop(key).aclose()


class Threaded(httpx.AsyncByteStream):
    """A body that is read from a disk, in threads."""

    def __init__(self, stream: Any) -> None:
        self.stream: Iterable[bytes] = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(self.stream)
        while (piece := await in_thread(next, pieces, None)) is not None:
            yield piece


def closed(response: httpx.Response) -> None:
    with suppress(httpx.HTTPError):
        response.close()


@contextmanager
def translated() -> Iterator[None]:
    """Turn what httpx raises into errors of ours."""
    try:
        yield
    except httpx.HTTPError as error:
        raise translation(error) from error
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a name that IDNA forbids
        raise OptionError("url", "an address that can be called", str(error)) from error


def translation(error: httpx.HTTPError) -> ApiError:
    said = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        unsent = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        return ApiTimeoutError(f"the API did not answer in time: {said}", sent=not unsent)
    if isinstance(error, httpx.LocalProtocolError):
        return ConnectionFailedError(f"the request can't be sent: {said}", is_retryable=False)
    if isinstance(error, httpx.RemoteProtocolError):
        if any(word in said.lower() for word in DISCONNECTED):
            return ConnectionFailedError(f"the connection broke off: {said}")
        return ProtocolError(f"the answer is not HTTP: {said}")
    if isinstance(error, httpx.DecodingError):
        return ProtocolError(f"the answer can't be decoded: {said}")
    if isinstance(error, httpx.ConnectError | httpx.ProxyError | httpx.UnsupportedProtocol):
        final = has_cause(error, ssl.SSLCertVerificationError) or has_cause(
            error, RefusedAddressError
        )
        return ConnectionFailedError(f"no connection: {said}", sent=False, is_retryable=not final)
    return ConnectionFailedError(f"the connection broke off: {said}")


def has_cause(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Say whether an error goes back to one of this kind."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address; none leads to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{found}" if found and "://" not in found else found


class Guarded(httpcore.NetworkBackend):
    """Connects to public addresses alone, and to the hosts in `allowed`."""

    def __init__(self, allowed: Collection[str], resolve: Resolve = resolved) -> None:
        self.allowed = allowed
        self.resolve = resolve
        self.inner: httpcore.NetworkBackend = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        """Connect to the first address that answers."""
        last: Exception | None = None
        for address in checked(host, port, self.allowed, self.resolve):
            try:
                return self.inner.connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        raise httpcore.ConnectError("results do not lie behind sockets of this machine")


class AsyncGuarded(httpcore.AsyncNetworkBackend):
    """The same on an event loop; names are looked up in a thread."""

    def __init__(self, allowed: Collection[str]) -> None:
        self.allowed = allowed
        self.inner = httpcore.AnyIOBackend()

    async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        """Connect to the first address that answers."""
        last: Exception | None = None
        for address in await asyncio.to_thread(checked, host, port, self.allowed):
            try:
                return await self.inner.connect_tcp(address, port, *args, **options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, *args: Any, **options: Any) -> Any:
        raise httpcore.ConnectError("results do not lie behind sockets of this machine")

    async def sleep(self, seconds: float) -> None:
        await self.inner.sleep(seconds)


def checked(
    host: str, port: int, allowed: Collection[str], resolve: Resolve = resolved
) -> Iterable[str]:
    try:
        return checked_addresses(host, port, allowed, resolve)
    except (RefusedAddressError, OSError) as error:
        raise httpcore.ConnectError(str(error)) from error


class Hurried(Guarded):
    """The same, and all that is read and written has to be done by a moment of the clock."""

    def __init__(self, download: Download, ends: float) -> None:
        super().__init__(download.allowed, download.resolve)
        self.clock = download.clock
        self.ends = ends

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        """Connect to the first address that answers."""
        return self.stream_of(super().connect_tcp(host, port, *args, **options))

    def stream_of(self, stream: httpcore.NetworkStream) -> HurriedStream:
        return HurriedStream(stream, self)

    def left(self, timeout: float | None) -> float:
        left = self.ends - self.clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer comes too slowly")
        return left if timeout is None else min(timeout, left)


class HurriedStream(httpcore.NetworkStream):
    """A connection of `Hurried`."""

    def __init__(self, stream: httpcore.NetworkStream, hurried: Hurried) -> None:
        self.stream = stream
        self.hurried = hurried

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, self.hurried.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, self.hurried.left(timeout))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self.hurried.left(timeout)
        return HurriedStream(
            self.stream.start_tls(ssl_context, server_hostname, left), self.hurried
        )

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer from elsewhere; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Download:
    """Fetches addresses that others wrote: over the guard, past every proxy, without cookies.

    `allowed` are hosts that need not be on the public internet, `resolve` looks names up; nothing
    but tests sets them. `clock` gives seconds that only ever grow.
    """

    def __init__(
        self,
        *,
        allowed: Collection[str] = (),
        resolve: Resolve = resolved,
        verify: Verify = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allowed = allowed
        self.resolve = resolve
        self.verify = verify
        self.clock = clock

    def get(
        self, url: str, headers: Mapping[str, str], *, most_bytes: int, seconds: float
    ) -> Fetched:
        """Return the answer to one request, whatever its status; redirects are not followed.

        Raises `ApiError` where there is none within `seconds`, and `ImageTooLargeError` where its
        body has more than `most_bytes`.
        """
        with self.answer("GET", url, headers, None, seconds) as response:
            body = bounded(response, most_bytes)
            return Fetched(response.status_code, dict(response.headers), body)

    def post(
        self, url: str, headers: Mapping[str, str], content: bytes, *, seconds: float
    ) -> Fetched:
        """Send `content`, and return the head of the answer: its body is left unread.

        Redirects are not followed. Raises `ApiError` where there is no answer within `seconds`.
        """
        with self.answer("POST", url, headers, content, seconds) as response:
            return Fetched(response.status_code, dict(response.headers), b"")

    @contextmanager
    def answer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        seconds: float,
    ) -> Iterator[httpx.Response]:
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), seconds)
        line = httpx.HTTPTransport(verify=context_of(self.verify), trust_env=False)
        line._pool._network_backend = Hurried(self, self.clock() + seconds)  # no public way
        with closing(line), translated():
            extensions = {"timeout": timeout}
            request = httpx.Request(
                method, url, headers=headers, content=content, extensions=extensions
            )
            response = line.handle_request(request)
            with closing(response):
                yield response


def bounded(response: httpx.Response, most_bytes: int) -> bytes:
    """Return a body as it came, not decoded. Raises `ImageTooLargeError` past `most_bytes`."""
    told = response.headers.get("content-length", "")
    body = bytearray()
    if not (told.isascii() and told.isdigit() and int(told[:18]) > most_bytes):
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > most_bytes:
                break
        else:
            return bytes(body)
    raise ImageTooLargeError(f"the answer has more than {most_bytes} bytes")
