"""How long an answer may be kept, and by whom: never wider than the app says."""

from __future__ import annotations

import pytest

from tests.conftest import MakeSite
from tests.sites.base import Clock, Site
from tests.sites.inner import Route
from tests.sites.photos import CHROME, photo
from tests.sites.processor import HandProcessor

MUTABLE = "public, max-age=3600, stale-while-revalidate=86400"
VERSIONED = "public, max-age=31536000, immutable"
PRIVATE = "private, max-age=300"
COOKIE = {"cookie": "a=b"}


def control(site: Site, headers: dict[str, str] | None = None) -> str | None:
    values = {
        site.get("/photo.jpg", CHROME | (headers or {})).headers.get("cache-control")
        for _ in range(2)
    }
    assert len(values) == 1, "fresh and cached answers differ"
    return values.pop()


@pytest.mark.parametrize(
    "value",
    [
        "public, max-age=5",
        "max-age=0, must-revalidate",
        "no-cache",
        "public, max-age=31536000, immutable",
        "s-maxage=9, max-age=8, stale-while-revalidate=7",
        "public",
    ],
)
def test_the_apps_own_value_stays(make_site: MakeSite, value: str) -> None:
    route = Route(photo(), headers=(("Cache-Control", value), ("ETag", '"1"')))
    site = make_site({"/photo.jpg": route})
    assert control(site) == value
    assert control(site, COOKIE) == value


def test_where_the_app_says_nothing_strangers_get_ours_and_others_a_private_one(
    site: Site,
) -> None:
    assert control(site) == MUTABLE
    assert control(site, COOKIE) == PRIVATE


def test_a_public_path_is_public_with_a_cookie_too(make_site: MakeSite) -> None:
    site = make_site({"/static/photo.jpg": Route(photo())}, public_paths=["/static/"])
    for _ in range(2):
        reply = site.get("/static/photo.jpg", CHROME | COOKIE)
        assert reply.headers["cache-control"] == MUTABLE


def test_our_value_is_a_setting(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, cache_control="public, max-age=7")
    assert control(site) == "public, max-age=7"
    assert control(site, COOKIE) == PRIVATE


def test_expires_stands_for_a_lifetime(make_site: MakeSite) -> None:
    expires = "Mon, 02 Nov 2099 10:00:00 GMT"
    site = make_site({"/photo.jpg": Route(photo(), headers=(("Expires", expires),))})
    for headers in ({}, COOKIE):
        reply = site.get("/photo.jpg", CHROME | headers)
        assert "cache-control" not in reply.headers
        assert reply.headers["expires"] == expires


def test_an_address_with_the_present_version_is_kept_for_a_year(site: Site) -> None:
    version = site.helper("url", "photo.jpg", w=640)
    assert "v=" not in version, "nothing is known of this file yet"
    site.keep("photo.jpg", photo())
    known = site.helper("url", "photo.jpg", w=640).partition("v=")[2].partition("&")[0]
    reply = site.get(f"/photo.jpg?v={known}", CHROME)
    assert reply.headers["cache-control"] == VERSIONED
    old = site.get("/photo.jpg?v=000000000000", CHROME)
    assert old.headers["cache-control"] == MUTABLE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "public, max-age=60"),
        ("public, max-age=5", "public, max-age=5"),
        (VERSIONED, "public, max-age=60"),
        ("max-age=999, stale-while-revalidate=9, stale-if-error=9", "max-age=60"),
        ("s-maxage=999, max-age=70", "s-maxage=60, max-age=60"),
        ("no-cache", "no-cache"),
        ("public", "public, max-age=60"),
        ("max-age=0, must-revalidate", "max-age=0, must-revalidate"),
        ("max-age=soon", "max-age=0"),
    ],
)
def test_a_fallback_lives_a_minute_at_the_most(
    make_site: MakeSite, value: str | None, expected: str
) -> None:
    headers = (("Cache-Control", value),) if value else ()
    site = make_site(
        {"/photo.jpg": Route(photo(), headers=headers)}, processor=HandProcessor(), deadline=0
    )
    reply = site.get("/photo.jpg", CHROME)
    assert (reply.status, reply.body) == (200, photo())
    assert reply.headers["cache-control"] == expected
    site.finish_work()


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3600, "max-age=60"), (7, "max-age=7"), (-9, None)]
)
def test_a_fallback_of_what_expires_is_capped_too(
    make_site: MakeSite, seconds: int, expected: str | None
) -> None:
    from email.utils import formatdate

    clock = Clock()
    expires = formatdate(clock.now + seconds, usegmt=True)
    site = make_site(
        {"/photo.jpg": Route(photo(), headers=(("Expires", expires),))},
        processor=HandProcessor(),
        clock=clock,
        deadline=0,
    )
    reply = site.get("/photo.jpg", CHROME)
    assert reply.body == photo()
    assert reply.headers.get("cache-control") == expected
    site.finish_work()


def test_a_private_fallback_stays_private(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo())}, processor=HandProcessor(), deadline=0)
    reply = site.get("/photo.jpg", CHROME | COOKIE)
    assert reply.headers["cache-control"] == "private, max-age=60"
    site.finish_work()
