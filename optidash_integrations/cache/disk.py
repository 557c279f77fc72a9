"""The disk tier: plain files in sharded folders, bodies byte for byte as they are sent.

An entry is two files, `<key>.json` with its facts and `<key>.<token>` with its body. The token is
new with every write and the facts name it, so that a reader never sees the facts of one version
with the body of another; the facts are renamed into place last.
"""

from __future__ import annotations

import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from optidash_integrations.cache.entry import CacheStats, Entry, checked
from optidash_integrations.cache.index import Index, Row
from optidash_integrations.errors import OptidashError

logger = logging.getLogger(__name__)

LAYOUT = "v1"
INDEX = "index.sqlite3"
READ_BYTES = 1024 * 1024
TARGET = 0.95
BLOCK = 4096
MARKS = 4096
LOG_SECONDS = 60.0


class CacheUnavailableError(OptidashError):
    """The cache folder can't be used."""


class DiskCache:
    """Entries in a folder, at most `max_bytes` of them as the file system counts.

    A body of up to `read_bytes` bytes comes back as bytes, a larger one as a path. The folder is
    made with mode 0700. Raises `CacheUnavailableError` where it can't be written.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        read_bytes: int = READ_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder / LAYOUT
        self.max_bytes = max_bytes
        self.read_bytes = read_bytes
        self.clock = clock
        self.index = Index(self.folder / INDEX)
        self.lock = threading.Lock()
        self.marks: dict[str, float] = {}
        self.hits = self.misses = self.evictions = 0
        self.logged_at = float("-inf")
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / f".{secrets.token_hex(8)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise CacheUnavailableError(
                f"the cache folder {folder} can't be written: {error.strerror}"
            ) from error

    # Reading

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is dropped."""
        facts = self.facts_path(checked(key))
        try:
            entry = self.read(facts)
        except FileNotFoundError:
            entry = None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.complain(f"a damaged entry is dropped ({key})", error)
            self.delete(key)
            entry = None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self.mark(key)
        return entry

    def read(self, facts: Path) -> Entry:
        with facts.open("rb") as file:
            stored = json.load(file)
        token, length = stored["body"], stored["bytes"]
        meta, source = stored["meta"], stored["source"]
        if token is None:
            return Entry(meta, None, source)
        body = facts.with_name(f"{facts.stem}.{token}")
        if length <= self.read_bytes:
            data = body.read_bytes()
            if len(data) != length:
                raise ValueError(f"{len(data)} bytes in place of {length}")
            return Entry(meta, data, source, length)
        if body.stat().st_size != length:
            raise ValueError(f"not the {length} bytes that were written")
        return Entry(meta, body, source, length)

    def mark(self, key: str) -> None:
        """Note that a key was used; the index hears of it with the next write."""
        with self.lock:
            self.marks[key] = self.clock()
            full = len(self.marks) >= MARKS
        if full:
            with suppress(sqlite3.Error):
                self.index.used(self.taken_marks())

    def taken_marks(self) -> dict[str, float]:
        with self.lock:
            marks, self.marks = self.marks, {}
        return marks

    # Writing

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, evicting those used longest ago where there is no room."""
        row = Row(secrets.token_hex(6), checked(key))
        body = entry.body.read_bytes() if isinstance(entry.body, Path) else entry.body
        facts = json.dumps(
            {
                "meta": dict(entry.meta),
                "source": entry.source,
                "body": None if body is None else row.name,
                "bytes": len(body or b""),
            }
        ).encode()
        size = on_disk(len(facts)) + (on_disk(len(body)) if body is not None else 0)
        if size > self.max_bytes:
            return
        try:
            self.index.add(row, entry.source, size, self.clock())
            self.write(row, facts, body)
            self.remove(self.index.others(row), keep_facts=True)
            self.index.used(self.taken_marks())
            self.evict()
        except sqlite3.DatabaseError as error:
            self.mend(error)
        except OSError as error:
            self.complain("an entry is not stored", error)
            self.discard(row)

    def write(self, row: Row, facts: bytes, body: bytes | None) -> None:
        path = self.facts_path(row.key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if body is not None:
            self.body_path(row).write_bytes(body)
        temporary = self.temporary_path(row)
        temporary.write_bytes(facts)
        temporary.replace(path)

    def discard(self, row: Row) -> None:
        """Leave nothing of a write that failed; the entry before it stays."""
        for path in (self.body_path(row), self.temporary_path(row)):
            with suppress(OSError):
                path.unlink()
        with suppress(sqlite3.Error):
            self.index.remove([row])

    def evict(self) -> None:
        rows = self.index.overflow(self.max_bytes, int(self.max_bytes * TARGET))
        if rows:
            self.evictions += len(rows)
            self.remove(rows)

    def remove(self, rows: Iterable[Row], *, keep_facts: bool = False) -> None:
        """Delete files, then forget them; `keep_facts` where a newer version has taken over."""
        gone = list(rows)
        for row in gone:
            paths = [self.body_path(row), self.temporary_path(row)]
            if not keep_facts:
                paths.insert(0, self.facts_path(row.key))
            for path in paths:
                with suppress(FileNotFoundError):
                    path.unlink()
        self.index.remove(gone)

    def delete(self, key: str) -> None:
        """Forget an entry."""
        self.forget(lambda: self.index.of_key(checked(key)))
        with suppress(OSError):
            self.facts_path(key).unlink()

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        return self.forget(lambda: self.index.of_source(source))

    def clear(self) -> None:
        """Forget everything."""
        self.forget(self.index.all)

    def forget(self, rows: Callable[[], list[Row]]) -> int:
        try:
            found = rows()
            self.remove(found)
        except sqlite3.DatabaseError as error:
            self.mend(error)
            return 0
        except OSError as error:
            self.complain("an entry can't be deleted", error)
            return 0
        return len(found)

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        try:
            entries, size = self.index.totals()
        except sqlite3.DatabaseError as error:
            self.mend(error)
            entries = size = 0
        return CacheStats(entries, size, self.hits, self.misses, self.evictions)

    # When the index is lost

    def mend(self, error: sqlite3.DatabaseError) -> None:
        """Build a damaged index anew from the files; a busy one is left alone."""
        self.complain("the index of the cache failed", error)
        if isinstance(error, sqlite3.OperationalError) and not self.is_lost():
            return
        self.index.close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):
                self.index.path.with_name(INDEX + suffix).unlink()
        threading.Thread(target=self.rebuild, name="optidash-index", daemon=True).start()

    def is_lost(self) -> bool:
        return not self.index.path.exists()

    def rebuild(self) -> None:
        """Note every stored entry in the index, and delete what belongs to none."""
        try:
            for facts in self.folder.glob("*/*/*.json"):
                self.readmit(facts)
            self.evict()
        except (sqlite3.Error, OSError) as error:
            self.complain("the index of the cache can't be built", error)

    def readmit(self, facts: Path) -> None:
        try:
            stored = json.loads(facts.read_bytes())
            token, length, source = stored["body"], stored["bytes"], stored["source"]
        except (OSError, ValueError, KeyError, TypeError):
            with suppress(OSError):
                facts.unlink()
            return
        size = on_disk(facts.stat().st_size) + (on_disk(length) if token else 0)
        row = Row(token or secrets.token_hex(6), facts.stem)
        self.index.add(row, source, size, facts.stat().st_mtime)

    # Names

    def facts_path(self, key: str) -> Path:
        shard = key.rpartition("-")[2]
        return self.folder / shard[:2] / shard[2:4] / f"{key}.json"

    def body_path(self, row: Row) -> Path:
        return self.facts_path(row.key).with_name(f"{row.key}.{row.name}")

    def temporary_path(self, row: Row) -> Path:
        return self.facts_path(row.key).with_name(f"{row.key}.{row.name}.part")

    def complain(self, what: str, error: Exception) -> None:
        """Log once a minute."""
        now = self.clock()
        if now - self.logged_at >= LOG_SECONDS:
            self.logged_at = now
            logger.warning("%s: %s: %s", what, type(error).__name__, error)


def on_disk(length: int) -> int:
    """Return about what a file of this length takes up."""
    return -(-length // BLOCK) * BLOCK
