"""Uploads: multipart bodies, taken apart as they come in; large images are written to disk."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from optidash_integrations.flows import in_thread
from optidash_integrations.server.refusals import InvalidError, RefusedError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

KINDS = frozenset({b"multipart/form-data", b"multipart/mixed"})
MOST_PARTS = 32
MOST_DOCUMENT = 1024 * 1024
"""Bytes of the operations document."""

SLACK = 64 * 1024
"""Bytes that boundaries and the headers of parts may have beside the image and the document."""

BLOCK = 1024 * 1024
"""So many bytes are gathered before they are written."""

SLOWEST = 16 * 1024
"""Bytes a second; a body that comes more slowly, `seconds` aside, is given up."""

LARGE = 16 * 1024
"""Pieces of so many bytes are not copied before they are put together."""

BROKEN = "The multipart body can't be read"
CUT_OFF = "The multipart body ends too early"
NO_FILE = "'file' part is missing: it must hold the image"
NAME = "image"
LONGEST_NAME = 80
UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\"<>|:*?%#]')


class BadRequestError(RefusedError):
    """What was sent can't be read at all."""

    public_status = 400


class TooSlowlyError(RefusedError):
    """The body did not come in time."""

    public_status = 408


class TooMuchError(RefusedError):
    """The body, or the image in it, has more bytes than are taken."""

    public_status = 413


class WrongTypeError(RefusedError):
    """The body is not of a type that is taken here."""

    public_status = 415


@dataclass(frozen=True, slots=True)
class Upload:
    """What came: the image in memory or in a file, its name, and the text of the document."""

    source: Path | bytes
    name: str
    size: int
    document: bytes


class Form:
    """Takes a body apart; only `write` and `finish` touch the disk, and may run in a thread.

    Raises RefusedError for what is wrong in it.
    """

    def __init__(self, content_type: str, path: Path, max_bytes: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.blocks: list[bytes | memoryview] = []
        self.gathered = 0
        self.size = 0
        self.parts = 0
        self.total = 0
        self.names: list[str] = []
        self.file_name = ""
        self.document = bytearray()
        self.header, self.value = bytearray(), bytearray()
        self.disposition = ""
        self.name = ""
        self.is_complete = False
        self.parser = MultipartParser(boundary_of(content_type), self.callbacks())
        self.file: BinaryIO | None = None

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.begin_part,
            "on_header_field": self.add_field,
            "on_header_value": self.add_value,
            "on_header_end": self.end_header,
            "on_headers_finished": self.end_headers,
            "on_part_data": self.add_data,
            "on_end": self.end,
        }

    def feed(self, chunk: bytes) -> None:
        """Take some more of the body."""
        self.total += len(chunk)
        if self.total > self.max_bytes + MOST_DOCUMENT + SLACK:
            raise too_much(self.max_bytes)
        if self.is_complete:
            return  # an epilogue, which nobody reads
        try:
            self.parser.write(chunk)
        except FormParserError as error:
            raise BadRequestError(BROKEN) from error

    def begin_part(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise BadRequestError(f"The multipart body has more than {MOST_PARTS} parts")
        self.disposition, self.name = "", ""

    def add_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def end_header(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = self.value.decode("utf-8", "replace")
        self.header.clear()
        self.value.clear()

    def end_headers(self) -> None:
        """Begin with a part's content."""
        name, file_name = named(self.disposition)
        self.name = name
        if name in ("file", "data") and name in self.names:
            raise InvalidError(f"'{name}' part must come only once")
        self.names.append(name)
        if name == "file":
            self.file_name = file_name

    def add_data(self, data: bytes, start: int, end: int) -> None:
        length = end - start
        if self.name == "file":
            self.size += length
            if self.size > self.max_bytes:
                raise too_much(self.max_bytes)
            self.blocks.append(memoryview(data)[start:end] if length >= LARGE else data[start:end])
            self.gathered += length
        elif self.name == "data":
            if len(self.document) + length > MOST_DOCUMENT:
                raise TooMuchError(f"'data' part must have at most {MOST_DOCUMENT} bytes")
            self.document += data[start:end]

    def end(self) -> None:
        self.is_complete = True

    def write(self) -> None:
        """Write what has been gathered."""
        blocks, self.blocks, self.gathered = self.blocks, [], 0
        if self.file is None:
            self.file = self.path.open("xb")
        self.file.writelines(blocks)

    def finish(self) -> Upload:
        """Write the rest, where there is a file, and return what came."""
        if not self.is_complete:
            raise BadRequestError(CUT_OFF)
        if "file" not in self.names:
            raise InvalidError(NO_FILE)
        if not self.size:
            raise InvalidError("'file' part must not be empty")
        name, document = clean_name(self.file_name), bytes(self.document)
        if self.file is None:
            return Upload(b"".join(self.blocks), name, self.size, document)
        self.write()
        self.close()
        return Upload(self.path, name, self.size, document)

    def close(self) -> None:
        """Let go of the file, and of what was not written: form and parser hold each other."""
        self.blocks.clear()
        if self.file is not None:
            self.file.close()


async def received(
    body: AsyncIterator[bytes],
    content_type: str,
    path: Path,
    max_bytes: int,
    pace: Pace,
    memory: int = 0,
) -> Upload:
    """Read a multipart body, whose image goes to a new file where it has more than `memory` bytes.

    Raises RefusedError for what is wrong in it.
    """
    check_type(content_type)
    form = Form(content_type, path, max_bytes)
    try:
        async for chunk in pace.kept(body):
            form.feed(chunk)
            if form.gathered > (memory if form.file is None else BLOCK):
                await in_thread(form.write)
        return await in_thread(form.finish) if form.file else form.finish()
    finally:
        form.close()


async def read_all(body: AsyncIterator[bytes], most_bytes: int, pace: Pace) -> bytes:
    """Read a body into memory. Raises RefusedError where it is too long, or too slow."""
    whole = bytearray()
    async for chunk in pace.kept(body):
        whole += chunk
        if len(whole) > most_bytes:
            raise TooMuchError(f"The body must have at most {most_bytes} bytes")
    return bytes(whole)


class Pace:
    """How slowly a body may come: `seconds` without a byte, or for all of it beside its length."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.clock = clock

    async def kept(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Give the pieces of a body. Raises TooSlowlyError."""
        began, total = self.clock(), 0
        while True:
            left = began + self.seconds + total / SLOWEST - self.clock()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    chunk = await anext(body)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise TooSlowlyError("The request came too slowly") from error
            total += len(chunk)
            yield chunk


def check_type(content_type: str) -> None:
    if parse_options_header(content_type)[0] not in KINDS:
        raise WrongTypeError("Content-Type must be multipart/form-data")


def check_length(told: str | None, most_bytes: int) -> None:
    """Raise TooMuchError where a body's Content-Length tells that it is too long."""
    length = int(told[:18]) if told and told.isascii() and told.isdigit() else 0
    if length > most_bytes + MOST_DOCUMENT + SLACK:
        raise too_much(most_bytes)


def too_much(most_bytes: int) -> TooMuchError:
    return TooMuchError(f"The image must have at most {most_bytes} bytes")


def boundary_of(content_type: str) -> bytes:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise BadRequestError("Content-Type must name the boundary of the parts")
    return boundary


def named(disposition: str) -> tuple[str, str]:
    """Return the name of a part, and that of its file, in a Content-Disposition."""
    try:
        _, options = parse_options_header(disposition.encode().decode("latin-1"))
    except (ValueError, UnicodeError):
        return "", ""
    name, file_name = options.get(b"name", b""), options.get(b"filename", b"")
    return name.decode("utf-8", "replace"), file_name.decode("utf-8", "replace")


def clean_name(name: str) -> str:
    """Return a file name that may stand in addresses, headers and folders."""
    last = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in UNSAFE.sub("_", last) if c.isprintable()).strip(" .")
    stem, dot, extension = kept.rpartition(".")
    if not dot or len(extension) > 8:
        stem, dot, extension = kept, "", ""
    # Whatever is not ASCII takes up to 12 bytes in JSON and in addresses, three times over.
    while len(stem) > 1 and cost(stem) > LONGEST_NAME:
        stem = stem[:-1]
    extension = extension if extension.isascii() else ""
    return (f"{stem}{dot}{extension}" if extension else stem) or NAME


def cost(text: str) -> int:
    return sum(1 if c.isascii() else 3 for c in text)
