"""Servers that tests of the shared tiers talk to, each private and on a free port."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.background import in_thread

BUCKET = "pictures"
CREDENTIALS = "region=us-east-1&access_key_id=AKIATEST&secret_access_key=s3cr3t-k3y&allow_http=true"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def absent(what: str) -> None:
    """Skip a test for want of a program, except where all of them must run."""
    reason = f"{what} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """A Redis of our own, which can be stopped and started again on the same port."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly no --dir {self.folder}"
        self.process = subprocess.Popen(
            [self.program, *options.split(), "--save", ""], stdout=subprocess.PIPE, text=True
        )
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        self.stop()
        pytest.fail(f"Redis did not start: {''.join(said)}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="session")
def redis_program() -> str:
    program = shutil.which("redis-server")
    if program is None:
        absent("redis-server")
    return program


@pytest.fixture(scope="session")
def redis_address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give the address of a Redis that all tests share, so each needs a prefix of its own."""
    given = os.environ.get("REDIS_URL")
    if given:
        yield given.partition("?")[0]
        return
    program = request.getfixturevalue("redis_program")
    server = RedisServer(program, tmp_path_factory.mktemp("redis"))
    yield server.url
    server.stop()


@pytest.fixture
def redis_url(redis_address: str) -> str:
    """Give an address with a prefix that no other test has."""
    return f"{redis_address}?prefix=test-{secrets.token_hex(8)}:"


@pytest.fixture
def redis_server(redis_program: str, tmp_path: Path) -> Iterator[RedisServer]:
    """Give a Redis that the test may stop."""
    server = RedisServer(redis_program, tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """Give the address of an S3 with a bucket."""
    try:
        from moto.server import ThreadedMotoServer
    except ModuleNotFoundError:
        absent("moto[server,s3]")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
    urllib.request.urlopen(bucket).close()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_address: str) -> str:
    """Give a cache address in that bucket, below a path that no other test has."""
    return bucket_url(s3_address, secrets.token_hex(8))


def bucket_url(endpoint: str, path: str) -> str:
    return f"s3://{BUCKET}/{path}?endpoint={endpoint}&{CREDENTIALS}"


class Bucket(ThreadingHTTPServer):
    """Stores and gives objects as S3 does, or answers `status` to everything; counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BucketHandler)
        self.objects: dict[str, bytes] = {}
        self.status = 200
        self.passing: list[int] = []
        """Statuses to be answered once each, before anything else."""
        self.requests: list[str] = []
        self.talks = threading.Event()
        self.talks.set()

    @property
    def url(self) -> str:
        return bucket_url(f"http://127.0.0.1:{self.server_port}", "here")


class BucketHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status = self.status()
        if status == 200:
            self.server.objects[self.path] = body
        self.answer(status)

    def do_GET(self) -> None:
        status = self.status()
        if status != 200:
            self.answer(status)
        elif self.path in self.server.objects:
            self.answer(200, self.server.objects[self.path])
        else:
            self.answer(404)

    def status(self) -> int:
        self.server.requests.append(f"{self.command} {self.path}")
        self.server.talks.wait(20)
        return self.server.passing.pop(0) if self.server.passing else self.server.status

    def answer(self, status: int, body: bytes = b"") -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"1"')
            self.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    """Give a tiny object store that can be told to fail."""
    server = Bucket()
    with in_thread(server):
        yield server
        server.talks.set()
