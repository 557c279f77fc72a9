"""The database that all processes of a server share."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from optidash_integrations.errors import SettingsError
from optidash_integrations.server import database as module
from optidash_integrations.server.database import (
    Database,
    DatabaseUnavailableError,
    Step,
    bring_up_to_date,
    default_url,
)
from tests.cache.servers import free_port
from tests.server.children import outputs

ADD = text("insert into numbers values (7)")


def column(database: Database, statement: str) -> list[int]:
    with database.reading() as connection:
        return list(connection.execute(text(statement)).scalars())


def versions(database: Database) -> list[int]:
    return column(database, "select version from schema_version")


def numbers(database: Database) -> list[int]:
    return column(database, "select n from numbers order by n")


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with a table that holds a number."""
    with database.begin() as connection:
        connection.execute(text("create table numbers (n integer not null)"))
        connection.execute(text("insert into numbers values (0)"))
    return database


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def test_what_is_missing_is_made_at_first_use(database):
    assert versions(database) == [len(module.STEPS)]


def test_the_file_and_its_new_folder_are_the_users_alone(sqlite_url):
    path = file_of(sqlite_url)
    with closing(Database(sqlite_url)) as database, database.begin() as connection:
        connection.execute(text("update schema_version set version = 0"))
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert f"{path.name}-wal" in modes
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_exception_undoes_a_transaction(filled):
    with pytest.raises(KeyError):
        add_and_fail(filled)
    assert numbers(filled) == [0]


def add_and_fail(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(ADD)
        raise KeyError


def test_after_close_it_opens_anew(filled):
    with filled.begin() as connection:
        connection.execute(ADD)
    filled.close()
    assert numbers(filled) == [0, 7]


def test_reading_does_not_wait_for_a_writer(filled):
    with filled.begin() as connection, ThreadPoolExecutor(1) as pool:
        connection.execute(ADD)
        assert pool.submit(numbers, filled).result(timeout=5) == [0]


def test_no_write_is_lost_between_threads(filled):
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for _ in range(20):
            with filled.begin() as connection:
                connection.execute(text("update numbers set n = n + 1"))

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(count) for _ in range(4)]:
            done.result()
    assert numbers(filled) == [80]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "/var/lib/keys.sqlite3",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///keys?mode=memory",
        "mysql://me:pass@here/keys",
        "postgresql+asyncpg://me:pass@here/keys",
        "postgresql://me:pass@here:port/keys",
    ],
)
def test_an_address_of_another_kind_is_a_mistake_that_shows_no_password(url):
    with pytest.raises(SettingsError, match="takes sqlite:///PATH or postgresql://") as caught:
        Database(url)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_password_is_never_shown(scheme):
    database = Database(f"{scheme}://me:s3cret@127.0.0.1:{free_port()}/keys?password=s3cret")
    with pytest.raises(DatabaseUnavailableError) as caught, database.begin():
        pass
    assert "127.0.0.1" in str(caught.value)
    assert "s3cret" not in f"{caught.value} {database!r} {database.name}"


def test_a_file_that_is_no_database_is_unavailable(sqlite_url):
    file_of(sqlite_url).parent.mkdir()
    file_of(sqlite_url).write_bytes(b"no database at all" * 100)
    with pytest.raises(DatabaseUnavailableError):
        versions(Database(sqlite_url))


def test_a_folder_that_cannot_be_made_is_unavailable(sqlite_url):
    file_of(sqlite_url).parent.write_bytes(b"a file")
    with pytest.raises(DatabaseUnavailableError, match="can't be opened"):
        versions(Database(sqlite_url))


def test_a_database_that_others_keep_busy_is_unavailable(sqlite_url):
    with (
        closing(Database(sqlite_url)) as other,
        closing(Database(sqlite_url, wait_seconds=0.01)) as database,
    ):
        assert versions(database) == [0]
        with (
            other.begin(),
            pytest.raises(DatabaseUnavailableError, match="locked"),
            database.begin(),
        ):
            pass
        with database.begin():
            pass  # now it is not


def test_what_was_asked_wrongly_is_no_fault_of_the_database(database):
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(text("insert into schema_version values (null)"))


def test_connections_that_the_server_ended_are_replaced(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        assert versions(database) == [0]
        with closing(Database(postgresql_url)) as other, other.begin() as connection:
            others = "pid <> pg_backend_pid() and datname = current_database()"
            ended = text(f"select pg_terminate_backend(pid) from pg_stat_activity where {others}")
            assert list(connection.execute(ended).scalars()) == [True]
        assert versions(database) == [0]


# Changes to tables


STEPS = (
    Step("fruit", "alter table fruit add column colour varchar(10) not null default 'green'"),
    Step("nuts", "alter table nuts add column shell integer"),
    Step("fruit", "update fruit set colour = 'red' where name = 'apple'"),
)


def test_steps_are_taken_once_and_in_order(database):
    with database.begin() as connection:
        connection.execute(text("create table fruit (name varchar(10))"))
        connection.execute(text("insert into fruit values ('apple'), ('pear')"))
        bring_up_to_date(connection, STEPS)
        connection.execute(text("update fruit set colour = 'brown' where name = 'apple'"))
        bring_up_to_date(connection, STEPS)
        fruit = connection.execute(text("select name, colour from fruit order by name")).all()
    assert [tuple(row) for row in fruit] == [("apple", "brown"), ("pear", "green")]
    assert versions(database) == [3]


def test_steps_that_were_taken_are_not_taken_again(database):
    with database.begin() as connection:
        connection.execute(text("create table fruit (name varchar(10))"))
        connection.execute(text("insert into fruit values ('apple')"))
        bring_up_to_date(connection, STEPS[:1])
        bring_up_to_date(connection, STEPS)
        assert connection.execute(text("select colour from fruit")).scalar_one() == "red"


def test_a_step_that_fails_leaves_everything_as_it_was(database):
    with database.begin() as connection:
        connection.execute(text("create table fruit (name varchar(10))"))
    bad = (*STEPS, Step("fruit", "alter table fruit add column colour varchar(10)"))
    with pytest.raises(Exception, match="colour"), database.begin() as connection:
        bring_up_to_date(connection, bad)
    assert versions(database) == [0]
    with database.begin() as connection:
        bring_up_to_date(connection, STEPS)


def test_tables_of_a_newer_version_are_refused(database_url):
    with closing(Database(database_url)) as database, database.begin() as connection:
        connection.execute(text("update schema_version set version = 1000"))
    with pytest.raises(SettingsError, match=r"newer version .*\(1000;.* upgrade"):
        versions(Database(database_url))


# Processes


def test_processes_that_make_the_same_database_at_once_do_not_meet(database_url):
    code = """
from contextlib import closing
from sqlalchemy import text
from optidash_integrations.server import keys, usage
from optidash_integrations.server.database import Database
with closing(Database(sys.argv[1])) as database, database.begin() as connection:
    print(*connection.execute(text("select version from schema_version")).scalars())
"""
    assert outputs(code, database_url, count=3) == ["0"] * 3


def test_a_forked_child_gets_connections_of_its_own(filled, database_url):
    code = """
import os
from contextlib import closing
from sqlalchemy import text
from optidash_integrations.server.database import Database

def add(database, n):
    with database.begin() as connection:
        connection.execute(text(f"insert into numbers values ({n})"))

with closing(Database(sys.argv[1])) as database:
    add(database, 1)
    before = id(database.opened())
    child = os.fork()
    if child == 0:
        add(database, 2)
        os._exit(id(database.opened()) == before)
    assert os.waitpid(child, 0)[1] == 0
    assert id(database.opened()) == before
    add(database, 3)
"""
    outputs(code, database_url)
    assert numbers(filled) == [0, 1, 2, 3]


def test_the_default_lies_below_the_users_data(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with closing(Database(default_url())) as database:
        assert versions(database) == [0]
    assert (tmp_path / "optidash-integrations" / "server.sqlite3").exists()


def test_sqlite_keeps_a_write_ahead_log(sqlite_url):
    with closing(Database(sqlite_url)) as database:
        versions(database)
        with closing(sqlite3.connect(file_of(sqlite_url))) as plain:
            assert plain.execute("pragma journal_mode").fetchone() == ("wal",)
