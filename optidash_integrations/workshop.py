"""Where variants are made: once for all who ask, in this process and others, in a bounded pool, and
not again at once after a failure.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from optidash_integrations.cache.entry import Entry
from optidash_integrations.cache.tiered import TieredCache
from optidash_integrations.errors import (
    AnimatedImageError,
    BrokenImageError,
    BusyError,
    DeadlineError,
    ImageError,
    ImageTooLargeError,
    OptidashError,
    OptionError,
    ProcessorError,
    QueueFullError,
    ReadOnlyError,
    SourceChangedError,
    UnsupportedImageError,
)
from optidash_integrations.flows import Do, Flow, Wait
from optidash_integrations.formats import Format
from optidash_integrations.leases import Lease, Leases
from optidash_integrations.limits import Limits
from optidash_integrations.markers import Markers
from optidash_integrations.operations import Operations
from optidash_integrations.pace import Pace
from optidash_integrations.pool import Aside, Job, Pool, Slots
from optidash_integrations.processors import ApiProcessor, Processor
from optidash_integrations.records import SourceRecord, digest_of, identify, refusal_key
from optidash_integrations.settings import Settings
from optidash_integrations.stats import COALESCED, IN, MISSES, Counters
from optidash_integrations.store import Store
from optidash_integrations.variants import ImageData, Variant

logger = logging.getLogger(__name__)

FIRST_REST = 30.0
LONGEST_REST = 600.0

# Seconds between two looks at what another process works on; the last one goes on.
LOOKS_AT_FILE = (0.005, 0.01, 0.02)
LOOKS_AT_REDIS = (0.01, 0.02, 0.05, 0.1)


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
    """Makes variants.

    What another process works on is set aside, and holds no thread of the pool. Where the work is
    done in this process and not by the API, all processes of a host that share a cache folder do
    as much at a time as the setting `workers` says. `clock` gives seconds that only ever grow,
    `now` nanoseconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        processor: Processor,
        store: Store,
        *,
        leases: Leases | None = None,
        counters: Counters | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.settings = settings
        self.processor = processor
        self.store = store
        self.counters = counters or Counters()
        self.clock = clock
        self.now = now
        self.pool = Pool(settings.threads, settings.queue, clock=clock)
        self.leases = leases or Leases.of(store)
        self.beside = TieredCache(*(t for t in store.tiers.tiers if t is not self.leases.tier))
        is_api = isinstance(processor, ApiProcessor)
        self.slots = Slots(None if is_api else self.leases.file, settings.threads)
        self.markers = Markers(None if is_api else self.leases.file)
        self.lock = threading.Lock()
        self.jobs: dict[str, Job[Entry]] = {}
        self.aside: dict[str, Job[Entry]] = {}
        self.closed = False
        self.pace = Pace()
        self.missed: LRUCache[str, bool] = LRUCache(1_000)
        self.resting: LRUCache[str, tuple[float, float]] = LRUCache(10_000)
        self.stamps: LRUCache[Path, tuple[Stamp, str]] = LRUCache(1_000)

    def identify(self, data: ImageData, validator: str) -> SourceRecord:
        """Read a source's head and hash its bytes; see `records.identify`."""
        before = stamp_of(data, self.now())
        with self.counters.timed("probe"):
            record = identify(data, self.processor, self.settings.limits, validator)
        if isinstance(data, Path) and before is not None and before == stamp_of(data, self.now()):
            with self.lock:
                self.stamps[data] = (before, record.digest)
        return record

    def make(
        self,
        task: Task,
        data: ImageData,
        seconds: float | None,
        done: Callable[[], None],
        meanwhile: Callable[[], None] | None = None,
    ) -> Flow[Made]:
        """Return the variant as soon as it is there, at most `seconds` from now.

        `done` is called once, when the source's bytes are not needed any more, `meanwhile` while
        the work goes on. Raises `DeadlineError` (the work goes on), `QueueFullError`, or what the
        processor raises.
        """
        try:
            self.check_allowed(task)
            self.check_rest(task.key)
            patient = seconds is None or (0 < seconds >= self.pool.expected_wait())
            job, collapsed = self.begin(task, data, waited=patient, done=done)
        except BaseException:
            done()
            raise
        if collapsed:
            self.counters.add(COALESCED)
            done()
        if not patient:
            raise DeadlineError("it would not be ready in time")
        if meanwhile is not None:
            yield Do(meanwhile)
        entry = yield Wait(job.future, seconds)
        return Made(entry, collapsed or job.is_shared)

    def make_once(self, task: Task, data: ImageData) -> Flow[Entry]:
        """Return a result that nobody else will ask for, as of an upload, however long it takes."""
        self.check_allowed(task)
        job: Job[Entry] = self.pool.submit(lambda: self.result(task, data))
        entry: Entry = yield Wait(job.future, None)
        return entry

    def begin_behind(self, task: Task, data: ImageData, done: Callable[[], None]) -> bool:
        """Begin a variant that nobody waits for, unless it is being made or rests; say whether it
        is being made now.

        `done` is called once, when the source's bytes are not needed any more.
        """
        try:
            self.check_allowed(task)
            self.check_rest(task.key)
            job, collapsed = self.begin(task, data, waited=False, done=done)
        except OptidashError as error:
            logger.info("%s is not made behind: %s", task.name, error)
            done()
            return False
        if collapsed:
            done()
        return not job.future.done()

    def is_being_made(self, key: str) -> bool:
        """Say whether a variant is being made."""
        with self.lock:
            return key in self.jobs

    def is_under_way(self, key: str) -> bool:
        """Say whether a variant is being made, or is not to be for a while."""
        with self.lock:
            until, _ = self.resting.get(key, (0.0, 0.0))
            return key in self.jobs or self.clock() < until

    def check_allowed(self, task: Task) -> None:
        """Raise ReadOnlyError where nothing is to be made; the log names each variant once."""
        if not self.settings.read_only:
            return
        what = f"variant {task.key} of {task.name} ({task.output.name}) is not there"
        with self.lock:
            known = what in self.missed
            self.missed[what] = True
        if not known:
            logger.warning("%s, and read_only makes none", what)
        raise ReadOnlyError(f"read_only: {what}")

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
            job = self.pool.submit(lambda: self.led(task, data), waited=waited)
            self.jobs[task.key] = job
        job.future.add_done_callback(lambda _: self.finished(task.key, done))
        return job, False

    def finished(self, key: str, done: Callable[[], None]) -> None:
        with self.lock:
            self.jobs.pop(key, None)
        done()

    def led(self, task: Task, data: ImageData) -> Entry | Aside:
        """Work on a variant unless another process does; runs in the pool."""
        if (lease := self.leases.take(task.key)) is None:
            return Aside(lambda job: self.set_aside(task, job))
        try:
            return self.found(task, lease) or self.work(task, data, lease)
        finally:
            self.leases.release(lease)

    def found(self, task: Task, lease: Lease) -> Entry | None:
        """Return what another process has stored since this caller looked."""
        if self.leases.is_alone:
            return None
        tiers = self.store if lease.may_be_there else self.beside
        entry = tiers.get(task.key)
        if entry is not None:
            with self.lock:
                if job := self.jobs.get(task.key):
                    job.is_shared = True
        return entry

    def work(self, task: Task, data: ImageData, lease: Lease) -> Entry:
        """Make a variant and store it, or the decision to keep the source."""
        self.counters.add(MISSES)
        try:
            entry = self.result(task, data)
        except ImageError as error:
            self.refuse(task, error)
            raise
        except (OptionError, BusyError):
            raise
        except Exception as error:
            self.rest(task, error)
            if isinstance(error, OptidashError):
                raise
            raise ProcessorError(f"{type(error).__name__}: {error}") from error
        with self.counters.timed("store"):
            return self.keep(task.key, entry, lease)

    def keep(self, key: str, entry: Entry, lease: Lease) -> Entry:
        """Store a result; return the one that counts, which somebody newer may have stored."""
        if lease.number is None:
            self.store.put(key, entry)
            return entry
        tiers = self.store.tiers
        purge = tiers.purge
        if not self.leases.put(lease, entry):
            return self.store.get(key) or entry
        self.beside.put(key, entry)
        if purge is not tiers.purge:  # something was deleted meanwhile, perhaps this
            self.beside.delete(key)
        return entry

    # Work of other processes

    def set_aside(self, task: Task, job: Job[Entry]) -> None:
        """Look now and then whether another process is done, in place of a thread that waits."""
        with self.lock:
            if self.closed:
                raise QueueFullError("the application is shutting down")
            self.aside[task.key] = job
        seconds = LOOKS_AT_FILE if self.leases.shared is None else LOOKS_AT_REDIS
        looks = itertools.chain(seconds, itertools.repeat(seconds[-1]))
        try:
            self.leases.rounds.add(lambda: self.visited(task, job, looks), next(looks))
        except RuntimeError as error:  # the host has no thread left
            if self.taken_back(task.key):
                raise QueueFullError(str(error)) from error

    def visited(self, task: Task, job: Job[Entry], looks: Iterator[float]) -> float | None:
        """Settle a job, or let it go on where nobody works on it; return when to look again."""
        try:
            if (lease := self.leases.take(task.key)) is None:
                return next(looks)
            try:
                entry = self.found(task, lease) or self.check_refusal(task)
            finally:
                self.leases.release(lease)
        except Exception as error:  # noqa: BLE001  it belongs to whoever waits
            if self.taken_back(task.key):
                job.future.set_exception(error)
            return None
        if self.taken_back(task.key):
            if entry is None:
                self.pool.resume(job)
            else:
                job.future.set_result(entry)
        return None

    def check_refusal(self, task: Task) -> Entry | None:
        """Return None, or raise the error that another process has stored for this source."""
        entry = self.store.get(refusal_key(task.record.digest, self.processor.revision))
        if entry is not None:
            raise refusal_of(entry.meta)
        return None

    def taken_back(self, key: str) -> bool:
        """Say whether a job is still aside, and end that."""
        with self.lock:
            return self.aside.pop(key, None) is not None

    def result(self, task: Task, data: ImageData) -> Entry:
        if isinstance(data, Path):
            with self.lock:
                hashed = self.stamps.get(data)
            data = unchanged(data, task.record, hashed, self.now)
        try:
            limits = task.limits or self.settings.limits
            marker = self.markers.set(task.record.digest, task.key)
            with self.slots.one(), marker, self.counters.timed("process"):
                began = self.clock()
                variant = self.processor.process(data, task.operations, task.output, limits)
                taken = self.clock() - began
        except AnimatedImageError as error:
            return kept(task, str(error))
        self.pace.learn(variant.content_type, variant.width * variant.height, taken)
        self.counters.add(IN, task.record.bytes)
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
        self.slots.close()
        with self.lock:
            self.closed = True
            dropped, self.aside = self.aside, {}
        for job in dropped.values():
            job.future.set_exception(QueueFullError("the application is shutting down"))
        self.markers.close()
        self.leases.close()


Stamp = tuple[int, ...]

# Timestamps move in steps: one this near to the present may hide a second change.
SETTLED_NANOSECONDS = 2_000_000_000


def stamp_of(data: ImageData, now: int) -> Stamp | None:
    """Return what changes with every change of a file; None where that is not sure, or there is
    no file. `now` is in nanoseconds since 1970.
    """
    if isinstance(data, bytes):
        return None
    try:
        found = data.stat()
    except OSError:
        return None
    if now - max(found.st_mtime_ns, found.st_ctime_ns) < SETTLED_NANOSECONDS:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def unchanged(
    path: Path, record: SourceRecord, hashed: tuple[Stamp, str] | None, now: Callable[[], int]
) -> bytes:
    """Read a file that was hashed before; raises `SourceChangedError` where it has changed.

    `hashed` is the stamp that it had then, with its digest: with the same stamp it is not hashed
    again.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceChangedError(f"the source went away: {error.strerror}") from error
    is_known = hashed is not None and hashed == (stamp_of(path, now()), record.digest)
    if len(data) != record.bytes or not (is_known or digest_of(data) == record.digest):
        raise SourceChangedError("the source changed while it waited to be worked on")
    return data


def refusal_of(meta: Mapping[str, object]) -> ImageError:
    """Return the error that a stored note tells of, as it was raised."""
    kinds = {kind.public_status: kind for kind in (ImageTooLargeError, UnsupportedImageError)}
    status = meta.get("status")
    kind = kinds.get(status, BrokenImageError) if isinstance(status, int) else BrokenImageError
    return kind(str(meta.get("detail")))


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
