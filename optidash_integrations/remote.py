"""Originals that lie on other hosts: downloaded, kept, and asked for anew now and then."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from cachetools import LRUCache

from optidash_integrations.cache.entry import Cache, Entry
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    BusyError,
    ImageTooLargeError,
    OptidashError,
    QueryError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.formats import HEAD_BYTES, detect
from optidash_integrations.places import Place, checked_source
from optidash_integrations.pool import Pool
from optidash_integrations.records import digest_of, hashed
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from optidash_integrations.variants import ImageData

if TYPE_CHECKING:
    from optidash_integrations.download import Download, Fetched

logger = logging.getLogger(__name__)

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
GONE = frozenset({401, 403, 404, 410, 451})
TROUBLE_SECONDS = 30.0
"""For so long an origin that failed is left alone."""

DOWNLOADS = 8
WAITING = 64
USER_AGENT = "optidash-integrations (image endpoint)"


class OriginError(BusyError):
    """The host that a remote image lies on failed, or gave something that can't be used."""

    public_status = 502
    public = "The image could not be fetched."


class OriginTimeoutError(OriginError):
    """It did not answer in time."""

    public_status = 504


class Remote:
    """Where remote originals come from; made once for a process and its settings.

    `download` fetches; `clock` gives seconds that only ever grow.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        download: Download | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.places = tuple(Place.of(text) for text in settings.remote_hosts)
        self.given_download = download
        self.clock = clock
        self.pool = Pool(DOWNLOADS, WAITING, name="optidash-remote")
        self.lock = threading.Lock()
        self.going_on: dict[tuple[str, str], Future[Any]] = {}
        self.troubles: LRUCache[str, tuple[float, OptidashError]] = LRUCache(10_000)

    @cached_property
    def download(self) -> Download:
        """What fetches; made at its first use, because it brings the HTTP library."""
        from optidash_integrations.download import Download

        return self.given_download or Download()

    def __bool__(self) -> bool:
        """Whether any host may be asked at all."""
        return bool(self.places)

    def find(self, url: str, store: Store) -> RemoteSource:
        """Return the image at an address. Raises QueryError where it may not be asked for."""
        checked = checked_source(url, self.places)
        return RemoteSource(f"remote:{checked}", checked, self, kept_in(store))

    def close(self) -> None:
        """Drop what waits; downloads that are going on end with the process."""
        self.pool.close()

    def begin(self, source: RemoteSource, what: str, work: Callable[[], Any]) -> Future[Any]:
        """Do something that may ask the origin, once for all who want the same at a time.

        Raises `QueueFullError`.
        """
        key = (source.name, what)
        with self.lock:
            future = self.going_on.get(key)
            if future is not None:
                return future
            future = self.going_on[key] = self.pool.submit(work).future
        future.add_done_callback(lambda _: self.going_on.pop(key, None))
        return future

    def fetch(self, url: str, conditions: Mapping[str, str]) -> Fetched:
        """Return an origin's answer: 200 with the bytes of an image, or 304.

        Raises `SourceNotFoundError`, `OriginError` or `ImageError`, and the same again, without
        asking, for a while.
        """
        with self.lock:
            until, trouble = self.troubles.get(url, (0.0, None))
        if trouble is not None and self.clock() < until:
            raise type(trouble)(str(trouble))
        try:
            return self.followed(url, conditions)
        except OptidashError as error:
            with self.lock:
                self.troubles[url] = (self.clock() + TROUBLE_SECONDS, error)
            raise

    def followed(self, url: str, conditions: Mapping[str, str]) -> Fetched:
        """Follow at most three redirects, each to a place that `remote_hosts` names."""
        ends = self.clock() + self.settings.timeout
        headers = {"user-agent": USER_AGENT, "accept": "image/*", "accept-encoding": "identity"}
        here = url
        for _ in range(MOST_REDIRECTS + 1):
            found = self.asked(here, headers | dict(conditions), ends - self.clock())
            if found.status not in REDIRECTS:
                return image_of(here, found, conditional=bool(conditions))
            here = self.next_place(here, found.headers.get("location", ""))
        raise OriginError(f"{host_of(url)} redirects more than {MOST_REDIRECTS} times")

    def asked(self, url: str, headers: Mapping[str, str], seconds: float) -> Fetched:
        if seconds <= 0:
            raise OriginTimeoutError(f"{host_of(url)} did not answer in time")
        limit = self.settings.max_input_bytes
        try:
            return self.download.get(url, headers, most_bytes=limit, seconds=seconds)
        except ApiTimeoutError as error:
            raise OriginTimeoutError(f"{host_of(url)} did not answer in time") from error
        except ImageTooLargeError as error:
            raise ImageTooLargeError(f"{host_of(url)}: {error}") from error
        except ApiError as error:
            raise OriginError(f"{host_of(url)}: {error}") from error

    def next_place(self, here: str, location: str) -> str:
        try:
            there = checked_source(urljoin(here, location), self.places)
        except (QueryError, ValueError) as error:
            raise OriginError(f"{host_of(here)} redirects elsewhere: {error}") from error
        if here.startswith("https:") and not there.startswith("https:"):
            raise OriginError(f"{host_of(here)} redirects from https to http")
        return there


def image_of(url: str, found: Fetched, *, conditional: bool) -> Fetched:
    """Return an answer that holds an image, or says that it has not changed; else raise."""
    if found.status == 304 and conditional:
        return found
    if found.status in GONE:
        raise SourceNotFoundError(f"{host_of(url)} answers {found.status}")
    if found.status != 200:
        raise OriginError(f"{host_of(url)} answers {found.status}")
    if found.headers.get("content-encoding", "identity") != "identity":
        raise OriginError(f"{host_of(url)} sends an encoded body that nobody asked for")
    if detect(found.content[:HEAD_BYTES]) is None:
        raise UnsupportedImageError(f"{host_of(url)} does not send an image")
    return found


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """An image on another host. Its bytes are kept in `cache`."""

    name: str
    url: str
    remote: Remote = field(repr=False)
    cache: Cache = field(repr=False)

    def validator(self) -> str:
        """Return what the origin says changes with the bytes, else their digest.

        An origin that fails leaves what is kept of it in use.
        """
        kept = self.kept()
        try:
            found = self.remote.fetch(self.url, conditions_of(kept))
        except SourceNotFoundError:
            self.cache.delete(self.key)
            raise
        except (OriginError, UnsupportedImageError) as error:
            if kept is None:
                raise
            logger.warning("%s is used as it was: %s", host_of(self.url), error)
            return str(kept.meta["validator"])
        if found.status == 304 and kept is not None:
            return str(kept.meta["validator"])
        return str(self.keep(found).meta["validator"])

    def read(self, max_bytes: int) -> ImageData:
        """Return the bytes that are kept, else ask the origin for them."""
        entry = self.kept() or self.keep(self.remote.fetch(self.url, {}))
        if entry.body is None:
            raise SourceChangedError("what was kept of it is gone")
        if entry.size > max_bytes:
            raise ImageTooLargeError(f"{host_of(self.url)} sends more than {max_bytes} bytes")
        return entry.body

    @property
    def key(self) -> str:
        """The cache key of its bytes."""
        return "o-" + hashed(self.name)

    def kept(self) -> Entry | None:
        entry = self.cache.get(self.key)
        return entry if entry is not None and "validator" in entry.meta else None

    def keep(self, found: Fetched) -> Entry:
        told = {n: found.headers[n] for n in ("etag", "last-modified") if n in found.headers}
        digest = digest_of(found.content)
        validator = told.get("etag") or told.get("last-modified") or digest
        meta = {"kind": "original", "validator": validator, **told}
        entry = Entry(meta, found.content, source=digest)
        self.cache.put(self.key, entry)
        return entry


def conditions_of(kept: Entry | None) -> dict[str, str]:
    """Return the header fields that ask whether what is kept is still the present one."""
    if kept is None:
        return {}
    names = {"etag": "if-none-match", "last-modified": "if-modified-since"}
    return {field: str(kept.meta[told]) for told, field in names.items() if told in kept.meta}


def kept_in(store: Store) -> Cache:
    """Return the tier for originals: not memory, which variants need, where there is another."""
    return store.lower[0] if store.lower else store.memory


def host_of(url: str) -> str:
    """Return an address's host: the rest of it may hold a secret."""
    return urlsplit(url).hostname or "the host"
