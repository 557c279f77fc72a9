"""Where the API gets an image from, when it is told the address."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tests.api.answers import Blob, of_bytes

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RefusedError(Exception):
    """A request that is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Source:
    """An image to work on, and the name that it came with."""

    blob: Blob
    name: str


def fetch(url: str, headers: Mapping[str, str]) -> Source:
    """Download an image from this machine; raise RefusedError where that comes to nothing."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        raise RefusedError(422, "url must be a public address")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    request = urllib.request.Request(bare.geturl(), headers={"User-Agent": "Optidash/1.0"})
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    for name, value in headers.items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return Source(of_bytes(answer.read()), unquote(parts.path.rpartition("/")[2]))
    except urllib.error.HTTPError as error:
        error.close()
        raise RefusedError(422, f"The image could not be downloaded: {error}") from error
    except OSError as error:
        raise RefusedError(422, f"The image could not be downloaded: {error}") from error
