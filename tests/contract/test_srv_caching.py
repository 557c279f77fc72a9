"""Image delivery: lifetimes, validators and shared work (SRV-37 to SRV-45)."""

from __future__ import annotations

import os

import pytest

from optidash_integrations.errors import ProcessorError
from tests.conftest import MakeSite
from tests.sites.base import Clock, Reply, Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, photo, tiny
from tests.sites.processor import HandProcessor

MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"
VERSIONED = "public, max-age=31536000, immutable"
MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"
EARLIER = "Mon, 02 Nov 2026 09:00:00 GMT"


@pytest.fixture
def processor() -> HandProcessor:
    return HandProcessor()


@pytest.fixture
def endpoint(make_site: MakeSite, processor: HandProcessor) -> Site:
    """Give a site whose endpoint is open to all, with one photo."""
    site = make_site(access="public", processor=processor)
    site.keep("photo.jpg", photo())
    return site


def ask(site: Site, name: str, browser: dict[str, str] = WEBP_ONLY, **more: str) -> Reply:
    return site.get(site.mount + name, browser | {n.replace("_", "-"): v for n, v in more.items()})


@pytest.mark.srv("SRV-37")
def test_every_answer_says_how_long_it_may_be_kept(endpoint: Site) -> None:
    endpoint.keep("text.jpg", b"not an image")
    endpoint.keep("dot.jpg", tiny())
    endpoint.inner.routes["/photo.jpg"] = Route(photo(), headers=(("ETag", '"1"'),))
    tag = ask(endpoint, "photo.jpg").headers["etag"]
    replies = [
        ask(endpoint, "photo.jpg"),
        ask(endpoint, "photo.jpg", if_none_match=tag),
        ask(endpoint, "photo.jpg", range="bytes=0-1"),
        ask(endpoint, "photo.jpg", range="bytes=9999-"),
        endpoint.head(f"{endpoint.mount}photo.jpg", CHROME),
        ask(endpoint, "dot.jpg", OLD),
        endpoint.get("/photo.jpg", CHROME),
        endpoint.get("/photo.jpg", CHROME | {"cookie": "a=b"}),
        *(ask(endpoint, name) for name in ("photo.jpg?w=x", "none.jpg", "text.jpg")),
    ]
    assert all(reply.headers["cache-control"] for reply in replies)


@pytest.mark.srv("SRV-38")
def test_a_versioned_address_is_kept_for_a_year(endpoint: Site) -> None:
    address = endpoint.helper("url", "photo.jpg", w=320)
    assert "v=" in address
    for _ in range(2):
        assert endpoint.get(address, WEBP_ONLY).headers["cache-control"] == VERSIONED


@pytest.mark.srv("SRV-39")
def test_an_address_that_may_change_has_a_validator(make_site: MakeSite) -> None:
    dated = Route(photo(), headers=(("Last-Modified", MODIFIED),))
    site = make_site({"/photo.jpg": dated})
    first = site.get("/photo.jpg", CHROME)
    assert first.headers["cache-control"] == MUTABLE
    asked = {
        304: [
            {"if-none-match": first.headers["etag"]},
            {"if-modified-since": MODIFIED},
            {"if-none-match": first.headers["etag"], "if-modified-since": EARLIER},
        ],
        200: [
            {"if-none-match": '"old"'},
            {"if-modified-since": EARLIER},
            {"if-none-match": '"old"', "if-modified-since": MODIFIED},
        ],
    }
    for status, conditions in asked.items():
        for condition in conditions:
            reply = site.get("/photo.jpg", CHROME | condition)
            assert (reply.status, bool(reply.body)) == (status, status == 200), condition


@pytest.mark.srv("SRV-40")
def test_the_tag_follows_the_source_the_options_and_the_encoders(make_site: MakeSite) -> None:
    newer = HandProcessor()
    newer.revision = "hand-2"
    tags = []
    for kept, processor in ((1, HandProcessor()), (2, HandProcessor()), (1, newer)):
        site = make_site(access="public", processor=processor)
        site.keep("photo.jpg", photo(seed=kept))
        tags += [ask(site, f"photo.jpg?w={w}").headers["etag"] for w in (60, 61)]
    assert len(set(tags)) == 6
    again = make_site(access="public", processor=HandProcessor())
    again.keep("photo.jpg", photo(seed=1))
    assert ask(again, "photo.jpg?w=60").headers["etag"] == tags[0], "equal in every process"


@pytest.mark.srv("SRV-41")
def test_shared_caches_may_have_a_lifetime_of_their_own(make_site: MakeSite) -> None:
    value = "public, max-age=60, s-maxage=86400, stale-while-revalidate=600, stale-if-error=9"
    site = make_site({"/photo.jpg": Route(photo())}, access="public", cache_control=value)
    site.keep("photo.jpg", photo())
    for reply in (site.get("/photo.jpg", CHROME), ask(site, "photo.jpg")):
        assert reply.headers["cache-control"] == value


@pytest.mark.srv("SRV-42")
def test_addresses_that_mean_the_same_share_one_variant(
    endpoint: Site, processor: HandProcessor
) -> None:
    queries = [
        "w=60&h=40",
        "h=40&w=60",
        "width=60&height=40",
        "w=60&h=40&fit=clip",
        "fit=inside&h=40&w=60",
        "w=60&h=40&fm=auto",
        "w=60&h=40&dpr=1",
        "w=30&h=20&dpr=2",
        "w=60&h=40&v=000000000000",
        "%77=60&h=%34%30",
    ]
    tags = {ask(endpoint, f"photo.jpg?{query}").headers["etag"] for query in queries}
    assert (len(tags), processor.calls) == (1, 1)


@pytest.mark.srv("SRV-43")
def test_what_stands_in_and_what_failed_does_not_stick(make_site: MakeSite) -> None:
    site = make_site(access="public", processor=HandProcessor(error=ProcessorError("out of order")))
    site.keep("photo.jpg", photo())
    site.keep("text.jpg", b"not an image")
    address = site.helper("url", "photo.jpg", w=320)
    standing_in = site.get(address, WEBP_ONLY)
    assert (standing_in.status, standing_in.body) == (200, photo())
    assert standing_in.headers["cache-control"] == "public, max-age=60"
    for name in ("none.jpg", "text.jpg", "photo.jpg?w=x"):
        assert ask(site, name).headers["cache-control"] in ("no-store", "max-age=60")


@pytest.mark.srv("SRV-44")
def test_all_who_ask_at_once_cause_one_render(make_site: MakeSite) -> None:
    processor = HandProcessor(is_open=False)
    site = make_site(access="public", processor=processor)
    site.keep("photo.jpg", photo())
    asked = [site.begin(f"{site.mount}photo.jpg?w=60", WEBP_ONLY) for _ in range(4)]
    assert processor.started.wait(10)
    processor.gate.set()
    assert len({future.result(30).body for future in asked}) == 1
    assert processor.calls == 1


@pytest.mark.srv("SRV-45")
def test_a_public_image_carries_no_cookie(make_site: MakeSite) -> None:
    headers = (("Set-Cookie", "who=me"), ("ETag", '"1"'))
    route = Route(photo(), headers=headers)
    site = make_site({"/static/a.jpg": route}, access="public", public_paths=["/static/"])
    site.keep("photo.jpg", photo())
    address = site.helper("url", "photo.jpg", w=320)
    for target in (address, "/static/a.jpg"):
        for more in ({}, {"cookie": "who=somebody"}):
            reply = site.get(target, CHROME | more)
            assert reply.headers["cache-control"].startswith("public")
            assert "set-cookie" not in reply.headers
            assert reply.vary == {"accept"}


@pytest.mark.srv("SRV-45")
def test_an_address_is_stable_and_a_new_version_purges(make_site: MakeSite) -> None:
    clock = Clock()
    site = make_site(access="public", clock=clock)
    site.keep("photo.jpg", photo())
    address = site.helper("url", "photo.jpg", w=320)
    clock.go_on(86_400)
    assert site.helper("url", "photo.jpg", w=320) == address
    os.utime(site.keep("photo.jpg", photo(seed=2)), (clock.now, clock.now))
    clock.go_on(61)
    assert site.helper("url", "photo.jpg", w=320) != address
