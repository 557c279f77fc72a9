"""Image delivery, first part: types, errors, bodies, names and limits (SRV-01 to SRV-21)."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from optidash_integrations.errors import ImageTooLargeError
from tests.cache.servers import absent
from tests.conftest import MakeSite, sites_of
from tests.contract.test_servers import served, tuple_of
from tests.sites.base import Reply, Site
from tests.sites.drivers import environ_of, scope_of
from tests.sites.inner import Route, Stream
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, animation, photo, tiny
from tests.sites.processor import HandProcessor

MIB = 1024 * 1024
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.fixture
def endpoint(make_site: MakeSite) -> Site:
    """Give a site whose endpoint is open to all, with one photo."""
    site = make_site({"/photo.jpg": Route(photo(), headers=(("ETag", '"1"'),))}, access="public")
    site.keep("photo.jpg", photo())
    return site


def ask(site: Site, name: str, browser: dict[str, str] = WEBP_ONLY, method: str = "GET") -> Reply:
    return site.request(method, site.mount + name, browser)


def refusals(site: Site) -> list[Reply]:
    """Return an answer of every kind that has no image."""
    site.keep("text.jpg", b"not an image")
    names = ("photo.jpg?w=wide", "photo.jpg?w=1&w=2", "none.jpg", "text.jpg")
    return [ask(site, name) for name in names]


@pytest.mark.srv("SRV-01")
def test_the_type_is_that_of_the_bytes_whatever_the_name(make_site: MakeSite) -> None:
    site = make_site({"/photo.png": Route(photo(), "image/png")}, access="public", formats=())
    site.keep("photo.png", photo())
    for reply in (ask(site, "photo.png", OLD), site.get("/photo.png", OLD)):
        assert (reply.type, reply.body[:3]) == ("image/jpeg", b"\xff\xd8\xff")
        assert reply.picture.format == "JPEG"
    for fm, kind in (("webp", "WEBP"), ("avif", "AVIF"), ("png", "PNG"), ("jpg", "JPEG")):
        reply = ask(site, f"photo.png?fm={fm}", OLD)
        assert (reply.type, reply.picture.format) == (f"image/{kind.lower()}", kind)


@pytest.mark.srv("SRV-02")
def test_an_error_is_never_labelled_as_an_image(endpoint: Site) -> None:
    replies = refusals(endpoint)
    assert [reply.status for reply in replies] == [400, 400, 404, 415]
    assert {reply.type for reply in replies} == {"text/plain; charset=utf-8"}
    assert ask(endpoint, "photo.jpg", method="POST").type.startswith("text/")


@pytest.mark.srv("SRV-03")
def test_no_answer_of_ours_may_be_sniffed(endpoint: Site) -> None:
    first = endpoint.get("/photo.jpg", CHROME)
    replies = [
        first,
        endpoint.get("/photo.jpg", CHROME),
        endpoint.head("/photo.jpg", CHROME),
        endpoint.get("/photo.jpg", CHROME | {"if-none-match": first.headers["etag"]}),
        endpoint.get("/photo.jpg", CHROME | {"range": "bytes=0-1"}),
        endpoint.get("/photo.jpg", CHROME | {"range": "bytes=99999-"}),
        ask(endpoint, "photo.jpg"),
        *refusals(endpoint),
    ]
    assert {reply.headers.get("x-content-type-options") for reply in replies} == {"nosniff"}


@pytest.mark.srv("SRV-04")
def test_a_plain_curl_saves_a_picture(endpoint: Site, tmp_path: Path) -> None:
    curl = shutil.which("curl") or absent("curl")
    with served(endpoint) as base:
        for address in (f"{base}/photo.jpg", f"{base}{endpoint.mount}photo.jpg"):
            saved = tmp_path / "saved.jpg"
            subprocess.run(
                [curl, "-s", "--noproxy", "*", "-o", saved, address], check=True, timeout=60
            )
            assert saved.read_bytes()[:3] == b"\xff\xd8\xff"
            saved.unlink()


@pytest.mark.srv("SRV-05")
def test_a_missing_image_is_404_logged_and_tells_nothing(
    endpoint: Site, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "optidash_integrations"):
        reply = ask(endpoint, "albums/missing.jpg")
    assert reply.status == 404
    assert b"Traceback" not in reply.body
    assert str(endpoint.folder).encode() not in reply.body
    assert "missing.jpg" in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.srv("SRV-06")
def test_head_is_get_without_a_body_and_other_methods_are_405(endpoint: Site) -> None:
    ask(endpoint, "photo.jpg")
    got, head = ask(endpoint, "photo.jpg"), ask(endpoint, "photo.jpg", method="HEAD")
    dropped = ("date", "accept-ranges")
    assert head.status == got.status
    assert head.body == b""
    assert [p for p in head.pairs if p[0] not in dropped] == [
        p for p in got.pairs if p[0] not in dropped
    ]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        reply = ask(endpoint, "photo.jpg", method=method)
        assert reply.status == 405
        assert {"GET", "HEAD"} <= set(reply.headers["allow"].replace(",", " ").split())


@pytest.mark.srv("SRV-07")
def test_content_length_is_right_or_the_transfer_is_chunked(endpoint: Site) -> None:
    endpoint.inner.routes["/stream.jpg"] = Route(Stream((photo()[:99], photo()[99:])))
    parts = ("bytes=0-9", "bytes=-7", "bytes=99999-")
    with served(endpoint) as base, httpx.Client(base_url=base, timeout=60) as client:
        answers = [client.get(target, headers=CHROME) for target in ("/photo.jpg",) * 2]
        answers += [client.get("/photo.jpg", headers=CHROME | {"range": p}) for p in parts]
        answers += [client.get(f"{endpoint.mount}{name}") for name in ("photo.jpg", "none.jpg")]
        for answer in answers:
            assert int(answer.headers["content-length"]) == len(answer.content)
        streamed = client.get("/stream.jpg", headers=CHROME)
    assert streamed.content == photo()
    # A server that closes the connection behind the body needs neither.
    assert "content-length" not in streamed.headers


@pytest.mark.srv("SRV-08")
def test_parts_of_a_stored_original_can_be_asked_for(make_site: MakeSite) -> None:
    site = make_site(access="public", formats=())
    site.keep("dot.jpg", tiny())
    assert ask(site, "dot.jpg", OLD).body == tiny()
    part = ask(site, "dot.jpg", OLD | {"range": "bytes=2-5"})
    assert (part.status, part.body) == (206, tiny()[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(tiny())}"
    past = ask(site, "dot.jpg", OLD | {"range": "bytes=999999-"})
    assert (past.status, past.headers["content-range"]) == (416, f"bytes */{len(tiny())}")


@pytest.mark.srv("SRV-09")
def test_an_image_is_shown_inline_and_its_name_follows_the_format(make_site: MakeSite) -> None:
    inline = (("Content-Disposition", 'inline; filename="photo.jpg"'),)
    site = make_site({"/photo.jpg": Route(photo(), headers=inline)}, access="public")
    site.keep("photo.jpg", photo())
    shown = site.get("/photo.jpg", WEBP_ONLY).headers["content-disposition"]
    assert shown == 'inline; filename="photo.webp"'
    at_endpoint = ask(site, "photo.jpg").headers.get("content-disposition", "inline")
    assert at_endpoint.startswith("inline")


@pytest.mark.srv("SRV-09")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my%20photo.webp", ["my photo.webp"]),
        ("Zo%C3%AB.webp", ["filename*=UTF-8''Zo%C3%AB.webp"]),
        ("..%2F..%2Fetc%2Fpasswd", []),
        ("a%5Cb.jpg", []),
        ("a%0D%0ASet-Cookie:%20x.jpg", []),
        ("a%22%3B%20b=%22.jpg", []),
        ("%00.jpg", []),
    ],
)
def test_on_request_it_is_saved_under_a_name_that_is_safe(
    endpoint: Site, name: str, told: list[str]
) -> None:
    reply = ask(endpoint, f"photo.jpg?dl={name}")
    value = reply.headers["content-disposition"]
    assert reply.status == 200
    assert value.startswith("attachment")
    assert all(each in value for each in told)
    assert value.isascii()
    assert value.isprintable()
    quoted = value.partition('filename="')[2].partition('"')[0]
    for unsafe in "/\\\r\n\0":
        assert unsafe not in quoted
    assert "%2F" not in value
    assert "%5C" not in value
    assert "set-cookie" not in reply.headers


@pytest.mark.srv("SRV-10")
def test_no_other_origin_may_read_an_image_unless_a_setting_says_so(endpoint: Site) -> None:
    for name in ("photo.jpg", "none.jpg", "photo.jpg?w=wide"):
        reply = ask(endpoint, name, WEBP_ONLY | {"origin": "https://other.example"})
        assert not [header for header in reply.headers if header.startswith("access-control-")]


@pytest.mark.srv("SRV-11")
def test_svg_is_never_sent_by_the_endpoint(endpoint: Site) -> None:
    endpoint.keep("drawing.svg", SVG)
    endpoint.keep("drawing.jpg", SVG)
    for name in ("drawing.svg", "drawing.jpg"):
        reply = ask(endpoint, name)
        assert reply.status in (404, 415)
        assert b"<svg" not in reply.body
        assert "svg" not in reply.type


# Django itself reads a file whole under ASGI.
@pytest.mark.srv("SRV-12")
@pytest.mark.parametrize("make_site", sites_of("django", "flask", "asgi")[:3], indirect=True)
def test_a_large_file_takes_no_memory(make_site: MakeSite) -> None:
    site = make_site()
    path = site.keep("large.jpg", photo())
    os.truncate(path, 500 * MIB)
    site.inner.routes["/large.jpg"] = Route(path)
    with served(site) as base, socket.create_connection(tuple_of(base), timeout=60) as wire:
        tracemalloc.start()
        try:
            wire.sendall(b"GET /large.jpg HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            received = drained(wire)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert received > 500 * MIB
    assert peak < 10 * MIB


def drained(wire: socket.socket) -> int:
    """Read to the end into one small buffer; return how many bytes came, with the head."""
    buffer, received = bytearray(MIB // 16), 0
    while count := wire.recv_into(buffer):
        received += count
    return received


@pytest.mark.srv("SRV-13")
@pytest.mark.parametrize("make_site", sites_of("django", "flask", "asgi")[:3], indirect=True)
def test_a_visitor_who_leaves_frees_the_file_at_once(make_site: MakeSite) -> None:
    processor = HandProcessor()
    processor.bytes = 400_000  # above what is kept in memory, so that it is sent from its file
    big = Route(photo(600, 800, quality=100), headers=(("ETag", '"1"'),))
    site = make_site({"/photo.jpg": big}, processor=processor, access="public")
    site.get("/photo.jpg?fm=avif", CHROME)
    site.service.store.memory.clear()
    leave(site, "/photo.jpg?fm=avif")
    assert open_below(site.service.settings.cache_dir) == []
    assert site.service.waiters.acquire(blocking=False)
    site.service.waiters.release()


def leave(site: Any, target: str) -> None:
    """Ask for something, take a first block, and go."""
    if site.kind == "asgi":
        with pytest.raises(ConnectionResetError):
            site.loop.run(site.app(scope_of("GET", target, CHROME), asking(), refusing))
        return
    environ = environ_of("GET", target, CHROME)
    if site.kind == "django":
        environ["tests.inner"] = site.inner
    body = site.app(environ, lambda *_: None)
    assert next(iter(body))
    body.close()


def asking() -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def refusing(message: Any) -> None:
    if message["type"] == "http.response.body":
        raise ConnectionResetError("the visitor has left")


def open_below(folder: Path) -> list[str]:
    """Return the cached bodies that this process has open; index and locks stay so on purpose."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    targets = [str(link.readlink()) for link in links]
    bodies = f"{folder}/v1/"
    return [each for each in targets if each.startswith(bodies) and "index" not in each]


@pytest.mark.srv("SRV-14")
def test_an_upload_past_the_limit_is_413_and_leaves_nothing(make_site: MakeSite) -> None:
    site = make_site(max_input_bytes=2000)
    if site.kind.startswith("django"):  # its storage keeps what comes; its form field refuses
        name = site.save("photo.jpg", photo())
        assert (site.folder / name).read_bytes() == photo()
        return
    with pytest.raises(ImageTooLargeError) as refused:
        site.save("photo.jpg", photo())
    assert refused.value.public_status == 413
    assert [path for path in site.folder.rglob("*") if path.is_file()] == []


@pytest.mark.srv("SRV-15")
@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "a/../../secret.jpg",
        "..%2fsecret.jpg",
        "%2e%2e/secret.jpg",
        "%2e%2e%2fsecret.jpg",
        "%252e%252e/secret.jpg",
        "%252e%252e%252fsecret.jpg",
        "..\\secret.jpg",
        "..%5csecret.jpg",
        "/secret.jpg",
        "%2fsecret.jpg",
        "C:/secret.jpg",
        "C:%5csecret.jpg",
        "photo.jpg%00",
        "%00photo.jpg",
        "n" * 5000 + ".jpg",
        "%c0%ae%c0%ae/secret.jpg",
        "./photo.jpg/../../secret.jpg",
    ],
)
def test_no_name_leads_out_of_the_folder(endpoint: Site, name: str) -> None:
    (endpoint.folder.parent / "secret.jpg").write_bytes(photo(seed=7))
    reply = ask(endpoint, name)
    assert reply.status in (400, 404)
    assert not reply.type.startswith("image/")


@pytest.mark.srv("SRV-16")
def test_a_link_out_of_the_folder_is_refused(endpoint: Site) -> None:
    (endpoint.folder.parent / "secret.jpg").write_bytes(photo(seed=7))
    (endpoint.folder / "link.jpg").symlink_to("../secret.jpg")
    (endpoint.folder / "up").symlink_to("..")
    assert [ask(endpoint, name).status for name in ("link.jpg", "up/secret.jpg")] == [404, 404]


@pytest.mark.srv("SRV-17")
def test_hidden_files_and_what_is_no_image_are_not_served(endpoint: Site) -> None:
    names = (".photo.jpg", ".git/photo.jpg", "a/.b/photo.jpg", "settings.py", "photo", "photo.jpg~")
    for name in names:
        endpoint.keep(name, photo())
    assert {ask(endpoint, name).status for name in names} == {404}


@pytest.mark.srv("SRV-18")
@pytest.mark.parametrize("content", [b"<html>", b"%PDF-1.7", b"\x7fELF", b"GIF8", SVG, b""])
def test_what_is_no_image_is_refused_whatever_its_name(endpoint: Site, content: bytes) -> None:
    endpoint.keep("cat.jpg", content)
    reply = ask(endpoint, "cat.jpg")
    assert reply.status in (415, 422)
    assert content == b"" or content not in reply.body


@pytest.mark.srv("SRV-19")
def test_pixels_frames_and_edges_are_limited(make_site: MakeSite) -> None:
    site = make_site(access="public", max_pixels=120 * 80 - 1)
    site.keep("photo.jpg", photo())
    assert ask(site, "photo.jpg").status == 413
    site = make_site(access="public", max_frames=1)
    site.keep("cat.gif", animation())
    assert ask(site, "cat.gif").status == 413
    site = make_site(access="public", max_width=60, max_height=30)
    site.keep("photo.jpg", photo())
    assert ask(site, "photo.jpg").size == (45, 30)
    assert ask(site, "photo.jpg?w=61").status == 400
