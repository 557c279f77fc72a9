"""What outlasts a process and belongs to the API: calls made this month, and how it has been doing.

It is a small SQLite file beside the cache, outside the tiers: nothing is evicted from it, and
clearing the cache leaves it alone. All processes of a host share it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from optidash_integrations.errors import BudgetExceededError

logger = logging.getLogger(__name__)

FILE = "api.sqlite3"
LOCK_SECONDS = 2.0

TABLES = """
CREATE TABLE IF NOT EXISTS calls (
    account TEXT, month TEXT, made INTEGER NOT NULL, PRIMARY KEY (account, month)
);
CREATE TABLE IF NOT EXISTS circuits (
    account TEXT PRIMARY KEY, failures INTEGER NOT NULL, until REAL NOT NULL,
    seconds REAL NOT NULL, probing REAL NOT NULL, reason TEXT NOT NULL
);
"""


def account_of(api_url: str, api_key: str | None) -> str:
    """Return the name under which an account is kept: it does not tell the key."""
    return hashlib.sha256(f"{api_url.rstrip('/')}\0{api_key or ''}".encode()).hexdigest()[:16]


class Ledger:
    """The file; in memory where `path` is None. Raises `sqlite3.Error` or OSError when it fails."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.connection: sqlite3.Connection | None = None
        self.pid = os.getpid()
        with FORK.lock:
            FORK.ledgers.add(self)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Read and write with nobody in between."""
        self.check_process()
        with self.lock:
            connection = self.opened()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                self.undo(connection, error)
                raise

    def undo(self, connection: sqlite3.Connection, error: BaseException) -> None:
        """Leave no transaction open; after a fault of the file the next use opens it anew."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as fault:
            error = fault
        if isinstance(error, sqlite3.Error) and self.path is not None:
            self.close()

    def opened(self) -> sqlite3.Connection:
        if self.connection is None:
            if self.path is not None:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            connection = sqlite3.connect(
                str(self.path or ":memory:"),
                timeout=LOCK_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.executescript(TABLES)
            except BaseException:
                connection.close()
                raise
            self.connection = connection
        return self.connection

    def check_process(self) -> None:
        """Begin anew in a child: a connection must not be used, nor closed, on both sides."""
        if self.pid != os.getpid():
            INHERITED.append(self.connection)
            self.connection, self.pid, self.lock = None, os.getpid(), threading.RLock()

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self.check_process()
        with self.lock:
            if self.connection is not None:
                self.connection.close()
                self.connection = None


INHERITED: list[sqlite3.Connection | None] = []


class Fork:
    """Lets no process be forked in the middle of a transaction.

    SQLite would remember in the child that the file is locked, by a thread that is not there, and
    nothing could be counted in it again.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()
        self.held: list[threading.RLock] = []

    def begin(self) -> None:
        """Wait until no transaction is under way, and let none begin."""
        self.lock.acquire()
        self.held = [ledger.lock for ledger in self.ledgers]
        for lock in self.held:
            lock.acquire()

    def end(self) -> None:
        """Let them go on."""
        held, self.held = self.held, []
        for lock in held:
            lock.release()
        self.lock.release()

    def begin_anew(self) -> None:
        """Leave it all behind, in the child."""
        self.lock, self.held = threading.RLock(), []
        for ledger in self.ledgers:
            ledger.check_process()


FORK = Fork()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=FORK.begin, after_in_parent=FORK.end, after_in_child=FORK.begin_anew)


class MonthlyBudget:
    """At most `budget` calls in a calendar month (UTC), counted in the ledger.

    Where the count can't be kept there is no budget left: an account is not to be overdrawn because
    a disk is full. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        budget: int,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ledger = ledger
        self.account = account
        self.budget = budget
        self.clock = clock

    @property
    def month(self) -> str:
        """The present month, such as `2026-11`."""
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m")

    def spend(self) -> None:
        """Count one call; raises BudgetExceededError where the month has none left."""
        month = self.month
        try:
            with self.ledger.transaction() as db:
                if made(db, self.account, month) >= self.budget:
                    raise BudgetExceededError(
                        f"the monthly_budget of {self.budget} API calls is used up"
                    )
                db.execute(
                    "INSERT INTO calls VALUES (?, ?, 1)"
                    " ON CONFLICT (account, month) DO UPDATE SET made = made + 1",
                    (self.account, month),
                )
        except (sqlite3.Error, OSError) as error:
            raise BudgetExceededError(
                f"API calls can't be counted in {self.ledger.path}, so none is made: {error}"
            ) from error

    def used(self) -> int:
        """Return how many calls this month has had."""
        with self.ledger.transaction() as db:
            return made(db, self.account, self.month)


def made(db: sqlite3.Connection, account: str, month: str) -> int:
    row = db.execute(
        "SELECT made FROM calls WHERE account = ? AND month = ?", (account, month)
    ).fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True, slots=True)
class Circuit:
    """How the API has been doing: failures in a row, and until when (seconds since 1970) it is left
    alone, for which `reason`. `seconds` is how long that was, `probing` until when one call tries.
    """

    failures: int = 0
    until: float = 0.0
    seconds: float = 0.0
    probing: float = 0.0
    reason: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether calls go as usual."""
        return self.until == 0.0

    @classmethod
    def read(cls, db: sqlite3.Connection, account: str) -> Circuit:
        """Return what is kept of an account."""
        row = db.execute(
            "SELECT failures, until, seconds, probing, reason FROM circuits WHERE account = ?",
            (account,),
        ).fetchone()
        return cls(*row) if row else cls()

    def write(self, db: sqlite3.Connection, account: str) -> None:
        """Keep it."""
        db.execute(
            "INSERT OR REPLACE INTO circuits VALUES (?, ?, ?, ?, ?, ?)",
            (account, self.failures, self.until, self.seconds, self.probing, self.reason),
        )
