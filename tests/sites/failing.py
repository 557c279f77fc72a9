"""What a visitor is promised while the image API fails, whatever a test asks for.

The contract suite runs once more on sites whose API answers 500 and nothing else. What its tests
say of variants can't hold then, and is not asked; every answer on the way is looked at instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.sites.base import Reply, Site
from tests.sites.inner import Route, Stream

LONGEST = 60
"""Seconds that an original may be kept for which stands in for a variant."""


# An animation that a format can't hold stays what it is, for as long as any variant would.
FRAMES = "frames would become"

# A remote source is a test's own server, which may be the one that fails.
REMOTE = "remote?"


class Promises:
    """The answers of a site, each held to what is promised; `broken` says which were not kept."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.request = site.request
        self.inner_answer = site.inner.answer
        self.broken: list[str] = []
        self.bodies: list[bytes] = []
        self.app_failed = False
        site.request = self.answer  # type: ignore[method-assign]
        site.inner.answer = self.told  # type: ignore[method-assign]

    def told(self, method: str, path: str, headers: Mapping[str, str]) -> Route:
        """Take note of what the app answers."""
        try:
            route = self.inner_answer(method, path, headers)
        except BaseException:
            self.app_failed = True
            raise
        self.app_failed = self.app_failed or route.status >= 500
        self.bodies.append(content_of(route.body))
        return route

    def answer(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, **more: Any
    ) -> Reply:
        """Ask the site, and look at its answer."""
        reply = self.request(method, target, headers, **more)
        if not more.get("bare"):
            self.broken += [
                f"{method} {target} {headers}: {complaint}: {reply.status} {reply.pairs}"
                for complaint in self.complaints(method, target, reply)
            ]
        return reply

    def complaints(self, method: str, target: str, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with an answer."""
        if reply.status >= 500 and not self.app_failed and REMOTE not in target:
            yield "an error"
        if method != "GET" or reply.status not in (200, 206) or not reply.type.startswith("image/"):
            return
        is_known = REMOTE in target or any(reply.body in each for each in self.originals())
        is_stand_in = reply.headers.get("etag", "").startswith('"od-') and FRAMES not in reply.cache
        if not is_known:
            yield "no original"
        elif is_stand_in and not is_short_lived(reply):
            yield "kept for long"

    def originals(self) -> Iterator[bytes]:
        """Yield all images that there are without any processing."""
        yield from self.bodies
        for path in self.site.folder.rglob("*"):
            if path.is_file():
                yield path.read_bytes()
        fallback = self.site.service.settings.fallback_image
        if fallback:
            yield Path(fallback).read_bytes()


def content_of(body: bytes | Path | Stream) -> bytes:
    if isinstance(body, bytes):
        return body
    return body.read_bytes() if isinstance(body, Path) else b"".join(body.blocks)


def is_short_lived(reply: Reply) -> bool:
    value = reply.headers.get("cache-control", "")
    if "no-store" in value or "no-cache" in value:
        return True
    ages = [int(part.partition("=")[2]) for part in value.split(", ") if "age=" in part]
    return bool(ages) and max(ages) <= LONGEST and "immutable" not in value
