"""What a setting takes: parsers that read a Python value or its spelling in the environment.

Each parser raises a plain ValueError; `takes` completes the sentence "… takes …".
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from optidash_integrations.addresses import checked_url, is_header_safe, normal_url
from optidash_integrations.credentials import Credentials
from optidash_integrations.places import Place
from optidash_integrations.sendfile import SendFile

UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Parser:
    """How to read a value, and the words that say what it takes."""

    takes: str
    parse: Callable[[Any], Any]


def optional(parser: Parser) -> Parser:
    """Accept None too, spelled `none` in the environment."""

    def parse(value: Any) -> Any:
        nothing = value is None or (isinstance(value, str) and value.strip().lower() == "none")
        return None if nothing else parser.parse(value)

    return Parser(f"{parser.takes}, or none", parse)


def whole(lowest: int, highest: int | None = None) -> Parser:
    """Accept a whole number within bounds."""
    up_to = f" to {highest}" if highest is not None else " or more"

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        number = int(value)
        if number < lowest or (highest is not None and number > highest):
            raise ValueError
        return number

    return Parser(f"a whole number, {lowest}{up_to}", parse)


def byte_size() -> Parser:
    """Accept a number of bytes, as a number or as `50 MiB`."""

    def parse(value: Any) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None or match[2].upper() not in UNITS:
            raise ValueError
        return int(float(match[1]) * UNITS[match[2].upper()])

    return Parser("a number of bytes such as 52428800 or 50 MiB", parse)


def seconds(*, above: float | None = None) -> Parser:
    """Accept a time in seconds, 0 or more, or more than `above`."""

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not math.isfinite(number) or number < 0 or (above is not None and number <= above):
            raise ValueError
        return number

    bound = "0 or more" if above is None else f"more than {above:g}"
    return Parser(f"a number of seconds, {bound}", parse)


def text(takes: str) -> Parser:
    """Accept a non-empty text."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value.strip()

    return Parser(takes, parse)


def address() -> Parser:
    """Accept the address of an API: https, or http on this machine."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError
        checked_url(value.strip(), "api_url", allow_http=False)
        return normal_url(value)

    return Parser("an address that begins with https:// (http:// on this machine)", parse)


def api_key() -> Parser:
    """Accept an API key; it goes into a header as it is."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not is_header_safe(value.strip()):
            raise ValueError
        return value.strip()

    return Parser("a key of printable ASCII characters", parse)


SHARED_CACHES = ("redis://", "rediss://", "s3://", "gs://", "az://", "django://")


def shared_cache() -> Parser:
    """Accept the address of a cache that processes of several hosts share."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value.strip().lower().startswith(SHARED_CACHES):
            raise ValueError
        return value.strip()

    schemes = ", ".join(SHARED_CACHES[:-1])
    return Parser(f"an address that begins with {schemes} or {SHARED_CACHES[-1]}", parse)


def choice(*choices: str) -> Parser:
    """Accept one of a few words."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in choices:
            raise ValueError
        return value.strip().lower()

    return Parser(", ".join(choices[:-1]) + f" or {choices[-1]}", parse)


def send_file() -> Parser:
    """Accept how large files are handed to the web server."""

    def parse(value: Any) -> SendFile:
        if isinstance(value, SendFile):
            return value
        if not isinstance(value, str):
            raise ValueError
        return SendFile.parse(value)

    return Parser("x-sendfile, or x-accel-redirect:/internal/ with slashes at both ends", parse)


def yes_or_no() -> Parser:
    """Accept True or False, or a word for one."""
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}

    def parse(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if not isinstance(value, str) or value.strip().lower() not in words:
            raise ValueError
        return words[value.strip().lower()]

    return Parser("True or False", parse)


def access() -> Parser:
    """Accept who may use the image endpoint: one rule, or several of which any lets in."""

    def one(rule: Any) -> Any:
        if isinstance(rule, Credentials) or (callable(rule) and not iscoroutinefunction(rule)):
            return rule
        if not isinstance(rule, str) or rule.strip().lower() not in ("public", "signed"):
            raise ValueError
        return rule.strip().lower()

    def parse(value: Any) -> Any:
        if value == "":
            return value
        if not isinstance(value, str | list | tuple):
            return one(value)
        rules = tuple(one(rule) for rule in listed(value))
        if not rules:
            raise ValueError
        return rules[0] if len(rules) == 1 else rules

    words = "public, signed, ApiKeys(…), Jwt(…), a callable that is not async, or a list of these"
    return Parser(words, parse)


RATE = re.compile(r"([1-9]\d{0,8})\s*/\s*(second|minute|hour|day)s?")


def rate() -> Parser:
    """Accept how many requests a visitor may send in a while."""

    def parse(value: Any) -> str:
        match = RATE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
        if match is None:
            raise ValueError
        return f"{match[1]}/{match[2]}"

    return Parser("a number of requests a second, minute, hour or day such as 600/minute", parse)


REFERER = re.compile(r"(?:\*\.)?[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*|\[[0-9a-f:.]+\]")
ORIGIN = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def origins() -> Parser:
    """Accept a list of origins as browsers send them, or an asterisk for all."""

    def parse(value: Any) -> tuple[str, ...]:
        found = tuple(str(item).strip().lower() for item in listed(value))
        if "*" in found and len(found) > 1:
            raise ValueError
        if not all(item == "*" or ORIGIN.fullmatch(item) for item in found):
            raise ValueError
        return found

    return Parser('a list of origins such as "https://app.example", or "*" alone', parse)


def referers() -> Parser:
    """Accept a list of hosts whose pages may show images; they come out in lower case."""

    def parse(value: Any) -> tuple[str, ...]:
        found = tuple(str(item).strip().lower() for item in listed(value))
        if not all(REFERER.fullmatch(item) for item in found):
            raise ValueError
        return found

    return Parser('a list of hosts such as "www.example" or "*.example"', parse)


def remote_hosts() -> Parser:
    """Accept a list of places that remote images may come from."""

    def parse(value: Any) -> tuple[str, ...]:
        found = tuple(str(item).strip() for item in listed(value))
        for item in found:
            Place.of(item)
        return found

    return Parser('a list such as "images.example", "*.example" or "cdn.example/photos/"', parse)


def gone_status() -> Parser:
    """Accept the status of an answer to an address that has expired."""
    statuses = (403, 404, 410)

    def parse(value: Any) -> int:
        status: int = whole(min(statuses), max(statuses)).parse(value)
        if status not in statuses:
            raise ValueError
        return status

    return Parser("403, 404 or 410", parse)


def image_status() -> Parser:
    """Accept the status of an answer that sends a picture in place of the one asked for."""
    each = whole(200, 599)

    def parse(value: Any) -> int:
        status: int = each.parse(value)
        if 200 < status < 400:
            raise ValueError
        return status

    return Parser("200, or 400 to 599", parse)


def format_names(*known: str) -> Parser:
    """Accept some of the formats that can be offered, best first, or none."""

    def parse(value: Any) -> tuple[str, ...]:
        names = tuple(str(name).strip().lower() for name in listed(value))
        if len(set(names)) < len(names) or not set(names) <= set(known):
            raise ValueError
        return names

    return Parser(f"a list of {' and '.join(known)} in order of preference, or an empty one", parse)


def widths() -> Parser:
    """Accept a list of widths in pixels; they come out ascending."""
    each = whole(1, 16_383)

    def parse(value: Any) -> tuple[int, ...]:
        found = tuple(sorted({each.parse(item) for item in listed(value)}))
        if not found:
            raise ValueError
        return found

    return Parser("a list of widths in pixels, each 1 to 16383", parse)


def prefixes() -> Parser:
    """Accept a list of path prefixes or globs, each beginning with a slash or an asterisk."""

    def parse(value: Any) -> tuple[str, ...]:
        found = tuple(str(item).strip() for item in listed(value))
        if not all(item.startswith(("/", "*")) for item in found):
            raise ValueError
        return found

    return Parser('a list of path prefixes or globs such as "/static/" or "*.png"', parse)


def keys() -> Parser:
    """Accept a list of signing keys, newest first; they come out as bytes."""

    def parse(value: Any) -> tuple[bytes, ...]:
        found = tuple(k.encode() if isinstance(k, str) else k for k in listed(value))
        if not all(isinstance(key, bytes) and key for key in found):
            raise ValueError
        return found

    return Parser("a list of keys, each a non-empty text or bytes, newest first", parse)


def path() -> Parser:
    """Accept a path in the file system; `~` is the user's home."""

    def parse(value: Any) -> Path:
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise ValueError
        return Path(value).expanduser()

    return Parser("a path", parse)


def listed(value: Any) -> Iterable[Any]:
    """Return the items of a list, or of a text that separates them by commas."""
    if isinstance(value, str):
        return [item for item in (part.strip() for part in value.split(",")) if item]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return list(value)
    raise ValueError
