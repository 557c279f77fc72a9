"""What a fault is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.api.calls import Call

Play = Callable[[Call], Awaitable[None]]

CLOSE = ("Connection", "close")


@dataclass(frozen=True)
class Fault:
    """One way to go wrong; `play` does it. Without `reads_body` the body is not read before."""

    name: str
    play: Play = field(repr=False)
    reads_body: bool = True

    def pick(self) -> Fault | None:
        """Return what happens to the next request."""
        return self

    def __str__(self) -> str:
        return self.name
