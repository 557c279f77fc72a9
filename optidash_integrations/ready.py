"""Answers made ready: a hit costs a look-up in a dictionary.

A table holds heads as an adapter sends them. Bodies stay in the memory tier: an answer refers to
its entry weakly, and is gone when that is evicted or deleted. Keys are an adapter's own, made of
what the answer depends on; what `Accept` says comes into them as a small number.

The image endpoint's answers rest on an agreement too, that of the source; so they end with
`fresh_for`, a purge or a change. Those of addresses that expire are never made ready.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from optidash_integrations.cache.entry import Entry
from optidash_integrations.exchange import Answer, Head, Request
from optidash_integrations.inline import is_wanted
from optidash_integrations.negotiation import Accepted, accepted
from optidash_integrations.records import SourceRecord
from optidash_integrations.stats import HITS

MEMORY = HITS["memory"]
MOST_ANSWERS = 4_096
MOST_ACCEPTS = 1_024
TOUCH_SECONDS = 1.0
"""How often the use of an entry is noted in the tiers."""


@dataclass(slots=True, eq=False)
class Agreed:
    """A source that the app handed out under a public path, and until when that counts.

    `holds` ends when the app hands out something else, or nothing.
    """

    record: SourceRecord
    head: Head
    until: float
    holds: bool = True


class Hit(NamedTuple):
    """What a hit was made of: the entry, its key, the agreement that it rests on, if any, and how
    many bytes its source has.
    """

    key: str
    entry: Entry
    agreed: Agreed | None
    source_size: int = 0


class Ready:
    """One answer: a head, and where its body is."""

    __slots__ = ("agreed", "entry", "head", "key", "size", "source_size", "touch_at")

    def __init__(self, hit: Hit, head: Any) -> None:
        self.key = hit.key
        self.entry = weakref.ref(hit.entry)
        self.agreed = hit.agreed
        self.head = head
        self.size = hit.entry.size
        self.source_size = hit.source_size
        self.touch_at = 0.0


class ReadyAnswers:
    """The table. `touch` notes in the tiers that a key was used, and gives None where these are to
    be asked; `served` counts a hit, its bytes and its source's; `clock` gives seconds.

    It needs no lock to be read: what it holds is replaced whole.
    """

    def __init__(
        self,
        touch: Callable[[str], object],
        served: Callable[[int, int, int], object],
        clock: Callable[[], float],
    ) -> None:
        self.touch = touch
        self.served = served
        self.clock = clock
        self.table: dict[Hashable, Ready] = {}
        self.accepts: dict[Any, int] = {}
        self.classes: dict[tuple[Accepted | None, bool], int] = {}
        self.lock = threading.Lock()

    def accept_class(self, raw: bytes | str | None) -> int:
        """Return a small number for what an `Accept` header says of images, and of JSON."""
        found = self.accepts.get(raw)
        return self.new_accept(raw) if found is None else found

    def new_accept(self, raw: bytes | str | None) -> int:
        text = raw.decode("latin-1") if isinstance(raw, bytes) else raw
        with self.lock:
            says = (accepted(text), is_wanted(text))
            if len(self.accepts) >= MOST_ACCEPTS:
                self.accepts.clear()
            if len(self.classes) >= MOST_ACCEPTS:  # the numbers mean something else from here on
                self.classes.clear()
                self.accepts.clear()
                self.table.clear()
            number = self.classes.setdefault(says, len(self.classes))
            self.accepts[raw] = number
            return number

    def find(self, key: Hashable) -> tuple[Any, bytes] | None:
        """Return the head and the body of an answer that still holds, or None."""
        ready = self.table.get(key)
        if ready is None:
            return None
        entry = ready.entry()
        now = self.clock()
        agreed = ready.agreed
        if entry is None or (agreed is not None and not agreed.holds):
            self.table.pop(key, None)
            return None
        if agreed is not None and now >= agreed.until:
            return None  # somebody has to ask the app again
        if now >= ready.touch_at:
            ready.touch_at = now + TOUCH_SECONDS
            if self.touch(ready.key) is None:
                return None  # the tiers want to be asked whether something was purged
        self.served(MEMORY, ready.size, ready.source_size)
        return ready.head, entry.body  # type: ignore[return-value]

    def keeper(self, key: Hashable | None) -> Keep | None:
        """Return what makes a whole answer ready under a key; None without one."""
        if key is None:
            return None

        def keep(hit: Hit, answer: Answer) -> None:
            if answer.status == 200:
                self.put(key, hit, answer.headers.copy())

        return keep

    def clear(self) -> None:
        """Forget all answers."""
        with self.lock:
            self.table.clear()

    def put(self, key: Hashable, hit: Hit, head: Any) -> None:
        """Make an answer ready whose body is in memory; the oldest gives way."""
        if not isinstance(hit.entry.body, bytes):
            return
        with self.lock:
            if len(self.table) >= MOST_ANSWERS:
                self.table.pop(next(iter(self.table)), None)
            self.table[key] = Ready(hit, head)


Keep = Callable[[Hit, Answer], object]
"""Takes a hit and the answer made of it, for the next request with the same key."""

# With one of these a request's answer depends on more than its key tells.
SPECIAL = frozenset(
    {"range", "if-range", "if-none-match", "if-modified-since", "authorization", "origin"}
)
SPECIAL_VARIABLES = tuple("HTTP_" + name.upper().replace("-", "_") for name in sorted(SPECIAL))


def request_key(request: Request, ready: ReadyAnswers, *place: str) -> Hashable | None:
    """Return the key of a plain GET at an image endpoint; None for any other request.

    `place` is what the source is found by, beside the path.
    """
    if request.method != "GET" or not SPECIAL.isdisjoint(request.headers):
        return None
    number = ready.accept_class(request.headers.get("accept"))
    return ("endpoint", *place, request.path, request.raw_path, request.query, number)


def environ_key(environ: Mapping[str, Any], ready: ReadyAnswers) -> Hashable | None:
    """Return the key of a plain GET from its CGI variables (PEP 3333); None for any other."""
    if environ["REQUEST_METHOD"] != "GET" or any(name in environ for name in SPECIAL_VARIABLES):
        return None
    return (
        environ.get("SCRIPT_NAME", ""),
        environ.get("PATH_INFO", ""),
        environ.get("REQUEST_URI") or environ.get("RAW_URI"),
        environ.get("QUERY_STRING", ""),
        environ.get("HTTP_HOST", ""),
        ready.accept_class(environ.get("HTTP_ACCEPT")),
    )
