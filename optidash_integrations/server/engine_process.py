"""One process of the engine, as the server sees it: jobs go in, facts of results come out."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optidash_integrations.flows import in_thread

LINE = 8 * 1024 * 1024
SHARED = 4 * 1024 * 1024
"""Bytes of memory that the server shares with each process, so that small sources need no file."""

START_SECONDS = 60.0


class EndedError(Exception):
    """An engine process came to its end before it answered."""


@dataclass(frozen=True, slots=True)
class Job:
    """Work for the engine: a source in a file, or up to `SHARED` bytes of one.

    `digest` names them, empty where nobody has asked yet.
    """

    source: Path | bytes
    result: Path
    operations: Mapping[str, Any]
    digest: str = ""

    def line(self) -> bytes:
        document: dict[str, Any] = {"result": str(self.result), "operations": self.operations}
        if isinstance(self.source, bytes):
            document["length"] = len(self.source)
        else:
            document["source"] = str(self.source)
        return json.dumps(document).encode() + b"\n"


class Child:
    """One engine process, the socket to it, and memory that both see."""

    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self) -> None:
        self.shared: mmap.mmap | None = None
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
        memory = memory_file(SHARED)
        try:
            self.shared = mmap.mmap(memory, SHARED)
            self.process = subprocess.Popen(  # noqa: S603  a module of ours
                [sys.executable, "-m", module, str(number), str(memory), setup],
                pass_fds=[number, memory],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if has_number(sys.stderr) else subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is for the server
            )
        finally:
            os.close(memory)

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None and not self.reader.at_eof()

    async def ask(self, job: Job) -> Mapping[str, Any]:
        """Have a job done. Raises EndedError where the process ends before."""
        if isinstance(job.source, bytes):
            assert self.shared is not None, "the process has not been started"
            self.shared[: len(job.source)] = job.source
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
        if self.shared is not None:
            self.shared.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def memory_file(size: int) -> int:
    """Return the number of a file in memory, or of one without a name where there is no such."""
    if hasattr(os, "memfd_create"):
        number = os.memfd_create("optidash")
    else:
        with tempfile.TemporaryFile() as file:
            number = os.dup(file.fileno())
    os.ftruncate(number, size)
    return number


def has_number(stream: Any) -> bool:
    """Say whether a stream is a file that a child can write to as well."""
    try:
        return stream is not None and stream.fileno() >= 0
    except (OSError, ValueError):
        return False
