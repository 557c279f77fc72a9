"""A server of the whole API on a free port, in a thread, and ways to talk to it."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from optidash_integrations.server.app import Server, create
from optidash_integrations.server.configuration import Configuration
from optidash_integrations.server.database import Database
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.protocol import Protocol
from optidash_integrations.server.seams import Jobs, Storing
from tests.sites.photos import photo

BOUNDARY = "boundary-of-the-test"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
SECONDS = 30


@dataclass(frozen=True)
class Part:
    """A part of a multipart body."""

    name: str
    content: bytes
    file_name: str | None = None
    content_type: str | None = None

    def encoded(self) -> bytes:
        disposition = f'form-data; name="{self.name}"'
        if self.file_name is not None:
            disposition += f'; filename="{self.file_name}"'
        lines = [f"Content-Disposition: {disposition}"]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        head = "\r\n".join(lines).encode()
        return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + self.content + b"\r\n"


def image(content: bytes | None = None, name: str = "harbour.jpg") -> Part:
    return Part("file", photo() if content is None else content, name, "application/octet-stream")


def data(document: object) -> Part:
    text = document if isinstance(document, str) else json.dumps(document)
    return Part("data", text.encode())


def multipart(*parts: Part) -> bytes:
    end = f"--{BOUNDARY}--\r\n".encode()
    return b"".join(part.encoded() for part in parts) + end


@dataclass(frozen=True)
class Answer:
    """What came back; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def metadata(self) -> dict[str, Any]:
        """The document in the header of a binary answer."""
        assert self.headers["x-optidash-metadata"] == self.headers["x-optidash-meta"]
        return json.loads(self.headers["x-optidash-metadata"])


class Live:
    """A running server, with a key of its own."""

    def __init__(self, configuration: Configuration, server: Server, port: int) -> None:
        self.configuration = configuration
        self.server = server
        self.port = port
        with closing(Database(configuration.database)) as database:
            self.key, self.secret = Keys(database).create("shop", is_primary=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/1.0"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}"}

    @property
    def basic(self) -> dict[str, str]:
        pair = base64.b64encode(f"{self.secret}:".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        key: bool = True,
    ) -> Answer:
        own = (self.bearer if key else {}) | dict(headers or {})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, SECONDS)) as connection:
            connection.request(method, path, body, own)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())

    def upload(self, *parts: Part, headers: Mapping[str, str] | None = None) -> Answer:
        own = {"Content-Type": FORM} | dict(headers or {})
        return self.ask("POST", "/1.0/upload", multipart(*parts), own)

    def fetch(self, document: object, headers: Mapping[str, str] | None = None) -> Answer:
        own = {"Content-Type": "application/json"} | dict(headers or {})
        return self.ask("POST", "/1.0/fetch", json.dumps(document).encode(), own)

    def raw(self, sent: bytes, seconds: float = SECONDS) -> bytes:
        """Send bytes, and return all that comes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), seconds) as connection:
            connection.sendall(sent)
            received = b""
            with suppress(ConnectionResetError):
                while chunk := connection.recv(65536):
                    received += chunk
            return received

    def left_behind(self) -> list[str]:
        """Return what is still in the folders of work."""
        work = self.configuration.data_dir / "work"
        deadline = time.monotonic() + 5
        while True:
            found = [path.name for path in work.glob("*/*")]
            if not found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def results(self) -> int:
        """Return how many results there are."""
        return len(list((self.configuration.data_dir / "temp").glob("*/*/*")))


def configured(folder: Path, **values: Any) -> Configuration:
    usual: dict[str, Any] = {
        "database": f"sqlite:///{folder / 'server.sqlite3'}",
        "data_dir": folder,
        "engines": 1,
        "allowed_hosts": ("127.0.0.1",),
        "max_input_bytes": 1024 * 1024,
    }
    return Configuration(**usual | values)


@contextmanager
def running(
    configuration: Configuration,
    *,
    proxy: str | None = None,
    storing: Storing | None = None,
    jobs: Jobs | None = None,
    **more: Any,
) -> Iterator[Live]:
    """Run a server from here to the end of the block; `proxy` is an address that it trusts."""
    app = create(configuration, storing=storing, jobs=jobs, **more)
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=proxy is not None,
        forwarded_allow_ips=proxy,
        server_header=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            wait_until(lambda: server.started)
            live = Live(configuration, app.state.server, listening.getsockname()[1])
            wait_until(lambda: live.server.engines.is_ready)
            yield live
        finally:
            server.should_exit = True
            thread.join(SECONDS)
    assert not thread.is_alive()


def wait_until(question: Any, seconds: float = SECONDS) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
