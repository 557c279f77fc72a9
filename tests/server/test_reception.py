"""Uploads: what is taken, whoever sends it, and what is refused with a sentence."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from optidash_integrations.server.engine_process import SHARED
from optidash_integrations.server.reception import Form, Pace, clean_name, received
from tests.server.live import BOUNDARY, FORM, Live, Part, configured, data, image, multipart
from tests.server.live import running as run
from tests.sites.photos import photo

RESIZE = {"resize": {"width": 30}}
LIMIT = 1024 * 1024


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with run(configured(tmp_path_factory.mktemp("server"), body_seconds=1.0)) as found:
        yield found


def width(live: Live, body: bytes, content_type: str = FORM) -> int:
    answer = live.ask("POST", "/1.0/upload", body, {"Content-Type": content_type})
    assert answer.status == 200, answer.body
    return answer.json["output"]["width"]


# Memory


async def in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


@pytest.mark.parametrize("spare", [-1, 0])
async def test_only_what_is_too_large_for_memory_goes_to_a_file(tmp_path: Path, spare: int) -> None:
    content = photo() * 3
    body, path = multipart(image(content), data(RESIZE)), tmp_path / "source"
    pace = Pace(30.0)
    upload = await received(in_pieces(body), FORM, path, LIMIT, pace, len(content) + spare)
    assert (upload.size, json.loads(upload.document)) == (len(content), RESIZE)
    if spare < 0:
        assert upload.source == path
        assert path.read_bytes() == content
    else:
        assert upload.source == content
        assert not path.exists()


async def test_a_refused_upload_leaves_no_bytes_with_its_form(tmp_path: Path) -> None:
    form = Form(FORM, tmp_path / "source", LIMIT)
    form.feed(multipart(image(), data(RESIZE)))
    assert form.blocks
    form.close()
    assert not form.blocks


def test_the_more_uploads_there_are_the_less_memory_each_may_have(live: Live) -> None:
    studio = live.server.studio

    async def memory(rooms: int) -> int:
        async with AsyncExitStack() as stack:
            found = [await stack.enter_async_context(studio.room()) for _ in range(rooms)]
        return found[-1].memory

    assert asyncio.run(memory(1)) == SHARED
    assert asyncio.run(memory(64)) == 1024 * 1024
    assert studio.open_rooms == 0


# 8.5, 2 to 4


@pytest.mark.parametrize(
    "parts",
    [
        (image(), data(RESIZE)),
        (data(RESIZE), image()),
        (data(json.dumps(RESIZE) + "\r\n"), image()),
        (data("  " + json.dumps(RESIZE)), image()),
        (image(name=""), data(RESIZE)),
        (Part("file", photo()), data(RESIZE)),
        (image(name="file"), data(RESIZE)),
        (Part("file", photo(), "x.png", "image/png"), data(RESIZE)),
        (Part("other", b"passed over"), image(), data(RESIZE)),
        (image(), Part("data", json.dumps(RESIZE).encode(), "blob", "application/json")),
        (image(), data({"resize": {"width": "30"}})),
    ],
)
def test_parts_come_as_the_vendors_clients_send_them(live: Live, parts: tuple[Part, ...]) -> None:
    assert width(live, multipart(*parts)) == 30


@pytest.mark.parametrize(
    "parts",
    [
        (image(),),
        (image(), data("")),
        (image(), data("[]")),
        (image(), data("{}")),
        (image(), data("null")),
        (image(), data({"resize": {}, "optimize": {}, "filter": {}})),
        (image(), data({"cdn": {"push": False}, "store": {}, "webhook": {}, "response": {}})),
    ],
)
def test_no_operations_are_none(live: Live, parts: tuple[Part, ...]) -> None:
    assert width(live, multipart(*parts)) == 120


def test_mixed_parts_are_taken_as_a_form(live: Live) -> None:
    kind = f'multipart/mixed; boundary="{BOUNDARY}"'
    assert width(live, multipart(image(), data(RESIZE)), kind) == 30


def test_what_stands_after_the_last_boundary_is_passed_over(live: Live) -> None:
    assert width(live, multipart(image(), data(RESIZE)) + b"epilogue\r\n") == 30


def test_a_body_may_come_in_chunks_and_after_a_question(live: Live) -> None:
    body = multipart(image(), data(RESIZE))
    head = (
        f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
        f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        for at in range(0, len(body), 100):
            chunk = body[at : at + 100]
            connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_a_refused_key_is_told_before_the_body_is_sent(live: Live) -> None:
    head = (
        f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
        "Content-Length: 999999\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


# What is refused

DEEP = '{"text": ' * 50_000 + "1" + "}" * 50_000
LONG = json.dumps({"text": {"text": "x" * 1_000_000}})


@pytest.mark.parametrize(
    ("body", "content_type", "status", "said"),
    [
        (multipart(data(RESIZE)), FORM, 422, "'file' part is missing"),
        (multipart(), FORM, 422, "'file' part is missing"),
        (multipart(image(), image()), FORM, 422, "'file' part must come only once"),
        (multipart(image(), data({}), data({})), FORM, 422, "'data' part must come only once"),
        (multipart(image(b"")), FORM, 422, "'file' part must not be empty"),
        (b"", FORM, 400, "ends too early"),
        (multipart(image())[:-20], FORM, 400, "ends too early"),
        (multipart(image())[:200], FORM, 400, "ends too early"),
        (multipart(image()), "multipart/form-data; boundary=other", 400, "can't be read"),
        (multipart(image()), "multipart/form-data", 400, "must name the boundary"),
        (multipart(image()), f"multipart/form-data; boundary={'x' * 71}", 400, "the boundary"),
        (b"nonsense", FORM, 400, "can't be read"),
        (b"{}", "application/json", 415, "must be multipart/form-data"),
        (photo(), "image/jpeg", 415, "must be multipart/form-data"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "must be multipart/form-data"),
        (multipart(*[Part("x", b"")] * 40), FORM, 400, "more than 32 parts"),
        (multipart(image(), data("{")), FORM, 400, "must be valid JSON"),
        (multipart(image(), data('{"scale": {"size": NaN}}')), FORM, 400, "must be valid JSON"),
        (multipart(image(), Part("data", b"\xff\xfe\xfd")), FORM, 400, "must be valid JSON"),
        (multipart(image(), data(DEEP)), FORM, 400, "must be valid JSON"),
        (multipart(image(), data(f'{{"store": {"[" * 900 + "]" * 900}}}')), FORM, 400, "32 levels"),
        (
            multipart(image(), data(f'{{"resize": {"[" * 900 + "]" * 900}}}')),
            FORM,
            400,
            "32 levels",
        ),
        (multipart(image(), data("17")), FORM, 422, "must be a JSON object"),
        (multipart(image(), data("[1]")), FORM, 422, "must be a JSON object"),
        (multipart(image(), data('"text"')), FORM, 422, "must be a JSON object"),
        (multipart(image(), data({"x": {}})), FORM, 422, "operations takes only"),
        (multipart(image(), data({"resize": 5})), FORM, 422, "resize takes an object"),
        (multipart(image(), data({"resize": {"w": 5}})), FORM, 422, "resize takes"),
        (multipart(image(), data({"response": "binary"})), FORM, 422, "response takes an object"),
        (multipart(image(), data({"response": {"mode": "x"}})), FORM, 422, "response.mode takes"),
        (multipart(image(), data({"store": 5})), FORM, 422, "store takes an object"),
        (multipart(image(), data({"webhook": True})), FORM, 422, "webhook takes an object"),
        (multipart(image(), data(LONG)), FORM, 422, "text"),
        (multipart(image(), data(" " * 1_100_000)), FORM, 413, "at most 1048576 bytes"),
        (multipart(image(b"no image")), FORM, 415, "image"),
        (multipart(image(photo()[:300])), FORM, 422, "damaged"),
        (multipart(image(bytes(LIMIT + 1))), FORM, 413, f"at most {LIMIT} bytes"),
        (multipart(Part("x", bytes(3 * LIMIT)), image()), FORM, 413, f"at most {LIMIT} bytes"),
    ],
    ids=str,
)
def test_bad_uploads_are_refused_with_a_sentence_and_leave_nothing(
    live: Live, body: bytes, content_type: str, status: int, said: str
) -> None:
    before = live.results()
    answer = live.ask("POST", "/1.0/upload", body, {"Content-Type": content_type})
    assert (answer.status, answer.json["code"], answer.json["success"]) == (status, status, False)
    assert said in answer.json["message"]
    assert live.left_behind() == []
    assert live.results() == before


def test_a_picture_of_too_many_pixels_is_refused(live: Live) -> None:
    width, height = (60_000).to_bytes(4, "big"), (60_000).to_bytes(4, "big")
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + width + height + b"\x08\x02\x00\x00\x00"
    answer = live.upload(image(bomb + bytes(100)))
    assert answer.status in (413, 422)
    assert live.left_behind() == []


def test_a_body_that_never_ends_is_stopped(live: Live) -> None:
    head = (
        f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
        f"Content-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    began = multipart(image(b""))[:120] + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", live.port), 20) as connection:
        connection.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(began), began))
        received = b""
        connection.settimeout(0.0)
        block = b"10000\r\n" + bytes(65536) + b"\r\n"
        sent = 0
        connection.settimeout(20)
        try:
            while sent < 400 * 65536:
                connection.sendall(block)
                sent += len(block)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in received
    assert live.left_behind() == []


def test_who_sends_too_slowly_is_told_so(live: Live) -> None:
    head = (
        f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: 5000\r\n\r\n"
    )
    received = live.raw(head.encode() + multipart(image())[:500])
    assert received.startswith(b"HTTP/1.1 408 ")
    assert live.left_behind() == []


def test_a_client_that_breaks_off_leaves_nothing(live: Live) -> None:
    head = (
        f"POST /1.0/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {live.secret}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: 500000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", live.port), 10) as connection:
        connection.sendall(head.encode() + multipart(image())[:2000])
    assert live.left_behind() == []
    assert live.ask("GET", "/healthz").status == 200


def test_a_flood_of_headers_is_refused(live: Live) -> None:
    flood = b"".join(b"X-%d: %s\r\n" % (at, b"x" * 1000) for at in range(200))
    received = live.raw(b"GET /1.0/account HTTP/1.1\r\nHost: x\r\n" + flood + b"\r\n")
    assert received[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")
    assert live.ask("GET", "/healthz").status == 200


# Names


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("harbour.jpg", "harbour.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("", "image"),
        ("...", "image"),
        (".htaccess", "htaccess"),
        ("a\r\nb.jpg", "a__b.jpg"),
        ('quo"te.jpg', "quo_te.jpg"),
        ("x" * 300 + ".jpeg", "x" * 80 + ".jpeg"),
        ("\u6e2f" * 100 + ".jpg", "\u6e2f" * 26 + ".jpg"),
        ("\u202egpj.exe", "gpj.exe"),
        ("photo.a-long-ending", "photo.a-long-ending"),
    ],
)
def test_names_of_files_are_made_harmless(name: str, kept: str) -> None:
    assert clean_name(name) == kept


def test_the_name_of_a_result_has_its_own_extension(live: Live) -> None:
    document = {"output": {"format": "webp"}}
    found = live.upload(image(name="h\u00e4fen 1.JPG"), data(document)).json
    assert (found["input"]["name"], found["output"]["name"]) == (
        "h\u00e4fen 1.JPG",
        "h\u00e4fen 1.webp",
    )
    assert found["output"]["url"].endswith("/h%C3%A4fen%201.webp")
    path = "/temp/" + found["output"]["url"].partition("/temp/")[2]
    assert live.ask("GET", path, key=False).headers["content-type"] == "image/webp"
