"""The interception, around `app.wsgi_app`.

It sits there and not in an `after_request` function because Flask adds its session cookie after all
of those: a private answer would look public.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from optidash_integrations.exchange import INNER, Answer, FileBody, Head, Request, Verdict
from optidash_integrations.flows import Flow
from optidash_integrations.interception import Interception, content_length
from optidash_integrations.ready import environ_key
from optidash_integrations.service import Service
from optidash_integrations.sources import path_of_open
from optidash_integrations.variants import ImageData

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CHUNK_BYTES = 64 * 1024
FILE_WRAPPER = "wsgi.file_wrapper"
SEEN = "optidash.request"
"""Where the middleware leaves the request for an image endpoint below it."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Middleware:
    """A WSGI app around another one. `service` gives the service, at the first request."""

    def __init__(self, app: WSGIApplication, service: Callable[[], Service]) -> None:
        self.app = app
        self.service = service

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        service = self.service()
        key = None
        if service.public_paths:
            key = environ_key(environ, service.ready)
            found = service.ready.find(key)
            if found is not None:
                start_response("200 OK", found[0].copy())
                return [found[1]]
        interception = service.intercept(request_of(environ))
        if interception is None:
            return self.app(environ, start_response)
        try:
            if interception.public:
                answer = guarded(service, interception.early())
                if isinstance(answer, Answer):
                    if key and interception.hit and answer.status == 200:
                        service.ready.put(key, interception.hit, answer.headers.copy())
                    return sent(answer, environ, start_response)
            inner = Inner(self.app, inner_environ(environ, interception), start_response)
            return self.answer(service, interception, inner, environ, start_response)
        finally:
            interception.close()

    def answer(
        self,
        service: Service,
        interception: Interception,
        inner: Inner,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        head = inner.head
        if head is None or not interception.considers(head):
            return inner.passed_on(environ)
        length = inner.length(head)
        if not interception.fits(length):
            return inner.passed_on(environ)
        with inner.closing_on_error():
            verdict = self.verdict(service, interception, inner, head, length)
        if not isinstance(verdict, Answer):
            return inner.passed_on(environ)
        if verdict.body is INNER:
            return inner.passed_on(environ, verdict)
        blocks = sent(verdict, environ, start_response)  # opens its file before the app's vanishes
        inner.close()
        return blocks

    def verdict(
        self,
        service: Service,
        interception: Interception,
        inner: Inner,
        head: Head,
        length: int | None,
    ) -> Answer | Verdict:
        path = inner.path
        flow = interception.from_head(head, length, in_file=path is not None)
        verdict: Answer | Verdict = guarded(service, flow)
        if verdict is not Verdict.BODY:
            return verdict
        data = path or inner.read(length or 0)
        if data is None or inner.head != head:  # not the body that the head promised
            return Verdict.PASS
        found: Answer | Verdict = guarded(service, interception.from_body(head, data))
        return found


def guarded(service: Service, flow: Flow[Any]) -> Any:
    """Carry out a flow; whatever fails in it, the inner answer goes through."""
    try:
        return service.run(flow)
    except Exception as error:  # noqa: BLE001  the visitor gets the original
        service.pass_over(error)
        return Verdict.PASS


class FileWrapper:
    """Our `wsgi.file_wrapper`: it keeps the file, so that a hit need not read it (PEP 3333)."""

    def __init__(self, file: BinaryIO, block_size: int = CHUNK_BYTES) -> None:
        self.file = file
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        """Give the file in blocks."""
        while block := self.file.read(self.block_size):
            yield block

    def close(self) -> None:
        """Close the file, where it can be closed."""
        if hasattr(self.file, "close"):
            self.file.close()


class Inner:
    """The inner app's answer: its head, and a body that is read only when it has to be.

    What the app does past the point where its answer goes on as it is (an error that replaces the
    head, blocks it writes itself) goes to the server's own `start_response`.
    """

    def __init__(
        self, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self.server = start_response
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.exc_info: ExcInfo | None = None
        self.passing = False
        self.first: list[bytes] = []
        self.body: Iterable[bytes] = app(environ, self.start_response)
        if not self.status:
            self.begin()

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Take the head; once the answer is passed on, the server takes it."""
        if self.passing:
            return self.server(status, headers, exc_info)
        self.status, self.headers, self.exc_info = status, headers, exc_info
        return self.write

    def write(self, block: bytes) -> None:
        """Pass a block on at once, and with it the whole answer (PEP 3333, the write callable)."""
        if not self.passing:
            self.begin_passing()
        self.server_write(block)

    def begin_passing(self) -> None:
        self.passing = True
        self.server_write = self.server(self.status, self.headers, self.exc_info)

    def begin(self) -> None:
        """Pull the first block: an app that is a generator calls `start_response` only then."""
        with self.closing_on_error():
            blocks = iter(self.body)
            first = next(blocks, None)
        if first is not None:
            self.first = [first]
        self.body = Chained(blocks, self.body)

    @contextmanager
    def closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    @property
    def head(self) -> Head | None:
        """The neutral facts; None for an app that writes by itself, or never began."""
        if not self.status or self.passing:
            return None
        headers = [(name.lower(), value) for name, value in self.headers]
        return Head(int(self.status[:3]), headers)

    @property
    def path(self) -> Path | None:
        """The local file that is the body, from its beginning, where it is one."""
        if not isinstance(self.body, FileWrapper) or self.first:
            return None
        return path_of_open(self.body.file)

    def length(self, head: Head) -> int | None:
        """Return the body's length in bytes, or None where it is not known without reading it."""
        path = self.path
        if path is not None:
            return path.stat().st_size
        length = content_length(head)
        if length is None and isinstance(self.body, list | tuple):
            return sum(map(len, self.body))
        return length

    def read(self, length: int) -> ImageData | None:
        """Return the whole body; None, and nothing lost, where it is not `length` bytes long."""
        blocks, size = self.first, sum(map(len, self.first))
        with self.closing_on_error():
            rest = iter(self.body)
            for block in rest:
                blocks.append(block)
                size += len(block)
                if size > length:
                    break
        self.first, self.body = blocks, Chained(rest, self.body)
        if size != length:
            return None
        data = b"".join(blocks)
        self.first = [data]
        return data

    def passed_on(self, environ: WSGIEnvironment, answer: Answer | None = None) -> Iterable[bytes]:
        """Send the inner answer on, under the head of `answer` where there is one."""
        if answer is not None:
            self.passing = True
            self.server(status_line(answer.status), answer.headers)
        elif self.status and not self.passing:
            self.begin_passing()
        if isinstance(self.body, FileWrapper) and not self.first:
            wrapper = environ.get(FILE_WRAPPER, FileWrapper)
            wrapped: Iterable[bytes] = wrapper(self.body.file, CHUNK_BYTES)
            return wrapped
        return Chained(self.body, self.body, self.first) if self.first else self.body

    def close(self) -> None:
        """Close the body, which PEP 3333 asks of whoever does not pass it on."""
        close_all(self.body)


class Chained:
    """Blocks that were read already, then the rest; closing it closes the app's own body."""

    def __init__(
        self, blocks: Iterable[bytes], owner: Iterable[bytes], first: Iterable[bytes] = ()
    ) -> None:
        self.blocks = blocks
        self.owner = owner
        self.first = first

    def __iter__(self) -> Iterator[bytes]:
        """Give all blocks."""
        yield from self.first
        yield from self.blocks

    def close(self) -> None:
        """Close the body that they came from."""
        close_all(self.owner)


def close_all(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()


def request_of(environ: WSGIEnvironment) -> Request:
    """Return the facts of a request, as the visitor sent them: nothing hidden from the app."""
    seen = environ.get(SEEN)
    if isinstance(seen, Request):
        return seen
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    raw = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    return Request(
        method=environ["REQUEST_METHOD"],
        path=path.encode("latin-1").decode("utf-8", "replace"),  # PEP 3333: bytes as latin-1
        query=environ.get("QUERY_STRING", ""),
        headers=headers,
        raw_path=raw.partition("?")[0] if raw.startswith("/") else "",
    )


def inner_environ(environ: WSGIEnvironment, interception: Interception) -> WSGIEnvironment:
    """Return the environment that the inner app sees."""
    hidden = {"HTTP_" + name.upper().replace("-", "_") for name in interception.hidden}
    if not hidden and not interception.is_image_path:
        return environ
    inner = {name: value for name, value in environ.items() if name not in hidden}
    inner[SEEN] = interception.request
    if interception.is_image_path:
        inner[FILE_WRAPPER] = FileWrapper
    return inner


def status_line(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


def sent(
    answer: Answer, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Send an answer whose body is its own: bytes, or a file."""
    start_response(status_line(answer.status), answer.headers)
    return body_blocks(answer, environ)


def body_blocks(answer: Answer, environ: WSGIEnvironment) -> Iterable[bytes]:
    """Return the body of an answer that is not the inner app's."""
    body = answer.body
    if isinstance(body, FileBody):
        return file_blocks(body, environ)
    assert isinstance(body, bytes)
    return [body] if body else []


def file_blocks(body: FileBody, environ: WSGIEnvironment) -> Iterable[bytes]:
    file = body.file or body.path.open("rb")
    file.seek(body.offset)
    is_whole = not body.offset and body.length == os.fstat(file.fileno()).st_size
    if is_whole and FILE_WRAPPER in environ:
        wrapped: Iterable[bytes] = environ[FILE_WRAPPER](file, CHUNK_BYTES)
        return wrapped
    return Part(file, body.length)


class Part:
    """The next `length` bytes of an open file, in blocks."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.file = file
        self.left = length

    def __iter__(self) -> Iterator[bytes]:
        """Give the blocks."""
        while self.left > 0 and (block := self.file.read(min(CHUNK_BYTES, self.left))):
            self.left -= len(block)
            yield block

    def close(self) -> None:
        """Close the file."""
        self.file.close()
