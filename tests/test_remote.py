"""Remote originals without any framework: from where, over which connections, and how often."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import httpcore
import pytest

from optidash_integrations.cache.memory import MemoryCache
from optidash_integrations.connections import Guarded
from optidash_integrations.download import Download, Hurried
from optidash_integrations.errors import (
    ConnectionFailedError,
    ImageTooLargeError,
    QueryError,
    SettingsError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.places import Place, checked_source
from optidash_integrations.remote import OriginError, OriginTimeoutError, Remote
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from tests.origin import HOST, Origin, Reply
from tests.sites.base import Clock
from tests.sites.photos import photo

PLACES = ["images.example", "*.wide.example", "cdn.example/photos/", "odd.example:8080"]


def checked(url: str) -> str:
    return checked_source(url, [Place.of(text) for text in PLACES])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://images.example/a.jpg", "https://images.example/a.jpg"),
        ("HTTPS://Images.Example/A.jpg#part", "https://images.example/A.jpg"),
        ("https://images.example:443/a.jpg?x=1&y=2", "https://images.example/a.jpg?x=1&y=2"),
        ("http://images.example", "http://images.example/"),
        ("https://a.b.wide.example/o/a%2Fb.jpg", "https://a.b.wide.example/o/a%2Fb.jpg"),
        ("https://cdn.example/photos/a.jpg", "https://cdn.example/photos/a.jpg"),
        ("http://odd.example:8080/a.jpg", "http://odd.example:8080/a.jpg"),
    ],
)
def test_an_address_within_remote_hosts_has_one_spelling(url: str, expected: str) -> None:
    assert checked(url) == expected


@pytest.mark.srv("SRV-20")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.jpg",
        "//images.example/a.jpg",
        "file:///etc/passwd",
        "ftp://images.example/a.jpg",
        "data:image/png;base64,AAAA",
        "https://",
        "https:///a.jpg",
        "https://evil.example/a.jpg",
        "https://images.example.evil.example/a.jpg",
        "https://ximages.example/a.jpg",
        "https://wide.example/a.jpg",
        "https://xwide.example/a.jpg",
        "https://images.example@evil.example/a.jpg",
        "https://user@images.example/a.jpg",
        "https://user:pass@images.example/a.jpg",
        "https://@images.example/a.jpg",
        "https://images.example:8443/a.jpg",
        "https://images.example:0/a.jpg",
        "https://images.example:99999/a.jpg",
        "https://images.example:x/a.jpg",
        "https://images.example./a.jpg",
        "https://images.example\\@evil.example/a.jpg",
        "https://images.example/a\\b.jpg",
        "https://images.example/a b.jpg",
        "https://images.example/a\r\nX: y",
        "https://images.exa\tmple/a.jpg",
        "https://images.example%2eevil.example/a.jpg",
        "https://images.example/../a.jpg",
        "https://cdn.example/a.jpg",
        "https://cdn.example/photos",
        "https://cdn.example/photos/../a.jpg",
        "https://cdn.example/photos/%2e%2e/a.jpg",
        "https://cdn.example/photos/%252e%252e/a.jpg",
        "https://cdn.example/photos/..%2fa.jpg",
        "https://cdn.example/photos/x%2fa.jpg",
        "https://cdn.example/photos//a.jpg",
        "https://odd.example/a.jpg",
        "https://127.0.0.1/a.jpg",
        "https://2130706433/a.jpg",
        "https://0x7f.0.0.1/a.jpg",
        "https://0177.0.0.1/a.jpg",
        "https://[::1]/a.jpg",
        "https://[::ffff:127.0.0.1]/a.jpg",
        "https://[images.example]/a.jpg",
        "https://169.254.169.254/latest/meta-data/",
        "https://images.example/" + "a" * 5000,
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(QueryError, match="url takes"):
        checked(url)


def test_a_long_host_is_refused_at_once() -> None:
    with pytest.raises(QueryError):
        checked("https://" + "a" * 4000 + "!/a.jpg")


@pytest.mark.parametrize(
    "text",
    ["", "https://a.example", "a b", "a.example/../x", "u@a.example", "*", "a.*", "a.example:x"],
)
def test_a_place_that_is_none_is_a_wrong_setting(text: str) -> None:
    with pytest.raises(SettingsError, match="remote_hosts takes"):
        Settings(remote_hosts=[text])


# The guarded download


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as made:
        yield made


@pytest.mark.srv("SRV-20")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]"]
)
def test_no_download_reaches_this_machine(origin: Origin, host: str) -> None:
    origin.image("/a.jpg", photo())
    with pytest.raises(ConnectionFailedError):
        Download().get(f"http://{host}:{origin.port}/a.jpg", {}, most_bytes=9, seconds=5)
    assert origin.seen == []


class Dialled(httpcore.NetworkBackend):
    """Notes whom it is to connect to, and does not."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def connect_tcp(self, host, port, *args, **more):
        self.addresses.append(host)
        raise httpcore.ConnectError("not in a test")


@pytest.mark.srv("SRV-21")
def test_the_address_that_was_checked_is_the_one_dialled() -> None:
    """A name that leads elsewhere the second time it is looked up gains nothing."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    guarded = Guarded((), lambda host, port: answers.pop(0))
    guarded.inner = dialled = Dialled()
    with pytest.raises(httpcore.ConnectError, match="not in a test"):
        guarded.connect_tcp("h.example", 443)
    assert dialled.addresses == ["93.184.216.34"]
    with pytest.raises(httpcore.ConnectError, match="not on the public internet"):
        guarded.connect_tcp("h.example", 443)
    assert dialled.addresses == ["93.184.216.34"]


def test_a_download_goes_past_proxies_and_says_who_asks(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    origin.image("/a.jpg", photo(), set_cookie="a=1")
    remote = remote_of(origin)
    for _ in range(2):
        remote.fetch(origin.url("/a.jpg"), {})
    for _, headers in origin.seen:
        assert headers["user-agent"].startswith("optidash-integrations")
        assert headers["host"] == origin.place
        assert not {"cookie", "authorization", "referer"} & headers.keys()
    assert origin.looked_up == [HOST, HOST]


@pytest.mark.srv("SRV-20")
def test_a_body_past_the_limit_is_not_read_to_its_end(origin: Origin) -> None:
    origin.image("/told.jpg", bytes(5000))
    origin.routes["/untold.jpg"] = lambda asked: (200, {"Content-Length": ""}, bytes(5_000))
    for path in ("/told.jpg", "/untold.jpg"):
        with pytest.raises(ImageTooLargeError):
            origin.download.get(origin.url(path), {}, most_bytes=4999, seconds=5)
        assert origin.download.get(origin.url(path), {}, most_bytes=5000, seconds=5).content


@pytest.mark.srv("SRV-20")
def test_an_answer_that_trickles_in_is_given_up(origin: Origin) -> None:
    """Every byte comes within the time-out of a read, and all of them would take for ever."""
    clock = Clock()

    class Trickle(httpcore.NetworkStream):
        def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
            clock.go_on(2)
            return b"x"

    hurried = Hurried(Download(clock=clock), clock.now + 5)
    stream = hurried.stream_of(Trickle())
    assert [stream.read(1), stream.read(1), stream.read(1)] == [b"x"] * 3
    with pytest.raises(httpcore.ReadTimeout):
        stream.read(1)


def test_an_origin_that_says_nothing_is_a_time_out(origin: Origin) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        settings = Settings(remote_hosts=[f"{HOST}:{port}"], timeout=0.1, cache_dir=None)
        remote = Remote(settings, download=origin.download)
        with pytest.raises(OriginTimeoutError):
            remote.fetch(f"http://{HOST}:{port}/a.jpg", {})


# What becomes of answers


def remote_of(origin: Origin, *, clock: Clock | None = None, **settings: object) -> Remote:
    given = {"remote_hosts": [origin.place], "cache_dir": None} | settings
    return Remote(Settings(**given), download=origin.download, clock=clock or Clock())


@pytest.mark.srv("SRV-20")
def test_redirects_are_followed_three_times_within_remote_hosts(origin: Origin) -> None:
    origin.image("/0.jpg", photo())
    for number in range(1, 5):
        origin.redirect(f"/{number}.jpg", f"/{number - 1}.jpg")
    remote = remote_of(origin)
    assert remote.fetch(origin.url("/3.jpg"), {}).content == photo()
    with pytest.raises(OriginError, match="more than 3 times"):
        remote.fetch(origin.url("/4.jpg"), {})


@pytest.mark.srv("SRV-20")
@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1/a.jpg",
        "http://[::1]/a.jpg",
        "//evil.example/a.jpg",
        "file:///etc/passwd",
        "http://user@pictures.test/a.jpg",
        "http://[broken/a.jpg",
        "",
    ],
)
def test_a_redirect_to_anywhere_else_is_refused(origin: Origin, location: str) -> None:
    origin.redirect("/a.jpg", location)
    with pytest.raises(OriginError, match="redirects"):
        remote_of(origin).fetch(origin.url("/a.jpg"), {})
    assert set(origin.looked_up) == {HOST}


def test_a_redirect_to_a_host_that_is_named_but_private_is_refused(origin: Origin) -> None:
    places = [origin.place, f"inside.test:{origin.port}"]
    origin.redirect("/a.jpg", f"http://inside.test:{origin.port}/b.jpg")
    with pytest.raises(OriginError, match="not on the public internet"):
        remote_of(origin, remote_hosts=places).fetch(origin.url("/a.jpg"), {})
    assert [path for path, _ in origin.seen] == ["/a.jpg"]


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (404, {}, b"", SourceNotFoundError),
        (403, {}, b"", SourceNotFoundError),
        (410, {}, b"", SourceNotFoundError),
        (500, {}, b"", OriginError),
        (429, {}, b"", OriginError),
        (206, {}, photo(), OriginError),
        (304, {"Content-Length": ""}, b"", OriginError),
        (200, {}, b"<html>", UnsupportedImageError),
        (200, {}, b"", UnsupportedImageError),
        (200, {"Content-Encoding": "gzip"}, photo(), OriginError),
    ],
)
def test_what_is_not_an_image_is_an_error_and_not_asked_for_again_at_once(
    origin: Origin, status: int, headers: dict[str, str], body: bytes, kind: type[Exception]
) -> None:
    origin.routes["/a.jpg"] = lambda asked: (status, headers, body)
    clock = Clock()
    remote = remote_of(origin, clock=clock)
    for _ in range(2):
        with pytest.raises(kind):
            remote.fetch(origin.url("/a.jpg"), {})
    assert len(origin.seen) == 1
    clock.go_on(31)
    origin.image("/a.jpg", photo())
    assert remote.fetch(origin.url("/a.jpg"), {}).content == photo()


def test_what_is_kept_is_asked_for_on_a_condition(origin: Origin) -> None:
    store = Store(MemoryCache(10_000_000))
    origin.image("/a.jpg", photo(), etag='"one"')
    source = remote_of(origin).find(origin.url("/a.jpg"), store)
    assert source.validator() == source.validator() == '"one"'
    assert origin.seen[-1][1]["if-none-match"] == '"one"'
    assert source.read(100_000) == photo()
    assert len(origin.seen) == 2
    origin.image("/a.jpg", photo(seed=2), etag='"two"')
    assert (source.validator(), source.read(100_000)) == ('"two"', photo(seed=2))


def test_without_a_validator_of_the_origin_the_bytes_tell(origin: Origin) -> None:
    origin.image("/a.jpg", photo())
    source = remote_of(origin).find(origin.url("/a.jpg"), Store(MemoryCache(10_000_000)))
    before = source.validator()
    assert before == source.validator()
    origin.image("/a.jpg", photo(seed=2))
    assert source.validator() != before


def test_what_is_kept_outlives_a_failing_origin_and_not_a_missing_image(origin: Origin) -> None:
    clock = Clock()
    origin.image("/a.jpg", photo(), etag='"one"')
    source = remote_of(origin, clock=clock).find(
        origin.url("/a.jpg"), Store(MemoryCache(10_000_000))
    )
    source.validator()
    origin.routes["/a.jpg"] = lambda asked: (503, {}, b"")
    assert (source.validator(), source.read(100_000)) == ('"one"', photo())
    del origin.routes["/a.jpg"]
    clock.go_on(31)
    with pytest.raises(SourceNotFoundError):
        source.validator()
    with pytest.raises(SourceNotFoundError):
        source.read(100_000)


def test_all_who_want_the_same_share_one_download(origin: Origin) -> None:
    remote = remote_of(origin)
    source = remote.find(origin.url("/a.jpg"), Store(MemoryCache(1_000_000)))
    go_on = threading.Event()

    def route(asked: Mapping[str, str]) -> Reply:
        assert go_on.wait(10)
        return 200, {}, photo()

    origin.routes["/a.jpg"] = route
    futures = [remote.begin(source, "validator", source.validator) for _ in range(5)]
    go_on.set()
    assert len({future.result(10) for future in futures}) == 1
    assert len(origin.seen) == 1
    remote.close()


def test_no_error_tells_more_of_an_address_than_its_host(origin: Origin) -> None:
    url = origin.url("/a.jpg?token=hush")
    with pytest.raises(SourceNotFoundError) as caught:
        remote_of(origin).fetch(url, {})
    assert urlsplit(url).hostname in str(caught.value)
    assert "hush" not in str(caught.value)
