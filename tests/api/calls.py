"""One request, and every way to answer it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from tests.api.answers import Answer, Blob, failure
from tests.api.healthy import API, Request
from tests.api.wire import BLOCK, Connection, Pairs, chunk, head_bytes

if TYPE_CHECKING:
    from tests.api.server import ApiServer


class Call:
    """One request on one connection, and every way to answer it.

    A processing call counts as answered with success once, as soon as the client was told the
    truth about its result: with the head in binary mode, else with the whole document.
    """

    def __init__(self, server: ApiServer, connection: Connection, request: Request) -> None:
        self.server = server
        self.connection = connection
        self.request = request
        self.is_api = request.head.target.startswith(API)
        self.is_binary = request.is_binary
        self.is_last = request.head.is_last
        self.is_counted = False

    async def answer(self, *, authorised: bool = True) -> Answer:
        """Return the healthy answer; what the API's own code raises becomes a 500."""
        try:
            return await self.server.api.answer(self.request, authorised=authorised)
        except Exception as error:  # noqa: BLE001  the client's test shows it
            return failure(500, f"{type(error).__name__}: {error}", is_binary=self.is_binary)

    def count(self, answer: Answer) -> None:
        """Note that the client was told of this success."""
        if not self.is_counted:
            self.is_counted = True
            self.server.api.count(answer)

    def head(self, status: int, pairs: Pairs) -> bytes:
        """Return a head with the rate limit's headers, where `pairs` has none of its own."""
        pairs = list(pairs)
        names = {name.lower() for name, _ in pairs}
        rate = zip(("Limit", "Remaining", "Reset"), self.server.rate, strict=True)
        told = [(f"X-RateLimit-{name}", str(value)) for name, value in rate]
        missing = [pair for pair in told if self.is_api and pair[0].lower() not in names]
        return head_bytes(status, [*pairs, *missing])

    async def say(self, status: int, pairs: Pairs = (), body: bytes = b"") -> None:
        """Send a whole answer of the right length."""
        pairs = [*pairs, ("Content-Length", str(len(body)))]
        await self.connection.send(self.head(status, pairs) + body)

    async def begin(self, answer: Answer, *framing: tuple[str, str]) -> None:
        """Send an answer's head, which ends with the headers that say how long the body is."""
        if answer.is_binary:
            self.count(answer)
        await self.connection.send(self.head(answer.status, [*answer.pairs, *framing]))

    async def stream(self, blob: Blob, limit: int | None = None, *, chunked: bool = False) -> None:
        """Send a body, at most `limit` bytes of it; a chunked one without its last chunk."""
        left = blob.length if limit is None else limit
        with closing(blob.blocks()) as blocks:
            for block in blocks:
                if left <= 0:
                    return
                piece = block[:left]
                left -= len(piece)
                await self.connection.send(chunk(piece) if chunked else piece)

    async def give(self, answer: Answer) -> None:
        """Send an answer as it should be."""
        self.count(answer)
        body = answer.body
        framing = [("Content-Length", str(body.length))] if answer.status != 304 else []
        if self.is_last:
            framing.append(("Connection", "close"))
        if body.length > BLOCK:
            await self.begin(answer, *framing)
            await self.stream(body)
        else:
            head = self.head(answer.status, [*answer.pairs, *framing])
            await self.connection.send(head + body.read())

    async def end(self) -> None:
        """Close the connection in good order, whatever was promised on it."""
        self.is_last = True
        await self.connection.finish()
