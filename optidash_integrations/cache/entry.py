"""What a cache holds, and what every tier can do."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KEY = re.compile(r"(?:[a-z][a-z0-9]{0,7}-)?[0-9a-f]{16,128}")

LOG_SECONDS = 60.0


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Entry:
    """One cached thing: facts, and a body of bytes, in a file, or none.

    `meta` is plain JSON (lists, not tuples) and is never changed afterwards: the memory tier
    hands the same mapping to everybody. `source` tags what the entry was made from. Where it has a
    `#`, it belongs to a family: all that stands up to its last one.

    A body in a file, of `length` bytes, is opened by whoever sends it. What the file holds never
    changes, and once open it stays readable; but it may be evicted before, by another process
    too. Who meets FileNotFoundError deletes the key from the cache and goes on as after a miss.
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
    """How a tier is doing.

    `entries` and `bytes` are what it holds now, `bytes` as its budget counts them; `hits`,
    `misses` and `evictions` are what happened in this process since the tier was opened.
    """

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int


class Cache(Protocol):
    """A tier.

    A medium that fails raises nothing: `get` misses, the others do what they can, and a log line
    says so once a minute. Keys are lower-case hex, after a short prefix if need be (`r-`); `get`
    and `delete` know of no other, `put` raises ValueError for one, and for facts that JSON does
    not know ValueError or TypeError.
    """

    def get(self, key: str) -> Entry | None:
        """Return an entry or None."""

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry in place of an earlier one; one above the whole budget is not kept."""

    def touch(self, key: str) -> None:
        """Note that an entry was used, without reading it."""

    def delete(self, key: str) -> None:
        """Forget an entry."""

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources that start so and have entries, as far as the tier can tell.

        Every tier tells those of a family, where `start` is all of it. `complete` says that it may
        take long: without it an index that is being made anew tells what it has.
        """

    def clear(self) -> None:
        """Forget everything."""

    def stats(self) -> CacheStats:
        """Return how the tier is doing."""

    def close(self) -> None:
        """Give back files and connections; the next use opens them again."""


def family_of(source: str) -> str:
    """Return the family that a source belongs to, or nothing."""
    return source[: source.rfind("#") + 1]


def is_key(key: str) -> bool:
    """Tell whether a key is one that `put` takes."""
    return KEY.fullmatch(key) is not None


def checked(key: str) -> str:
    """Return a key; raises ValueError for one that could be anything else than a name."""
    if not is_key(key):
        raise ValueError(f"a cache key is lower-case hex, after a short prefix, not {key!r}")
    return key


class Complaints:
    """A log that says the same thing once a minute; `clock` gives seconds."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self.logger = logger
        self.clock = clock
        self.said: dict[str, float] = {}

    def add(self, what: str, error: BaseException) -> None:
        """Log a warning about something that failed, unless that was done lately."""
        now = self.clock()
        # A clock that was set back must not silence the log.
        if 0 <= now - self.said.get(what, float("-inf")) < LOG_SECONDS:
            return
        self.said[what] = now
        self.logger.warning("%s: %s: %s", what, type(error).__name__, error)
