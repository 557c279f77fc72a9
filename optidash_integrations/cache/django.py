"""The tier in one of a Django site's own caches.

    optidash:generation             a token; another one forgets everything
    optidash:<token>:e:<key>        an entry
    optidash:<token>:s:<tag>        the keys of a source, which `tag` stands for, one a line
    optidash:<token>:f:<tag>        the sources of a family, which `tag` stands for, one a line

Values are plain bytes, and only bytes are read. How a backend wraps them is its own affair:
Django's pickle what they are given, so whoever may write there may do more than here.

A Django cache can't be walked through, so entries and bytes are not counted, and a source's keys
are read, changed and written: when two processes do so at once, one's key may be missing.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from optidash_integrations.cache.entry import CacheStats, Entry, checked, family_of, is_key
from optidash_integrations.cache.files import DamagedError
from optidash_integrations.cache.shared import (
    LIFETIME,
    MAX_BODY_BYTES,
    Locked,
    Medium,
    Notes,
    missing,
    options,
    packed,
    split,
    tag_of,
    unpacked,
    wrong,
)

if TYPE_CHECKING:
    from django.core.cache import BaseCache

logger = logging.getLogger(__name__)

ROOT = "optidash:"
GENERATION = ROOT + "generation"
TOKEN = re.compile(r"[0-9a-f]{16}")
INDEX_KEYS = 2000

# Whoever uses an entry need not know its source: so its source's keys are kept for longer.
INDEX_LIFETIMES = 2


class DjangoCache(Locked):
    """Entries in the Django cache `alias`, each for `lifetime` seconds since stored or used.

    A body of more than `max_body_bytes` is not stored; the cache may have a lower bound of its
    own. `touch` waits for nothing: what was used is sent along with the next `get` or `put`.
    `clock` gives seconds.
    """

    def __init__(
        self,
        alias: str,
        *,
        lifetime: int = LIFETIME,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.alias = alias
        self.lifetime = lifetime
        self.max_body_bytes = max_body_bytes
        # Each backend has errors of its own, and a visitor gets an image whatever they are.
        self.medium = Medium(f"the Django cache {alias}", (Exception,), (), logger, clock)
        self.notes = Notes(clock)
        self.token = ""
        self.hits = self.misses = 0

    @classmethod
    def of(cls, url: str) -> DjangoCache:
        """Open the tier that an address names; raises SettingsError."""
        parts = split(url)
        options(parts, frozenset())
        alias = parts.netloc
        if not alias or parts.path.strip("/") or "@" in alias or alias not in aliases():
            raise wrong("names no cache of the CACHES setting: it is written django://alias")
        return cls(alias)

    @property
    def backend(self) -> BaseCache:
        """The cache, of which Django has one for each thread."""
        from django.core.cache import caches

        return caches[self.alias]

    # Names

    def generation(self) -> str:
        """Return the present token, made where there is none: the first of all processes' counts.

        It is random, not a number: a cache that has lost it must not start at 1 again.
        """
        token = self.backend.get(GENERATION)
        if not is_token(token):
            if token is not None:
                self.backend.delete(GENERATION)
            self.backend.add(GENERATION, secrets.token_hex(8), None)
            token = self.backend.get(GENERATION)
        self.token = token if is_token(token) else ""
        return self.token

    def name(self, key: str, token: str) -> str:
        return f"{ROOT}{token}:e:{key}"

    def family(self, family: str, token: str) -> str:
        return f"{ROOT}{token}:f:{tag_of(family)}"

    def index(self, tag: str, token: str) -> str:
        return f"{ROOT}{token}:s:{tag}"

    # Reading

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is dropped."""
        entry = self.read(key) if is_key(key) else None
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        self.notes.add(f"e:{key}")
        if entry.source:
            self.notes.add(f"s:{tag_of(entry.source)}")
        return entry

    def read(self, key: str) -> Entry | None:
        value = self.medium.ask(lambda: self.fetch(key), None)
        if value is None:
            return None
        try:
            return unpacked(value)
        except DamagedError as error:
            what = f"a damaged entry in the Django cache {self.alias} was dropped"
            self.medium.complaints.add(what, error)
            self.delete(key)
            return None

    def fetch(self, key: str) -> object:
        """Return a value or None; the token and the value it names come with one request."""
        self.send_notes()
        name = self.name(key, self.token)
        found = self.backend.get_many([GENERATION, name])
        if self.token and found.get(GENERATION) == self.token:
            return found.get(name)
        return self.backend.get(self.name(key, self.generation()))

    def touch(self, key: str) -> None:
        """Note that an entry was used, so that it lives on; sent later, and rarely."""
        if is_key(key):
            self.notes.add(f"e:{key}")

    def send_notes(self) -> None:
        for note in self.notes.take():
            lives = 1 if note.startswith("e:") else INDEX_LIFETIMES
            self.backend.touch(f"{ROOT}{self.token}:{note}", lives * self.lifetime)

    # Writing

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry; one whose body is too long only takes away what it replaces.

        Raises ValueError for a key that is none, and ValueError or TypeError for facts that are
        not JSON.
        """
        checked(key)
        try:
            value = packed(entry, self.max_body_bytes)
        except OSError as error:
            what = f"a body's file can't be read for the Django cache {self.alias}"
            self.medium.complaints.add(what, error)
            return
        if value is None:
            self.delete(key)
        elif self.medium.ask(lambda: self.store(key, entry.source, value), False):
            self.notes.stored(f"e:{key}")

    def store(self, key: str, source: str, value: bytes) -> bool:
        token = self.generation()
        if source:
            self.add_to_index(self.index(tag_of(source), token), key)
        if family := family_of(source):
            self.add_to_index(self.family(family, token), source)
        self.backend.set(self.name(key, token), value, self.lifetime)
        return True

    def add_to_index(self, name: str, key: str) -> None:
        with self.lock:  # at least the threads of one process don't lose each other's keys
            keys = [other for other in self.lines(name) if other != key]
            content = "\n".join([*keys[-INDEX_KEYS:], key]).encode()
            self.backend.set(name, content, INDEX_LIFETIMES * self.lifetime)

    def listed(self, name: str) -> list[str]:
        """Return the keys that an index names."""
        return [key for key in self.lines(name) if is_key(key)]

    def lines(self, name: str) -> list[str]:
        content = self.backend.get(name)
        return content.decode("utf-8", "replace").split("\n") if isinstance(content, bytes) else []

    # Deleting: asked for during a pause, too, since what is left out lives on for weeks

    def delete(self, key: str) -> None:
        """Forget an entry."""
        if is_key(key):
            self.medium.ask(
                lambda: self.backend.delete(self.name(key, self.generation())), False, always=True
            )

    def delete_source(self, source: str) -> int:
        """Forget the entries made from this source; return how many there were, as far as known."""
        if not source:
            return 0
        return self.medium.ask(lambda: self.remove_source(source), 0, always=True)

    def remove_source(self, source: str) -> int:
        token = self.generation()
        index = self.index(tag_of(source), token)
        with self.lock:
            names = [self.name(key, token) for key in self.listed(index)]
            ours = [name for name in names if self.source_of(name) == source]
            self.backend.delete_many([*ours, index])
            if family := family_of(source):
                name = self.family(family, token)
                others = [other for other in self.lines(name) if other != source]
                self.backend.set(name, "\n".join(others).encode(), INDEX_LIFETIMES * self.lifetime)
        return len(ours)

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources of a family; those of several can't be found in a Django cache."""
        if family_of(start) != start:
            return set()
        return self.medium.ask(lambda: self.members(start), set())

    def members(self, family: str) -> set[str]:
        lines = self.lines(self.family(family, self.generation()))
        return {source for source in lines if source.startswith(family)}

    def source_of(self, name: str) -> str:
        with suppress(DamagedError):
            return unpacked(self.backend.get(name)).source
        return ""

    def clear(self) -> None:
        """Forget everything that is ours, and nothing else in the cache."""
        self.medium.ask(self.begin_anew, None, always=True)

    def begin_anew(self) -> None:
        self.token = secrets.token_hex(8)
        self.backend.set(GENERATION, self.token, None)

    # Looking around

    def stats(self) -> CacheStats:
        """Return hits and misses; what a Django cache holds can't be counted, and is given as 0."""
        return CacheStats(0, 0, self.hits, self.misses, 0)

    def close(self) -> None:
        """Send what was noted, and let the cache close its connections."""
        self.medium.ask(self.finish, None)

    def finish(self) -> None:
        self.send_notes()
        self.backend.close()


def is_token(value: object) -> bool:
    return isinstance(value, str) and TOKEN.fullmatch(value) is not None


def aliases() -> set[str]:
    """Return the names of the site's caches; raises SettingsError without Django."""
    try:
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
    except ModuleNotFoundError as error:
        raise missing(error, "django", "django") from error
    try:
        return set(settings.CACHES)
    except ImproperlyConfigured:
        raise wrong("names a Django cache, but Django has no settings here") from None
