"""The files of the disk tier: how they are named, written whole, read and removed.

An entry is two files in the folder of its shard, which the last two characters of its key name:

    <key>.json      the facts, with the length and the mark of the body
    <key>.<mark>    the body, byte for byte; its mark is its CRC-32, so a name has one content

Both are written under a temporary name and renamed, the body first. So the facts never name a
body that is not whole, and a reader never sees one version's facts with another's body.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from optidash_integrations.cache.entry import KEY, Entry

BODY = re.compile(rf"({KEY.pattern})\.([0-9a-f]{{8}})")
FACTS = ".json"
TEMPORARY = "tmp"
BLOCK_BYTES = 4096
CHUNK_BYTES = 1024 * 1024
TRIES = 5
"""How often a reader begins again because a writer took the body away under its hands."""
SHARDS = tuple(f"{number:02x}" for number in range(256))
READ_ONLY = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | READ_ONLY


class DamagedError(Exception):
    """An entry's files are not what was written."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the metadata file says; `mark` is None where there is no body."""

    meta: Mapping[str, object]
    source: str
    length: int
    mark: str | None

    def to_json(self) -> bytes:
        """Return the file's content; raises TypeError or ValueError where `meta` is not JSON."""
        stored = {
            "meta": dict(self.meta),
            "source": self.source,
            "bytes": self.length,
            "mark": self.mark,
        }
        return json.dumps(stored, separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_json(cls, content: bytes) -> Facts:
        """Read a file's content; raises DamagedError."""
        try:
            stored = json.loads(content)
            facts = cls(stored["meta"], stored["source"], stored["bytes"], stored["mark"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError("the metadata is cut or not ours") from error
        kinds = map(type, (facts.meta, facts.source, facts.length, facts.mark or ""))
        if tuple(kinds) != (dict, str, int, str) or not (facts.mark or "0").isalnum():
            raise DamagedError("the metadata is not ours")
        return facts


@dataclass(frozen=True, slots=True)
class Found:
    """An entry's pair of files, as a shard's listing shows it; times in nanoseconds."""

    key: str
    facts: Facts
    bytes: int
    used_at: int


class Files:
    """The files below one folder, which has permissions `mode`."""

    def __init__(self, folder: Path, mode: int) -> None:
        self.root = str(folder)
        self.mode = mode
        self.file_mode = mode & 0o666

    def open(self) -> None:
        """Make the folders that are missing; raises OSError where they can't be written."""
        self.make()
        with self.temporary() as (name, file):
            file.write(b"?")
            os.unlink(name)  # noqa: PTH108  strings all along: a Path costs as much as the call

    def make(self) -> None:
        """Make the folders that are missing; raises OSError where that fails."""
        root = Path(self.root)
        make_private(root / TEMPORARY, self.mode)
        if root.stat().st_mode & 0o777 != self.mode:
            root.chmod(self.mode)

    def facts_name(self, key: str) -> str:
        return f"{self.root}/{key[-2:]}/{key}{FACTS}"

    def body_name(self, key: str, mark: str) -> str:
        return f"{self.root}/{key[-2:]}/{key}.{mark}"

    # Reading

    def read(self, key: str, read_limit: int) -> Entry:
        """Return an entry, with a body above `read_limit` bytes left in its file.

        Raises FileNotFoundError where there is none, DamagedError where its files don't match.
        """
        content = b""
        for _ in range(TRIES):
            before, content = content, contents(self.facts_name(key))
            try:
                return self.entry(key, Facts.from_json(content), read_limit)
            except FileNotFoundError:
                if content == before:
                    break
        raise DamagedError("the body is missing")

    def entry(self, key: str, facts: Facts, read_limit: int) -> Entry:
        if facts.mark is None:
            return Entry(facts.meta, None, facts.source)
        name = self.body_name(key, facts.mark)
        if facts.length > read_limit:
            if os.stat(name).st_size != facts.length:  # noqa: PTH116
                raise DamagedError("the body has another length")
            return Entry(facts.meta, Path(name), facts.source, facts.length)
        body = contents(name, facts.length + 1)
        if len(body) != facts.length or mark_of(body) != facts.mark:
            raise DamagedError("the body is not the one that was written")
        return Entry(facts.meta, body, facts.source)

    # Writing

    @contextmanager
    def temporary(self) -> Iterator[tuple[str, BinaryIO]]:
        """Open a new file under a name that nobody reads; it is removed when that fails."""
        name = f"{self.root}/{TEMPORARY}/{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(name, NEW, self.file_mode), "wb") as file:
                if self.file_mode & 0o077:
                    os.fchmod(file.fileno(), self.file_mode)  # whatever the umask
                yield name, file
        except BaseException:
            with suppress(OSError):
                os.unlink(name)  # noqa: PTH108
            raise

    @contextmanager
    def copied(self, source: Path) -> Iterator[tuple[str, int, str]]:
        """Give a copy of a file: its temporary name, its length and its mark."""
        length = crc = 0
        with source.open("rb") as original, self.temporary() as (name, file):
            while chunk := original.read(CHUNK_BYTES):
                file.write(chunk)
                length += len(chunk)
                crc = zlib.crc32(chunk, crc)
        try:
            yield name, length, f"{crc:08x}"
        finally:
            remove(name)

    @contextmanager
    def written(self, content: bytes) -> Iterator[str]:
        """Give a new file with this content: its temporary name."""
        with self.temporary() as (name, file):
            file.write(content)
        try:
            yield name
        finally:
            remove(name)

    def place(self, key: str, mark: str | None, body: str | None, facts: str) -> None:
        """Give an entry's temporary files their names, and remove the body they replace."""
        before = self.mark(key)
        if mark is not None and body is not None:
            self.rename(body, self.body_name(key, mark))
        self.rename(facts, self.facts_name(key))
        if before != mark:
            self.remove_body(key, before)

    def rename(self, name: str, final: str) -> None:
        try:
            os.replace(name, final)  # noqa: PTH105
        except FileNotFoundError:
            make_private(Path(final).parent, self.mode)
            os.replace(name, final)  # noqa: PTH105

    # Use

    def touch(self, key: str, used_at: int) -> None:
        """Note in the facts' time that an entry was used; in nanoseconds."""
        with suppress(OSError):
            os.utime(self.facts_name(key), ns=(used_at, used_at))

    def used_at(self, key: str) -> int:
        """Return when an entry was used, in nanoseconds; 0 where it is gone."""
        try:
            return os.stat(self.facts_name(key)).st_mtime_ns  # noqa: PTH116
        except OSError:
            return 0

    # Removing

    def remove(self, key: str, mark: str | None = None) -> None:
        """Remove an entry's files, the facts first, and a body that they do not name yet."""
        named = self.mark(key)
        remove(self.facts_name(key))
        self.remove_body(key, named)
        if mark != named:
            self.remove_body(key, mark)

    def mark(self, key: str) -> str | None:
        """Return the mark of the body that an entry's facts name; None where there is none."""
        try:
            return Facts.from_json(contents(self.facts_name(key))).mark
        except (OSError, DamagedError):
            return None

    def remove_body(self, key: str, mark: str | None) -> None:
        """Remove a body, where there is one."""
        if mark is not None:
            remove(self.body_name(key, mark))

    def clear(self) -> None:
        """Remove the files of all entries; what else lies in the folder is left alone."""
        for shard in SHARDS:
            for item in self.listing(shard):
                if item.name.endswith(FACTS) or BODY.fullmatch(item.name):
                    remove(item.path)

    def remove_stale(self, shard: str, keep: Mapping[str, str | None], before: int) -> None:
        """Remove bodies that belong to none of the entries `keep` (a mark for each key).

        `before`, a time in nanoseconds, spares what is being written now.
        """
        for item in self.listing(shard):
            match = BODY.fullmatch(item.name)
            if match and keep.get(match[1]) != match[2] and modified(item) < before:
                remove(item.path)

    def remove_temporary(self, before: int) -> None:
        """Remove what writers that were killed have left; `before` is a time in nanoseconds."""
        for item in self.listing(TEMPORARY):
            if modified(item) < before:
                remove(item.path)

    # Looking around

    def shards(self) -> list[str]:
        """Return the shards that exist."""
        with os.scandir(self.root) as items:
            return sorted(item.name for item in items if item.name in SHARDS)

    def found(self, shard: str, before: int) -> Iterator[Found]:
        """Yield a shard's whole entries; older ones that are not whole are removed."""
        for item in self.listing(shard):
            key = item.name.removesuffix(FACTS)
            if key == item.name or not KEY.fullmatch(key):
                continue
            try:
                facts = Facts.from_json(contents(item.path))
                self.entry(key, facts, read_limit=-1)
                status = item.stat()
            except (DamagedError, OSError):
                if modified(item) < before:
                    remove(item.path)
                continue
            size = on_disk(status.st_size) + on_disk(facts.length)
            yield Found(key, facts, size, status.st_mtime_ns)

    def listing(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self.root}/{folder}") as items:
                return list(items)
        except OSError:
            return []


def make_private(folder: Path, mode: int) -> None:
    """Make a folder, and those above it, with these permissions whatever the umask."""
    if folder.is_dir():
        return
    make_private(folder.parent, mode)
    with suppress(FileExistsError):
        folder.mkdir(mode)
        folder.chmod(mode)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def contents(name: str, limit: int = -1) -> bytes:
    """Return a file's content, at most `limit` bytes of it."""
    descriptor = os.open(name, READ_ONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size if limit < 0 else limit)
    finally:
        os.close(descriptor)


def remove(name: str) -> None:
    """Remove a file that may be gone already."""
    with suppress(OSError):
        os.unlink(name)  # noqa: PTH108


def modified(item: os.DirEntry[str]) -> int:
    """Return a file's time in nanoseconds; 0 where it is gone."""
    try:
        return item.stat().st_mtime_ns
    except OSError:
        return 0


def mark_of(body: bytes) -> str:
    """Return what tells one content of a body from another."""
    return f"{zlib.crc32(body):08x}"


def on_disk(length: int) -> int:
    """Return how many bytes a file of this length takes, in whole blocks."""
    return -(-length // BLOCK_BYTES) * BLOCK_BYTES
