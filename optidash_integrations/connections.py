"""Connections below the HTTP library: where they lead, and how long an answer on them may take."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Collection, Iterable
from typing import Any

import httpcore

from optidash_integrations.flows import in_thread
from optidash_integrations.guard import RefusedAddressError, Resolve, checked_addresses, resolved
from optidash_integrations.under_way import lease_due

SLOWEST = 16 * 1024
"""Bytes a second; an answer that comes more slowly, `timeout` seconds aside, is given up."""

MOST_HEAD = 128 * 1024
"""No head has more bytes than this: what comes beyond gives it no more time."""


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


class Pace:
    """How fast the answers on one connection have to come.

    From its first byte on an answer has `grace` seconds, and one more for each `SLOWEST` bytes that
    have come; those of a head, and of the heads of status 1xx before it, count up to `MOST_HEAD`.
    """

    def __init__(self, grace: float, clock: Callable[[], float]) -> None:
        self.grace = grace
        self.clock = clock
        self.expect()

    def expect(self) -> None:
        """Be ready for another answer."""
        self.began: float | None = None
        self.received = 0
        self.is_in_head = True

    def left(self, timeout: float | None) -> float | None:
        """Return how many seconds the next piece may take, `timeout` at the most."""
        if self.began is None:
            return timeout
        counted = min(self.received, MOST_HEAD) if self.is_in_head else self.received
        left = self.began + self.grace + counted / SLOWEST - self.clock()
        if left <= 0:
            raise httpcore.ReadTimeout("the answer comes too slowly")
        return left if timeout is None else min(timeout, left)

    def came(self, length: int) -> None:
        """Take note of a piece."""
        if self.began is None:
            self.began = self.clock()
        self.received += length


class Timely(httpcore.NetworkBackend):
    """Connects as `inner` does, where it is None to anywhere.

    Answers have to keep pace, and what the request under way holds is renewed meanwhile.
    """

    def __init__(
        self, inner: httpcore.NetworkBackend | None, grace: float, clock: Callable[[], float]
    ) -> None:
        self.inner = inner or httpcore.SyncBackend()
        self.grace = grace
        self.clock = clock

    def connect_tcp(self, *args: Any, **options: Any) -> Any:
        stream = self.inner.connect_tcp(*args, **options)
        return TimelyStream(stream, Pace(self.grace, self.clock))

    def sleep(self, seconds: float) -> None:
        self.inner.sleep(seconds)


class TimelyStream(httpcore.NetworkStream):
    """A connection of `Timely`."""

    def __init__(self, stream: httpcore.NetworkStream, pace: Pace) -> None:
        self.stream = stream
        self.pace = pace

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self.stream.read(max_bytes, self.pace.left(timeout))
        self.pace.came(len(data))
        renew()
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.pace.expect()
        self.stream.write(buffer, timeout)
        renew()

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return TimelyStream(self.stream.start_tls(ssl_context, server_hostname, timeout), self.pace)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def renew() -> None:
    """Renew what the request under way holds, where it is time to."""
    lease = lease_due()
    if lease is not None:
        lease.renew()


class AsyncTimely(httpcore.AsyncNetworkBackend):
    """The same on an event loop."""

    def __init__(
        self, inner: httpcore.AsyncNetworkBackend | None, grace: float, clock: Callable[[], float]
    ) -> None:
        self.inner = inner or httpcore.AnyIOBackend()
        self.grace = grace
        self.clock = clock

    async def connect_tcp(self, *args: Any, **options: Any) -> Any:
        stream = await self.inner.connect_tcp(*args, **options)
        return AsyncTimelyStream(stream, Pace(self.grace, self.clock))

    async def sleep(self, seconds: float) -> None:
        await self.inner.sleep(seconds)


class AsyncTimelyStream(httpcore.AsyncNetworkStream):
    """A connection of `AsyncTimely`; a place is renewed in a thread."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, pace: Pace) -> None:
        self.stream = stream
        self.pace = pace

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109  as httpcore has it, here and below
    ) -> bytes:
        data = await self.stream.read(max_bytes, self.pace.left(timeout))
        self.pace.came(len(data))
        await self.renew()
        return data

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        self.pace.expect()
        await self.stream.write(buffer, timeout)
        await self.renew()

    async def renew(self) -> None:
        lease = lease_due()
        if lease is not None:
            await in_thread(lease.renew)

    async def aclose(self) -> None:
        await self.stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        stream = await self.stream.start_tls(ssl_context, server_hostname, timeout)
        return AsyncTimelyStream(stream, self.pace)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)
