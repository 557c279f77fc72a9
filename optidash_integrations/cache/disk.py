"""The disk tier: plain files in sharded folders, bodies byte for byte as they are sent.

`files` knows how an entry lies on disk, `index` which entries there are. Reading takes two files
and nothing else; every process of a host may use the folder, and they share its budget.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from optidash_integrations.cache.entry import CacheStats, Complaints, Entry, checked, is_key
from optidash_integrations.cache.files import DamagedError, Facts, Files, mark_of, on_disk
from optidash_integrations.cache.index import Holding, Index, Row
from optidash_integrations.errors import OptidashError

logger = logging.getLogger(__name__)

LAYOUT = "v1"
READ_LIMIT = 256 * 1024
LOCK_TIMEOUT = 2.0
NANOSECONDS = 1_000_000_000

# How often the use of an entry is noted, and how many notes a process remembers having made.
TOUCH_SECONDS = 600.0
TOUCHED = 10_000

# A shard is compared with its files this often, one at a time, and no file younger than the grace
# is taken for a left-over: its writer may be at work.
COMPARE_NANOSECONDS = 6 * 3600 * NANOSECONDS
PAUSE_NANOSECONDS = 60 * NANOSECONDS
GRACE_NANOSECONDS = 600 * NANOSECONDS

Failed = (OSError, sqlite3.Error)
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class CacheUnavailableError(OptidashError, OSError):
    """The cache folder can't be used; the message names it and says why."""


class DiskCache:
    """Entries in a folder, at most `max_bytes` of it, counted in whole blocks of 4 KiB.

    The index is counted, too: about 400 bytes an entry, and its log. `stats` tells of entries only.

    A body of up to `read_limit` bytes comes back as bytes and is checked; a larger one as a path,
    and only its length is checked. Folders are made with the permissions `mode`; one that is
    there already keeps its own, and what is ours stands below it. `clock` gives seconds since
    1970; a write waits `lock_timeout` seconds for another process, then it is dropped.

    A full disk costs what would have been written, for as long as it is full. Raises
    CacheUnavailableError where the folder can't be made or written for another reason.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        read_limit: int = READ_LIMIT,
        mode: int = 0o700,
        lock_timeout: float = LOCK_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.read_limit = read_limit
        self.clock = clock
        self.files = Files(folder / LAYOUT, mode)
        self.index = Index(self.files, max_bytes, lock_timeout, self.now)
        self.complaints = Complaints(logger, clock)
        self.touched: dict[str, float] = {}
        self.next_look = 0
        self.hits = self.misses = self.evictions = 0
        try:
            self.files.open()
        except OSError as error:
            if error.errno in FULL:  # what is there can be read, and there may be room soon
                self.complain_of_folder(error)
                return
            why = error.strerror or str(error)
            raise CacheUnavailableError(
                f"the cache folder {folder} can't be written ({why})"
            ) from error

    def now(self) -> int:
        """Return the clock's time in nanoseconds."""
        return int(self.clock() * NANOSECONDS)

    # Reading

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is dropped."""
        entry = self.read(key) if is_key(key) else None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self.touch(key)
        return entry

    def read(self, key: str) -> Entry | None:
        try:
            return self.files.read(key, self.read_limit)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            # Its row stays until its turn comes to be evicted: a read waits for no database.
            self.files.remove(key)
            self.complaints.add(f"a damaged entry in {self.folder} was dropped", error)
        except OSError as error:
            self.complaints.add(f"the cache folder {self.folder} can't be read", error)
        return None

    def touch(self, key: str) -> None:
        """Note that an entry was used; in its file, and not more often than eviction needs."""
        now = self.clock()
        if 0 <= now - self.touched.get(key, 0.0) < TOUCH_SECONDS or not is_key(key):
            return
        self.remember(key, now)
        self.files.touch(key, int(now * NANOSECONDS))

    def remember(self, key: str, now: float) -> None:
        if len(self.touched) >= TOUCHED:
            self.touched = {}
        self.touched[key] = now

    # Writing

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, evicting those used longest ago where there is no room.

        A body in a file is copied. Raises ValueError for a key that is none, and ValueError or
        TypeError for facts that are not JSON.
        """
        checked(key)
        try:
            if isinstance(entry.body, Path):
                with self.files.copied(entry.body) as (name, length, mark):
                    self.store(key, Facts(entry.meta, entry.source, length, mark), name)
            elif entry.body is None:
                self.store(key, Facts(entry.meta, entry.source, 0, None), None)
            else:
                mark = mark_of(entry.body)
                facts = Facts(entry.meta, entry.source, len(entry.body), mark)
                self.store(key, facts, entry.body)
        except Failed as error:
            self.complain_of_folder(error)

    def store(self, key: str, facts: Facts, body: bytes | str | None) -> None:
        """Store an entry; a `body` of type str is the temporary name of its copy."""
        content = facts.to_json()
        row = Row(key, facts.mark, facts.source, on_disk(len(content)) + on_disk(facts.length))
        if row.bytes > self.max_bytes:
            self.delete(key)
            return
        self.look_after()
        now = self.clock()
        used_at = int(now * NANOSECONDS)
        self.evictions += self.index.reserve(row, used_at)
        try:
            self.write(row, content, body, used_at)
        except OSError:
            self.index.remove(key)
            raise
        self.remember(key, now)

    def write(self, row: Row, content: bytes, body: bytes | str | None, used_at: int) -> None:
        with ExitStack() as temporary:
            if isinstance(body, bytes):
                body = temporary.enter_context(self.files.written(body))
            facts = temporary.enter_context(self.files.written(content))
            os.utime(facts, ns=(used_at, used_at))
            self.index.place(row, body, facts)

    # Deleting

    def delete(self, key: str) -> None:
        """Forget an entry."""
        if not is_key(key):
            return
        self.files.remove(key)  # it is not served again even where the index fails
        try:
            self.index.remove(key)
        except Failed as error:
            self.complain_of_index(error)

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        try:
            self.complete()
            return self.index.remove_source(source)
        except Failed as error:
            self.complain_of_index(error)
            return 0

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so and have entries."""
        try:
            if complete:
                self.complete()
            return self.index.sources(start)
        except Failed as error:
            self.complain_of_index(error)
            return set()

    def clear(self) -> None:
        """Forget everything."""
        self.files.clear()
        try:
            self.index.clear()
        except Failed as error:
            self.complain_of_index(error)

    # The index

    def holdings(self) -> list[Holding]:
        """Return what there is of each source, in the order of their names."""
        try:
            self.complete()
            return self.index.holdings()
        except Failed as error:
            self.complain_of_index(error)
            return []

    def used_at(self, source: str) -> int:
        """Return when an entry of a source was used last, in nanoseconds; 0 where none is left."""
        try:
            return max(map(self.files.used_at, self.index.keys_of(source)), default=0)
        except Failed as error:
            self.complain_of_index(error)
            return 0

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""
        entries = size = 0
        try:
            self.complete()
            entries, size = self.index.totals()
        except Failed as error:
            self.complain_of_index(error)
        return CacheStats(entries, size, self.hits, self.misses, self.evictions)

    def close(self) -> None:
        """Close the index; the next write opens it again."""
        with suppress(*Failed):
            self.index.close()

    def look_after(self) -> None:
        """Compare at most one shard with its files: at once in a new index, else now and then."""
        now = self.now()
        if now < self.next_look:
            return
        due = self.index.due(now - COMPARE_NANOSECONDS)
        if due:
            self.index.compare(due[0], now, GRACE_NANOSECONDS)
        if due is None or due[1]:
            self.files.remove_temporary(now - GRACE_NANOSECONDS)
            self.next_look = now + PAUSE_NANOSECONDS

    def complete(self) -> None:
        """Compare all shards that a new index has not seen yet."""
        while due := self.index.due(1):
            self.index.compare(due[0], self.now(), GRACE_NANOSECONDS)

    def complain_of_folder(self, error: BaseException) -> None:
        self.complaints.add(f"nothing can be stored in the cache folder {self.folder}", error)

    def complain_of_index(self, error: BaseException) -> None:
        self.complaints.add(f"the index of the cache folder {self.folder} failed", error)
