"""The image endpoint: a source's name and options in, one variant out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from optidash_integrations.answers import COLLAPSED, HIT, NO_HEAD, STORED, Context, source_body
from optidash_integrations.cache.entry import Entry
from optidash_integrations.cors import METHODS, Cors
from optidash_integrations.errors import (
    AccessError,
    ImageError,
    OptidashError,
    OptionError,
    ProcessorError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.exchange import Answer, Body, Head, Request
from optidash_integrations.fallback import HEADER, in_box, marked
from optidash_integrations.flows import Do, Flow, Wait
from optidash_integrations.formats import HEAD_BYTES, Format, detect, of_path
from optidash_integrations.headers import attachment, error
from optidash_integrations.inline import (
    InlineTooLargeError,
    as_json,
    content_of,
    error_as_json,
    is_wanted,
    plain,
)
from optidash_integrations.ready import Hit, Keep, request_key
from optidash_integrations.reception import Asked, Reception, tally_headers, too_many
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.remote import RemoteSource
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import FileSource, Source
from optidash_integrations.stale import Stale, stale_answer, stale_of
from optidash_integrations.stats import reason_of
from optidash_integrations.store import kind_of, record_of
from optidash_integrations.variants import ImageData
from optidash_integrations.wishes import Choice, is_lasting
from optidash_integrations.workshop import Task, refusal_of

logger = logging.getLogger(__name__)

OK = 200
PRIVATE_SECONDS = 300
"""For so long a browser keeps what not everybody may see."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An answer that sends an image, and the image's size in pixels where it is known.

    `hit` is what it was made of, where it depends on nothing but the address and `Accept`.
    """

    answer: Answer
    width: int | None = None
    height: int | None = None
    hit: Hit | None = None


class Endpoint:
    """Answers requests for images by name.

    `find` gives the source of a name, and raises `SourceNotFoundError`; `access` says who may ask
    where the settings don't: `public`, `signed`, credentials, a callable of the framework's request
    and the name, or several of these, of which any lets in.
    """

    def __init__(
        self, service: Service, find: Callable[[str], Source], *, access: object = "public"
    ) -> None:
        self.service = service
        self.find = find
        self.reception = Reception(service, access)
        self.cors = Cors(service.settings.cors_origins)

    @cached_property
    def is_simple(self) -> bool:
        """Say whether its answers depend on nothing but the address and what is accepted."""
        is_counted = self.service.access.rate is not None
        return self.reception.asks_nobody and not self.cors and not is_counted

    def key(self, request: Request, *place: str) -> Hashable | None:
        """Return the key of an answer that may be ready; None where there can be none."""
        return request_key(request, self.service.ready, *place) if self.is_simple else None

    def answer(
        self,
        request: Request,
        name: str,
        visitor: object = None,
        client: str = "",
        keep: Keep | None = None,
    ) -> Flow[Answer]:
        """Answer a request for the source `name`.

        `visitor` is the framework's own request; `client` the visitor's network address, by which
        requests are counted. `keep` is told of an answer that the same address and `Accept` get
        again: pass it only where there is a key.
        """
        if request.method == "OPTIONS" and self.cors:
            return self.cors.preflight(request)
        tally = yield from self.reception.counted(client)
        if tally is not None and tally.is_over:
            answer = too_many(tally)
        else:
            answer = yield from self.answered(request, name, visitor, keep)
        if answer.status >= 400 and not is_image(answer) and is_json_wanted(request):
            answer = error_as_json(answer)
        if tally is not None:
            answer = replace(answer, headers=answer.headers + tally_headers(answer, tally))
        return self.cors.added(answer, request)

    def answered(
        self, request: Request, name: str, visitor: object, keep: Keep | None
    ) -> Flow[Answer]:
        """Answer with an image, or with what is sent in place of one."""
        if request.method not in ("GET", "HEAD"):
            refused = error(405, "Only GET and HEAD are allowed here.")
            refused.headers.append(("allow", METHODS if self.cors else "GET, HEAD"))
            return refused
        try:
            asked = self.reception.asked(request, name)
            is_open = yield from self.reception.admitted(asked, visitor)
        except OptionError as problem:
            return error(problem.public_status, str(problem))
        except AccessError as problem:
            return self.reception.refused(problem, name)
        return (yield from self.shown(replace(asked, is_open=is_open), keep))

    def shown(self, asked: Asked, keep: Keep | None) -> Flow[Answer]:
        """Answer a visitor who may see the image."""
        as_text = is_json_wanted(asked.request)
        inner = replace(asked, request=plain(asked.request)) if as_text else asked
        try:
            picture = yield from self.found(inner)
        except OptionError as problem:
            return error(problem.public_status, str(problem))
        except OptidashError as problem:
            if isinstance(problem, SourceNotFoundError):
                logger.info("%s", problem)
            else:
                self.service.note(asked.name, problem)
            reason = problem  # the name of an except clause ends with it
            picture = yield from self.stand_in(inner, reason)
        if as_text and is_image(picture.answer):
            return (yield from self.as_text(asked, picture))
        if keep is not None and picture.hit is not None:
            keep(picture.hit, picture.answer)
        return picture.answer

    def as_text(self, asked: Asked, picture: Picture) -> Flow[Answer]:
        try:
            content: bytes = yield Do(lambda: content_of(picture.answer))
        except InlineTooLargeError as problem:
            return error(problem.public_status, problem.public)
        return as_json(asked.request, picture.answer, content, picture.width, picture.height)

    def found(self, asked: Asked) -> Flow[Picture]:
        source = yield from self.source_of(asked)
        try:
            return (yield from self.image(asked, source))
        except SourceChangedError:  # what was known of it is not true any more
            return (yield from self.image(asked, source))

    def source_of(self, asked: Asked) -> Flow[Source]:
        service = self.service
        if asked.url is not None:
            return service.access.remote.find(asked.url, service.store)
        source: Source = yield Do(lambda: self.find(asked.name))
        return source

    def stand_in(self, asked: Asked, problem: OptidashError) -> Flow[Picture]:
        """Return the fallback picture at the asked size, else the sentence that says what failed.

        It is stored as what it is, never as the image in whose place it goes out.
        """
        settings = self.service.settings
        path = settings.fallback_image
        if path is None:
            return Picture(error(problem.public_status, problem.public))
        status = settings.fallback_status
        request = asked.request if status == OK else plain(asked.request)
        boxed = replace(asked.wish, asked=in_box(asked.wish.asked), version=None)
        turn = replace(asked, request=request, wish=boxed, name=path.name, url=None)
        try:
            found = yield from self.image(turn, FileSource(f"fallback:{path}", path))
        except OptidashError as failure:
            self.service.note(str(path), failure)
            return Picture(error(problem.public_status, problem.public))
        answer = marked(found.answer, problem, status)
        return replace(found, answer=answer, hit=None)

    def image(self, asked: Asked, source: Source) -> Flow[Picture]:
        service = self.service
        try:
            picture = yield from self.variant(asked, source)
            opened = yield from service.opened(picture.answer)
            if opened is None:
                raise SourceChangedError("the file changed while it was asked for")
        except SourceChangedError:
            service.agreements.drop(source.name)
            raise
        except ProcessorError as problem:
            if service.settings.on_error == "raise":
                raise
            service.note(asked.name, problem)
            content, kind = yield from self.step(
                source, "original", lambda: web_original(source, service.settings)
            )
            head = Head(200, (("content-type", kind.media_type),))
            context = self.context(asked, None, head)
            service.counters.fell_back(reason_of(problem))
            return Picture(context.fallback(None, content, str(problem)))
        return replace(picture, answer=opened)

    def variant(self, asked: Asked, source: Source) -> Flow[Picture]:
        service, request = self.service, asked.request
        record, data = yield from self.known(source, read=request.method == "GET")
        if record is None:
            head = Head(200, (("content-type", media_type_of(asked.name)),))
            context = self.context(asked, None, head)
            return Picture(context.fallback(None, b"", "no variant is stored yet"))
        choice = yield from service.choose(asked.wish, record)
        context = self.context(asked, record, detail=choice.note)
        entry = None
        if not (service.is_to_begin(choice) and request.method == "GET"):
            entry = yield from service.look_up(choice, record)
        if entry is not None and kind_of(entry.meta) == "variant":
            hit = context.variant(choice, entry, HIT)
            opened = yield from service.opened(hit)
            if opened is not None:
                kept = self.hit(asked, source, record, choice, entry)
                return Picture(opened, *size_of(entry.meta), kept)
            entry = None
        if entry is not None and kind_of(entry.meta) == "refused":
            raise refusal_of(entry.meta)
        stale = None
        if entry is None and request.method == "GET":
            name = source.name
            stale = yield from stale_of(service, name, asked.wish, record, choice, context)
            if stale is not None and service.workshop.is_being_made(choice.key):
                answer = yield from stale_answer(service, context, choice, stale, record)
                if answer is not None:
                    return Picture(answer, *size_of(stale.entry.meta))
        if data is None:
            data = yield from self.read(source)
        body = source_body(data, record)
        size = (record.width, record.height)
        if entry is not None:
            detail = str(entry.meta.get("detail", ""))
            return Picture(context.kept(choice, record, body, HIT, detail), *size)
        if request.method == "HEAD":
            return Picture(context.fallback(record, body, "no variant is stored yet"), *size)
        return (yield from self.made(context, choice, source.name, record, data, body, stale))

    def hit(
        self, asked: Asked, source: Source, record: SourceRecord, choice: Choice, entry: Entry
    ) -> Hit | None:
        """Return what an answer is made of that the same request gets again, else None."""
        transforms = self.service.settings.transforms
        agreed = self.service.agreements.present_of(source.name, record)
        if agreed is None or not is_lasting(asked.wish, choice, transforms):
            return None
        return Hit(choice.key, entry, agreed, record.bytes)

    def made(
        self,
        context: Context,
        choice: Choice,
        name: str,
        record: SourceRecord,
        data: ImageData,
        body: Body,
        stale: Stale | None,
    ) -> Flow[Picture]:
        service = self.service
        task = Task(choice.key, name, record, choice.operations, choice.output, choice.keepable)
        size = (record.width, record.height)
        if choice.later is not None:
            later = choice.later
            behind = Task(later.key, name, record, later.operations, later.output, later.keepable)
            service.workshop.begin_behind(behind, data, lambda: None)
        if stale is not None and service.workshop.begin_behind(task, data, lambda: None):
            passing = yield from stale_answer(service, context, choice, stale, record)
            if passing is not None:
                return Picture(passing, *size_of(stale.entry.meta))
        try:
            made = yield from service.workshop.make(
                task, data, service.settings.deadline, lambda: None
            )
        except (ImageError, OptionError, SourceChangedError):
            raise
        except OptidashError as problem:
            if service.settings.on_error == "raise":
                raise
            service.counters.fell_back(reason_of(problem))
            return Picture(context.fallback(record, body, str(problem)), *size)
        how = COLLAPSED if made.collapsed else STORED
        if kind_of(made.entry.meta) == "kept":
            detail = str(made.entry.meta.get("detail", ""))
            return Picture(context.kept(choice, record, body, how, detail), *size)
        service.counters.sent(made.entry.size, record.bytes)
        answer = context.variant(choice, made.entry, how)
        return Picture(answer, *size_of(made.entry.meta))

    def known(
        self, source: Source, *, read: bool
    ) -> Flow[tuple[SourceRecord | None, ImageData | None]]:
        """Return what is known of a source; where it had to be read for that, its bytes too.

        Within `fresh_for` nothing is asked of the source. Without `read` an unknown source stays
        unknown.
        """
        service = self.service
        agreed = service.agreements.find(source.name)
        if agreed is not None:
            return agreed.record, None
        try:
            validator: str = yield from self.step(source, "validator", source.validator)
        except SourceNotFoundError:
            service.agreements.drop(source.name)
            yield Do(lambda: service.store.forget_newest(source.name))
            raise
        entry = yield Do(lambda: service.store.get(record_key(source.name, validator)))
        if entry is not None and kind_of(entry.meta) == "refused":
            service.agreements.drop(source.name)
            raise refusal_of(entry.meta)
        record, data = record_of(entry), None
        if record is None and not read:
            return None, None
        if record is None:
            data = yield from self.read(source)
            record = yield from self.learnt(source, data, validator)
        service.agreements.put(source.name, NO_HEAD, record)
        return record, data

    def read(self, source: Source) -> Flow[ImageData]:
        limit = self.service.settings.max_input_bytes
        data: ImageData = yield from self.step(source, "read", lambda: source.read(limit))
        return data

    def step(self, source: Source, what: str, work: Callable[[], Any]) -> Flow[Any]:
        """Do something with a source. Slow hosts must not keep others from the cache."""
        if not isinstance(source, RemoteSource):
            return (yield Do(work))
        remote = self.service.access.remote
        return (yield Wait(remote.begin(source, what, work), None))

    def learnt(self, source: Source, data: ImageData, validator: str) -> Flow[SourceRecord]:
        service = self.service

        def learn() -> SourceRecord:
            record = service.workshop.identify(data, validator)
            newest = record_of(service.store.get(record_key(source.name, None)))
            service.agreements.supersede(source.name, newest, record)
            service.store.remember(source.name, record, newest=True)
            return record

        try:
            record: SourceRecord = yield Do(learn)
        except ImageError as problem:
            refusal = problem  # the name of an except clause ends with it
            service.agreements.drop(source.name)
            yield Do(lambda: service.remember_refusal(source.name, validator, refusal))
            raise
        return record

    def context(
        self,
        asked: Asked,
        record: SourceRecord | None,
        head: Head = NO_HEAD,
        *,
        detail: str | None = None,
    ) -> Context:
        if asked.is_open:
            lifetime = self.service.lifetime(asked.wish, record)
        else:
            lifetime = private_lifetime(asked.wish.expires, self.service.clock())
        if asked.wish.download is not None:
            disposition = attachment(asked.wish.download)
            head = Head(head.status, (*head.headers, ("content-disposition", disposition)))
        return Context(
            request=asked.request,
            default=lifetime,
            head=head,
            detail=detail,
            clock=self.service.clock,
        )


def private_lifetime(expires: float | None, now: float) -> str:
    """Return the Cache-Control value of what not everybody may see; it ends with its address."""
    left = PRIVATE_SECONDS if expires is None else max(0, int(expires - now))
    return f"private, max-age={min(PRIVATE_SECONDS, left)}"


def is_image(answer: Answer) -> bool:
    """Say whether an answer sends an image, that of a failure too, in whatever form."""
    return answer.status < 400 or HEADER in dict(answer.headers)


def is_json_wanted(request: Request) -> bool:
    return is_wanted(request.headers.get("accept"))


def size_of(meta: Mapping[str, object]) -> tuple[int | None, int | None]:
    """Return the width and height that a cache entry tells."""
    width, height = meta.get("width"), meta.get("height")
    return (
        width if isinstance(width, int) else None,
        height if isinstance(height, int) else None,
    )


def web_original(source: Source, settings: Settings) -> tuple[bytes, Format]:
    """Return a source's bytes and format, where browsers show such an image."""
    data = source.read(settings.max_input_bytes)
    content = data.read_bytes() if isinstance(data, Path) else data
    kind = detect(content[:HEAD_BYTES])
    if kind is None or not (kind.web or kind.modern) or len(content) > settings.max_input_bytes:
        raise UnsupportedImageError("the original is not an image that browsers show")
    return content, kind


def media_type_of(name: str) -> str:
    found = of_path(name)
    return found.media_type if found else "application/octet-stream"
