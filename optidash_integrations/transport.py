"""How the clients speak HTTP: requests are sent, answers are read piece by piece and checked.

Outside of this module, `download` and `httpx_errors` nobody knows of httpx.
httpx's transports are used without its clients, which would write every address to a log, keys in
it included, follow redirects and decode what nobody asked them to.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from optidash_integrations.addresses import is_loopback
from optidash_integrations.calls import Call, Config, Reply
from optidash_integrations.connections import (
    AsyncGuarded,
    AsyncTimely,
    AsyncTimelyStream,
    Guarded,
    Timely,
    TimelyStream,
)
from optidash_integrations.errors import (
    ApiError,
    ConnectionFailedError,
    OptionError,
    ProtocolError,
    Said,
)
from optidash_integrations.flows import in_thread
from optidash_integrations.httpx_errors import translated
from optidash_integrations.payload import Arrival
from optidash_integrations.under_way import under_way

Destination = Callable[[Call, int, Mapping[str, str]], Arrival | None]
Verify = ssl.SSLContext | str | os.PathLike[str] | bool

MOST_JSON = 8 * 1024 * 1024
MOST_ERROR = 64 * 1024
KEEPALIVE_SECONDS = 15.0


def context_of(verify: Verify) -> ssl.SSLContext | bool:
    """Return the certificates to trust: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's."""
    if verify is True:
        return usual_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    if isinstance(verify, bool | ssl.SSLContext):
        return verify
    try:
        return ssl.create_default_context(cafile=os.fspath(verify))
    except (OSError, TypeError, ValueError) as error:
        takes = "True, an SSL context or the path of a file of certificates"
        raise OptionError("verify", takes, verify) from error


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

    def is_guarded(self, foreign: bool) -> bool:
        """Whether connections may lead to `allowed` and the public internet alone."""
        return foreign and not self.proxy

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
        except OptionError:
            raise
        except (AttributeError, ValueError, ImportError) as error:  # from the environment too
            raise OptionError("proxy", "the address of a proxy", Said(reason(error))) from None

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
    """An answer as it comes in: where its body goes, and how much of it is wanted."""

    def __init__(self, call: Call, response: httpx.Response, to: Destination) -> None:
        stream = response.extensions.get("network_stream")
        if isinstance(stream, TimelyStream | AsyncTimelyStream):
            stream.pace.is_in_head = False
        self.status = response.status_code
        self.headers = dict(response.headers)
        self.image = to(call, self.status, self.headers)
        self.body = bytearray()
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
        guarded = Guarded(self.allowed) if self.is_guarded(foreign) else None
        timely = Timely(guarded, self.config.timeout, self.clock)
        line._pool._network_backend = timely  # httpx has no public way
        return line

    def send(self, call: Call, to: Destination) -> Reply:
        """Send a request and read its answer.

        Raises ApiError where there is none; what is wrong with its body is in the reply.
        """
        with under_way(call.place), ExitStack() as stack:
            request = self.request(call, stack)
            with translated():
                response: httpx.Response = self.line(call).handle_request(request)
            stack.callback(closed, response)
            return self.read(Reading(call, response, to), response)

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
        guarded = AsyncGuarded(self.allowed) if self.is_guarded(foreign) else None
        timely = AsyncTimely(guarded, self.config.timeout, self.clock)
        line._pool._network_backend = timely  # httpx has no public way
        return line

    async def send(self, call: Call, to: Destination) -> Reply:
        """Send a request and read its answer, as `Transport.send` does."""
        with under_way(call.place), ExitStack() as stack:
            if call.upload is None or isinstance(call.upload.source, bytes):
                request = self.request(call, stack)
            else:
                request = await in_thread(self.request, call, stack)
                request.stream = Threaded(request.stream)
            with translated():
                response: httpx.Response = await self.line(call).handle_async_request(request)
            try:
                return await self.read(Reading(call, response, to), response)
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


def reason(error: Exception) -> str:
    """Return why there is no proxy; what httpx says of its address may have a password in it."""
    if isinstance(error, ImportError):
        return str(error)
    return "one that can't be read, such as one without http://"


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for an address; none leads to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{found}" if found and "://" not in found else found
