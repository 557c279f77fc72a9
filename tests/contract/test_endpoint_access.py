"""Who may use the image endpoint, how often, and from where.

SRV-10, SRV-22 … 27, SRV-64 … 66.
"""

from __future__ import annotations

import json
from urllib.parse import quote

import jwt
import pytest

from optidash_integrations.access import ApiKeys, Jwt
from optidash_integrations.errors import BudgetExceededError, QuotaExceededError
from tests.conftest import MakeSite
from tests.sites.base import Clock, Site
from tests.sites.drivers import call_wsgi, environ_of, scope_of
from tests.sites.photos import WEBP_ONLY, photo
from tests.sites.processor import HandProcessor

KEY = "a-key/that+is=long-enough"
OTHER = "the-key/that+comes=next"
SECRET = "a secret of thirty-two characters"
PRIVATE = "private, max-age=300"


def with_photo(site: Site) -> Site:
    site.keep("photo.jpg", photo())
    return site


def ask(site: Site, query: str = "", name: str = "photo.jpg", **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.get(f"{site.mount}{name}{query}", WEBP_ONLY | named)


# SRV-22, SRV-23, SRV-25, SRV-26, SRV-27


@pytest.mark.srv("SRV-22")
@pytest.mark.parametrize("required", ["key", "token", "signature"])
def test_each_scheme_can_be_required_and_no_other_one_opens(
    make_site: MakeSite, required: str
) -> None:
    clock = Clock()
    rules = {
        "key": ApiKeys([KEY]),
        "token": Jwt(SECRET, algorithms=["HS256"]),
        "signature": "signed",
    }
    site = with_photo(make_site(access=rules[required], clock=clock))
    signed = site.service.access.signer.signed(f"{site.mount}photo.jpg", [("w", "60")])
    asked = {
        "key": ask(site, x_api_key=KEY),
        "token": ask(site, authorization=f"Bearer {token(exp=clock.now + 60)}"),
        "signature": site.get(signed, WEBP_ONLY),
        "nothing": ask(site),
    }
    refused = 403 if required == "signature" else 401
    for shown, reply in asked.items():
        assert reply.status == (200 if shown == required else refused), shown


@pytest.mark.srv("SRV-22")
def test_without_the_setting_no_credential_is_asked_for(make_site: MakeSite) -> None:
    site = with_photo(make_site())
    is_signed = site.kind.startswith("django")  # there a signature is the default
    for headers in ({}, {"x_api_key": KEY}, {"authorization": "Bearer x"}):
        reply = ask(site, **headers)
        assert reply.status == (403 if is_signed else 200)
        assert "www-authenticate" not in reply.headers
    assert site.get(site.helper("url", "photo.jpg", w=60), WEBP_ONLY).size == (60, 40)


@pytest.mark.srv("SRV-22")
def test_what_is_required_may_depend_on_the_image(make_site: MakeSite) -> None:
    """A rule of the site's own opens some names; the others need what the other rules want."""
    rules = (lambda visitor, name: name.startswith("open/"), ApiKeys([KEY]), "signed")
    site = with_photo(make_site(access=rules))
    site.keep("open/photo.jpg", photo(seed=2))
    assert ask(site, name="open/photo.jpg").status == 200
    assert ask(site).status in (401, 403)
    assert ask(site, x_api_key=KEY).status == 200
    assert site.get(site.helper("url", "photo.jpg", w=60), WEBP_ONLY).status == 200


@pytest.mark.srv("SRV-26")
def test_no_shared_cache_keeps_what_a_header_opened(make_site: MakeSite) -> None:
    site = with_photo(make_site(access=ApiKeys([KEY]), cache_control="public, max-age=9"))
    site.keep("text.jpg", b"no image")
    key = {"x_api_key": KEY}
    first = ask(site, **key)
    replies = [
        first,
        ask(site, f"?w=60&v={'0' * 12}", **key),
        ask(site, **key, if_none_match=first.headers["etag"]),
        ask(site, **key, range="bytes=0-9"),
        ask(site, **key, accept="application/json"),
        site.head(f"{site.mount}photo.jpg", WEBP_ONLY | {"x-api-key": KEY}),
        *(ask(site, query, name, **key) for query, name in (("", "text.jpg"), ("?w=x", "a.jpg"))),
    ]
    assert [reply.status for reply in replies] == [200, 200, 304, 206, 200, 200, 415, 400]
    for reply in replies:
        assert reply.headers["cache-control"] in (PRIVATE, "no-store")


@pytest.mark.srv("SRV-22", "SRV-23", "SRV-26", "SRV-27")
@pytest.mark.parametrize("key", [KEY, OTHER])
def test_a_key_opens_by_either_header_and_is_private(make_site: MakeSite, key: str) -> None:
    site = with_photo(make_site(access=ApiKeys({"old": KEY, "new": ApiKeys.digest(OTHER)})))
    for headers in ({"authorization": f"Bearer {key}"}, {"x_api_key": key}):
        reply = ask(site, **headers)
        assert (reply.status, reply.type) == (200, "image/webp")
        assert reply.headers["cache-control"] == PRIVATE


@pytest.mark.srv("SRV-23", "SRV-25")
def test_without_a_key_or_with_a_wrong_one_the_answer_is_401(make_site: MakeSite) -> None:
    site = with_photo(make_site(access=ApiKeys([KEY])))
    wrong = ({}, {"x_api_key": KEY + "x"}, {"authorization": f"Basic {KEY}"}, {"x_api_key": ""})
    for headers in wrong:
        reply = ask(site, **headers)
        assert (reply.status, reply.headers["cache-control"]) == (401, "no-store")
        assert reply.headers["www-authenticate"].startswith('Bearer realm="images"')
        assert "etag" not in reply.headers
    assert 'error="invalid_token"' in ask(site, x_api_key="x").headers["www-authenticate"]
    assert ask(site, f"?key={quote(KEY)}").status == 400  # no parameter was named
    assert ask(site, name="none.jpg").status == 401  # nobody learns which names there are


@pytest.mark.srv("SRV-23")
def test_a_key_in_the_query_reaches_no_cache_key_no_log_and_no_answer(
    make_site: MakeSite, caplog: pytest.LogCaptureFixture
) -> None:
    site = with_photo(make_site(access=ApiKeys([KEY, OTHER], parameter="key")))
    site.keep("broken.jpg", b"\xff\xd8\xff")
    caplog.set_level("DEBUG")
    quoted, other = quote(KEY, safe=""), quote(OTHER, safe="")
    first = ask(site, f"?w=60&key={quoted}")
    second = ask(site, f"?key={other}&w=60")
    assert (first.status, first.size, first.headers["cache-control"]) == (200, (60, 40), PRIVATE)
    assert second.is_hit
    assert second.headers["etag"] == first.headers["etag"]
    for reply in (
        ask(site, f"?key={quoted}", "broken.jpg"),
        ask(site, f"?key={quoted}&key={quoted}&w=1&w=2"),
        ask(site, f"?key={quoted}", "none.jpg"),
        ask(site, f"?key={quoted}x"),
    ):
        assert reply.status >= 400
        assert KEY not in str(reply)
        assert quoted not in str(reply)
    assert KEY not in caplog.text
    assert quoted not in caplog.text


def token(**claims: object) -> str:
    return jwt.encode(claims, SECRET, algorithm="HS256")


@pytest.mark.srv("SRV-24", "SRV-26")
def test_a_token_opens_until_it_expires(make_site: MakeSite) -> None:
    clock = Clock()
    site = with_photo(make_site(access=Jwt(SECRET, algorithms=["HS256"]), clock=clock))
    mine = {"authorization": f"Bearer {token(exp=clock.now + 60)}"}
    assert ask(site, **mine).headers["cache-control"] == PRIVATE
    clock.go_on(61)
    reply = ask(site, **mine)
    assert reply.status == 401
    assert "expired" in reply.headers["www-authenticate"]


@pytest.mark.srv("SRV-25")
def test_a_valid_token_for_other_images_gives_403(make_site: MakeSite) -> None:
    clock = Clock()
    rule = Jwt(SECRET, algorithms=["HS256"], prefix_claim="images")
    site = with_photo(make_site(access=rule, clock=clock))
    site.keep("mine/photo.jpg", photo(seed=2))
    mine = {"authorization": f"Bearer {token(exp=clock.now + 60, images=['mine/'])}"}
    assert ask(site, name="mine/photo.jpg", **mine).status == 200
    reply = ask(site, **mine)
    assert (reply.status, "www-authenticate" in reply.headers) == (403, False)


@pytest.mark.srv("SRV-22")
def test_of_several_rules_any_lets_in(make_site: MakeSite) -> None:
    site = with_photo(make_site(access=("signed", ApiKeys([KEY]))))
    signed = site.get(site.helper("url", "photo.jpg", w=60), WEBP_ONLY)
    assert (signed.status, "private" in signed.headers["cache-control"]) == (200, False)
    assert ask(site, x_api_key=KEY).headers["cache-control"] == PRIVATE
    assert ask(site).status == 401


@pytest.mark.srv("SRV-25")
def test_a_refusal_may_look_as_if_there_were_no_image(make_site: MakeSite) -> None:
    site = with_photo(make_site(access=ApiKeys([KEY]), hide_refused=True))
    hidden, missing = ask(site), ask(site, name="none.jpg", x_api_key=KEY)
    assert (hidden.status, hidden.body) == (404, missing.body)
    assert "www-authenticate" not in hidden.headers


# SRV-66

ALLOWED = (
    "https://friend.example/page",
    "https://FRIEND.example:8443/",
    "http://a.b.family.example/?x",
    "http://site.test/own/page",
    "",
)
OTHERS = (
    "https://leech.example/",
    "https://notfriend.example/",
    "https://friend.example.leech.example/",
    "https://friend.example@leech.example/",
    "https://leech.example/friend.example",
    "https://family.example/",
    "https://notfamily.example/",
    "friend.example",
    "https://[friend.example",
    "about:blank",
    "null",
)


@pytest.mark.srv("SRV-66")
def test_pages_of_other_hosts_may_not_show_images(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", referers=["Friend.example", "*.family.example"]))
    for referer in ALLOWED:
        reply = ask(site, referer=referer)
        assert (reply.status, reply.type) == (200, "image/webp"), referer
    for referer in OTHERS:
        reply = ask(site, referer=referer)
        assert (reply.status, reply.headers["cache-control"]) == (403, "no-store"), referer
        assert b"other sites" in reply.body
    assert ask(site).status == 200


@pytest.mark.srv("SRV-66")
def test_behind_the_guard_no_shared_cache_hands_out_images(make_site: MakeSite) -> None:
    site = with_photo(make_site(referers=["friend.example"], cache_control="public, max-age=9"))
    address = site.helper("url", "photo.jpg", w=60)
    first = site.get(address, WEBP_ONLY)
    again = site.get(address, WEBP_ONLY | {"if-none-match": first.headers["etag"]})
    assert (first.status, again.status) == (200, 304)
    for reply in (first, again):
        assert reply.headers["cache-control"] == PRIVATE
        assert reply.vary == {"accept"}
    assert site.get(address, WEBP_ONLY | {"referer": "https://leech.example/"}).status == 403


@pytest.mark.srv("SRV-66")
def test_without_the_setting_every_page_may_show_images(make_site: MakeSite) -> None:
    reply = ask(with_photo(make_site(access="public")), referer="https://leech.example/")
    assert (reply.status, reply.headers["cache-control"].startswith("public")) == (200, True)


@pytest.mark.srv("SRV-66")
def test_the_guard_opens_nothing(make_site: MakeSite) -> None:
    site = with_photo(make_site(access=ApiKeys([KEY]), referers=["friend.example"]))
    assert ask(site, referer="https://friend.example/").status == 401
    assert ask(site, x_api_key=KEY, referer="https://leech.example/").status == 403
    assert ask(site, x_api_key=KEY, referer="https://friend.example/").status == 200


# SRV-64, SRV-65

STATED = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


def stated(reply) -> tuple[str | None, ...]:
    return tuple(reply.headers.get(name) for name in STATED)


@pytest.mark.srv("SRV-64")
def test_past_the_limit_the_answer_is_429_until_the_window_ends(
    make_site: MakeSite,
) -> None:
    clock = Clock()
    site = with_photo(make_site(access=ApiKeys([KEY]), rate_limit="3/minute", clock=clock))
    assert stated(ask(site, x_api_key=KEY)) == ("3", "2", "60")
    clock.go_on(20)
    assert stated(ask(site)) == ("3", "1", "40")  # a guess counts as well
    assert stated(ask(site, x_api_key=KEY)) == ("3", "0", "40")
    over = ask(site, x_api_key=KEY)
    assert (over.status, over.headers["retry-after"]) == (429, "40")
    assert (over.headers["cache-control"], stated(over)) == ("no-store", ("3", "0", "40"))
    clock.go_on(40)
    assert ask(site, x_api_key=KEY).status == 200


# The requirement names all three for every answer; a shared cache would tell one visitor's to all.
@pytest.mark.srv("SRV-64")
def test_what_shared_caches_keep_has_no_numbers_of_one_visitor(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", rate_limit="9/minute"))
    whole = ask(site)
    same = ask(site, if_none_match=whole.headers["etag"])
    assert same.status == 304
    for reply in (whole, same):
        assert stated(reply) == ("9", None, None)
    assert stated(ask(site, name="none.jpg"))[:2] == ("9", "6")


@pytest.mark.srv("SRV-65")
def test_a_client_that_reads_json_gets_a_code(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", rate_limit="1/hour"))
    ask(site)
    reply = ask(site, accept="application/json")
    assert (reply.status, reply.type) == (429, "application/json")
    assert json.loads(reply.body)["error"]["code"] == "too_many_requests"


@pytest.mark.srv("SRV-65")
@pytest.mark.parametrize(
    "problem", [QuotaExceededError("no calls left", status=402), BudgetExceededError("all spent")]
)
def test_a_quota_that_is_used_up_is_told_apart_from_the_limit(
    make_site: MakeSite, problem: Exception
) -> None:
    more = {"access": "public", "rate_limit": "9/hour"}
    site = with_photo(make_site(processor=HandProcessor(error=problem), on_error="raise", **more))
    reply = ask(site, accept="application/json")
    assert reply.status in (500, 503)
    assert json.loads(reply.body)["error"]["code"] != "too_many_requests"
    assert "retry-after" not in reply.headers
    visited = with_photo(make_site(processor=HandProcessor(error=problem), **more))
    assert ask(visited).body == photo()  # visitors get the original


def test_visitors_are_counted_by_the_address_that_the_server_sees(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", rate_limit="1/hour"))

    def status(address: str) -> int:
        target = f"{site.mount}photo.jpg"
        if site.waits_in_threads:
            environ = environ_of("GET", target, WEBP_ONLY | {"x-forwarded-for": address + "9"})
            return call_wsgi(site.app, environ | {"REMOTE_ADDR": address, **inner(site)}).status
        scope = scope_of("GET", target, WEBP_ONLY) | {"client": (address, 1), **inner(site)}
        return site.loop.call(site.app, scope).status

    assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [200, 429, 200]


def inner(site: Site) -> dict[str, object]:
    return {"tests.inner": site.inner} if site.kind.startswith("django") else {}


# SRV-10


@pytest.mark.srv("SRV-10")
def test_the_origins_that_are_named_may_read_images(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", cors_origins=["https://app.example"]))
    reply = ask(site, origin="https://app.example")
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert "ETag" in reply.headers["access-control-expose-headers"]
    for other in ({"origin": "https://evil.example"}, {"origin": "null"}, {}):
        assert "access-control-allow-origin" not in ask(site, **other).headers
        assert ask(site, **other).vary == {"accept", "origin"}
    assert ask(site, "?fm=png").vary == {"origin"}
    assert reply.headers["cross-origin-resource-policy"] == "cross-origin"
    missing = ask(site, name="none.jpg", origin="https://app.example")
    assert missing.headers["access-control-allow-origin"] == "https://app.example"


def test_an_asterisk_is_the_same_answer_for_all(make_site: MakeSite) -> None:
    site = with_photo(make_site(access="public", cors_origins="*"))
    for reply in (ask(site), ask(site, origin="https://any.example")):
        assert reply.headers["access-control-allow-origin"] == "*"
        assert reply.vary == {"accept"}


@pytest.mark.srv("SRV-10")
def test_nothing_is_said_of_origins_by_default(make_site: MakeSite) -> None:
    reply = ask(with_photo(make_site(access="public")), origin="https://app.example")
    assert not [name for name in reply.headers if "origin" in name]


def test_a_preflight_is_answered_without_a_credential(make_site: MakeSite) -> None:
    origins = ["https://app.example"]
    site = with_photo(make_site(access=ApiKeys([KEY]), cors_origins=origins))
    asked = {"origin": origins[0], "access-control-request-method": "GET"}
    reply = site.request("OPTIONS", f"{site.mount}photo.jpg", asked)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["access-control-allow-origin"] == origins[0]
    assert "GET" in reply.headers["access-control-allow-methods"]
    assert "X-Api-Key" in reply.headers["access-control-allow-headers"]
    assert "origin" in reply.vary
    other = site.request(
        "OPTIONS", f"{site.mount}photo.jpg", asked | {"origin": "https://e.example"}
    )
    assert "access-control-allow-methods" not in other.headers
