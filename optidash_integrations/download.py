"""Downloads of addresses that others wrote: one request each, bounded in bytes and in seconds."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

from optidash_integrations.connections import Guarded
from optidash_integrations.errors import ImageTooLargeError
from optidash_integrations.guard import Resolve, resolved
from optidash_integrations.httpx_errors import translated
from optidash_integrations.transport import Verify, context_of
from optidash_integrations.under_way import under_way


class Hurried(Guarded):
    """Connects as `Guarded` does; all is to be read and written by a moment of the clock."""

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
        with closing(line), under_way(), translated():
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
