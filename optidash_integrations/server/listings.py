"""What `GET /1.0/webhooks/` and `GET /1.0/webhooks/{id}` answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, select

from optidash_integrations.addresses import without_secrets
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits
from optidash_integrations.server.jobs import SCHEDULED, STATES, Jobs, table
from optidash_integrations.server.keys import Key
from optidash_integrations.server.refusals import MissingError
from optidash_integrations.server.seams import Document
from optidash_integrations.values import Choice, Integer

LIMITS = Limits()
USUAL = 50
PAGE = Integer(1, 100)
OFFSET = Integer(0, 2**31)
STATE = Choice(STATES)


def listing(jobs: Jobs, key: Key, query: Mapping[str, str]) -> Document:
    """Return an account's webhooks, or a sub-key's own; the newest first.

    Raises OptionError for a parameter that can't be read; others are left alone.
    """
    where = [is_of(key)]
    if query.get("status"):
        states = {STATE.read("status", one, LIMITS) for one in query["status"].split(",")}
        where.append(table.c.status.in_(states))
    if query.get("start"):
        where.append(table.c.created_at >= moment("start", query["start"]))
    if query.get("end"):
        where.append(table.c.created_at <= moment("end", query["end"]))
    limit = PAGE.read("limit", query.get("limit") or USUAL, LIMITS)
    offset = OFFSET.read("offset", query.get("offset") or 0, LIMITS)
    statement = select(table).where(*where).order_by(table.c.created_at.desc(), table.c.id)
    with jobs.database.reading() as connection:
        rows = connection.execute(statement.limit(limit).offset(offset)).all()
    return {"success": True, "code": 200, "webhooks": [described(row) for row in rows]}


def one(jobs: Jobs, key: Key, identity: str) -> Document:
    """Return one webhook, with what is or was delivered; raises MissingError."""
    statement = select(table).where(is_of(key), table.c.id == identity)
    with jobs.database.reading() as connection:
        row = connection.execute(statement).one_or_none()
    if row is None:
        raise MissingError("There is no such webhook")
    payload = None if row.payload is None else json.loads(row.payload)
    return {"success": True, "code": 200, "webhook": {**described(row), "payload": payload}}


def is_of(key: Key) -> ColumnElement[bool]:
    return table.c.key == key.id if key.parent else table.c.account == key.id


def described(row: Row[Any]) -> Document:
    """Return what is told of a webhook; its address without what may be secret in it."""
    return {
        "id": row.id,
        "status": row.status,
        "created_at": iso(row.created_at),
        "url": without_secrets(row.url),
        "attempts": row.attempts,
        "next_attempt_at": iso(row.due_at) if row.status == SCHEDULED else None,
        "ended_at": None if row.ended_at is None else iso(row.ended_at),
        "response_code": row.answer,
        "error": row.error,
    }


def moment(name: str, text: str) -> float:
    """Read a time in ISO 8601, in UTC where it does not say; return seconds since 1970."""
    try:
        # A plus sign in an address stands for a space.
        found = datetime.fromisoformat(text.strip().replace(" ", "+", text.count(":") > 2))
    except ValueError:
        raise OptionError(name, "a time in ISO 8601", text) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def iso(seconds: float) -> str:
    """Return a time in ISO 8601 with milliseconds and Z."""
    found = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return found.replace("+00:00", "Z")
