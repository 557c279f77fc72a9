"""Answers made ready are the same answers, and never outlive what they were made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from optidash_integrations.asgi.messages import Message
from tests.conftest import MakeSite
from tests.sites.asgi_site import AsgiSite
from tests.sites.base import Clock, Reply, Site
from tests.sites.drivers import scope_of
from tests.sites.inner import Route
from tests.sites.photos import photo
from tests.sites.processor import HandProcessor

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
    site.finish_work()
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
    for _ in range(20):  # so that the request before is over for good, in whatever thread
        site.get("/none.jpg", CHROME)
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


# At the image endpoint


@pytest.fixture
def endpoint(make_site: MakeSite) -> Site:
    return endpoint_of(make_site)


def endpoint_of(make_site: MakeSite, **settings: object) -> Site:
    settings.setdefault("access", "public")
    settings.setdefault("processor", HandProcessor())
    site = make_site(clock=Clock(), **settings)
    site.keep("photo.jpg", photo())
    return site


def go_on(site: Site, seconds: float) -> None:
    assert site.plan.clock is not None
    site.plan.clock.go_on(seconds)


def ready(site: Site) -> int:
    return len(site.service.ready.table)


def test_at_the_endpoint_they_are_those_of_a_first_hit(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg?w=60"
    endpoint.get(address, CHROME)
    first = endpoint.get(address, CHROME)
    assert first.is_hit
    assert ready(endpoint) == 1
    before = endpoint.service.stats().hits["memory"]
    for _ in range(3):
        reply = endpoint.get(address, CHROME | {"cookie": "a=b"})
        assert (reply.status, reply.body) == (200, first.body)
        assert sorted(reply.pairs) == sorted(first.pairs)
    assert ready(endpoint) == 1
    assert endpoint.service.stats().hits["memory"] == before + 3


def test_at_the_endpoint_each_address_and_browser_has_its_own(endpoint: Site) -> None:
    endpoint.keep("other.jpg", photo(seed=2))
    targets = [f"{endpoint.mount}{rest}" for rest in ("photo.jpg", "photo.jpg?w=60", "other.jpg")]
    found = {t: hits(endpoint, t, CHROME, OLD) for t in targets}
    assert len({reply.body for replies in found.values() for reply in replies}) == 6
    assert {reply.type for replies in found.values() for reply in replies} == {
        "image/avif",
        "image/jpeg",
    }


def test_at_the_endpoint_conditions_and_ranges_are_obeyed(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg"
    [hit] = hits(endpoint, address, CHROME)
    assert endpoint.get(address, CHROME | {"if-none-match": hit.headers["etag"]}).status == 304
    part = endpoint.get(address, CHROME | {"range": "bytes=0-9"})
    assert (part.status, part.body) == (206, hit.body[:10])
    head = endpoint.head(address, CHROME)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", hit.headers["etag"])


def test_the_json_form_is_never_taken_for_the_image(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg"
    as_json = {"accept": "application/json"}
    as_both = {"accept": "image/avif,image/webp,*/*;q=0.8,application/json"}
    [hit] = hits(endpoint, address, as_both)
    for _ in range(3):
        assert endpoint.get(address, as_json).type == "application/json"
        assert endpoint.get(address, {"accept": ""}).type == "image/jpeg"
        assert endpoint.get(address, as_both).body == hit.body


def test_at_the_endpoint_a_changed_source_is_served_changed(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg"
    [before] = hits(endpoint, address, CHROME)
    endpoint.keep("photo.jpg", photo(30, 20))
    go_on(endpoint, 59)
    assert endpoint.get(address, CHROME).body == before.body
    go_on(endpoint, 1)
    assert endpoint.get(address, CHROME).headers["etag"] != before.headers["etag"]
    endpoint.finish_work()
    assert endpoint.get(address, CHROME).body not in (before.body, b"")


def test_at_the_endpoint_a_source_that_went_away_is_gone(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg"
    hits(endpoint, address, CHROME)
    (endpoint.folder / "photo.jpg").unlink()
    go_on(endpoint, 61)
    assert endpoint.get(address, CHROME).status == 404
    assert endpoint.get(address, CHROME).status == 404


def test_at_the_endpoint_a_purge_counts_at_once(endpoint: Site) -> None:
    address = f"{endpoint.mount}photo.jpg"
    hits(endpoint, address, CHROME)
    name = "photo.jpg" if "django" in endpoint.kind else str(endpoint.folder / "photo.jpg")
    assert endpoint.service.purge(name).sources == 1
    assert ready(endpoint) == 0
    assert not endpoint.get(address, CHROME).is_hit


def test_where_nothing_is_fresh_the_source_is_asked_each_time(make_site: MakeSite) -> None:
    site = endpoint_of(make_site, fresh_for=0)
    address = f"{site.mount}photo.jpg"
    [before] = hits(site, address, CHROME)
    site.keep("photo.jpg", photo(30, 20))
    assert site.get(address, CHROME).headers["etag"] != before.headers["etag"]


def test_a_signed_address_is_ready_and_one_letter_more_is_not(make_site: MakeSite) -> None:
    site = endpoint_of(make_site, access="signed")
    address = site.helper("url", "photo.jpg", w=60)
    hits(site, address, CHROME)
    assert ready(site) == 1
    assert site.get(address, CHROME).is_hit
    for wrong in (address + "a", address.replace("w=60", "w=61"), f"{site.mount}photo.jpg?w=60"):
        assert site.get(wrong, CHROME).status == 403


def test_an_address_that_expires_is_asked_for_each_time(make_site: MakeSite) -> None:
    site = endpoint_of(make_site, access="signed")
    address = site.helper("url", "photo.jpg", w=60, expires=50)
    ages = set()
    for _ in range(3):
        ages.add(site.get(address, CHROME).headers["cache-control"])
        go_on(site, 10)
    assert len(ages) == 3, "the lifetime shrinks"
    assert ready(site) == 0
    go_on(site, 60)
    assert site.get(address, CHROME).status == 403


@pytest.mark.parametrize(
    "settings",
    [
        {"access": lambda request, name: True},
        {"access": ("public", lambda request, name: True)},
        {"rate_limit": "600/minute"},
        {"cors_origins": ("https://example.com",)},
    ],
    ids=["asked", "either", "counted", "cors"],
)
def test_what_depends_on_more_than_the_address_is_never_ready(
    make_site: MakeSite, settings: dict[str, object]
) -> None:
    site = endpoint_of(make_site, **settings)
    [hit] = hits(site, f"{site.mount}photo.jpg", CHROME)
    assert hit.is_hit
    assert ready(site) == 0


@pytest.mark.parametrize(("transforms", "kept"), [("bounded", 0), ("allowlist", 1)])
def test_what_was_snapped_is_not_ready_where_it_may_be_exact_later(
    make_site: MakeSite, transforms: str, kept: int
) -> None:
    site = endpoint_of(make_site, transforms=transforms, variants_per_source=1)
    site.get(f"{site.mount}photo.jpg?w=50", CHROME)
    [snapped] = hits(site, f"{site.mount}photo.jpg?w=51", CHROME)
    assert "changed" in snapped.cache
    assert ready(site) == kept


def test_a_fallback_picture_is_not_ready_for_the_image_it_stands_for(
    make_site: MakeSite, tmp_path: Path
) -> None:
    picture = tmp_path / "none.jpg"
    picture.write_bytes(photo(seed=9))
    site = endpoint_of(make_site, fallback_image=picture)
    address = f"{site.mount}late.jpg"
    [stand_in] = hits(site, address, CHROME)
    assert stand_in.status == 200
    assert ready(site) == 0
    site.keep("late.jpg", photo(seed=3))
    assert site.get(address, CHROME).body != stand_in.body
