"""The database that all processes of a server share: SQLite by default, PostgreSQL by address.

Modules declare their tables against `metadata`. Those that are missing are made when a database is
first used in a process, so the modules are imported before; what changes in a table that servers
already have is a step in `STEPS`.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from optidash_integrations.cache.database import journal, locked
from optidash_integrations.errors import BusyError, SettingsError

TAKES = "the database takes sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME"
NEWER = (
    "the database was made by a newer version of optidash-integrations ({found}; this one knows "
    "{known}): upgrade this server"
)

POSTGRESQL = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
SQLITE = frozenset({"sqlite", "sqlite+pysqlite"})

WAIT_SECONDS = 10.0
"""How long a transaction waits for another one, or for a connection."""

CONNECTIONS = 8
MORE_CONNECTIONS = 8
SCHEMA_LOCK = 0x6F707469  # "opti": an advisory lock of PostgreSQL is a number
ONLY_READS = "optidash_only_reads"
VERSION = "pragma data_version"

Mark = tuple[int, int]

metadata = MetaData()

schema = Table("schema_version", metadata, Column("version", Integer, nullable=False))


class DatabaseUnavailableError(BusyError):
    """The database can't be reached, or others keep it busy for too long."""

    public = "The service is not available at the moment."


@dataclass(frozen=True, slots=True)
class Step:
    """A change to a table that servers already have, as SQL that both databases take."""

    table: str
    statement: str


STEPS: tuple[Step, ...] = ()


def default_url() -> str:
    """Return the address of the database when nothing names one: a file below the user's data."""
    base = os.environ.get("XDG_DATA_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".local" / "share"
    except RuntimeError:  # a service account without a home
        folder = Path(tempfile.gettempdir()) / f"data-{os.getuid()}"
    return f"sqlite:///{folder / 'optidash-integrations' / 'server.sqlite3'}"


class Database:
    """One database, used by any thread; a forked child gets connections of its own.

    `url` is `sqlite:///PATH` or `postgresql://…`. Nothing is opened before first use, which makes
    what is missing of the tables. SQLite loses no transaction when a process dies; a power cut may
    undo the last ones. Raises SettingsError for an address of another kind.
    """

    def __init__(self, url: str, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.url = checked(url)
        self.wait_seconds = wait_seconds
        self.lock = threading.Lock()
        self.engine: Engine | None = None
        self.watcher: sqlite3.Connection | None = None
        self.watchers = 0
        LIVING.add(self)

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    @property
    def name(self) -> str:
        """Its address without the password."""
        return self.url.set(query={}).render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file: one writer at a time, and no locks on rows."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Read and write in one transaction; an exception undoes it.

        With SQLite nobody else writes meanwhile, so keep it short. Raises DatabaseUnavailableError
        where the database can't be reached, or is busy for longer than `wait_seconds`.
        """
        with self.translated(), self.opened().begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Only read; with SQLite nobody waits for that. Raises as `begin` does."""
        with self.translated():
            engine = self.opened().execution_options(**{ONLY_READS: True})
            with engine.begin() as connection:
                yield connection

    def mark(self) -> Mark | None:
        """Return what is another value once anybody has written; it waits for nobody.

        None where that can't be told: with PostgreSQL, and while a file is locked or not yet open.
        """
        with self.lock:
            if self.engine is None or not self.is_sqlite:
                return None
            try:
                if self.watcher is None:
                    self.watcher = watcher_of(path_of(self.url))
                    self.watchers += 1  # what two of them count is not comparable
                return self.watchers, self.watcher.execute(VERSION).fetchone()[0]
            except sqlite3.Error:
                return None

    def close(self) -> None:
        """Close all connections; the next use opens new ones."""
        with self.lock:
            if self.engine is not None:
                self.engine.dispose()
                self.engine = None
            if self.watcher is not None:
                self.watcher.close()
                self.watcher = None

    def opened(self) -> Engine:
        with self.lock:
            if self.engine is None:
                self.engine = self.prepared()
            return self.engine

    def prepared(self) -> Engine:
        """Open the database, and make what is missing of it."""
        kind = sqlite_engine if self.is_sqlite else postgresql_engine
        engine = kind(self.url, self.wait_seconds)
        try:
            with begun_alone(engine) as connection:
                bring_up_to_date(connection, STEPS)
        except BaseException:
            engine.dispose()
            raise
        return engine

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Make an error of ours of what a database in trouble raises."""
        try:
            yield
        except (IntegrityError, DataError, ProgrammingError):
            raise  # what was asked is wrong, not the database
        except (DatabaseError, InterfaceError, PoolTimeoutError, sqlite3.Error) as error:
            reason = str(getattr(error, "orig", None) or error).strip()
            raise DatabaseUnavailableError(f"{self.name}: {reason}") from error


def checked(url: str) -> URL:
    """Return an address with the driver that speaks to it. Raises SettingsError for others."""
    try:
        found = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise SettingsError([TAKES]) from None
    is_file = found.database not in (None, "", ":memory:") and not found.query
    if found.drivername in SQLITE and is_file:
        return found.set(drivername="sqlite+pysqlite")
    if found.drivername in POSTGRESQL:
        return found.set(drivername="postgresql+psycopg")
    raise SettingsError([TAKES])


def postgresql_engine(url: URL, wait_seconds: float) -> Engine:
    return create_engine(
        url,
        **pool(wait_seconds),
        pool_pre_ping=True,  # a server that was started anew costs no request
        connect_args={"connect_timeout": max(1, round(wait_seconds))},
    )


def sqlite_engine(url: URL, wait_seconds: float) -> Engine:
    make_private(path_of(url))
    engine = create_engine(url, **pool(wait_seconds), connect_args={"timeout": wait_seconds})
    event.listen(engine, "connect", set_up_sqlite)
    event.listen(engine, "begin", begin_in_sqlite)
    return engine


def watcher_of(path: Path) -> sqlite3.Connection:
    """Return a connection that only looks, and whose looks see all others write."""
    return sqlite3.connect(path, 0.0, isolation_level=None, check_same_thread=False)


def pool(wait_seconds: float) -> dict[str, Any]:
    return {
        "pool_size": CONNECTIONS,
        "max_overflow": MORE_CONNECTIONS,
        "pool_timeout": wait_seconds,
        "hide_parameters": True,  # what rows hold is not for logs
    }


def path_of(url: URL) -> Path:
    return Path(url.database or "")


def make_private(path: Path) -> None:
    """Make a file that only this user reads; SQLite gives those beside it the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseUnavailableError(f"the database {path} can't be opened: {error}") from error


def set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin as `begin_in_sqlite` says
    try:
        connection.execute("pragma foreign_keys = on")
        connection.execute("pragma synchronous = normal")
    except sqlite3.Error:
        connection.close()  # which the pool does not know yet
        raise


def begin_in_sqlite(connection: Connection) -> None:
    # One that reads first and then writes would fail where another has written in between.
    only_reads = connection.get_execution_options().get(ONLY_READS)
    connection.exec_driver_sql("begin" if only_reads else "begin immediate")


@contextmanager
def begun_alone(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction in which no other process makes or changes tables."""
    if engine.dialect.name != "sqlite":
        with engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(SCHEMA_LOCK)))
            yield connection
        return
    path = path_of(engine.url)
    with locked(path.with_name(f"{path.name}.lock")):
        with closing(engine.raw_connection()) as raw:
            journal(cast(sqlite3.Connection, raw.dbapi_connection))
        with engine.begin() as connection:
            yield connection


def bring_up_to_date(connection: Connection, steps: Sequence[Step]) -> None:
    """Make missing tables, and take those that are there through the steps they lack.

    Raises SettingsError where a newer version has taken steps that this one does not know.
    """
    present = set(inspect(connection).get_table_names())
    version = version_of(connection) if schema.name in present else None
    if version is not None and version > len(steps):
        raise SettingsError([NEWER.format(found=version, known=len(steps))])
    for step in steps[version:] if version is not None else ():
        if step.table in present:
            connection.execute(text(step.statement))
    metadata.create_all(connection)
    if version is None:
        connection.execute(schema.insert().values(version=len(steps)))
    elif version < len(steps):
        connection.execute(schema.update().values(version=len(steps)))


def version_of(connection: Connection) -> int:
    """Return how many steps the tables have been through."""
    return int(connection.execute(select(schema.c.version)).scalar_one())


LIVING: weakref.WeakSet[Database] = weakref.WeakSet()
INHERITED: list[Engine | sqlite3.Connection] = []
"""A connection must not be used, nor closed, on both sides of a fork."""


def begin_anew() -> None:
    """Leave connections to the process that this one was forked from."""
    for database in LIVING:
        database.lock = threading.Lock()
        INHERITED.extend(each for each in (database.engine, database.watcher) if each is not None)
        database.engine = database.watcher = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_anew)
