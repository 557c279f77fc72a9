"""The image endpoint: a source's name and options in, one variant out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from optidash_integrations.answers import COLLAPSED, HIT, NO_HEAD, STORED, Context, source_body
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    OptidashError,
    OptionError,
    ProcessorError,
    SourceChangedError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.exchange import Answer, Body, Head, Request
from optidash_integrations.flows import Do, Flow
from optidash_integrations.formats import HEAD_BYTES, Format, detect, of_path
from optidash_integrations.headers import error
from optidash_integrations.records import SourceRecord, identify, record_key
from optidash_integrations.service import Service
from optidash_integrations.settings import Settings
from optidash_integrations.sources import Source
from optidash_integrations.store import kind_of, record_of
from optidash_integrations.variants import ImageData
from optidash_integrations.wishes import Choice, Wish
from optidash_integrations.workshop import Task

logger = logging.getLogger(__name__)

PRIVATE_ACCESS = "private, max-age=300"


class Endpoint:
    """Answers requests for images by name.

    `find` gives the source of a name, and raises `SourceNotFoundError`; `access` says who may ask:
    `public`, `signed`, or a callable of the framework's request and the name.
    """

    def __init__(
        self, service: Service, find: Callable[[str], Source], *, access: object = "public"
    ) -> None:
        self.service = service
        self.find = find
        self.access = service.settings.access or access

    def answer(self, request: Request, name: str, visitor: object = None) -> Flow[Answer]:
        """Answer a request for the source `name`; `visitor` is the framework's own request."""
        if request.method not in ("GET", "HEAD"):
            refused = error(405, "Only GET and HEAD are allowed here.")
            refused.headers.append(("allow", "GET, HEAD"))
            return refused
        try:
            try:
                return (yield from self.image(request, name, visitor))
            except SourceChangedError:  # what was known of it is not true any more
                return (yield from self.image(request, name, visitor))
        except OptionError as problem:
            return error(problem.public_status, str(problem))
        except SourceNotFoundError as problem:
            logger.info("%s", problem)
            return error(problem.public_status, problem.public)
        except OptidashError as problem:
            self.service.note(name, problem)
            return error(problem.public_status, problem.public)

    def image(self, request: Request, name: str, visitor: object) -> Flow[Answer]:
        service = self.service
        wish = service.wish(request, intercepted=False)
        source = yield Do(lambda: self.allowed(wish, visitor, name))
        try:
            answer = yield from self.answered(request, wish, source, name)
            opened = yield from service.opened(answer)
            if opened is None:
                raise SourceChangedError("the file changed while it was asked for")
        except SourceChangedError:
            service.disagree(source.name)
            raise
        except ProcessorError as problem:
            if service.settings.on_error == "raise":
                raise
            service.note(name, problem)
            content, kind = yield Do(lambda: web_original(source, service.settings))
            head = Head(200, (("content-type", kind.media_type),))
            context = self.context(request, wish, None, head)
            return context.fallback(None, content, str(problem))
        return opened

    def answered(self, request: Request, wish: Wish, source: Source, name: str) -> Flow[Answer]:
        service = self.service
        record, data = yield from self.known(source, read=request.method == "GET")
        if record is None:
            head = Head(200, (("content-type", media_type_of(name)),))
            context = self.context(request, wish, None, head)
            return context.fallback(None, b"", "no variant is stored yet")
        choice = yield from service.choose(wish, record)
        context = self.context(request, wish, record, detail=choice.note)
        entry = yield from service.look_up(choice, record)
        if entry is not None and kind_of(entry.meta) == "variant":
            hit = context.variant(choice.key, entry, HIT, negotiated=choice.negotiated)
            opened = yield from service.opened(hit)
            if opened is not None:
                return opened
            entry = None
        if entry is not None and kind_of(entry.meta) == "refused":
            raise refusal_of(entry.meta)
        if data is None:
            data = yield Do(lambda: source.read(service.settings.max_input_bytes))
        body = source_body(data, record)
        if entry is not None:
            return context.kept(choice.key, record, body, HIT, str(entry.meta.get("detail", "")))
        if request.method == "HEAD":
            return context.fallback(record, body, "no variant is stored yet")
        return (yield from self.made(context, choice, source.name, record, data, body))

    def allowed(self, wish: Wish, visitor: object, name: str) -> Source:
        self.service.access.check(self.access, wish.signed, visitor, name)
        return self.find(name)

    def made(
        self,
        context: Context,
        choice: Choice,
        name: str,
        record: SourceRecord,
        data: ImageData,
        body: Body,
    ) -> Flow[Answer]:
        service = self.service
        task = Task(choice.key, name, record, choice.operations, choice.output, choice.keepable)
        try:
            made = yield from service.workshop.make(
                task, data, service.settings.deadline, lambda: None
            )
        except (ImageError, OptionError, SourceChangedError):
            raise
        except OptidashError as problem:
            if service.settings.on_error == "raise":
                raise
            return context.fallback(record, body, str(problem))
        how = COLLAPSED if made.collapsed else STORED
        if kind_of(made.entry.meta) == "kept":
            detail = str(made.entry.meta.get("detail", ""))
            return context.kept(choice.key, record, body, how, detail)
        return context.variant(choice.key, made.entry, how, negotiated=choice.negotiated)

    def known(
        self, source: Source, *, read: bool
    ) -> Flow[tuple[SourceRecord | None, ImageData | None]]:
        """Return what is known of a source; where it had to be read for that, its bytes too.

        Within `fresh_for` nothing is asked of the source. Without `read` an unknown source stays
        unknown.
        """
        service = self.service
        agreed = service.agreed(source.name, with_origin=False)
        if agreed is not None:
            return agreed.record, None
        try:
            validator = yield Do(source.validator)
        except SourceNotFoundError:
            service.disagree(source.name)
            raise
        entry = yield Do(lambda: service.store.get(record_key(source.name, validator)))
        if entry is not None and kind_of(entry.meta) == "refused":
            service.disagree(source.name)
            raise refusal_of(entry.meta)
        record, data = record_of(entry), None
        if record is None and not read:
            return None, None
        if record is None:
            data = yield Do(lambda: source.read(service.settings.max_input_bytes))
            record = yield from self.learnt(source, data, validator)
        service.agree(source.name, NO_HEAD, record, public=True)
        return record, data

    def learnt(self, source: Source, data: ImageData, validator: str) -> Flow[SourceRecord]:
        service = self.service

        def learn() -> SourceRecord:
            record = identify(data, service.processor, service.settings.limits, validator)
            service.store.remember(source.name, record, newest=True)
            return record

        try:
            record: SourceRecord = yield Do(learn)
        except ImageError as problem:
            refusal = problem  # the name of an except clause ends with it
            service.disagree(source.name)
            yield Do(lambda: service.remember_refusal(source.name, validator, refusal))
            raise
        return record

    def context(
        self,
        request: Request,
        wish: Wish,
        record: SourceRecord | None,
        head: Head = NO_HEAD,
        *,
        detail: str | None = None,
    ) -> Context:
        open_to_all = self.access in ("public", "signed")
        lifetime = self.service.lifetime(wish, record) if open_to_all else PRIVATE_ACCESS
        return Context(
            request=request,
            default=lifetime,
            head=head,
            detail=detail,
            clock=self.service.clock,
        )


def refusal_of(meta: Mapping[str, object]) -> ImageError:
    """Return the error that a stored note tells of, as it was raised."""
    kinds = {kind.public_status: kind for kind in (ImageTooLargeError, UnsupportedImageError)}
    status = meta.get("status")
    kind = kinds.get(status, BrokenImageError) if isinstance(status, int) else BrokenImageError
    return kind(str(meta.get("detail")))


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
