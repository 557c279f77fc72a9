"""Images on other hosts, through the endpoint: `<mount>remote?url=…`. SRV-20, SRV-21."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from optidash_integrations.urls import Signer
from tests.conftest import MakeSite
from tests.origin import Origin
from tests.sites.base import SIGNING_KEY, Clock, Site
from tests.sites.photos import WEBP_ONLY, photo


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_remote(make_site: MakeSite, origin: Origin, clock: Clock):
    def make(**settings: object) -> Site:
        given = {"access": "public", "remote_hosts": [origin.place]} | settings
        site = make_site(clock=clock, **given)
        remote = site.service.access.remote
        remote.given_download, remote.clock = origin.download, clock
        return site

    return make


def ask(site: Site, url: str, query: str = "", browser: dict[str, str] = WEBP_ONLY):
    return site.get(f"{site.mount}remote?url={quote(url, safe='')}{query}", browser)


def test_a_remote_image_is_optimised_like_any_other(make_remote, origin: Origin) -> None:
    site = make_remote()
    origin.image("/a.jpg", photo())
    first, again = (ask(site, origin.url("/a.jpg?x=1&w=9"), "&w=60") for _ in range(2))
    assert (first.status, first.type, first.size) == (200, "image/webp", (60, 40))
    assert again.is_hit
    assert ask(site, origin.url("/a.jpg?x=1&w=9"), "&w=30").size == (30, 20)
    assert [path for path, _ in origin.seen] == ["/a.jpg?x=1&w=9"]
    tag = {"if-none-match": first.headers["etag"]}
    assert ask(site, origin.url("/a.jpg?x=1&w=9"), "&w=60", WEBP_ONLY | tag).status == 304


def test_after_a_while_the_origin_is_asked_whether_it_changed(
    make_remote, origin: Origin, clock: Clock
) -> None:
    site = make_remote(fresh_for=60)
    origin.image("/a.jpg", photo(), etag='"one"')
    before = ask(site, origin.url("/a.jpg"))
    clock.go_on(61)
    assert ask(site, origin.url("/a.jpg")).headers["etag"] == before.headers["etag"]
    assert origin.seen[-1][1]["if-none-match"] == '"one"'
    origin.image("/a.jpg", photo(seed=2), etag='"two"')
    clock.go_on(61)
    assert ask(site, origin.url("/a.jpg")).headers["etag"] != before.headers["etag"]
    origin.routes["/a.jpg"] = lambda asked: (500, {}, b"")
    clock.go_on(61)
    assert ask(site, origin.url("/a.jpg")).status == 200
    del origin.routes["/a.jpg"]
    clock.go_on(61)
    assert ask(site, origin.url("/a.jpg")).status == 404


def test_an_origin_that_fails_is_502_and_left_alone_for_a_while(
    make_remote, origin: Origin, clock: Clock
) -> None:
    site = make_remote()
    origin.routes["/a.jpg"] = lambda asked: (500, {}, b"")
    for _ in range(3):
        reply = ask(site, origin.url("/a.jpg"))
        assert (reply.status, reply.headers["cache-control"]) == (502, "no-store")
    assert len(origin.seen) == 1
    origin.image("/a.jpg", photo())
    clock.go_on(31)
    assert ask(site, origin.url("/a.jpg")).status == 200


@pytest.mark.parametrize(
    ("status", "body", "expected"), [(404, b"", 404), (200, b"<html>", 415), (503, b"", 502)]
)
def test_a_failure_may_be_a_picture(
    make_remote, origin: Origin, tmp_path: Path, status: int, body: bytes, expected: int
) -> None:
    picture = tmp_path / "stand-in.jpg"
    picture.write_bytes(photo(seed=9))
    site = make_remote(fallback_image=picture)
    origin.routes["/a.jpg"] = lambda asked: (status, {}, body)
    reply = ask(site, origin.url("/a.jpg"), "&w=30&h=30")
    assert (reply.status, reply.size) == (200, (30, 30))
    assert reply.headers["x-optidash-fallback"] == str(expected)


@pytest.mark.srv("SRV-20")
def test_no_other_host_is_asked(make_remote, origin: Origin) -> None:
    site = make_remote()
    for url in (
        "http://169.254.169.254/latest/meta-data/",
        f"http://127.0.0.1:{origin.port}/a.jpg",
        f"http://user@{origin.place}/a.jpg",
        "file:///etc/passwd",
        "",
    ):
        reply = ask(site, url)
        assert (reply.status, reply.headers["cache-control"]) == (400, "no-store")
    assert site.get(f"{site.mount}remote", WEBP_ONLY).status == 400
    assert origin.seen == []


def test_without_remote_hosts_there_is_no_such_option(make_site: MakeSite) -> None:
    site = make_site(access="public")
    site.keep("photo.jpg", photo())
    assert ask(site, "https://images.example/a.jpg").status == 400
    assert site.get(f"{site.mount}photo.jpg?url=https://images.example/a.jpg").status == 400


def test_a_signature_covers_the_remote_address(make_remote, origin: Origin, clock: Clock) -> None:
    site = make_remote(access="signed")
    origin.image("/a.jpg", photo())
    origin.image("/b.jpg", photo(seed=2))
    signer = Signer([SIGNING_KEY], clock=clock)
    pairs = [("url", origin.url("/a.jpg")), ("w", "60")]
    address = signer.signed(f"{site.mount}remote", pairs)
    assert site.get(address, WEBP_ONLY).size == (60, 40)
    for changed in (address.replace("a.jpg", "b.jpg"), address.replace("w=60", "w=61")):
        assert site.get(changed, WEBP_ONLY).status == 403
    passing = signer.signed(f"{site.mount}remote", pairs, expires=60)
    assert "private" in site.get(passing, WEBP_ONLY).headers["cache-control"]
    clock.go_on(120)
    assert site.get(passing, WEBP_ONLY).status == 403


def test_a_head_of_an_unknown_remote_image_is_no_error(make_remote, origin: Origin) -> None:
    site = make_remote()
    origin.image("/a.jpg", photo())
    head = site.head(f"{site.mount}remote?url={quote(origin.url('/a.jpg'), safe='')}", WEBP_ONLY)
    assert (head.status, head.body) == (200, b"")
