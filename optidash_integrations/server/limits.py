"""How often a key may call: a number of requests in a period, over all methods and addresses.

The counting is that of the image endpoint's `rate_limit`. In Redis all processes count together,
without it those of one server, in a file that they share; one that is alone counts in memory.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limits.strategies import FixedWindowRateLimiter

from optidash_integrations.errors import shown
from optidash_integrations.ratelimit import RateLimit, Tally
from optidash_integrations.server.refusals import InvalidError, RefusedError
from optidash_integrations.server.shared_counts import SharedCounts

if TYPE_CHECKING:
    from optidash_integrations.server.keys import Key

logger = logging.getLogger(__name__)

DEFAULT_RATE = "100000/15 minutes"
RATE = re.compile(r"([1-9]\d{0,8})\s*/\s*(?:([1-9]\d{0,3})\s*)?(second|minute|hour|day)s?")


class RateExceededError(RefusedError):
    """A key has called as often as it may; `tally` says when it may again."""

    public_status = 429

    def __init__(self, tally: Tally) -> None:
        self.tally = replace(tally, remaining=0, reset=max(1, tally.reset))
        seconds = str(self.tally.reset)
        headers = [("retry-after", seconds), *self.tally.headers()]
        super().__init__(f"Rate limit exceeded. Retry in {seconds} seconds.", headers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made again in another process."""
        return type(self), (self.tally,)


def checked_rate(rate: str) -> str:
    """Return a rate such as `100000/15 minutes` in its one form. Raises InvalidError for others."""
    found = RATE.fullmatch(rate.strip().lower())
    if found is None:
        raise InvalidError(
            "'rate_limit' parameter must be a number of requests in a period, such as "
            f"600/minute or {DEFAULT_RATE}, not {shown(rate)}"
        )
    amount, periods, unit = found.groups(default="1")
    return f"{amount}/{periods} {unit}s"


class KeyLimits:
    """Counts the requests of each key, in fixed windows.

    `default` is the rate of keys that have none of their own, `storage_url` a Redis address, None
    for `shared`, a file in which the processes of a host count together (also while Redis can't be
    asked), or for memory. `clock` gives seconds since 1970. Raises InvalidError for a wrong rate.
    """

    def __init__(
        self,
        default: str = DEFAULT_RATE,
        storage_url: str | None = None,
        *,
        shared: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.default = checked_rate(default)
        self.storage_url = storage_url
        self.clock = clock
        self.lock = threading.Lock()
        self.counters: dict[str, RateLimit] = {}
        self.counts = counts_in(shared, clock)

    @property
    def is_shared(self) -> bool:
        """Whether counting asks a server, which is I/O."""
        return self.storage_url is not None

    def hit(self, key: Key) -> Tally:
        """Count one request of a key, and return where it stands, for the headers of the answer.

        With Redis this is I/O; it never raises. Where `is_over` says so, the answer is a
        RateExceededError.
        """
        return self.counter(key.rate_limit or self.default).hit(f"key-{key.id}")

    def hit_stranger(self, address: str) -> Tally:
        """Count one request that came without a valid key, for the address it came from."""
        return self.counter(self.default).hit(address)

    def close(self) -> None:
        """End the connections to Redis, let go of the file, and forget what memory holds."""
        with self.lock:
            counters, self.counters = self.counters, {}
            counts, self.counts = self.counts, None
        if counts is not None:
            counts.close()
        for counter in counters.values():
            counter.close()

    def counter(self, rate: str) -> RateLimit:
        with self.lock:
            if rate not in self.counters:
                counter = RateLimit(rate, self.storage_url, clock=self.clock)
                if self.counts is not None:
                    counter.own = FixedWindowRateLimiter(self.counts)
                self.counters[rate] = counter
            return self.counters[rate]


def counts_in(path: Path | None, clock: Callable[[], float]) -> SharedCounts | None:
    """Return what counts in a file; None where there is none, or it can't be had."""
    if path is None:
        return None
    try:
        return SharedCounts(path, clock)
    except OSError as error:
        logger.error("each process counts requests for itself: %s", error)
        return None
