"""Faults in which an answer comes whole, and is not what it should be, or is far too much."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from tests.api.answers import JPEG_START, JSON, METADATA, OLD_METADATA, of_bytes
from tests.api.calls import Call
from tests.api.errors import status
from tests.api.fault import CLOSE, Fault
from tests.api.wire import BLOCK

MIB = 1024 * 1024
HTML = b"<!doctype html><html><body><h1>It works!</h1></body></html>"


def said(name: str, code: int, content_type: str, body: bytes) -> Fault:
    return replace(status(code, headers={"Content-Type": content_type}, body=body), name=name)


def html(code: int = 200) -> Fault:
    """Answer with a web page, as a proxy does."""
    return said(f"html({code})", code, "text/html", HTML)


def invalid_json(code: int = 200) -> Fault:
    """Answer with JSON that breaks off."""
    return said("invalid_json", code, JSON, b'{"success": true, "code": 200, "input": {"na')


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> Fault:
    """Tell a document that `change` was applied to."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        output = dict(answer.document.get("output", {}))
        document = {**answer.document, "output": output}
        change(document)
        await call.give(replace(answer, document=document, source=""))

    return Fault(name, play)


def json_without_success() -> Fault:
    """Leave out `success`."""
    return changed("json_without_success", lambda document: document.pop("success", None))


def wrong_sha1() -> Fault:
    """Tell another SHA-1 than the result's."""
    return changed("wrong_sha1", lambda document: document["output"].update(sha1="0" * 40))


def wrong_bytes(more: int = 1) -> Fault:
    """Tell `more` bytes than the result has."""

    def change(document: dict[str, Any]) -> None:
        document["output"]["bytes"] = document["output"].get("bytes", 0) + more

    return changed("wrong_bytes", change)


def with_metadata(name: str, *pairs: tuple[str, str]) -> Fault:
    """Send only these headers of metadata."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        kept = [pair for pair in answer.pairs if pair[0] not in (METADATA, OLD_METADATA)]
        body = answer.body
        length = ("Content-Length", str(body.length))
        await call.connection.send(call.head(answer.status, [*kept, *pairs, length]))
        await call.stream(body)

    return Fault(name, play)


def no_metadata() -> Fault:
    """Send a binary answer without metadata."""
    return with_metadata("no_metadata")


def bad_metadata(value: str = '{"success": tru') -> Fault:
    """Send metadata that is no JSON, in both headers."""
    return with_metadata("bad_metadata", (METADATA, value), (OLD_METADATA, value))


def meta_only_old() -> Fault:
    """Send the metadata only in the header that the vendor's own clients read."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        call.count(answer)
        pairs = [pair for pair in answer.pairs if pair[0] != METADATA]
        await call.say(answer.status, pairs, answer.body.read())

    return Fault("meta_only_old", play)


def wrong_type(content_type: str = "text/html") -> Fault:
    """Call the body what it is not."""

    async def play(call: Call) -> None:
        await call.give(replace(await call.answer(), content_type=content_type))

    return Fault("wrong_type", play)


def html_as_image() -> Fault:
    """Send a web page for the image, and call it a JPEG."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        page = replace(answer, image=of_bytes(HTML), content_type="image/jpeg")
        await call.begin(page, ("Content-Length", str(len(HTML))))
        await call.connection.send(HTML)

    return Fault("html_as_image", play)


def gzipped() -> Fault:
    """Compress the body, although nobody asked for that."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        call.count(answer)
        body = gzip.compress(answer.body.read(), 1)
        await call.say(answer.status, [*answer.pairs, ("Content-Encoding", "gzip")], body)

    return Fault("gzipped", play)


# Too much


async def endless(start: bytes, filler: bytes, size: int | None, call: Call) -> None:
    """Send `start`, then `filler` up to `size` bytes, without a size for ever."""
    await call.connection.send(start)
    block, left = filler * BLOCK, size
    while left is None or left > 0:
        await call.connection.send(block)
        left = None if left is None else left - len(block)
    await call.end()


def gigantic_json(size: int = 80 * MIB, code: int = 200) -> Fault:
    """Answer with `size` bytes of JSON, of no announced length."""

    async def play(call: Call) -> None:
        start = call.head(code, [("Content-Type", JSON), CLOSE]) + b'{"success":true,"code":200,"'
        await endless(start, b"x", size, call)

    return Fault("gigantic_json", play)


@cache
def bomb(size: int) -> bytes:
    return gzip.compress(b'{"success":true,"code":200,"' + b"x" * size, 6)


def gzip_bomb(size: int = 80 * MIB, code: int = 200) -> Fault:
    """Answer with a little JSON that unpacks to `size` bytes."""

    async def play(call: Call) -> None:
        body = await asyncio.to_thread(bomb, size)
        await call.say(code, [("Content-Type", JSON), ("Content-Encoding", "gzip")], body)

    return Fault("gzip_bomb", play)


def gigantic_body() -> Fault:
    """Send true metadata, and then an image that never ends."""

    async def play(call: Call) -> None:
        answer = await call.answer()
        image = replace(answer, content_type="image/jpeg")
        await call.begin(image, CLOSE)
        await endless(JPEG_START, b"\0", None, call)

    return Fault("gigantic_body", play)


def huge_headers(size: int = 2 * MIB) -> Fault:
    """Send a head of `size` bytes, in lines of a few thousand."""

    async def play(call: Call) -> None:
        lines = [(f"X-Padding-{number}", "x" * 4000) for number in range(size // 4000)]
        await call.say(200, [("Content-Type", JSON), *lines], b'{"success":true,"code":200}')

    return Fault("huge_headers", play)
