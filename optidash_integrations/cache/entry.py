"""What a cache holds, and what every tier can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KEY = re.compile(r"(?:[a-z0-9]{1,8}-)?[0-9a-f]{16,128}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached thing: JSON-able facts, and a body of bytes, in a file, or none.

    `source` tags what it was made from. A body in a file, of `length` bytes, may be evicted by
    another process: whoever sends it opens it first.
    """

    meta: Mapping[str, object]
    body: bytes | Path | None = None
    source: str = ""
    length: int = 0

    @property
    def size(self) -> int:
        """The body's length in bytes."""
        if isinstance(self.body, bytes):
            return len(self.body)
        return self.length


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How a tier is doing: what it holds now, and what happened since it was opened."""

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int


class Cache(Protocol):
    """A tier. `get` and `put` never raise for a failing medium: they miss, and log it."""

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry in place of an earlier one."""

    def delete(self, key: str) -> None:
        """Forget an entry."""

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""

    def clear(self) -> None:
        """Forget everything."""

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""


def checked(key: str) -> str:
    """Return a key; raises ValueError for one that could be anything else than a name."""
    if not KEY.fullmatch(key):
        raise ValueError(f"a cache key is lower-case hex, after a short prefix, not {key!r}")
    return key
