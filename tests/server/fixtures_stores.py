"""Stores for tests, on free ports: an S3, Microsoft's own Azurite, and a stand-in for Swift."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from obstore.store import AzureStore

from tests.cache.servers import free_port, s3_address

__all__ = ["azurite", "azurite_address", "s3", "s3_address", "swift"]

ACCOUNT = "devstoreaccount1"
# Where `scripts/azurite` puts it.
INSTALLED = Path(__file__).parents[2] / "build" / "azurite" / "node_modules" / ".bin"

# What Azurite is shipped with, for everybody.
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class S3:
    """An S3 that everybody may look into."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="AKIATEST",
            aws_secret_access_key="s3cr3t",
        )

    def get(self, bucket: str, key: str) -> dict[str, Any]:
        found = self.client.get_object(Bucket=bucket, Key=key)
        with found["Body"] as body:
            return {**found, "content": body.read()}

    def is_public(self, bucket: str, key: str) -> bool:
        grants = self.client.get_object_acl(Bucket=bucket, Key=key)["Grants"]
        return any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)

    def keys(self, bucket: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return [one["Key"] for one in found]


@pytest.fixture
def s3(s3_address: str) -> Iterator[S3]:
    found = S3(s3_address)
    yield found
    found.client.close()


@pytest.fixture(scope="session")
def azurite_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of Azurite's account. AZURITE names the program where it is elsewhere.

    It comes from npm, which the project needs for nothing else, so it may be missing everywhere.
    """
    installed = shutil.which("azurite-blob", path=INSTALLED) or shutil.which("azurite-blob")
    program = os.environ.get("AZURITE") or installed
    if program is None:
        pytest.skip("azurite is not installed")
    port, folder = free_port(), tmp_path_factory.mktemp("azurite")
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    command = [program, *options, "--skipApiVersionCheck", "--disableTelemetry"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        wait_for(port, process, folder / "log")
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.kill()
        process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"Azurite did not start: {log.read_text()}")


class Azurite:
    """A container that everybody may look into."""

    def __init__(self, address: str, container: str) -> None:
        self.address = address
        self.container = container
        self.store = AzureStore(
            container,
            account_name=ACCOUNT,
            account_key=ACCOUNT_KEY,
            endpoint=address,
            client_options={"allow_http": True},
        )
        self.make()

    def make(self) -> None:
        """Make the container, which obstore can't."""
        request = container_request(self.address, self.container)
        urllib.request.urlopen(request).close()

    def get(self, key: str) -> tuple[bytes, dict[str, Any]]:
        found = self.store.get(key)
        return found.bytes().to_bytes(), dict(found.attributes)


def container_request(address: str, container: str) -> urllib.request.Request:
    """Return the request that makes a container, signed with the account's key."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    path = f"/{ACCOUNT}/{container}"
    canonical = f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
    signed = "\n".join(["PUT", *[""] * 11, canonical])
    digest = hmac.digest(base64.b64decode(ACCOUNT_KEY), signed.encode(), "sha256")
    return urllib.request.Request(
        f"{address}/{container}?restype=container",
        method="PUT",
        data=b"",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "content-type": "",
            "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )


@pytest.fixture
def azurite(azurite_address: str, request: pytest.FixtureRequest) -> Azurite:
    name = f"c{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]}"
    return Azurite(azurite_address, name)


class Swift(ThreadingHTTPServer):
    """As much of OpenStack's identity and object services as an upload needs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SwiftHandler)
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.containers = {"photos"}
        self.status = 201

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class SwiftHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Swift

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        given = asked["auth"]["RAX-KSKEY:apiKeyCredentials"]
        if (given["username"], given["apiKey"]) != ("team", "s3cr3t"):
            return self.answer(401, b"{}")
        place = {"region": "ORD", "tenantId": "1", "publicURL": f"{self.server.url}/v1/acc"}
        catalog = [
            {"name": "cloudFiles", "type": "object-store", "endpoints": [place]},
            {"name": "cloudFilesCDN", "type": "rax:object-cdn", "endpoints": [place]},
        ]
        token = {"id": "t0ken", "expires": "2099-01-01T00:00:00.000Z", "tenant": {"id": "1"}}
        user = {"id": "1", "name": "team", "roles": []}
        access = {"access": {"token": token, "serviceCatalog": catalog, "user": user}}
        return self.answer(200, json.dumps(access).encode())

    def do_HEAD(self) -> None:
        is_there = self.path.partition("?")[0].split("/")[3] in self.server.containers
        self.answer(204 if is_there else 404)

    def do_PUT(self) -> None:
        path = self.path.partition("?")[0]
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["x-auth-token"] != "t0ken":
            return self.answer(401)
        if path.split("/")[3] not in self.server.containers:
            return self.answer(404)
        if self.server.status == 201:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.objects[path] = body, headers
        return self.answer(self.server.status, etag=hashlib.md5(body).hexdigest())

    def answer(self, status: int, body: bytes = b"", etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("X-Container-Object-Count", "0")
        self.send_header("X-Container-Bytes-Used", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def swift() -> Iterator[Swift]:
    server = Swift()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
