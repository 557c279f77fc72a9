"""Calls are counted before they are worked on: with a quota one by one, without one in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter

from optidash_integrations.errors import OptidashError
from optidash_integrations.flows import in_thread
from optidash_integrations.server.keys import Key
from optidash_integrations.server.usage import Counted, Spent, Usage

logger = logging.getLogger(__name__)

WRITE_SECONDS = 0.25
"""So long a call is counted in memory alone: it is what a process that is killed loses."""

REST_SECONDS = 5.0
"""How long the database is left alone after it failed."""


class Spending:
    """Counts the calls of one process.

    Those of an account with a quota are counted in the database at once, so that no process ever
    allows one too many. The others are counted in memory, and written by `run` and `write`.
    """

    def __init__(self, usage: Usage) -> None:
        self.usage = usage
        self.lock = threading.Lock()
        self.writing = threading.Lock()
        self.counts: Counter[Counted] = Counter()

    async def spend(self, key: Key) -> Spent:
        """Count one call. Raises OutOfCreditsError where the quota leaves none."""
        if key.monthly_quota is not None:
            return await in_thread(self.usage.spend, key)
        spent = Spent(key, self.usage.month)
        self.count(spent, 1)
        return spent

    async def give_back(self, spent: Spent) -> None:
        """Take back a call that failed through a fault of the server."""
        if spent.key.monthly_quota is not None:
            await in_thread(self.usage.give_back, spent)
        else:
            self.count(spent, -1)

    def count(self, spent: Spent, number: int) -> None:
        with self.lock:
            for row in spent.rows:
                self.counts[row] += number

    def account(self, key: Key) -> dict[str, object]:
        """Return the document of an account, with all that was counted here; see `Usage`."""
        self.write()
        return self.usage.account(key)

    def write(self) -> None:
        """Write what memory holds. Raises DatabaseUnavailableError; then it is kept.

        When this returns, what another thread was writing is written, too.
        """
        with self.writing:
            with self.lock:
                counts, self.counts = self.counts, Counter()
            changed = {row: number for row, number in counts.items() if number}
            try:
                if changed:
                    self.usage.add(changed)
            except BaseException:
                with self.lock:
                    self.counts.update(changed)
                raise

    async def run(self) -> None:
        """Write again and again, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            if self.counts and not await self.written():
                await asyncio.sleep(REST_SECONDS)

    async def written(self) -> bool:
        """Write what memory holds; return whether that went well."""
        try:
            await in_thread(self.write)
        except OptidashError as error:
            logger.error("calls are counted in memory alone: %s", error)
            return False
        return True
