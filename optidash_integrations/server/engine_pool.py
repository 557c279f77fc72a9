"""Processes of the engine: started anew when they end, with a bounded queue before them.

They share nothing with the server but paths and some memory: a source goes in, a file of the result
comes out. An image that was worked on when a process came to its end is not tried again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from optidash_integrations.errors import (
    DeadlyImageError,
    OptidashError,
    ProcessorError,
    TooSlowError,
)
from optidash_integrations.flows import in_thread
from optidash_integrations.server.configuration import Configuration, cores
from optidash_integrations.server.engine_process import Child, EndedError, Job
from optidash_integrations.server.refusals import RefusedError

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""So long past `max_seconds` the engine may take to stop by itself."""

ABANDONED_SECONDS = 1.0
"""So long work may go on whose client has gone."""

PATIENCE = 30.0
"""Nobody waits longer for a process, in seconds."""

REST = (0.0, 0.5, 1.0, 5.0, 15.0)
"""Waits between tries to start a process."""

DEADLY_SECONDS = 7 * 86_400.0
BUSY = "The server is busy. Retry in {seconds} seconds."


class OverloadedError(RefusedError):
    """As many requests wait as may."""

    public_status = 503

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(BUSY.format(seconds=seconds), [("retry-after", str(seconds))])

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process."""
        return type(self), (self.seconds,)


class EngineError(OptidashError):
    """What the engine said of a job; `public_status` and `public` as it said them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(str(document.get("detail")))
        self.document = document
        self.public_status = int(document.get("status", 500))
        self.public = str(document.get("message"))

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process."""
        return type(self), (self.document,)


class Deadly:
    """Images that a process did not survive, remembered on disk, for all processes of a host."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self.clock = clock

    @property
    def is_empty(self) -> bool:
        """Whether there is none, as mostly: then nobody needs the digest of an image."""
        try:
            with os.scandir(self.folder) as found:
                return next(found, None) is None
        except OSError:
            return True

    def add(self, digest: str) -> None:
        """Remember an image."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.folder / digest).write_bytes(b"")

    def sweep(self) -> None:
        """Forget images whose time is over."""
        for path in self.folder.glob("*"):
            with suppress(OSError):
                if self.clock() - path.stat().st_mtime >= DEADLY_SECONDS:
                    path.unlink()

    def check(self, digest: str) -> None:
        """Raise DeadlyImageError for one that is remembered."""
        with suppress(OSError):
            if self.clock() - (self.folder / digest).stat().st_mtime < DEADLY_SECONDS:
                raise DeadlyImageError("a process that worked on this image came to its end")


class Engines:
    """A number of engine processes, and the queue of those who wait for one.

    All methods are for the event loop that `start` ran on.
    """

    def __init__(
        self, configuration: Configuration, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.count = configuration.engine_count
        self.queue = configuration.queue
        self.seconds = configuration.max_seconds + GRACE_SECONDS
        self.setup = setup_of(configuration)
        self.environment = environment_of(self.count * configuration.workers)
        self.deadly = Deadly(configuration.data_dir / "deadly")
        self.clock = clock
        self.children: set[Child] = set()
        self.idle: deque[Child] = deque()
        self.waiters: deque[asyncio.Future[Child]] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.starting: set[asyncio.Task[Any]] = set()
        self.running = 0
        self.average = 0.1
        self.closing = False
        self.facts: Mapping[str, Any] = {}

    def start(self) -> None:
        """Begin to start the processes; nothing waits for them but work."""
        for _ in range(self.count):
            self.add()

    def add(self) -> None:
        task = self.spawn(self.bring_up())
        self.starting.add(task)
        task.add_done_callback(self.starting.discard)

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def bring_up(self) -> None:
        """Start a process, and try again for as long as that fails."""
        tries = 0
        while not self.closing:
            child = Child()
            try:
                await child.start(self.setup, self.environment)
            except (EndedError, OSError, TimeoutError, ValueError) as error:
                tries += 1
                logger.error("an engine process does not start: %s", error)
                await asyncio.sleep(REST[min(tries, len(REST) - 1)])
            else:
                self.facts = child.facts
                self.children.add(child)
                self.release(child)
                return

    @property
    def is_ready(self) -> bool:
        """Whether there is a process to work."""
        return bool(self.children) and not self.closing

    @property
    def waiting(self) -> int:
        """How many wait for a process."""
        return len(self.waiters)

    async def process(self, job: Job) -> Mapping[str, Any]:
        """Have a job done; return what is known of the result.

        Raises OverloadedError where too many wait, EngineError for what the engine said,
        DeadlyImageError, TooSlowError, and ProcessorError where the process ended. Whoever stops
        waiting takes the job out of the queue, or what is running of it to its end.
        """
        if not self.deadly.is_empty:
            self.deadly.check(await digest_of(job))
        child = await self.acquire()
        task = self.spawn(self.run(child, job))
        try:
            found: Mapping[str, Any] = await asyncio.shield(task)
        except asyncio.CancelledError:
            self.spawn(self.abandon(child, task, job))
            raise
        if "error" in found:
            raise EngineError(found["error"])
        return found

    def check_room(self) -> None:
        """Raise OverloadedError where one more would be too many."""
        if self.closing or (not self.idle and len(self.waiters) >= self.queue):
            raise OverloadedError(self.retry_after())

    def retry_after(self) -> int:
        """Return in how many seconds the queue may have room."""
        seconds = self.average * (len(self.waiters) + 1) / max(1, self.count)
        return min(60, max(1, math.ceil(seconds)))

    async def acquire(self) -> Child:
        """Wait for a process in one's turn."""
        self.check_room()
        while self.idle:
            child = self.idle.popleft()
            if child.is_alive:
                return child
            self.replace(child)
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            async with asyncio.timeout(PATIENCE):
                return await waiter
        except TimeoutError:
            self.leave(waiter)
            raise OverloadedError(self.retry_after()) from None
        except asyncio.CancelledError:
            self.leave(waiter)
            raise

    def leave(self, waiter: asyncio.Future[Child]) -> None:
        """Give up a place in the queue, or the process that came just then."""
        if not waiter.done():
            waiter.cancel()
        if not waiter.cancelled() and waiter.exception() is None:
            self.release(waiter.result())
        with suppress(ValueError):
            self.waiters.remove(waiter)

    def release(self, child: Child) -> None:
        """Hand a process to whoever has waited longest."""
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(child)
                return
        self.idle.append(child)

    async def run(self, child: Child, job: Job) -> Mapping[str, Any]:
        began = self.clock()
        self.running += 1
        try:
            async with asyncio.timeout(self.seconds):
                found = await child.ask(job)
        except TimeoutError:
            self.replace(child)
            raise TooSlowError(f"the work took more than {self.seconds:g} seconds") from None
        except EndedError as error:
            await self.ended(child, job)
            raise ProcessorError(str(error)) from error
        except BaseException:
            self.replace(child)
            raise
        finally:
            self.running -= 1
        self.average += (self.clock() - began - self.average) / 16
        self.release(child)
        return found

    async def ended(self, child: Child, job: Job) -> None:
        """Remember an image with which a process came to its end, unless we have ended it."""
        self.replace(child)
        if self.closing or child.is_abandoned:
            return
        digest = await digest_of(job)
        logger.error("an engine process came to its end over image %s", digest or "that is gone")
        if digest:
            self.deadly.add(digest)

    def replace(self, child: Child) -> None:
        """Start another process in the place of one."""
        self.children.discard(child)
        self.spawn(child.end())
        if not self.closing:
            self.add()

    async def abandon(self, child: Child, task: asyncio.Task[Any], job: Job) -> None:
        """Give work of `job` that nobody waits for a moment to end, then end its process."""
        _, pending = await asyncio.wait([task], timeout=ABANDONED_SECONDS)
        if pending:
            child.is_abandoned = True
            child.kill()
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # which is nobody's
        await in_thread(job.drop)

    async def close(self) -> None:
        """End all processes; who still waits gets OverloadedError."""
        self.closing = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(OverloadedError(self.retry_after()))
        for task in self.starting:
            task.cancel()
        children, self.children = self.children, set()
        await asyncio.gather(*(child.end() for child in children))
        while self.tasks:
            await asyncio.gather(*self.tasks, return_exceptions=True)


async def digest_of(job: Job) -> str:
    """Return the SHA-256 of a job's source, in hex; empty where there is no such file any more."""
    return job.digest or await in_thread(digested, job.source)


def digested(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def setup_of(configuration: Configuration) -> str:
    """Return what a process is told when it starts."""
    names = ("watermarks", "fonts", "face_model", "super_resolution_model")
    paths = {name: getattr(configuration, name) for name in names}
    document = {
        "limits": asdict(configuration.limits),
        "allowed_hosts": configuration.allowed_hosts,
        "fetch_seconds": configuration.fetch_seconds,
        **{name: str(path) if path else None for name, path in paths.items()},
    }
    return json.dumps(document)


def environment_of(engines: int) -> dict[str, str]:
    """Return the environment of a process: its share of the cores for libvips, no secrets."""
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("OPTIDASH_", "_OPTIDASH_"))}
    return {"VIPS_CONCURRENCY": str(max(1, cores() // engines)), **kept}
