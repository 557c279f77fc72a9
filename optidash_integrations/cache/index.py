"""The disk tier's index: which entries there are, how large, and when they were used last.

SQLite keeps it, so that all processes of a host share one budget and nobody scans the folder.
Reading an entry does not come here: a reader notes its use in the time of the entry's file, and
eviction looks there before it believes the index.

An entry is noted here before its files are written, and forgotten after they are removed: a
process that is killed in between leaves a row too many, which is evicted in its turn, and not a
file that nobody counts. Files get their names and are removed while the database is locked for
writing, so that two processes never mix their versions of an entry.

The index's own files count towards the budget like those of entries, so its log is kept short
where the budget is small, and what entries leave free in it is given back.

What slips through all the same is found shard by shard: each has a time at which it was compared
with its files, and 0 says that this is due, as in an index made anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from optidash_integrations.cache.database import (
    connect,
    fill,
    give_back,
    identity,
    locked,
    mark_in,
    totals_in,
)
from optidash_integrations.cache.entry import family_of
from optidash_integrations.cache.files import Files, on_disk, remove

FILE = "index.sqlite3"
SUFFIXES = ("-wal", "-shm", "")
LOCK = "index.lock"
BATCH = 1000
"""How many entries are removed before other writers get their turn."""
CROWD = 16
"""How many entries a source may have that belongs to a family: records of one path and digest, of
which a stranger can have another one made with each query that means nothing."""
SPARE_PART = 20
LONG_LOG = 384 * 1024
"""The log is cut where it is longer than so many bytes and than the budget's `SPARE_PART`th."""
ROUNDS = 10
"""How often eviction looks again when entries turn out to have been read."""

UPSERT = """
insert into entries values (?, ?, ?, ?, ?) on conflict (key) do update set mark = excluded.mark,
source = excluded.source, bytes = excluded.bytes, used_at = excluded.used_at
"""

OLDEST = """
select key, mark, bytes, used_at from entries where key != ? order by used_at limit ?
"""

STARTING = """
select distinct source from entries where source >= ? and source < ? and source != ''
"""

HOLDINGS = """
select source, count(*), count(mark), sum(bytes) from entries where source != ''
group by source order by source
"""

# What SQLite says of a file that is no database, or not ours; every other error may pass.
DAMAGED = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# A connection that was open before a fork is neither used nor closed in the child: its locks are
# the parent's (sqlite.org/howtocorrupt.html, 2.6).
INHERITED: list[State] = []


@dataclass(frozen=True, slots=True)
class Row:
    """What the index knows of an entry; `mark` names its body, where it has one."""

    key: str
    mark: str | None
    source: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Holding:
    """What there is of a source: entries, those of them with a body, and their bytes."""

    source: str
    entries: int
    bodies: int
    bytes: int


class State:
    """One process's connection, and the lock that its threads take turns by."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        self.identity: tuple[int, int] | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.identity = None


class Index:
    """The index of a folder. Every method may raise `sqlite3.Error` or OSError.

    Times are integers, in nanoseconds since 1970; `lock_timeout` is how many seconds a method
    waits for another process. The entries and the index itself may take `budget` bytes.
    """

    def __init__(
        self, files: Files, budget: int, lock_timeout: float, now: Callable[[], int]
    ) -> None:
        self.files = files
        self.budget = budget
        self.path = Path(files.root, FILE)
        self.lock_timeout = lock_timeout
        self.now = now
        self.state = State()

    # Entries

    def reserve(self, row: Row, now: int) -> int:
        """Note an entry about to be written; return how many were evicted to make room.

        Where room is needed, a twentieth of the budget is made, so that not every write evicts.
        """
        with self.writing() as db:
            db.execute(UPSERT, (row.key, row.mark, row.source, row.bytes, now))
            count = self.thin(db, row) if family_of(row.source) else 0
            excess = totals_in(db)[1] + self.size() - self.budget
            if excess > 0:
                count += self.evict(db, excess + self.budget // SPARE_PART, row.key)
                give_back(db)
        if length_of(f"{self.path}-wal") > max(LONG_LOG, self.budget // SPARE_PART):
            self.shorten_log()
        return count

    def place(self, row: Row, body: str | None, facts: str) -> None:
        """Give a noted entry its files, unless it was deleted or replaced since."""
        with self.writing() as db:
            query = "select count(*) from entries where key = ? and mark is ?"
            if db.execute(query, (row.key, row.mark)).fetchone() == (1,):
                self.files.place(row.key, row.mark, body, facts)

    def remove(self, key: str) -> None:
        """Remove an entry, files and all."""
        with self.writing() as db:
            self.files.remove(key, mark_in(db, key))
            db.execute("delete from entries where key = ?", (key,))

    def remove_source(self, source: str) -> int:
        """Remove all entries made from a source; return how many there were."""
        count = 0
        while True:
            with self.writing() as db:
                query = "select key, mark from entries where source = ? and source != '' limit ?"
                rows = db.execute(query, (source, BATCH)).fetchall()
                self.drop(db, rows)
            count += len(rows)
            if len(rows) < BATCH:
                return count

    def sources(self, start: str) -> set[str]:
        """Return the sources that start so and have entries."""
        with self.reading() as db:
            return {source for (source,) in db.execute(STARTING, (start, f"{start}\U0010ffff"))}

    def holdings(self) -> list[Holding]:
        """Return what there is of each source, in the order of their names."""
        with self.reading() as db:
            return [Holding(*row) for row in db.execute(HOLDINGS)]

    def keys_of(self, source: str) -> list[str]:
        """Return the keys of a source's entries."""
        with self.reading() as db:
            query = "select key from entries where source = ? and source != ''"
            return [key for (key,) in db.execute(query, (source,))]

    def clear(self) -> None:
        """Remove all entries."""
        with self.writing() as db:
            self.files.clear()
            db.execute("delete from entries")

    def totals(self) -> tuple[int, int]:
        """Return how many entries there are, and their bytes."""
        with self.reading() as db:
            return totals_in(db)

    def shorten_log(self) -> None:
        """Begin the log anew, which many writers at a time may have kept each other from."""
        with suppress(sqlite3.Error), self.reading() as db:
            db.execute("pragma wal_checkpoint(truncate)").fetchall()

    def size(self) -> int:
        """Return how many bytes the index itself takes on the disk."""
        return sum(on_disk(length_of(f"{self.path}{suffix}")) for suffix in SUFFIXES)

    # Eviction

    def thin(self, db: sqlite3.Connection, row: Row) -> int:
        """Remove what was used longest ago of a crowd that an entry joins; return how many."""
        query = "select key, mark from entries where source = ? and source != '' and key != ?"
        others = db.execute(query, (row.source, row.key)).fetchall()
        excess = len(others) + 1 - CROWD
        if excess <= 0:
            return 0
        others.sort(key=lambda other: self.files.used_at(other[0]))
        self.drop(db, others[:excess])
        return excess

    def evict(self, db: sqlite3.Connection, excess: int, spared: str) -> int:
        """Remove the entries used longest ago, `excess` bytes of them; return how many.

        An entry that was read since the index heard of it takes its new place and is met again.
        """
        count = 0
        for _ in range(ROUNDS):
            for key, mark, size, used_at in db.execute(OLDEST, (spared, BATCH)).fetchall():
                if excess <= 0 or count == BATCH:
                    return count
                read_at = self.files.used_at(key)
                if read_at > used_at:
                    db.execute("update entries set used_at = ? where key = ?", (read_at, key))
                    continue
                self.drop(db, [(key, mark)])
                excess -= size
                count += 1
        return count

    def drop(self, db: sqlite3.Connection, rows: Iterable[tuple[str, str | None]]) -> None:
        """Remove entries, the files before the rows."""
        for key, mark in rows:
            self.files.remove(key, mark)
            db.execute("delete from entries where key = ?", (key,))

    # Comparing with the files

    def due(self, before: int) -> tuple[str, int] | None:
        """Return a shard that was last compared with its files before a time, and that time."""
        with self.reading() as db:
            query = "select * from shards where checked_at < ? order by checked_at limit 1"
            found: tuple[str, int] | None = db.execute(query, (before,)).fetchone()
            return found

    def compare(self, shard: str, now: int, grace: int) -> None:
        """Note a shard's entries that the index has not, and remove what belongs to none.

        What was written less than `grace` nanoseconds ago is left alone.
        """
        found = list(self.files.found(shard, now - grace))
        with self.writing() as db:
            db.executemany(
                "insert or ignore into entries values (?, ?, ?, ?, ?)",
                [(f.key, f.facts.mark, f.facts.source, f.bytes, f.used_at) for f in found],
            )
            marks = {item.key: mark_in(db, item.key) for item in found}
            db.execute("update shards set checked_at = ? where name = ?", (now, shard))
        self.files.remove_stale(shard, marks, now - grace)

    # The connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in a transaction that no other writer shares."""
        with self.reading() as db:
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("rollback")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give this process's connection to one thread.

        After an error it is closed, and where the file is to blame that is removed: the next
        use finds a connection that works, or an index made anew.
        """
        state = self.current()
        with state.lock:
            try:
                yield self.connected(state)
            except sqlite3.Error as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in DAMAGED:
                    self.discard(state)
                if code != sqlite3.SQLITE_FULL:  # a full disk may have no room for opening it again
                    state.close()
                raise

    def current(self) -> State:
        """Return the state of this process, a new one in a forked child."""
        state = self.state
        if state.pid != os.getpid():
            INHERITED.append(state)
            state = self.state = State()
        return state

    def connected(self, state: State) -> sqlite3.Connection:
        """Return a connection to the index that is in the folder now: it may have been lost."""
        if state.connection is None or state.identity != identity(self.path):
            state.close()
            self.files.make()
            with locked(Path(self.files.root, LOCK)):
                state.identity = identity(self.path)
                state.connection = connect(self.path, self.lock_timeout, self.budget)
                fill(state.connection, self.files.shards(), self.now())
                state.identity = identity(self.path)
        return state.connection

    def discard(self, state: State) -> None:
        """Remove a damaged index, unless another process has made a new one meanwhile."""
        with locked(Path(self.files.root, LOCK)):
            if state.identity == identity(self.path):
                for suffix in SUFFIXES:
                    remove(f"{self.path}{suffix}")

    def close(self) -> None:
        """Close this process's connection; the next use opens it again."""
        state = self.current()
        with state.lock:
            state.close()


def length_of(name: str) -> int:
    """Return a file's length in bytes; 0 where there is none."""
    try:
        return os.stat(name).st_size  # noqa: PTH116
    except OSError:
        return 0
