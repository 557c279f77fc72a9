"""What the API answers when it is healthy, before anything is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.api.wire import BLOCK

JPEG_START = b"\xff\xd8\xff"
METADATA = "X-Optidash-Metadata"
OLD_METADATA = "X-Optidash-Meta"
JSON = "application/json"

Blocks = Callable[[], Generator[bytes, None, None]]


@dataclass(frozen=True)
class Blob:
    """A body that need not be in memory: `blocks` gives it anew, piece by piece."""

    length: int
    sha1: str
    blocks: Blocks = field(repr=False)

    def read(self) -> bytes:
        """Return all of it."""
        return b"".join(self.blocks())


def of_bytes(data: bytes) -> Blob:
    """Return these bytes as a blob."""

    def blocks() -> Generator[bytes, None, None]:
        yield data

    return Blob(len(data), hashlib.sha1(data).hexdigest(), blocks)


def of_file(path: Path, length: int, sha1: str) -> Blob:
    """Return a file as a blob; it is opened whenever it is read."""

    def blocks() -> Generator[bytes, None, None]:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block

    return Blob(length, sha1, blocks)


@cache
def of_zeros(length: int) -> Blob:
    """Return what begins like a JPEG and goes on with zeros."""

    def blocks() -> Generator[bytes, None, None]:
        yield JPEG_START[:length]
        left, zeros = length - len(JPEG_START), bytes(BLOCK)
        while left > 0:
            yield zeros[:left]
            left -= BLOCK

    digest = hashlib.sha1()
    for block in blocks():
        digest.update(block)
    return Blob(length, digest.hexdigest(), blocks)


@dataclass(frozen=True)
class Answer:
    """A whole answer. `document` goes into the body, or in binary mode into two headers.

    `image` is the body of a binary success, `source` the SHA-1 of the image that a successful
    processing call brought, else nothing. `more` are further headers.
    """

    status: int
    document: Mapping[str, Any]
    is_binary: bool = False
    image: Blob | None = None
    content_type: str = JSON
    source: str = ""
    more: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> Blob:
        if self.image is not None:
            return self.image
        return of_bytes(b"" if self.is_binary else as_json(self.document).encode())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The headers, without those about the body's length."""
        if self.status == 304:
            return [*self.more]
        if not self.is_binary:
            return [("Content-Type", self.content_type), *self.more]
        text = as_json(self.document)
        told = [(METADATA, text), (OLD_METADATA, text)]
        return told if self.image is None else [("Content-Type", self.content_type), *told]


def as_json(document: Mapping[str, Any]) -> str:
    """Return a document on one line, without a character that a header can't have."""
    return json.dumps(document, separators=(",", ":"))


def success(status: int = 200, **more: object) -> dict[str, object]:
    """Return the document of a success."""
    return {"success": True, "code": status, "id": str(uuid4()), **more}


def failure(status: int, message: str, *, is_binary: bool = False) -> Answer:
    """Return the answer of a failure."""
    document = {"success": False, "code": status, "id": str(uuid4()), "message": message}
    return Answer(status, document, is_binary)
