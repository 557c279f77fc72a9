"""Calls through a proxy: the same rules hold on the way through it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from optidash_integrations.errors import ApiTimeoutError
from tests.api import faults
from tests.api.server import ApiServer, certificate
from tests.api.speakers import Speaker
from tests.api.wire import GONE

ECHO = {"echo": True}
IMAGE = b"\xff\xd8\xff" + bytes(200_000)


class Proxy:
    """Leads connections on with CONNECT; `led_to` has where."""

    def __init__(self) -> None:
        self.led_to: list[str] = []
        self.port = 0

    def run(self, ready: Future[None]) -> None:
        asyncio.run(self.serve(ready))

    async def serve(self, ready: Future[None]) -> None:
        self.loop, self.ending = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self.met, "127.0.0.1", 0) as listening:
            self.port = listening.sockets[0].getsockname()[1]
            ready.set_result(None)
            await self.ending.wait()

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(*GONE):
            _, place, _ = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)
            self.led_to.append(place.decode())
            there = await asyncio.open_connection(*place.decode().split(":"))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(passed_on(reader, there[1]), passed_on(there[0], writer))
        writer.close()


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*GONE):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    found, ready = Proxy(), Future[None]()
    thread = threading.Thread(target=found.run, args=(ready,), daemon=True)
    thread.start()
    ready.result(10)
    yield found
    found.loop.call_soon_threadsafe(found.ending.set)
    thread.join(10)


def test_a_call_through_a_proxy_keeps_the_rules(proxy: Proxy, kind: str) -> None:
    context, authority = certificate("localhost")
    with ApiServer(tls=context) as server:
        way = {"proxy": f"http://127.0.0.1:{proxy.port}", "verify": authority}
        speaker = Speaker(kind, server.url, **way, timeout=5.0, retries=0)
        assert speaker.upload_to_bytes(IMAGE, ECHO).content == IMAGE
        assert proxy.led_to == [f"localhost:{server.port}"]

        def tick() -> None:
            speaker.time.now += 0.1

        server.fail(faults.slow_head(tick))
        with pytest.raises(ApiTimeoutError, match="too slowly"):
            speaker.account()
        speaker.end()
        assert server.wait_closed()
