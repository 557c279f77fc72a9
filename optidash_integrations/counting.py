"""The counts of one process, as the limits library's fixed windows want them.

Its own storage in memory starts a thread to sweep, and has no bound.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from cachetools import LRUCache
from limits.storage import Storage


class Counts(Storage):
    """At most `most` counts; those asked for longest ago are forgotten first.

    `clock` gives seconds since the epoch.
    """

    STORAGE_SCHEME = None  # no address leads to it

    def __init__(self, clock: Callable[[], float], most: int) -> None:
        super().__init__()
        self.clock = clock
        self.lock = threading.Lock()
        self.windows: LRUCache[str, tuple[int, float]] = LRUCache(most)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What counting may raise."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a count, which begins anew once its window of `expiry` seconds has passed."""
        now = self.clock()
        with self.lock:
            count, until = self.windows.get(key, (0, 0.0))
            if now >= until:
                count, until = 0, now + expiry
            self.windows[key] = (count + amount, until)
        return count + amount

    def get(self, key: str) -> int:
        """Return a count."""
        with self.lock:
            count, until = self.windows.get(key, (0, 0.0))
        return count if self.clock() < until else 0

    def get_expiry(self, key: str) -> float:
        """Return when a window ends, in seconds since the epoch."""
        with self.lock:
            return self.windows.get(key, (0, self.clock()))[1]

    def check(self) -> bool:
        """Say whether counting works."""
        return True

    def reset(self) -> int:
        """Forget all counts; return how many there were."""
        with self.lock:
            found = len(self.windows)
            self.windows.clear()
        return found

    def clear(self, key: str) -> None:
        """Forget one count."""
        with self.lock:
            self.windows.pop(key, None)
