"""What is sent: a variant, or the original in its place, inside what the app said of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from optidash_integrations.cache.entry import Entry
from optidash_integrations.exchange import Answer, Body, FileBody, Head, Request
from optidash_integrations.formats import of_media_type
from optidash_integrations.headers import (
    PRIVATE,
    Representation,
    build,
    cache_status,
    capped,
    kept_headers,
    seconds_of,
)
from optidash_integrations.records import SourceRecord, hashed
from optidash_integrations.variants import ImageData
from optidash_integrations.wishes import Choice

HIT = ("hit",)
STORED = ("fwd=uri-miss", "stored")
COLLAPSED = ("fwd=uri-miss", "collapsed")
MISS = ("fwd=uri-miss",)

LATER = "a smaller format is being made"
CHANGED = "the source has changed, and its new variant is being made"

NO_HEAD = Head(200, ())


@dataclass(frozen=True, slots=True)
class Context:
    """One request, and what the app said of its own answer (nothing, at the image endpoint).

    `shared` says whether shared caches may keep an answer of which the app said nothing;
    `default` is the Cache-Control value then, `detail` a sentence for Cache-Status. `clock` gives
    seconds since the epoch.
    """

    request: Request
    default: str
    head: Head = NO_HEAD
    shared: bool = True
    detail: str | None = None
    last_modified: str | None = None
    clock: Callable[[], float] = time.time

    def cache_control(self, *, passing: bool) -> str | None:
        """Return the app's own value, else ours; for a passing answer with at most a minute."""
        own = self.head.get("cache-control")
        if own is None and (expires := self.head.get("expires")) is not None:
            return self.until(expires) if passing else None
        value = own or (self.default if self.shared else PRIVATE)
        return capped(value) if passing else value

    def until(self, expires: str) -> str | None:
        left = (seconds_of(expires) or 0) - self.clock()
        return capped(f"max-age={int(left)}") if left > 0 else None

    def status(self, parameters: tuple[str, ...], detail: str | None = None) -> str:
        """Return the Cache-Status value."""
        said = "; ".join(part for part in (detail, self.detail) if part)
        return cache_status(*parameters, detail=said or None, before=self.head.get("cache-status"))

    def variant(
        self, choice: Choice, entry: Entry, how: tuple[str, ...], detail: str = ""
    ) -> Answer:
        """Return the answer that sends a stored variant; a short-lived one where better comes."""
        content_type = str(entry.meta["type"])
        is_passing = choice.later is not None
        if is_passing:
            detail = detail or LATER
        output = of_media_type(content_type)
        image = Representation(
            key=choice.key,
            content_type=content_type,
            length=entry.size,
            cache_control=self.cache_control(passing=is_passing),
            status=self.status(how, detail),
            negotiated=choice.negotiated,
            vary=self.head.get("vary"),
            last_modified=None if is_passing else self.last_modified,
            rest=kept_headers(self.head, output.extension if output else None),
        )
        return build(self.request, image, body_of(entry))

    def stale(self, choice: Choice, entry: Entry, key: str, seconds: int) -> Answer:
        """Return the answer that sends a variant of what the source was before, for now.

        `key` makes its tag; `seconds` have passed since the change was noticed. Nobody goes
        forward for it, so it is a hit, of negative lifetime (RFC 9211, 2.1 and 2.4).
        """
        passing = replace(choice, key=key, later=choice)
        return self.variant(passing, entry, ("hit", f"ttl=-{seconds}"), CHANGED)

    def kept(
        self,
        choice: Choice,
        record: SourceRecord,
        body: Body,
        how: tuple[str, ...],
        detail: str,
    ) -> Answer:
        """Return the answer that sends the source because it is as good as any variant, or
        as this one, where a better one comes later.
        """
        passing = choice.later is not None
        image = self.source(record, choice.key, self.status(how, detail), passing=passing)
        return build(self.request, image, body)

    def fallback(self, record: SourceRecord | None, body: Body, detail: str) -> Answer:
        """Return the answer that sends the source for now, because there is no variant yet.

        Without a record the source's bytes are not known: the answer to a HEAD request, whose
        length nobody knows before the variant is made.
        """
        status = self.status(MISS, detail)
        if record is None:
            content_type = self.head.get("content-type") or "application/octet-stream"
            image = Representation(
                key=None,
                content_type=content_type,
                length=None,
                cache_control=self.cache_control(passing=True),
                status=status,
                vary=self.head.get("vary"),
                rest=kept_headers(self.head),
            )
        else:
            image = self.source(record, fallback_tag(record), status, passing=True)
            if self.request.method == "HEAD":
                image = replace(image, length=None)
        return build(self.request, image, body)

    def source(
        self, record: SourceRecord, key: str, status: str, *, passing: bool
    ) -> Representation:
        """Say what there is to say of the source itself.

        A passing answer has no Last-Modified: its own tag alone can validate it, so that the
        variant takes its place at the next request.
        """
        return Representation(
            key=key,
            content_type=record.format.media_type,
            length=record.bytes,
            cache_control=self.cache_control(passing=passing),
            status=status,
            vary=self.head.get("vary"),
            last_modified=None if passing else self.last_modified,
            rest=kept_headers(self.head),
        )


def fallback_tag(record: SourceRecord) -> str:
    """Return the key that an original served as fallback makes its tag from."""
    return hashed("original", record.digest)


def body_of(entry: Entry) -> Body:
    if isinstance(entry.body, bytes):
        return entry.body
    return b"" if entry.body is None else FileBody(entry.body, 0, entry.size, entry.size)


def source_body(data: ImageData, record: SourceRecord) -> Body:
    """Return the body that sends a source as it is."""
    if isinstance(data, Path):
        return FileBody(data, 0, record.bytes, record.bytes)
    return data
