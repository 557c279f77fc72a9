"""The disk tier's index: which files there are, how large, and when they were used last.

SQLite keeps it, so that all processes of a host share one budget and nobody scans the folder.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
create table if not exists files (
    name text primary key,
    key text not null,
    source text not null,
    bytes integer not null,
    used_at real not null
) without rowid;
create index if not exists files_by_key on files (key);
create index if not exists files_by_source on files (source);
create index if not exists files_by_use on files (used_at);
create table if not exists total (id integer primary key check (id = 1), bytes integer not null);
insert or ignore into total values (1, 0);
create trigger if not exists file_added after insert on files
    begin update total set bytes = bytes + new.bytes; end;
create trigger if not exists file_removed after delete on files
    begin update total set bytes = bytes - old.bytes; end;
"""

BUSY_SECONDS = 5.0

# A connection that was open before a fork is neither used nor closed in the child: SQLite's locks
# are the parent's (sqlite.org/howtocorrupt.html, 2.6).
INHERITED: list[sqlite3.Connection] = []


@dataclass(frozen=True, slots=True)
class Row:
    """One stored file: the unique name that its body and metadata carry, and its key."""

    name: str
    key: str


class Index:
    """The index of one folder. Every method may raise `sqlite3.Error`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self.connection: sqlite3.Connection | None = None

    def opened(self) -> sqlite3.Connection:
        """Return this process's connection; the lock is held."""
        if self.connection is not None and self.pid != os.getpid():
            INHERITED.append(self.connection)
            self.connection = None
        if self.connection is None:
            self.connection = connect(self.path)
            self.pid = os.getpid()
        return self.connection

    def add(self, row: Row, source: str, size: int, now: float) -> None:
        """Note a file that is about to be written."""
        with self.lock, self.opened() as db:
            db.execute(
                "insert or ignore into files values (?, ?, ?, ?, ?)",
                (row.name, row.key, source, size, now),
            )

    def others(self, row: Row) -> list[Row]:
        """Return the files that a newer one of the same key takes the place of."""
        query = "select name, key from files where key = ? and name != ?"
        return self.rows(query, (row.key, row.name))

    def of_key(self, key: str) -> list[Row]:
        """Return the files of a key."""
        return self.rows("select name, key from files where key = ?", (key,))

    def of_source(self, source: str) -> list[Row]:
        """Return the files made from a source."""
        return self.rows("select name, key from files where source = ?", (source,))

    def all(self) -> list[Row]:
        """Return all files."""
        return self.rows("select name, key from files", ())

    def rows(self, query: str, values: tuple[object, ...]) -> list[Row]:
        with self.lock:
            return [Row(*found) for found in self.opened().execute(query, values)]

    def remove(self, rows: Iterable[Row]) -> None:
        """Forget files."""
        names = [(row.name,) for row in rows]
        if names:
            with self.lock, self.opened() as db:
                db.executemany("delete from files where name = ?", names)

    def used(self, keys: dict[str, float]) -> None:
        """Note when keys were used last."""
        if keys:
            with self.lock, self.opened() as db:
                marks = [(when, key) for key, when in keys.items()]
                db.executemany("update files set used_at = ? where key = ?", marks)

    def overflow(self, budget: int, target: int) -> list[Row]:
        """Return, above a budget, the files used longest ago that bring it down to `target`."""
        with self.lock:
            db = self.opened()
            present = self.bytes_in(db)
            if present <= budget:
                return []
            found, excess = [], present - target
            for name, key, size in db.execute(
                "select name, key, bytes from files order by used_at"
            ):
                found.append(Row(name, key))
                excess -= size
                if excess <= 0:
                    break
            return found

    def totals(self) -> tuple[int, int]:
        """Return how many files there are, and their bytes."""
        with self.lock:
            db = self.opened()
            (count,) = db.execute("select count(*) from files").fetchone()
            return int(count), self.bytes_in(db)

    def bytes_in(self, db: sqlite3.Connection) -> int:
        (total,) = db.execute("select bytes from total").fetchone()
        return int(total)

    def close(self) -> None:
        """Close this process's connection."""
        with self.lock:
            if self.connection is not None and self.pid == os.getpid():
                self.connection.close()
            self.connection = None


def connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        db.execute("pragma journal_mode = wal")
        db.execute("pragma synchronous = off")  # a lost index is built again
        db.executescript(SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db
