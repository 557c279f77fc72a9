"""What the shared tiers have in common: opening one, the stored value, a medium that may fail.

open_shared     the tier that a `cache_url` names
packed, unpacked    an entry as one value: facts in front, then the body; nothing is unpickled
Medium          leaves a server alone for a while after it failed
Notes           what was used, until the next time that the server is asked anyway
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, urlsplit
from weakref import WeakSet

from optidash_integrations.cache.entry import Cache, Complaints, Entry
from optidash_integrations.cache.files import DamagedError, Facts, mark_of
from optidash_integrations.errors import SettingsError

T = TypeVar("T")

LIFETIME = 30 * 24 * 3600
MAX_BODY_BYTES = 8 * 1024 * 1024

# How often the use of an entry is noted, how many notes a process remembers having made, and how
# many wait to be sent.
TOUCH_SECONDS = 600.0
TOUCHED = 10_000
NOTES = 500

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

TAKES = "redis://, rediss://, s3://, gs://, az:// or django:// addresses"

# Opening


def open_shared(url: str) -> Cache:
    """Open the tier that an address names; nothing is connected yet.

    Raises SettingsError where the address is wrong or a package is missing; its sentence shows
    nothing that may be a password.
    """
    parts = split(url)
    opener = OPENERS.get(parts.scheme)
    if opener is None:
        raise wrong(f"takes {TAKES}, not {parts.scheme}://")
    return opener(url)


def open_redis(url: str) -> Cache:
    try:
        from optidash_integrations.cache.redis import RedisCache
    except ModuleNotFoundError as error:
        raise missing(error, "redis", "redis") from error
    return RedisCache.of(url)


def open_objects(url: str) -> Cache:
    try:
        from optidash_integrations.cache.objects import ObjectCache
    except ModuleNotFoundError as error:
        raise missing(error, "obstore", "storage") from error
    return ObjectCache.of(url)


def open_django(url: str) -> Cache:
    from optidash_integrations.cache.django import DjangoCache

    return DjangoCache.of(url)


OPENERS: Mapping[str, Callable[[str], Cache]] = {
    "redis": open_redis,
    "rediss": open_redis,
    "s3": open_objects,
    "gs": open_objects,
    "az": open_objects,
    "memory": open_objects,
    "file": open_objects,
    "django": open_django,
}


def missing(error: ModuleNotFoundError, package: str, extra: str) -> Exception:
    """Return what to raise when a module is missing: only the package itself has an extra."""
    if error.name is None or error.name.partition(".")[0] != package:
        return error
    return wrong(f'needs a package: pip install "optidash-integrations[{extra}]"')


def wrong(what: str) -> SettingsError:
    """Return an error with one sentence about `cache_url`."""
    return SettingsError([f"cache_url {what}"])


def split(url: str) -> SplitResult:
    """Split an address; raises SettingsError, without its text, where it is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  it raises
    except ValueError:
        raise wrong("is not an address: its host or port can't be read") from None
    if not parts.scheme or "://" not in url:
        raise wrong(f"takes {TAKES}")
    return parts


def options(parts: SplitResult, known: frozenset[str]) -> dict[str, str]:
    """Read an address's query; raises SettingsError for a name that is not `known`."""
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise wrong("has a query that can't be read") from None
    given = dict(pairs)
    if not known.issuperset(given):
        names = ", ".join(sorted(known))
        raise wrong(f"has an option that is not known; {parts.scheme}:// knows {names}")
    return given


# The stored value

# Magic, 32 digits that stand for the source, then the length and the CRC-32 of the facts, 8 digits
# each. The tag has a fixed place, so that a server can compare it without reading the rest.
MAGIC = b"odc1"
TAG = slice(4, 36)
HEAD = re.compile(rb"odc1([0-9a-f]{32})([0-9a-f]{8})([0-9a-f]{8})")
HEAD_BYTES = 52


def tag_of(source: str) -> str:
    """Return 32 digits that stand for a source."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def packed(entry: Entry, max_body_bytes: int) -> bytes | None:
    """Return an entry as one value, or None where its body is too long.

    Raises TypeError or ValueError where the facts are not JSON, OSError where the body's file
    can't be read.
    """
    body: bytes | None
    if isinstance(entry.body, Path):
        with entry.body.open("rb") as file:
            body = file.read(max_body_bytes + 1)
    else:
        body = entry.body
    mark = None if body is None else mark_of(body)
    facts = Facts(entry.meta, entry.source, len(body or b""), mark).to_json()
    if len(body or b"") > max_body_bytes:
        return None
    head = f"{tag_of(entry.source)}{len(facts):08x}{mark_of(facts)}"
    return b"".join((MAGIC, head.encode(), facts, body or b""))


def unpacked(value: object) -> Entry:
    """Read a value; raises DamagedError where it is not as `packed` made it."""
    if not isinstance(value, bytes):
        raise DamagedError("the value is not ours")
    head = HEAD.match(value)
    if head is None:
        raise DamagedError("the head is not ours")
    end = HEAD_BYTES + int(head[2], 16)
    content = value[HEAD_BYTES:end]
    if mark_of(content).encode() != head[3]:
        raise DamagedError("the facts are not those that were written")
    facts = Facts.from_json(content)
    if facts.mark is None:
        return Entry(facts.meta, None, facts.source)
    body = value[end:]
    if len(body) != facts.length or mark_of(body) != facts.mark:
        raise DamagedError("the body is not the one that was written")
    return Entry(facts.meta, body, facts.source)


# Locks


class Locked:
    """Has a lock, which is a new one in a forked child: another thread may have held it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        LOCKED.add(self)


LOCKED: WeakSet[Locked] = WeakSet()


def renew_locks() -> None:
    for owner in LOCKED:
        owner.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_locks)


# The medium


class Medium(Locked):
    """A server that may fail, and is then left alone for a second, doubling to 30.

    `gone` are the errors that mean so; after `refused` ones it is asked again at once, since it
    did answer. When the pause is over one caller tries, while the others still do without.
    `recover` is called after a failure. `clock` gives seconds.
    """

    def __init__(
        self,
        name: str,
        gone: tuple[type[Exception], ...],
        refused: tuple[type[Exception], ...],
        logger: logging.Logger,
        clock: Callable[[], float],
        recover: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.name = name
        self.gone = gone
        self.refused = refused
        self.clock = clock
        self.recover = recover
        self.complaints = Complaints(logger, clock)
        self.pause = 0.0
        self.until = 0.0
        self.turn = 0

    def ask(self, question: Callable[[], T], otherwise: T, *, always: bool = False) -> T:
        """Return the answer to a question, or `otherwise` where there is none.

        `always` asks during a pause, too: for what must not be left out, and is rare.
        """
        turn = self.may_ask(always=always)
        if turn is None:
            return otherwise
        try:
            answer = question()
        except self.gone as error:
            self.failed(turn, error)
            return otherwise
        except self.refused as error:
            self.complaints.add(f"{self.name} refused", shown_error(error))
            return otherwise
        self.answered(turn)
        return answer

    def may_ask(self, *, always: bool = False) -> int | None:
        """Return the number of this turn, or None during a pause."""
        with self.lock:
            if self.pause:
                now = self.clock()
                # A clock that was set back must not prolong the pause.
                if 0 < self.until - now <= LONGEST_PAUSE and not always:
                    return None
                self.until = now + self.pause
            return self.turn

    def failed(self, turn: int, error: Exception) -> None:
        """Begin a pause; those who asked in the same turn don't make it longer."""
        with self.lock:
            if turn == self.turn:
                self.turn += 1
                self.pause = min(self.pause * 2, LONGEST_PAUSE) if self.pause else FIRST_PAUSE
                self.until = self.clock() + self.pause
        self.complaints.add(f"{self.name} failed and is left alone", shown_error(error))
        self.recover()

    def answered(self, turn: int) -> None:
        """End the pause; an answer to what was asked before it began says nothing."""
        with self.lock:
            if turn == self.turn:
                self.pause = 0.0


class MediumError(Exception):
    """What a medium's error says, fit for a log."""


QUERY = re.compile(r"\?\S*")


def shown_error(error: Exception) -> MediumError:
    """Return an error's first line, without the queries of addresses: they may hold a signature."""
    text = str(error).partition("\n")[0]
    return MediumError(f"{type(error).__name__}: {QUERY.sub('', text)[:300]}")


# Notes


class Notes(Locked):
    """Which entries were used lately, to be sent along when the server is asked anyway.

    So `touch` costs no round trip: it is called for hits in memory, which wait for nothing.
    `clock` gives seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self.clock = clock
        self.touched: dict[str, float] = {}
        self.waiting: list[str] = []

    def add(self, key: str) -> None:
        """Note that an entry was used, unless that was done in the last ten minutes."""
        with self.lock:
            now = self.clock()
            due = not 0 <= now - self.touched.get(key, float("-inf")) < TOUCH_SECONDS
            if due and len(self.waiting) < NOTES:
                self.remember(key, now)
                self.waiting.append(key)

    def stored(self, key: str) -> None:
        """Note that an entry was just written, so needs no note for ten minutes."""
        with self.lock:
            self.remember(key, self.clock())

    def remember(self, key: str, now: float) -> None:
        if len(self.touched) >= TOUCHED:
            self.touched = {}
        self.touched[key] = now

    def take(self) -> list[str]:
        """Return the keys that wait to be sent, once."""
        with self.lock:
            keys, self.waiting = self.waiting, []
            return keys
