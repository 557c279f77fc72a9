"""Temporary storage: for a day, whatever process asks, with the right headers, and then no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from optidash_integrations.exchange import FileBody, Request
from optidash_integrations.server.refusals import MissingError
from optidash_integrations.server.temporary import Kept, Temporary, Workroom
from tests.server.clocks import Clock
from tests.server.live import Live, configured, data, image, running
from tests.sites.photos import photo

DAY = 86_400


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def temporary(tmp_path: Path, clock: Clock) -> Temporary:
    return Temporary(tmp_path / "temp", DAY, 10_000, clock)


def kept(temporary: Temporary, content: bytes | None = None, name: str = "cat.jpg") -> Kept:
    file = temporary.folder.parent / "made"
    file.write_bytes(photo() if content is None else content)
    return temporary.keep(file, name)


def content_of(temporary: Temporary, found: Kept) -> bytes:
    with temporary.find(found.uuid, found.name).file as file:
        return file.read()


def test_a_result_is_there_for_a_day_and_not_a_second_longer(
    temporary: Temporary, clock: Clock
) -> None:
    found = kept(temporary)
    clock.seconds += DAY - 1
    assert content_of(temporary, found) == photo()
    clock.seconds += 1
    with pytest.raises(MissingError):
        temporary.find(found.uuid, found.name)
    assert temporary.sweep() == 1
    assert list(temporary.folder.glob("*/*")) == []


def test_another_process_finds_what_was_there(temporary: Temporary, clock: Clock) -> None:
    found = kept(temporary)
    again = Temporary(temporary.folder, DAY, 10_000, clock)
    assert content_of(again, found) == photo()


def test_a_sweep_leaves_what_is_not_over(temporary: Temporary, clock: Clock) -> None:
    old = kept(temporary, b"x")
    clock.seconds += DAY // 2
    new = kept(temporary, b"y")
    clock.seconds += DAY // 2
    assert temporary.sweep() == 1
    assert content_of(temporary, new) == b"y"
    with pytest.raises(MissingError):
        temporary.find(old.uuid, old.name)


def test_the_oldest_make_room_where_all_are_too_large(
    temporary: Temporary, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for _ in range(5):
        found.append(kept(temporary, bytes(3_000)))
        clock.seconds += 1
    assert temporary.is_due
    assert temporary.sweep() == 2
    assert not temporary.is_due
    assert "2 results were deleted before their time" in caplog.text
    assert all(content_of(temporary, each) for each in found[2:])


def test_what_a_process_left_empty_is_swept_away(temporary: Temporary, clock: Clock) -> None:
    home = temporary.home("00000000-0000-4000-8000-000000000000")
    home.mkdir(parents=True)
    os.utime(home, (clock(), clock()))
    assert temporary.sweep() == 0
    clock.seconds += 60
    assert temporary.sweep() == 1
    assert not home.exists()


def test_only_one_process_sweeps(temporary: Temporary, clock: Clock) -> None:
    kept(temporary)
    clock.seconds += DAY
    other = Temporary(temporary.folder, DAY, 10_000, clock)
    temporary.swept = other.sweep  # type: ignore[method-assign]
    assert temporary.sweep() == 0


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        ("..", "made"),
        ("../..", "etc"),
        ("00000000-0000-4000-8000-00000000000A", "x"),
        ("00000000-0000-4000-8000-000000000000", "cat.jpg"),
    ],
)
def test_other_addresses_lead_nowhere(temporary: Temporary, identity: str, name: str) -> None:
    kept(temporary)
    with pytest.raises(MissingError):
        temporary.find(identity, name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a\0b", "other.jpg", "x" * 5_000])
def test_other_names_lead_nowhere(temporary: Temporary, name: str) -> None:
    found = kept(temporary)
    with pytest.raises(MissingError):
        temporary.find(found.uuid, name)


def test_an_answer_that_sends_nothing_closes_its_file(temporary: Temporary) -> None:
    found = kept(temporary)
    headers = {"if-none-match": f'"od-{found.uuid}"'}
    answer = temporary.answer(Request("GET", "/", "", headers), found.uuid, found.name)
    assert (answer.status, answer.body) == (304, b"")
    whole = temporary.answer(Request("GET", "/", "", {}), found.uuid, found.name)
    assert isinstance(whole.body, FileBody)
    assert whole.body.file is not None
    whole.body.file.close()


def test_a_workroom_clears_away_what_others_left(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    gone = Workroom(folder)
    gone.open()
    (gone.place()).write_bytes(b"half")
    gone.lock.close()  # type: ignore[union-attr]  its process has ended
    alive = Workroom(folder)
    alive.open()
    room = alive.place()
    room.write_bytes(b"ours")
    third = Workroom(folder)
    third.open()
    assert gone.home is not None
    assert not gone.home.exists()
    assert room.exists()
    for each in (alive, third):
        each.close()
    gone.lock = None
    assert [path.name for path in folder.iterdir()] == []


# Over a socket


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(configured(tmp_path_factory.mktemp("server"))) as found:
        yield found


@pytest.fixture(scope="module")
def path(live: Live) -> str:
    url = live.upload(image(), data({"resize": {"width": 90}})).json["output"]["url"]
    return "/temp/" + url.partition("/temp/")[2]


def test_results_need_no_key_and_have_the_right_headers(live: Live, path: str) -> None:
    answer = live.ask("GET", path, key=False)
    assert answer.status == 200
    headers = answer.headers
    assert headers["content-type"] == "image/jpeg"
    assert headers["content-length"] == str(len(answer.body))
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    seconds = int(headers["cache-control"].partition("max-age=")[2].partition(",")[0])
    assert DAY - 120 < seconds <= DAY
    assert headers["etag"].startswith('"od-')
    assert headers["last-modified"].endswith("GMT")


def test_results_are_sent_in_parts(live: Live, path: str) -> None:
    whole = live.ask("GET", path, key=False)
    part = live.ask("GET", path, headers={"Range": "bytes=10-19"}, key=False)
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(whole.body)}"
    beyond = live.ask("GET", path, headers={"Range": "bytes=9999999-"}, key=False)
    assert beyond.status == 416
    stale = live.ask("GET", path, headers={"Range": "bytes=0-1", "If-Range": '"x"'}, key=False)
    assert stale.status == 200


def test_results_are_not_sent_to_those_who_have_them(live: Live, path: str) -> None:
    first = live.ask("GET", path, key=False)
    for headers in (
        {"If-None-Match": first.headers["etag"]},
        {"If-None-Match": f'"other", W/{first.headers["etag"]}'},
        {"If-Modified-Since": first.headers["last-modified"]},
    ):
        again = live.ask("GET", path, headers=headers, key=False)
        assert (again.status, again.body) == (304, b"")


def test_a_question_for_the_head_gets_the_head(live: Live, path: str) -> None:
    head, whole = live.ask("HEAD", path, key=False), live.ask("GET", path, key=False)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize(
    "address",
    [
        "/temp/00000000-0000-4000-8000-000000000000/x.jpg",
        "/temp/..%2f..%2fserver.sqlite3/x",
        "/temp/../server.sqlite3",
        "/temp/x/..",
    ],
)
def test_nothing_else_is_sent(live: Live, address: str) -> None:
    assert live.ask("GET", address, key=False).status == 404


def test_a_large_result_is_sent_from_its_file(live: Live) -> None:
    document = {
        "resize": {"width": 2000, "height": 1600, "mode": "exact"},
        "output": {"format": "png"},
    }
    answer = live.upload(image(), data(document), headers={"X-Optidash-Binary": "1"})
    assert len(answer.body) == answer.metadata["output"]["bytes"] > 1024 * 1024


def test_a_new_process_serves_what_an_old_one_has_made(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    with running(configuration) as first:
        url = first.upload(image()).json["output"]["url"]
        path = "/temp/" + url.partition("/temp/")[2]
        content = first.ask("GET", path, key=False).body
    with running(configured(tmp_path, database=f"sqlite:///{tmp_path / 'other'}")) as second:
        assert second.ask("GET", path, key=False).body == content
