"""The bounded executor: a few threads, a short queue, and those that somebody waits for first.

Beside it what bounds the work of all processes of a host, and one thread for all that waits for
something outside this process.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

from optidash_integrations.errors import QueueFullError

logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITED = 0
UNWAITED = 1

IDLE_SECONDS = 10.0

TURNSTILE = 0
FIRST_SLOT = 1

# Seconds between two looks for a slot: short at first, since most work of others ends soon.
LOOKS = (0.0005, 0.001, 0.002, 0.005)
LAST_LOOK = 0.01
NEXT_IN_LINE = 0.002
"""How often the one that gets the next free slot looks for it."""


class Aside:
    """What work returns that can't be done yet: its thread is free, its future stays open.

    `keep` gets the job, to let it be resumed or to give its future what it waits for.
    """

    def __init__(self, keep: Callable[[Job[Any]], None]) -> None:
        self.keep = keep


class Job(Generic[T]):
    """One piece of work and the future that its callers share.

    `is_shared` says that the result was made by somebody else.
    """

    def __init__(self, work: Callable[[], T | Aside], priority: int) -> None:
        self.work = work
        self.priority = priority
        self.future: Future[T] = Future()
        self.taken = False
        self.is_shared = False

    @classmethod
    def done(cls, result: T) -> Job[T]:
        """Return a job whose result is there already."""
        job = cls(lambda: result, WAITED)
        job.run()
        return job

    def run(self) -> None:
        """Do the work, and give the future its result or its exception."""
        if not self.future.running() and not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
            if isinstance(result, Aside):
                result.keep(self)
                return
        except BaseException as error:  # noqa: BLE001  it belongs to whoever waits
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Pool:
    """Runs jobs in at most `workers` threads; at most `queue` jobs wait for one.

    Threads start with the first jobs and are daemons: a process that ends does not wait for them.
    `clock` gives seconds, and serves to tell how long a new job would have to wait.
    """

    def __init__(
        self,
        workers: int,
        queue: int,
        *,
        name: str = "optidash",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.workers = workers
        self.queue = queue
        self.name = name
        self.clock = clock
        self.closed = False
        self.condition = threading.Condition()
        self.heap: list[tuple[int, int, Job[Any]]] = []
        self.order = itertools.count()
        self.threads = 0
        self.idle = 0
        self.waiting = 0
        self.running = 0
        self.seconds_a_job = 0.0

    def submit(self, work: Callable[[], T | Aside], *, waited: bool = True) -> Job[T]:
        """Queue some work; `waited` says that somebody waits for it, so that it goes first.

        Raises `QueueFullError` where `queue` jobs wait already, or after `close`.
        """
        job: Job[T] = Job(work, WAITED if waited else UNWAITED)
        with self.condition:
            if self.closed:
                raise QueueFullError("the application is shutting down")
            free = self.idle + self.workers - self.threads
            if self.waiting - free >= self.queue:
                raise QueueFullError(f"{self.waiting} images wait to be worked on already")
            self.enqueue(job, next(self.order))
        return job

    def resume(self, job: Job[Any]) -> None:
        """Let work that was set aside go on, before what came later; it has its place for sure."""
        with self.condition:
            if not self.closed:
                job.taken = False
                self.enqueue(job, -next(self.order))
                return
        job.future.set_exception(QueueFullError("the application is shutting down"))

    def enqueue(self, job: Job[Any], order: int) -> None:
        if self.idle <= self.waiting and self.threads < self.workers:
            self.start_thread()
        heapq.heappush(self.heap, (job.priority, order, job))
        self.waiting += 1
        self.condition.notify()

    def start_thread(self) -> None:
        name = f"{self.name}-{self.threads + 1}"
        try:
            threading.Thread(target=self.serve, name=name, daemon=True).start()
        except RuntimeError as error:  # the host has no thread left; those that live go on
            if not self.threads:
                raise QueueFullError(str(error)) from error
        else:
            self.threads += 1

    def promote(self, job: Job[Any]) -> None:
        """Let a queued job go before those that nobody waits for."""
        with self.condition:
            if job.priority == WAITED:
                return
            job.priority = WAITED
            if not job.taken:
                heapq.heappush(self.heap, (WAITED, next(self.order), job))

    def expected_wait(self) -> float:
        """Return the seconds that a new job would probably wait before it is begun."""
        with self.condition:
            ahead = self.waiting + self.running - self.workers + 1
            return max(0, ahead) * self.seconds_a_job / self.workers

    def close(self) -> None:
        """Take no more work and drop what waits; whoever waits for it gets a `QueueFullError`."""
        with self.condition:
            self.closed = True
            dropped = [job for _, _, job in self.heap if not job.taken]
            self.heap.clear()
            self.waiting = 0
            self.condition.notify_all()
        for job in {id(job): job for job in dropped}.values():
            job.future.set_exception(QueueFullError("the application is shutting down"))

    def serve(self) -> None:
        while (job := self.take()) is not None:
            began = self.clock()
            try:
                job.run()
            finally:
                self.finished(self.clock() - began if job.future.done() else None)
            del job  # its result must not outlive it until the next one comes

    def take(self) -> Job[Any] | None:
        with self.condition:
            while True:
                while self.heap:
                    job = heapq.heappop(self.heap)[2]
                    if not job.taken:  # a promoted job stands in the heap twice
                        job.taken = True
                        self.waiting -= 1
                        self.running += 1
                        return job
                if self.closed:
                    self.threads -= 1
                    return None
                self.idle += 1
                self.condition.wait()
                self.idle -= 1

    def finished(self, seconds: float | None) -> None:
        with self.condition:
            self.running -= 1
            if seconds is None:  # it was set aside, which tells nothing of the next one
                return
            known = self.seconds_a_job
            self.seconds_a_job = seconds if not known else 0.8 * known + 0.2 * seconds


class Places(Protocol):
    """What one process of a host holds at a time, each under its number."""

    def take(self, place: int) -> bool:
        """Take a place; False where it is held already."""

    def release(self, place: int) -> None:
        """Give back a place."""


class Slots:
    """At most `count` pieces of work at a time, in all processes that use the file together.

    Without a file there is no bound.
    """

    def __init__(self, file: Places | None, count: int) -> None:
        self.file = file
        self.places = range(FIRST_SLOT, FIRST_SLOT + count)
        self.queue = threading.Lock()
        self.closing = threading.Event()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Wait for a slot and hold it; raises `QueueFullError` when it is time to stop."""
        if self.file is None:
            yield
            return
        with self.queue:
            place = self.enter(self.file)
        try:
            yield
        finally:
            self.file.release(place)

    def enter(self, file: Places) -> int:
        # Who waits holds the turnstile, so that a busy process can't take its own slot again and
        # again while another one never sees it free.
        self.wait(lambda: file.take(TURNSTILE) or None, LAST_LOOK)
        try:
            return self.wait(lambda: next(filter(file.take, self.places), None), NEXT_IN_LINE)
        finally:
            file.release(TURNSTILE)

    def wait(self, question: Callable[[], T | None], longest: float) -> T:
        looks = itertools.chain(LOOKS, itertools.repeat(longest))
        while True:
            if self.closing.is_set():
                raise QueueFullError("the application is shutting down")
            answer = question()
            if answer is not None:
                return answer
            self.closing.wait(min(next(looks), longest))

    def close(self) -> None:
        """Stop those who wait."""
        self.closing.set()


class Rounds:
    """Calls what it was given, again and again, in one thread that lives while there is any.

    `clock` gives seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.condition = threading.Condition()
        self.heap: list[tuple[float, int, Callable[[], float | None]]] = []
        self.order = itertools.count()
        self.is_running = False
        self.closed = False

    def add(self, visit: Callable[[], float | None], seconds: float) -> None:
        """Call `visit` in so many seconds; it says when to be called again, None for never.

        Raises RuntimeError where no thread can be started. What is added after `close`, or left
        then, is never called.
        """
        with self.condition:
            due = self.clock() + seconds
            is_first = not self.heap or due < self.heap[0][0]
            heapq.heappush(self.heap, (due, next(self.order), visit))
            if not self.is_running and not self.closed:
                threading.Thread(target=self.serve, name="optidash-rounds", daemon=True).start()
                self.is_running = True
            elif is_first:
                self.condition.notify()

    def serve(self) -> None:
        while (visit := self.next()) is not None:
            try:
                seconds = visit()
            except Exception:
                logger.exception("what waits for another process could not be looked after")
                seconds = None
            if seconds is not None:
                self.add(visit, seconds)
            del visit  # nothing is kept alive while the thread idles

    def next(self) -> Callable[[], float | None] | None:
        """Return what is due next, when it is; None where the thread is to end."""
        with self.condition:
            while not self.closed:
                if not self.heap:
                    self.condition.wait(IDLE_SECONDS)
                    if not self.heap:
                        break
                left = self.heap[0][0] - self.clock()
                if left <= 0:
                    return heapq.heappop(self.heap)[2]
                self.condition.wait(left)
            self.is_running = False
            return None

    def close(self) -> None:
        """End the thread."""
        with self.condition:
            self.closed = True
            self.heap.clear()
            self.condition.notify()
