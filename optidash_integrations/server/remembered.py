"""Keys that were verified a moment ago, in memory: most requests come with one of them."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optidash_integrations.server.database import Database, Mark
    from optidash_integrations.server.keys import Key

SECONDS = 1.0
"""How long a key is believed without being looked up, where the database can't say that nobody has
written since."""

MOST = 10_000


class Remembered:
    """Keys by a keyed hash of their secrets; the secrets themselves are not kept.

    With SQLite a key is forgotten as soon as anything was written to the database, by whomever;
    with PostgreSQL after `SECONDS`. So a revoked key is out at once, or within that time. `clock`
    gives seconds that only ever grow. Nothing here waits for anything.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self.database = database
        self.clock = clock
        self.salt = secrets.token_bytes(32)
        self.found: dict[bytes, tuple[Key, Mark | None, float]] = {}

    def get(self, secret: str) -> Key | None:
        """Return the key with that secret; None where it has to be looked up."""
        entry = self.found.get(self.name_of(secret))
        if entry is None:
            return None
        key, mark, until = entry
        is_valid = self.clock() < until if mark is None else mark == self.database.mark()
        return key if is_valid else None

    def add(self, secret: str, key: Key, mark: Mark | None) -> None:
        """Remember a key that is in use; `mark` is the database's from before it was looked up."""
        if mark is None and self.database.is_sqlite:
            return
        if len(self.found) >= MOST:
            self.clear()
        self.found[self.name_of(secret)] = key, mark, self.clock() + SECONDS

    def clear(self) -> None:
        """Forget all."""
        self.found.clear()

    def name_of(self, secret: str) -> bytes:
        return hashlib.blake2b(secret.encode("utf-8", "replace"), key=self.salt).digest()
