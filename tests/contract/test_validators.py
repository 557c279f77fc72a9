"""ETag, Vary, conditional requests, ranges and HEAD, on every kind of answer."""

from __future__ import annotations

import re

import pytest

from tests.conftest import MakeSite
from tests.sites.base import Reply, Site
from tests.sites.inner import Route, Seen
from tests.sites.photos import CHROME, OLD, WEBP_ONLY, photo, tiny
from tests.sites.processor import HandProcessor

MODIFIED = "Mon, 02 Nov 2026 10:00:00 GMT"
LATER = "Mon, 02 Nov 2026 11:00:00 GMT"
EARLIER = "Mon, 02 Nov 2026 09:00:00 GMT"
DATED = Route(photo(), headers=(("Last-Modified", MODIFIED),))


def fallback(make_site: MakeSite, route: Route) -> Reply:
    site = make_site({"/photo.jpg": route}, processor=HandProcessor(is_open=False), deadline=0)
    reply = site.get("/photo.jpg", CHROME)
    assert reply.body == photo()
    site.plan.processor.gate.set()
    return reply


# Tags


def test_a_tag_is_strong_and_stays(site: Site) -> None:
    first, second = site.get("/photo.jpg", CHROME), site.get("/photo.jpg", CHROME)
    assert re.fullmatch(r'"od-[0-9a-f]{16,}"', first.headers["etag"])
    assert first.headers["etag"] == second.headers["etag"]
    assert first.body == second.body


def test_each_variant_has_a_tag_of_its_own(site: Site) -> None:
    asked = [("/photo.jpg", browser) for browser in (CHROME, WEBP_ONLY, OLD)]
    asked += [("/photo.jpg?w=60", CHROME), ("/photo.jpg?w=61", CHROME)]
    tags = {site.get(target, browser).headers["etag"] for target, browser in asked}
    assert len(tags) == len(asked)


def test_new_bytes_of_the_app_have_a_new_tag(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo(seed=1), headers=(("ETag", '"1"'),))})
    before = site.get("/photo.jpg", CHROME)
    site.inner.routes["/photo.jpg"] = Route(photo(seed=2), headers=(("ETag", '"2"'),))
    after = site.get("/photo.jpg", CHROME)
    assert before.headers["etag"] != after.headers["etag"]
    assert before.body != after.body


def test_without_a_validator_the_bytes_decide(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": Route(photo(seed=1))})
    before = site.get("/photo.jpg", CHROME)
    assert site.get("/photo.jpg", CHROME).is_hit
    site.inner.routes["/photo.jpg"] = Route(photo(seed=2))
    after = site.get("/photo.jpg", CHROME)
    assert not after.is_hit
    assert before.headers["etag"] != after.headers["etag"]


def test_where_the_app_varies_with_more_its_date_is_no_validator(make_site: MakeSite) -> None:
    headers = (("Last-Modified", MODIFIED), ("Vary", "Cookie"))

    def by_cookie(seen: Seen) -> Route:
        # Of the same length and date, so that only the bytes tell them apart.
        seed = 2 if "cookie" in seen.headers else 1
        return Route(photo(seed=seed).ljust(20_000, b"\0"), headers=headers)

    site = make_site({"/photo.jpg": by_cookie})
    one = site.get("/photo.jpg", CHROME)
    two = site.get("/photo.jpg", CHROME | {"cookie": "who=me"})
    assert one.body != two.body
    assert one.headers["etag"] != two.headers["etag"]
    assert site.get("/photo.jpg", CHROME).body == one.body


def test_headers_that_describe_the_apps_bytes_are_gone_and_the_rest_stays(
    make_site: MakeSite,
) -> None:
    headers = (
        ("ETag", '"app"'),
        ("Content-MD5", "Q2hlY2sgSW50ZWdyaXR5IQ=="),
        ("Digest", "sha-256=abc"),
        ("Repr-Digest", "sha-256=:abc=:"),
        ("Content-Digest", "sha-256=:abc=:"),
        ("Accept-Ranges", "none"),
        ("Content-Disposition", 'inline; filename="photo.jpg"'),
        ("X-Request-Id", "17"),
        ("Content-Security-Policy", "default-src 'none'"),
        ("Access-Control-Allow-Origin", "https://a.example"),
        ("Link", "<https://a.example/>; rel=canonical"),
    )
    site = make_site({"/photo.jpg": Route(photo(), headers=headers)})
    for _ in range(2):
        reply = site.get("/photo.jpg", WEBP_ONLY)
        gone = {"content-md5", "digest", "repr-digest", "content-digest"}
        assert gone.isdisjoint(reply.headers)
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.headers["content-disposition"] == 'inline; filename="photo.webp"'
        for name, value in headers[-4:]:
            assert reply.headers[name.lower()] == value


def test_cache_status_is_added_to_what_others_said(make_site: MakeSite) -> None:
    route = Route(photo(), headers=(("Cache-Status", "origin; hit"),))
    site = make_site({"/photo.jpg": route})
    assert site.get("/photo.jpg", CHROME).cache.startswith("origin; hit, optidash; fwd=uri-miss")


# Vary


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (None, {"accept"}),
        ("Accept-Encoding", {"accept-encoding", "accept"}),
        ("Accept", {"accept"}),
        ("Origin, Cookie", {"origin", "cookie", "accept"}),
    ],
)
def test_vary_is_merged_on_every_kind_of_answer(
    make_site: MakeSite, present: str | None, expected: set[str]
) -> None:
    headers = (("ETag", '"1"'), *((("Vary", present),) if present else ()))
    route = Route(photo(), headers=headers)
    site = make_site({"/photo.jpg": route, "/dot.jpg": Route(tiny(), headers=headers)})
    unstored = site.head("/photo.jpg", CHROME)
    fresh = site.get("/photo.jpg", CHROME)
    cached = site.get("/photo.jpg", CHROME)
    head = site.head("/photo.jpg", CHROME)
    same = site.get("/photo.jpg", CHROME | {"if-none-match": fresh.headers["etag"]})
    kept = site.get("/dot.jpg", OLD)
    passing = fallback(make_site, route)
    assert (fresh.is_hit, cached.is_hit, same.status) == (False, True, 304)
    assert kept.body == tiny()
    for reply in (unstored, fresh, cached, head, same, kept, passing):
        assert reply.vary == expected
        assert len(reply.headers["vary"].split(",")) == len(expected)


# Conditions


@pytest.mark.parametrize("field", ["{}", "W/{}", '"old", {}', '"a,b", W/"x", W/{} , "y"', "*"])
def test_a_tag_that_matches_is_answered_304(site: Site, field: str) -> None:
    fresh = site.get("/photo.jpg", CHROME)
    tag = fresh.headers["etag"]
    again = site.get("/photo.jpg", CHROME | {"if-none-match": field.format(tag)})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == tag
    assert again.headers["cache-control"] == fresh.headers["cache-control"]
    assert {"content-type", "content-length", "content-disposition"}.isdisjoint(again.headers)
    head = site.head("/photo.jpg", CHROME | {"if-none-match": tag})
    assert head.status == 304


@pytest.mark.parametrize("field", ['"old"', "od-{}", '"od-0000000000000000"', "", "{}x"])
def test_a_tag_that_does_not_match_is_answered_whole(site: Site, field: str) -> None:
    tag = site.get("/photo.jpg", CHROME).headers["etag"]
    asked = CHROME | {"if-none-match": field.format(tag.strip('"'))}
    reply = site.get("/photo.jpg", asked)
    assert (reply.status, reply.size) == (200, (120, 80))


def test_a_tag_of_another_format_does_not_match(site: Site) -> None:
    tag = site.get("/photo.jpg", CHROME).headers["etag"]
    reply = site.get("/photo.jpg", WEBP_ONLY | {"if-none-match": tag})
    assert (reply.status, reply.type) == (200, "image/webp")


def test_a_tag_matches_though_nothing_is_stored_any_more(site: Site) -> None:
    tag = site.get("/photo.jpg", CHROME).headers["etag"]
    site.service.store.tiers.clear()
    assert site.get("/photo.jpg", CHROME | {"if-none-match": tag}).status == 304


def test_the_app_does_not_see_our_tags(site: Site) -> None:
    tag = site.get("/photo.jpg", CHROME).headers["etag"]
    conditions = {"if-none-match": tag, "if-modified-since": MODIFIED}
    site.get("/photo.jpg", CHROME | conditions)
    assert conditions.keys().isdisjoint(site.inner.seen[-1].headers)


@pytest.mark.parametrize("browser", [CHROME, OLD])
@pytest.mark.parametrize(("since", "status"), [(MODIFIED, 304), (LATER, 304), (EARLIER, 200)])
def test_a_date_counts_where_there_is_no_tag(
    make_site: MakeSite, browser: dict[str, str], since: str, status: int
) -> None:
    site = make_site({"/photo.jpg": DATED})
    assert site.get("/photo.jpg", browser).headers["last-modified"] == MODIFIED
    assert site.get("/photo.jpg", browser | {"if-modified-since": since}).status == status


def test_a_date_does_not_count_beside_a_tag(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": DATED})
    both = {"if-none-match": '"old"', "if-modified-since": LATER}
    assert site.get("/photo.jpg", CHROME | both).status == 200


@pytest.mark.parametrize("since", ["yesterday", "", "Mon, 99 Foo 2026 10:00:00 GMT", "9" * 400])
def test_a_date_that_is_none_is_overlooked(make_site: MakeSite, since: str) -> None:
    site = make_site({"/photo.jpg": DATED})
    assert site.get("/photo.jpg", CHROME | {"if-modified-since": since}).status == 200


def test_the_apps_own_304_passes(make_site: MakeSite) -> None:
    headers = (("ETag", '"app"'), ("X-Kept", "yes"))

    def conditional(seen: Seen) -> Route:
        known = seen.headers.get("if-none-match") == '"app"'
        return Route(status=304, headers=headers) if known else Route(photo(), headers=headers)

    site = make_site({"/photo.jpg": conditional})
    reply = site.get("/photo.jpg", CHROME | {"if-none-match": '"app"'})
    assert (reply.status, reply.body) == (304, b"")
    assert (reply.headers["etag"], reply.headers["x-kept"]) == ('"app"', "yes")


# Ranges


@pytest.fixture
def whole(site: Site) -> Reply:
    return site.get("/photo.jpg", CHROME)


def part_of(site: Site, field: str, **more: str) -> Reply:
    extra = {name.replace("_", "-"): value for name, value in more.items()}
    return site.get("/photo.jpg", CHROME | {"range": field} | extra)


@pytest.mark.parametrize(
    ("field", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-10", 10, 11),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("bytes=0-999999", 0, None),
        ("bytes=-999999", 0, None),
    ],
)
def test_a_range_of_a_variant_is_that_part(
    site: Site, whole: Reply, field: str, start: int, end: int | None
) -> None:
    part = part_of(site, field)
    assert (part.status, part.body) == (206, whole.body[start:end])
    assert part.headers["etag"] == whole.headers["etag"]
    assert part.headers["content-length"] == str(len(part.body))
    first = start % len(whole.body)
    last = first + len(part.body) - 1
    assert part.headers["content-range"] == f"bytes {first}-{last}/{len(whole.body)}"


@pytest.mark.parametrize("field", ["bytes=999999-", "bytes=999999-1000000", "bytes=-0"])
def test_a_range_past_the_end_is_416(site: Site, whole: Reply, field: str) -> None:
    reply = part_of(site, field)
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["content-range"] == f"bytes */{len(whole.body)}"


@pytest.mark.parametrize(
    "field", ["bytes=0-1,4-5", "bytes=9-2", "bytes=", "bytes=a-b", "lines=0-1", "0-1", "bytes=-"]
)
def test_several_ranges_and_nonsense_give_the_whole(site: Site, whole: Reply, field: str) -> None:
    reply = part_of(site, field)
    assert (reply.status, reply.body) == (200, whole.body)


def test_a_range_goes_with_the_tag_in_if_range(site: Site, whole: Reply) -> None:
    tag = whole.headers["etag"]
    assert part_of(site, "bytes=0-1", if_range=tag).status == 206
    for other in (f"W/{tag}", '"app-1"', "yesterday", MODIFIED):
        assert part_of(site, "bytes=0-1", if_range=other).body == whole.body


def test_a_range_never_goes_with_a_date_as_all_formats_share_it(make_site: MakeSite) -> None:
    site = make_site({"/photo.jpg": DATED})
    site.get("/photo.jpg", CHROME)
    for date in (MODIFIED, LATER):
        assert part_of(site, "bytes=0-1", if_range=date).status == 200


def test_a_condition_comes_before_a_range(site: Site, whole: Reply) -> None:
    assert part_of(site, "bytes=0-1", if_none_match=whole.headers["etag"]).status == 304


def test_on_an_image_path_the_app_sees_neither_ranges_nor_encodings(site: Site) -> None:
    asked = {"range": "bytes=0-9", "if-range": '"x"', "accept-encoding": "gzip, br"}
    reply = site.get("/photo.jpg", CHROME | asked)
    assert reply.size == (120, 80)
    assert asked.keys().isdisjoint(site.inner.seen[-1].headers)


def test_on_another_path_the_app_sees_all(make_site: MakeSite) -> None:
    part = Route(b"\xff\xd8", status=206, headers=(("Content-Range", "bytes 0-1/9"),))
    site = make_site({"/photo": part})
    asked = CHROME | {"range": "bytes=0-1", "accept-encoding": "gzip"}
    reply = site.get("/photo", asked)
    assert (reply.status, reply.body) == (206, b"\xff\xd8")
    assert asked.items() <= site.inner.seen[-1].headers.items()


# HEAD


def test_head_without_a_stored_variant_starts_no_work(make_site: MakeSite) -> None:
    processor = HandProcessor()
    site = make_site({"/photo.jpg": Route(photo())}, processor=processor)
    for _ in range(2):
        reply = site.head("/photo.jpg", CHROME)
        assert (reply.status, reply.body) == (200, b"")
        assert "content-length" not in reply.headers
        assert "max-age=60" in reply.headers["cache-control"]
    site.finish_work()
    assert processor.calls == 0


@pytest.mark.parametrize("path", ["/photo.jpg", "/dot.jpg"])
def test_head_of_what_is_stored_has_the_headers_of_get(make_site: MakeSite, path: str) -> None:
    headers = (("ETag", '"1"'),)
    routes = {
        "/photo.jpg": Route(photo(), headers=headers),
        "/dot.jpg": Route(tiny(), headers=headers),
    }
    site = make_site(routes, formats=("webp",))
    site.get(path, OLD)
    got, head = site.get(path, OLD), site.head(path, OLD)
    ours = ("content-type", "content-length", "etag", "cache-control", "vary", "cache-status")
    assert head.status == got.status
    assert {name: head.headers[name] for name in ours} == {name: got.headers[name] for name in ours}
    assert head.headers["content-length"] == str(len(got.body))
