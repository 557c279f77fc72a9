"""Many images through one client: a bounded number of lanes, a result for each, none lost."""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optidash_integrations.api import Asked
from optidash_integrations.errors import OptionError
from optidash_integrations.payload import Source
from optidash_integrations.variants import Metadata, Variant

if TYPE_CHECKING:
    from optidash_integrations.client import AsyncOptidashClient, OptidashClient

DELAY = 0.15
"""Seconds that one lane leaves between its calls."""

OperationsFor = Callable[[Source], Asked]


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one source, the `index`-th of those given.

    `variant` is the result in memory, `metadata` what is told of it, `error` why there is none.
    """

    index: int
    source: Source
    variant: Variant | None = None
    metadata: Metadata | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Work:
    """What to do with each source: `operations`, or what they give for it, and where it goes."""

    operations: Asked | OperationsFor
    path: Callable[[Source], str | os.PathLike[str]] | None

    def plan(self, item: Item) -> tuple[str, tuple[Any, ...]]:
        """Return the client's method for a source, and its arguments."""
        source = item.source
        asked = self.operations(source) if callable(self.operations) else self.operations
        way = "fetch" if is_address(source) else "upload"
        if self.path is None:
            return f"{way}_to_bytes", (source, asked)
        return f"{way}_to_file", (source, asked, self.path(source))

    def done(self, client: OptidashClient, item: Item) -> Item:
        """Return an item with its result."""
        try:
            method, arguments = self.plan(item)
            return with_result(item, getattr(client, method)(*arguments))
        except Exception as error:  # noqa: BLE001  it is this item's alone
            return replace(item, error=error)

    async def done_async(self, client: AsyncOptidashClient, item: Item) -> Item:
        """Return an item with its result."""
        try:
            method, arguments = self.plan(item)
            return with_result(item, await getattr(client, method)(*arguments))
        except Exception as error:  # noqa: BLE001  it is this item's alone
            return replace(item, error=error)


def is_address(source: Source) -> bool:
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def with_result(item: Item, result: Variant | Metadata) -> Item:
    if isinstance(result, Variant):
        return replace(item, variant=result, metadata=result.metadata)
    return replace(item, metadata=result)


def checked(sources: object, path: object, concurrency: object, delay: object) -> int | None:
    """Return the number of lanes that was asked for; raise OptionError for what can't work."""
    if isinstance(sources, str | bytes | os.PathLike) or not isinstance(sources, Iterable):
        raise OptionError("sources", "a list of sources", sources)
    if path is not None and not callable(path):
        raise OptionError("path", "a function that gives a path for a source", path)
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise OptionError("concurrency", "a whole number of requests above 0", concurrency)
    if type(delay) not in (int, float) or not 0 <= float(str(delay)) < float("inf"):
        raise OptionError("delay", "a number of seconds, 0 or more", delay)
    return concurrency


class StoppedEarlyError(Exception):
    """The caller wants no more results."""


class Row:
    """Sources in a row, from which threads take one at a time; `sleep` takes the place of waits."""

    def __init__(
        self, sources: Iterable[Source], sleep: Callable[[float], Any] | None = None
    ) -> None:
        self.items = (Item(index, source) for index, source in enumerate(sources))
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.slept = sleep

    def __iter__(self) -> Iterator[Item]:
        return iter(self.take, None)

    def take(self) -> Item | None:
        """Return the next item, or None where there is none left."""
        with self.lock:
            return None if self.stopped.is_set() else next(self.items, None)

    def sleep(self, seconds: float) -> None:
        """Wait; raise StoppedEarlyError where nothing is wanted any more."""
        if self.slept is not None:
            self.slept(seconds)
        elif self.stopped.wait(seconds):
            raise StoppedEarlyError

    def check(self) -> None:
        """Raise StoppedEarlyError where nothing is wanted any more."""
        if self.stopped.is_set():
            raise StoppedEarlyError

    def stop(self) -> None:
        """Give out nothing more, and end what has not been sent yet."""
        self.stopped.set()


def in_threads(
    row: Row,
    work: Callable[[Item], Item],
    lanes: int,
    delay: float,
    progress: Callable[[Item], object] | None,
) -> Iterator[Item]:
    """Yield what `work` makes of each source, in the order in which it is done.

    At most `lanes` results wait for the caller. One that stops early ends the lanes, and waits no
    longer than for the requests that are under way.
    """
    done: queue.Queue[Item | BaseException | None] = queue.Queue(lanes)

    def lane() -> None:
        try:
            for position, item in enumerate(row):
                if position and delay:
                    row.sleep(delay)
                done.put(work(item))
            done.put(None)
        except BaseException as error:  # noqa: BLE001  the sources' own: the caller's affair
            done.put(error)

    threads = [threading.Thread(target=lane, daemon=True) for _ in range(lanes)]
    left = lanes
    try:
        for thread in threads:
            thread.start()
        while left:
            found = done.get()
            if isinstance(found, BaseException):
                left -= 1
                raise found
            if found is None:
                left -= 1
                continue
            if progress is not None:
                progress(found)
            yield found
    finally:
        row.stop()
        while any(thread.is_alive() for thread in threads):
            with suppress(queue.Empty):
                done.get(timeout=0.01)


async def in_tasks(
    sources: Iterable[Source],
    work: Callable[[Item], Awaitable[Item]],
    lanes: int,
    delay: float,
    sleep: Callable[[float], Awaitable[Any]],
    progress: Callable[[Item], object] | None,
) -> AsyncIterator[Item]:
    """Yield what `work` makes of each source, as `in_threads` does, on the event loop."""
    row = Row(sources)
    done: asyncio.Queue[Item | BaseException | None] = asyncio.Queue(lanes)

    async def lane() -> None:
        try:
            for position, item in enumerate(row):
                if position and delay:
                    await sleep(delay)
                await done.put(await work(item))
            await done.put(None)
        except Exception as error:  # noqa: BLE001  the sources' own: the caller's affair
            await done.put(error)

    tasks = [asyncio.create_task(lane()) for _ in range(lanes)]
    left = lanes
    try:
        while left:
            found = await done.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
                continue
            if progress is not None:
                progress(found)
            yield found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
