"""What goes up and what comes down: sources of any size, and results checked while they arrive."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from optidash_integrations.errors import DownloadError, OptionError, ProtocolError, Said
from optidash_integrations.formats import HEAD_BYTES, SVG, Format, detect
from optidash_integrations.variants import ImageInfo

Source = str | os.PathLike[str] | bytes | BinaryIO
"""An image to send: the path of a file, its bytes, or a file open for reading bytes."""


class Upload:
    """A source as it is sent: a name, a length in bytes where it is known, and its bytes.

    A file object that can be rewound is sent from its beginning, any other from where it is, and
    once. Raises OptionError for what is no source or has no bytes, OSError where a path can't be
    read.
    """

    def __init__(self, source: Source, name: str | None = None) -> None:
        self.source = source
        self.name = name or name_of(source)
        self.length = length_of(source)
        if self.length == 0:
            raise OptionError("source", "an image", Said("what has no bytes"))

    @property
    def can_be_repeated(self) -> bool:
        """Whether it can be sent a second time."""
        return self.length is not None

    @contextmanager
    def opened(self) -> Iterator[bytes | Reader]:
        """Give the bytes, or something to read them from."""
        if isinstance(self.source, bytes):
            yield self.source
        elif isinstance(self.source, str | os.PathLike):
            with Path(self.source).open("rb") as file:
                yield Reader(file, self.length)
        else:
            if self.can_be_repeated:
                self.source.seek(0)
            yield Reader(self.source, self.length)


def name_of(source: Source) -> str:
    """Return the file name to tell the API; never a folder."""
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    base = os.path.basename(path) if isinstance(path, str | os.PathLike) else ""  # noqa: PTH119
    return "".join(c for c in str(base) if c.isprintable())[-200:] or "image"


def length_of(source: Source) -> int | None:
    """Return how many bytes will be sent; None for what can't be rewound."""
    if isinstance(source, bytes):
        return len(source)
    if isinstance(source, str | os.PathLike):
        if not is_path(source):
            raise OptionError("source", SOURCES, source)
        with Path(source).open("rb") as file:
            return file.seek(0, io.SEEK_END)
    if not callable(getattr(source, "read", None)) or gives_text(source):
        raise OptionError("source", SOURCES, source)
    try:
        end = source.seek(0, io.SEEK_END)
        end = source.tell() if end is None else end  # some wrappers' seek returns nothing
        source.seek(0)
    except (AttributeError, OSError):
        return None
    except ValueError:
        raise OptionError("source", "a file that is open", "a closed one") from None
    return end


SOURCES = "a path, bytes or a file open for reading bytes"


def is_path(path: object) -> bool:
    """Say whether something can be the path of a file."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    return isinstance(text, str) and "\0" not in text


def gives_text(file: object) -> bool:
    """Say whether a file was opened for text; wrappers of files are of no class that tells."""
    if isinstance(file, io.TextIOBase):
        return True
    if not isinstance(getattr(file, "encoding", None), str):
        return False
    try:
        return isinstance(file.read(0), str)  # type: ignore[attr-defined]
    except (OSError, ValueError):  # closed, or not open for reading
        return True


class Reader:
    """A file as an HTTP library reads it: without a descriptor, whose size may be another one."""

    def __init__(self, file: BinaryIO, length: int | None) -> None:
        self.file = file
        self.length = length

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes."""
        return self.file.read(size)

    def tell(self) -> int:
        """Return where it is; a file that can't be rewound does not tell."""
        self.check()
        return 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to the beginning, or tell the length."""
        self.check()
        if whence == io.SEEK_END:
            return self.length or 0
        self.file.seek(offset)
        return offset

    def check(self) -> None:
        if self.length is None:
            raise io.UnsupportedOperation


class Sink(Protocol):
    """Where an image goes while it arrives; `finish` makes it the result, `discard` removes it.

    `is_slow` says that its methods wait for a disk.
    """

    is_slow: bool

    def check(self) -> None:
        """Raise OSError where nothing can go there; better before a call than after it."""

    def begin(self) -> None:
        """Start anew."""

    def write(self, chunk: bytes) -> None:
        """Take some bytes."""

    def finish(self) -> None:
        """Make what came the result."""

    def discard(self) -> None:
        """Leave nothing behind; after `finish` this does nothing."""


class MemorySink:
    """Keeps an image in memory."""

    is_slow = False

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def check(self) -> None:
        pass

    def begin(self) -> None:
        self.chunks = []

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def finish(self) -> None:
        self.chunks = [b"".join(self.chunks)]

    def discard(self) -> None:
        pass

    @property
    def content(self) -> bytes:
        """The whole image, once it is finished."""
        return b"".join(self.chunks)


def place_of(path: object) -> Path:
    """Return where a result goes; a link stays, and what it leads to is written."""
    if not isinstance(path, str | os.PathLike) or not is_path(path):
        raise OptionError("path", "the path of a file to write", path)
    return Path(path).resolve() if Path(path).is_symlink() else Path(path)


class FileSink:
    """Writes an image beside its place, and puts it there when it is whole.

    Where the system can, the file has no name until then: a process that is killed leaves nothing.
    """

    is_slow = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = place_of(path)
        self.given = os.fspath(path)
        self.temporary = self.path.parent / f".{secrets.token_hex(8)}.part"
        self.file: BinaryIO | None = None
        self.is_nameless = False

    def check(self) -> None:
        if self.path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path))
        try:
            self.begin()
        finally:
            self.discard()

    def begin(self) -> None:
        self.discard()
        found = nameless(self.path.parent)
        self.is_nameless = found is not None
        try:
            self.file = found or self.temporary.open("xb")
        except OSError as error:  # the caller knows of no temporary name
            raise OSError(error.errno, error.strerror, self.given) from None

    def write(self, chunk: bytes) -> None:
        assert self.file is not None
        self.file.write(chunk)

    def finish(self) -> None:
        assert self.file is not None
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.is_nameless:
            named(self.file, self.temporary)
            self.is_nameless = False
        self.file.close()
        self.temporary.replace(self.path)
        self.file = None

    def discard(self) -> None:
        file, self.file = self.file, None
        if file is not None:
            with suppress(OSError):  # what a full disk has no room for is thrown away anyway
                file.close()
            if not self.is_nameless:
                with suppress(FileNotFoundError):
                    self.temporary.unlink()


def nameless(folder: Path) -> BinaryIO | None:
    """Return a new file in a folder without a name, or None where that is not to be had."""
    flag = getattr(os, "O_TMPFILE", 0)
    if not flag or not OWN_FILES.is_dir():
        return None
    try:
        return os.fdopen(os.open(folder, flag | os.O_WRONLY, 0o666), "wb")
    except OSError:  # of a file system without them, or of the folder: then naming tells why
        return None


def named(file: BinaryIO, path: Path) -> None:
    """Give a nameless file a name, as open(2) says of O_TMPFILE."""
    own = os.open(OWN_FILES, os.O_RDONLY)
    try:  # with a folder's descriptor Python calls linkat, which can follow the link there
        os.link(str(file.fileno()), path, src_dir_fd=own, follow_symlinks=True)
    finally:
        os.close(own)


OWN_FILES = Path("/proc/self/fd")


@dataclass(slots=True)
class Arrival:
    """An image on its way into a sink: counted, hashed, and held to a number of bytes."""

    sink: Sink
    max_bytes: int
    length: int = 0
    head: bytes = b""
    digest: hashlib._Hash = field(
        default_factory=lambda: hashlib.sha1(usedforsecurity=False), repr=False
    )

    def take(self, chunk: bytes) -> None:
        """Take some bytes; raises ProtocolError past `max_bytes`."""
        self.length += len(chunk)
        if self.length > self.max_bytes:
            raise ProtocolError(f"the image is larger than max_bytes, {self.max_bytes}")
        if len(self.head) < HEAD_BYTES:
            self.head += chunk[: HEAD_BYTES - len(self.head)]
        self.digest.update(chunk)
        self.sink.write(chunk)

    @property
    def format(self) -> Format | None:
        """The format that the first bytes tell; a page with a drawing in it has none."""
        found = detect(self.head)
        return None if found is SVG and b"<html" in self.head.lower() else found

    def check(self, told: ImageInfo, content_type: Format | None, *, any_type: bool) -> None:
        """Raise DownloadError where this is not what the metadata tell of, ProtocolError where it
        is no image, or not one of the type that the answer gives.
        """
        if told.bytes not in (None, self.length):
            raise DownloadError(f"the image has {self.length} bytes, its metadata say {told.bytes}")
        if told.sha1 and told.sha1.lower() != self.digest.hexdigest():
            raise DownloadError("the image's SHA-1 is not the one that its metadata tell")
        if not self.length:
            raise DownloadError("the image has no bytes")
        if any_type:
            return
        found = self.format
        if found is None:
            raise ProtocolError("what came as an image is none")
        if content_type not in (None, found):
            assert content_type is not None
            raise ProtocolError(f"what came as {content_type.label} is {found.label}")
