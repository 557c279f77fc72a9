"""Webhooks: requests are answered at once, worked on later, and their results are delivered."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from optidash_integrations.errors import OptidashError
from optidash_integrations.flows import in_thread
from optidash_integrations.server import listings
from optidash_integrations.server.database import Database
from optidash_integrations.server.deliveries import WAITS, Deliverer, Wanted, read_wanted
from optidash_integrations.server.jobs import (
    TO_DELIVER,
    TO_PERFORM,
    Claim,
    Jobs,
    work_of,
)
from optidash_integrations.server.keys import Key
from optidash_integrations.server.seams import Document, Perform, Work

logger = logging.getLogger(__name__)

PERFORMERS = 2
DELIVERERS = 16
SHARE = 8
"""How many of them one account may keep busy: its receivers may be slow."""
LOOK_SECONDS = 1.0
"""How often a process looks for what others have left, and for what has become due."""

BUSY = 503
BUSY_SECONDS = 5.0
MOST_TRIES = 3
"""How often work is begun; what has ended that many processes is not begun again."""

SWEEP_SECONDS = 600.0
ORPHAN_SECONDS = 3600.0
LONGEST_CLOSE = 20.0


class Lane:
    """One kind of work, so many pieces of it at a time; of one account at most `each`."""

    def __init__(
        self,
        states: Collection[str],
        size: int,
        work: Callable[[Claim], Awaitable[None]],
        each: int | None = None,
    ) -> None:
        self.states = states
        self.size = size
        self.each = each
        self.work = work
        self.running: dict[asyncio.Task[None], Claim] = {}
        self.news = asyncio.Event()


class Webhooks:
    """Does what the app's `Jobs` asks, for one process of a server; others share its database.

    `folder` holds uploads until they are worked on; all processes share that, too. `allowed` are
    hosts that results may go to although they are not on the public internet. Everything that
    blocks is done in threads.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        allowed: Collection[str] = (),
        performers: int = PERFORMERS,
        deliverer: Deliverer | None = None,
        clock: Callable[[], float] = time.time,
        jobs: Jobs | None = None,
    ) -> None:
        self.jobs = jobs or Jobs(database, clock=clock)
        self.folder = folder
        self.allowed = frozenset(host.lower() for host in allowed)
        self.deliverer = deliverer or Deliverer(allowed=self.allowed, clock=clock)
        self.clock = clock
        self.perform: Perform | None = None
        self.lanes = (
            Lane(TO_PERFORM, performers, self.do),
            Lane(TO_DELIVER, DELIVERERS, self.deliver, SHARE),
        )
        self.threads: ThreadPoolExecutor | None = None
        self.keepers: list[asyncio.Task[None]] = []

    # What the app asks

    def checked(self, document: Mapping[str, Any]) -> Wanted:
        """Return what a `webhook` object asks for; raises OptionError."""
        return read_wanted(document, self.allowed)

    async def accept(self, work: Work, webhook: object) -> None:
        """Keep a request, and take its file. Raises JobsFullError where too many wait."""
        if not isinstance(webhook, Wanted):
            raise TypeError(webhook)
        await in_thread(self.keep, work, webhook)
        self.ring()

    def keep(self, work: Work, wanted: Wanted) -> None:
        if work.source is not None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(work.source, self.place(work.id))
        try:
            self.jobs.add(work, wanted.url, wanted.delay)
        except BaseException:
            self.drop(work.id)
            raise

    def counts(self) -> Mapping[str, int]:
        """Return how many requests there are in each state."""
        return self.jobs.counts()

    def listing(self, key: Key, query: Mapping[str, str]) -> Document:
        """Return the answer to `GET /1.0/webhooks/`; raises OptionError."""
        return listings.listing(self.jobs, key, query)

    def one(self, key: Key, id: str) -> Document:
        """Return the answer to `GET /1.0/webhooks/{id}`; raises MissingError."""
        return listings.one(self.jobs, key, id)

    async def start(self, perform: Perform) -> None:
        """Begin to do what waits, what processes that have ended left included."""
        self.perform = perform
        self.threads = ThreadPoolExecutor(DELIVERERS, "optidash-webhooks")
        looks = [
            self.every(LOOK_SECONDS, partial(self.look, lane), lane.news) for lane in self.lanes
        ]
        renewal = self.every(self.jobs.lease_seconds / 3, self.renew, asyncio.Event())
        sweeping = self.every(SWEEP_SECONDS, self.sweep, asyncio.Event())
        self.keepers = [asyncio.create_task(one) for one in (*looks, renewal, sweeping)]

    async def close(self) -> None:
        """End: let deliveries end, and leave work that is not done to the next process."""
        for keeper in self.keepers:
            keeper.cancel()
        await asyncio.gather(*self.keepers, return_exceptions=True)
        work, deliveries = self.lanes
        for task in work.running:
            task.cancel()
        tasks = [*work.running, *deliveries.running]
        if tasks:
            await asyncio.wait(tasks, timeout=LONGEST_CLOSE)
        if self.threads is not None:
            self.threads.shutdown(wait=False, cancel_futures=True)
        self.keepers, self.perform, self.threads = [], None, None

    # What goes on

    def ring(self) -> None:
        """Let all lanes look for work now."""
        for lane in self.lanes:
            lane.news.set()

    async def every(
        self, seconds: float, act: Callable[[], Awaitable[object]], news: asyncio.Event
    ) -> None:
        """Do something again and again; what fails is told, and tried again."""
        while True:
            news.clear()
            try:
                await act()
            except (OptidashError, OSError) as error:
                logger.warning("webhooks wait: %s", error)
            with suppress(TimeoutError):  # wait_for would lose a cancellation in Python 3.11
                async with asyncio.timeout(seconds):
                    await news.wait()

    async def look(self, lane: Lane) -> list[asyncio.Task[None]]:
        """Begin what is due, as much as there is room for; return what was begun."""
        claims: list[Claim] = []
        try:
            await in_thread(self.take, lane, claims)
        except asyncio.CancelledError:
            for claim in claims:
                await in_thread(self.jobs.given_back, claim)
            raise
        begun = [asyncio.create_task(self.guarded(lane, claim)) for claim in claims]
        for task, claim in zip(begun, claims, strict=True):
            lane.running[task] = claim
            task.add_done_callback(lane.running.pop)
        return begun

    def take(self, lane: Lane, claims: list[Claim]) -> None:
        running = list(lane.running.values())
        room = lane.size - len(running)
        if room > 0:
            claims += self.jobs.claim(lane.states, room, each=lane.each, running=running)

    async def guarded(self, lane: Lane, claim: Claim) -> None:
        try:
            await lane.work(claim)
        except Exception:  # the lease runs out, and it is done again
            logger.exception("the webhook %s waits for another try", claim.id)
        self.ring()

    async def do(self, claim: Claim) -> None:
        """Do the work, and note what came of it."""
        source = self.place(claim.id) if claim.has_source else None
        work = work_of(claim, source)
        if claim.tries > MOST_TRIES:
            document = failure(claim.id)
        else:
            assert self.perform is not None
            try:
                document = await self.perform(work)
            except asyncio.CancelledError:
                await in_thread(self.jobs.given_back, claim)
                raise
        if document.get("code") == BUSY:
            await in_thread(self.jobs.given_back, claim, BUSY_SECONDS)
        elif await in_thread(self.jobs.performed, claim, document):
            await in_thread(self.drop, claim.id)

    async def deliver(self, claim: Claim) -> None:
        """Send a result once, and note what came of it."""
        await asyncio.get_running_loop().run_in_executor(self.threads, self.send, claim)

    def send(self, claim: Claim) -> None:
        if claim.attempts > len(WAITS) + 1:  # each of them has ended a process
            self.jobs.failed(claim, None, "the result could not be sent")
            return
        outcome = self.deliverer.send(claim, self.jobs.digest(claim))
        if not outcome.error:
            self.jobs.delivered(claim, outcome.status or 0)
            return
        wait = self.deliverer.wait(claim, outcome)
        logger.info("the webhook %s was not taken: %s", claim.id, outcome.error)
        if wait is None:
            self.jobs.failed(claim, outcome.status, outcome.error)
        else:
            self.jobs.postponed(claim, outcome.status, outcome.error, wait)

    async def renew(self) -> None:
        """Hold the leases of what is being done."""
        claims = [claim for lane in self.lanes for claim in lane.running.values()]
        if claims:
            await in_thread(self.jobs.renew, claims)

    async def sweep(self) -> None:
        """Forget what ended long ago, and files that nobody waits for."""
        await in_thread(self.jobs.sweep)
        await in_thread(self.sweep_files)

    def sweep_files(self) -> None:
        if not self.folder.is_dir():
            return
        old = self.clock() - ORPHAN_SECONDS  # one that is just being kept has no row yet
        names = [file.name for file in self.folder.iterdir() if file.stat().st_mtime < old]
        for start in range(0, len(names), 500):
            some = names[start : start + 500]
            for name in set(some) - self.jobs.waiting(some):
                self.drop(name)

    def place(self, identity: str) -> Path:
        return self.folder / identity

    def drop(self, identity: str) -> None:
        with suppress(FileNotFoundError):
            self.place(identity).unlink()


def failure(identity: str) -> Document:
    """Return what is delivered where the work ends each process that begins it."""
    message = "The image could not be prepared"
    return {"success": False, "code": 500, "id": identity, "message": message}
