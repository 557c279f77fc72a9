"""A real HTTP/1.1 server that speaks as the image API does, and fails as a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter, deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from optidash_integrations.processors import Processor
from tests.api.calls import Call
from tests.api.certificates import certificate as certificate
from tests.api.faults import Fault
from tests.api.healthy import API, Api, Request
from tests.api.uploads import Upload
from tests.api.wire import BLOCK, GONE, Connection, Head

SECONDS = 30
"""Starting and closing take no longer, or something hangs."""


@dataclass(frozen=True)
class Seen:
    """One request as it came: `path` with its query, header names in lower case.

    `length` is how many bytes of its body were read. `body` is empty where there were more than
    the server's `kept_bytes`.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    length: int


class Body:
    """A request's body on its way in: an upload is taken apart, others are kept."""

    def __init__(self, server: ApiServer, head: Head) -> None:
        self.kept_bytes = server.kept_bytes
        self.length = 0
        self.raw = bytearray()
        kind = head.headers.get("content-type", "")
        is_upload = kind.lower().startswith("multipart/")
        self.upload = Upload(kind, server.api.folder) if is_upload else None

    def take(self, block: bytes) -> None:
        """Take some more of it."""
        self.length += len(block)
        if self.upload is None or self.length <= self.kept_bytes:
            self.raw += block
        else:
            self.raw.clear()
        if self.upload is not None:
            self.upload.write(block)

    def close(self) -> None:
        if self.upload is not None:
            self.upload.close()

    def seen(self, head: Head) -> Seen:
        body = bytes(self.raw) if self.length <= self.kept_bytes else b""
        return Seen(head.method, head.target, dict(head.headers), body, self.length)


class Queue:
    """The faults that wait for requests of one kind: those queued, then `always`."""

    def __init__(self) -> None:
        self.always: Fault | None = None
        self.queued: deque[Fault | None] = deque()

    def next(self) -> Fault | None:
        """Take the fault that the next request gets, None for none."""
        try:
            fault = self.queued.popleft()
        except IndexError:
            fault = self.always
        return fault.pick() if fault else None


class ApiServer:
    """A server on a free port of `host`, from `with` to the end of its block, on its own thread.

    With `tls` it speaks TLS, and its address has the name `localhost`. Without `processor` images
    are worked on by the embedded engine, which starts with the first that needs it. All attributes
    and methods may be used from any thread.

    `seen` has the requests in the order in which they came. `rate` is the limit, what remains of
    it and the seconds to its reset; a client needs `key`, unless that is None. `kept_bytes` is how
    long a body may be to be kept in `seen`.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        processor: Processor | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.tls = tls
        self.host = host
        self.api = Api(processor)
        self.seen: list[Seen] = []
        self.rate: tuple[int, int, int] = (100_000, 99_999, 900)
        self.kept_bytes = BLOCK
        self.errors: list[BaseException] = []
        self.api_faults = Queue()
        self.download_faults = Queue()
        self.port = 0
        self.open = 0
        self.changed = threading.Condition()
        self.tasks: set[asyncio.Task[None]] = set()

    # What tests set and read

    @property
    def origin(self) -> str:
        return f"{'https://localhost' if self.tls else f'http://{self.host}'}:{self.port}"

    @property
    def url(self) -> str:
        """The API's address, without a slash at its end."""
        return self.origin + API

    @property
    def key(self) -> str | None:
        return self.api.key

    @key.setter
    def key(self, key: str | None) -> None:
        self.api.key = key

    @property
    def storage(self) -> str:
        """Where `output.url` points to: this server, unless a test says otherwise."""
        return self.api.storage

    @storage.setter
    def storage(self, origin: str) -> None:
        self.api.storage = origin

    @property
    def calls(self) -> int:
        """How many processing calls were answered with success."""
        return self.api.calls

    @property
    def processed(self) -> Counter[str]:
        """How many of them had an image of this SHA-1."""
        with self.api.lock:
            return self.api.processed.copy()

    @property
    def always(self) -> Fault | None:
        """What happens to requests to the API when no fault waits in line."""
        return self.api_faults.always

    @always.setter
    def always(self, fault: Fault | None) -> None:
        self.api_faults.always = fault

    @property
    def always_download(self) -> Fault | None:
        """The same for downloads of results."""
        return self.download_faults.always

    @always_download.setter
    def always_download(self, fault: Fault | None) -> None:
        self.download_faults.always = fault

    def fail(self, *faults: Fault | None) -> None:
        """Let the next requests to the API meet these faults, in this order; None is health."""
        self.api_faults.queued.extend(faults)

    def fail_downloads(self, *faults: Fault | None) -> None:
        """Let the next downloads of results meet these faults."""
        self.download_faults.queued.extend(faults)

    @property
    def open_connections(self) -> int:
        """How many connections the clients have not closed, also where this server has."""
        return self.open

    def wait_closed(self, seconds: float = 5.0) -> bool:
        """Wait until no connection is open; False where that takes longer than `seconds`."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.open, seconds)

    # The thread

    def __enter__(self) -> Self:
        ready: Future[None] = Future()
        self.thread = threading.Thread(target=self.run, args=(ready,), daemon=True)
        self.thread.start()
        ready.result(SECONDS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break off all connections and end; raises what went wrong within the server itself."""
        self.loop.call_soon_threadsafe(self.ending.set)
        self.thread.join(SECONDS)
        assert not self.thread.is_alive(), "a processor still works"
        self.api.close()
        if self.errors:
            raise self.errors[0]

    def run(self, ready: Future[None]) -> None:
        try:
            asyncio.run(self.serve(ready))
        except BaseException as error:  # noqa: BLE001  it belongs to whoever started the server
            (self.errors.append if ready.done() else ready.set_exception)(error)

    async def serve(self, ready: Future[None]) -> None:
        self.loop, self.ending = asyncio.get_running_loop(), asyncio.Event()
        listening = await asyncio.start_server(
            self.met, self.host, 0, ssl=self.tls, limit=BLOCK, backlog=1024
        )
        self.port = listening.sockets[0].getsockname()[1]
        self.storage = self.storage or self.origin
        ready.set_result(None)
        await self.ending.wait()
        listening.close()
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)

    def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin with a new connection."""
        self.count_open(1)
        task = self.loop.create_task(self.converse(Connection(reader, writer)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def count_open(self, more: int) -> None:
        with self.changed:
            self.open += more
            self.changed.notify_all()

    async def converse(self, connection: Connection) -> None:
        """Answer one request after the other, until one side has enough."""
        try:
            with suppress(*GONE):
                while await self.exchange(connection):
                    pass
        except Exception as error:  # noqa: BLE001  `close` raises it
            self.errors.append(error)
        finally:
            await connection.close()
            self.count_open(-1)

    async def exchange(self, connection: Connection) -> bool:
        """Answer one request; say whether another may come on this connection."""
        head = await connection.head()
        if head is None:
            return False
        faults = self.download_faults if head.target.startswith("/temp/") else self.api_faults
        fault = faults.next()
        body = Body(self, head)
        try:
            if fault is None or fault.reads_body:
                await connection.body(head, body.take)
        finally:
            body.close()
            self.seen.append(body.seen(head))
        raw = b"" if body.upload else bytes(body.raw)
        call = Call(self, connection, Request(head, raw, body.upload))
        if fault is None:
            await call.give(await call.answer(authorised=False))
        else:
            await fault.play(call)
        if call.is_last:
            await connection.finish()
        return not call.is_last
