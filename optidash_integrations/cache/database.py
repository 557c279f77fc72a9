"""The index's SQLite file: its tables, how it is opened, and a lock around that."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optidash_integrations.cache.files import BLOCK_BYTES, SHARDS

try:
    import fcntl
except ImportError:  # Windows: openers may meet, and SQLite's own locks have to do
    fcntl = None  # type: ignore[assignment]

# The log is written back to the file when it is as long as this part of the budget, and no shorter
# or longer than so many pages.
LOG_PART = 50
LOG_PAGES = (32, 1000)

FREE_PAGES = 64
FREE_PART = 8
MOST_GIVEN_BACK = 1000
"""How many pages may be free in the file, and what part of all, before they are given back; and how
many are at a time."""

SCHEMA = """
create table if not exists entries (
    key text primary key,
    mark text,
    source text not null,
    bytes integer not null,
    used_at integer not null
) without rowid;
create index if not exists entries_by_source on entries (source) where source != '';
create index if not exists entries_by_use on entries (used_at);
create table if not exists totals (entries integer not null, bytes integer not null);
create table if not exists shards (name text primary key, checked_at integer) without rowid;
create trigger if not exists entry_added after insert on entries
    begin update totals set entries = entries + 1, bytes = bytes + new.bytes; end;
create trigger if not exists entry_changed after update of bytes on entries
    begin update totals set bytes = bytes + new.bytes - old.bytes; end;
create trigger if not exists entry_removed after delete on entries
    begin update totals set entries = entries - 1, bytes = bytes - old.bytes; end;
"""


def connect(path: Path, lock_timeout: float, budget: int) -> sqlite3.Connection:
    """Open the index, and make what is missing of it; its log is bounded by a budget in bytes."""
    db = sqlite3.connect(path, lock_timeout, isolation_level=None, check_same_thread=False)
    try:
        if db.execute("pragma page_count").fetchone() == (0,):  # it writes, so not on a full disk
            db.execute("pragma auto_vacuum = incremental")
        journal(db)
        db.execute("pragma synchronous = normal")
        keep_log_short(db, budget)
        db.executescript(f"begin immediate; {SCHEMA} commit;")
    except BaseException:
        db.close()
        raise
    return db


def journal(db: sqlite3.Connection) -> None:
    """Choose the write-ahead log, or where a file system can't share memory, a plain journal."""
    try:
        (mode,) = db.execute("pragma journal_mode = wal").fetchone()
    except sqlite3.OperationalError:
        mode = ""
    if mode != "wal":
        db.execute("pragma journal_mode = truncate")


def keep_log_short(db: sqlite3.Connection, budget: int) -> None:
    """Bound the log by a budget in bytes."""
    least, most = LOG_PAGES
    pages = min(max(least, budget // (LOG_PART * BLOCK_BYTES)), most)
    db.execute(f"pragma wal_autocheckpoint = {pages}")
    db.execute(f"pragma journal_size_limit = {pages * BLOCK_BYTES}")


def give_back(db: sqlite3.Connection) -> None:
    """Shorten the file by the pages that are free in it, where they are many."""
    (free,) = db.execute("pragma freelist_count").fetchone()
    (pages,) = db.execute("pragma page_count").fetchone()
    if free > max(FREE_PAGES, pages // FREE_PART):
        for _ in range(min(free, MOST_GIVEN_BACK)):
            db.execute("pragma incremental_vacuum(1)")  # a call steps once, whatever its number


def fill(db: sqlite3.Connection, present: Iterable[str], now: int) -> None:
    """Begin a new index: shards that have files already are due for comparison."""
    if db.execute("select count(*) from totals").fetchone() != (0,):
        return
    checked_at = dict.fromkeys(SHARDS, now) | dict.fromkeys(present, 0)
    db.execute("begin immediate")
    db.execute("insert into totals values (0, 0)")
    db.executemany("insert or ignore into shards values (?, ?)", checked_at.items())
    db.execute("commit")


def mark_in(db: sqlite3.Connection, key: str) -> str | None:
    found = db.execute("select mark from entries where key = ?", (key,)).fetchone()
    return found[0] if found else None


def totals_in(db: sqlite3.Connection) -> tuple[int, int]:
    entries, size = db.execute("select entries, bytes from totals").fetchone()
    return entries, size


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one file of this name from another that takes its place."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock against other processes, where the file system has locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
