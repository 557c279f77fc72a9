"""Load generators: wrk, or in its place one in Python."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast
from urllib.parse import urlsplit

PATIENCE = 30.0
"""Seconds that answers may take after the end of a round."""


class LoadError(Exception):
    """Some of the answers were not 200, or there were none."""


class Load(Protocol):
    """Asks one address again and again, over several connections."""

    @property
    def name(self) -> str:
        """What the figures are made with."""
        ...

    def rate(self, url: str, headers: Mapping[str, str], seconds: float) -> float:
        """Ask for `seconds`; return answers a second. Raises `LoadError`."""
        ...


def best_load(connections: int) -> Load:
    """Return wrk where it is installed, else the generator in Python."""
    return Wrk(connections) if shutil.which("wrk") else PythonLoad(connections)


@dataclass(frozen=True)
class Wrk:
    """wrk on one thread, so that it leaves the other cores to the server."""

    connections: int
    name: str = "wrk"

    def rate(self, url: str, headers: Mapping[str, str], seconds: float) -> float:
        """See `Load.rate`; whole seconds."""
        fields = [f"-H{name}: {value}" for name, value in headers.items()]
        shape = ["-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s"]
        try:
            done = subprocess.run(
                ["wrk", *shape, *fields, url],
                capture_output=True,
                text=True,
                timeout=seconds + PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadError(f"wrk did not end at {url}") from error
        return rate_in(done.stdout + done.stderr)


def rate_in(report: str) -> float:
    """Read wrk's report. Raises `LoadError` where it tells of anything but answers with 200."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    if rate is None or "Non-2xx" in report or "Socket errors" in report or not float(rate[1]):
        raise LoadError(f"wrk says:\n{report.strip()}")
    return float(rate[1])


@dataclass(frozen=True)
class PythonLoad:
    """Connections on one event loop. It is slower than wrk, so that ratios come out nearer to 1.

    `requests` ends a round after so many answers, in place of the seconds.
    """

    connections: int
    requests: int | None = None
    name: str = "Python"

    def rate(self, url: str, headers: Mapping[str, str], seconds: float) -> float:
        """See `Load.rate`."""
        try:
            return asyncio.run(self.ask(url, headers, seconds))
        except OSError as error:  # a time-out is one too
            raise LoadError(f"{url} does not answer: {error!r}") from error

    async def ask(self, url: str, headers: Mapping[str, str], seconds: float) -> float:
        parts = urlsplit(url)
        lines = [f"GET {parts.path}?{parts.query} HTTP/1.1".replace("? ", " ")]
        lines += [f"{name}: {value}" for name, value in {"Host": parts.netloc, **headers}.items()]
        begin = time.perf_counter()
        tally = Tally("\r\n".join([*lines, "", ""]).encode(), begin + seconds, self.requests)
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(
                lambda: Connection(tally), parts.hostname or "", parts.port or 80
            )
        await asyncio.wait_for(asyncio.gather(*tally.ended), seconds + PATIENCE)
        if tally.failed or not tally.answers:
            raise LoadError(f"{tally.failed or 'no answer'} from {url}")
        return tally.answers / (time.perf_counter() - begin)


@dataclass
class Tally:
    """What all connections share: the request, when to end, and what came."""

    request: bytes
    until: float
    requests: int | None
    answers: int = 0
    failed: str = ""
    ended: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no connection shall ask again."""
        enough = self.requests is not None and self.answers >= self.requests
        return enough or bool(self.failed) or time.perf_counter() >= self.until


class Connection(asyncio.Protocol):
    """One connection, which asks again as soon as it has an answer."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.head = b""
        self.left = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tally.ended.append(self.ended)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.tally.request)

    def data_received(self, data: bytes) -> None:
        """Count an answer when its last byte has come."""
        if self.left:
            self.left -= len(data)
        else:
            self.head += data
            head, end, body = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.head = b""
            self.left = self.length(head) - len(body)
        if self.left <= 0:
            self.answered()

    def length(self, head: bytes) -> int:
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        if length is None or b" 200 " not in head[:16]:
            self.tally.failed = head.decode("latin-1").splitlines()[0] + " without a length"
            return 0
        return int(length[1])

    def answered(self) -> None:
        self.tally.answers += 1
        if self.tally.is_over:
            self.transport.close()
        else:
            self.transport.write(self.tally.request)

    def connection_lost(self, error: Exception | None) -> None:
        """Take note of a connection that the server has closed."""
        if not self.tally.is_over:
            self.tally.failed = f"a closed connection ({error})"
        self.ended.set_result(None)
