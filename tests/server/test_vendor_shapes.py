"""The vendor's Python client, unmodified, and the requests that the vendor's other clients send."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from optidash import optidash
from PIL import Image

from tests.origin import Origin
from tests.server.live import Answer, Live, configured, running
from tests.sites.photos import photo

# The client leaves its files and connections to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SMALL = {"resize": {"width": 60}}
WRONG = {"resize": {"width": "wide"}}
SAID = "resize.width"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(configured(tmp_path_factory.mktemp("vendor"))) as found:
        yield found


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "harbour.jpg"
    path.write_bytes(photo())
    return str(path)


@pytest.fixture
def address() -> Iterator[str]:
    with Origin() as origin:
        origin.routes["/harbour.jpg"] = lambda headers: (200, {}, photo())
        yield f"http://127.0.0.1:{origin.port}/harbour.jpg"


def size_of(content: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(content)).size


# Python: the package `optidash`


def uploading(live: Live) -> Any:
    return optidash(live.secret, f"{live.url}/upload")


def fetching(live: Live) -> Any:
    return optidash(live.secret, f"{live.url}/fetch")


def test_python_gets_the_document_of_an_upload(live: Live, picture: str) -> None:
    error, meta = uploading(live).upload(picture).resize({"width": 60}).toJSON()
    assert error is None
    assert (meta["input"]["name"], meta["output"]["width"]) == ("harbour.jpg", 60)


def test_python_uploads_from_memory(live: Live) -> None:
    error, meta, content = (
        uploading(live).upload(io.BytesIO(photo())).resize(SMALL["resize"]).toBuffer()
    )
    assert error is None
    assert (size_of(content), meta["output"]["bytes"]) == ((60, 40), len(content))


def test_python_writes_a_file(live: Live, picture: str, tmp_path: Path) -> None:
    target = tmp_path / "small.webp"
    chain = uploading(live).upload(picture).resize(SMALL["resize"]).output({"format": "webp"})
    error, meta = chain.toFile(str(target))
    assert error is None
    assert (meta["output"]["format"], size_of(target.read_bytes())) == ("WEBP", (60, 40))


def test_python_writes_no_file_of_a_failure(live: Live, picture: str, tmp_path: Path) -> None:
    target = tmp_path / "none.jpg"
    error, meta = uploading(live).upload(picture).resize({"width": "wide"}).toFile(str(target))
    assert SAID in error
    assert meta["code"] == 422
    assert not target.exists()


def test_python_lets_images_be_fetched(live: Live, address: str, tmp_path: Path) -> None:
    error, meta = fetching(live).fetch(address).scale({"size": 0.5}).toJSON()
    assert (error, meta["output"]["width"]) == (None, 60)
    error, _, content = fetching(live).fetch(address).resize(SMALL["resize"]).toBuffer()
    assert (error, size_of(content)) == (None, (60, 40))
    error, _ = fetching(live).fetch(address).toFile(str(tmp_path / "fetched.jpg"))
    assert (error, size_of((tmp_path / "fetched.jpg").read_bytes())) == (None, (120, 80))


def test_python_is_told_what_was_wrong(live: Live, picture: str) -> None:
    error, meta = uploading(live).upload(picture).resize({"width": "wide"}).toJSON()
    assert SAID in error
    assert meta is None
    error, meta = optidash("wrong", f"{live.url}/upload").upload(picture).toJSON()
    assert "API key" in error


def test_python_may_ask_for_operations_without_parameters(live: Live, picture: str) -> None:
    chain = uploading(live).upload(picture).resize().auto().border().padding().flip().optimize()
    error, meta = chain.toJSON()
    assert (error, meta["output"]["width"]) == (None, 120)


def test_python_chains_all_that_it_knows(live: Live, picture: str) -> None:
    chain = (
        uploading(live)
        .upload(picture)
        .resize({"width": 80, "height": "80", "mode": "fit"})
        .scale({"size": 0.5})
        .filter({"sepia": True})
        .adjust({"brightness": 10})
        .auto({"enhance": True})
        .flip({"horizontal": True})
        .mask({"shape": "ellipse"})
        .border({"size": 2, "color": "#ff0000"})
        .padding({"top": 1})
        .optimize({"compression": "high"})
        .output({"format": "png"})
    )
    error, meta = chain.toJSON()
    assert error is None
    assert meta["output"]["format"] == "PNG"


# The others: their requests as they stand on the wire


def basic(live: Live) -> str:
    return "Basic " + base64.b64encode(f"{live.secret}:".encode()).decode()


def sent(
    live: Live, path: str, headers: Mapping[str, str], body: bytes, *, waits: bool = False
) -> Answer:
    """Send a request as it is written; with `waits` the body when the server asks for it."""
    own = {"Host": f"127.0.0.1:{live.port}", **headers, "Connection": "close"}
    own["Content-Length"] = str(len(body))
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in own.items()), "", ""]
    head = "\r\n".join(lines).encode()
    with socket.create_connection(("127.0.0.1", live.port), 30) as connection:
        connection.sendall(head)
        if waits:
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    start, _, content = received.partition(b"\r\n\r\n")
    first, *fields = start.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in fields)
    return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs}, content)


def part(head: str, content: bytes, boundary: str) -> bytes:
    return f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n"


def end_of(boundary: str) -> bytes:
    return f"--{boundary}--\r\n".encode()


def as_swift(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """`data` first, with a line break after the JSON; a type by the extension; Bearer."""
    boundary = "Boundary-5F3C2A"
    body = part('Content-Disposition: form-data; name="data"', text(document) + b"\r\n", boundary)
    head = (
        'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg'
    )
    body += part(head, photo(), boundary) + end_of(boundary)
    own = {
        "Authorization": f"Bearer {live.secret}",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body)


def as_go(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """An empty file name, and the type that says nothing."""
    boundary = "c0ffee" * 10
    head = (
        'Content-Disposition: form-data; name="file"; filename=""\r\n'
        "Content-Type: application/octet-stream"
    )
    body = part(head, photo(), boundary)
    body += part('Content-Disposition: form-data; name="data"', text(document), boundary)
    own = {
        "User-Agent": "Go-http-client/1.1",
        "Authorization": basic(live),
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Accept-Encoding": "gzip",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body + end_of(boundary))


def as_java(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """`multipart/mixed`, and each part with its length."""
    boundary = "1f0e-77"
    head = 'Content-Disposition: form-data; name="data"\r\nContent-Length: {}'
    content = text(document)
    body = part(head.format(len(content)), content, boundary)
    head = (
        'Content-Disposition: form-data; name="file"; filename="a.png"\r\n'
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(photo())}"
    )
    body += part(head, photo(), boundary)
    own = {
        "Authorization": basic(live),
        "Content-Type": f"multipart/mixed; boundary={boundary}",
        "Accept-Encoding": "gzip",
        "User-Agent": "okhttp/3.10.0",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body + end_of(boundary))


def as_php(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """curl, which waits for `100 Continue`; no operations are `[]`."""
    boundary = "------------------------d74496d66958873e"
    body = part(
        'Content-Disposition: form-data; name="data"', text(document or []), boundary
    ) + part(
        'Content-Disposition: form-data; name="file"; filename="harbour.jpg"\r\n'
        "Content-Type: image/jpeg",
        photo(),
        boundary,
    )
    own = {
        "Authorization": basic(live),
        "User-Agent": "Optidash/1.0.0 PHP/8.2.1 CURL/7.88.1",
        "Accept": "*/*",
        "Accept-Encoding": "gzip",
        "Expect": "100-continue",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body + end_of(boundary), waits=True)


def as_node(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """It asks for JSON, whatever it wants; its parts come in chunks of their own."""
    boundary = "--------------------------515890814546601021194782"
    body = part('Content-Disposition: form-data; name="data"', text(document), boundary)
    head = (
        'Content-Disposition: form-data; name="file"; filename="harbour.jpg"\r\n'
        "Content-Type: image/jpeg"
    )
    body += part(head, photo(), boundary)
    own = {
        "Authorization": basic(live),
        "Accept": "application/json",
        "Content-Type": f"multipart/form-data; boundary={boundary}",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body + end_of(boundary))


def as_ruby(live: Live, document: object, headers: Mapping[str, str]) -> Answer:
    """Names of headers in lower case, among them one that asks for a compressed answer."""
    boundary = "-----------RubyMultipartPost-d2a1"
    head = (
        'Content-Disposition: form-data; name="file"; filename="harbour.jpg"\r\n'
        f"Content-Length: {len(photo())}\r\nContent-Type: image/jpeg\r\n"
        "Content-Transfer-Encoding: binary"
    )
    body = part(head, photo(), boundary)
    body += part('Content-Disposition: form-data; name="data"', text(document), boundary)
    own = {
        "accept-encoding": "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        "authorization": basic(live),
        "content-type": f"multipart/form-data; boundary={boundary}",
    }
    return sent(live, "/1.0/upload", own | dict(headers), body + end_of(boundary))


def text(document: object) -> bytes:
    return json.dumps(document).encode()


CLIENTS = {
    "swift": (as_swift, "true"),
    "go": (as_go, "1"),
    "java": (as_java, "true"),
    "php": (as_php, "1"),
    "node": (as_node, "1"),
    "ruby": (as_ruby, "1"),
}
each_client = pytest.mark.parametrize(("send", "value"), CLIENTS.values(), ids=CLIENTS)


@each_client
def test_each_gets_the_document_of_an_upload(live: Live, send: Any, value: str) -> None:
    answer = send(live, SMALL, {})
    assert answer.status == 200
    found = answer.json
    assert (found["success"], found["code"], found["output"]["width"]) == (True, 200, 60)
    assert "message" not in found  # which Node takes for a failure


@each_client
def test_each_gets_the_image(live: Live, send: Any, value: str) -> None:
    answer = send(live, SMALL, {"X-Optidash-Binary": value})
    assert (answer.status, size_of(answer.body)) == (200, (60, 40))
    assert answer.metadata["output"]["bytes"] == len(answer.body)


@each_client
def test_each_may_ask_for_nothing(live: Live, send: Any, value: str) -> None:
    answer = send(live, {}, {})
    assert (answer.status, answer.json["output"]["width"]) == (200, 120)


@each_client
def test_each_is_told_what_was_wrong(live: Live, send: Any, value: str) -> None:
    found = send(live, WRONG, {}).json
    assert (found["success"], found["code"]) == (False, 422)
    assert SAID in found["message"]
    failed = send(live, WRONG, {"X-Optidash-Binary": value})
    assert (failed.status, failed.body) == (422, b"")
    assert SAID in failed.metadata["message"]


@pytest.mark.parametrize("other", [{"store": {"id": "shop"}}, {"webhook": {"url": "https://a.b/"}}])
def test_swift_gets_no_image_of_what_goes_elsewhere(live: Live, other: dict[str, object]) -> None:
    answer = as_swift(live, SMALL | other, {"X-Optidash-Binary": "true"})
    assert (answer.status, answer.body) == (422, b"")


def test_php_shows_the_account(live: Live) -> None:
    found = live.ask("GET", "/1.0/account", headers=live.basic, key=False).json
    assert found["subscription"]["name"] == "shop"
    assert {"total", "used", "remaining"} <= found["credits"].keys() & found["quota"].keys()
