"""What is private, or not an image to work on, goes out byte for byte with all its headers."""

from __future__ import annotations

import gzip

import pytest

from tests.conftest import MakeSite, sites_of
from tests.sites.base import Reply, Site
from tests.sites.inner import Route, Stream
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def facts(reply: Reply) -> tuple[object, ...]:
    """Return what a visitor can tell of an answer, but for the time of day in a session cookie."""
    pairs = [
        (name, value.partition("=")[0] if name == "set-cookie" else value)
        for name, value in reply.pairs
        if name != "date"
    ]
    return reply.status, sorted(pairs), reply.body


def assert_untouched(site: Site, target: str, headers: dict[str, str], **more: object) -> None:
    for _ in range(2):
        assert facts(site.request("GET", target, headers)) == facts(site.bare(target, headers))
        assert facts(site.request("HEAD", target, headers)) == facts(
            site.bare(target, headers, method="HEAD")
        )


@pytest.mark.parametrize(
    "headers",
    [
        [("Set-Cookie", "a=b; Path=/")],
        [("Cache-Control", "private")],
        [("Cache-Control", "no-store")],
        [("Cache-Control", "public, max-age=9, No-Transform")],
        [("Cache-Control", 'private="Set-Cookie", max-age=9')],
        [("Vary", "*")],
        [("Vary", "Accept, *")],
        [("Content-Disposition", "attachment")],
        [("Content-Disposition", 'Attachment; filename="photo.jpg"')],
        [("X-Sendfile", "/srv/photo.jpg")],
        [("X-Accel-Redirect", "/internal/photo.jpg")],
        [("Content-Range", "bytes 0-9/99")],
        [("ETag", '"app"'), ("Cache-Control", "private, max-age=9"), ("Content-MD5", "x")],
    ],
    ids=lambda headers: headers[0][1],
)
def test_a_private_answer_is_untouched(make_site: MakeSite, headers: list) -> None:
    processor = HandProcessor()
    site = make_site({"/photo.jpg": Route(photo(), headers=tuple(headers))}, processor=processor)
    assert_untouched(site, "/photo.jpg", CHROME)
    assert processor.calls == 0


def test_an_answer_with_a_session_is_untouched(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo(), session=True)})
    assert "set-cookie" in site.get("/photo.jpg", CHROME).headers
    assert_untouched(site, "/photo.jpg", CHROME)


def test_an_answer_to_authorization_is_untouched(site: Site) -> None:
    site.get("/photo.jpg", CHROME)
    assert_untouched(site, "/photo.jpg", CHROME | {"authorization": "Basic YTpi"})


def test_a_stored_variant_is_served_only_after_the_app_has_agreed(site: Site) -> None:
    site.get("/photo.jpg", CHROME)
    site.inner.routes["/photo.jpg"] = Route(b"sign in\n", "text/plain", status=403)
    reply = site.get("/photo.jpg", CHROME)
    assert (reply.status, reply.body) == (403, b"sign in\n")
    site.inner.routes["/photo.jpg"] = Route(status=302, headers=(("Location", "/sign-in"),))
    assert site.get("/photo.jpg", CHROME).status == 302


def test_an_encoded_answer_is_untouched(make_site: MakeSite) -> None:
    packed = Route(gzip.compress(photo(), mtime=0), headers=(("Content-Encoding", "gzip"),))
    site = make_site({"/photo.jpg": packed})
    assert_untouched(site, "/photo.jpg", CHROME | {"accept-encoding": "gzip"})


def test_identity_is_no_encoding(make_site: MakeSite) -> None:
    route = Route(photo(), headers=(("Content-Encoding", "identity"),))
    site = make_site({"/photo.jpg": route})
    assert site.get("/photo.jpg", CHROME).type == "image/avif"


@pytest.mark.parametrize("status", [201, 203, 206, 226, 400, 404, 410, 500, 503])
def test_any_status_but_200_is_untouched(make_site: MakeSite, status: int) -> None:
    site = make_site({"/photo.jpg": Route(photo(), status=status)})
    assert_untouched(site, "/photo.jpg", CHROME)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html; charset=utf-8", b"<p>Hello"),
        ("application/json", b"{}"),
        ("application/octet-stream", photo()),
        ("image/svg+xml", SVG),
        ("image/x-unheard-of", photo()),
        ("image/jpeg", b""),
        ("image/jpeg", b"<p>not an image"),
        ("image/jpeg", photo()[:300]),
        ("image/jpeg", SVG),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
    ],
)
def test_what_is_no_image_of_ours_is_untouched(
    make_site: MakeSite, content_type: str, body: bytes
) -> None:
    headers = (("Cache-Control", "max-age=9"), ("ETag", '"x"'), ("Accept-Ranges", "none"))
    site = make_site({"/page.jpg": Route(body, content_type, headers)})
    for _ in range(2):
        assert facts(site.get("/page.jpg", CHROME)) == facts(site.bare("/page.jpg", CHROME))


def test_a_broken_image_is_opened_once(make_site: MakeSite) -> None:
    broken = photo()[: len(photo()) // 2] + b"\0" * 2000
    processor = make_counting_engine()
    site = make_site(
        {"/a.jpg": Route(broken, headers=(("ETag", '"1"'),)), "/b.jpg": Route(broken)},
        processor=processor,
    )
    for _ in range(2):
        for path in ("/a.jpg", "/b.jpg"):
            assert facts(site.get(path, CHROME)) == facts(site.bare(path, CHROME))
    assert processor.calls <= 1


def make_counting_engine() -> HandProcessor:
    from optidash_integrations.errors import BrokenImageError

    return HandProcessor(error=BrokenImageError("the picture ends before its time"))


def test_an_image_past_the_limits_is_untouched(make_site: MakeSite) -> None:
    large = Route(photo(), headers=(("ETag", '"1"'),))
    for limit in ({"max_input_bytes": len(photo()) - 1}, {"max_pixels": 120 * 80 - 1}):
        site = make_site({"/photo.jpg": large}, **limit)
        for _ in range(2):
            reply = site.get("/photo.jpg", CHROME)
            assert facts(reply) == facts(site.bare("/photo.jpg", CHROME))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_untouched(make_site: MakeSite, method: str) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, public_paths=["/"])
    site.get("/photo.jpg", CHROME)
    assert facts(site.request(method, "/photo.jpg", CHROME)) == facts(
        site.bare("/photo.jpg", CHROME, method=method)
    )


def test_paths_outside_the_setting_are_untouched(make_site: MakeSite) -> None:
    routes = {path: Route(photo()) for path in ("/media/a.jpg", "/other/a.jpg", "/b.png")}
    site = make_site(routes, paths=["/media/", "*.png"])
    assert site.get("/media/a.jpg", CHROME).type == "image/avif"
    assert site.get("/b.png", CHROME).type == "image/avif"
    assert_untouched(site, "/other/a.jpg", CHROME)


# Bodies that come in blocks


def in_blocks(data: bytes, *, has_length: bool) -> Stream:
    middle = len(data) // 2
    return Stream((data[:100], data[100:middle], data[middle:]), has_length)


def test_an_image_of_unknown_length_goes_out_block_by_block(make_site: MakeSite) -> None:
    stream = in_blocks(photo(), has_length=False)
    site = make_site({"/photo.jpg": Route(stream)})
    reply = site.get("/photo.jpg", CHROME, on_block=lambda _: stream.made.append("sent"))
    assert reply.body == photo()
    assert reply.type == "image/jpeg"
    assert stream.made == ["made 0", "sent", "made 1", "sent", "made 2", "sent"]


def test_what_is_no_image_goes_out_block_by_block(make_site: MakeSite) -> None:
    stream = Stream((b"one", b"two", b"three"), has_length=True)
    site = make_site({"/events.jpg": Route(stream, "text/event-stream")})
    reply = site.get("/events.jpg", CHROME, on_block=lambda _: stream.made.append("sent"))
    assert reply.body == b"onetwothree"
    assert stream.made == ["made 0", "sent", "made 1", "sent", "made 2", "sent"]


def test_an_image_of_known_length_in_blocks_is_optimised(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(in_blocks(photo(), has_length=True))})
    reply = site.get("/photo.jpg", CHROME)
    assert (reply.type, reply.size) == ("image/avif", (120, 80))


@pytest.mark.parametrize("promised", [len(photo()) - 1, len(photo()) + 1, 10**12])
def test_a_body_of_another_length_than_promised_goes_through(
    make_site: MakeSite, promised: int
) -> None:
    stream = Stream((photo()[:500], photo()[500:]))
    headers = (("Content-Length", str(promised)),)
    site = make_site({"/photo.jpg": Route(stream, headers=headers)})
    assert site.get("/photo.jpg", CHROME).body == photo()


def test_a_hit_reads_nothing_of_the_apps_body(make_site: MakeSite) -> None:
    streams = [in_blocks(photo(), has_length=True) for _ in range(3)]
    bodies = iter(streams)
    site = make_site({"/photo.jpg": lambda _: Route(next(bodies), headers=(("ETag", '"1"'),))})
    first = site.get("/photo.jpg", CHROME)
    second = site.get("/photo.jpg", CHROME)
    third = site.get("/photo.jpg", CHROME | {"if-none-match": first.headers["etag"]})
    assert (first.is_hit, second.is_hit, third.status) == (False, True, 304)
    assert second.body == first.body
    # An ASGI app can't be stopped, but nobody waits for what comes after its first block.
    most = ["made 0", "made 1", "made 2"] if site.kind == "asgi" else []
    assert streams[1].made == streams[2].made == most


def test_a_hit_leaves_before_the_apps_body_has_come(make_site: MakeSite) -> None:
    stream = in_blocks(photo(), has_length=True)
    site = make_site({"/photo.jpg": Route(stream, headers=(("ETag", '"1"'),))})
    site.get("/photo.jpg", CHROME)
    stream.made.clear()
    assert site.get("/photo.jpg", CHROME, on_block=lambda _: stream.made.append("sent")).is_hit
    assert stream.made.index("sent") <= 1


def test_bodies_held_share_a_budget_and_stream_through_past_it(make_site: MakeSite) -> None:
    processor = HandProcessor(is_open=False)
    routes = {f"/{n}.jpg": Route(photo(seed=n)) for n in range(6)}
    limit = len(max((photo(seed=n) for n in range(6)), key=len))
    site = make_site(routes, processor=processor, max_input_bytes=limit, deadline=0, queue=9)
    replies = [site.get(f"/{n}.jpg", CHROME) for n in range(6)]
    details = [reply.cache for reply in replies]
    assert [reply.body for reply in replies] == [photo(seed=n) for n in range(6)]
    assert "too many images at a time" in details[5]
    assert "too many images at a time" not in details[0]
    processor.gate.set()
    site.finish_work()
    assert site.service.held == 0


# Files


def test_a_file_that_the_app_sends_is_optimised(make_site: MakeSite) -> None:
    site = make_site()
    path = site.keep("photo.jpg", photo())
    for route in ("/photo.jpg", "/photo"):
        site.inner.routes[route] = Route(path)
        first, second = site.get(route, CHROME), site.get(route, CHROME)
        assert first.size == second.size == (120, 80)
        assert first.body == second.body
        assert second.is_hit


# Django itself warns of files under ASGI.
@pytest.mark.parametrize("make_site", sites_of("django", "flask", "asgi"), indirect=True)
def test_a_file_that_is_no_image_goes_out_whole(make_site: MakeSite) -> None:
    site = make_site()
    site.inner.routes["/notes.jpg"] = Route(site.keep("notes.txt", b"notes\n" * 99), "text/plain")
    assert site.get("/notes.jpg", CHROME).body == b"notes\n" * 99


def test_a_part_of_a_file_kept_as_fallback_can_be_asked_for(make_site: MakeSite) -> None:
    processor = HandProcessor(is_open=False)
    site = make_site(processor=processor, deadline=0)
    site.inner.routes["/photo.jpg"] = Route(site.keep("photo.jpg", photo()))
    reply = site.get("/photo.jpg", CHROME | {"range": "bytes=2-5"})
    assert (reply.status, reply.body) == (206, photo()[2:6])
    assert site.get("/photo.jpg", CHROME).body == photo()
    processor.gate.set()
    site.finish_work()
