"""What a server does: calls a WSGI app, or an ASGI app on an event loop of its own."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

from tests.sites.base import HOST, OnBlock, Reply

PATHSEND = "http.response.pathsend"
SECONDS = 60
"""No request of a test takes longer, or it hangs."""


def parted(target: str) -> tuple[str, str]:
    path, _, query = target.partition("?")
    return path, query


def environ_of(
    method: str, target: str, headers: Mapping[str, str], *, raw: bool = True
) -> dict[str, Any]:
    path, query = parted(target)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": HOST,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": HOST,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if raw:
        environ["RAW_URI"] = target
    for name, value in headers.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def call_wsgi(app: Any, environ: dict[str, Any], on_block: OnBlock | None = None) -> Reply:
    """Call a WSGI app as PEP 3333 says; `validator` complains where the app does not."""
    head: list[Any] = []
    written: list[bytes] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        return written.append

    def noted(environ: dict[str, Any], begin: Any) -> Iterable[bytes]:
        def begun(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            head[:] = [int(status[:3]), headers]
            if head[0] == 416:  # for the validator, which overlooks that there is no body
                headers = [*headers, ("Content-Type", "text/plain")]
            return begin(status, headers, *exc_info)

        result: Iterable[bytes] = app(environ, begun)
        return result

    body: Iterable[bytes] = validator(noted)(environ, start_response)
    try:
        for block in body:
            if on_block and block:
                on_block(block)
            written.append(block)
    finally:
        body.close()  # type: ignore[attr-defined]
    pairs = tuple((name.lower(), value) for name, value in head[1])
    whole = b"".join(written)
    return Reply(head[0], pairs, b"" if environ["REQUEST_METHOD"] == "HEAD" else whole)


def scope_of(
    method: str, target: str, headers: Mapping[str, str], *, raw: bool = True
) -> dict[str, Any]:
    path, query = parted(target)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": [(b"host", HOST.encode())],
        "client": ("127.0.0.1", 4000),
        "server": (HOST, 80),
        "extensions": {},
    }
    if raw:
        scope["raw_path"] = path.encode("latin-1")
    scope["headers"] += [(n.lower().encode(), v.encode("latin-1")) for n, v in headers.items()]
    return scope


class Answering:
    """Collects what an ASGI app sends, and complains where it is out of order."""

    def __init__(self, on_block: OnBlock | None = None) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.on_block = on_block
        self.asked = False
        self.complete = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.complete.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        kind = message["type"]
        assert (kind == "http.response.start") is (not self.messages), f"{kind} out of order"
        assert not self.complete.is_set(), f"{kind} after the end"
        self.messages.append(message)
        if kind == "http.response.body":
            block = message.get("body", b"")
            if self.on_block and block:
                self.on_block(block)
            if not message.get("more_body"):
                self.complete.set()
        elif kind == PATHSEND:
            self.complete.set()

    def reply(self, method: str) -> Reply:
        assert self.complete.is_set(), "the answer has no end"
        start = self.messages[0]
        decoded = ((n.decode("latin-1"), v.decode("latin-1")) for n, v in start["headers"])
        pairs = tuple((name.lower(), value) for name, value in decoded)  # Django keeps capitals
        body = b"".join(map(body_of, self.messages[1:]))
        return Reply(start["status"], pairs, b"" if method == "HEAD" else body)


def body_of(message: Mapping[str, Any]) -> bytes:
    if message["type"] == PATHSEND:
        return Path(message["path"]).read_bytes()
    body: bytes = message.get("body", b"")
    return body


class Loop:
    """An event loop in a thread, as a server has one. `call` may be used from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def call(self, app: Any, scope: dict[str, Any], on_block: OnBlock | None = None) -> Reply:
        async def exchange() -> Reply:
            answering = Answering(on_block)
            await app(scope, answering.receive, answering.send)
            return answering.reply(scope["method"])

        reply: Reply = self.run(exchange())
        return reply

    def close(self) -> None:
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
