"""Answers: documents as JSON, images with their metadata in headers, failures in both modes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from optidash_integrations.asgi.messages import send_answer
from optidash_integrations.errors import OptidashError, OptionError
from optidash_integrations.exchange import Answer, Headers
from optidash_integrations.headers import NO_STORE

METADATA = ("x-optidash-metadata", "x-optidash-meta")
MOST_METADATA = 1_700
"""Bytes of each of the two headers: proxies take 4 kB for all headers of an answer."""

EXTRAS = ("faces", "palette", "notes", "placeholder")
LONGEST_MESSAGE = 400

Document = Mapping[str, Any]


class AnswerResponse(Response):
    """An answer of the package's own header builder."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.status_code = answer.status
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        await send_answer(self.answer, scope, send)


def as_json(document: Document) -> str:
    """Return a document on one line that a header can hold: all that is not ASCII is escaped."""
    return json.dumps(document, separators=(",", ":"))


def json_reply(document: Document, status: int = 200, headers: Headers | None = None) -> Response:
    """Return an answer with a document as its body."""
    own = [("content-type", "application/json"), ("cache-control", NO_STORE)]
    return with_headers(Response(as_json(document), status), own, headers or [])


def image_reply(answer: Answer, document: Document) -> Response:
    """Return a binary answer: an image, its metadata in headers."""
    answer.headers.extend(metadata_headers(document))
    return AnswerResponse(answer)


def failure_document(identity: str, error: OptidashError) -> dict[str, Any]:
    """Return the document that says why a request failed."""
    return {
        "success": False,
        "code": error.public_status,
        "id": identity,
        "message": message_of(error)[:LONGEST_MESSAGE],
    }


def failure(identity: str, error: OptidashError, *, binary: bool) -> Response:
    """Return the answer to a request that failed; in binary mode its body is empty."""
    document, status = failure_document(identity, error), error.public_status
    headers: Headers = list(getattr(error, "headers", ()))
    if status == 503 and not any(name == "retry-after" for name, _ in headers):
        headers.append(("retry-after", "5"))
    if not binary:
        return json_reply(document, status, headers)
    own = [("cache-control", NO_STORE), *metadata_headers(document)]
    return with_headers(Response(b"", status), own, headers)


def message_of(error: OptidashError) -> str:
    """Return what a client is told: of its own document in detail, of our troubles nothing."""
    return str(error) if isinstance(error, OptionError) else error.public


def with_headers(response: Response, *more: Headers) -> Response:
    """Add headers to an answer; a name may come more than once."""
    headers = MutableHeaders(raw=response.raw_headers)
    for name, value in (pair for pairs in more for pair in pairs):
        headers.append(name, value)
    return response


def metadata_headers(document: Document) -> Headers:
    """Return a document in the two headers that clients read it from, without the lists that would
    be too long.
    """
    text = as_json(fitting(document))
    return [(name, text) for name in METADATA]


def fitting(document: Document) -> Document:
    """Return a document that fits into a header: what is longest of its extras goes first."""
    kept = dict(document)
    extras = sorted((name for name in EXTRAS if name in kept), key=lambda n: len(as_json(kept[n])))
    while extras and len(as_json(kept)) > MOST_METADATA:
        del kept[extras.pop()]
    if len(as_json(kept)) > MOST_METADATA and "message" in kept:
        kept["message"] = str(kept["message"])[: MOST_METADATA // 12]
    return kept
