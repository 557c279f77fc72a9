"""The bounded executor: a few threads, a short queue, and those that somebody waits for first."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from optidash_integrations.errors import QueueFullError

T = TypeVar("T")

WAITED = 0
UNWAITED = 1


class Job(Generic[T]):
    """One piece of work and the future that its callers share."""

    def __init__(self, work: Callable[[], T], priority: int) -> None:
        self.work = work
        self.priority = priority
        self.future: Future[T] = Future()
        self.taken = False

    @classmethod
    def done(cls, result: T) -> Job[T]:
        """Return a job whose result is there already."""
        job = cls(lambda: result, WAITED)
        job.run()
        return job

    def run(self) -> None:
        """Do the work, and give the future its result or its exception."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
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

    def submit(self, work: Callable[[], T], *, waited: bool = True) -> Job[T]:
        """Queue some work; `waited` says that somebody waits for it, so that it goes first.

        Raises `QueueFullError` where `queue` jobs wait already, or after `close`.
        """
        job = Job(work, WAITED if waited else UNWAITED)
        with self.condition:
            if self.closed:
                raise QueueFullError("the application is shutting down")
            free = self.idle + self.workers - self.threads
            if self.waiting - free >= self.queue:
                raise QueueFullError(f"{self.waiting} images wait to be worked on already")
            if self.idle <= self.waiting and self.threads < self.workers:
                self.start_thread()
            self.push(job)
            self.waiting += 1
            self.condition.notify()
        return job

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
            if not job.taken and job.priority != WAITED:
                job.priority = WAITED
                self.push(job)

    def push(self, job: Job[Any]) -> None:
        heapq.heappush(self.heap, (job.priority, next(self.order), job))

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
                self.finished(self.clock() - began)
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

    def finished(self, seconds: float) -> None:
        with self.condition:
            self.running -= 1
            known = self.seconds_a_job
            self.seconds_a_job = seconds if not known else 0.8 * known + 0.2 * seconds
