"""Credentials and counts without any framework."""

from __future__ import annotations

import hmac
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from optidash_integrations.access import Access, ApiKeys, Jwt
from optidash_integrations.credentials import CredentialsError, ForbiddenError, Visit
from optidash_integrations.endpoint import Endpoint
from optidash_integrations.errors import AccessError, SettingsError, SourceNotFoundError
from optidash_integrations.exchange import Request
from optidash_integrations.operations import Operations
from optidash_integrations.ratelimit import RateLimit, client_key
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Source
from tests.cache.servers import RedisServer, redis_program, redis_server
from tests.sites.base import Clock

__all__ = ["redis_program", "redis_server"]

NOW = 1_800_000_000.0
SECRET = "a secret of thirty-two characters"
NEXT = "the secret that comes after it has"


def visit(bearer: str | None = None, *, name: str = "a.jpg", **query: str) -> Visit:
    headers = {} if bearer is None else {"authorization": f"Bearer {bearer}"}
    return Visit(headers, query, name, NOW)


def token(key: object = SECRET, algorithm: str = "HS256", kid: str | None = None, **more) -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode({"exp": NOW + 60} | more, key, algorithm=algorithm, headers=headers)


def secret_rule(keys: object = SECRET, **more: object) -> Jwt:
    return Jwt(keys, algorithms=["HS256"], **more)


# API keys


@pytest.mark.srv("SRV-23")
def test_keys_are_kept_as_digests_and_show_nowhere() -> None:
    rule = ApiKeys({"old": "hush-hush", "new": "hush-again"}, parameter="key")
    assert "hush" not in repr(rule)
    assert "hush" not in repr(Settings(access=rule))
    assert not any(b"hush" in digest for _, digest in rule.digests)
    assert rule == ApiKeys(
        {"old": ApiKeys.digest("hush-hush"), "new": "hush-again"}, parameter="key"
    )
    assert hash(Settings(access=rule)) == hash(Settings(access=rule))


def test_a_digest_is_no_key() -> None:
    rule = ApiKeys([ApiKeys.digest("the-key")])
    rule.check(visit("the-key"))
    with pytest.raises(CredentialsError):
        rule.check(visit(ApiKeys.digest("the-key")))


@pytest.mark.parametrize("given", ["", "the-ke", "the-keyy", "THE-KEY", "the-kéy", "x" * 9000])
def test_only_the_whole_key_opens(given: str) -> None:
    with pytest.raises(CredentialsError):
        ApiKeys(["the-key"], parameter="key").check(visit(given, key=given))


@pytest.mark.parametrize(
    "keys", [[], {}, "the-key", [""], ["kéy"], ["two\nlines"], ["sha256:abc"], ["sha256:xyz"]]
)
def test_keys_that_are_none_are_wrong_settings(keys: object) -> None:
    with pytest.raises(SettingsError, match="ApiKeys takes"):
        ApiKeys(keys)


@pytest.mark.srv("SRV-23")
def test_each_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both) or True)
    ApiKeys(["one", "two", "three"]).check(visit("two"))
    assert len(compared) == 3
    assert {len(each) for both in compared for each in both} == {32}  # digests of one length


# Tokens: SRV-24, SRV-27


@pytest.mark.srv("SRV-27")
def test_tokens_of_the_old_and_the_new_key_are_valid() -> None:
    for keys in ([NEXT, SECRET], {"new": NEXT, "old": SECRET}):
        secret_rule(keys).check(visit(token(kid="old")))
    with pytest.raises(CredentialsError, match="no key has its id"):
        secret_rule({"new": NEXT}).check(visit(token(kid="old")))


REFUSED = {
    "nothing": "",
    "garbage": "a.b.c",
    "another key": token(NEXT),
    "another algorithm": token(SECRET * 2, "HS512"),
    "no algorithm": token(None, "none"),
    "changed": token()[:-2] + "xx",
    "expired": token(exp=NOW),
    "not yet": token(nbf=NOW + 1),
    "no time": token(nbf=[]),
    "exp is a word": token(exp=True),
    "for somebody": token(aud="others"),
    "too long": token(more="x" * 9000),
}


@pytest.mark.srv("SRV-24")
@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_a_token_that_is_not_valid_does_not_open(given: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        secret_rule().check(visit(given))
    assert caught.value.public_status == 401


def test_a_token_without_an_end_opens_only_where_that_is_allowed() -> None:
    endless = jwt.encode({}, SECRET, algorithm="HS256")
    secret_rule(expires=False).check(visit(endless))
    with pytest.raises(CredentialsError, match="no exp"):
        secret_rule().check(visit(endless))


@pytest.mark.srv("SRV-24")
@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_a_token_is_checked_before_the_image_is_looked_for(given: str) -> None:
    looked_for: list[str] = []

    def find(name: str) -> Source:
        looked_for.append(name)
        raise SourceNotFoundError(name)

    settings = Settings(access=secret_rule(), cache_dir=None)
    with closing(Service(settings, clock=Clock(NOW))) as service:
        endpoint = Endpoint(service, find)
        sent = {"authorization": f"Bearer {given}"}
        answer = service.run(endpoint.answer(Request("GET", "/img/a.jpg", "w=9", sent), "a.jpg"))
        assert (answer.status, looked_for) == (401, [])
        mine = {"authorization": f"Bearer {token()}"}
        service.run(endpoint.answer(Request("GET", "/img/a.jpg", "w=9", mine), "a.jpg"))
        assert looked_for == ["a.jpg"]


def test_leeway_is_for_clocks_that_differ() -> None:
    secret_rule(leeway=10).check(visit(token(exp=NOW - 9, nbf=NOW + 9)))
    with pytest.raises(CredentialsError):
        secret_rule(leeway=10).check(visit(token(exp=NOW - 10)))


@pytest.mark.srv("SRV-33")
def test_without_a_leeway_the_skew_of_the_settings_counts() -> None:
    late = replace(visit(token(exp=NOW - 9, nbf=NOW + 9)), skew=10)
    secret_rule().check(late)
    for exact in (secret_rule(leeway=0), secret_rule(leeway=8)):
        with pytest.raises(CredentialsError):
            exact.check(late)


@pytest.mark.srv("SRV-24")
def test_audience_and_issuer_have_to_be_the_ones_named() -> None:
    rule = secret_rule(audience="images", issuer="https://login.example")
    rule.check(visit(token(aud=["images", "more"], iss="https://login.example")))
    for claims in (
        {"aud": "images"},
        {"iss": "https://login.example"},
        {"aud": "other", "iss": "https://login.example"},
        {"aud": "images", "iss": "https://evil.example"},
    ):
        with pytest.raises(CredentialsError):
            rule.check(visit(token(**claims)))


@pytest.mark.parametrize("prefixes", ["mine/", ["other/", "mine/"]])
def test_a_claim_may_limit_names(prefixes: object) -> None:
    rule = secret_rule(prefix_claim="images")
    rule.check(visit(token(images=prefixes), name="mine/a.jpg"))
    for other in (prefixes, "", [""], [], {"mine/": 1}, 7, None):
        with pytest.raises(ForbiddenError):
            rule.check(visit(token(images=other), name="theirs/a.jpg"))


def test_a_public_key_is_never_taken_for_a_secret() -> None:
    pair = rsa.generate_private_key(65537, 2048)
    pem = pair.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    Jwt(pem, algorithms=["RS256"]).check(visit(token(pair, "RS256")))
    with pytest.raises(SettingsError, match="not both"):
        Jwt(pem, algorithms=["RS256", "HS256"])


@pytest.mark.srv("SRV-24")
@pytest.mark.parametrize("algorithms", [[], "HS256", ["none"], ["HS256", "none"], ["XS1"]])
def test_algorithms_are_named_and_none_is_none_of_them(algorithms: object) -> None:
    with pytest.raises(SettingsError, match="algorithms takes"):
        Jwt(SECRET, algorithms=algorithms)


def test_keys_of_tokens_show_nowhere() -> None:
    assert "secret" not in repr(secret_rule())
    assert hash(Settings(access=[secret_rule(), "signed"]))


# Several rules


def check(rule: object, asked: Visit, *, signed: bool = False) -> bool:
    access = Access(Settings(access=rule, cache_dir=None))
    return access.check(access.settings.access, signed, None, asked)


@pytest.mark.srv("SRV-25")
def test_the_refusal_that_is_told_helps_most() -> None:
    keys, tokens = ApiKeys(["the-key"]), secret_rule(prefix_claim="images")
    rules = ["signed", keys, tokens]
    assert check(rules, visit(), signed=True) is True
    assert check(rules, visit("the-key")) is False
    assert check(rules, visit(token(images="a"))) is False
    with pytest.raises(CredentialsError, match="no key"):
        check(rules, visit())
    with pytest.raises(ForbiddenError):
        check(rules, visit(token(images="b")))
    with pytest.raises(AccessError, match="not signed"):
        check("signed", visit())


def test_only_true_lets_in() -> None:
    for value in (False, None, 1, "yes"):
        with pytest.raises(ForbiddenError):
            check(lambda visitor, name, value=value: value, visit())
    assert check(lambda visitor, name: True, visit()) is False


def test_addresses_are_signed_where_a_signature_lets_in() -> None:
    rules = ("signed", ApiKeys(["the-key"]))
    access = Access(Settings(access=rules, signing_keys=["k"], cache_dir=None))
    assert "s=" in access.address("/img/a.jpg", [], Operations(), rule=rules)
    assert "s=" not in access.address("/img/a.jpg", [], Operations(), rule=(*rules, "public"))


# Counts: SRV-64


@pytest.mark.srv("SRV-64")
def test_each_visitor_has_a_window() -> None:
    clock = Clock()
    rate = RateLimit("2/minute", clock=clock)
    told = [rate.hit(client) for client in ("a", "a", "b", "a")]
    assert [tally.remaining for tally in told] == [1, 0, 1, 0]
    assert [tally.is_over for tally in told] == [False, False, False, True]
    clock.go_on(60)
    assert not rate.hit("a").is_over


def test_threads_count_together() -> None:
    rate = RateLimit("500/hour", clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: rate.hit("a").is_over, range(800)))
    assert told.count(False) == 500


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_an_ipv6_visitor_has_a_whole_network(client: str, counted: str) -> None:
    assert client_key(client) == counted


def test_without_redis_each_process_counts_alone(caplog: pytest.LogCaptureFixture) -> None:
    rate = RateLimit("1/minute", "redis://127.0.0.1:1/0?prefix=site:", clock=Clock())
    assert rate.is_shared
    assert [rate.hit("a").is_over for _ in range(2)] == [False, True]
    assert caplog.text.count("counted by each process alone") == 1


def test_processes_count_together_in_redis(redis_server: RedisServer) -> None:
    url = f"{redis_server.url}?prefix=site:"
    one, other = RateLimit("2/hour", url), RateLimit("2/hour", url)
    assert [each.hit("a").is_over for each in (one, other, one)] == [False, False, True]
    assert not RateLimit("2/hour", redis_server.url).hit("a").is_over  # another site
    redis_server.stop()
    assert not one.hit("a").is_over
    for each in (one, other):
        each.close()
