"""Images inside of text: the JSON form of the endpoint's answers, and `data:` addresses.

Base64 makes an image a third larger, and whoever reads it has to decode it: what is shown by an
`<img>` element is better off with its address.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus

from optidash_integrations.errors import ImageTooLargeError
from optidash_integrations.exchange import Answer, FileBody, Request
from optidash_integrations.headers import NO_STORE, TAG_PREFIX, Representation, build
from optidash_integrations.negotiation import LONGEST_ACCEPT, media_range
from optidash_integrations.variants import Variant

MEDIA_TYPE = "application/json"
MOST_BYTES = 100 * 1024
"""Larger images are not sent inside of text."""

TAG_SUFFIX = "-json"
CONDITIONS = frozenset({"if-none-match", "if-modified-since", "range", "if-range"})
PASSED_ON = frozenset({"x-optidash-fallback"})


class InlineTooLargeError(ImageTooLargeError):
    """An image has more bytes than are sent inside of text."""

    public = f"The image has more than {MOST_BYTES // 1024} KiB: ask for it as an image."


def data_uri(image: bytes | Variant, content_type: str | None = None) -> str:
    """Return the `data:` address of an image: a variant, or bytes and their media type.

    Raises `InlineTooLargeError` past 100 KiB.
    """
    if isinstance(image, Variant):
        return data_uri(image.content, image.content_type)
    return f"data:{content_type or 'application/octet-stream'};base64,{encoded(image)}"


def encoded(content: bytes) -> str:
    if len(content) > MOST_BYTES:
        raise InlineTooLargeError(f"{len(content)} bytes are too many to be sent inside of text")
    return base64.b64encode(content).decode()


@lru_cache(maxsize=256)
def is_wanted(accept: str | None) -> bool:
    """Say whether an `Accept` header asks for JSON rather than for an image.

    JSON has to be named, and nothing that an image would do for may be as welcome: scripts send
    `application/json, */*` without thinking of images.
    """
    if not accept or MEDIA_TYPE not in accept.lower() or len(accept) > LONGEST_ACCEPT:
        return False
    found = [media_range(item) for item in accept.split(",")]
    wanted = max((quality for name, quality in found if name == MEDIA_TYPE), default=0.0)
    others = (q for name, q in found if name == "*/*" or name.startswith("image/"))
    return wanted > max(others, default=0.0)


def plain(request: Request) -> Request:
    """Return the request for the image itself: conditions and ranges are those of the JSON."""
    kept = {name: value for name, value in request.headers.items() if name not in CONDITIONS}
    return replace(request, headers=kept)


def content_of(answer: Answer) -> bytes:
    """Return the bytes of an image's answer, and close its file.

    Raises `InlineTooLargeError`.
    """
    body = answer.body
    if not isinstance(body, FileBody):
        content = body if isinstance(body, bytes) else b""
    elif body.total > MOST_BYTES:
        closed(answer)
        content = b""
    else:
        with body.file or body.path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    size = body.total if isinstance(body, FileBody) else len(content)
    if size > MOST_BYTES:
        raise InlineTooLargeError(f"{size} bytes are too many to be sent inside of text")
    return content


def closed(answer: Answer) -> None:
    if isinstance(answer.body, FileBody) and answer.body.file is not None:
        answer.body.file.close()


def as_json(
    request: Request, image: Answer, content: bytes, width: int | None, height: int | None
) -> Answer:
    """Return the JSON form of an image's answer, 304 where the visitor has it already.

    Where the image's own answer does not vary by Accept, no cache may mix up the two.
    """
    head = dict(image.headers)
    document = {
        "content_type": head["content-type"],
        "data": encoded(content),
        "width": width,
        "height": height,
    }
    body = json.dumps(document).encode()
    is_varied = "accept" in head.get("vary", "").lower()
    tag = head.get("etag", "").strip('"').removeprefix(TAG_PREFIX)
    found = Representation(
        key=tag + TAG_SUFFIX if tag else None,
        content_type=MEDIA_TYPE,
        length=len(body) if request.method == "GET" else None,
        cache_control=head.get("cache-control") if is_varied else NO_STORE,
        status=head.get("cache-status", ""),
        vary=head.get("vary"),
        rest=tuple(header for header in image.headers if header[0] in PASSED_ON),
    )
    answer = build(request, found, body)
    return replace(answer, status=image.status) if answer.status == 200 else answer


def error_as_json(answer: Answer) -> Answer:
    """Return the JSON form of an answer that says in one sentence why there is no image."""
    sentence = answer.body.decode().strip() if isinstance(answer.body, bytes) else ""
    status = HTTPStatus(answer.status)
    said: Mapping[str, object] = {"code": status.name.lower(), "message": sentence}
    body = json.dumps({"error": said}).encode()
    replaced = {"content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers = [(name, replaced.get(name, value)) for name, value in answer.headers]
    return replace(answer, headers=headers, body=body)
