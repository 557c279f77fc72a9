"""What a visitor gets while the variant of a changed source is being made: the one of before.

Only where everybody may see what a name stands for: at the image endpoint, and under public paths.
The site says for how long, in seconds since the change was noticed, with `stale-while-revalidate`
in the Cache-Control of the answer (RFC 5861); our own for addresses that may change has a day, and
what has none, or is private, is never stale. Nor is an address whose `v` is the present version.
A purge, a 403 or a 404 ends it, and so does a failure: then the new original is sent.

A changed file still has a new ETag at once, because a stale answer's tag is made of both variants'
keys. Whoever comes with the old tag gets no 304; whoever comes with this one, gets one that lasts
no more than a minute, and only until the new variant is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optidash_integrations.answers import Context
from optidash_integrations.cache.entry import Entry
from optidash_integrations.flows import Do, Flow
from optidash_integrations.headers import directives, whole_number
from optidash_integrations.records import SourceRecord, hashed
from optidash_integrations.store import kind_of
from optidash_integrations.wishes import Choice, Wish

if TYPE_CHECKING:
    from optidash_integrations.exchange import Answer
    from optidash_integrations.service import Service


@dataclass(frozen=True, slots=True)
class Stale:
    """A variant of what a source was before, and for how many seconds it is known to be so.

    `key` is what its tag is made from, as it stands for another variant.
    """

    entry: Entry
    key: str
    seconds: int


def stale_of(
    service: Service, name: str, wish: Wish, record: SourceRecord, choice: Choice, context: Context
) -> Flow[Stale | None]:
    """Return what may be sent until there is the variant chosen of a source; None for nothing."""
    if wish.version == record.version:
        return None
    asked = directives(context.cache_control(passing=False))
    seconds = whole_number(asked.get("stale-while-revalidate"))
    former = service.agreements.former(name, record, seconds)
    if former is None:
        return None
    if choice.later is not None and (yield from service.found(choice, record))[0] is not None:
        return None  # what is there for now is newer
    for wanted in filter(None, (choice.later, choice)):
        old = service.choice_of(
            wanted.operations, wanted.output, former.record, negotiated=wanted.negotiated
        )
        entry = yield from stored(service, old.key)
        if entry is not None and kind_of(entry.meta) == "variant":
            age = max(1, int(service.clock() - former.since))
            return Stale(entry, hashed("stale", old.key, choice.key), age)
    return None


def stored(service: Service, key: str) -> Flow[Entry | None]:
    entry = service.store.quick(key)
    if entry is None:
        entry = yield Do(lambda: service.store.get(key))
    return entry


def stale_answer(
    service: Service, context: Context, choice: Choice, stale: Stale, record: SourceRecord
) -> Flow[Answer | None]:
    """Return the answer that sends a stale variant; None where its file is gone by now."""
    answer = context.stale(choice, stale.entry, stale.key, stale.seconds)
    opened = yield from service.opened(answer)
    if opened is not None:
        service.counters.fell_back("stale")
        service.counters.sent(stale.entry.size, record.bytes)
    return opened
