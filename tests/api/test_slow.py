"""Answers that come, and too slowly: the clock goes on with each piece, and nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpcore
import pytest

from optidash_integrations.connections import AsyncTimelyStream, Pace, TimelyStream
from optidash_integrations.errors import ApiTimeoutError
from tests.api import faults
from tests.api.breaks import Tick
from tests.api.conftest import MakeSpeaker
from tests.api.faults import Fault
from tests.api.server import ApiServer, certificate
from tests.api.speakers import Speaker, Time

IMAGE = b"\xff\xd8\xff" + bytes(20_000)
ECHO = {"echo": True}
SECONDS = 5.0
"""Each client's `timeout`."""

SLOW: dict[str, tuple[Callable[[Tick], Fault], float]] = {
    "head": (faults.slow_head, 0.1),
    "heads before it": (faults.early_heads, 0.1),
    "heads before it, fast": (faults.early_heads, 0.001),  # 25 KB a second
    "chunk": (faults.slow_chunk, 0.1),
}


def ticking(speaker: Speaker, seconds: float) -> Tick:
    """Return what lets a client's clock go on; it is no sleep of the client's own."""

    def tick() -> None:
        speaker.time.now += seconds

    return tick


@pytest.mark.parametrize("what", SLOW)
def test_an_answer_that_comes_too_slowly_is_given_up(
    what: str, make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(timeout=SECONDS, retries=0)
    fault, seconds = SLOW[what]
    server.always = fault(ticking(speaker, seconds))
    with pytest.raises(ApiTimeoutError) as caught:
        speaker.account()
    assert "too slowly" in str(caught.value)
    server.always = None
    assert speaker.account().name == "Team"


@pytest.mark.parametrize("slow", [faults.slow_head, faults.slow_body])
def test_a_result_that_comes_too_slowly_leaves_no_file(
    slow: Callable[[Tick], Fault], make_speaker: MakeSpeaker, server: ApiServer, tmp_path: Path
) -> None:
    speaker = make_speaker(timeout=SECONDS, retries=0)
    address = speaker.upload(IMAGE, ECHO).output.url
    server.always_download = slow(ticking(speaker, 0.1))
    with pytest.raises(Exception, match="too slowly"):
        speaker.download(address, tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []


class Line(httpcore.NetworkStream):
    """A connection on which each piece comes after some seconds."""

    def __init__(self, time: Time, seconds: float, piece: int) -> None:
        self.time = time
        self.seconds = seconds
        self.piece = bytes(piece)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        assert timeout is not None
        self.time.now += min(self.seconds, timeout)
        if timeout < self.seconds:
            raise httpcore.ReadTimeout
        return self.piece


class AsyncLine(httpcore.AsyncNetworkStream):
    """The same on an event loop."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return self.line.read(max_bytes, timeout)


def seconds_of_reading(kind: str, line: Line, *, is_in_head: bool) -> float:
    """Return for how many seconds an answer was read before it was given up, an hour at most."""
    began, pace = line.time.now, Pace(SECONDS, line.time)
    pace.is_in_head = is_in_head
    ends = began + 3600
    if kind == "sync":
        stream = TimelyStream(line, pace)
        with suppress(httpcore.ReadTimeout):
            while line.time.now < ends:
                stream.read(65536, 2 * SECONDS)
    else:
        asyncio.run(read_all(AsyncTimelyStream(AsyncLine(line), pace), line.time, ends))
    return line.time.now - began


async def read_all(stream: AsyncTimelyStream, time: Time, ends: float) -> None:
    with suppress(httpcore.ReadTimeout):
        while time.now < ends:
            await stream.read(65536, 2 * SECONDS)


@pytest.mark.parametrize(
    ("seconds", "piece", "is_in_head", "lasts"),
    [
        (1, 17 * 1024, False, 3600),
        (3, 60_000, False, 3600),
        (1, 8 * 1024, False, 12),  # the first second is not the answer's; half as fast as it has to
        (1, 1, False, 6),
        (1, 1, True, 6),
        (1, 17 * 1024, True, 14),
    ],
)
def test_after_its_first_seconds_an_answer_has_to_keep_a_pace(
    seconds: float, piece: int, *, is_in_head: bool, lasts: float, kind: str
) -> None:
    line = Line(Time(), seconds, piece)
    found = seconds_of_reading(kind, line, is_in_head=is_in_head)
    assert found == pytest.approx(lasts, abs=1)


def test_a_head_may_come_in_pieces(make_speaker: MakeSpeaker, server: ApiServer) -> None:
    speaker = make_speaker(timeout=SECONDS, retries=0)
    server.always = faults.early_heads(ticking(speaker, 0.1), 20)
    assert speaker.account().name == "Team"


def test_each_answer_of_a_connection_has_its_own_time(
    make_speaker: MakeSpeaker, server: ApiServer
) -> None:
    speaker = make_speaker(timeout=SECONDS, retries=0)
    for _ in range(3):
        assert speaker.account().name == "Team"
        speaker.time.now += 10 * SECONDS
    assert server.open_connections == 1


def test_tls_makes_no_difference(kind: str) -> None:
    context, authority = certificate("localhost")
    with ApiServer(tls=context) as server:
        speaker = Speaker(kind, server.url, verify=authority, timeout=SECONDS, retries=0)
        server.fail(faults.slow_head(ticking(speaker, 0.1)))
        with pytest.raises(ApiTimeoutError, match="too slowly"):
            speaker.account()
        assert speaker.account().name == "Team"
        speaker.end()
        assert server.wait_closed()
