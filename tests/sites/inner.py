"""The inner app as data: which path answers what. Each framework says it in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Headers = tuple[tuple[str, str], ...]


@dataclass
class Stream:
    """A body that comes in blocks, and notes which of them were made."""

    blocks: tuple[bytes, ...]
    has_length: bool = False
    made: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[bytes]:
        for number, block in enumerate(self.blocks):
            self.made.append(f"made {number}")
            yield block

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self:
            yield block


@dataclass(frozen=True)
class Route:
    """An answer. A `Path` is sent the way the framework sends files; `session` writes to its own
    session.
    """

    body: bytes | Path | Stream = b""
    content_type: str = "image/jpeg"
    headers: Headers = ()
    status: int = 200
    session: bool = False

    @property
    def all_headers(self) -> Headers:
        length: Headers = ()
        if isinstance(self.body, Stream) and self.body.has_length:
            length = (("content-length", str(self.body.length)),)
        return (*self.headers, *length)


@dataclass(frozen=True)
class Seen:
    """What the inner app saw of a request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


NOT_FOUND = Route(b"not here\n", "text/plain", status=404)

Routes = dict[str, Route | Callable[[Seen], Route]]


class Inner:
    """The routes, which a test may change, and what was asked of them."""

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.seen: list[Seen] = []

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Route:
        seen = Seen(method, path, headers)
        self.seen.append(seen)
        found = self.routes.get(path, NOT_FOUND)
        return found if isinstance(found, Route) else found(seen)
