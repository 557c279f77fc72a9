"""The object store tier: S3, Google Cloud Storage, Azure, through obstore.

    <path>/entries/<key>          an entry: the facts in front, then the body
    <path>/sources/<tag>/<key>    empty: this entry was made from the source that `tag` stands for
    <path>/families/<tag>/<tag>   a source, which the second tag stands for, of the first's family

One object an entry, and not two: a hit is one request, and a reader never meets the facts of one
version with the body of another, since a store replaces an object as a whole. What was made from
a source is found by listing its own prefix. An entry lives until it is deleted: use a lifecycle
rule of the bucket for the rest.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlunsplit

from obstore.exceptions import BaseError, GenericError
from obstore.store import from_url

from optidash_integrations.cache.entry import KEY, CacheStats, Entry, checked, family_of, is_key
from optidash_integrations.cache.files import DamagedError
from optidash_integrations.cache.shared import (
    MAGIC,
    TAG,
    Medium,
    options,
    packed,
    split,
    tag_of,
    unpacked,
    wrong,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
FACTS_BYTES = 1024 * 1024
FOLDER = "optidash"
BATCH = 1000

# Without these obstore waits half a minute for an answer, and tries again for three.
CLIENT: ClientConfig = {"connect_timeout": "1s", "timeout": "4s"}
RETRY: RetryConfig = {
    "max_retries": 1,
    "retry_timeout": timedelta(seconds=1),
    "backoff": {
        "init_backoff": timedelta(milliseconds=50),
        "max_backoff": timedelta(milliseconds=200),
        "base": 2,
    },
}

# Of obstore's options those that fit into an address; the rest comes from the environment.
COMMON = frozenset({"allow_http", "endpoint", "skip_signature"})
KNOWN: Mapping[str, frozenset[str]] = {
    "s3": COMMON
    | {
        "access_key_id",
        "region",
        "request_payer",
        "secret_access_key",
        "server_side_encryption",
        "session_token",
        "sse_kms_key_id",
        "virtual_hosted_style_request",
    },
    "gs": (COMMON - {"endpoint"}) | {"application_credentials", "service_account"},
    "az": COMMON
    | {"account_key", "account_name", "client_id", "client_secret", "sas_key", "tenant_id"},
}

TAG_NAME = "[0-9a-f]{32}"
OURS = re.compile(
    rf"entries/{KEY.pattern}|sources/{TAG_NAME}/{KEY.pattern}|families/{TAG_NAME}/{TAG_NAME}"
)


class ForkedStoreError(Exception):
    """obstore was used before this process was forked: its threads are not in the child."""


USED_IN: list[int] = []


def check_fork() -> None:
    """Raise ForkedStoreError where obstore would wait for ever for threads of the parent."""
    here = os.getpid()
    if not USED_IN:
        USED_IN.append(here)
    if USED_IN[0] != here:
        raise ForkedStoreError(
            "an object store was used before this process was forked; "
            "let the server load the application in its workers"
        )


def open_store(url: str) -> ObjectStore:
    """Open the store that an address names; raises SettingsError, without its secrets."""
    parts = split(url)
    if "@" in parts.netloc:
        raise wrong("takes credentials in its query or from the environment, not before an @")
    given = options(parts, KNOWN.get(parts.scheme, frozenset()))
    if parts.scheme in KNOWN and not parts.netloc:
        raise wrong(f"names no bucket: it is written {parts.scheme}://bucket/path")
    more = choices(parts, given)
    plain = urlunsplit(parts._replace(query="", fragment="", netloc=parts.netloc or ""))
    if parts.scheme == "memory":
        plain = "memory:///"
    try:
        store: ObjectStore = from_url(plain, **more)
    except (BaseError, OSError, TypeError, ValueError) as error:
        raise wrong(f"can't be opened: {redacted(error, given)}") from None
    return store


def choices(parts: SplitResult, given: dict[str, str]) -> dict[str, Any]:
    """Return what obstore is told beside the address."""
    if parts.scheme == "file":
        return {"mkdir": True}
    if parts.scheme == "memory":
        return {}
    client: ClientConfig = dict(CLIENT)  # type: ignore[assignment]
    if is_yes(given.pop("allow_http", "")):
        client["allow_http"] = True
    return {"config": given, "client_options": client, "retry_config": RETRY}


def is_yes(value: str) -> bool:
    return value.lower() in ("1", "on", "true", "yes")


def redacted(error: Exception, given: Mapping[str, str]) -> str:
    """Return an error's first line without any of the values that were given."""
    text = str(error).partition("\n")[0]
    for value in sorted(filter(None, given.values()), key=len, reverse=True):
        text = text.replace(value, "~")
    return text[:200]


def folder_of(url: str) -> str:
    """Return what all names in the store start with; obstore adds the address's own path."""
    parts = split(url)
    return "" if parts.path.strip("/") else f"{FOLDER}/"


class ObjectCache:
    """Entries in a bucket, below one path of it.

    A body of more than `max_body_bytes` is not stored. `clock` gives seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        folder: str = "",
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.folder = folder
        self.max_body_bytes = max_body_bytes
        # A missing right (403) is an answer, and without the right to list, so is a missing object.
        gone = (GenericError, OSError, ForkedStoreError)
        self.medium = Medium("the object store", gone, (BaseError,), logger, clock)
        self.hits = self.misses = 0

    @classmethod
    def of(cls, url: str) -> ObjectCache:
        """Open the tier that an address names; raises SettingsError."""
        return cls(open_store(url), folder_of(url))

    def name(self, key: str) -> str:
        return f"{self.folder}entries/{key}"

    def index(self, tag: str, key: str = "") -> str:
        return f"{self.folder}sources/{tag}/{key}"

    def ask(self, question: Callable[[], Any], otherwise: Any, *, always: bool = False) -> Any:
        def asked() -> Any:
            check_fork()
            return question()

        return self.medium.ask(asked, otherwise, always=always)

    # Reading

    def get(self, key: str) -> Entry | None:
        """Return an entry or None; a damaged one is dropped."""
        entry = self.read(key) if is_key(key) else None
        if entry is None:
            self.misses += 1
        else:
            self.hits += 1
        return entry

    def read(self, key: str) -> Entry | None:
        try:
            value = self.ask(lambda: self.fetch(key), None)
            return None if value is None else unpacked(value)
        except DamagedError as error:
            self.medium.complaints.add("a damaged entry in the object store was dropped", error)
            self.ask(lambda: self.remove([self.name(key)]), None)
            return None

    def fetch(self, key: str) -> bytes | None:
        try:
            result = self.store.get(self.name(key))
            if result.meta["size"] > self.max_body_bytes + FACTS_BYTES:
                raise DamagedError("the object is too long to be ours")
            return result.bytes().to_bytes()
        except FileNotFoundError:
            return None

    def touch(self, key: str) -> None:
        """Do nothing: an object's age can't be changed, and no use of it is counted."""

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
            self.medium.complaints.add("a body's file can't be read for the object store", error)
            return
        if value is None:
            self.delete(key)
        else:
            self.ask(lambda: self.write(key, entry.source, value), None)

    def write(self, key: str, source: str, value: bytes) -> None:
        if source:  # first: an entry that is there is always found by its source
            self.store.put(self.index(tag_of(source), key), b"", use_multipart=False)
        if family := family_of(source):
            self.store.put(self.member(family, source), source.encode(), use_multipart=False)
        self.store.put(self.name(key), value, use_multipart=False)

    # Deleting: asked for during a pause, too, since what is left out lives on

    def delete(self, key: str) -> None:
        """Forget an entry."""
        if is_key(key):
            self.ask(lambda: self.remove_entry(key), None, always=True)

    def remove_entry(self, key: str) -> None:
        tag = self.tag(key)
        if tag is not None:
            self.remove([self.name(key), self.index(tag, key)])

    def tag(self, key: str) -> str | None:
        """Return the tag in an entry's head, or None where there is no entry."""
        try:
            head = self.store.get_range(self.name(key), start=0, end=TAG.stop).to_bytes()
        except FileNotFoundError:
            return None
        return head[TAG].decode("ascii", "replace") if head.startswith(MAGIC) else ""

    def delete_source(self, source: str) -> int:
        """Forget all entries made from this source; return how many there were."""
        if not source:
            return 0
        count: int = self.ask(lambda: self.remove_source(source), 0, always=True)
        return count

    def remove_source(self, source: str) -> int:
        tag, family = tag_of(source), family_of(source)
        listed = [name for name, _ in self.listing(self.index(tag))]
        keys = [name.rpartition("/")[2] for name in listed]
        ours = [self.name(key) for key in keys if self.tag(key) == tag]
        self.remove([*ours, *listed, *([self.member(family, source)] if family else [])])
        return len(ours)

    def sources(self, start: str, *, complete: bool = True) -> set[str]:
        """Return the sources of a family, or those of all families that start so.

        Each is read, one by one.
        """
        found: set[str] = self.ask(lambda: self.members(start), set())
        return found

    def members(self, start: str) -> set[str]:
        below = f"{tag_of(start)}/" if family_of(start) == start else ""
        names = [name for name, _ in self.listing(f"{self.folder}families/{below}")]
        return {source for source in map(self.text, names) if source.startswith(start)}

    def text(self, name: str) -> str:
        try:
            return self.store.get(name).bytes().to_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def member(self, family: str, source: str) -> str:
        return f"{self.folder}families/{tag_of(family)}/{tag_of(source)}"

    def remove(self, names: list[str]) -> None:
        for start in range(0, len(names), BATCH):
            some = names[start : start + BATCH]
            try:
                self.store.delete(some)
            except FileNotFoundError:  # stores differ in whether a missing one stops the rest
                self.remove_each(some)

    def remove_each(self, names: list[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                self.store.delete(name)

    def clear(self) -> None:
        """Forget everything that is the cache's own, and nothing else in the bucket."""
        self.ask(self.remove_all, None, always=True)

    def remove_all(self) -> None:
        for folder in ("entries/", "sources/", "families/"):
            self.remove([name for name, _ in self.listing(self.folder + folder)])

    def listing(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the names of ours that start so, with their sizes."""
        for some in self.store.list(prefix, chunk_size=BATCH):
            for item in some:
                if OURS.fullmatch(item["path"].removeprefix(self.folder)):
                    yield item["path"], item["size"]

    # Looking around

    def stats(self) -> CacheStats:
        """Return how the tier is doing; it lists all entries."""
        sizes = self.ask(self.sizes, [])
        return CacheStats(len(sizes), sum(sizes), self.hits, self.misses, 0)

    def sizes(self) -> list[int]:
        return [size for _, size in self.listing(f"{self.folder}entries/")]

    def close(self) -> None:
        """Do nothing: obstore closes its connections by itself."""
