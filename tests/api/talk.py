"""How tests of the server itself speak to it."""

from __future__ import annotations

import hashlib
import json
import socket
from typing import Any

import httpx

from tests.api.server import ApiServer

BINARY = {"X-Optidash-Binary": "1"}
ECHO = {"echo": True}
JPEG = b"\xff\xd8\xff and so on" * 100
BASIC = ("test-key", "")
GET = b"GET /1.0/account HTTP/1.1\r\n\r\n"


def upload(
    server: ApiServer,
    client: httpx.Client,
    operations: Any = None,
    data: bytes = JPEG,
    *,
    binary: bool = False,
    name: str = "cat.jpg",
) -> httpx.Response:
    operations = ECHO if operations is None else operations
    headers = BINARY if binary else {}
    return client.post(
        f"{server.url}/upload",
        files={"file": (name, data)},
        data={"data": json.dumps(operations)},
        headers=headers,
    )


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def raw(server: ApiServer, request: bytes) -> bytes:
    """Return all that comes until the server has closed the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        blocks = []
        while block := connection.recv(65536):
            blocks.append(block)
    return b"".join(blocks)


def told(answer: httpx.Response) -> Any:
    """Return the metadata of a binary answer."""
    return json.loads(answer.headers["x-optidash-metadata"])
