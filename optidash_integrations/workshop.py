"""Where variants are made: once for all who ask, in a bounded pool, and not again at once after a
failure.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from optidash_integrations.cache.entry import Entry
from optidash_integrations.errors import (
    AnimatedImageError,
    BusyError,
    DeadlineError,
    ImageError,
    OptidashError,
    OptionError,
    ProcessorError,
    SourceChangedError,
)
from optidash_integrations.flows import Flow, Wait
from optidash_integrations.formats import Format
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.pool import Job, Pool
from optidash_integrations.processors import Processor
from optidash_integrations.records import SourceRecord, digest_of, refusal_key
from optidash_integrations.settings import Settings
from optidash_integrations.store import Store
from optidash_integrations.variants import ImageData, Variant

logger = logging.getLogger(__name__)

FIRST_REST = 30.0
LONGEST_REST = 600.0


@dataclass(frozen=True, slots=True)
class Task:
    """One variant to make. `keepable`: the source may stand in where the result is not smaller.

    `limits` take the place of the settings'.
    """

    key: str
    name: str
    record: SourceRecord
    operations: Operations
    output: Format
    keepable: bool
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A stored result, and whether this caller shared it with an earlier one."""

    entry: Entry
    collapsed: bool


class Workshop:
    """Makes variants. `clock` gives seconds that only ever grow."""

    def __init__(
        self,
        settings: Settings,
        processor: Processor,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.processor = processor
        self.store = store
        self.clock = clock
        self.pool = Pool(settings.threads, settings.queue, clock=clock)
        self.lock = threading.Lock()
        self.jobs: dict[str, Job[Entry]] = {}
        self.resting: LRUCache[str, tuple[float, float]] = LRUCache(10_000)

    def make(
        self, task: Task, data: ImageData, seconds: float | None, done: Callable[[], None]
    ) -> Flow[Made]:
        """Return the variant as soon as it is there, at most `seconds` from now.

        `done` is called once, when the source's bytes are not needed any more. Raises
        `DeadlineError` (the work goes on), `QueueFullError`, or what the processor raises.
        """
        try:
            self.check_rest(task.key)
            patient = seconds is None or (0 < seconds >= self.pool.expected_wait())
            job, collapsed = self.begin(task, data, waited=patient, done=done)
        except BaseException:
            done()
            raise
        if collapsed:
            done()
        if not patient:
            raise DeadlineError("it would not be ready in time")
        entry = yield Wait(job.future, seconds)
        return Made(entry, collapsed)

    def make_once(self, task: Task, data: ImageData) -> Flow[Entry]:
        """Return a result that nobody else will ask for, as of an upload, however long it takes."""
        job = self.pool.submit(lambda: self.result(task, data))
        entry: Entry = yield Wait(job.future, None)
        return entry

    def begin(
        self, task: Task, data: ImageData, *, waited: bool, done: Callable[[], None]
    ) -> tuple[Job[Entry], bool]:
        with self.lock:
            job = self.jobs.get(task.key)
            if job is not None:
                if waited:
                    self.pool.promote(job)
                return job, True
            stored = self.store.quick(task.key)
            if stored is not None:  # made since this caller looked
                return Job.done(stored), True
            job = self.pool.submit(lambda: self.work(task, data), waited=waited)
            self.jobs[task.key] = job
        job.future.add_done_callback(lambda _: self.finished(task.key, done))
        return job, False

    def finished(self, key: str, done: Callable[[], None]) -> None:
        with self.lock:
            self.jobs.pop(key, None)
        done()

    def work(self, task: Task, data: ImageData) -> Entry:
        """Make a variant and store it, or the decision to keep the source; runs in the pool."""
        try:
            entry = self.result(task, data)
        except ImageError as error:
            self.refuse(task, error)
            raise
        except (OptionError, BusyError):
            raise
        except OptidashError as error:
            self.rest(task, error)
            raise
        except Exception as error:
            self.rest(task, error)
            raise ProcessorError(f"{type(error).__name__}: {error}") from error
        self.store.put(task.key, entry)
        return entry

    def result(self, task: Task, data: ImageData) -> Entry:
        if isinstance(data, Path):
            data = unchanged(data, task.record)
        try:
            variant = self.processor.process(
                data, task.operations, task.output, task.limits or self.settings.limits
            )
        except AnimatedImageError as error:
            return kept(task, str(error))
        if task.keepable and not is_better(variant, task.record):
            return kept(task, "the source is smaller")
        meta = {
            "kind": "variant",
            "type": variant.content_type,
            "width": variant.width,
            "height": variant.height,
        }
        return Entry(meta, variant.content, source=task.record.digest)

    def refuse(self, task: Task, error: ImageError) -> None:
        """Remember that the source is to blame, until its bytes or the processor change."""
        logger.warning("%s is left as it is: %s", task.name, error)
        meta = {"kind": "refused", "status": error.public_status, "detail": str(error)}
        key = refusal_key(task.record.digest, self.processor.revision)
        self.store.put(key, Entry(meta, source=task.record.digest))

    def rest(self, task: Task, error: Exception) -> None:
        """Leave this variant alone for a while: 30 s at first, doubling to 10 minutes."""
        with self.lock:
            _, last = self.resting.get(task.key, (0.0, 0.0))
            seconds = min(last * 2, LONGEST_REST) if last else FIRST_REST
            self.resting[task.key] = (self.clock() + seconds, seconds)
        logger.warning(
            "%s could not be processed, next try in %d s: %s: %s",
            task.name,
            seconds,
            type(error).__name__,
            error,
        )

    def check_rest(self, key: str) -> None:
        with self.lock:
            until, _ = self.resting.get(key, (0.0, 0.0))
        if self.clock() < until:
            raise ProcessorError("it failed a short while ago")

    def close(self) -> None:
        """Drop what waits; running work ends with the process."""
        self.pool.close()


def unchanged(path: Path, record: SourceRecord) -> bytes:
    """Read a file that was hashed before; raises `SourceChangedError` where it has changed."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceChangedError(f"the source went away: {error.strerror}") from error
    if len(data) != record.bytes or digest_of(data) != record.digest:
        raise SourceChangedError("the source changed while it waited to be worked on")
    return data


def kept(task: Task, why: str) -> Entry:
    record = task.record
    meta = {
        "kind": "kept",
        "detail": why,
        "type": record.format.media_type,
        "width": record.width,
        "height": record.height,
    }
    return Entry(meta, source=record.digest)


def is_better(variant: Variant, record: SourceRecord) -> bool:
    """Say whether a variant is worth sending in place of its source."""
    resized = (variant.width, variant.height) != (record.width, record.height)
    return resized or len(variant.content) < record.bytes
