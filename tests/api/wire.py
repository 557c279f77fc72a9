"""HTTP/1.1 on a connection, by hand, so that a fault can break any rule of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import responses as REASONS

GONE = (OSError, EOFError)
"""What reading and writing raise where the client has left."""

BLOCK = 256 * 1024
RESET = struct.pack("ii", 1, 0)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Head:
    """A request without its body. Header names are in lower case, repeated ones joined.

    `is_last` says that the client wants no further exchange on this connection.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    is_last: bool


def parsed(raw: bytes) -> Head:
    """Return the head in `raw`; raise ValueError where it is none."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    headers: dict[str, str] = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not (version.startswith("HTTP/1.") and colon):
            raise ValueError(f"no HTTP: {line!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    is_last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
    return Head(method, target, headers, is_last)


def head_bytes(status: int, pairs: Pairs) -> bytes:
    """Return the head of an answer. Nothing is added to `pairs`, and nothing is checked."""
    first = f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}"
    lines = [first, *(f"{name}: {value}" for name, value in pairs)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk; no data is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection:
    """One client's connection. Whatever reads or writes raises one of `GONE` where it broke off."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> Head | None:
        """Return the next request's head; None where the client has left, or speaks no HTTP."""
        try:
            return parsed(await self.reader.readuntil(b"\r\n\r\n"))
        except (*GONE, asyncio.LimitOverrunError, ValueError):
            return None

    async def body(self, head: Head, take: Callable[[bytes], object]) -> None:
        """Read the body that belongs to `head`, and give its blocks to `take`."""
        if head.headers.get("expect", "").lower() == "100-continue":
            await self.send(CONTINUE)
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            await self.chunks(take)
        else:
            await self.exactly(int(head.headers.get("content-length", 0)), take)

    async def chunks(self, take: Callable[[bytes], object]) -> None:
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            await self.exactly(size, take)
            await self.reader.readexactly(2)
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass  # a trailer

    async def exactly(self, left: int, take: Callable[[bytes], object]) -> None:
        while left:
            block = await self.reader.read(min(left, BLOCK))
            if not block:
                raise EOFError("the client left within its request")
            left -= len(block)
            take(block)

    async def send(self, data: bytes) -> None:
        """Write, and wait while too much is under way."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Say nothing until the client closes the connection."""
        with suppress(*GONE):
            while await self.reader.read(BLOCK):
                pass

    async def finish(self) -> None:
        """Close our side once all is sent, and wait until the client closes its own.

        So a client that does not close what came to an end stays among the open connections.
        """
        with suppress(*GONE):
            if self.writer.can_write_eof():
                self.writer.write_eof()
            else:
                self.writer.close()  # TLS knows no half of a connection
            await self.until_gone()

    def reset(self) -> None:
        """Break the connection off: the client gets an error, not an end."""
        raw = self.writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close at once whatever is still open."""
        self.writer.transport.abort()
        with suppress(*GONE):
            await self.writer.wait_closed()
