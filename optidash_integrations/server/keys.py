"""API keys: made, listed, renamed, revoked, and known again.

A key is shown once, when it is made; kept is its SHA-256. The slow hashes that passwords need would
protect nothing here, since 238 random bits can't be guessed, and each request would pay for them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    LargeBinary,
    Row,
    Select,
    String,
    Table,
    bindparam,
    func,
    select,
)
from sqlalchemy.exc import IntegrityError

from optidash_integrations.errors import shown
from optidash_integrations.server.database import Database, metadata
from optidash_integrations.server.limits import checked_rate
from optidash_integrations.server.refusals import (
    ForbiddenError,
    InvalidError,
    MissingError,
    TakenError,
)
from optidash_integrations.server.remembered import Remembered

ALPHABET = string.ascii_letters + string.digits
KEY_LENGTH = 40
ID_BYTES = 8
LONGEST_NAME = 100
LARGEST_QUOTA = 2**53 - 1  # what every JSON reader takes for a whole number

MOST_SUB_KEYS = 10_000
"""How many keys in use a primary key may have made, unless told otherwise."""

SEPARATOR = "/"
NO_PARENT = ""

table = Table(
    "keys",
    metadata,
    Column("id", String(2 * ID_BYTES), primary_key=True),
    Column("parent", String(2 * ID_BYTES), nullable=False),
    Column("name", String(LONGEST_NAME), nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("is_primary", Boolean, nullable=False),
    Column("rate_limit", String(40)),
    Column("monthly_quota", BigInteger),
    Column("created_at", Double, nullable=False),  # seconds since 1970
    Column("revoked_at", Double),
)
in_use = table.c.revoked_at.is_(None)
Index(
    "keys_in_use",
    table.c.parent,
    table.c.name,
    unique=True,
    sqlite_where=in_use,
    postgresql_where=in_use,
)
parents = table.alias("parents")


@dataclass(frozen=True, slots=True)
class Key:
    """Who sends a request. It holds no secret, and `id` may be logged.

    `is_primary` keys may make others: those have it as `parent`, its `rate_limit` as their own, and
    share its `monthly_quota`. None is the server's default rate, and no quota. Times are seconds
    since 1970; a key is revoked with its parent.
    """

    id: str
    name: str
    parent: str = NO_PARENT
    parent_name: str = ""
    is_primary: bool = False
    rate_limit: str | None = None
    monthly_quota: int | None = None
    created_at: float = 0.0
    revoked_at: float | None = None

    @property
    def account(self) -> str:
        """The id of the key that quotas are counted for."""
        return self.parent or self.id

    @property
    def account_name(self) -> str:
        """The name of that key."""
        return self.parent_name or self.name

    @property
    def path(self) -> str:
        """What tells the key from all others in use: `shop`, or `shop/customer`."""
        return f"{self.parent_name}{SEPARATOR}{self.name}" if self.parent else self.name


def new_secret() -> str:
    """Return a new key: letters and digits, 238 bits that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(KEY_LENGTH))


def digest_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


class Keys:
    """All keys of a server. Methods raise DatabaseUnavailableError as the database does.

    `clock` gives seconds since 1970, `monotonic` seconds that only ever grow.
    """

    def __init__(
        self,
        database: Database,
        *,
        most_sub_keys: int = MOST_SUB_KEYS,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database = database
        self.most_sub_keys = most_sub_keys
        self.clock = clock
        self.remembered = Remembered(database, monotonic)

    def create(
        self,
        name: str,
        *,
        is_primary: bool = False,
        rate_limit: str | None = None,
        monthly_quota: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key; return it with its secret, which can't be had again.

        Raises InvalidError for what is wrong, TakenError where a key in use has the name.
        """
        values = {
            "name": checked_name(name, is_path=True),
            "parent": NO_PARENT,
            "is_primary": is_primary,
            "rate_limit": None if rate_limit is None else checked_rate(rate_limit),
            "monthly_quota": checked_quota(monthly_quota),
        }
        return self.added(values)

    def create_for(self, primary: Key, name: object) -> tuple[Key, str]:
        """Make a key that belongs to a primary one, as `create` does.

        Raises ForbiddenError where that one is not primary, or has too many.
        """
        check_primary(primary)
        values = {"name": checked_name(name), "parent": primary.id, "is_primary": False}
        return self.added(values)

    def added(self, values: dict[str, Any]) -> tuple[Key, str]:
        secret, identity = new_secret(), secrets.token_hex(ID_BYTES)
        more = {"id": identity, "digest": digest_of(secret), "created_at": self.clock()}
        try:
            with self.database.begin() as connection:
                self.check_room(connection, values["parent"])
                connection.execute(table.insert().values(values | more))
                return one(connection, table.c.id == identity), secret
        except IntegrityError as error:
            raise taken(values["name"]) from error

    def check_room(self, connection: Connection, parent: str) -> None:
        count = select(func.count()).select_from(table).where(in_use, table.c.parent == parent)
        if parent and connection.execute(count).scalar_one() >= self.most_sub_keys:
            raise ForbiddenError(f"This key has made {self.most_sub_keys} keys, which is the most")

    def rename(self, key: Key, name: object) -> Key:
        """Give a key another name; raises as `create` does, MissingError where it is gone."""
        checked = checked_name(name, is_path=not key.parent)
        try:
            return self.changed(key, name=checked)
        except IntegrityError as error:
            raise taken(checked) from error

    def change(self, key: Key, **values: Any) -> Key:
        """Set `rate_limit` or `monthly_quota` of a key; None is the default rate, and no quota."""
        if values.get("rate_limit") is not None:
            values["rate_limit"] = checked_rate(values["rate_limit"])
        checked_quota(values.get("monthly_quota"))
        return self.changed(key, **values)

    def revoke(self, key: Key) -> Key:
        """Let nobody in with this key again, nor with keys that it has made. Its name is free."""
        return self.changed(key, revoked_at=self.clock())

    def changed(self, key: Key, **values: Any) -> Key:
        with self.database.begin() as connection:
            this = (table.c.id == key.id) & in_use
            if connection.execute(table.update().where(this).values(**values)).rowcount != 1:
                raise MissingError(f"There is no key {shown(key.path)}")
            found = one(connection, table.c.id == key.id)
        self.remembered.clear()
        return found

    def all(self, *, revoked: bool = False) -> list[Key]:
        """Return the keys in use, with `revoked` the others too, in order of their names."""
        statement = query().order_by(func.coalesce(parents.c.name, table.c.name))
        statement = statement.order_by(table.c.parent, table.c.name, table.c.created_at)
        with self.database.reading() as connection:
            found = [read(row) for row in connection.execute(statement)]
        return [key for key in found if revoked or key.revoked_at is None]

    def find(self, path: str) -> Key:
        """Return the key in use of that name, such as `shop` or `shop/customer`.

        Raises MissingError where there is none.
        """
        first, separator, second = path.partition(SEPARATOR)
        theirs = (parents.c.name == first) & (table.c.name == second)
        own = (table.c.parent == NO_PARENT) & (table.c.name == first)
        with self.database.reading() as connection:
            rows = connection.execute(query().where(theirs if separator else own))
            for key in map(read, rows):
                if key.revoked_at is None:
                    return key
        raise MissingError(f"There is no key {shown(path)}")

    def verify(self, secret: str) -> Key | None:
        """Return the key with that secret, None where there is none or it is revoked.

        How long it takes tells nothing of secrets: what is looked up, and then compared in constant
        time, are digests.
        """
        digest, mark = digest_of(secret), self.database.mark()
        with self.database.reading() as connection:
            row = connection.execute(BY_DIGEST, {"wanted": digest}).first()
        kept = row.digest if row is not None else bytes(len(digest))
        if not hmac.compare_digest(kept, digest) or row is None:
            return None
        key = read(row)
        if key.revoked_at is not None:
            return None
        self.remembered.add(secret, key, mark)
        return key

    def known(self, secret: str) -> Key | None:
        """Return the key with that secret from memory; None where it has to be verified."""
        return self.remembered.get(secret)

    def sub_key(self, primary: Key, secret: str) -> Key:
        """Return a key by its secret, where it belongs to that primary one.

        Raises ForbiddenError where that one is not primary, MissingError where it has no such key.
        """
        check_primary(primary)
        key = self.verify(secret)
        if key is None or key.parent != primary.id:
            raise MissingError("There is no such key")
        return key


def query() -> Select[Any]:
    """Return the question for keys, with what they have from their parents."""
    return select(
        table,
        parents.c.name.label("parent_name"),
        func.coalesce(table.c.rate_limit, parents.c.rate_limit).label("rate"),
        func.coalesce(table.c.monthly_quota, parents.c.monthly_quota).label("quota"),
        func.coalesce(table.c.revoked_at, parents.c.revoked_at).label("ended_at"),
    ).outerjoin(parents, parents.c.id == table.c.parent)


BY_DIGEST = query().where(table.c.digest == bindparam("wanted"))
"""Made once: each request asks it."""


def read(row: Row[Any]) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        parent=row.parent,
        parent_name=row.parent_name or "",
        is_primary=row.is_primary,
        rate_limit=row.rate,
        monthly_quota=row.quota,
        created_at=row.created_at,
        revoked_at=row.ended_at,
    )


def one(connection: Connection, condition: Any) -> Key:
    return read(connection.execute(query().where(condition)).one())


def check_primary(key: Key) -> None:
    if not key.is_primary:
        raise ForbiddenError("Only a primary key may manage keys")


def checked_name(name: object, *, is_path: bool = False) -> str:
    """Return a name without white space around it. Raises InvalidError for one that is not taken.

    With `is_path` it may not hold what stands between the two names of a path.
    """
    text = name.strip() if isinstance(name, str) else ""
    if not text or len(text) > LONGEST_NAME or not text.isprintable():
        raise InvalidError(f"'name' parameter must be a text of 1 to {LONGEST_NAME} characters")
    if is_path and SEPARATOR in text:
        raise InvalidError(f"'name' parameter must not contain {SEPARATOR}")
    return text


def checked_quota(quota: int | None) -> int | None:
    if quota is not None and not 0 <= quota <= LARGEST_QUOTA:
        raise InvalidError(f"'monthly_quota' parameter must be 0 to {LARGEST_QUOTA}")
    return quota


def taken(name: str) -> TakenError:
    return TakenError(f"There is a key named {shown(name)} already")
