"""One process of the engine, as the server sees it: jobs go in, facts of results come out."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import shutil
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

    `digest` names them, empty where nobody has asked yet. The result is put into a new folder
    `home`, named after its source's `name`; without `home` it stays where it was written. What is
    known of it has the `name` then, and the `content` where it has at most `wanted` bytes; where
    some are wanted and it has more, it stays where it was written.
    """

    source: Path | bytes
    result: Path
    operations: Mapping[str, Any]
    digest: str = ""
    home: Path | None = None
    name: str = ""
    wanted: int = 0

    def line(self) -> bytes:
        document: dict[str, Any] = {"result": str(self.result), "operations": self.operations}
        if self.home is not None:
            document |= {"home": str(self.home), "name": self.name}
        if self.wanted:
            document["wanted"] = self.wanted
        if isinstance(self.source, bytes):
            document["length"] = len(self.source)
        else:
            document["source"] = str(self.source)
        return json.dumps(document).encode() + b"\n"

    def drop(self) -> None:
        """Delete the result, which is nobody's."""
        self.result.unlink(missing_ok=True)
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


class Lines(asyncio.Protocol):
    """What comes over a socket: one line at a time, and each is asked for."""

    def __init__(self) -> None:
        self.came = bytearray()
        self.is_over = False
        self.over = asyncio.get_running_loop().create_future()
        self.waiter: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take some more."""
        self.came += data
        if data.endswith(b"\n") or len(self.came) > LINE:
            self.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect no more."""
        self.is_over = True
        if not self.over.done():
            self.over.set_result(None)
        self.wake()

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def next(self) -> bytes:
        """Return the next line. Raises EndedError where there is none, or it has no end."""
        while not self.came.endswith(b"\n"):
            if self.is_over or len(self.came) > LINE:
                raise EndedError("an engine process came to its end")
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        line, self.came = bytes(self.came), bytearray()
        return line


class Child:
    """One engine process, the socket to it, and memory that both see."""

    process: subprocess.Popen[bytes]
    lines: Lines
    writer: asyncio.WriteTransport

    def __init__(self) -> None:
        self.shared: mmap.mmap | None = None
        self.facts: Mapping[str, Any] = {}
        self.is_abandoned = False

    async def start(self, setup: str, environment: Mapping[str, str]) -> None:
        """Start the process. Raises EndedError where it does not come up."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        self.writer, self.lines = await loop.create_connection(Lines, sock=ours)
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
        return self.process.poll() is None and not self.lines.is_over

    async def ask(self, job: Job) -> Mapping[str, Any]:
        """Have a job done. Raises EndedError where the process ends before."""
        if isinstance(job.source, bytes):
            assert self.shared is not None, "the process has not been started"
            self.shared[: len(job.source)] = job.source
        self.writer.write(job.line())
        found = await self.read()
        if self.shared is not None and "length" in found:
            return {**found, "content": self.shared[: found["length"]]}
        return found

    async def read(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads(await self.lines.next())
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
        await self.lines.over


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
