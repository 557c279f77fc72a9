from __future__ import annotations

from pathlib import Path

import pytest

from optidash_integrations.exchange import INNER, FileBody, Head, Request
from optidash_integrations.headers import (
    Representation,
    build,
    cache_status,
    capped,
    error,
    is_private,
    kept_headers,
    merged_vary,
    printable,
)

BODY = bytes(range(100))
DATE = "Sat, 21 Nov 2026 08:00:00 GMT"
LATER = "Sat, 21 Nov 2026 09:00:00 GMT"
EARLIER = "Sat, 21 Nov 2026 07:00:00 GMT"


def image(**changes):
    facts = {
        "key": "abc",
        "content_type": "image/webp",
        "length": len(BODY),
        "cache_control": "public, max-age=60",
        "status": "optidash; hit",
    }
    return Representation(**(facts | changes))


def ask(method="GET", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(method, "/a.jpg", "", named)


def answer(request, body=BODY, **changes):
    built = build(request, image(**changes), body)
    return built.status, dict(built.headers), built.body


def test_a_full_answer_says_all_that_a_cache_needs():
    status, headers, body = answer(ask())
    assert (status, body) == (200, BODY)
    assert headers == {
        "content-type": "image/webp",
        "content-length": "100",
        "etag": '"od-abc"',
        "cache-control": "public, max-age=60",
        "vary": "Accept",
        "x-content-type-options": "nosniff",
        "cache-status": "optidash; hit",
        "accept-ranges": "bytes",
    }


def test_a_head_answer_has_the_same_headers_and_no_body():
    full, head = answer(ask()), answer(ask("HEAD"))
    assert head[2] == b""
    assert head[1] == {k: v for k, v in full[1].items() if k != "accept-ranges"}


@pytest.mark.parametrize(
    "tags",
    ['"od-abc"', 'W/"od-abc"', '"x", W/"od-abc"', '"x","od-abc" , "y"', "*", ' "od-abc" '],
)
def test_a_matching_tag_gives_304_without_body_type_or_length(tags):
    status, headers, body = answer(ask(if_none_match=tags))
    assert (status, body) == (304, b"")
    assert headers["etag"] == '"od-abc"'
    assert headers["vary"] == "Accept"
    assert "content-length" not in headers
    assert "content-type" not in headers


@pytest.mark.parametrize("tags", ['"od-abcd"', "od-abc", '"abc"', "", '"od-ab", "c"'])
def test_another_tag_gives_the_image(tags):
    assert answer(ask(if_none_match=tags))[0] == 200


@pytest.mark.parametrize(
    ("since", "status"), [(DATE, 304), (LATER, 304), (EARLIER, 200), ("yesterday", 200)]
)
def test_if_modified_since_compares_dates(since, status):
    assert answer(ask(if_modified_since=since), last_modified=DATE)[0] == status


def test_if_none_match_wins_over_if_modified_since():
    request = ask(if_none_match='"other"', if_modified_since=LATER)
    assert answer(request, last_modified=DATE)[0] == 200


def test_an_answer_without_last_modified_ignores_if_modified_since():
    assert answer(ask(if_modified_since=LATER))[0] == 200


@pytest.mark.parametrize(
    ("field", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=90-", 90, 99),
        ("bytes=-5", 95, 99),
        ("bytes=50-5000", 50, 99),
        ("bytes=-5000", 0, 99),
        ("bytes=0-0", 0, 0),
    ],
)
def test_one_range_gives_that_part(field, first, last):
    status, headers, body = answer(ask(range=field))
    assert (status, body) == (206, BODY[first : last + 1])
    assert headers["content-range"] == f"bytes {first}-{last}/100"
    assert headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "field",
    [
        "bytes=0-1,5-6",
        "bytes=",
        "bytes=-",
        "lines=1-2",
        "bytes=9-3",
        "bytes=a-b",
        f"bytes={'9' * 5000}-1",
    ],
)
def test_several_ranges_or_an_invalid_one_give_the_whole(field):
    assert answer(ask(range=field))[::2] == (200, BODY)


@pytest.mark.parametrize("field", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_past_the_end_is_416(field):
    status, headers, body = answer(ask(range=field))
    assert (status, body) == (416, b"")
    assert headers["cache-control"] == "no-store"
    assert headers["content-range"] == "bytes */100"


@pytest.mark.parametrize(
    ("condition", "status"),
    [('"od-abc"', 206), ('W/"od-abc"', 200), ('"old"', 200), (DATE, 200), (EARLIER, 200)],
)
def test_if_range_sends_the_whole_unless_the_copy_is_the_present_one(condition, status):
    request = ask(range="bytes=0-9", if_range=condition)
    assert answer(request, last_modified=DATE)[0] == status


def test_a_range_of_a_file_names_the_part_of_the_file():
    body = FileBody(Path("x"), 0, 100, 100)
    assert answer(ask(range="bytes=10-19"), body)[2] == FileBody(Path("x"), 10, 10, 100)


def test_a_body_that_is_passed_on_as_it_comes_promises_no_ranges():
    status, headers, body = answer(ask(range="bytes=0-9"), INNER)
    assert (status, body) == (200, INNER)
    assert "accept-ranges" not in headers


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (None, "Accept"),
        ("", "Accept"),
        ("Origin", "Origin, Accept"),
        ("accept", "accept"),
        ("Accept-Encoding, Accept", "Accept-Encoding, Accept"),
        ("*", "*"),
    ],
)
def test_vary_is_merged_into_what_the_app_set(present, expected):
    assert merged_vary(present, "Accept") == expected


def test_an_answer_that_no_accept_could_change_does_not_vary_by_it():
    assert "vary" not in answer(ask(), negotiated=False)[1]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("public, max-age=31536000, immutable", "public, max-age=60"),
        ("public, max-age=10", "public, max-age=10"),
        ("max-age=3600, s-maxage=7200, stale-while-revalidate=9", "max-age=60, s-maxage=60"),
        ("public", "public, max-age=60"),
        ("no-cache", "no-cache"),
        ('max-age="3600"', "max-age=60"),
        ("max-age=forever", "max-age=0"),
    ],
)
def test_a_passing_answer_lives_a_minute_at_the_most(value, expected):
    assert capped(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("private", True), ("no-store", True), ("No-Transform, public", True), ("public", False)],
)
def test_private_answers_are_told_from_their_cache_control(value, expected):
    assert is_private(Head(200, [("cache-control", value)])) is expected


def test_headers_that_describe_the_apps_bytes_are_dropped_and_the_rest_stays():
    head = Head(
        200,
        [
            ("content-md5", "x"),
            ("accept-ranges", "bytes"),
            ("etag", '"app"'),
            ("x-frame-options", "DENY"),
            ("link", "</a>"),
            ("link", "</b>"),
        ],
    )
    kept = kept_headers(head, "avif")
    assert kept == (("x-frame-options", "DENY"), ("link", "</a>"), ("link", "</b>"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('inline; filename="my cat.jpeg"', 'inline; filename="my cat.avif"'),
        ("inline; filename=cat.jpg", "inline; filename=cat.avif"),
        ("inline; filename*=UTF-8''c%C3%A4t.jpg", "inline; filename*=UTF-8''c%C3%A4t.avif"),
        ("inline", "inline"),
    ],
)
def test_an_inline_file_name_follows_the_new_format(value, expected):
    head = Head(200, [("content-disposition", value)])
    assert kept_headers(head, "avif") == (("content-disposition", expected),)


def test_cache_status_follows_what_nearer_caches_said():
    value = cache_status("hit", detail='the "source" is smaller\n', before="origin; hit")
    assert value == 'origin; hit, optidash; hit; detail="the \\"source\\" is smaller?"'


def test_a_detail_is_printable_ascii_of_bounded_length():
    assert printable("é" * 500) == "?" * 200


def test_an_error_is_one_plain_sentence_that_nobody_stores():
    refused = error(400, 'w takes a positive integer, not "x"')
    assert refused.status == 400
    assert refused.body == b'w takes a positive integer, not "x"\n'
    assert dict(refused.headers)["cache-control"] == "no-store"
