"""From the facts of a request to an answer: the one place where adapters meet the core."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any, BinaryIO

from cachetools import LRUCache

from optidash_integrations.access import Access
from optidash_integrations.agreements import Agreements
from optidash_integrations.cache.entry import Entry
from optidash_integrations.errors import OptidashError
from optidash_integrations.exchange import Answer, FileBody, Request
from optidash_integrations.flows import Do, Flow, run, run_async
from optidash_integrations.formats import AVIF, BY_NAME, GIF, MOVING, Format
from optidash_integrations.interception import Interception
from optidash_integrations.invalidation import Purged
from optidash_integrations.negotiation import (
    Accepted,
    accepted,
    base_format,
    chosen_format,
    may_keep,
)
from optidash_integrations.operations import Operations
from optidash_integrations.paths import Paths
from optidash_integrations.processors import ApiProcessor, Processor, choose
from optidash_integrations.ready import ReadyAnswers
from optidash_integrations.records import SourceRecord, refusal_key, variant_key
from optidash_integrations.settings import MUTABLE, VERSIONED, Settings
from optidash_integrations.stats import HITS, Counters, Stats
from optidash_integrations.store import Store, kind_of
from optidash_integrations.urls import ImageQuery
from optidash_integrations.wishes import NOTHING_ASKED, Choice, Wish
from optidash_integrations.workshop import Workshop

logger = logging.getLogger(__name__)

SYNC_WAITERS = 4
"""How many threads of a process may wait for a first variant at a time."""

IO_THREADS = 4
LONGEST_PRIVATE = 3600
HELD_INPUTS = 4
"""Bodies held for processing share this many times `max_input_bytes`."""


class Service:
    """Everything that one set of settings shares in a process.

    `processor` and `store` take the place of those that the settings name; `clock` gives seconds
    since the epoch, `monotonic` seconds that only ever grow. After a fork the child begins anew:
    threads, locks and memory are its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        processor: Processor | None = None,
        store: Store | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.monotonic = monotonic
        self.processor = processor or choose(settings)
        self.given_store = store
        self.paths = Paths(settings.paths)
        self.public_paths = Paths(settings.public_paths)
        self.base = Operations.from_dict({"optimize": {"compression": settings.compression}})
        self.begin()
        LIVING.add(self)

    def begin(self) -> None:
        """Make all that a process must not share with its parent; nothing starts before its use."""
        self.store = self.given_store or Store.of(self.settings)
        self.store.invalidation.followers = [self.forget]
        self.counters = Counters()
        self.workshop = Workshop(
            self.settings,
            self.processor,
            self.store,
            counters=self.counters,
            clock=self.monotonic,
        )
        self.access = Access(self.settings, clock=self.clock)
        self.waiters = threading.BoundedSemaphore(SYNC_WAITERS)
        self.lock = threading.Lock()
        self.held = 0
        self.io: ThreadPoolExecutor | None = None
        self.agreements = Agreements(self.settings.fresh_for, self.clock)
        self.choices: LRUCache[object, Choice] = LRUCache(4_096)
        self.ready = ReadyAnswers(self.store.quick, self.counters.served, self.clock)
        self.noted: LRUCache[str, bool] = LRUCache(1_000)

    def close(self) -> None:
        """Drop the work that waits; running work ends with the process."""
        self.workshop.close()
        self.access.close()
        if self.io is not None:
            self.io.shutdown(wait=False, cancel_futures=True)
        close = getattr(self.processor, "close", None)
        if close is not None:
            close()

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names of the formats to work on; none where the processor can't start."""
        try:
            return self.processor.reads
        except OptidashError as error:
            logger.error("images are served as they are: %s", error)
            return frozenset()

    # Drivers

    def run(self, flow: Flow[Any]) -> Any:
        """Carry out a flow in this thread."""
        return run(flow, self.waiters)

    async def run_async(self, flow: Flow[Any]) -> Any:
        """Carry out a flow on the running event loop."""
        if self.io is None:
            self.io = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="optidash-io")
        return await run_async(flow, self.io)

    # Requests

    def intercept(self, request: Request) -> Interception | None:
        """Return what accompanies a request to the inner app, or None where it is not ours."""
        if request.method not in ("GET", "HEAD"):
            return None
        public = self.public_paths.has(request.path, request.raw_path)
        if not public and self.paths and not self.paths.has(request.path, request.raw_path):
            return None
        return Interception(self, request, public=public)

    def wish(self, request: Request, *, intercepted: bool) -> Wish:
        """Read what a request asks for.

        At the endpoint a wrong option raises `QueryError`; an intercepted request loses its
        options, and the sentence goes into its Cache-Status.
        """
        accept = accepted(request.headers.get("accept"))
        if not request.query:
            return Wish(accept, NOTHING_ASKED)
        try:
            query = ImageQuery.parse(request.query, strict=not intercepted)
            asked = Operations.from_query(
                query.options, limits=self.settings.limits, aliases=not intercepted
            )
            signed = self.access.is_signed(request, query, intercepted=intercepted)
        except OptidashError as error:
            if not intercepted:
                raise
            self.note(request.path, error)
            return Wish(accept, NOTHING_ASKED, detail=str(error))
        expires = float(query.expires) if signed and query.expires else None
        options = asked if query.options else NOTHING_ASKED
        return Wish(accept, options, signed, query.version, expires, download=query.download)

    def choose(self, wish: Wish, record: SourceRecord) -> Flow[Choice]:
        """Return the operations, format and key for what a request asks of a source."""
        choice = yield from self.allowed(wish, record)
        return (yield from self.timely(wish, record, choice))

    def timely(self, wish: Wish, record: SourceRecord, choice: Choice) -> Flow[Choice]:
        """Return a choice; another one for now where AVIF would take more than `avif_budget`."""
        budget = self.settings.avif_budget
        if budget is None or choice.output is not AVIF or not choice.negotiated:
            return choice
        expected = self.workshop.pace.expected(
            AVIF.media_type, choice.operations, record, self.settings.limits
        )
        sooner = self.output(wish.accept, record, without=AVIF)
        if expected <= budget or sooner is AVIF:
            return choice
        entry, _ = yield from self.found(choice, record)
        if entry is not None:
            return choice
        now = self.choice_of(choice.operations, sooner, record, negotiated=True)
        return replace(now, note=choice.note, later=choice)

    def is_to_begin(self, choice: Choice) -> bool:
        """Say whether what a choice leaves for later has to be begun: that takes the source."""
        return choice.later is not None and not self.workshop.is_under_way(choice.later.key)

    def allowed(self, wish: Wish, record: SourceRecord) -> Flow[Choice]:
        if wish.asked is NOTHING_ASKED:
            return self.plain_choice(wish, record)
        exact = self.chosen(wish, record, wish.asked)
        allowed = self.access.policy.decide(
            record.digest, wish.asked, signed=wish.signed, is_stored=lambda _: False
        )
        if allowed == wish.asked:
            return exact
        if self.settings.transforms == "bounded":
            entry, _ = yield from self.found(exact, record)
            if entry is not None:
                return exact
        return replace(self.chosen(wish, record, allowed), note=SNAPPED)

    def plain_choice(self, wish: Wish, record: SourceRecord) -> Choice:
        memo = (record.digest, wish.accept)
        with self.lock:
            choice = self.choices.get(memo)
        if choice is None:
            choice = self.chosen(wish, record, NOTHING_ASKED)
            with self.lock:
                self.choices[memo] = choice
        return choice

    def chosen(self, wish: Wish, record: SourceRecord, asked: Operations) -> Choice:
        operations = self.base | asked
        explicit = self.output_of(operations)
        negotiated = explicit is None
        output = explicit or self.output(wish.accept, record)
        return self.choice_of(operations, output, record, negotiated=negotiated)

    def choice_of(
        self, operations: Operations, output: Format, record: SourceRecord, *, negotiated: bool
    ) -> Choice:
        keepable = output is record.format or (negotiated and may_keep(record.format, output))
        revision = self.processor.revision
        key = variant_key(record.digest, operations.fingerprint, output.name, revision)
        return Choice(key, operations, output, negotiated, keepable)

    def output(
        self, accept: Accepted | None, record: SourceRecord, *, without: Format | None = None
    ) -> Format:
        """Return the format that negotiation gives, of those that the processor writes."""
        if record.frames > 1:
            return self.moving_output(accept, record)
        writes = self.processor.formats
        offered = tuple(f for f in self.settings.offered if f.name in writes and f is not without)
        wanted = chosen_format(accept, offered, record.format, alpha=record.alpha)
        if wanted.name in writes:
            return wanted
        return base_format(record.format, alpha=record.alpha)

    def moving_output(self, accept: Accepted | None, record: SourceRecord) -> Format:
        """Return the format for an animation; one that can't be written leaves it as it is."""
        offered = tuple(f for f in self.settings.offered if f in MOVING)
        wanted = chosen_format(accept, offered, record.format, alpha=record.alpha)
        return wanted if wanted in (*MOVING, record.format) else GIF

    def lifetime(self, wish: Wish, record: SourceRecord | None) -> str:
        """Return the Cache-Control value where the app sets none."""
        if wish.expires is not None:
            left = max(0, int(wish.expires - self.clock()))
            return f"private, max-age={min(LONGEST_PRIVATE, left)}"
        if self.settings.cache_control is not None:
            return self.settings.cache_control
        versioned = record is not None and wish.version == record.version
        return VERSIONED if versioned else MUTABLE

    # The cache

    def look_up(self, choice: Choice, record: SourceRecord) -> Flow[Entry | None]:
        """Return the stored variant or decision, or the note that the source is refused.

        A variant counts as a hit.
        """
        entry, tier = yield from self.found(choice, record)
        if entry is not None and kind_of(entry.meta) == "variant":
            self.counters.served(HITS[tier], entry.size, record.bytes)
        return entry

    def found(self, choice: Choice, record: SourceRecord) -> Flow[tuple[Entry | None, str]]:
        """Return what is stored, and the kind of tier that had it."""
        entry = self.store.quick(choice.key)
        if entry is not None:
            return entry, "memory"
        below: tuple[Entry | None, str] = yield Do(lambda: self.look_below(choice.key, record))
        return below

    def look_below(self, key: str, record: SourceRecord) -> tuple[Entry | None, str]:
        entry, tier = self.store.find(key)
        if entry is not None:
            return entry, tier
        return self.store.find(refusal_key(record.digest, self.processor.revision))

    # Forgetting

    def purge(self, name: str) -> Purged:
        """Forget a source in all tiers: its variants, records and refusals.

        `name` is a source's own, or a path: then it counts on every host, with all its queries.
        Other processes follow within `fresh_for`.
        """
        return self.store.purge(name)

    def purge_prefix(self, prefix: str) -> Purged:
        """Forget all sources whose names start so."""
        return self.store.purge_prefix(prefix)

    def clear(self) -> None:
        """Forget everything that is cached; what the API is kept account of stays."""
        self.store.clear()

    def forget(self) -> None:
        """Forget what is kept beside the tiers; called after every purge, of any process."""
        self.agreements.clear()
        with self.lock:
            self.choices.clear()
        self.ready.clear()

    def stats(self) -> Stats:
        """Return what this service has done in this process, and what it is doing now."""
        pool, processor = self.workshop.pool, self.processor
        api = processor.stats() if isinstance(processor, ApiProcessor) else None
        return self.counters.stats(waiting=pool.waiting, running=pool.running, api=api)

    def opened(self, answer: Answer) -> Flow[Answer | None]:
        """Open the file that an answer sends; None where it is gone, or another one by now."""
        body = answer.body
        if not isinstance(body, FileBody) or body.file is not None:
            return answer
        try:
            file: BinaryIO = yield Do(lambda: body.path.open("rb"))
        except OSError:
            return None
        if os.fstat(file.fileno()).st_size != body.total:
            file.close()
            return None
        settings = self.settings
        if settings.send_file is not None and settings.cache_dir is not None:
            handed = settings.send_file.handed_over(answer, settings.cache_dir)
            if handed is not answer:
                file.close()
                return handed
        return replace(answer, body=replace(body, file=file))

    def remember_refusal(self, name: str, validator: str, error: OptidashError) -> None:
        """Keep the note that a name's present bytes are not an image to work on."""
        self.store.remember_refusal(name, validator, error)

    # Bodies in memory

    def hold(self, size: int) -> bool:
        """Take `size` bytes of the memory for bodies; False where there is not that much left."""
        with self.lock:
            if self.held and self.held + size > HELD_INPUTS * self.settings.max_input_bytes:
                return False
            self.held += size
            return True

    def let_go(self, size: int) -> None:
        """Give back what `hold` took."""
        with self.lock:
            self.held -= size

    def note(self, name: str, error: OptidashError) -> None:
        """Log once why an image is served without what was asked or could be done."""
        line = f"{name}: {error}"
        with self.lock:
            known = line in self.noted
            self.noted[line] = True
        if not known:
            logger.warning("served as it is: %s", line)

    def pass_over(self, error: Exception) -> None:
        """Log what failed while the inner answer goes through, or raise it in development."""
        if isinstance(error, OptidashError) and self.settings.on_error == "raise":
            raise error
        logger.error("an image is passed on as it is", exc_info=error)

    def output_of(self, operations: Operations) -> Format | None:
        """Return the format that operations name, or None where they leave it open."""
        name = operations.output.format if operations.output else None
        return None if name in (None, "auto") else BY_NAME[str(name)]

    def own_output(self, record: SourceRecord) -> Format:
        """Return the format that a source is stored in: its own, where that is written here."""
        if record.format.name in self.processor.formats:
            return record.format
        return base_format(record.format, alpha=record.alpha)


SNAPPED = "unsigned options were changed to what the transforms setting allows"


def service_for(settings: Settings) -> Service:
    """Return the service of these settings; equal settings share one in a process."""
    with SERVICES_LOCK:
        service = SERVICES.get(settings)
        if service is None:
            service = SERVICES[settings] = Service(settings)
        return service


SERVICES: dict[Settings, Service] = {}
SERVICES_LOCK = threading.Lock()
INHERITED: list[Store] = []
LIVING: weakref.WeakSet[Service] = weakref.WeakSet()


def begin_anew() -> None:
    global SERVICES_LOCK
    SERVICES_LOCK = threading.Lock()  # another thread of the parent may have held it
    for service in tuple(LIVING):
        INHERITED.append(service.store)  # its connections must not be closed here
        service.begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=begin_anew)
