"""Numbers for people: what a service has done since its process began.

hits            requests answered from `memory`, `disk` or a `shared` tier
misses          results that had to be made, and were begun
coalesced       requests that waited for work which another one had begun
fallbacks       what was served in the place of a variant, by reason: originals, or (`stale`) the
                variant of what a source was before it changed
bytes           in: of sources worked on; out: of variants sent; saved: what their sources had more
seconds         by stage: `probe`, `process`, `store`
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from optidash_integrations.cache.shared import Locked
from optidash_integrations.errors import (
    BusyError,
    DeadlineError,
    ImageError,
    OptidashError,
    ProcessorError,
    QueueFullError,
)

Sums = defaultdict[str, float]

FALLBACK, SECONDS, RUNS = "fallback ", "seconds ", "runs "
MISSES, COALESCED, IN = "misses", "coalesced", "bytes in"

TIERS = ("memory", "disk", "shared")
HITS: Mapping[str, int] = {tier: place for place, tier in enumerate(TIERS)}
"""What `Counters.served` is told of a tier."""
MADE, OUT, OF = range(len(TIERS), len(TIERS) + 3)
"""Places of three sums more: variants sent that were just made, the bytes of all, and of their
sources."""

REASONS: tuple[tuple[type[OptidashError], str], ...] = (
    (DeadlineError, "deadline"),
    (QueueFullError, "queue full"),
    (BusyError, "busy"),
    (ImageError, "refused"),
    (ProcessorError, "processor failed"),
)


def reason_of(error: BaseException) -> str:
    """Return in a word or two why an original is served: a reason in `Stats.fallbacks`."""
    return next((word for kind, word in REASONS if isinstance(error, kind)), "other")


@dataclass(frozen=True, slots=True)
class Stats:
    """What one service has done in this process, and what it is doing now.

    `waiting` and `running` are jobs; `runs` says how often each stage of `seconds` was gone
    through. `api` is what `ApiProcessor.stats` tells, empty where the API does not do the work.
    """

    hits: Mapping[str, int] = field(default_factory=dict)
    misses: int = 0
    coalesced: int = 0
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_saved: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)
    waiting: int = 0
    running: int = 0
    api: Mapping[str, object] = field(default_factory=dict)


class Cell:
    """One thread's sums: those of hits in a list, which is twice as fast as by name."""

    def __init__(self) -> None:
        self.served = [0] * (OF + 1)
        self.sums: Sums = defaultdict(float)

    def take(self, other: Cell) -> None:
        """Add another thread's sums to these."""
        self.served = [mine + its for mine, its in zip(self.served, other.served, strict=True)]
        for name, amount in other.sums.copy().items():  # its thread may add a name meanwhile
            self.sums[name] += amount


class Counters(Locked):
    """Sums that every thread adds to without waiting for another.

    Each thread has a cell of its own; whoever reads adds them up. The cells of threads that have
    ended are added to one when the next thread begins. A forked child goes on from its parent's
    sums: call `reset` there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Begin at nothing."""
        self.local = threading.local()
        self.past = Cell()
        self.cells: list[tuple[weakref.ref[threading.Thread], Cell]] = []

    # What happened

    def served(self, tier: int, size: int, source_size: int) -> None:
        """Count a variant of `size` bytes that is sent; `tier` is that of `HITS` where it was."""
        try:
            sums = self.local.served
        except AttributeError:
            sums = self.new_cell().served
        sums[tier] += 1
        sums[OUT] += size
        sums[OF] += source_size

    def sent(self, size: int, source_size: int) -> None:
        """Count a variant that was just made, and is sent."""
        self.served(MADE, size, source_size)

    def fell_back(self, reason: str) -> None:
        """Count an original that is served in the place of a variant."""
        self.add(FALLBACK + reason)

    def add(self, name: str, amount: float = 1) -> None:
        """Add to a sum."""
        try:
            sums = self.local.sums
        except AttributeError:
            sums = self.new_cell().sums
        sums[name] += amount

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the seconds that a stage takes, whatever comes of it."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(SECONDS + stage, time.perf_counter() - began)
            self.add(RUNS + stage)

    # Cells

    def new_cell(self) -> Cell:
        cell = Cell()
        with self.lock:
            self.fold()
            self.cells.append((weakref.ref(threading.current_thread()), cell))
        self.local.served, self.local.sums = cell.served, cell.sums
        return cell

    def fold(self) -> None:
        """Keep the sums of threads that have ended, and drop their cells; the lock is held."""
        living = []
        for thread, cell in self.cells:
            found = thread()
            if found is not None and found.is_alive():
                living.append((thread, cell))
            else:
                self.past.take(cell)
        self.cells = living

    def totals(self) -> Cell:
        """Return all threads' sums."""
        sums = Cell()
        with self.lock:
            for cell in (self.past, *(cell for _, cell in self.cells)):
                sums.take(cell)
        return sums

    def stats(
        self, *, waiting: int = 0, running: int = 0, api: Mapping[str, object] | None = None
    ) -> Stats:
        """Return the sums by what they tell, with what is given."""
        cell = self.totals()
        totals, served = cell.sums, cell.served
        return Stats(
            hits=dict(zip(TIERS, served, strict=False)),
            misses=int(totals.get(MISSES, 0)),
            coalesced=int(totals.get(COALESCED, 0)),
            fallbacks=whole(part(totals, FALLBACK)),
            bytes_in=int(totals.get(IN, 0)),
            bytes_out=served[OUT],
            bytes_saved=served[OF] - served[OUT],
            seconds=part(totals, SECONDS),
            runs=whole(part(totals, RUNS)),
            waiting=waiting,
            running=running,
            api=api or {},
        )


def part(totals: Mapping[str, float], start: str) -> dict[str, float]:
    return {
        name.removeprefix(start): amount
        for name, amount in sorted(totals.items())
        if name.startswith(start)
    }


def whole(sums: Mapping[str, float]) -> dict[str, int]:
    return {name: int(amount) for name, amount in sums.items()}
