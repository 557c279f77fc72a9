"""Between Django's requests and responses and the service's neutral facts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from optidash_integrations.exchange import INNER, Answer, FileBody, Head, Request
from optidash_integrations.interception import Interception, content_length
from optidash_integrations.sources import path_of_open

CHUNK_BYTES = 64 * 1024
SEEN = "_optidash_request"
"""Where the middleware leaves the request for the image endpoint below it."""


def request_of(request: HttpRequest) -> Request:
    """Return the facts of a request, as the visitor sent them: nothing hidden from the view."""
    seen = getattr(request, SEEN, None)
    if isinstance(seen, Request):
        return seen
    meta = request.META
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in meta.items()
        if name.startswith("HTTP_")
    }
    return Request(
        method=request.method or "GET",
        path=request.path,
        query=meta.get("QUERY_STRING", ""),
        headers=headers,
        raw_path=raw_path(request),
    )


def raw_path(request: HttpRequest) -> str:
    scope = getattr(request, "scope", None)
    if scope is not None:
        raw = (scope.get("raw_path") or b"").decode("latin-1")
    else:
        raw = request.META.get("REQUEST_URI") or request.META.get("RAW_URI") or ""
    return raw.partition("?")[0] if raw.startswith("/") else ""


@contextmanager
def hidden_headers(request: HttpRequest, interception: Interception) -> Iterator[None]:
    """Take the headers off a request that the view must not see, and put them back."""
    setattr(request, SEEN, interception.request)
    names = ["HTTP_" + name.upper().replace("-", "_") for name in interception.hidden]
    taken = {name: request.META.pop(name) for name in names if name in request.META}
    if not taken:
        yield
        return
    request.__dict__.pop("headers", None)  # Django keeps what it made of META
    try:
        yield
    finally:
        request.META.update(taken)
        request.__dict__.pop("headers", None)


def head_of(response: HttpResponseBase) -> Head:
    """Return the facts of a response's head."""
    headers = [(name.lower(), value) for name, value in response.items()]
    headers.extend(("set-cookie", name) for name in response.cookies)
    return Head(response.status_code, headers)


def local_path(response: HttpResponseBase) -> Path | None:
    """Return the local file that a response sends from its beginning, where it does."""
    file = getattr(response, "file_to_stream", None)
    return path_of_open(file) if isinstance(response, FileResponse) and file else None


def length_of(response: HttpResponseBase, head: Head, path: Path | None) -> int | None:
    """Return the length of a response's body in bytes, or None where only reading it would tell."""
    if path is not None:
        return path.stat().st_size
    if isinstance(response, HttpResponse) and response.content:
        return len(response.content)
    return content_length(head)


def read(response: HttpResponseBase, length: int) -> bytes | None:
    """Read a body; None, and nothing lost, where it is not `length` bytes long."""
    if isinstance(response, HttpResponse):
        return response.content
    assert isinstance(response, StreamingHttpResponse)
    if response.is_async:  # only Django, at the very end, can read it without an event loop
        return None
    blocks, size = [], 0
    rest = iter(cast("Iterable[bytes]", response.streaming_content))
    for block in rest:
        blocks.append(block)
        size += len(block)
        if size > length:
            break
    if size == length:
        return b"".join(blocks)
    response.streaming_content = chain(blocks, rest)
    return None


async def read_async(response: HttpResponseBase, length: int) -> bytes | None:
    """Do the same on the event loop."""
    if not isinstance(response, StreamingHttpResponse) or not response.is_async:
        return await sync_to_async(read)(response, length)
    blocks, size = [], 0
    rest = aiter(cast("AsyncIterable[bytes]", response.streaming_content))
    async for block in rest:
        blocks.append(block)
        size += len(block)
        if size > length:
            break
    if size == length:
        return b"".join(blocks)
    response.streaming_content = chained(blocks, rest)
    return None


async def chained(blocks: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
    async for block in rest:
        yield block


def response_of(
    answer: Answer, inner: HttpResponseBase | None = None, *, is_async: bool = False
) -> HttpResponseBase:
    """Return the response that sends an answer; what the inner one holds open is closed with it."""
    if answer.body is INNER:
        assert inner is not None
        replace_headers(inner, answer)
        return inner
    response: HttpResponseBase
    if isinstance(answer.body, FileBody):
        file = answer.body.file or answer.body.path.open("rb")
        file.seek(answer.body.offset)
        stream = async_blocks if is_async else sync_blocks
        response = StreamingHttpResponse(stream(file, answer.body.length))
        response._resource_closers.append(file.close)  # type: ignore[attr-defined]
    else:
        assert isinstance(answer.body, bytes)
        response = HttpResponse(answer.body)
    replace_headers(response, answer)
    if answer.status == 206:
        # Django's GZipMiddleware, above us, would compress a part as if it were a whole.
        response.headers["Content-Encoding"] = "identity"
    if inner is not None:
        take_over(inner, response)
    return response


def with_body(response: HttpResponseBase, data: bytes) -> HttpResponseBase:
    """Return the same response with a body that was read from it."""
    if isinstance(response, HttpResponse):
        return response
    again = HttpResponse(data, status=response.status_code)
    again.headers = response.headers
    again.cookies = response.cookies
    take_over(response, again)
    return again


def replace_headers(response: HttpResponseBase, answer: Answer) -> None:
    response.status_code = answer.status
    for name in list(response.headers):
        del response.headers[name]
    for name, value in answer.headers:
        if name == "set-cookie":
            continue  # Django sends those from `cookies`
        present = response.headers.get(name)
        response.headers[name] = f"{present}, {value}" if present else value
    if not any(name == "set-cookie" for name, _ in answer.headers):
        response.cookies.clear()


def take_over(inner: HttpResponseBase, response: HttpResponseBase) -> None:
    """Let a response close what the one that it replaces has open.

    The other one's own `close` would tell the whole project that the request has ended.
    """
    response._resource_closers.extend(inner._resource_closers)  # type: ignore[attr-defined]
    inner._resource_closers = []  # type: ignore[attr-defined]


def sync_blocks(file: BinaryIO, left: int) -> Iterator[bytes]:
    with file:
        while left > 0 and (block := file.read(min(CHUNK_BYTES, left))):
            left -= len(block)
            yield block


async def async_blocks(file: BinaryIO, left: int) -> AsyncIterator[bytes]:
    with file:
        while left > 0 and (block := await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))):
            left -= len(block)
            yield block
