"""The image endpoint: a name and options in, one variant out."""

from __future__ import annotations

import os

import pytest

from optidash_integrations.errors import ProcessorError
from tests.conftest import MakeSite
from tests.sites.base import Clock, Site
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, animation, photo, tiny
from tests.sites.processor import HandProcessor

MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"
VERSIONED = "public, max-age=31536000, immutable"


@pytest.fixture
def open_site(make_site: MakeSite) -> Site:
    """Give a site whose endpoint is open to all, with one photo."""
    site = make_site(access="public")
    site.keep("albums/photo.jpg", photo())
    return site


def ask(site: Site, name: str = "albums/photo.jpg", browser: dict[str, str] = WEBP_ONLY, **more):
    return site.get(site.mount + name, browser, **more)


def test_a_name_gives_the_image_in_the_best_format(open_site: Site) -> None:
    for browser, expected in ((CHROME, "avif"), (WEBP_ONLY, "webp"), (OLD, "jpeg")):
        first, second = (ask(open_site, browser=browser) for _ in range(2))
        assert (first.status, first.type, first.size) == (200, f"image/{expected}", (120, 80))
        assert first.vary == {"accept"}
        assert first.headers["etag"].startswith('"od-')
        assert first.body == second.body
        assert second.is_hit
    assert open_site.seen == 0


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("w=60", (60, 40)),
        ("width=60", (60, 40)),
        ("w=30&h=30&fit=crop", (30, 30)),
        ("w=30&h=30&fit=cover", (30, 30)),
        ("w=30&dpr=2", (60, 40)),
    ],
)
def test_options_and_their_aliases_count(
    open_site: Site, query: str, size: tuple[int, int]
) -> None:
    assert ask(open_site, f"albums/photo.jpg?{query}").size == size


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("w=wide", "w takes"),
        ("w=0", "w takes"),
        ("w=5000", "w takes"),
        ("fit=squash", "fit takes"),
        ("fm=bmp", "fm takes"),
        ("w=1&w=2", "w takes one value"),
        ("w=1&width=2", "takes one value"),
        ("colour=red", "colour"),
        ("%3Cscript%3E=1", "script"),
    ],
)
def test_a_wrong_option_is_one_sentence(open_site: Site, query: str, sentence: str) -> None:
    reply = ask(open_site, f"albums/photo.jpg?{query}")
    assert (reply.status, reply.type) == (400, "text/plain; charset=utf-8")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-content-type-options"] == "nosniff"
    text = reply.body.decode()
    assert sentence in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "name",
    [
        "nothing.jpg",
        "albums",
        "albums/",
        "",
        "notes.txt",
        "../photo.jpg",
        "..%2fphoto.jpg",
        "%2e%2e/photo.jpg",
        "albums/../../photo.jpg",
        "albums/../albums/photo.jpg",
        "albums//photo.jpg",
        "/etc/passwd.jpg",
        "%2fetc%2fpasswd.jpg",
        "albums%5c..%5cphoto.jpg",
        ".hidden.jpg",
        "albums/.hidden.jpg",
        ".git/photo.jpg",
        "photo.jpg%00.jpg",
        "link.jpg",
        "folder.jpg",
        "pipe.jpg",
        "x" * 300 + ".jpg",
        "x/" * 600 + "x.jpg",
        "%ff%fe.jpg",
    ],
)
def test_what_is_no_image_of_the_folder_is_not_found(open_site: Site, name: str) -> None:
    folder = open_site.folder
    (folder.parent / "photo.jpg").write_bytes(photo())
    open_site.keep(".hidden.jpg", photo())
    open_site.keep("albums/.hidden.jpg", photo())
    open_site.keep(".git/photo.jpg", photo())
    open_site.keep("notes.txt", b"notes")
    (folder / "link.jpg").symlink_to(folder.parent / "photo.jpg")
    (folder / "folder.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    reply = ask(open_site, name)
    assert reply.status == 404
    assert b"\xff\xd8" not in reply.body
    assert str(folder).encode() not in reply.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(open_site: Site, method: str) -> None:
    reply = open_site.request(method, open_site.mount + "albums/photo.jpg", CHROME)
    assert reply.status == 405
    assert {"GET", "HEAD"} <= set(reply.headers["allow"].replace(",", " ").split())


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("text.jpg", b"not an image", 415),
        ("svg.jpg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415),
        ("empty.jpg", b"", 422),
        ("half.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 422),
        ("cut.jpg", photo()[:200], 422),
        ("wide.jpg", photo(700, 500), 413),
    ],
)
def test_what_can_not_be_processed_is_refused_and_never_sent(
    make_site: MakeSite, name: str, data: bytes, status: int
) -> None:
    site = make_site(access="public", max_pixels=300_000)
    site.keep(name, data)
    for _ in range(2):
        reply = ask(site, name)
        assert (reply.status, reply.type) == (status, "text/plain; charset=utf-8")
        assert reply.body.endswith(b"\n")
        assert reply.headers["cache-control"] == "no-store"


def test_a_file_past_the_limit_in_bytes_is_refused(make_site: MakeSite) -> None:
    site = make_site(access="public", max_input_bytes=2000)
    site.keep("photo.jpg", photo())
    assert ask(site, "photo.jpg").status == 413


def test_animations_and_what_would_grow_go_out_as_they_are(make_site: MakeSite) -> None:
    site = make_site(access="public", formats=())
    site.keep("cat.gif", animation())
    site.keep("dot.jpg", tiny())
    for _ in range(2):
        assert ask(site, "cat.gif").body == animation()
        assert ask(site, "dot.jpg").body == tiny()


# Lifetimes


def test_an_address_is_versioned_only_while_its_version_is_the_present_one(
    make_site: MakeSite,
) -> None:
    clock = Clock()
    site = make_site(access="public", clock=clock)
    site.keep("photo.jpg", photo(seed=1))
    address = site.helper("url", "photo.jpg", w=320)
    assert site.get(address, CHROME).headers["cache-control"] == VERSIONED
    assert ask(site, "photo.jpg?w=320").headers["cache-control"] == MUTABLE
    assert ask(site, "photo.jpg?w=320&v=0123456789ab").headers["cache-control"] == MUTABLE
    path = site.keep("photo.jpg", photo(seed=2))
    os.utime(path, (clock.now, clock.now))
    clock.go_on(61)
    assert site.get(address, CHROME).headers["cache-control"] == "public, max-age=60"
    site.finish_work()
    assert site.get(address, CHROME).headers["cache-control"] == MUTABLE
    assert site.helper("url", "photo.jpg", w=320) != address


def test_cache_control_is_a_setting(make_site: MakeSite) -> None:
    site = make_site(access="public", cache_control="public, max-age=7")
    site.keep("photo.jpg", photo())
    assert ask(site, "photo.jpg").headers["cache-control"] == "public, max-age=7"


def test_a_change_of_the_file_is_seen_after_a_while(make_site: MakeSite) -> None:
    clock = Clock()
    site = make_site(access="public", clock=clock, fresh_for=60)
    os.utime(site.keep("photo.jpg", photo(seed=1)), (1, 1))
    before = ask(site, "photo.jpg")
    os.utime(site.keep("photo.jpg", photo(seed=2)), (9, 9))
    assert ask(site, "photo.jpg").body == before.body
    clock.go_on(61)
    assert ask(site, "photo.jpg").headers["etag"] != before.headers["etag"]
    site.finish_work()
    assert ask(site, "photo.jpg").body != before.body
    (site.folder / "photo.jpg").unlink()
    clock.go_on(61)
    assert ask(site, "photo.jpg").status == 404
    assert ask(site, "photo.jpg").status == 404


# Conditions, HEAD, deadlines: as everywhere


def test_conditions_and_ranges_work_there_too(open_site: Site) -> None:
    whole = ask(open_site)
    tag = whole.headers["etag"]
    assert ask(open_site, browser=WEBP_ONLY | {"if-none-match": f'"x", W/{tag}'}).status == 304
    part = ask(open_site, browser=WEBP_ONLY | {"range": "bytes=1-3"})
    assert (part.status, part.body) == (206, whole.body[1:4])
    assert ask(open_site, browser=WEBP_ONLY | {"range": "bytes=99999-"}).status == 416
    head = open_site.head(open_site.mount + "albums/photo.jpg", WEBP_ONLY)
    assert head.headers["content-length"] == str(len(whole.body))
    assert head.headers["etag"] == tag


def test_head_without_a_stored_variant_starts_no_work(make_site: MakeSite) -> None:
    processor = HandProcessor()
    site = make_site(access="public", processor=processor)
    site.keep("photo.jpg", photo())
    for query in ("", "?w=60"):
        head = site.head(f"{site.mount}photo.jpg{query}", CHROME)
        assert (head.status, head.body, head.vary) == (200, b"", {"accept"})
        assert "content-length" not in head.headers
        assert "max-age=60" in head.headers["cache-control"]
    assert processor.calls == 0
    assert site.head(f"{site.mount}nothing.jpg", CHROME).status == 404


def test_past_the_deadline_the_original_goes_out(make_site: MakeSite) -> None:
    processor = HandProcessor(is_open=False)
    site = make_site(access="public", processor=processor, deadline=0)
    site.keep("photo.jpg", photo())
    address = site.helper("url", "photo.jpg", w=320)
    original = site.get(address, CHROME)
    assert (original.status, original.type, original.body) == (200, "image/jpeg", photo())
    assert original.headers["cache-control"] == "public, max-age=60"
    processor.gate.set()
    site.finish_work()
    tag = {"if-none-match": original.headers["etag"]}
    assert site.get(address, CHROME | tag).type == "image/avif"
    assert processor.calls == 1


def test_a_failure_gives_the_original(make_site: MakeSite) -> None:
    processor = HandProcessor(error=ProcessorError("out of order"))
    site = make_site(access="public", processor=processor)
    site.keep("photo.jpg", photo())
    for _ in range(2):
        reply = ask(site, "photo.jpg")
        assert (reply.status, reply.body) == (200, photo())
    assert processor.calls == 1


# Access


def test_an_endpoint_for_signed_addresses_wants_a_signature(make_site: MakeSite) -> None:
    site = make_site(access="signed")
    site.keep("photo.jpg", photo())
    address = site.helper("url", "photo.jpg", w=60)
    assert site.get(address, WEBP_ONLY).size == (60, 40)
    refused = (
        f"{site.mount}photo.jpg",
        f"{site.mount}photo.jpg?w=60",
        address.replace("w=60", "w=61"),
        address + "&h=9",
        address[:-3],
        address.replace("photo.jpg", "other.jpg"),
        address.partition("&s=")[0] + "&s=",
        address.partition("&s=")[0] + "&s=%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9%C3%A9",
    )
    for target in refused:
        reply = site.get(target, WEBP_ONLY)
        assert (reply.status, reply.headers["cache-control"]) == (403, "no-store"), target
    shuffled = "&".join(reversed(address.partition("?")[2].split("&")))
    assert site.get(f"{site.mount}photo.jpg?{shuffled}", WEBP_ONLY).status == 200


def test_a_signature_may_expire(make_site: MakeSite) -> None:
    clock = Clock()
    site = make_site(access="signed", clock=clock)
    site.keep("photo.jpg", photo())
    address = site.helper("url", "photo.jpg", w=60, expires=3600)
    reply = site.get(address, WEBP_ONLY)
    assert reply.status == 200
    assert "private" in reply.headers["cache-control"]
    assert "immutable" not in reply.headers["cache-control"]
    clock.go_on(2 * 3600)
    assert site.get(address, WEBP_ONLY).status == 403


def test_a_name_is_signed_as_the_browser_sends_it(make_site: MakeSite) -> None:
    site = make_site(access="signed")
    for name in ("a b.jpg", "grüße.jpg", "50%.jpg", "a+b&c=d.jpg", "a;b.jpg", "a'b.jpg"):
        site.keep(name, photo())
        address = site.helper("url", name, w=60)
        assert site.get(address, WEBP_ONLY).status == 200, address
        assert site.get(address, WEBP_ONLY, raw=False).status == 200, address


def test_a_callable_says_who_may_see_an_image(make_site: MakeSite) -> None:
    asked = []

    def friends(visitor: object, name: str) -> bool:
        asked.append((visitor is not None, name))
        return not name.startswith("secret")

    site = make_site(access=friends)
    site.keep("photo.jpg", photo())
    site.keep("secret.jpg", photo(seed=2))
    reply = ask(site, "photo.jpg")
    assert (reply.status, reply.headers["cache-control"]) == (200, "private, max-age=300")
    assert ask(site, "secret.jpg").status == 403
    assert asked == [(True, "photo.jpg"), (True, "secret.jpg")]
