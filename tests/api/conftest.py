from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.api.server import ApiServer
from tests.api.speakers import SPEAKERS, Speaker
from tests.cache.servers import redis_address, redis_program, redis_url

__all__ = ["redis_address", "redis_program", "redis_url"]

MakeSpeaker = Callable[..., Speaker]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@pytest.fixture(params=SPEAKERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_speaker(kind: str, server: ApiServer) -> Iterator[MakeSpeaker]:
    """Give a function that makes a client of each kind; nothing stays open in the end."""
    made: list[Speaker] = []

    def make(url: str | None = None, **options: Any) -> Speaker:
        made.append(Speaker(kind, url or server.url, **options))
        return made[-1]

    yield make
    for each in made:
        each.end()
    assert server.wait_closed(), f"{server.open_connections} connections are still open"


@pytest.fixture
def speaker(make_speaker: MakeSpeaker) -> Speaker:
    return make_speaker()
