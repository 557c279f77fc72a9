"""Clients of the Optidash image API, sync and async: two drivers of the same flows."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from optidash_integrations import bulk
from optidash_integrations.api import Api, Asked
from optidash_integrations.bulk import DELAY, Item, OperationsFor
from optidash_integrations.calls import API_URL, Config, Flow, Gate, Send, Sleep, Step
from optidash_integrations.documents import Account, SubKey, Webhook
from optidash_integrations.errors import OptionError, SettingsError
from optidash_integrations.flows import Wait, drive, drive_async, in_thread
from optidash_integrations.ledger import FILE, Ledger, MonthlyBudget, account_of
from optidash_integrations.pacing import RateLimit, SharedLimits
from optidash_integrations.payload import FileSink, MemorySink, Source
from optidash_integrations.revalidation import Validators
from optidash_integrations.settings import default_cache_dir
from optidash_integrations.transport import AsyncTransport, Transport, Verify, Wire
from optidash_integrations.variants import Metadata, Variant

T = TypeVar("T")
W = TypeVar("W", bound=Wire)

Target = str | os.PathLike[str]


class Client(Generic[W]):
    """What both clients have in common; see `OptidashClient`."""

    wire: Callable[..., W]

    def __init__(
        self,
        api_key: str | None = None,
        api_url: str = API_URL,
        *,
        timeout: float = 30.0,
        auth: str = "basic",
        retries: int = 3,
        max_wait: float = 60.0,
        max_bytes: int = 512 * 1024 * 1024,
        concurrency: int = 16,
        allow_http: bool = False,
        any_type: bool = False,
        monthly_budget: int | None = None,
        budget_file: Target | None = None,
        validators_file: Target | None = None,
        shared_url: str | None = None,
        proxy: str | None = None,
        verify: Verify = True,
        download_hosts: Sequence[str] = (),
        fallback_image: Target | bytes | None = None,
        waits_for_limits: bool = True,
        gate: Gate | None = None,
        ledger: Ledger | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Any] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.config = Config(
            api_key=api_key,
            api_url=api_url,
            auth=auth,
            timeout=timeout,
            retries=retries,
            max_wait=max_wait,
            waits_for_limits=waits_for_limits,
            max_bytes=max_bytes,
            concurrency=concurrency,
            allow_http=allow_http,
            any_type=any_type,
            download_hosts=download_hosts,  # type: ignore[arg-type]
            fallback_image=content_of(fallback_image),
        )
        account = account_of(self.config.api_url, api_key)
        budget = None
        if monthly_budget is not None:
            if type(monthly_budget) is not int or monthly_budget < 0:
                raise OptionError("monthly_budget", "a whole number, 0 or more", monthly_budget)
            if ledger is None:
                ledger = Ledger(file_of("budget_file", budget_file) or default_cache_dir() / FILE)
            budget = MonthlyBudget(ledger, account, monthly_budget, clock=clock)
        kept = file_of("validators_file", validators_file)
        self.api = Api(
            self.config,
            validators=Validators(kept) if kept else None,
            budget=budget,
            gate=gate,
            shared=shared_limits(shared_url, account) if shared_url else None,
            clock=clock,
            monotonic=monotonic,
            jitter=jitter,
        )
        self.budget = budget
        self.sleep = sleep
        self.lane = threading.local()
        self.transport = self.wire(self.config, proxy=proxy, verify=verify, clock=monotonic)

    @property
    def rate_limit(self) -> RateLimit | None:
        """What the last answer told of the rate limit."""
        return self.api.pacer.rate_limit

    def close_state(self) -> None:
        if self.budget is not None:
            self.budget.ledger.close()
        if self.api.validators is not None:
            self.api.validators.close()
        if self.api.shared is not None:
            self.api.shared.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_url={self.config.api_url!r})"


def file_of(name: str, value: object) -> Path | None:
    """Return the path that an argument of this name gives; raises OptionError for what is none."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise OptionError(name, "the path of a file", value)
    return Path(value)


def content_of(image: Target | bytes | None) -> bytes | None:
    """Return the bytes of an image, given so or as a path; raises OSError."""
    if image is None or isinstance(image, bytes):
        return image
    return Path(image).read_bytes()


def shared_limits(url: str, account: str) -> SharedLimits:
    """Return what processes of all hosts share through Redis; raises SettingsError."""
    from optidash_integrations.cache.redis_limits import SharedLimits as RedisLimits

    try:
        return RedisLimits(url, account)
    except SettingsError as error:  # it knows such addresses as `cache_url`
        problems = [problem.replace("cache_url", "shared_url", 1) for problem in error.problems]
        raise SettingsError(problems) from None


class OptidashClient(Client[Transport]):
    """The API's methods, each a call that returns its result. Threads may share one client.

    `api_key` goes into every call as the user name of Basic authentication or, with
    `auth="bearer"`, as a Bearer token, and nowhere else. `api_url` begins with https://; with
    http:// only on this machine, or where `allow_http` says so. `timeout` is how many seconds the
    API may be silent.

    A call that fails on the way, or with 429, 500, 502, 503 or 504, is tried again, `retries` times
    at the most, after 1, 2, 4 … s (with some jitter) or what `Retry-After` says. Above `max_wait`
    seconds it fails at once. Each try may cost one of the account's calls. `monthly_budget` bounds
    uploads and fetches, every try counted, in the SQLite file `budget_file`. With
    `validators_file`, another one, `download` receives again only what has changed since (RFC 9110,
    section 13). `concurrency` requests are in flight at a time, over all processes where
    `shared_url` names a Redis.

    Images larger than `max_bytes` are refused while they arrive, and those that are none, unless
    `any_type`. Results are downloaded from the API's own host, from the public internet and from
    `download_hosts`. After the last failure `fallback_image` (a path or bytes) stands in for an
    image asked for in memory. `proxy` and `verify` (an SSL context, or a path of certificates) are
    for the way there; `clock`, `monotonic`, `sleep` and `jitter` are for tests.

    Sources are paths, bytes or files open for reading bytes; operations are `Operations` or plain
    JSON, whose unknown keys are passed on. All methods raise `ApiError`, `OptionError` for
    arguments that can't be sent, and OSError for files that can't be read or written.
    """

    wire = Transport

    # Images

    def upload(
        self,
        source: Source,
        operations: Asked = None,
        *,
        store: object = None,
        webhook: Mapping[str, object] | None = None,
        cdn: Mapping[str, object] | None = None,
    ) -> Metadata:
        """Send an image; return what is told of it and its result, `output.url` included.

        With `webhook` the result comes there, and only `id` is known; with `store` it is put into a
        bucket of yours.
        """
        return self.run(self.api.upload(source, operations, store=store, webhook=webhook, cdn=cdn))

    def fetch(
        self,
        url: str,
        operations: Asked = None,
        *,
        headers: Mapping[str, str] | None = None,
        store: object = None,
        webhook: Mapping[str, object] | None = None,
        cdn: Mapping[str, object] | None = None,
    ) -> Metadata:
        """Let the API fetch an image, sending `headers` with its request; as `upload` otherwise."""
        more = {"headers": headers, "store": store, "webhook": webhook, "cdn": cdn}
        return self.run(self.api.fetch(url, operations, **more))

    def upload_to_bytes(self, source: Source, operations: Asked = None) -> Variant:
        """Send an image; return its result in memory."""
        sink = MemorySink()
        return self.run(self.api.upload_image(source, operations, sink)).variant(sink)

    def upload_to_file(self, source: Source, operations: Asked, path: Target) -> Metadata:
        """Send an image; write its result to `path`, whole or not at all."""
        return self.run(self.api.upload_image(source, operations, FileSink(path))).metadata

    def fetch_to_bytes(
        self, url: str, operations: Asked = None, *, headers: Mapping[str, str] | None = None
    ) -> Variant:
        """Let the API fetch an image; return its result in memory."""
        sink = MemorySink()
        return self.run(self.api.fetch_image(url, operations, sink, headers)).variant(sink)

    def fetch_to_file(
        self,
        url: str,
        operations: Asked,
        path: Target,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Metadata:
        """Let the API fetch an image; write its result to `path`, whole or not at all."""
        return self.run(self.api.fetch_image(url, operations, FileSink(path), headers)).metadata

    def download(self, result: Metadata | Variant | str, path: Target) -> Path:
        """Write a result that the API keeps (for 24 hours) to `path`, whole or not at all.

        The key is not sent along. With `validators_file` a file that is still right stays as it is.
        """
        self.run(self.api.download(result, FileSink(path)))
        return Path(path)

    def optimize_many(
        self,
        sources: Iterable[Source],
        operations: Asked | OperationsFor = None,
        *,
        concurrency: int | None = None,
        delay: float = DELAY,
        path: Callable[[Source], Target] | None = None,
        progress: Callable[[Item], object] | None = None,
    ) -> Iterator[Item]:
        """Work through many images, `concurrency` at a time; yield an `Item` for each when done.

        A text that begins with http:// or https:// is fetched, any other source is sent.
        `operations` may be a function that gives them for a source. Results are in memory, or
        written to what `path` gives for a source. One lane leaves `delay` seconds between its
        calls. `progress` is called with each item. A failure is its item's `error`, and does not
        stop the rest.
        """
        work = bulk.Work(operations, path)
        lanes = bulk.checked(sources, path, concurrency, delay) or self.config.concurrency
        row = bulk.Row(sources, self.sleep)

        def done(item: Item) -> Item:
            self.lane.row = row  # a caller who leaves ends what only waits
            return work.done(self, item)

        return bulk.in_threads(row, done, lanes, delay, progress)

    # Everything else

    def account(self) -> Account:
        """Return what is known of the account: the cheapest way to test a key."""
        return self.run(self.api.account())

    def webhooks(
        self,
        *,
        status: str | Sequence[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> list[Webhook]:
        """Return webhooks: those of a status, of a time, a page of them."""
        query = {"status": status, "start": start, "end": end, "offset": offset, "limit": limit}
        return self.run(self.api.webhooks(**query))

    def webhook(self, id: str) -> Webhook:
        """Return one webhook."""
        return self.run(self.api.webhook(id))

    def create_key(self, name: str) -> SubKey:
        """Make a sub-key; only an Enterprise account's first key may."""
        return self.run(self.api.create_key(name))

    def rename_key(self, key: str, name: str) -> SubKey:
        """Give a sub-key another name."""
        return self.run(self.api.rename_key(key, name))

    # The driver

    def run(self, flow: Flow[T]) -> T:
        """Carry out a flow in this thread."""
        return drive(flow, self.act)

    def act(self, step: Step) -> Any:
        """Do one step of a flow."""
        row: bulk.Row | None = getattr(self.lane, "row", None)
        if isinstance(step, Send):
            if row is not None:
                row.check()
            return self.transport.send(step.call, self.api.arrival)
        if isinstance(step, Sleep):
            sleep = row.sleep if row is not None else self.sleep or time.sleep
            return sleep(step.seconds)
        if isinstance(step, Wait):
            step.future.result()
            return None if row is None else row.check()
        return step.work()

    def close(self) -> None:
        """End all connections; a client that is used again opens new ones."""
        self.transport.close()
        self.close_state()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncOptidashClient(Client[AsyncTransport]):
    """The same methods as coroutines, for one event loop; see `OptidashClient`.

    Files are read and written in threads.
    """

    wire = AsyncTransport

    # Images

    async def upload(
        self,
        source: Source,
        operations: Asked = None,
        *,
        store: object = None,
        webhook: Mapping[str, object] | None = None,
        cdn: Mapping[str, object] | None = None,
    ) -> Metadata:
        """Send an image; see `OptidashClient.upload`."""
        more = {"store": store, "webhook": webhook, "cdn": cdn}
        return await self.run(self.api.upload(source, operations, **more))

    async def fetch(
        self,
        url: str,
        operations: Asked = None,
        *,
        headers: Mapping[str, str] | None = None,
        store: object = None,
        webhook: Mapping[str, object] | None = None,
        cdn: Mapping[str, object] | None = None,
    ) -> Metadata:
        """Let the API fetch an image; see `OptidashClient.fetch`."""
        more = {"headers": headers, "store": store, "webhook": webhook, "cdn": cdn}
        return await self.run(self.api.fetch(url, operations, **more))

    async def upload_to_bytes(self, source: Source, operations: Asked = None) -> Variant:
        """Send an image; return its result in memory."""
        sink = MemorySink()
        return (await self.run(self.api.upload_image(source, operations, sink))).variant(sink)

    async def upload_to_file(self, source: Source, operations: Asked, path: Target) -> Metadata:
        """Send an image; write its result to `path`, whole or not at all."""
        return (await self.run(self.api.upload_image(source, operations, FileSink(path)))).metadata

    async def fetch_to_bytes(
        self, url: str, operations: Asked = None, *, headers: Mapping[str, str] | None = None
    ) -> Variant:
        """Let the API fetch an image; return its result in memory."""
        sink = MemorySink()
        flow = self.api.fetch_image(url, operations, sink, headers)
        return (await self.run(flow)).variant(sink)

    async def fetch_to_file(
        self,
        url: str,
        operations: Asked,
        path: Target,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Metadata:
        """Let the API fetch an image; write its result to `path`, whole or not at all."""
        flow = self.api.fetch_image(url, operations, FileSink(path), headers)
        return (await self.run(flow)).metadata

    async def download(self, result: Metadata | Variant | str, path: Target) -> Path:
        """Write a result that the API keeps to `path`; see `OptidashClient.download`."""
        await self.run(self.api.download(result, FileSink(path)))
        return Path(path)

    def optimize_many(
        self,
        sources: Iterable[Source],
        operations: Asked | OperationsFor = None,
        *,
        concurrency: int | None = None,
        delay: float = DELAY,
        path: Callable[[Source], Target] | None = None,
        progress: Callable[[Item], object] | None = None,
    ) -> AsyncIterator[Item]:
        """Work through many images; see `OptidashClient.optimize_many`."""
        work = bulk.Work(operations, path)
        lanes = bulk.checked(sources, path, concurrency, delay) or self.config.concurrency
        sleep: Callable[[float], Awaitable[Any]] = self.sleep or asyncio.sleep
        return bulk.in_tasks(
            sources, lambda item: work.done_async(self, item), lanes, delay, sleep, progress
        )

    # Everything else

    async def account(self) -> Account:
        """Return what is known of the account: the cheapest way to test a key."""
        return await self.run(self.api.account())

    async def webhooks(
        self,
        *,
        status: str | Sequence[str] | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> list[Webhook]:
        """Return webhooks: those of a status, of a time, a page of them."""
        query = {"status": status, "start": start, "end": end, "offset": offset, "limit": limit}
        return await self.run(self.api.webhooks(**query))

    async def webhook(self, id: str) -> Webhook:
        """Return one webhook."""
        return await self.run(self.api.webhook(id))

    async def create_key(self, name: str) -> SubKey:
        """Make a sub-key; only an Enterprise account's first key may."""
        return await self.run(self.api.create_key(name))

    async def rename_key(self, key: str, name: str) -> SubKey:
        """Give a sub-key another name."""
        return await self.run(self.api.rename_key(key, name))

    # The driver

    async def run(self, flow: Flow[T]) -> T:
        """Carry out a flow on the running event loop."""
        return await drive_async(flow, self.act)

    async def act(self, step: Step) -> Any:
        """Do one step of a flow."""
        if isinstance(step, Send):
            return await self.transport.send(step.call, self.api.arrival)
        if isinstance(step, Sleep):
            return await (self.sleep or asyncio.sleep)(step.seconds)
        if isinstance(step, Wait):
            return await asyncio.wrap_future(step.future)
        return await in_thread(step.work)

    async def close(self) -> None:
        """End all connections; a client that is used again opens new ones."""
        await self.transport.close()
        await in_thread(self.close_state)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()
