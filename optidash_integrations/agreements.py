"""What sources were a moment ago, so that they need not be asked at every request; and what they
were before that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from optidash_integrations.exchange import Head
from optidash_integrations.ready import Agreed
from optidash_integrations.records import SourceRecord

MOST_NAMES = 20_000
ASKING_SECONDS = 10.0
STORED_HEADERS = frozenset({"cache-control", "expires", "vary", "last-modified"})


@dataclass(frozen=True, slots=True)
class Former:
    """What a name stood for before its bytes changed, and since when that is known."""

    record: SourceRecord
    since: float


class Agreements:
    """What everybody may see, by the source's name: under public paths, and at the image endpoint.

    `fresh_for` is how many seconds an agreement counts, `clock` gives seconds since the epoch.
    """

    def __init__(self, fresh_for: float, clock: Callable[[], float]) -> None:
        self.fresh_for = fresh_for
        self.clock = clock
        self.lock = threading.Lock()
        self.present: LRUCache[str, Agreed] = LRUCache(MOST_NAMES)
        self.formers: LRUCache[str, Former] = LRUCache(MOST_NAMES)

    def __len__(self) -> int:
        """Count the names."""
        return len(self.present)

    def find(self, name: str, *, with_origin: bool = False) -> Agreed | None:
        """Return what was handed out under this name lately, or None.

        Past `fresh_for` one request asks the source again, while the others still get it.
        """
        with self.lock:
            agreed = self.present.get(name)
            if agreed is None or (
                with_origin and agreed.head.get("access-control-allow-origin") is None
            ):
                return None
            now = self.clock()
            if now < agreed.until:
                return agreed
            agreed.until = now + ASKING_SECONDS
        return None

    def present_of(self, name: str, record: SourceRecord) -> Agreed | None:
        """Return the agreement about a name where it is about this record."""
        with self.lock:
            agreed = self.present.get(name)
        return agreed if agreed is not None and agreed.record == record else None

    def put(self, name: str, head: Head, record: SourceRecord) -> Agreed:
        """Take note of what is handed out under a name."""
        kept = stored_head(head)
        until = self.clock() + self.fresh_for
        with self.lock:
            before = self.present.get(name)
            if before is not None and (before.record, before.head) == (record, kept):
                before.until = until
                return before
            if before is not None:
                before.holds = False
                self.note_former(name, before.record, record.digest)
            agreed = self.present[name] = Agreed(record, kept, until)
            return agreed

    def drop(self, name: str) -> None:
        """Forget a name that is not handed out any more, and what it stood for before."""
        with self.lock:
            self.formers.pop(name, None)
            agreed = self.present.pop(name, None)
            if agreed is not None:
                agreed.holds = False

    def drop_changed(self, name: str, validator: str) -> None:
        """Forget what is agreed of a name that is handed out with another validator, or without."""
        with self.lock:
            agreed = self.present.get(name)
            if agreed is not None and (not validator or agreed.record.validator != validator):
                agreed.holds = False
                del self.present[name]
                self.note_former(name, agreed.record)

    def clear(self) -> None:
        """Forget everything, as after a purge."""
        with self.lock:
            for agreed in self.present.values():
                agreed.holds = False
            self.present.clear()
            self.formers.clear()

    # What a name stood for before

    def former(self, name: str, record: SourceRecord, seconds: float) -> Former | None:
        """Return what a name stood for before this record; None where there is nothing, or the
        change was noticed more than `seconds` ago.
        """
        with self.lock:
            former = self.formers.get(name)
        if former is None or former.record.digest == record.digest:
            return None
        return former if self.clock() - former.since < seconds else None

    def supersede(self, name: str, former: SourceRecord | None, record: SourceRecord) -> None:
        """Take note of what a name stood for until now, as the tiers tell."""
        if former is not None:
            with self.lock:
                self.note_former(name, former, record.digest)

    def note_former(self, name: str, record: SourceRecord, digest: str = "") -> None:
        if record.digest != digest:
            self.formers[name] = Former(record, self.clock())


def stored_head(head: Head) -> Head:
    """Return what may be kept of the app's head and sent to other visitors."""
    kept = [(name, value) for name, value in head.headers if name in STORED_HEADERS]
    if head.get("access-control-allow-origin") == "*":
        kept.append(("access-control-allow-origin", "*"))
    return Head(200, kept)
