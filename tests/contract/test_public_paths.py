"""Public paths: everybody may see what is under them, so hits do not ask the app."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSite, sites_of
from tests.sites.base import Clock, Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

PHOTO = "/static/photo.jpg"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def public(make_site: MakeSite, clock: Clock) -> Site:
    """Give a site with a photo under a public path; its answers count for a minute."""
    route = Route(photo(), headers=(("ETag", '"1"'),))
    return make_site({PHOTO: route}, public_paths=["/static/"], fresh_for=60, clock=clock)


def test_a_hit_does_not_ask_the_app(public: Site) -> None:
    first = public.get(PHOTO, CHROME)
    asked = [public.get(PHOTO, CHROME) for _ in range(3)]
    assert public.seen == 1
    assert all(reply.is_hit for reply in asked)
    assert {reply.body for reply in asked} == {first.body}
    assert {reply.headers["etag"] for reply in asked} == {first.headers["etag"]}
    same = public.get(PHOTO, CHROME | {"if-none-match": first.headers["etag"]})
    head = public.head(PHOTO, CHROME)
    part = public.get(PHOTO, CHROME | {"range": "bytes=0-4"})
    assert (same.status, head.status, part.status, part.body) == (304, 200, 206, first.body[:5])
    assert public.seen == 1


def test_another_path_asks_the_app_every_time(site: Site) -> None:
    for _ in range(3):
        site.get("/photo.jpg", CHROME)
    assert site.seen == 3


def test_a_new_variant_of_a_known_photo_asks_the_app_for_its_body(public: Site) -> None:
    public.get(PHOTO, CHROME)
    public.get(PHOTO, WEBP_ONLY)
    assert public.seen == 2
    assert public.get(PHOTO, WEBP_ONLY).type == "image/webp"
    assert public.seen == 2


def test_after_a_while_the_app_is_asked_once_again(public: Site, clock: Clock) -> None:
    public.get(PHOTO, CHROME)
    clock.go_on(59)
    public.get(PHOTO, CHROME)
    assert public.seen == 1
    clock.go_on(2)
    for _ in range(3):
        assert public.get(PHOTO, CHROME).is_hit
    assert public.seen == 2


def test_new_bytes_are_seen_when_the_app_is_asked_again(public: Site, clock: Clock) -> None:
    before = public.get(PHOTO, CHROME)
    public.inner.routes[PHOTO] = Route(photo(seed=2), headers=(("ETag", '"2"'),))
    assert public.get(PHOTO, CHROME).body == before.body
    clock.go_on(61)
    assert public.get(PHOTO, CHROME).headers["etag"] != before.headers["etag"]
    public.finish_work()
    after = public.get(PHOTO, CHROME)
    assert after.body != before.body
    assert public.get(PHOTO, CHROME).body == after.body


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_the_app_does_not_hand_out_any_more_is_dropped(
    public: Site, clock: Clock, status: int
) -> None:
    public.get(PHOTO, CHROME)
    public.inner.routes[PHOTO] = Route(b"gone\n", "text/plain", status=status)
    clock.go_on(61)
    for _ in range(2):
        assert public.get(PHOTO, CHROME).status == status
    assert public.seen == 3


def test_an_error_of_the_app_drops_nothing(public: Site, clock: Clock) -> None:
    public.get(PHOTO, CHROME)
    public.inner.routes[PHOTO] = Route(b"oh\n", "text/plain", status=500)
    clock.go_on(61)
    public.get(PHOTO, CHROME)
    assert public.get(PHOTO, CHROME).is_hit


# A call out of a call would block an event loop.
@pytest.mark.parametrize("make_site", sites_of("django", "flask"), indirect=True)
def test_while_one_asks_again_the_others_still_get_it(public: Site, clock: Clock) -> None:
    public.get(PHOTO, CHROME)
    during = []

    def slow(_: object) -> Route:
        during.append(public.get(PHOTO, CHROME))
        return Route(photo(), headers=(("ETag", '"1"'),))

    public.inner.routes[PHOTO] = slow
    clock.go_on(61)
    assert public.get(PHOTO, CHROME).is_hit
    assert [reply.is_hit for reply in during] == [True]


@pytest.mark.parametrize(
    "target",
    [
        "/static/..%2fprivate/x.jpg",
        "/static/../private/x.jpg",
        "/static/%2e%2e/private/x.jpg",
        "/static/./x.jpg",
        "/static/.",
        "/static//x.jpg",
        "/static/a%5cx.jpg",
        "/static/a\\x.jpg",
        "/static/x%00.jpg",
        "/static/x%0a.jpg",
        "/static/a%2fx.jpg",
        "/static/a%2Fx.jpg",
        "/STATIC/x.jpg",
        "/statics/../x.jpg",
        "/private/x.jpg?/static/",
    ],
)
def test_an_odd_path_is_not_public(make_site: MakeSite, target: str) -> None:
    site = make_site(public_paths=["/static/"])
    site.inner.routes = EveryPath()
    for _ in range(2):
        reply = site.get(target, CHROME | {"cookie": "who=me"})
        assert reply.status != 200 or reply.headers["cache-control"].startswith("private")
    assert site.seen in (0, 2)  # a framework may refuse a path by itself


@pytest.mark.parametrize("target", ["/static/..%2fprivate/x.jpg", "/static/%2e%2e/private/x.jpg"])
def test_an_odd_path_is_seen_where_the_server_tells_only_the_decoded_one(
    make_site: MakeSite, target: str
) -> None:
    site = make_site(public_paths=["/static/"])
    site.inner.routes = EveryPath()
    for _ in range(2):
        reply = site.get(target, CHROME | {"cookie": "who=me"}, raw=False)
        assert reply.status != 200 or reply.headers["cache-control"].startswith("private")
    assert site.seen in (0, 2)


class EveryPath(dict):
    """Routes of an app that answers every path with a photo."""

    def get(self, key: object, default: object = None) -> Route:
        return Route(photo(), headers=(("ETag", '"1"'),))


def test_globs_name_public_paths_too(make_site: MakeSite) -> None:
    site = make_site({"/a/b.jpg": Route(photo())}, public_paths=["/a/*.jpg"])
    site.get("/a/b.jpg", CHROME)
    assert site.get("/a/b.jpg", CHROME).is_hit
    assert site.seen == 1


def test_a_cookie_of_one_visitor_is_not_handed_to_others(make_site: MakeSite) -> None:
    route = Route(photo(), headers=(("Set-Cookie", "who=me"), ("ETag", '"1"')))
    site = make_site({PHOTO: route}, public_paths=["/static/"])
    for _ in range(3):
        reply = site.get(PHOTO, CHROME)
        assert reply.type == "image/avif"
        assert "set-cookie" not in reply.headers
    assert site.seen == 1


def test_authorization_does_not_matter_there(public: Site) -> None:
    asked = CHROME | {"authorization": "Basic YTpi", "cookie": "a=b"}
    for _ in range(2):
        reply = public.get(PHOTO, asked)
        assert reply.type == "image/avif"
        assert reply.headers["cache-control"].startswith("public")
    assert public.seen == 1


@pytest.mark.parametrize(
    "header",
    [
        ("Cache-Control", "private"),
        ("Cache-Control", "no-store"),
        ("Cache-Control", "max-age=9, no-transform"),
        ("Vary", "*"),
        ("Vary", "Cookie"),
        ("Vary", "Accept, Accept-Language"),
    ],
)
def test_what_the_app_says_wins_over_the_prefix(
    make_site: MakeSite, header: tuple[str, str]
) -> None:
    processor = HandProcessor()
    site = make_site(
        {PHOTO: Route(photo(), headers=(header,))}, public_paths=["/static/"], processor=processor
    )
    for _ in range(2):
        reply = site.get(PHOTO, CHROME)
        assert (reply.body, reply.headers[header[0].lower()]) == (photo(), header[1])
    assert (site.seen, processor.calls) == (2, 0)


def test_what_was_public_and_is_private_now_is_not_served_from_the_cache(
    public: Site, clock: Clock
) -> None:
    public.get(PHOTO, CHROME)
    public.inner.routes[PHOTO] = Route(photo(), headers=(("Cache-Control", "private"),))
    clock.go_on(61)
    for _ in range(2):
        assert public.get(PHOTO, CHROME).headers["cache-control"] == "private"
        clock.go_on(1)
    assert public.seen == 3


# Origins

ORIGIN = {"origin": "https://shop.example"}


def test_an_origin_is_answered_from_the_cache_where_all_are_allowed(make_site: MakeSite) -> None:
    allowed = (("Access-Control-Allow-Origin", "*"), ("ETag", '"1"'))
    site = make_site({PHOTO: Route(photo(), headers=allowed)}, public_paths=["/static/"])
    for asked in (CHROME, CHROME | ORIGIN, CHROME | ORIGIN):
        assert site.get(PHOTO, asked).headers["access-control-allow-origin"] == "*"
    assert site.seen == 1


@pytest.mark.parametrize("allowed", [None, "https://shop.example"])
def test_without_that_a_request_with_an_origin_goes_to_the_app(
    make_site: MakeSite, allowed: str | None
) -> None:
    headers = (("ETag", '"1"'), ("Vary", "Origin"))
    if allowed:
        headers += (("Access-Control-Allow-Origin", allowed),)
    site = make_site({PHOTO: Route(photo(), headers=headers)}, public_paths=["/static/"])
    for _ in range(2):
        reply = site.get(PHOTO, CHROME | ORIGIN)
        assert reply.headers.get("access-control-allow-origin") == allowed
    assert site.seen == 2
    anonymous = site.get(PHOTO, CHROME)
    assert site.seen == 2
    assert "access-control-allow-origin" not in anonymous.headers
    assert anonymous.vary == {"origin", "accept"}


def test_stored_heads_keep_only_what_is_ours_to_say(make_site: MakeSite) -> None:
    headers = (
        ("ETag", '"1"'),
        ("X-Request-Id", "17"),
        ("Server-Timing", "db;dur=3"),
        ("Cache-Control", "public, max-age=77"),
    )
    site = make_site({PHOTO: Route(photo(), headers=headers)}, public_paths=["/static/"])
    site.get(PHOTO, CHROME)
    reply = site.get(PHOTO, CHROME)
    assert {"x-request-id", "server-timing"}.isdisjoint(reply.headers)
    assert reply.headers["cache-control"] == "public, max-age=77"


def test_kept_sources_ask_the_app_for_their_bytes(make_site: MakeSite) -> None:
    from tests.sites.photos import OLD, tiny

    site = make_site({PHOTO: Route(tiny())}, public_paths=["/static/"], formats=())
    for _ in range(2):
        assert site.get(PHOTO, OLD).body == tiny()
    assert site.seen == 2
