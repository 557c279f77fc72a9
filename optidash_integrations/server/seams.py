"""What the server needs of external storage and of webhooks, whoever does them.

An app without them refuses `store` and `webhook` with a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optidash_integrations.server.keys import Key

Document = dict[str, Any]

NO_STORAGE = "'store' is not available on this server"
NO_WEBHOOKS = "'webhook' is not available on this server"


@dataclass(frozen=True, slots=True)
class Work:
    """A request that is answered later, in values that a database can hold.

    `document` is the operations document as it came, with `url` and `headers` for a fetch; `source`
    is the file of an upload, None for a fetch; `name` the one that it was sent with. `base_url` is
    where the client reached the server.
    """

    id: str
    key: Key
    document: Document
    base_url: str
    source: Path | None = None
    name: str = ""
    size: int = 0


Perform = Callable[[Work], Awaitable[Document]]
"""Does such a request: returns the document of its success or failure, and never raises. It leaves
`source` where it is."""


class Storing(Protocol):
    """Puts results where clients want them. Methods are called in threads."""

    def checked(self, document: Mapping[str, Any], key: Key) -> object:
        """Return the place that a `store` object names.

        Raises OptionError or RefusedError for what is wrong in it.
        """

    def put(self, place: object, file: Path, name: str, media_type: str) -> str:
        """Store a file, and return its address. Raises OptidashError where that fails."""

    def close(self) -> None:
        """Close all connections."""


class Jobs(Protocol):
    """Keeps requests that are answered later, has them done, and delivers what comes of them."""

    async def start(self, perform: Perform) -> None:
        """Begin to do what waits, what processes that have ended left included."""

    async def close(self) -> None:
        """End; what is not done stays for the next process."""

    def checked(self, document: Mapping[str, Any]) -> object:
        """Return what a `webhook` object asks for; called in a thread.

        Raises OptionError or RefusedError for what is wrong in it.
        """

    async def accept(self, work: Work, webhook: object) -> None:
        """Keep a request; its `source` file is to be moved or copied before this returns."""

    def counts(self) -> Mapping[str, int]:
        """Return how many requests there are in each state; called in a thread."""

    def listing(self, key: Key, query: Mapping[str, str]) -> Document:
        """Return the answer to `GET /1.0/webhooks/`; called in a thread, raises as `checked`."""

    def one(self, key: Key, id: str) -> Document:
        """Return the answer to `GET /1.0/webhooks/{id}`; raises MissingError."""
