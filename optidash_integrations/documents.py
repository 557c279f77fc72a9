"""What the API's answers hold beside images: accounts, webhooks, keys, and what its errors say."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

from optidash_integrations.errors import (
    PASSING,
    ApiError,
    AuthenticationError,
    InvalidOperationsError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
    RejectedImageError,
    RejectedSizeError,
    RequestRefusedError,
    ServerError,
)

Document = Mapping[str, object]

LONGEST_MESSAGE = 500
LISTS = ("webhooks", "data", "items", "results")


@dataclass(frozen=True, slots=True)
class Account:
    """A subscription: its name, and how many calls it has, has used and has left.

    A number that the API does not tell is None; `raw` is the whole document.
    """

    name: str
    total: int | None
    used: int | None
    remaining: int | None
    raw: Document

    @classmethod
    def from_dict(cls, document: Document) -> Account:
        """Read the API's answer, with `credits` or, in an older shape, `quota`."""
        calls = mapping(document.get("credits")) or mapping(document.get("quota"))
        return cls(
            text(mapping(document.get("subscription")).get("name")),
            whole(calls.get("total")),
            whole(calls.get("used")),
            whole(calls.get("remaining")),
            document,
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """A delivery: its id, its state (created, scheduled, dispatched, delivered or failed), when it
    was asked for; `raw` is all that the API tells of it.
    """

    id: str
    status: str
    created_at: datetime | None
    raw: Document

    @classmethod
    def from_dict(cls, document: Document) -> Webhook:
        """Read one webhook."""
        return cls(
            text(document.get("id")),
            text(document.get("status")),
            when(document.get("created_at")),
            document,
        )

    @classmethod
    def list_from(cls, document: Document, key: str | None = None) -> list[Webhook]:
        """Read a list of webhooks, whatever the API calls it (its documentation does not say).

        Raises ProtocolError where there is none; `key` is blotted out of its document.
        """
        named = [document[name] for name in LISTS if isinstance(document.get(name), list)]
        lists = named or [value for value in document.values() if isinstance(value, list)]
        if not lists:
            raise ProtocolError(
                "the API's answer holds no list of webhooks", document=without_key(document, key)
            )
        return [cls.from_dict(item) for item in as_list(lists[0]) if isinstance(item, Mapping)]


@dataclass(frozen=True, slots=True)
class SubKey:
    """A key of one's own making: its name and, just after it was made, the key."""

    name: str
    key: str = field(repr=False)
    raw: Document = field(repr=False)

    @classmethod
    def from_dict(cls, document: Document) -> SubKey:
        """Read the answer to a new or a changed key."""
        return cls(text(document.get("name")), text(document.get("key")), document)


def mapping(value: object) -> Document:
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def when(value: object) -> datetime | None:
    """Read a time in ISO 8601; None where it is none."""
    try:
        return datetime.fromisoformat(text(value))
    except ValueError:
        return None


def parsed(content: bytes | str) -> Document | None:
    """Return the JSON object that an answer holds, or None where it holds none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, Mapping) else None


ERRORS: Mapping[int, type[ApiError]] = {
    400: InvalidOperationsError,
    401: AuthenticationError,
    402: QuotaExceededError,
    403: AuthenticationError,
    413: RejectedSizeError,
    415: RejectedImageError,
    422: InvalidOperationsError,
    429: RateLimitError,
}


def error_of(
    status: int, document: Document | None, *, key: str | None = None, seconds: float | None = None
) -> ApiError:
    """Return the error that an answer stands for.

    The status of the answer decides, or where that is a success the `code` of the document. `key`
    is blotted out of all that the error holds.
    """
    document = None if document is None else without_key(document, key)
    code = status if status >= 400 else whole((document or {}).get("code")) or 0
    kind = ERRORS.get(code, ServerError if code >= 500 else RequestRefusedError)
    error = kind(
        message_of(status, document),
        status=status,
        request_id=text((document or {}).get("id")),
        document=document,
        seconds=seconds,
    )
    if isinstance(error, ServerError):
        error.is_retryable = code in PASSING
    return error


def without_key(document: Document, key: str | None) -> Document:
    """Return a document without a key in it; of one that is nested too deeply only its texts."""
    try:
        return mapping(blotted(document, key))
    except RecursionError:
        texts = {name: value for name, value in document.items() if isinstance(value, str)}
        return mapping(blotted(texts, key))


def blotted(value: object, key: str | None) -> object:
    """Return what JSON gave without a key in it, neither plain nor as Basic authentication."""
    if not key:
        return value
    if isinstance(value, str):
        basic = base64.b64encode(f"{key}:".encode()).decode()
        return value.replace(key, "***").replace(basic, "***")
    if isinstance(value, Mapping):
        return {str(blotted(name, key)): blotted(item, key) for name, item in value.items()}
    if isinstance(value, list):
        return [blotted(item, key) for item in value]
    return value


def message_of(status: int, document: Document | None) -> str:
    """Return the API's own words on one printable line, else the status in words."""
    said = text((document or {}).get("message"))
    said = "".join(c if c.isprintable() else " " for c in said[:LONGEST_MESSAGE]).strip()
    return said or f"the API answered {described(status)}"


def described(status: int) -> str:
    """Return a status with its usual words."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
