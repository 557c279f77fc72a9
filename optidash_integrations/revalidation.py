"""Asking for a result again only where it has changed: validators of what was downloaded.

RFC 9110, section 13: an answer's `ETag` and `Last-Modified` go back as `If-None-Match` and
`If-Modified-Since`, and 304 says that the file here is still right.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from optidash_integrations.ledger import Ledger

logger = logging.getLogger(__name__)

TABLE = """
CREATE TABLE IF NOT EXISTS downloads (
    path TEXT PRIMARY KEY, url TEXT NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL,
    bytes INTEGER NOT NULL, changed INTEGER NOT NULL
)
"""


class Validators:
    """What answers told of the files that they were written to, in an SQLite file.

    A file that has another length, or was written by somebody else since, is asked for as if it
    were not there. Where the SQLite file fails, a line of the log says so, and all is downloaded.
    """

    def __init__(self, path: Path) -> None:
        self.ledger = Ledger(path)

    def headers_for(self, url: str, path: Path) -> Mapping[str, str]:
        """Return the conditions to ask for `url` with, where `path` holds what came from there."""
        try:
            with self.ledger.transaction() as db:
                db.execute(TABLE)
                row = db.execute(
                    "SELECT url, bytes, changed, etag, modified FROM downloads WHERE path = ?",
                    (str(path.absolute()),),
                ).fetchone()
        except (sqlite3.Error, OSError) as error:
            logger.warning("validators can't be read: %s", error)
            return {}
        length, changed = state_of(path)
        if row is None or length < 0 or tuple(row[:3]) != (digest_of(url), length, changed):
            return {}
        asked = {"if-none-match": str(row[3]), "if-modified-since": str(row[4])}
        return {name: value for name, value in asked.items() if value}

    def keep(self, url: str, path: Path, headers: Mapping[str, str]) -> None:
        """Take note of what an answer told of the file that was made of it."""
        told = headers.get("etag", ""), headers.get("last-modified", "")
        try:
            with self.ledger.transaction() as db:
                db.execute(TABLE)
                db.execute("DELETE FROM downloads WHERE path = ?", (str(path.absolute()),))
                if any(told):
                    row = str(path.absolute()), digest_of(url), *told, *state_of(path)
                    db.execute("INSERT INTO downloads VALUES (?, ?, ?, ?, ?, ?)", row)
        except (sqlite3.Error, OSError) as error:
            logger.warning("validators can't be kept: %s", error)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self.ledger.close()


def digest_of(url: str) -> str:
    """Return what stands for an address: there may be a signature in it."""
    return hashlib.sha256(url.encode()).hexdigest()


def state_of(path: Path) -> tuple[int, int]:
    """Return a file's length in bytes and when it was written, in nanoseconds; -1 of none."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
