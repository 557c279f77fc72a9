"""The neutral facts that adapters and the service exchange. Nothing here knows a framework."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Headers = list[tuple[str, str]]
"""Names in lower case; a name may come more than once."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a visitor asks.

    `path` is the whole path, decoded once, with the mount point; `raw_path` the same as the browser
    sent it; `query` is without its question mark; header names are lower-case, repeated ones joined
    by a comma.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    raw_path: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of the inner application's answer."""

    status: int
    headers: Sequence[tuple[str, str]]

    def get(self, name: str) -> str | None:
        """Return the values of a header joined by commas, or None."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class FileBody:
    """A body that lies in a file of `total` bytes: `length` of them from `offset`.

    `file` is the same file opened, so that it can't vanish before it is sent; the adapter closes
    it. Without it the adapter opens `path`.
    """

    path: Path
    offset: int
    length: int
    total: int
    file: BinaryIO | None = None


class Verdict(Enum):
    """What else the service can say of an inner answer than an answer of its own."""

    PASS = "pass it on as it is"  # noqa: S105
    BODY = "its body is needed"


class InnerBody(Enum):
    """Stands for the inner answer's own body, to be passed on as it comes."""

    INNER = "inner"


INNER = InnerBody.INNER

Body = bytes | FileBody | InnerBody


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the visitor."""

    status: int
    headers: Headers
    body: Body = b""
