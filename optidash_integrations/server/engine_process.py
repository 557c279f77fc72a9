"""One process of the engine, as the server sees it: jobs go in, facts of results come out."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optidash_integrations.flows import in_thread

LINE = 8 * 1024 * 1024
START_SECONDS = 60.0


class EndedError(Exception):
    """An engine process came to its end before it answered."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the engine; `digest` names the source's bytes, empty where nobody has asked yet."""

    source: Path
    result: Path
    operations: Mapping[str, Any]
    digest: str = ""

    def line(self) -> bytes:
        document = {
            "source": str(self.source),
            "result": str(self.result),
            "operations": self.operations,
        }
        return json.dumps(document).encode() + b"\n"


class Child:
    """One engine process, and the socket to it."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self.facts: Mapping[str, Any] = {}
        self.is_abandoned = False

    async def start(self, setup: str, environment: Mapping[str, str]) -> None:
        """Start the process. Raises EndedError where it does not come up."""
        ours, theirs = socket.socketpair()
        self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=LINE)
        try:
            with theirs:
                await in_thread(self.open, theirs.fileno(), setup, environment)
            async with asyncio.timeout(START_SECONDS):
                self.facts = await self.read()
        except BaseException:
            await self.end()
            raise

    def open(self, number: int, setup: str, environment: Mapping[str, str]) -> None:
        module = "optidash_integrations.server.engine_child"
        self.process = subprocess.Popen(  # noqa: S603  a module of ours
            [sys.executable, "-m", module, str(number), setup],
            pass_fds=[number],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if has_number(sys.stderr) else subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C is for the server
        )

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None and not self.reader.at_eof()

    async def ask(self, job: Job) -> Mapping[str, Any]:
        """Have a job done. Raises EndedError where the process ends before."""
        try:
            self.writer.write(job.line())
            await self.writer.drain()
        except OSError as error:
            raise EndedError(str(error)) from error
        return await self.read()

    async def read(self) -> Mapping[str, Any]:
        try:
            line = await self.reader.readline()
        except (OSError, ValueError) as error:
            raise EndedError(str(error)) from error
        if not line.endswith(b"\n"):
            raise EndedError("an engine process came to its end")
        found: Mapping[str, Any] = json.loads(line)
        return found

    def kill(self) -> None:
        """End the process, whatever it does."""
        with suppress(OSError):
            self.process.kill()

    async def end(self) -> None:
        """End the process, and leave nothing of it."""
        self.writer.close()
        if hasattr(self, "process"):
            self.kill()
            await in_thread(self.process.wait)
        with suppress(OSError):
            await self.writer.wait_closed()


def has_number(stream: Any) -> bool:
    """Say whether a stream is a file that a child can write to as well."""
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False
