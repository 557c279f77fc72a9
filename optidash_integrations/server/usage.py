"""How many calls each account has made this month, and may make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, String, Table, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from optidash_integrations.server.database import Database, metadata
from optidash_integrations.server.keys import ID_BYTES, Key
from optidash_integrations.server.refusals import RefusedError

table = Table(
    "usage",
    metadata,
    Column("key", String(2 * ID_BYTES), primary_key=True),
    Column("month", String(7), primary_key=True),  # such as 2026-11, in UTC
    Column("calls", BigInteger, nullable=False),
)


class OutOfCreditsError(RefusedError):
    """The account has made as many calls as its monthly quota allows."""

    public_status = 402


@dataclass(frozen=True, slots=True)
class Spent:
    """A call that was counted: for which key, and in which month."""

    key: Key
    month: str


class Usage:
    """Counts calls in the database, exactly, whatever number of processes count.

    A key's calls are counted for itself and for its account; the quota is the account's. `clock`
    gives seconds since 1970. Methods raise DatabaseUnavailableError as the database does.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.clock = clock

    def spend(self, key: Key) -> Spent:
        """Count one call, before it is worked on. Raises OutOfCreditsError where none is left."""
        month = self.month
        with self.database.begin() as connection:
            # The account comes first everywhere, so that no two transactions wait for each other.
            if not count(connection, key.account, month, key.monthly_quota):
                raise OutOfCreditsError(
                    f"The monthly quota of {key.monthly_quota} calls is used up. "
                    f"It begins anew on {self.next_month}."
                )
            if key.parent:
                count(connection, key.id, month, None)
        return Spent(key, month)

    def give_back(self, spent: Spent) -> None:
        """Take back a call that failed through a fault of the server."""
        with self.database.begin() as connection:
            for identity in dict.fromkeys((spent.key.account, spent.key.id)):
                this = (table.c.key == identity) & (table.c.month == spent.month)
                statement = table.update().where(this, table.c.calls > 0)
                connection.execute(statement.values(calls=table.c.calls - 1))

    def used(self) -> dict[str, int]:
        """Return this month's calls by the ids of keys; a primary key's include its sub-keys'."""
        statement = select(table.c.key, table.c.calls).where(table.c.month == self.month)
        with self.database.reading() as connection:
            return {row.key: row.calls for row in connection.execute(statement)}

    def account(self, key: Key) -> dict[str, object]:
        """Return the document that `GET /1.0/account` answers; without a quota numbers are null."""
        this = (table.c.key == key.account) & (table.c.month == self.month)
        with self.database.reading() as connection:
            used = connection.execute(select(table.c.calls).where(this)).scalar() or 0
        total = key.monthly_quota
        remaining = None if total is None else max(0, total - used)
        numbers = {"total": total, "used": used, "remaining": remaining}
        return {
            "success": True,
            "code": 200,
            "subscription": {"name": key.account_name},
            "credits": numbers,
            "quota": dict(numbers),
        }

    @property
    def month(self) -> str:
        """The present month (UTC), such as `2026-11`."""
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m")

    @property
    def next_month(self) -> str:
        """The first day of the next one."""
        first = datetime.fromtimestamp(self.clock(), UTC).replace(day=1)
        return (first + timedelta(days=31)).strftime("%Y-%m-01")


def count(connection: Connection, identity: str, month: str, quota: int | None) -> bool:
    """Add a call in one statement; return whether the quota allowed it."""
    if quota is not None and quota < 1:
        return False
    statement = counting(connection.dialect.name, bounded=quota is not None)
    values: dict[str, object] = {"key": identity, "month": month, "calls": 1}
    if quota is not None:
        values["quota"] = quota
    return connection.execute(statement, values).first() is not None


@cache
def counting(dialect_name: str, *, bounded: bool) -> Any:
    """Return the statement that counts; it is made once, since each request needs it."""
    dialect: Any = sqlite if dialect_name == "sqlite" else postgresql
    statement = dialect.insert(table).on_conflict_do_update(
        index_elements=[table.c.key, table.c.month],
        set_={"calls": table.c.calls + 1},
        where=table.c.calls < bindparam("quota", type_=BigInteger) if bounded else None,
    )
    return statement.returning(table.c.calls)
