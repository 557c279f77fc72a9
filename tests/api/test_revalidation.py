"""Downloads with `validators_file`: what has not changed is not received again."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from optidash_integrations.errors import DownloadError, ProtocolError
from optidash_integrations.revalidation import Validators
from tests.api import faults
from tests.api.answers import of_bytes
from tests.api.conftest import MakeSpeaker
from tests.api.healthy import Result
from tests.api.server import ApiServer
from tests.api.speakers import Speaker

IMAGE = b"\xff\xd8\xff" + bytes(5_000)
OTHER = b"\xff\xd8\xff" + bytes(5_000 - 1) + b"x"
ECHO = {"echo": True}
FILE = "validators.sqlite3"


@pytest.fixture
def keeper(make_speaker: MakeSpeaker, tmp_path: Path) -> Speaker:
    """Give a client that keeps validators."""
    return make_speaker(validators_file=tmp_path / "state" / FILE)


@pytest.fixture
def url(keeper: Speaker) -> str:
    """Give the address of a result."""
    return str(keeper.upload(IMAGE, ECHO).output.url)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.jpg"


class Downloads:
    """The downloads that a server has seen."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def asked(self) -> list[dict[str, str]]:
        """Return the conditions of each."""
        return [
            {name: value for name, value in seen.headers.items() if name.startswith("if-")}
            for seen in self.server.seen
            if seen.path.startswith("/temp/")
        ]


@pytest.fixture
def downloads(server: ApiServer) -> Downloads:
    return Downloads(server)


def change(server: ApiServer, url: str, **facts: Any) -> None:
    """Let the API keep something else under an address."""
    results = server.api.results
    identity = next(name for name in results if name in url)
    results[identity] = replace(results[identity], **facts)


def state(path: Path) -> tuple[int, int, bytes]:
    """Return what tells whether a file was written anew."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, path.read_bytes()


def told(content: bytes, modified: int = 1_700_000_000) -> dict[str, str]:
    """Return the conditions that a client makes of what the API told of this content."""
    result = Result(of_bytes(content), "image/jpeg", modified)
    etag, since = (value for _, value in result.validators)
    return {"if-none-match": etag, "if-modified-since": since}


def test_a_result_that_has_not_changed_leaves_the_file_as_it_is(
    keeper: Speaker, url: str, path: Path, downloads: Downloads
) -> None:
    assert keeper.download(url, path) == path
    before = state(path)
    assert before[2] == IMAGE
    for _ in range(2):
        assert keeper.download(url, path) == path
        assert state(path) == before
    assert downloads.asked() == [{}, told(IMAGE), told(IMAGE)]
    assert list(path.parent.iterdir()) == [path]


def test_another_client_with_the_same_file_knows_it_too(
    keeper: Speaker, make_speaker: MakeSpeaker, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    other = make_speaker(validators_file=str(path.parents[1] / "state" / FILE))
    before = state(path)
    other.download(url, path)
    assert (state(path), downloads.asked()[-1]) == (before, told(IMAGE))


def test_metadata_and_links_lead_to_the_same_validators(
    keeper: Speaker, path: Path, downloads: Downloads
) -> None:
    metadata = keeper.upload(IMAGE, ECHO)
    link = path.with_name("link.jpg")
    link.symlink_to(path)
    keeper.download(metadata, link)
    before = state(path)
    keeper.download(metadata, path)
    keeper.download(metadata.output.url, link)
    assert (state(path), downloads.asked()) == (before, [{}, told(IMAGE), told(IMAGE)])
    assert link.is_symlink()


def test_a_result_that_has_changed_is_downloaded(
    keeper: Speaker, server: ApiServer, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    change(server, url, blob=of_bytes(OTHER), modified=1_700_000_100)
    keeper.download(url, path)
    assert path.read_bytes() == OTHER
    before = state(path)
    keeper.download(url, path)
    assert state(path) == before
    assert downloads.asked() == [{}, told(IMAGE), told(OTHER, 1_700_000_100)]


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
def test_one_validator_is_enough(
    name: str, keeper: Speaker, server: ApiServer, url: str, path: Path, downloads: Downloads
) -> None:
    change(server, url, has=frozenset({name}))
    keeper.download(url, path)
    before = state(path)
    keeper.download(url, path)
    assert state(path) == before
    condition = {"ETag": "if-none-match", "Last-Modified": "if-modified-since"}[name]
    assert list(downloads.asked()[-1]) == [condition]
    change(server, url, has=frozenset(), blob=of_bytes(OTHER), modified=1_700_000_100)
    keeper.download(url, path)
    keeper.download(url, path)
    assert (path.read_bytes(), downloads.asked()[-1]) == (OTHER, {})


def written_by_others(path: Path) -> None:
    """Write another image of the same length, a second later."""
    later = path.stat().st_mtime_ns + 10**9
    path.write_bytes(OTHER)
    os.utime(path, ns=(later, later))


def longer(path: Path) -> None:
    """Make a file longer, and have it look as old as before."""
    found = path.stat()
    path.write_bytes(IMAGE + b"x")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("happens", [written_by_others, longer, Path.unlink])
def test_a_file_that_is_not_the_one_written_is_downloaded_in_full(
    happens: Any, keeper: Speaker, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    happens(path)
    keeper.download(url, path)
    assert (path.read_bytes(), downloads.asked()) == (IMAGE, [{}, {}])


def test_a_file_that_was_gone_before_it_could_be_looked_at_is_not_asked_about(
    tmp_path: Path,
) -> None:
    validators = Validators(tmp_path / FILE)
    validators.keep("https://a.example/", tmp_path / "a.jpg", {"etag": '"1"'})
    assert validators.headers_for("https://a.example/", tmp_path / "a.jpg") == {}
    validators.close()


def test_another_address_for_the_same_file_is_downloaded_in_full(
    keeper: Speaker, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    other = str(keeper.upload(OTHER, ECHO).output.url)
    keeper.download(other, path)
    assert path.read_bytes() == OTHER
    keeper.download(url, path)
    assert (path.read_bytes(), downloads.asked()) == (IMAGE, [{}, {}, {}])


def test_the_same_address_for_another_file_is_downloaded_in_full(
    keeper: Speaker, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    other = keeper.download(url, path.with_name("b.jpg"))
    assert (other.read_bytes(), downloads.asked()) == (IMAGE, [{}, {}])


def test_a_304_that_nobody_asked_for_is_an_error(
    keeper: Speaker, speaker: Speaker, server: ApiServer, url: str, path: Path
) -> None:
    server.always_download = faults.status(304, body=b"")
    for client in (speaker, keeper):
        with pytest.raises(ProtocolError, match="304 Not Modified") as caught:
            client.download(url, path)
        assert caught.value.status == 304
        assert list(path.parent.iterdir()) == []


def test_without_a_file_for_validators_nothing_is_asked_for(
    speaker: Speaker, url: str, path: Path, downloads: Downloads
) -> None:
    for _ in range(2):
        speaker.download(url, path)
    assert downloads.asked() == [{}, {}]


def test_a_download_that_failed_is_not_taken_for_done(
    keeper: Speaker, server: ApiServer, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    before = state(path)
    change(server, url, blob=of_bytes(OTHER), modified=1_700_000_100)
    server.always_download = faults.cut()
    with pytest.raises(DownloadError):
        keeper.download(url, path)
    assert state(path) == before
    server.always_download = None
    keeper.download(url, path)
    assert (path.read_bytes(), downloads.asked()[-1]) == (OTHER, told(IMAGE))


def test_a_try_after_a_failure_asks_in_the_same_way(
    keeper: Speaker, server: ApiServer, url: str, path: Path, downloads: Downloads
) -> None:
    keeper.download(url, path)
    before = state(path)
    server.fail_downloads(faults.status(503), faults.close_before_head())
    keeper.download(url, path)
    assert (state(path), downloads.asked()) == (before, [{}, *[told(IMAGE)] * 3])


@pytest.mark.parametrize("broken", ["no database", "a folder", "in a file"])
def test_validators_that_can_not_be_kept_only_make_a_line_in_the_log(
    broken: str,
    make_speaker: MakeSpeaker,
    url: str,
    path: Path,
    downloads: Downloads,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = path.parents[1] / "broken"
    if broken == "no database":
        place.write_bytes(b"no database at all" * 100)
    elif broken == "a folder":
        place.mkdir()
    else:
        place.touch()
        place = place / FILE
    keeper = make_speaker(validators_file=place)
    for _ in range(2):
        path.unlink(missing_ok=True)
        keeper.download(url, path)
        assert path.read_bytes() == IMAGE
    assert downloads.asked() == [{}, {}]
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [line[: line.index(":")] for line in said] == [
        "validators can't be read",
        "validators can't be kept",
    ] * 2


def test_a_file_of_validators_that_breaks_later_is_no_error_either(
    keeper: Speaker, url: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.download(url, path)
    keeper.close()
    (path.parents[1] / "state" / FILE).write_bytes(b"no database any more" * 100)
    keeper.download(url, path)
    assert path.read_bytes() == IMAGE
    assert "validators can't be read" in caplog.text


def test_no_address_is_kept_in_the_file(keeper: Speaker, url: str, path: Path) -> None:
    address = f"{url}?X-Amz-Signature=s3cret"
    keeper.download(address, path)
    keeper.download(address, path)
    keeper.close()
    kept = b"".join(file.read_bytes() for file in (path.parents[1] / "state").iterdir())
    assert b"a.jpg" in kept
    for secret in ("s3cret", url, url.partition("/temp/")[2]):
        assert secret.encode() not in kept
