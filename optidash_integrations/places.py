"""Places that remote images may come from: the `remote_hosts` setting, and addresses within it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from optidash_integrations.addresses import PORTS, has_control
from optidash_integrations.errors import QueryError

LONGEST_URL = 4_096
HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|[0-9a-f]*:[0-9a-f:.]*")
DOTS = frozenset({".", ".."})
UNCERTAIN = re.compile(r"%2f|%5c|//", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """A host, or with `is_wide` all hosts below it; a port (None: those of http and https); and
    what the path begins with.
    """

    host: str
    is_wide: bool
    port: int | None
    prefix: str

    @classmethod
    def of(cls, text: str) -> Place:
        """Read `host`, `*.host`, `host:8080` or `host/prefix`. Raises ValueError."""
        authority, slash, path = text.partition("/")
        parts = urlsplit(f"//{authority.removeprefix('*.')}")
        host = (parts.hostname or "").lower()
        if parts.username is not None or parts.query or parts.fragment or not is_host(host):
            raise ValueError(text)
        if has_dots(path) or has_control(text) or authority.endswith(":"):
            raise ValueError(text)
        return cls(host, authority.startswith("*."), parts.port, slash + path)

    def has(self, url: SplitResult) -> bool:
        """Say whether a checked address lies here."""
        host = url.hostname or ""
        if not (host.endswith(f".{self.host}") if self.is_wide else host == self.host):
            return False
        default = PORTS[url.scheme]
        if (url.port or default) != (self.port or default):
            return False
        if len(self.prefix) <= 1:
            return True
        # An origin may read an encoded slash as a slash, and leave the folder.
        return url.path.startswith(self.prefix) and not UNCERTAIN.search(url.path)


def is_host(host: str) -> bool:
    return len(host) <= 253 and HOST.fullmatch(host) is not None


def has_dots(path: str) -> bool:
    """Say whether a path has a segment that leads up or nowhere, however often it is encoded."""
    for _ in range(3):
        if not DOTS.isdisjoint(re.split(r"[/\\]", path)):
            return True
        path = unquote(path)
    return not DOTS.isdisjoint(re.split(r"[/\\]", path))


def checked_source(url: str, places: Sequence[Place]) -> str:
    """Return the address of a remote image in one spelling, its fragment dropped.

    Raises QueryError where it is none, or lies in none of these places.
    """
    takes = "the address of an image at one of the hosts that remote_hosts names"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise QueryError("url", takes, "one that can't be read") from None
    host = (parts.hostname or "").lower()
    plain = parts.scheme in PORTS and is_host(host) and port != 0 and parts.username is None
    if not plain or len(url) > LONGEST_URL or has_control(url) or "\\" in url:
        raise QueryError("url", takes, "another one")
    if has_dots(parts.path):
        raise QueryError("url", takes, "one whose path has dot segments")
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port in (None, PORTS[parts.scheme]) else f"{shown}:{port}"
    found = parts._replace(netloc=netloc, path=parts.path or "/", fragment="")
    if not any(place.has(found) for place in places):
        raise QueryError("url", takes, host)
    return urlunsplit(found)
