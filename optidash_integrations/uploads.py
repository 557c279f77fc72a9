"""What becomes of an uploaded image: optimised, stored whole or refused, never half."""

from __future__ import annotations

import logging
import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from optidash_integrations.cache.entry import Entry
from optidash_integrations.engine.strip import without_position
from optidash_integrations.errors import ImageError, OptidashError, SourceNotFoundError
from optidash_integrations.flows import Do, Flow
from optidash_integrations.formats import HEAD_BYTES, Format, detect, of_media_type
from optidash_integrations.operations import Operations
from optidash_integrations.records import SourceRecord, identify
from optidash_integrations.service import Service
from optidash_integrations.sources import is_safe_name
from optidash_integrations.store import kind_of
from optidash_integrations.workshop import Task

logger = logging.getLogger(__name__)

LONGEST_STEM = 180
"""In bytes of UTF-8; file systems take 255 for a name, and a suffix may come."""

# The side of a stored upload is bounded by its format alone.
HIGHEST_SIDE = 1_000_000
UNWANTED = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded image as it is to be stored: `width` and `height` are upright, in pixels, and
    None where they are not known.
    """

    content: bytes
    format: Format
    width: int | None
    height: int | None
    original_bytes: int


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored upload: its name in the folder, media type, size in pixels and in bytes."""

    name: str
    content_type: str
    width: int | None
    height: int | None
    bytes: int
    original_bytes: int

    @property
    def saved_bytes(self) -> int:
        """How many bytes fewer are stored than came."""
        return self.original_bytes - self.bytes


def optimised(
    service: Service,
    data: bytes,
    operations: Operations | None = None,
    *,
    name: str = "upload",
) -> Flow[Upload]:
    """Return an upload's optimised bytes, or its own where those are smaller.

    Without `operations` it keeps its size and, where it is one for the web, its format. Position
    data is lost, but for formats that can't be rid of it without decoding (a scan of several pages
    is kept as it came, with a log line). Raises `ImageError` where it is not an image within the
    limits; any other failure gives the upload as it came.
    """
    settings = service.settings
    asked = service.base | (operations or Operations())
    record: SourceRecord = yield Do(lambda: identify(data, service.processor, settings.limits))
    try:
        entry = None
        several = yield Do(lambda: has_more_pages(service, data))
        if not several:
            entry = yield from service.workshop.make_once(task(service, record, asked, name), data)
    except ImageError:
        raise
    except OptidashError as error:
        logger.warning("%s is stored as it came: %s", name, error)
    if entry is not None and kind_of(entry.meta) == "variant":
        return made(entry, record)
    bare = yield Do(lambda: without_position_data(data, record.format, name))
    return Upload(bare, record.format, record.width, record.height, len(data))


def has_more_pages(service: Service, data: bytes) -> bool:
    """Say whether an upload holds pages, as of a scan, that one picture could not hold."""
    found = service.processor.probe(data, service.settings.limits)
    return found.pages > max(found.frames, 1)


def task(service: Service, record: SourceRecord, asked: Operations, name: str) -> Task:
    output = stored_format(service, record, asked)
    limits = replace(
        service.settings.limits, max_width=HIGHEST_SIDE, max_height=HIGHEST_SIDE, patient=True
    )
    return Task("", name, record, asked, output, output is record.format, limits)


def stored_format(service: Service, record: SourceRecord, asked: Operations) -> Format:
    return service.output_of(asked) or service.own_output(record)


def made(entry: Entry, record: SourceRecord) -> Upload:
    output = of_media_type(str(entry.meta["type"])) or record.format
    content = entry.body if isinstance(entry.body, bytes) else b""
    width, height = entry.meta["width"], entry.meta["height"]
    return Upload(content, output, int(str(width)), int(str(height)), record.bytes)


def as_it_came(data: bytes, name: str) -> Upload | None:
    """Return an upload that is past the limits with its pixels untouched, without its position.

    A format that can't be rid of it without decoding keeps it, with a log line. None where the
    bytes are of no known format.
    """
    own = detect(data[:HEAD_BYTES])
    if own is None:
        return None
    return Upload(without_position_data(data, own, name), own, None, None, len(data))


def without_position_data(data: bytes, own: Format, name: str) -> bytes:
    try:
        return without_position(data, own)
    except OptidashError as error:
        logger.warning("%s keeps its metadata: %s", name, error)
        return data


def save(
    service: Service,
    root: Path,
    data: bytes,
    filename: str | None,
    folder: str = "",
    operations: Operations | None = None,
) -> Flow[Saved]:
    """Optimise an upload and store it in `folder` under `root`, under a name of its own.

    Never overwrites. Raises `ImageError` where it is not an image within the limits, OSError where
    the folder can't be written; then nothing is stored.
    """
    upload = yield from optimised(service, data, operations, name=filename or "upload")

    def store() -> str:
        return stored(root, folder, stem_of(filename), upload)

    name: str = yield Do(store)
    return Saved(
        name,
        upload.format.media_type,
        upload.width,
        upload.height,
        len(upload.content),
        upload.original_bytes,
    )


def stored(root: Path, folder: str, stem: str, upload: Upload) -> str:
    target = PurePosixPath(folder.strip("/"))
    name = str(target / f"{stem}.{upload.format.extension}")
    if not is_safe_name(name):
        raise SourceNotFoundError(f"{folder} is not a folder inside the one for images")
    (root / target).mkdir(parents=True, exist_ok=True)
    return write_new(
        upload.content,
        root,
        lambda suffix: str(target / f"{stem}{suffix}.{upload.format.extension}"),
    )


def write_new(content: bytes, root: Path, name_of: Callable[[str], str]) -> str:
    """Write a new file under the first free name, all or nothing; return the name."""
    first = root / name_of("")
    temporary = first.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        suffix = ""
        while not claim(temporary, root / name_of(suffix)):
            suffix = f"-{secrets.token_hex(4)}"
        return name_of(suffix)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def claim(written: Path, wanted: Path) -> bool:
    """Give a complete file its name; False where the name is taken."""
    try:
        os.link(written, wanted)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: take the name, then put the file there
        try:
            wanted.open("xb").close()
        except FileExistsError:
            return False
        try:
            written.replace(wanted)
        except OSError:
            wanted.unlink()
            raise
    return True


def stem_of(filename: str | None) -> str:
    """Return a file name's stem as a safe name: letters, digits, dots, dashes, underscores."""
    base = (filename or "").replace("\\", "/").rpartition("/")[2]
    stem = unicodedata.normalize("NFC", PurePosixPath(base).stem if base else "")
    safe = UNWANTED.sub("-", stem).strip(".-_").encode()[:LONGEST_STEM]
    return safe.decode(errors="ignore").rstrip(".-_") or "image"
