"""An image API that does no work on images: what a client costs is all that is left."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

from benchmarks.material import Material
from optidash_integrations.asgi.messages import App, Receive, Scope, Send

JPEG = b"\xff\xd8\xff"
CHUNK = 64 * 1024
ZEROS = re.compile(rb'"zeros": (\d+)')
PATTERN_BYTES = 64 * 1024
"""In how many of an upload's first bytes the operations are looked for."""


def api() -> App:
    """Answer every upload with the variant or, asked for `zeros`, with so many bytes."""
    variant = Material.here().variant

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("HTTP only")
        first = await drained(receive)
        match = ZEROS.search(first)
        chunks = list(zeros(int(match[1]))) if match else [variant]
        await send({"type": "http.response.start", "status": 200, "headers": head(chunks)})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def drained(receive: Receive) -> bytes:
    """Read a request's body; return its first bytes."""
    first = b""
    while True:
        message = await receive()
        if len(first) < PATTERN_BYTES:
            first += message.get("body", b"")
        if not message.get("more_body"):
            return first


def zeros(count: int) -> Iterator[bytes]:
    """Yield so many bytes that begin as a JPEG does; all but two chunks are the same object."""
    whole, rest = divmod(count - len(JPEG), CHUNK)
    yield JPEG
    chunk = bytes(CHUNK)
    for _ in range(whole):
        yield chunk
    yield bytes(rest)


def head(chunks: list[bytes]) -> list[tuple[bytes, bytes]]:
    digest = hashlib.sha1(usedforsecurity=False)
    for chunk in chunks:
        digest.update(chunk)
    output = {
        "format": "WEBP",
        "width": 1000,
        "height": 750,
        "bytes": sum(map(len, chunks)),
        "sha1": digest.hexdigest(),
        "url": "http://127.0.0.1:1/temp/0/image",
    }
    document = {"success": True, "code": 200, "id": "0", "input": {}, "output": output}
    kind = b"image/jpeg" if chunks[0] == JPEG else b"image/webp"
    return [
        (b"content-type", kind),
        (b"content-length", str(output["bytes"]).encode()),
        (b"x-optidash-metadata", json.dumps(document).encode()),
        (b"x-ratelimit-limit", b"100000"),
        (b"x-ratelimit-remaining", b"99999"),
        (b"x-ratelimit-reset", b"900"),
    ]
