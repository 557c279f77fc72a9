from __future__ import annotations

import pytest

from optidash_integrations.addresses import (
    checked_url,
    host_of,
    is_header_safe,
    is_loopback,
    is_same_origin,
    without_secrets,
)
from optidash_integrations.errors import OptionError


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/1.0",
        "https://api.example.com:8443/1.0?signature=1",
        "HTTPS://API.EXAMPLE.COM/",
        "https://[2606:4700::1]/x",
        "http://localhost:8000/1.0",
        "http://api.localhost/",
        "http://127.0.0.1/",
        "http://127.8.8.8/",
        "http://[::1]:8000/",
    ],
)
def test_https_may_be_called_anywhere_and_http_on_this_machine(url: str) -> None:
    assert checked_url(url, "api_url", allow_http=False).scheme in ("http", "https")


@pytest.mark.parametrize(
    "url",
    [
        "",
        None,
        5,
        b"https://api.example.com",
        "api.example.com/1.0",
        "//api.example.com/1.0",
        "https:/1.0",
        "https://",
        "https://:443/",
        "https://api.example.com:0/",
        "https://api.example.com:99999/",
        "https://api.example.com:port/",
        "https://[::1/",
        "https://api.example.com/a b",
        "https://api.example.com/\n",
        " https://api.example.com/",
        "https://api.exa\tmple.com/",
        "https://api.example.com/\x00",
        "file:///etc/passwd",
        "ftp://api.example.com/",
        "http://api.example.com/",
        "http://10.0.0.1/",
        "http://localhost.example.com/",
        "http://127.0.0.1.example.com/",
        "http://0.0.0.0/",
    ],
)
def test_anything_else_is_refused(url: object) -> None:
    with pytest.raises(OptionError, match="api_url takes an address that begins with https://"):
        checked_url(url, "api_url", allow_http=False)


def test_http_to_another_machine_may_be_allowed() -> None:
    assert checked_url("http://10.0.0.1/", "api_url", allow_http=True).hostname == "10.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@api.example.com/",
        "https://hunter2@api.example.com/",
        "https://:hunter2@api.example.com/",
        "https://@api.example.com/",
    ],
)
def test_an_address_with_credentials_is_refused_without_telling_them(url: str) -> None:
    with pytest.raises(OptionError, match="user name") as caught:
        checked_url(url, "url", allow_http=True)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.got)


@pytest.mark.parametrize(
    "url",
    [
        "user:hunter2@api.example.com",
        "//user:hunter2@api.example.com/",
        "https:user:hunter2@api.example.com/",
        "https:/user:hunter2@api.example.com/",
        "ftp://user:hunter2@api.example.com/",
        "api.example.com/?token=hunter2",
        "api.example.com/#hunter2",
        "http://api.example.com/?token=hunter2",
        "https://user:hunter2@api.example.com:99999/",
        "https://user:hunter2@[::1/",
    ],
)
def test_no_message_tells_a_password_or_a_query(url: str) -> None:
    with pytest.raises(OptionError) as caught:
        checked_url(url, "url", allow_http=False)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in without_secrets(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@h.example:8443/a?b=c#d", "https://h.example:8443/a"),
        ("https://[2606:4700::1]:8443/a", "https://[2606:4700::1]:8443/a"),
        ("api.example.com/1.0", "api.example.com/1.0"),
        ("https://[", "an address that can't be read"),
    ],
)
def test_an_address_in_a_message_keeps_what_helps(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://h.example/a", "https://h.example/b?c", True),
        ("https://h.example/", "https://H.EXAMPLE:443/", True),
        ("http://h.example/", "http://h.example:80/", True),
        ("https://h.example/", "https://u@h.example/", True),
        ("https://h.example/", "http://h.example/", False),
        ("https://h.example/", "https://h.example:8443/", False),
        ("https://h.example/", "https://h.example.evil.example/", False),
        ("https://h.example/", "https://h.example@evil.example/", False),
        ("https://h.example/", "https://h.example\\@evil.example/", False),
        ("https://h.example/", "https://h.example\\.evil.example/", False),
        ("https://h.example/", "//h.example/", False),
        ("https://h.example/", "https://[", False),
        ("https://h.example/", "https://h.example:port/", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    assert is_same_origin(one, other) is same


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("notlocalhost", False),
        ("localhost.example", False),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
    ],
)
def test_this_machine_is_known_by_name_and_number(host: str, here: bool) -> None:
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("key", "safe"),
    [
        ("0123456789abcdefABCDEF", True),
        ("a-b_c.d~e+f/g=", True),
        ("", False),
        (None, False),
        (b"abc", False),
        ("a\r\nX-Other: 1", False),
        ("a\x00", False),
        ("clé", False),
        ("abc ", False),
        ("a bc", False),
    ],
)
def test_a_key_stands_in_a_header_as_it_is(key: object, safe: bool) -> None:
    """White space at its end would make the HTTP library refuse, and tell, the whole header."""
    assert is_header_safe(key) is safe


def test_a_host_for_a_message_is_found_or_said_to_be_nowhere() -> None:
    assert host_of("https://user:pass@h.example:1/") == "h.example"
    assert host_of("https://[") == host_of("") == "nowhere"
