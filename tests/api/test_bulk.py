"""Many images through one client: all accounted for, whatever the API does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optidash_integrations.client import OptidashClient
from optidash_integrations.errors import OptionError
from tests.api import faults
from tests.api.conftest import MakeSpeaker
from tests.api.server import ApiServer
from tests.api.speakers import KEY, Speaker

ECHO = {"echo": True}


def image(number: int) -> bytes:
    return b"\xff\xd8\xff" + number.to_bytes(4, "big") + bytes(200)


def test_a_thousand_images_with_a_fifth_of_failures_are_all_accounted_for(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    server.always = faults.flaky(0.2, seed=7)
    speaker = make_speaker(concurrency=32, retries=3)
    items = speaker.many(map(image, range(1000)), ECHO, concurrency=32, delay=0)
    assert sorted(item.index for item in items) == list(range(1000))
    for item in items:
        assert item.source == image(item.index)
        if item.ok:
            assert item.variant.content == item.source
    failed = [item for item in items if not item.ok]
    # A fifth to the power of four tries leaves one or two in a thousand.
    assert len(failed) <= 10
    done = server.processed
    for item in items:
        assert done[hashlib.sha1(item.source).hexdigest()] >= item.ok


def test_with_a_healthy_api_nothing_is_done_twice(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    items = make_speaker().many(map(image, range(100)), ECHO, concurrency=8, delay=0)
    assert all(item.ok for item in items)
    assert set(server.processed.values()) == {1}
    assert len(server.processed) == 100


def test_one_failure_does_not_stop_the_rest(
    speaker: Speaker, server: ApiServer, tmp_path: Path
) -> None:
    sources = [image(0), tmp_path / "nothing.jpg", image(2), "http://127.0.0.1:1/a.jpg", 3.5]
    items = {item.index: item for item in speaker.many(sources, ECHO, concurrency=2, delay=0)}
    assert [items[index].ok for index in range(5)] == [True, False, True, False, False]
    assert isinstance(items[1].error, FileNotFoundError)


def test_addresses_are_fetched(speaker: Speaker, server: ApiServer) -> None:
    address = speaker.upload(image(1), ECHO).output.url
    [item] = speaker.many([address], ECHO, delay=0)
    assert item.variant.content == image(1)


def test_results_are_written_where_the_caller_wants_them(speaker: Speaker, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(image(number))
    items = speaker.many(
        sorted(tmp_path.glob("*.jpg")), ECHO, delay=0, path=lambda p: p.with_suffix(".out")
    )
    assert all(item.variant is None and item.metadata.output.bytes for item in items)
    for number in range(3):
        assert (tmp_path / f"{number}.out").read_bytes() == image(number)


def test_operations_may_depend_on_the_source(speaker: Speaker, server: ApiServer) -> None:
    items = speaker.many(
        [image(0), image(1)],
        lambda source: ECHO if source == image(0) else {"nonsense": {}},
        delay=0,
    )
    assert {item.index: item.ok for item in items} == {0: True, 1: False}


def test_progress_is_told_of_each(speaker: Speaker) -> None:
    told: list[int] = []
    speaker.many(map(image, range(9)), ECHO, delay=0, progress=lambda item: told.append(item.index))
    assert sorted(told) == list(range(9))


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_lane_leaves_a_pause_between_its_calls(lanes: int, speaker: Speaker) -> None:
    speaker.many(map(image, range(6)), ECHO, concurrency=lanes)
    assert set(speaker.waits) == {0.15}
    assert 6 - lanes <= len(speaker.waits) <= 5


def test_single_calls_leave_no_pause(speaker: Speaker) -> None:
    speaker.upload(image(0), ECHO)
    speaker.upload_to_bytes(image(0), ECHO)
    assert speaker.waits == []


def test_sources_are_taken_no_faster_than_results(server: ApiServer) -> None:
    taken: list[int] = []

    def sources() -> Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield image(number)

    with OptidashClient(KEY, server.url) as client:
        coming = client.optimize_many(sources(), ECHO, concurrency=4, delay=0)
        for _ in range(10):
            next(coming)
        assert len(taken) <= 10 + 3 * 4
        coming.close()
    assert len(taken) <= 10 + 4 * 4


def test_sources_that_fail_are_the_callers_error(speaker: Speaker) -> None:
    def sources() -> Iterator[bytes]:
        yield image(0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        speaker.many(sources(), ECHO, concurrency=2, delay=0)


def test_who_stops_early_does_not_wait_for_those_who_wait(server: ApiServer) -> None:
    server.fail(None, *[faults.retry_after(20)] * 9)
    began = time.monotonic()
    with OptidashClient(KEY, server.url) as client:
        for _ in client.optimize_many([image(0)] * 50, ECHO, concurrency=4, delay=0):
            break
    assert time.monotonic() - began < 10


def test_who_stops_early_sends_nothing_more(server: ApiServer) -> None:
    server.fail(None)
    server.always = server.always_download = faults.stall_mid_body()
    with OptidashClient(KEY, server.url, concurrency=1, timeout=0.4) as client:
        for _ in client.optimize_many([image(0)] * 50, ECHO, concurrency=8, delay=0):
            break
        assert client.api.places.free == 1
    assert len([seen for seen in server.seen if seen.path.startswith("/1.0/")]) <= 2
    assert server.wait_closed()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sources": "photo.jpg"},
        {"sources": b"\xff\xd8\xff"},
        {"concurrency": 0},
        {"concurrency": "a"},
        {"delay": -1},
        {"delay": "x"},
        {"path": "out"},
    ],
    ids=str,
)
def test_arguments_that_can_not_work_are_refused_at_once(wrong, speaker: Speaker) -> None:
    arguments = {"sources": [image(0)], **wrong}
    with pytest.raises(OptionError, match=f"^{next(iter(wrong))} takes "):
        speaker.client.optimize_many(**arguments)
