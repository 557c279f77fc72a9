"""Databases for tests of the server: a SQLite file, and a PostgreSQL on a free port."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from optidash_integrations.server.database import Database
from tests.cache.servers import absent, free_port

CLUSTER = "-A trust -U app -E UTF8 --locale=C --no-sync"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """Give the address of a PostgreSQL that all tests share, so each needs a schema of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        absent("postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))  # those of pytest are root's alone
    who: dict[str, Any] = {}
    if os.geteuid() == 0:  # which PostgreSQL does not run as
        shutil.chown(folder, "postgres", "postgres")
        who = {"user": "postgres", "group": "postgres", "extra_groups": []}
    port, data = free_port(), folder / "data"

    def run(program: str, *arguments: object) -> None:
        command = [found[-1].with_name(program), "-D", data, *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)

    try:
        run("initdb", *CLUSTER.split())
        options = f"-F -h 127.0.0.1 -p {port} -k {folder} -c max_connections=200"
        run("pg_ctl", "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://app@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """Give an address with a schema that no other test has: databases would take a second each."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(postgresql_server) as connection:
        connection.execute(f"create schema {name}")
    return f"{postgresql_server}?options=-csearch_path%3D{name}"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'data' / 'server.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the address of an empty database of either kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    found = Database(database_url)
    yield found
    found.close()
