"""Forgetting what is cached of a source, of all whose names start alike, or of everything.

What is known of a source's name is stored under a tag that holds the source's label and digest;
what was made of its bytes under the digest alone. So the tags of a name tell what belongs to it,
whoever has stored it. A label leaves out the query, in which there may be secrets.

A purge is also noted in each tier below memory, for the memory of other processes, and for the
folders of other hosts that share a tier: they look for new notes every `seconds`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from optidash_integrations.cache.entry import Cache, Entry

NAME = "name:"
LOG = "purge#"
LOG_KEY = "p-"

LONGEST_LABEL = 512
LISTED = 200
"""How many sources a note tells of: whoever follows it may have no records that tell of them."""
NOTES = 200
MARGIN = 120 * 1_000_000_000
"""How far, in nanoseconds, clocks of hosts may be apart."""


# Names


def label_of(name: str) -> str:
    """Return what people call a source: host and path of an intercepted one, without its query."""
    if "\0" in name:
        label = "".join(name.split("\0")[:2])
    else:
        label = name.partition("?")[0] if "://" in name else name
    if not label.isprintable():
        label = "".join(c if c.isprintable() else f"%{ord(c):02X}" for c in label)
    return label[:LONGEST_LABEL]


def tag_of_name(name: str, digest: str = "") -> str:
    """Return what tags the records of a name whose bytes have this digest, or are no image."""
    return f"{NAME}{label_of(name)}#{digest}"


def label_in(tag: str) -> str:
    """Return the label in a tag of a name."""
    return tag.removeprefix(NAME).rpartition("#")[0]


def digest_in(tag: str) -> str:
    """Return the digest in a tag of a name, or nothing."""
    return tag.rpartition("#")[2]


def spellings(label: str) -> list[str]:
    """Return how a label may be written: whole, or without its host, kind or storage."""
    kind, colon, rest = label.partition(":")
    if colon and kind == "file":
        return [label, rest]
    if colon and kind == "storage":
        return [label, rest, rest.partition("/")[2]]
    slash = label.find("/")
    return [label] if slash <= 0 or "://" in label else [label, label[slash:]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to forget: sources of this label, with any host, or all whose labels start so."""

    text: str
    is_prefix: bool = False

    def has(self, label: str) -> bool:
        """Say whether a source is wanted."""
        if self.is_prefix:
            return any(spelling.startswith(self.text) for spelling in spellings(label))
        return self.text in spellings(label)

    def tags(self, tier: Cache) -> set[str]:
        """Return the tags of names that are wanted, as far as a tier can tell."""
        found = set() if self.is_prefix else tier.sources(f"{NAME}{self.text}#")
        return found or {tag for tag in tier.sources(NAME) if self.has(label_in(tag))}


@dataclass(frozen=True, slots=True)
class Purged:
    """How many sources were forgotten, and how many entries of them."""

    sources: int
    entries: int


def forget(tier: Cache, wanted: Wanted, known: Iterable[str] = ()) -> tuple[set[str], int]:
    """Forget what a tier has of the wanted sources; return their tags, and how many entries.

    `known` are tags of names, or digests, that other tiers tell of. The records go last, so that
    what was not done can be done again.
    """
    tags = wanted.tags(tier) | {tag for tag in known if "#" in tag}
    digests = {digest_in(tag) for tag in tags} | {tag for tag in known if "#" not in tag}
    count = sum(tier.delete_source(digest) for digest in digests if digest)
    return tags, count + sum(map(tier.delete_source, tags))


# All tiers


class Invalidation:
    """Forgets in all of a process's tiers, and follows what other processes have forgotten.

    `cache` is all tiers as one, `tiers` each of them, memory first. `clock` gives seconds that
    only ever grow, `now` nanoseconds since 1970. `followers` are called after every purge, of
    this process or another.
    """

    def __init__(
        self,
        cache: Cache,
        tiers: Sequence[Cache],
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.cache = cache
        self.tiers = tiers
        self.seconds = max(1.0, seconds)
        self.clock = clock
        self.now = now
        self.seen: set[str] = set()
        self.since = now() - MARGIN
        self.followers: list[Callable[[], None]] = []
        # Without a tier below memory nobody else can be followed.
        self.due_at = clock() + self.seconds if len(tiers) > 1 else float("inf")

    def purge(self, wanted: Wanted) -> Purged:
        """Forget the wanted sources in all tiers."""
        tags, count = forget(self.cache, wanted)
        self.note(wanted.text, wanted.is_prefix, sorted(tags | digests_of(tags))[:LISTED])
        return Purged(len({label_in(tag) for tag in tags}), count)

    def clear(self) -> None:
        """Forget everything in all tiers."""
        self.cache.clear()
        self.note(None, False, [])

    def note(self, text: str | None, is_prefix: bool, tags: list[str]) -> None:
        """Tell those who follow, the lowest tier first, and call this process's own followers."""
        turn = f"{self.now():016x}{secrets.token_hex(8)}"
        meta = {"text": text, "prefix": is_prefix, "sources": tags}
        self.seen.add(LOG + turn)
        for tier in reversed(self.tiers[1:]):
            tier.put(LOG_KEY + turn, Entry(meta, source=LOG + turn))
            for old in sorted(tier.sources(LOG))[:-NOTES]:
                tier.delete_source(old)
        self.tell()

    def tell(self) -> None:
        for follower in self.followers:
            follower()

    @property
    def is_due(self) -> bool:
        """Say whether it is time to look for notes of others."""
        return self.clock() >= self.due_at

    def follow(self) -> None:
        """Forget what other processes have forgotten since the last look; it may wait for I/O."""
        self.due_at = self.clock() + self.seconds
        changed = False
        for place in range(len(self.tiers) - 1, 0, -1):
            noted = self.tiers[place].sources(LOG, complete=False)
            for note in sorted(noted - self.known_above(place)):
                changed |= self.apply(note, place)
            if place == 1:
                self.seen |= noted
        if changed:
            self.tell()

    def known_above(self, place: int) -> set[str]:
        if place == 1:
            return self.seen
        return self.tiers[place - 1].sources(LOG, complete=False)

    def apply(self, note: str, place: int) -> bool:
        """Do in the tiers above `place` what a note of that tier tells; say whether it was done."""
        turn = note.removeprefix(LOG)
        if place == 1 and int(turn[:16], 16) < self.since:
            return False
        entry = self.tiers[place].get(LOG_KEY + turn)
        if entry is None:
            return False
        for tier in reversed(self.tiers[:place]):
            carry_out(entry, tier)
        if place > 1:  # a folder keeps it, and so knows what was done there
            self.tiers[place - 1].put(LOG_KEY + turn, entry)
        return True


def digests_of(tags: Iterable[str]) -> set[str]:
    return {digest_in(tag) for tag in tags} - {""}


def carry_out(note: Entry, tier: Cache) -> None:
    text, tags = note.meta.get("text"), note.meta.get("sources")
    if isinstance(text, str) and isinstance(tags, list):
        forget(tier, Wanted(text, bool(note.meta.get("prefix"))), map(str, tags))
    else:
        tier.clear()
