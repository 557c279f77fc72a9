"""Requests that are answered later: kept in the database, claimed by one process at a time.

A job is `created`; when its work is done `scheduled`, while it is sent `dispatched`, and in the end
`delivered` or `failed`. Whoever works on one holds a lease of it: when it runs out, since a process
has died, another takes over. So the work is done at least once, and sent at least once: a process
that dies between the receiver's answer and the note of it leaves a delivery that is made again,
under the same id.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from optidash_integrations.addresses import without_secrets
from optidash_integrations.errors import BusyError
from optidash_integrations.server import keys
from optidash_integrations.server.database import Database, metadata
from optidash_integrations.server.keys import ID_BYTES, Key
from optidash_integrations.server.seams import Document, Work

logger = logging.getLogger(__name__)

CREATED, SCHEDULED, DISPATCHED, DELIVERED, FAILED = STATES = (
    "created",
    "scheduled",
    "dispatched",
    "delivered",
    "failed",
)
TO_PERFORM = (CREATED,)
TO_DELIVER = (SCHEDULED, DISPATCHED)  # the latter where a process died

LEASE_SECONDS = 60.0
KEPT_SECONDS = 30 * 24 * 3600.0
"""How long a job can be asked for after its end."""

MOST_WAITING = 10_000
AHEAD_SECONDS = 3600.0
"""How long before its delivery is due the work is done: its result lives for a day only."""

LONGEST_ERROR = 200
SURPLUS = 4
"""How many times more jobs are looked at than taken, where accounts have shares."""

table = Table(
    "webhooks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("key", String(2 * ID_BYTES), nullable=False),
    Column("account", String(2 * ID_BYTES), nullable=False),
    Column("status", String(10), nullable=False),
    Column("created_at", Double, nullable=False),  # times are seconds since 1970
    Column("deliver_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("url", Text, nullable=False),
    Column("work", Text),  # only until it is done: it may hold secrets
    Column("has_source", Boolean, nullable=False),
    Column("payload", Text),
    Column("tries", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("answer", Integer),
    Column("error", String(LONGEST_ERROR)),
    Column("token", String(32), nullable=False),
    Column("lease_until", Double, nullable=False),
)
Index("webhooks_due", table.c.status, table.c.due_at)
Index("webhooks_of_accounts", table.c.account, table.c.created_at)


class JobsFullError(BusyError):
    """As many requests wait for being worked on as the server keeps."""

    public = "Too many requests with webhooks wait at the moment."


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this process works on, as long as it renews the lease.

    `tries` counts how often it was claimed, `attempts` how often it was sent, both with this one.
    """

    id: str
    token: str
    key: str
    account: str
    url: str
    work: str | None
    has_source: bool
    payload: str | None
    tries: int
    attempts: int


class Jobs:
    """All jobs of a server. Methods raise DatabaseUnavailableError as the database does.

    `clock` gives seconds since 1970; those of the hosts that share a database must agree to within
    a few seconds, since leases are written with one and read with another.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float = LEASE_SECONDS,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.lease_seconds = lease_seconds
        self.most_waiting = most_waiting
        self.clock = clock

    def add(self, work: Work, url: str, delay: int) -> None:
        """Keep a request. Raises JobsFullError where too many wait."""
        now = self.clock()
        values = {
            "id": work.id,
            "key": work.key.id,
            "account": work.key.account,
            "status": CREATED,
            "created_at": now,
            "deliver_at": now + delay,
            "due_at": now + max(0.0, delay - AHEAD_SECONDS),
            "url": url,
            "work": written(work),
            "has_source": work.source is not None,
            "tries": 0,
            "attempts": 0,
        }
        waiting = select(func.count()).select_from(table).where(table.c.status == CREATED)
        with self.database.begin() as connection:
            if connection.execute(waiting).scalar_one() >= self.most_waiting:
                raise JobsFullError(f"{self.most_waiting} requests with webhooks wait already")
            connection.execute(table.insert().values(values | FREE))

    def claim(
        self,
        states: Collection[str],
        count: int,
        *,
        each: int | None = None,
        running: Collection[Claim] = (),
    ) -> list[Claim]:
        """Take up to `count` jobs that are due in one of these states and nobody's; oldest first.

        No two callers get the same one, in whatever process, until its lease runs out. With `each`,
        no account gets more than so many at a time, with those in `running`.
        """
        now = self.clock()
        shares = Counter(claim.account for claim in running)
        full = [account for account in shares if each is not None and shares[account] >= each]
        is_due = table.c.status.in_(states) & (table.c.due_at <= now) & (table.c.lease_until <= now)
        query = select(table.c.id, table.c.account).where(is_due, table.c.account.not_in(full))
        query = query.order_by(table.c.due_at).limit(count if each is None else count * SURPLUS)
        with self.database.reading() as connection:  # mostly there are none, and nobody waits
            if count < 1 or connection.execute(query).first() is None:
                return []
        token = secrets.token_hex(16)
        with self.database.begin() as connection:
            # SQLite has one writer, and reads no "for update"; PostgreSQL locks the rows.
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            found = []
            for row in rows:
                shares[row.account] += 1
                if each is None or shares[row.account] <= each:
                    found.append(row.id)
            return self.taken(connection, states, found[:count], token, now)

    def taken(
        self,
        connection: Connection,
        states: Collection[str],
        ids: Sequence[str],
        token: str,
        now: float,
    ) -> list[Claim]:
        values: dict[str, Any] = {"token": token, "lease_until": now + self.lease_seconds}
        values["tries"] = table.c.tries + 1
        if CREATED not in states:
            values |= {"status": DISPATCHED, "attempts": table.c.attempts + 1}
        connection.execute(update(table).where(table.c.id.in_(ids)).values(**values))
        query = select(table).where(table.c.id.in_(ids)).order_by(table.c.due_at)
        return [claim_of(row) for row in connection.execute(query)]

    def renew(self, claims: Collection[Claim]) -> None:
        """Hold leases for longer; those that were lost stay so."""
        until = self.clock() + self.lease_seconds
        for token in sorted({claim.token for claim in claims}):
            ids = sorted(claim.id for claim in claims if claim.token == token)
            this = table.c.id.in_(ids) & (table.c.token == token)
            with self.database.begin() as connection:
                connection.execute(update(table).where(this).values(lease_until=until))

    def performed(self, claim: Claim, document: Document) -> bool:
        """Note what came of the work, which is now to be delivered."""
        due = func.max if self.database.is_sqlite else func.greatest
        return self.changed(
            claim,
            status=SCHEDULED,
            work=None,
            payload=json.dumps(document, separators=(",", ":")),
            due_at=due(table.c.deliver_at, self.clock()),
            tries=0,
        )

    def delivered(self, claim: Claim, answer: int) -> bool:
        """Note that the receiver has taken it."""
        return self.ended(claim, status=DELIVERED, answer=answer, error=None)

    def failed(self, claim: Claim, answer: int | None, error: str) -> bool:
        """Note that it is not sent again."""
        return self.ended(claim, status=FAILED, answer=answer, error=error[:LONGEST_ERROR])

    def ended(self, claim: Claim, **values: Any) -> bool:
        url = without_secrets(claim.url)
        return self.changed(claim, url=url, ended_at=self.clock(), **values)

    def postponed(self, claim: Claim, answer: int | None, error: str, seconds: float) -> bool:
        """Note that it was not taken, and is to be sent again."""
        due_at = self.clock() + seconds
        error = error[:LONGEST_ERROR]
        return self.changed(claim, status=SCHEDULED, answer=answer, error=error, due_at=due_at)

    def given_back(self, claim: Claim, seconds: float = 0.0) -> bool:
        """Let others do it, some time from now, as if it had not been claimed."""
        status = CREATED if claim.work is not None else SCHEDULED
        sent = {} if claim.work is not None else {"attempts": table.c.attempts - 1}
        return self.changed(
            claim, status=status, tries=table.c.tries - 1, due_at=self.clock() + seconds, **sent
        )

    def changed(self, claim: Claim, **values: Any) -> bool:
        """Change a job and let go of it; return False where somebody else has it by now."""
        this = (table.c.id == claim.id) & (table.c.token == claim.token)
        with self.database.begin() as connection:
            statement = update(table).where(this).values(**values, **FREE)
            is_ours = connection.execute(statement).rowcount == 1
        if not is_ours:
            logger.warning("the webhook %s was taken over: its lease had run out", claim.id)
        return is_ours

    def digest(self, claim: Claim) -> bytes | None:
        """Return the SHA-256 of the API key that a job was sent with; None where there was none."""
        query = select(keys.table.c.digest).where(keys.table.c.id == claim.key)
        with self.database.reading() as connection:
            found: bytes | None = connection.execute(query).scalar()
        return found

    def waiting(self, ids: Collection[str]) -> set[str]:
        """Return those of these jobs whose work is still to be done."""
        query = select(table.c.id).where(table.c.id.in_(ids), table.c.status == CREATED)
        with self.database.reading() as connection:
            return set(connection.execute(query).scalars())

    def sweep(self) -> int:
        """Forget jobs that ended long ago; return how many."""
        with self.database.begin() as connection:
            before = self.clock() - KEPT_SECONDS
            return connection.execute(delete(table).where(table.c.ended_at < before)).rowcount

    def counts(self) -> dict[str, int]:
        """Return how many jobs there are in each state."""
        query = select(table.c.status, func.count()).group_by(table.c.status)
        with self.database.reading() as connection:
            found = {row[0]: row[1] for row in connection.execute(query)}
        return dict.fromkeys(STATES, 0) | found


FREE = {"token": "", "lease_until": 0.0}


def claim_of(row: Row[Any]) -> Claim:
    return Claim(**{f.name: getattr(row, f.name) for f in fields(Claim)})


def written(work: Work) -> str:
    """Return a request as JSON; where its file lies is not a matter of the database."""
    values = asdict(work)
    del values["source"]
    return json.dumps(values, separators=(",", ":"))


def work_of(claim: Claim, source: Path | None) -> Work:
    """Return the request of a job that was claimed for being worked on."""
    values = json.loads(claim.work or "{}")
    values["key"] = Key(**values["key"])
    return Work(**values, source=source)
