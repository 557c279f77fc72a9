"""Every fault on every method, sync and async: what is raised, how many tries, how long waited."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import (
    ApiError,
    ApiTimeoutError,
    AuthenticationError,
    ConnectionFailedError,
    DownloadError,
    InvalidOperationsError,
    ProtocolError,
    QuotaExceededError,
    RateLimitError,
    RejectedImageError,
    RejectedSizeError,
    RequestRefusedError,
    ServerError,
)
from tests.api import faults
from tests.api.conftest import MakeSpeaker
from tests.api.faults import Fault
from tests.api.server import ApiServer, certificate
from tests.api.speakers import SPEAKERS, Speaker

IMAGE = b"\xff\xd8\xff" + bytes(20_000)
ECHO = {"echo": True}
TARGET = "result.jpg"


@dataclass(frozen=True)
class Facts:
    """What calls need: an image that can be fetched, a webhook and a key that exist, a folder."""

    address: str
    webhook: str
    key: str
    folder: Path

    @property
    def target(self) -> Path:
        return self.folder / TARGET


Way = Callable[[Speaker, Facts], Any]
Begin = Callable[[Fault], tuple[Speaker, Facts]]
DOCUMENTS: dict[str, Way] = {
    "upload": lambda s, f: s.upload(IMAGE, ECHO),
    "fetch": lambda s, f: s.fetch(f.address, ECHO),
    "account": lambda s, f: s.account(),
    "webhooks": lambda s, f: s.webhooks(),
    "webhook": lambda s, f: s.webhook(f.webhook),
    "rename_key": lambda s, f: s.rename_key(f.key, "new"),
}
ONCE: dict[str, Way] = {"create_key": lambda s, f: s.create_key("new")}
IMAGES: dict[str, Way] = {
    "upload_to_bytes": lambda s, f: s.upload_to_bytes(IMAGE, ECHO),
    "upload_to_file": lambda s, f: s.upload_to_file(IMAGE, ECHO, f.target),
    "fetch_to_bytes": lambda s, f: s.fetch_to_bytes(f.address, ECHO),
    "fetch_to_file": lambda s, f: s.fetch_to_file(f.address, ECHO, f.target),
}
DOWNLOADS: dict[str, Way] = {"download": lambda s, f: s.download(f.address, f.target)}


@dataclass(frozen=True)
class End:
    """How a call ends: what is raised (None: nothing), and the waits between its tries."""

    error: type[ApiError] | None
    waits: tuple[float, ...] = ()
    status: int | None = None

    @property
    def tries(self) -> int:
        return len(self.waits) + 1


def after(error: type[ApiError], *waits: float, status: int | None = None) -> End:
    return End(error, waits, status)


WELL = End(None)
RETRIED = (1.0, 2.0, 4.0)


def status_end(code: int) -> End:
    kinds: dict[int, type[ApiError]] = {
        400: InvalidOperationsError,
        401: AuthenticationError,
        402: QuotaExceededError,
        403: AuthenticationError,
        413: RejectedSizeError,
        415: RejectedImageError,
        422: InvalidOperationsError,
    }
    if code in (500, 502, 503, 504):
        return End(ServerError, RETRIED, code)
    return End(ServerError if code >= 500 else kinds.get(code, RequestRefusedError), (), code)


PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
CODES = (400, 401, 402, 403, 404, 409, 410, 413, 415, 422, 500, 501, 502, 503, 504)

# What any kind of call meets in the same way.
EVERYWHERE: dict[str, tuple[Fault, End]] = {
    **{f"status {code}": (faults.status(code), status_end(code)) for code in CODES},
    "429": (faults.status(429), End(RateLimitError, RETRIED, 429)),
    "429, none left": (faults.retry_after(None), End(RateLimitError, (), 429)),
    "429, a date past": (
        faults.retry_after(PAST, reset=0),
        End(RateLimitError, (0.0, 0.0, 0.0), 429),
    ),
    "429, a date to come": (faults.retry_after(FUTURE), End(RateLimitError, (), 429)),
    "429, at once": (faults.retry_after(0), End(RateLimitError, (0.0, 0.0, 0.0), 429)),
    "429, in 2 s": (faults.retry_after(2), End(RateLimitError, (2.0, 2.0, 2.0), 429)),
    "429, in 778 s": (faults.retry_after(778), End(RateLimitError, (), 429)),
    "HTML with 502": (faults.html(502), End(ServerError, RETRIED, 502)),
    "gigantic 500": (faults.gigantic_json(code=500), End(ServerError, RETRIED, 500)),
    "closed at once": (faults.close_at_once(), after(ConnectionFailedError, *RETRIED)),
    "closed before the head": (faults.close_before_head(), after(ConnectionFailedError, *RETRIED)),
    "reset": (faults.close_before_head(reset=True), after(ConnectionFailedError, *RETRIED)),
    "silent": (faults.stall_before_head(), after(ApiTimeoutError, *RETRIED)),
    "not HTTP": (faults.garbage(), after(ProtocolError)),
    "huge headers": (faults.huge_headers(), after(ProtocolError)),
    "redirect elsewhere": (faults.redirect("https://example.invalid/"), after(ProtocolError)),
}

# What is wrong with a body: a JSON document.
WITH_DOCUMENTS: dict[str, tuple[Fault, End]] = {
    "HTML": (faults.html(200), End(ProtocolError, (), 200)),
    "invalid JSON": (faults.invalid_json(), End(ProtocolError, (), 200)),
    "no success": (faults.json_without_success(), WELL),
    "success: false": (faults.success_false_200(), End(InvalidOperationsError, (), 200)),
    "gigantic": (faults.gigantic_json(), End(ProtocolError, (), 200)),
    "bomb": (faults.gzip_bomb(), End(ProtocolError, (), 200)),
    "gzip": (faults.gzipped(), WELL),
    "closed after the head": (faults.close_after_head(), after(ConnectionFailedError, *RETRIED)),
    "cut": (faults.cut(), after(ConnectionFailedError, *RETRIED)),
    "cut chunks": (faults.chunked_cut(), after(ConnectionFailedError, *RETRIED)),
    "longer than told": (faults.long_length(), after(ConnectionFailedError, *RETRIED)),
    "shorter than told": (faults.short_length(), End(ProtocolError, (), 200)),
    "without length": (faults.no_length(), WELL),
    "without length, cut": (faults.no_length_cut(), End(ProtocolError, (), 200)),
    "stalls": (faults.stall_mid_body(), after(ApiTimeoutError, *RETRIED)),
    "drips": (faults.drip(), after(ApiTimeoutError, *RETRIED)),
}

# The same of an image, while it can't be had from storage either.
WITH_IMAGES: dict[str, tuple[Fault, End]] = {
    "HTML": (faults.html(200), after(ProtocolError)),
    "HTML called an image": (faults.html_as_image(), after(DownloadError, *RETRIED)),
    "an image called HTML": (faults.wrong_type(), after(ProtocolError)),
    "a JPEG called PNG": (faults.wrong_type("image/png"), after(ProtocolError)),
    "an image of no type": (faults.wrong_type("application/octet-stream"), WELL),
    "JSON": (faults.invalid_json(), after(ProtocolError)),
    "no metadata": (faults.no_metadata(), WELL),
    "metadata cut": (faults.bad_metadata(), WELL),
    "only the old header": (faults.meta_only_old(), WELL),
    "success: false": (faults.success_false_200(), End(InvalidOperationsError, (), 200)),
    "endless": (faults.gigantic_body(), after(ProtocolError)),
    "wrong SHA-1": (faults.wrong_sha1(), after(DownloadError, *RETRIED)),
    "wrong size": (faults.wrong_bytes(), after(DownloadError, *RETRIED)),
    "closed after the head": (faults.close_after_head(), after(DownloadError, *RETRIED)),
    "cut": (faults.cut(), after(DownloadError, *RETRIED)),
    "cut chunks": (faults.chunked_cut(), after(DownloadError, *RETRIED)),
    "longer than told": (faults.long_length(), after(DownloadError, *RETRIED)),
    "shorter than told": (faults.short_length(), after(DownloadError, *RETRIED)),
    "without length": (faults.no_length(), WELL),
    "without length, cut": (faults.no_length_cut(), after(DownloadError, *RETRIED)),
    "stalls": (faults.stall_mid_body(), after(DownloadError, *RETRIED)),
    "drips": (faults.drip(), after(DownloadError, *RETRIED)),
}

# A download has its address alone to go by: no metadata tell whether it is right.
BARE = {"wrong SHA-1", "wrong size", "success: false", "JSON", "endless", "redirect elsewhere"}
UNTOLD = {
    "without length": after(DownloadError, *RETRIED),
    "shorter than told": WELL,
    "HTML called an image": after(ProtocolError),
    "429, none left": End(RateLimitError, RETRIED, 429),
}


def rows(*tables: dict[str, tuple[Fault, End]]) -> Iterator[tuple[str, Fault, End]]:
    for table in tables:
        for name, (fault, end) in table.items():
            yield name, fault, end


# A client that meets silence waits, four times in a call: such calls are made side by side.
SILENT = ("silent", "stalls", "drips")


def cases(
    ways: dict[str, Way], *tables: dict[str, tuple[Fault, End]], silent: bool = False
) -> list[Any]:
    return [
        pytest.param(way, fault, end, id=f"{method}-{name}")
        for method, way in ways.items()
        for name, fault, end in rows(*tables)
        if silent or name not in SILENT
    ]


def check(way: Way, end: End, speaker: Speaker, server: ApiServer, facts: Facts) -> Any:
    """Call, and hold the end, the tries, the waits, and that no file is left behind."""
    before, slept = len(server.seen), len(speaker.waits)
    if end.error is None:
        result = way(speaker, facts)
    else:
        with pytest.raises(end.error) as caught:
            way(speaker, facts)
        assert type(caught.value) is end.error
        assert caught.value.status == end.status or end.status is None
        result = caught.value
    assert speaker.waits[slept:] == list(end.waits)
    asked = [seen for seen in server.seen[before:] if seen.path.startswith("/1.0/")]
    assert len(asked) == (0 if way in DOWNLOADS.values() else end.tries)
    written = [TARGET] if end.error is None and way in WRITING else []
    assert [path.name for path in facts.folder.iterdir()] == written
    return result


WRITING = [way for name, way in (IMAGES | DOWNLOADS).items() if name.endswith(("file", "load"))]
STALLING = ("stall", "drip")


@pytest.fixture(scope="module")
def origin() -> Iterator[ApiServer]:
    """Give a server that has an image for others to fetch."""
    with ApiServer() as server:
        yield server


@pytest.fixture(scope="module")
def address(origin: ApiServer) -> str:
    """Give the address of that image."""
    speaker = Speaker("sync", origin.url)
    url = speaker.upload(IMAGE, ECHO).output.url
    speaker.end()
    return str(url)


@pytest.fixture
def begin(make_speaker: MakeSpeaker, server: ApiServer, address: str, tmp_path: Path) -> Begin:
    """Give a function that gives a client, impatient where a fault is silence, and its facts."""

    def make(fault: Fault) -> tuple[Speaker, Facts]:
        timeout = 0.25 if fault.name.startswith(STALLING) else 10.0
        speaker = make_speaker(timeout=timeout, max_bytes=1_000_000)
        return speaker, facts_of(speaker, address, tmp_path / "results")

    return make


def facts_of(speaker: Speaker, address: str, folder: Path) -> Facts:
    webhook = speaker.upload(IMAGE, ECHO, webhook={"url": "https://example.invalid/"})
    folder.mkdir()
    return Facts(address, webhook.id, speaker.create_key("mine").key, folder)


@pytest.mark.parametrize(("way", "fault", "end"), cases(DOCUMENTS, EVERYWHERE, WITH_DOCUMENTS))
def test_a_fault_of_a_document(
    way: Way, fault: Fault, end: End, begin: Begin, server: ApiServer
) -> None:
    speaker, facts = begin(fault)
    server.always = fault
    check(way, end, speaker, server, facts)


@pytest.mark.parametrize(("way", "fault", "end"), cases(IMAGES, EVERYWHERE, WITH_IMAGES))
def test_a_fault_of_an_image_while_storage_fails_too(
    way: Way, fault: Fault, end: End, begin: Begin, server: ApiServer
) -> None:
    speaker, facts = begin(fault)
    server.always = fault
    server.always_download = faults.status(404)
    check(way, end, speaker, server, facts)


BROKEN = {name: row for name, row in WITH_IMAGES.items() if row[1].error is DownloadError}


@pytest.mark.parametrize(("way", "fault", "end"), cases(IMAGES, BROKEN, silent=True))
def test_an_image_that_did_not_arrive_whole_comes_from_storage_at_the_first_try(
    way: Way, fault: Fault, end: End, begin: Begin, server: ApiServer
) -> None:
    speaker, facts = begin(fault)
    server.always = fault
    if fault.name.startswith(("wrong_sha1", "wrong_bytes")):
        check(way, end, speaker, server, facts)  # the metadata lie of that one too
        return
    result = check(way, WELL, speaker, server, facts)
    content = getattr(result, "content", None) or facts.target.read_bytes()
    assert content == IMAGE
    downloads = [seen for seen in server.seen if seen.path.startswith("/temp/")]
    assert len(downloads) == 1
    assert "authorization" not in downloads[0].headers


def once(end: End) -> End:
    """Return how a call ends that may be sent again only where it was surely not carried out."""
    if end.error is RateLimitError:
        return end
    return End(end.error, (), end.status)


@pytest.mark.parametrize(
    ("way", "fault", "end"), cases(ONCE, EVERYWHERE, WITH_DOCUMENTS, silent=True)
)
def test_a_call_that_is_not_safe_to_repeat_is_not_repeated(
    way: Way, fault: Fault, end: End, begin: Begin, server: ApiServer
) -> None:
    speaker, facts = begin(fault)
    server.always = fault
    check(way, once(end), speaker, server, facts)


WITH_DOWNLOADS = {
    name: (fault, UNTOLD.get(name, end))
    for name, (fault, end) in (EVERYWHERE | WITH_IMAGES).items()
    if name not in BARE
}


@pytest.mark.parametrize(("way", "fault", "end"), cases(DOWNLOADS, WITH_DOWNLOADS))
def test_a_fault_of_a_download(
    way: Way, fault: Fault, end: End, begin: Begin, server: ApiServer
) -> None:
    speaker, facts = begin(fault)
    url = speaker.upload(IMAGE, ECHO).output.url
    server.always_download = fault
    check(way, end, speaker, server, replace(facts, address=str(url)))


def silent_calls(name: str) -> Iterator[tuple[str, Way, Fault, End]]:
    """Yield every call that meets this silence and is made four times."""
    tables = (
        (DOCUMENTS, EVERYWHERE | WITH_DOCUMENTS),
        (IMAGES, EVERYWHERE | WITH_IMAGES),
        (DOWNLOADS, WITH_DOWNLOADS),
    )
    for ways, table in tables:
        for method, way in ways.items():
            yield method, way, *table[name]


@contextmanager
def silenced(
    kind: str, way: Way, fault: Fault, end: End, address: str, folder: Path
) -> Iterator[Callable[[], Any]]:
    """Give a call on a server of its own, which falls silent as soon as all is prepared."""
    with ApiServer() as server, ExitStack() as stack:
        patient, speaker = Speaker(kind, server.url), Speaker(kind, server.url, timeout=0.6)
        for each in (patient, speaker):
            stack.callback(each.end)
        facts = facts_of(patient, address, folder)
        if way in DOWNLOADS.values():
            facts = replace(facts, address=str(patient.upload(IMAGE, ECHO).output.url))
            server.always_download = fault
        else:
            server.always, server.always_download = fault, faults.status(404)
        yield partial(check, way, end, speaker, server, facts)
        stack.close()
        assert server.wait_closed(), f"{server.open_connections} connections are still open"


@pytest.mark.parametrize("kind", SPEAKERS)
@pytest.mark.parametrize("name", SILENT)
def test_silence_is_given_up_by_every_call(
    name: str, kind: str, address: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        calls = [
            stack.enter_context(silenced(kind, way, fault, end, address, tmp_path / method))
            for method, way, fault, end in silent_calls(name)
        ]
        assert len(calls) == 11
        with ThreadPoolExecutor(len(calls)) as pool:
            for ended in [pool.submit(call) for call in calls]:
                ended.result()


@pytest.fixture(scope="module")
def misnamed() -> Iterator[tuple[ApiServer, Path]]:
    """Give a server whose certificate has another name, and the authority that signed it."""
    context, authority = certificate("elsewhere.example")
    with ApiServer(tls=context) as server:
        yield server, authority


@pytest.mark.parametrize("kind", SPEAKERS)
@pytest.mark.parametrize("method", [*DOCUMENTS, *ONCE, *IMAGES, *DOWNLOADS])
def test_tls_with_a_wrong_name_is_refused_by_every_call(
    method: str, kind: str, misnamed: tuple[ApiServer, Path], tmp_path: Path
) -> None:
    server, authority = misnamed
    speaker = Speaker(kind, server.url, verify=authority)
    facts = Facts(f"{server.origin}/temp/0/a.jpg", "webhook", "key", tmp_path)
    with pytest.raises(ConnectionFailedError, match="certificate") as caught:
        (DOCUMENTS | ONCE | IMAGES | DOWNLOADS)[method](speaker, facts)
    assert not caught.value.is_retryable
    assert (speaker.waits, server.seen, list(tmp_path.iterdir())) == ([], [], [])
    speaker.end()
    assert server.wait_closed()


@pytest.mark.parametrize("speaker_kind", SPEAKERS)
def test_every_method_is_in_the_table(speaker_kind: str) -> None:
    tested = {*DOCUMENTS, *ONCE, *IMAGES, *DOWNLOADS}
    client = Speaker(speaker_kind, "https://example.invalid/1.0")
    methods = {
        name
        for name in dir(type(client.client))
        if not name.startswith("_") and callable(getattr(type(client.client), name))
    }
    client.end()
    assert methods - tested == {"act", "close", "close_state", "optimize_many", "run", "wire"}
