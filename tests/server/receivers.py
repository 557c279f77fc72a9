"""Receivers of webhooks for tests, on free ports."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.background import in_thread


@dataclass(frozen=True)
class Delivery:
    """What came in: header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Receiver(ThreadingHTTPServer):
    """Takes deliveries; `answers` are statuses to be given once each, before 200."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.deliveries: list[Delivery] = []
        self.answers: list[int] = []
        self.more: dict[str, str] = {}
        self.got = threading.Semaphore(0)
        self.talks = threading.Event()
        self.talks.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class ReceiverHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.deliveries.append(Delivery(self.path, headers, body))
        self.server.got.release()
        self.server.talks.wait(20)
        status = self.server.answers.pop(0) if self.server.answers else 200
        self.close_connection = True
        try:
            self.send_response(status)
            for name, value in self.server.more.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
        except ConnectionError:
            pass  # who has sent it is gone

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with in_thread(server):
        yield server
        server.talks.set()
