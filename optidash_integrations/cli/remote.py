"""A batch that goes through the API: many calls at a time, and patience with its rate limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from optidash_integrations.bulk import DELAY
from optidash_integrations.cli.account import client_for, refusal
from optidash_integrations.cli.batch import ANIMATED, Batch, Job, Result, Work, failed
from optidash_integrations.cli.files import Original
from optidash_integrations.cli.targets import StoppedError, Targets, Writer
from optidash_integrations.errors import (
    ApiError,
    AuthenticationError,
    BudgetExceededError,
    InvalidOperationsError,
    OptionError,
    ProcessorError,
    QuotaExceededError,
)
from optidash_integrations.processors import asked_of_api

if TYPE_CHECKING:
    from optidash_integrations.bulk import Item
    from optidash_integrations.client import OptidashClient
    from optidash_integrations.processors import ApiProcessor
    from optidash_integrations.settings import Settings

LONGEST_WAIT = 3600.0
"""Seconds that a call waits for the rate limit; the API's own period is 900."""

TOLD_SECONDS = 5.0
"""A wait that is as long as this is told of."""

# After one of these no other call can do better.
FINAL = (AuthenticationError, QuotaExceededError, BudgetExceededError)


@dataclass(frozen=True)
class Way:
    """How the API is called: `delay` seconds between one lane's calls; `tell` hears of waits."""

    processor: ApiProcessor
    settings: Settings
    delay: float = DELAY
    tell: Callable[[str], object] = print


class Refusals:
    """A gate that is shut for good by an answer that holds for all images."""

    def __init__(self) -> None:
        self.final: ApiError | None = None

    def enter(self) -> None:
        """Let a call through, or raise what shut the gate."""
        if self.final is not None:
            raise self.final

    def heard(self, error: ApiError | None) -> None:
        """Take note of how a call ended."""
        if isinstance(error, FINAL):
            self.final = error


class ApiBatch(Batch):
    """Works through originals in `jobs` lanes of the API; an animated image is kept.

    Files are looked at and written one at a time; only calls happen side by side.
    """

    def __init__(self, work: Work, targets: Targets, writer: Writer, way: Way) -> None:
        super().__init__(work, targets, writer)
        self.way = way
        self.sent: dict[Path, Job] = {}
        self.refusals = Refusals()
        self.stopped = threading.Event()
        self.arrived: SimpleQueue[Result | BaseException] = SimpleQueue()
        self.lock = threading.Lock()
        self.told_until = 0.0

    def run(
        self, originals: Sequence[Original], jobs: int, done: Callable[[Result], None]
    ) -> Generator[Result]:
        """Yield results in the originals' order, see `Batch.run`."""
        settle = self.settler(done)
        lanes = max(1, min(jobs, len(originals)))
        relay = threading.Thread(
            target=self.relay, args=(originals, lanes, settle), name="optidash-cli", daemon=True
        )
        relay.start()
        try:
            yield from self.in_order(originals)
            relay.join()
        finally:
            self.stopped.set()
            self.writer.close()

    def settler(self, done: Callable[[Result], None]) -> Callable[[Result], None]:
        def settle(result: Result) -> None:
            done(result)
            self.arrived.put(result)

        return settle

    def in_order(self, originals: Sequence[Original]) -> Iterator[Result]:
        waiting: dict[Original, Result] = {}
        for original in originals:
            while original not in waiting:
                found = self.arrived.get()
                if isinstance(found, BaseException):
                    raise found
                waiting[found.original] = found
            yield waiting.pop(original)

    def relay(
        self, originals: Sequence[Original], lanes: int, settle: Callable[[Result], None]
    ) -> None:
        """Make all calls, in a thread of its own: the one that waits can be interrupted."""
        try:
            with self.client(lanes) as client:
                for item in client.optimize_many(
                    self.sources(originals, settle),
                    self.asked,
                    concurrency=lanes,
                    delay=self.way.delay,
                ):
                    settle(self.arrival(item))
        except BaseException as error:  # noqa: BLE001  whoever waits raises it
            self.arrived.put(error)

    def client(self, lanes: int) -> OptidashClient:
        way = self.way
        return client_for(
            way.settings,
            way.processor.ledger,
            max_wait=LONGEST_WAIT,
            max_bytes=way.settings.max_input_bytes,
            concurrency=lanes,
            gate=self.refusals,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        """Wait, unless the work is stopped: then StoppedError is raised."""
        if seconds >= TOLD_SECONDS:
            self.tell_of(seconds)
        if self.stopped.wait(seconds):
            raise StoppedError

    def tell_of(self, seconds: float) -> None:
        """Tell of a wait, once for all lanes that wait at the same time."""
        with self.lock:
            now = time.monotonic()
            if now >= self.told_until:
                self.told_until = now + seconds
                self.way.tell(f"The API wants to be left alone: waiting {seconds:.0f} s.")

    # What is sent

    def sources(
        self, originals: Sequence[Original], settle: Callable[[Result], None]
    ) -> Iterator[Path]:
        """Yield what is worth a call; the others are settled without one."""
        for original in originals:
            if self.stopped.is_set():
                return
            found = self.guarded(original, partial(self.sendable, original))
            if isinstance(found, Result):
                settle(found)
            elif self.refusals.final is not None:
                settle(failed(original, self.words(self.refusals.final, original)))
            else:
                self.sent[original.path] = found
                yield original.path

    def sendable(self, original: Original) -> Job | Result:
        job = self.prepared(original)
        if isinstance(job, Job) and job.probe.is_animated:
            return self.kept(original, job.probe, ANIMATED)
        return job

    def asked(self, source: Any) -> dict[str, Any]:
        """Return the API's document for a source."""
        job, formats = self.sent[source], self.way.processor.formats
        if job.output.name not in formats:
            raise OptionError("--format", f"one of {', '.join(sorted(formats))}", job.output.name)
        return asked_of_api(self.work.operations, job.probe, job.output, self.work.limits)

    # What comes back

    def arrival(self, item: Item) -> Result:
        """Return what became of an original that was sent, or was to be."""
        job = self.sent.pop(Path(str(item.source)))
        return self.guarded(job.original, lambda: self.received(job, item))

    def received(self, job: Job, item: Item) -> Result:
        error = item.error
        if isinstance(error, InvalidOperationsError):
            self.way.processor.learn(job.output, error)
        if isinstance(error, ApiError):
            return failed(job.original, self.words(error, job.original))
        if error is not None:
            raise error
        if item.variant is None:
            raise ProcessorError("the API's client gave no result")
        variant = self.way.processor.checked(item.variant, job.output, self.work.limits)
        return self.made(job, variant)

    def words(self, error: ApiError, original: Original) -> str:
        return refusal(error, self.way.settings).removeprefix(f"{original.path}: ")
