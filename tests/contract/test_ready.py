"""Answers made ready are the same answers, and never outlive what they were made of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from optidash_integrations.asgi.messages import Message
from tests.conftest import MakeSite
from tests.sites.asgi_site import AsgiSite
from tests.sites.base import Clock, Reply, Site
from tests.sites.drivers import scope_of
from tests.sites.inner import Route
from tests.sites.photos import photo

CHROME = {"accept": "image/avif,image/webp,*/*;q=0.8"}
OLD = {"accept": "image/png,image/*;q=0.5"}
ROUTE = Route(
    photo(), headers=(("ETag", '"1"'), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"))
)


@pytest.fixture(params=["public", "agreed"])
def site(request: pytest.FixtureRequest, make_site: MakeSite) -> Site:
    public = ("/",) if request.param == "public" else ()
    return make_site({"/photo.jpg": ROUTE}, public_paths=public, clock=Clock())


def hits(site: Site, target: str, *browsers: dict[str, str]) -> list[Reply]:
    """Ask until everything is warm, then once more with each."""
    for browser in browsers:
        for _ in range(3):
            site.get(target, browser)
    return [site.get(target, browser) for browser in browsers]


def test_the_answers_are_those_of_a_first_hit(site: Site) -> None:
    site.get("/photo.jpg", CHROME)
    first = site.get("/photo.jpg", CHROME)
    later = [site.get("/photo.jpg", CHROME) for _ in range(3)]
    assert first.is_hit
    for reply in later:
        assert (reply.status, reply.body) == (200, first.body)
        assert sorted(reply.pairs) == sorted(first.pairs)


def test_each_browser_gets_its_own(site: Site) -> None:
    chrome, old = hits(site, "/photo.jpg", CHROME, OLD)
    assert (chrome.type, old.type) == ("image/avif", "image/jpeg")
    wide, narrow = (hits(site, f"/photo.jpg?w={width}", CHROME)[0] for width in (60, 40))
    assert (wide.size[0], narrow.size[0]) == (60, 40)


def test_conditions_and_ranges_are_obeyed_all_the_same(site: Site) -> None:
    [hit] = hits(site, "/photo.jpg", CHROME)
    assert site.get("/photo.jpg", CHROME | {"if-none-match": hit.headers["etag"]}).status == 304
    part = site.get("/photo.jpg", CHROME | {"range": "bytes=0-9"})
    assert (part.status, part.body) == (206, hit.body[:10])
    head = site.head("/photo.jpg", CHROME)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", hit.headers["etag"])


def test_a_changed_image_is_served_changed(site: Site) -> None:
    hits(site, "/photo.jpg", CHROME)
    site.inner.routes["/photo.jpg"] = Route(photo(30, 20), headers=(("ETag", '"2"'),))
    clock = site.plan.clock
    assert clock is not None
    clock.go_on(61)
    site.get("/photo.jpg", CHROME)
    assert site.get("/photo.jpg", CHROME).size == (30, 20)
    assert site.get("/photo.jpg", CHROME).size == (30, 20)


def test_an_image_taken_back_is_gone(site: Site) -> None:
    hits(site, "/photo.jpg", CHROME)
    del site.inner.routes["/photo.jpg"]
    clock = site.plan.clock
    assert clock is not None
    clock.go_on(61)
    assert site.get("/photo.jpg", CHROME).status == 404
    assert site.get("/photo.jpg", CHROME).status == 404


def test_what_the_cache_forgets_is_made_again(site: Site) -> None:
    [before] = hits(site, "/photo.jpg", CHROME)
    site.service.store.tiers.clear()
    again = site.get("/photo.jpg", CHROME)
    assert not again.is_hit
    assert again.body == before.body


def test_a_cookie_keeps_an_agreed_answer_private(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": ROUTE})
    [shared] = hits(site, "/photo.jpg", CHROME)
    [own] = hits(site, "/photo.jpg", CHROME | {"cookie": "a=b"})
    assert "private" in own.headers["cache-control"]
    assert "private" not in shared.headers["cache-control"]
    assert "private" not in site.get("/photo.jpg", CHROME).headers["cache-control"]


def test_who_changes_a_head_changes_it_for_one_visitor(
    site_maker: Callable[..., AsgiSite],
) -> None:
    site = site_maker("asgi", {"/photo.jpg": ROUTE}, public_paths=("/",))
    [before] = hits(site, "/photo.jpg", CHROME)

    async def spoil(message: Message) -> None:
        message.get("headers", []).append((b"x-spoilt", b"1"))

    async def receive() -> Message:
        return {"type": "http.request"}

    site.loop.run(site.app(scope_of("GET", "/photo.jpg", CHROME), receive, spoil))
    assert sorted(site.get("/photo.jpg", CHROME).pairs) == sorted(before.pairs)
