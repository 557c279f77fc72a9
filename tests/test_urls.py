from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from optidash_integrations.errors import AccessError, QueryError, SettingsError
from optidash_integrations.urls import (
    ImageQuery,
    Signer,
    canonical_path,
    canonical_query,
    derived_key,
    path_and_query,
    with_query,
)

NOW = 1_798_000_000.0


def signer(*keys: str | bytes, now: float = NOW) -> Signer:
    return Signer(keys or ("test-key-1",), clock=lambda: now)


def is_signed(address: str, by: Signer) -> bool:
    path, query = path_and_query(address)
    return by.verify(path, ImageQuery.parse(query))


# Signing


def test_the_published_vector_comes_out():
    pairs = [("first_name", "Zoë"), ("w", "600"), ("exp", "1798761600")]
    signature = signer().signature("/t/welcome.png", pairs)
    assert canonical_query(pairs) == "exp=1798761600&first_name=Zo%C3%AB&w=600"
    assert signature == "myZqB3bgjWxhFfMLUR6_l9LyaIbNTLV_e9so5SZI-Lw"


def test_a_framework_secret_goes_through_hmac_with_our_label():
    expected = hmac.new(b"secret", b"optidash-integrations/urls", hashlib.sha256).digest()
    assert derived_key("secret") == derived_key(b"secret") == expected


def test_a_signed_address_carries_sixteen_characters_last():
    address = signer().signed("/img/a.jpg", [("w", "641"), ("v", "abc")])
    head, _, signature = address.rpartition("&s=")
    assert head == "/img/a.jpg?w=641&v=abc"
    assert len(signature) == 16
    assert len(base64.urlsafe_b64decode(signature)) * 8 == 96
    assert is_signed(address, signer())


@pytest.mark.parametrize(
    "address",
    [
        "/img/a.jpg",
        "/img/a.jpg?own=1&x",
        "https://cdn.example/img/a.jpg#top",
        "//cdn.example/img/a.jpg",
        "https://cdn.example",
        "/img/gr%C3%BC%C3%9Fe und so.jpg?q=a+b",
    ],
)
def test_addresses_of_every_shape_are_signed_without_their_host(address):
    assert is_signed(signer().signed(address, [("w", "641")]), signer())


@pytest.mark.parametrize(
    "sent",
    [
        "/img/a%20b~c.jpg?w=600&name=Zo%C3%AB+X&s={}",
        "/img/a%20b~c.jpg?name=Zo%c3%ab%20X&s={}&w=600",
        "/img/a%20b%7Ec.jpg?%77=600&name=Zo%C3%AB%20X&s={}",
        "/im%67/a b~c.jpg?name=Zoë X&width=600&sig={}",
    ],
    ids=["plus", "reordered", "re-encoded", "aliases"],
)
def test_what_proxies_do_to_an_address_does_no_harm(sent):
    address = signer().signed("/img/a b~c.jpg", [("w", "600"), ("name", "Zoë X")])
    assert is_signed(sent.format(address.rpartition("=")[2]), signer())


@pytest.mark.parametrize(
    "tampered",
    [
        "/img/b.jpg?w=600&v=1&exp=1798003600&s={}",
        "/img/a%2Ejpg/?w=600&v=1&exp=1798003600&s={}",
        "/img%2Fa.jpg?w=600&v=1&exp=1798003600&s={}",
        "/img/a.jpg?w=601&v=1&exp=1798003600&s={}",
        "/img/a.jpg?w=600&v=2&exp=1798003600&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003601&s={}",
        "/img/a.jpg?w=600&v=1&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003600&utm_source=x&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003600&kid=2&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003600&dl=a.jpg&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003600&=&s={}",
        "/img/a.jpg?w=600&v=1&exp=1798003600&s=A{}",
    ],
)
def test_any_change_and_any_further_parameter_undoes_the_signature(tampered):
    pairs = [("w", "600"), ("v", "1"), ("exp", "1798003600")]
    good = signer().signed("/img/a.jpg", pairs)
    assert is_signed(good, signer())
    assert not is_signed(tampered.format(good.rpartition("=")[2]), signer())


@pytest.mark.parametrize(
    ("length", "counts"), [(0, False), (15, False), (16, True), (30, True), (43, True)]
)
def test_sixteen_characters_or_more_of_a_signature_count(length, counts):
    whole = signer().signature("/a.jpg", [("w", "600")])
    assert len(whole) == 43
    assert is_signed(f"/a.jpg?w=600&s={whole[:length]}", signer()) is counts


@pytest.mark.parametrize("added", ["=", "A", "%C3%AB", "%20"])
def test_nothing_may_stand_behind_a_whole_signature(added):
    whole = signer().signature("/a.jpg", [("w", "600")])
    assert not is_signed(f"/a.jpg?w=600&s={whole}{added}", signer())


def test_keys_rotate_the_first_signs_and_all_verify():
    old, both, new = signer("old"), signer(b"new", "old"), signer("new")
    pairs = [("w", "600"), ("kid", "1")]
    assert is_signed(old.signed("/a.jpg", pairs), both)
    assert both.signed("/a.jpg", pairs) == new.signed("/a.jpg", pairs)
    assert not is_signed(both.signed("/a.jpg", pairs), old)


def test_without_keys_nothing_verifies_and_signing_says_what_is_missing():
    keyless = Signer((), clock=lambda: NOW)
    assert not keyless
    assert not is_signed(signer().signed("/a.jpg", [("w", "600")]), keyless)
    with pytest.raises(SettingsError, match="signing_keys takes at least one key"):
        keyless.signed("/a.jpg", [("w", "600")])


def test_an_address_that_is_signed_again_has_one_signature():
    once = signer().signed("/a.jpg", [("w", "600")])
    twice = signer().signed(once, [("w", "700")])
    assert twice.count("s=") == twice.count("w=") == 1
    assert is_signed(twice, signer())


# Expiry


@pytest.mark.parametrize(("now", "good"), [(NOW, True), (NOW + 3599, True), (NOW + 4051, False)])
def test_an_address_works_as_long_as_asked_and_at_most_an_eighth_longer(now, good):
    address = signer().signed("/a.jpg", [("w", "600")], expires=3600)
    late = signer(now=now)
    if good:
        assert is_signed(address, late)
    else:
        with pytest.raises(AccessError, match="expired"):
            is_signed(address, late)


def test_the_second_of_expiry_is_too_late():
    address = signer().signed("/a.jpg", [("exp", str(int(NOW)))])
    assert is_signed(address, signer(now=NOW - 0.5))
    with pytest.raises(AccessError):
        is_signed(address, signer())


def test_an_expiring_address_stays_the_same_within_a_window():
    step = 3600 / 8
    start = NOW - NOW % step + 1
    times = (start, start + step / 2, start + step - 2, start + step)
    addresses = [signer(now=at).signed("/a.jpg", [], expires=3600) for at in times]
    assert addresses[0] == addresses[1] == addresses[2] != addresses[3]


@pytest.mark.parametrize("exp", ["", "nan", "inf", "-1", "1e12", "²", "9" * 400, "soon"])
def test_an_expiry_that_is_no_time_counts_as_expired(exp):
    address = signer().signed("/a.jpg", [("exp", exp)])
    with pytest.raises(AccessError):
        is_signed(address, signer())


def test_a_wrong_signature_is_told_before_an_expiry():
    assert not is_signed("/a.jpg?exp=1&s=AAAAAAAAAAAAAAAA", signer())


# Taking apart, and putting together


def test_a_query_is_taken_apart_with_aliases_resolved():
    query = ImageQuery.parse("width=600&v=12&expires=99&kid=k&dl=a%20b.jpg&sig=abc&x=1")
    assert query.options == (("width", "600"), ("x", "1"))
    assert (query.version, query.expires, query.signature) == ("12", "99", "abc")
    assert (query.key_id, query.download) == ("k", "a b.jpg")
    assert len(query.pairs) == 7


def test_on_an_intercepted_path_only_canonical_names_are_ours():
    query = ImageQuery.parse("width=600&w=300&x=1&x=2&sig=q&cb=3&fm=webp", strict=False)
    assert query.options == (("w", "300"), ("fm", "webp"))
    assert query.signature is query.version is None


def test_on_an_intercepted_path_repeated_names_are_no_error():
    query = ImageQuery.parse("v=1&v=2&s=1&s=2&w=300", strict=False)
    assert (query.version, query.signature, query.options) == (None, None, (("w", "300"),))


@pytest.mark.parametrize("query", ["w=1&w=2", "w=1&width=1", "v=1&cb=2", "s=a&sig=b", "x=1&x=1"])
def test_a_repeated_name_is_refused(query):
    with pytest.raises(QueryError, match="takes one value"):
        ImageQuery.parse(query)


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/a/b.jpg", "/a/b.jpg"),
        ("/%61/b%2ejpg", "/a/b.jpg"),
        ("/ü b.jpg", "/%C3%BC%20b.jpg"),
        ("/%c3%bc%20b.jpg", "/%C3%BC%20b.jpg"),
        ("/a@b:c,d.jpg", "/a%40b%3Ac%2Cd.jpg"),
        ("/a%2fb.jpg", "/a%2Fb.jpg"),
        ("/a%252fb.jpg", "/a%252fb.jpg"),
        ("/100%.jpg", "/100%25.jpg"),
        ("/%FF.jpg", "/%FF.jpg"),
    ],
)
def test_a_path_has_one_spelling(path, canonical):
    assert canonical_path(path) == canonical
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize(
    ("address", "pairs", "expected"),
    [
        ("/a.jpg", [("w", "640")], "/a.jpg?w=640"),
        ("/a.jpg", [], "/a.jpg"),
        ("/a.jpg?#", [], "/a.jpg?#"),
        ("/a.jpg?", [("w", "640")], "/a.jpg?w=640"),
        ("/a.jpg?x=%2f&Y", [("w", "640")], "/a.jpg?x=%2f&Y&w=640"),
        ("/a.jpg?x=1#f?w=1", [("w", "640")], "/a.jpg?x=1&w=640#f?w=1"),
        ("/a.jpg?w=300&%77=1&x", [("w", "640")], "/a.jpg?x&w=640"),
        ("https://h.example/a.jpg", [("v", "1")], "https://h.example/a.jpg?v=1"),
        ("https://h.example:8000?x", [("v", "1")], "https://h.example:8000?x&v=1"),
        ("/a.jpg", [("bg", "#fff"), ("n", "a b&c=ë")], "/a.jpg?bg=%23fff&n=a%20b%26c%3D%C3%AB"),
        ("http://[broken", [("w", "1")], "http://[broken?w=1"),
    ],
)
def test_parameters_are_added_to_any_address(address, pairs, expected):
    assert with_query(address, pairs) == expected


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("/a.jpg?w=1#f", ("/a.jpg", "w=1")),
        ("https://u:p@h.example:1/a.jpg?x=//y", ("/a.jpg", "x=//y")),
        ("//h.example?w=1", ("/", "w=1")),
        ("a.jpg?x=http://h/#f", ("a.jpg", "x=http://h/")),
    ],
)
def test_what_a_browser_sends_of_an_address(address, parts):
    assert path_and_query(address) == parts
