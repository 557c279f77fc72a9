"""Who calls, and over what."""

from __future__ import annotations

import base64
from contextlib import closing

import pytest

from optidash_integrations.server.authentication import (
    EVERYBODY,
    Authentication,
    UnauthorizedError,
    check_transport,
)
from optidash_integrations.server.database import Database, DatabaseUnavailableError
from optidash_integrations.server.keys import Keys
from optidash_integrations.server.refusals import ForbiddenError
from optidash_integrations.server.usage import Usage
from tests.cache.servers import free_port

MISSING = "Authentication failed: no API key was sent"
WRONG = "Authentication failed: the API key is not valid"
UNREADABLE = "Authentication failed: the Authorization header can't be read"
PASSWORD = "Authentication failed: the password must be empty"
SCHEME = "Authentication failed: use HTTP Basic or a Bearer token"


def basic(pair: str | bytes) -> str:
    raw = pair if isinstance(pair, bytes) else pair.encode()
    return f"Basic {base64.b64encode(raw).decode()}"


@pytest.fixture
def made(sqlite_url):
    """Authentication, and a key that it knows with its secret."""
    with closing(Database(sqlite_url)) as database:
        keys = Keys(database)
        yield Authentication(keys), *keys.create("shop")


FORMS = {
    "basic": lambda key: basic(f"{key}:"),
    "basic without a colon": basic,
    "lower-case basic": lambda key: basic(f"{key}:").replace("Basic", "basic"),
    "bearer": lambda key: f"Bearer {key}",
    "upper-case bearer": lambda key: f"BEARER {key}",
    "white space": lambda key: f"  Bearer   {key}  ",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_key_is_taken_as_user_name_and_as_token(made, form):
    authentication, key, secret = made
    assert authentication.key(form(secret)) == key


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, MISSING),
        ("", MISSING),
        ("   ", MISSING),
        ("Bearer", MISSING),
        ("Basic", MISSING),
        (basic(":"), MISSING),
        (basic(""), MISSING),
        ("Bearer nobody", WRONG),
        (basic("nobody:"), WRONG),
        (basic("ключ:"), WRONG),
        (f"Bearer {'x' * 1025}", WRONG),
        ("Basic !!!", UNREADABLE),
        ("Basic YQ", UNREADABLE),
        ("Basic é", UNREADABLE),
        (basic(b"\xff\xfe:"), UNREADABLE),
        (basic("nobody:password"), PASSWORD),
        (basic(":nobody"), PASSWORD),
        ("nobody", SCHEME),
        ("Digest username=nobody", SCHEME),
    ],
)
def test_without_a_valid_key_a_call_fails(made, header, message):
    authentication, _, _ = made
    with pytest.raises(UnauthorizedError) as caught:
        authentication.key(header)
    assert (caught.value.public_status, caught.value.public) == (401, message)
    assert [value.partition(" ")[0] for _, value in caught.value.headers] == ["Basic", "Bearer"]
    assert {name for name, _ in caught.value.headers} == {"www-authenticate"}


@pytest.mark.parametrize("form", ["Bearer {}", "Token {}", "{}", "Basic {}"])
def test_what_was_sent_is_never_repeated(made, form):
    authentication, _, secret = made
    authentication.keys.revoke(authentication.keys.find("shop"))
    with pytest.raises(UnauthorizedError) as caught:
        authentication.key(form.format(secret))
    assert secret not in str(caught.value)


def test_a_password_beside_a_valid_key_is_refused(made):
    authentication, _, secret = made
    with pytest.raises(UnauthorizedError, match="the password must be empty"):
        authentication.key(basic(f"{secret}:x"))


def test_a_revoked_key_is_as_unknown_as_any_other(made):
    authentication, key, secret = made
    authentication.keys.revoke(key)
    with pytest.raises(UnauthorizedError, match=WRONG):
        authentication.key(f"Bearer {secret}")


def test_without_its_database_nobody_is_let_in():
    url = f"postgresql://app@127.0.0.1:{free_port()}/keys"
    with pytest.raises(DatabaseUnavailableError) as caught:
        Authentication(Keys(Database(url))).key("Bearer any")
    assert caught.value.public_status == 503


def test_an_insecure_server_lets_everybody_in_as_one_who_manages_nothing(made):
    authentication, _, secret = made
    open_to_all = Authentication(authentication.keys, insecure=True)
    for header in (None, "", f"Bearer {secret}", "nonsense"):
        assert open_to_all.key(header) is EVERYBODY
    with pytest.raises(ForbiddenError):
        authentication.keys.create_for(EVERYBODY, "mine")
    usage = Usage(authentication.keys.database)
    usage.spend(EVERYBODY)
    assert usage.account(EVERYBODY)["credits"] == {"total": None, "used": 1, "remaining": None}


@pytest.mark.parametrize(
    ("scheme", "client"),
    [
        ("https", "203.0.113.7"),
        ("HTTPS", ""),
        ("http", "127.0.0.1"),
        ("http", "127.8.9.1"),
        ("http", "::1"),
        ("http", "::ffff:127.0.0.1"),
    ],
)
def test_https_and_this_machine_are_let_in(scheme, client):
    check_transport(scheme, client)


@pytest.mark.parametrize(
    "client",
    ["203.0.113.7", "10.0.0.1", "192.168.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", "localhost"],
)
def test_plain_http_from_elsewhere_is_refused(client):
    with pytest.raises(ForbiddenError) as caught:
        check_transport("http", client)
    assert (caught.value.public_status, caught.value.public) == (
        403,
        "The API is served over HTTPS only",
    )
