"""Between ASGI messages and the service's neutral facts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from optidash_integrations.exchange import Answer, FileBody, Head, Headers, Request

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATHSEND = "http.response.pathsend"
SEEN = "optidash.request"
"""Where a middleware leaves the request for an image endpoint below it."""

CHUNK_BYTES = 64 * 1024


class Fields(Mapping[str, str]):
    """A request's header fields, decoded when the first is read: most requests are for pages."""

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self.raw = raw

    @cached_property
    def table(self) -> dict[str, str]:
        """Values by lower-case name; repeated ones are joined."""
        table: dict[str, str] = {}
        for raw_name, raw_value in self.raw:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            glue = "; " if name == "cookie" else ", "  # RFC 9113, 8.2.3
            table[name] = f"{table[name]}{glue}{value}" if name in table else value
        return table

    def __contains__(self, name: object) -> bool:
        """Say whether there is a field of this name, without decoding any."""
        wanted = str(name).encode("latin-1")
        return any(raw_name.lower() == wanted for raw_name, _ in self.raw)

    def __getitem__(self, name: str) -> str:
        """Return a field's value."""
        return self.table[name]

    def __iter__(self) -> Iterator[str]:
        """Give the names."""
        return iter(self.table)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.table)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field's value, or the default."""
        return self.table.get(name, default)


def request_of(scope: Scope) -> Request:
    """Return the facts of an HTTP scope, as the visitor sent them: nothing hidden from the app."""
    seen = scope.get(SEEN)
    if isinstance(seen, Request) and seen.path == scope["path"]:
        return seen
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=scope.get("query_string", b"").decode("latin-1"),
        headers=Fields(tuple(scope["headers"])),
        raw_path=(scope.get("raw_path") or b"").decode("latin-1").partition("?")[0],
    )


def seen_scope(scope: Scope) -> Scope:
    """Return a scope with the header fields as the visitor sent them."""
    seen = scope.get(SEEN)
    if isinstance(seen, Request) and isinstance(seen.headers, Fields):
        return {**scope, "headers": seen.headers.raw}
    return scope


def head_of(message: Message) -> Head:
    """Return the facts of an `http.response.start` message."""
    raw = message.get("headers", ())
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    return Head(message["status"], headers)


def start_of(status: int, headers: Headers) -> Message:
    """Return an `http.response.start` message."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send an answer whose body is its own: bytes, or a file."""
    body = answer.body
    if isinstance(body, FileBody):
        await send_file(body, start_of(answer.status, answer.headers), scope, send)
        return
    assert isinstance(body, bytes)
    await send(start_of(answer.status, answer.headers))
    await send({"type": "http.response.body", "body": body})


async def send_file(body: FileBody, start: Message, scope: Scope, send: Send) -> None:
    """Send a file, or a part of one: by its path where the server can, else in chunks."""
    file = body.file if body.file is not None else await asyncio.to_thread(open_file, body.path)
    try:
        await send(start)
        # A file of the cache, which is open already, may lose its path at any moment.
        if body.file is None and offers_pathsend(scope) and is_whole(file, body):
            await send({"type": PATHSEND, "path": str(body.path)})
        else:
            await send_chunks(file, body, send)
    finally:
        file.close()


async def send_path(path: Path, send: Send) -> None:
    """Send a file's bytes as body messages, for a server that can't send it by its path."""
    with await asyncio.to_thread(open_file, path) as file:
        length = os.fstat(file.fileno()).st_size
        await send_chunks(file, FileBody(path, 0, length, length), send)


def open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def is_whole(file: BinaryIO, body: FileBody) -> bool:
    return not body.offset and body.length == os.fstat(file.fileno()).st_size


async def send_chunks(file: BinaryIO, body: FileBody, send: Send) -> None:
    file.seek(body.offset)
    left = body.length
    while True:
        chunk = await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))
        left -= len(chunk)
        more = bool(left and chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
        if not more:
            return


def offers_pathsend(scope: Scope) -> bool:
    """Say whether the server can send a file by its path."""
    return PATHSEND in (scope.get("extensions") or {})
