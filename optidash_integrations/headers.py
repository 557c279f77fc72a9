"""One builder for every answer: fresh, cached, 304, 206, HEAD and fallback differ only where HTTP
says so.

Nothing here knows where an image came from; `Representation` holds what there is to say of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from optidash_integrations.exchange import (
    Answer,
    Body,
    FileBody,
    Head,
    Headers,
    InnerBody,
    Request,
)

CACHE_NAME = "optidash"
TAG_PREFIX = "od-"
FALLBACK_SECONDS = 60
PRIVATE = "private, max-age=300"
NO_STORE = "no-store"

# They describe the app's bytes, or the builder says them anew.
REPLACED = frozenset(
    {
        "content-type",
        "content-length",
        "etag",
        "cache-control",
        "vary",
        "x-content-type-options",
        "cache-status",
        "accept-ranges",
        "content-range",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "content-disposition",
        "content-encoding",
        "transfer-encoding",
    }
)
# RFC 9110, 15.4.5: a 304 repeats what a cache updates, and describes no body.
NOT_IN_304 = frozenset({"content-type", "content-length", "content-disposition", "accept-ranges"})

PASSED_VARY = frozenset({"accept", "accept-encoding", "origin"})
FILE_NAME = re.compile(r"""(filename\*?\s*=\s*"?[^";]*?)\.[A-Za-z0-9]{1,5}(?="?\s*(?:;|$))""")
RANGE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")
TAG = re.compile(r'(?:W/)?"([^"]*)"')
LONGEST_TAGS = 8_192


@dataclass(frozen=True, slots=True)
class Representation:
    """What an answer says of its image.

    `key` makes the ETag (None: none); `length` is in bytes (None: unknown); `cache_control` is the
    value to send, `status` the Cache-Status parameters (`hit`, `fwd=uri-miss; stored`).
    `negotiated` says that the Accept header could have changed the answer. `rest` are further
    headers to pass on.
    """

    key: str | None
    content_type: str
    length: int | None
    cache_control: str | None
    status: str
    negotiated: bool = True
    vary: str | None = None
    last_modified: str | None = None
    rest: tuple[tuple[str, str], ...] = ()


def etag(key: str) -> str:
    """Return the strong ETag made from a key."""
    return f'"{TAG_PREFIX}{key}"'


def build(request: Request, image: Representation, body: Body) -> Answer:
    """Return the answer to `request` that sends `body`, or as much of it as was asked for."""
    headers = full_headers(image)
    if is_not_modified(request, image):
        return Answer(304, [h for h in headers if h[0] not in NOT_IN_304])
    whole = Answer(200, headers, body)
    if request.method == "HEAD":
        return replace(whole, body=b"")
    if isinstance(body, InnerBody) or image.key is None:
        return whole
    headers.append(("accept-ranges", "bytes"))
    return ranged(request, image, whole)


def full_headers(image: Representation) -> Headers:
    headers = [("content-type", image.content_type)]
    if image.length is not None:
        headers.append(("content-length", str(image.length)))
    if image.key is not None:
        headers.append(("etag", etag(image.key)))
    if image.cache_control is not None:
        headers.append(("cache-control", image.cache_control))
    vary = merged_vary(image.vary, "Accept") if image.negotiated else image.vary
    if vary:
        headers.append(("vary", vary))
    if image.last_modified:
        headers.append(("last-modified", image.last_modified))
    headers.append(("x-content-type-options", "nosniff"))
    headers.append(("cache-status", image.status))
    headers.extend(image.rest)
    return headers


# Conditional requests: RFC 9110, 13


def is_not_modified(request: Request, image: Representation) -> bool:
    """Say whether the visitor's copy is the present one (RFC 9110, 13.1.2 and 13.1.3)."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return image.key is not None and matches(tags, TAG_PREFIX + image.key)
    since = request.headers.get("if-modified-since")
    if since is None or image.last_modified is None:
        return False
    asked, present = seconds_of(since), seconds_of(image.last_modified)
    return asked is not None and present is not None and present <= asked


def matches(field: str, tag: str) -> bool:
    """Say whether an If-None-Match field names a tag: `*`, or a list compared weakly."""
    return field.strip() == "*" or tag in tags_of(field)


def tags_of(field: str) -> list[str]:
    return TAG.findall(field[:LONGEST_TAGS])


def names_our_tag(request: Request) -> bool:
    """Say whether If-None-Match names a tag that this package made."""
    if "if-none-match" not in request.headers:
        return False
    return f'"{TAG_PREFIX}' in request.headers["if-none-match"]


def seconds_of(date: str) -> float | None:
    """Return an HTTP date as seconds since the epoch, or None where it is not one."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


# Ranges: RFC 9110, 14


def ranged(request: Request, image: Representation, whole: Answer) -> Answer:
    """Return the part that was asked for; several ranges, or none that is valid, give the whole."""
    field = request.headers.get("range")
    if field is None or image.length is None or not is_range_current(request, image):
        return whole
    match = RANGE.fullmatch(field)
    if match is None or not (match[1] or match[2]):
        return whole
    first, last = bounds(match[1], match[2], image.length)
    if first > last:
        if match[1] and match[2] and int(match[1]) > int(match[2]):
            return whole  # RFC 9110, 14.1.1: invalid, so it is ignored
        return unsatisfiable(whole, image.length)
    headers = [h for h in whole.headers if h[0] != "content-length"]
    headers.append(("content-length", str(last - first + 1)))
    headers.append(("content-range", f"bytes {first}-{last}/{image.length}"))
    return Answer(206, headers, part(whole.body, first, last))


def bounds(first: str, last: str, length: int) -> tuple[int, int]:
    if not first:
        return (length - min(int(last), length), length - 1) if int(last) else (1, 0)
    return int(first), min(int(last), length - 1) if last else length - 1


def unsatisfiable(whole: Answer, length: int) -> Answer:
    dropped = ("content-length", "content-type", "cache-control")
    kept = [h for h in whole.headers if h[0] not in dropped]
    said = [
        ("cache-control", NO_STORE),
        ("content-length", "0"),
        ("content-range", f"bytes */{length}"),
    ]
    return Answer(416, kept + said)


def part(body: Body, first: int, last: int) -> Body:
    if isinstance(body, FileBody):
        return replace(body, offset=body.offset + first, length=last - first + 1)
    return body[first : last + 1] if isinstance(body, bytes) else body


def is_range_current(request: Request, image: Representation) -> bool:
    """Say whether If-Range allows a part to be sent (RFC 9110, 13.1.5).

    A date never does: the variants of an image share the one of their source.
    """
    field = request.headers.get("if-range")
    return field is None or (image.key is not None and field.strip() == etag(image.key))


# Vary and Cache-Control


def merged_vary(present: str | None, name: str) -> str:
    """Return a Vary value that names `name` beside what it named before."""
    names = vary_names(present)
    if "*" in names or name.lower() in names:
        return present or name
    return f"{present}, {name}" if present and names else name


def vary_names(field: str | None) -> frozenset[str]:
    return frozenset(n.strip().lower() for n in (field or "").split(",") if n.strip())


def directives(field: str | None) -> dict[str, str | None]:
    """Read a Cache-Control value: names in lower case, each with its argument or None."""
    found: dict[str, str | None] = {}
    for item in (field or "").split(","):
        name, equals, value = item.strip().partition("=")
        if name:
            found[name.strip().lower()] = value.strip().strip('"') if equals else None
    return found


def is_private(head: Head) -> bool:
    """Say whether the app keeps this answer from shared caches, or from being changed."""
    asked = directives(head.get("cache-control"))
    return not asked.keys().isdisjoint({"private", "no-store", "no-transform"})


def capped(cache_control: str, seconds: int = FALLBACK_SECONDS) -> str:
    """Return a Cache-Control value with at most `seconds` of life, for a passing answer."""
    dropped = ("immutable", "stale-while-revalidate", "stale-if-error")
    kept = {n: v for n, v in directives(cache_control).items() if n not in dropped}
    for name in ("max-age", "s-maxage"):
        if name in kept:
            kept[name] = str(min(whole_number(kept[name]), seconds))
    if kept.keys().isdisjoint({"max-age", "no-cache", "no-store"}):
        kept["max-age"] = str(seconds)
    return ", ".join(name if value is None else f"{name}={value}" for name, value in kept.items())


def whole_number(value: str | None) -> int:
    return int(value[:10]) if value and value.isascii() and value.isdigit() else 0


# What the app's own answer adds


def kept_headers(head: Head, name: str | None = None) -> tuple[tuple[str, str], ...]:
    """Return the app's headers that still hold when other bytes are sent.

    `name` is the extension of the new bytes: an inline file name follows it.
    """
    kept = [h for h in head.headers if h[0] not in REPLACED and h[0] != "last-modified"]
    disposition = head.get("content-disposition")
    if disposition:
        renamed = FILE_NAME.sub(rf"\1.{name}", disposition) if name else disposition
        kept.append(("content-disposition", renamed))
    return tuple(kept)


def attachment(name: str) -> str:
    """Return a Content-Disposition that saves an image under a name: its last part, printable."""
    last = re.split(r"[/\\]", name)[-1].strip(". ")
    safe = "".join(c for c in last if c.isprintable() and c not in '"%;')[:100] or "image"
    if safe.isascii():
        return f'attachment; filename="{safe}"'
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe='')}"


def is_attachment(head: Head) -> bool:
    disposition = head.get("content-disposition") or ""
    return disposition.partition(";")[0].strip().lower() == "attachment"


# Cache-Status: RFC 9211


def cache_status(*parameters: str, detail: str | None = None, before: str | None = None) -> str:
    """Return a Cache-Status value: `before` is what caches nearer the origin said of themselves."""
    own = "; ".join((CACHE_NAME, *parameters))
    if detail:
        own += f'; detail="{printable(detail)}"'
    return f"{before}, {own}" if before else own


def printable(sentence: str, limit: int = 200) -> str:
    """Return a text as the inside of a structured field's string (RFC 8941, 3.3.3)."""
    text = "".join(c if " " <= c <= "~" else "?" for c in sentence)[:limit]
    return text.replace("\\", "\\\\").replace('"', '\\"')


def error(status: int, sentence: str, detail: str | None = None) -> Answer:
    """Return an answer that says in one plain sentence why there is no image."""
    body = f"{sentence}\n".encode()
    return Answer(
        status,
        [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", NO_STORE),
            ("x-content-type-options", "nosniff"),
            ("cache-status", cache_status("fwd=bypass", detail=detail or sentence)),
        ],
        body,
    )
