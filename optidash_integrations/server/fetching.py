"""Images that lie elsewhere: downloaded over the address guard, by addresses that clients wrote.

As with uploads, small ones wait in memory, and the others are on disk from their first bytes on.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from optidash_integrations import __version__
from optidash_integrations.addresses import has_control, is_same_origin
from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    OptidashError,
    OptionError,
    Said,
)
from optidash_integrations.formats import HEAD_BYTES, detect
from optidash_integrations.guard import RefusedAddressError
from optidash_integrations.server.reception import BLOCK, Upload, clean_name, too_much
from optidash_integrations.server.refusals import InvalidError

if TYPE_CHECKING:
    from optidash_integrations.download import Download

USER_AGENT = f"optidash-integrations/{__version__} (optidash serve)"
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
LONGEST_URL = 8_192
MOST_HEADERS = 20
LONGEST_VALUE = 2_048
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")

REFUSED_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "forwarded",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    }
)
REFUSED_BEGINNINGS = ("proxy-", "x-forwarded-")
TAKES = "an address that begins with http:// or https://"


class FetchError(InvalidError):
    """The image could not be fetched; the address that was asked for is to blame."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An address to fetch from, without the credentials it had, and headers for its host."""

    url: str
    headers: Mapping[str, str]


class Fetching:
    """Downloads images. `allowed` hosts need not be on the public internet. A fetch, redirects
    included, takes at most `seconds`. `clock` gives seconds that only ever grow.
    """

    def __init__(
        self,
        allowed: Collection[str],
        seconds: float,
        max_bytes: int,
        *,
        download: Download | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allowed = frozenset(host.lower() for host in allowed)
        self.seconds = seconds
        self.max_bytes = max_bytes
        self.given_download = download
        self.clock = clock

    @cached_property
    def download(self) -> Download:
        """What fetches; made at its first use, because it brings the HTTP library."""
        from optidash_integrations.download import Download

        return self.given_download or Download(allowed=self.allowed)

    def fetch(self, wanted: Wanted, path: Path, memory: int = 0) -> Upload:
        """Download an image, into a new file where it has more than `memory` bytes; it takes time,
        so call it in a thread.

        Raises FetchError where there is none to be had, TooMuchError where it is too long.
        """
        with closing(Vessel(path, memory, self.max_bytes)) as vessel:
            self.follow(wanted, vessel)
            name = clean_name(unquote(urlsplit(wanted.url).path))
            return Upload(vessel.content(), name, vessel.size, b"")

    def mark(self, url: str) -> bytes:
        """Return a picture that operations name. Raises OptionError where it can't be had."""
        try:
            with closing(Vessel(None, self.max_bytes, self.max_bytes)) as vessel:
                self.follow(wanted_of(url, None), vessel)
                return bytes(vessel.gathered)
        except OptidashError as error:
            raise OptionError(
                "watermark.url", "a picture that can be fetched", Said("this")
            ) from error

    def follow(self, wanted: Wanted, vessel: Vessel) -> None:
        """Follow at most three redirects, each checked anew; headers stay with their host. What
        the last answers goes into the vessel.
        """
        ends = self.clock() + self.seconds
        here, own = wanted.url, dict(wanted.headers)
        for _ in range(MOST_REDIRECTS + 1):
            location = self.ask(here, own, ends - self.clock(), vessel)
            if location is None:
                return
            there = next_place(here, location)
            if not is_same_origin(here, there):
                own = {}
            here = there
        raise failed(here, f"it redirects more than {MOST_REDIRECTS} times")

    def ask(self, url: str, own: Mapping[str, str], seconds: float, vessel: Vessel) -> str | None:
        """Fill the vessel; return where else the image is, None where it was here."""
        headers = {"user-agent": USER_AGENT, "accept": "image/*, */*;q=0.5"}
        headers |= {**own, "accept-encoding": "identity"}
        if seconds <= 0:
            raise failed(url, "it did not answer in time")
        try:
            with self.download.answer("GET", url, headers, None, seconds) as answer:
                if answer.status_code in REDIRECTS:
                    return str(answer.headers.get("location", ""))
                check_head(url, answer.status_code, answer.headers, self.max_bytes)
                vessel.fill(url, answer.iter_raw())
                return None
        except ApiTimeoutError as error:
            raise failed(url, "it did not answer in time") from error
        except (ApiError, OptionError) as error:
            raise failed(url, reason_of(error)) from error


class Vessel:
    """Takes an image as it comes: up to `memory` bytes stay there, more go to a new file at `path`.
    It has at most `most` bytes.
    """

    def __init__(self, path: Path | None, memory: int, most: int) -> None:
        self.path = path
        self.memory = memory
        self.most = most
        self.gathered = bytearray()
        self.size = 0
        self.file: BinaryIO | None = None

    def fill(self, url: str, chunks: Iterable[bytes]) -> None:
        """Take a body. Raises TooMuchError, and FetchError for what is no image."""
        is_image = False
        for chunk in chunks:
            self.gathered += chunk
            self.size += len(chunk)
            if self.size > self.most:
                raise too_much(self.most)
            if not is_image and self.size >= HEAD_BYTES:
                is_image = check_image(url, self.gathered)
            if is_image and len(self.gathered) > (self.memory if self.file is None else BLOCK):
                self.write()
        if not self.size:
            raise failed(url, "it sends nothing")
        if not is_image:
            check_image(url, self.gathered)

    def write(self) -> None:
        """Write what has been gathered."""
        assert self.path is not None, "memory takes all"
        if self.file is None:
            self.file = self.path.open("xb")
        self.file.write(self.gathered)
        self.gathered.clear()

    def content(self) -> Path | bytes:
        """Return what came, or the file that holds it."""
        if self.file is None or self.path is None:
            return bytes(self.gathered)
        self.write()
        self.close()
        return self.path

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()


def wanted_of(url: object, headers: object) -> Wanted:
    """Check an address and headers that a client wrote. Raises OptionError."""
    parts = checked_parts(url)
    kept = checked_headers(headers)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        kept["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    place = parts.netloc.rpartition("@")[2]
    return Wanted(urlunsplit(parts._replace(netloc=place, fragment="")), kept)


def checked_parts(url: object) -> SplitResult:
    if not isinstance(url, str):
        raise OptionError("url", TAKES, Said("that"))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise OptionError("url", TAKES, Said("one that can't be read")) from None
    wrong = parts.scheme not in ("http", "https") or not parts.hostname or port == 0
    if wrong or has_control(url) or len(url) > LONGEST_URL or "\\" in parts.netloc:
        raise OptionError("url", TAKES, Said("the one given"))
    return parts


def checked_headers(headers: object) -> dict[str, str]:
    """Return headers with lower-case names; those that are not a client's to set are left out.

    Raises OptionError for what is no header.
    """
    if headers is None or headers == []:
        return {}
    takes = f"an object of at most {MOST_HEADERS} texts"
    if not isinstance(headers, Mapping) or len(headers) > MOST_HEADERS:
        raise OptionError("headers", takes, Said("that"))
    kept: dict[str, str] = {}
    for name, value in headers.items():
        if not TOKEN.fullmatch(name):
            raise OptionError("headers", "names of header fields", name)
        if not is_value(value):
            raise OptionError(f"headers.{name}", "printable text on one line", Said("that"))
        if not is_refused(name.lower()):
            kept[name.lower()] = value.strip()
    return kept


def is_value(value: object) -> bool:
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and len(value) <= LONGEST_VALUE
    )


def is_refused(name: str) -> bool:
    """Say whether a header is the connection's, or would get another thing than the image."""
    return name in REFUSED_HEADERS or name.startswith(REFUSED_BEGINNINGS)


def next_place(here: str, location: str) -> str:
    try:
        there = urlsplit(urljoin(here, location))
        checked_parts(there.geturl())
    except (ValueError, OptionError) as error:
        raise failed(here, "it redirects to no address") from error
    if here.startswith("https:") and there.scheme == "http":
        raise failed(here, "it redirects from https to http")
    return urlunsplit(there._replace(netloc=there.netloc.rpartition("@")[2], fragment=""))


def check_head(url: str, status: int, headers: Mapping[str, str], most: int) -> None:
    """Raise FetchError or TooMuchError where no image of up to `most` bytes can follow."""
    if status != 200:
        raise failed(url, f"it answers {status}")
    if headers.get("content-encoding", "identity") != "identity":
        raise failed(url, "it sends an encoded body that nobody asked for")
    told = headers.get("content-length", "")
    if told.isascii() and told.isdigit() and int(told[:18]) > most:
        raise too_much(most)


def check_image(url: str, content: bytearray) -> bool:
    """Raise FetchError for what does not begin as an image does."""
    if detect(bytes(content[:HEAD_BYTES])) is None:
        raise failed(url, "it does not send an image")
    return True


def reason_of(error: BaseException | None) -> str:
    """Say why there was no answer, without what only the server's own network knows."""
    while error is not None:
        if isinstance(error, RefusedAddressError):
            return "it is not on the public internet"
        error = error.__cause__ or error.__context__
    return "there is no connection"


def failed(url: str, reason: str) -> FetchError:
    host = urlsplit(url).hostname or "the host"
    return FetchError(f"The image could not be fetched from {host}: {reason}")
