"""How many calls each account has made this month, and may make."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, String, Table, bindparam, func, select
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

    @property
    def rows(self) -> tuple[Counted, ...]:
        """What it is counted for."""
        account = Counted(False, self.key.account, self.month)
        return (account, Counted(True, self.key.id, self.month)) if self.key.parent else (account,)


class Counted(NamedTuple):
    """What calls are counted for: an account or one of its keys, and the month.

    In this order no two transactions wait for each other: accounts come first.
    """

    is_sub_key: bool
    key: str
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
                raise self.out_of_credits(key)
            if key.parent:
                count(connection, key.id, month, None)
        return Spent(key, month)

    def check(self, key: Key) -> None:
        """Raise OutOfCreditsError where no call is left; nothing is counted."""
        if key.monthly_quota is not None and self.calls(key) >= key.monthly_quota:
            raise self.out_of_credits(key)

    def add(self, counts: Mapping[Counted, int]) -> None:
        """Count many calls at once, whatever the quota; less than none take some back."""
        with self.database.begin() as connection:
            statement = adding(connection.dialect.name)
            for row in sorted(counts):
                number = counts[row]
                values = {"key": row.key, "month": row.month, "calls": max(0, number)}
                connection.execute(statement, values | {"number": number})

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
        used, total = self.calls(key), key.monthly_quota
        remaining = None if total is None else max(0, total - used)
        numbers = {"total": total, "used": used, "remaining": remaining}
        return {
            "success": True,
            "code": 200,
            "subscription": {"name": key.account_name},
            "credits": numbers,
            "quota": dict(numbers),
        }

    def calls(self, key: Key) -> int:
        """Return how many calls a key's account has made this month."""
        this = (table.c.key == key.account) & (table.c.month == self.month)
        with self.database.reading() as connection:
            return connection.execute(select(table.c.calls).where(this)).scalar() or 0

    def out_of_credits(self, key: Key) -> OutOfCreditsError:
        return OutOfCreditsError(
            f"The monthly quota of {key.monthly_quota} calls is used up. "
            f"It begins anew on {self.next_month}."
        )

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


@cache
def adding(dialect_name: str) -> Any:
    """Return the statement that adds a `number` of calls, or takes some away."""
    is_sqlite = dialect_name == "sqlite"
    dialect: Any = sqlite if is_sqlite else postgresql
    greatest = func.max if is_sqlite else func.greatest
    number = bindparam("number", type_=BigInteger)
    return dialect.insert(table).on_conflict_do_update(
        index_elements=[table.c.key, table.c.month],
        set_={"calls": greatest(0, table.c.calls + number)},
    )
