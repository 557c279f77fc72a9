"""One intercepted request: what the inner app is asked, and what becomes of its answer.

An adapter calls, in this order: `hidden` and `early` before the inner app, `considers` with the
head of its answer, `from_head`, and where the verdict is `Verdict.BODY`, `from_body`; `close` in
every case, whatever happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from optidash_integrations.answers import COLLAPSED, HIT, STORED, Context, source_body
from optidash_integrations.errors import (
    ImageError,
    OptidashError,
    OptionError,
    SourceChangedError,
)
from optidash_integrations.exchange import INNER, Answer, Body, Head, Headers, Request, Verdict
from optidash_integrations.flows import Do, Flow
from optidash_integrations.formats import ICO, is_web_path, of_media_type
from optidash_integrations.headers import (
    CACHE_NAME,
    PASSED_VARY,
    TAG_PREFIX,
    is_attachment,
    is_private,
    names_our_tag,
    seconds_of,
    vary_names,
)
from optidash_integrations.ready import Hit
from optidash_integrations.records import SourceRecord, record_key
from optidash_integrations.stale import stale_answer, stale_of
from optidash_integrations.stats import reason_of
from optidash_integrations.store import kind_of, record_of
from optidash_integrations.variants import ImageData
from optidash_integrations.wishes import NOTHING_ASKED, Choice, Wish, is_lasting
from optidash_integrations.workshop import Task

if TYPE_CHECKING:
    from optidash_integrations.service import Service

# They would make the app answer with a part, an encoding or nothing where the image is needed.
HIDDEN_ON_IMAGES = frozenset({"accept-encoding", "range", "if-range"})
CONDITIONS = frozenset({"if-none-match", "if-modified-since"})
HANDED_OVER = frozenset({"x-sendfile", "x-accel-redirect", "content-range"})

# RFC 9110, 8.8.2.2: a date this near to the present may hide a second change.
SETTLED = 2.0


class Interception:
    """What the service does with one request to the inner app. Made by `Service.intercept`."""

    def __init__(self, service: Service, request: Request, *, public: bool) -> None:
        self.service = service
        self.request = request
        self.public = public
        self.is_image_path = is_web_path(request.path)
        self.held = 0
        self.is_endpoints = False
        self.hit: Hit | None = None
        self.learned: SourceRecord | None = None

    @cached_property
    def name(self) -> str:
        """The source's name: host, path and the whole query."""
        request = self.request
        return "\0".join((request.headers.get("host", ""), request.path, request.query))

    @cached_property
    def wish(self) -> Wish:
        """What the request asks of the image, should it turn out to be one."""
        return self.service.wish(self.request, intercepted=True)

    @property
    def hidden(self) -> frozenset[str]:
        """The request headers that the inner app must not see."""
        hidden = HIDDEN_ON_IMAGES if self.is_image_path else frozenset()
        return hidden | CONDITIONS if names_our_tag(self.request) else hidden

    def found(self, choice: Choice, hit: Hit) -> None:
        """Take note of a hit whose answer depends on the request and the app alone."""
        if is_lasting(self.wish, choice, self.service.settings.transforms):
            self.hit = hit

    # Before the inner app

    def early(self) -> Flow[Answer | None]:
        """Return the answer for a public path whose image is stored and was agreed lately.

        Only worth calling where `public` is set.
        """
        with_origin = "origin" in self.request.headers
        agreed = self.service.agreements.find(self.name, with_origin=with_origin)
        if agreed is None:
            return None
        choice = yield from self.service.choose(self.wish, agreed.record)
        if self.service.is_to_begin(choice):
            return None
        entry = yield from self.service.look_up(choice, agreed.record)
        if entry is None or kind_of(entry.meta) != "variant":
            return None
        self.found(choice, Hit(choice.key, entry, agreed, agreed.record.bytes))
        context = self.context(agreed.head, agreed.record, choice.note)
        answer = context.variant(choice, entry, HIT)
        return (yield from self.service.opened(answer))

    # After its head

    def considers(self, head: Head) -> bool:
        """Say whether an answer may be one to work on, from its head alone."""
        eligible = self.is_eligible(head)
        if self.public and not eligible and head.status != 304 and head.status < 500:
            self.service.agreements.drop(self.name)
        return eligible

    def is_eligible(self, head: Head) -> bool:
        if is_ours(head):
            # Our own image endpoint answers below this middleware. A framework may have put a
            # cookie on what it says everybody may store.
            self.is_endpoints = head.get("set-cookie") is not None
            return self.is_endpoints
        if head.status != 200:
            return False
        kind = of_media_type(head.get("content-type") or "")
        if kind is None or kind is ICO or kind.name not in self.service.reads:
            return False  # an icon holds several sizes, and whoever asks for one wants them all
        if head.get("content-encoding") not in (None, "identity") or is_attachment(head):
            return False
        return HANDED_OVER.isdisjoint(name for name, _ in head.headers) and self.is_open(head)

    def fits(self, length: int | None) -> bool:
        """Say whether a body of `length` bytes (None: unknown) is one to work on."""
        if self.is_endpoints:
            return True
        limit = self.service.settings.max_input_bytes
        fits = length is not None and 0 < length <= limit
        if not fits and self.public and self.request.method == "GET":
            self.service.agreements.drop(self.name)
        return fits

    def is_open(self, head: Head) -> bool:
        """Say whether the app's answer may be stored and changed."""
        if is_private(head) or "*" in vary_names(head.get("vary")):
            return False
        if self.public:
            return vary_names(head.get("vary")) <= PASSED_VARY
        return head.get("set-cookie") is None and "authorization" not in self.request.headers

    def from_head(
        self, head: Head, length: int | None, *, in_file: bool = False
    ) -> Flow[Answer | Verdict]:
        """Answer from what is stored, where the app's validator tells which bytes it has.

        `length` is that of the app's body in bytes; `in_file` says that it lies in a local file, so
        that no memory is held for it.
        """
        if self.is_endpoints:
            return Answer(head.status, without_cookie(head), INNER)
        if length is None:
            return Verdict.PASS
        validator = self.validator(head)
        if self.public:
            self.service.agreements.drop_changed(self.name, validator)
        record = None
        if validator:
            key = record_key(self.name, validator)
            entry = self.service.store.quick(key) or (yield Do(lambda: self.service.store.get(key)))
            if entry is not None and kind_of(entry.meta) == "refused":
                return Verdict.PASS
            record = record_of(entry)
        if record is not None and record.bytes != length and self.request.method != "HEAD":
            record = None  # the app has other bytes under the same validator
        if record is not None:
            answer = yield from self.stored(head, record, INNER)
            if answer is not None:
                return answer
            answer = yield from self.while_made(head, record)
            if answer is not None:
                return answer
        if self.request.method == "HEAD":
            return self.context(head, record).fallback(record, b"", "no variant is stored yet")
        size = 0 if in_file else length
        if not self.service.hold(size):
            self.service.counters.fell_back("memory full")
            return self.context(head, record).fallback(record, INNER, "too many images at a time")
        self.held = size
        return Verdict.BODY

    def stored(self, head: Head, record: SourceRecord, body: Body) -> Flow[Answer | Verdict | None]:
        """Answer with a stored variant or decision; None where there is none."""
        choice = yield from self.service.choose(self.wish, record)
        context = self.context(head, record, choice.note)
        if self.service.is_to_begin(choice):
            return None
        found = yield from self.service.look_up(choice, record)
        if found is None:
            return None
        self.agree(head, record)
        if kind_of(found.meta) == "variant":
            self.found(choice, Hit(choice.key, found, None, record.bytes))
            variant = context.variant(choice, found, HIT)
            return (yield from self.service.opened(variant))
        if kind_of(found.meta) == "kept":
            return context.kept(choice, record, body, HIT, str(found.meta.get("detail", "")))
        return Verdict.PASS

    def while_made(self, head: Head, record: SourceRecord) -> Flow[Answer | None]:
        """Answer with the variant of what the source was before, while the new one is made."""
        if not self.public or self.request.method == "HEAD":
            return None
        choice = yield from self.service.choose(self.wish, record)
        if not self.service.workshop.is_being_made(choice.key):
            return None
        return (yield from self.stale(head, record, choice, lambda: True))

    def stale(
        self, head: Head, record: SourceRecord, choice: Choice, begin: Callable[[], bool]
    ) -> Flow[Answer | None]:
        """Answer with a stale variant where there is one, and `begin` says that a new one comes."""
        if not self.public:
            return None
        service, context = self.service, self.context(head, record, choice.note)
        found = yield from stale_of(service, self.name, self.wish, record, choice, context)
        if found is None or not begin():
            return None
        return (yield from stale_answer(service, context, choice, found, record))

    # With its body

    def from_body(self, head: Head, data: ImageData) -> Flow[Answer | Verdict]:
        """Answer with the variant made of these bytes, or with the bytes themselves."""
        validator = self.validator(head)
        try:
            record = yield Do(lambda: self.service.workshop.identify(data, validator))
        except ImageError as error:
            refusal = error  # the name of an except clause ends with it
            self.service.counters.fell_back(reason_of(error))
            self.service.note(self.request.path, refusal)
            if validator:
                yield Do(lambda: self.service.remember_refusal(self.name, validator, refusal))
            return Verdict.PASS
        body = source_body(data, record)
        self.learned = record
        answer = yield from self.stored(head, record, body)
        if answer is None:
            answer = yield from self.made(head, record, data, body)
        if self.learned is not None:
            yield Do(self.remember)
        if isinstance(answer, Answer) and answer.body is INNER:
            answer = replace(answer, body=body)
        return answer

    def remember(self) -> None:
        """Store what was learned of the source; where a variant is made, while it is."""
        record, self.learned = self.learned, None
        if record is not None:
            self.service.store.remember(self.name, record)

    def made(
        self, head: Head, record: SourceRecord, data: ImageData, body: Body
    ) -> Flow[Answer | Verdict]:
        choice = yield from self.service.choose(self.wish, record)
        context = self.context(head, record, choice.note)
        if choice.later is not None:
            self.begin(choice.later, record, data)
        stale = yield from self.stale(
            head, record, choice, lambda: self.begin(choice, record, data)
        )
        if stale is not None:
            return stale
        try:
            made = yield from self.service.workshop.make(
                self.task(choice, record),
                data,
                self.service.settings.deadline,
                self.handed_over(),
                self.remember,
            )
        except (ImageError, SourceChangedError) as error:
            self.service.counters.fell_back(reason_of(error))
            return Verdict.PASS
        except OptidashError as error:
            if isinstance(error, OptionError) and self.wish.asked is not NOTHING_ASKED:
                # These options do not fit this image.
                return (yield from self.without_options(head, record, data, body, error))
            if self.service.settings.on_error == "raise":
                raise
            self.service.counters.fell_back(reason_of(error))
            return context.fallback(record, body, str(error))
        self.agree(head, record)
        how = COLLAPSED if made.collapsed else STORED
        if kind_of(made.entry.meta) == "kept":
            return context.kept(choice, record, body, how, str(made.entry.meta["detail"]))
        self.service.counters.sent(made.entry.size, record.bytes)
        variant = context.variant(choice, made.entry, how)
        return (yield from self.service.opened(variant)) or Verdict.PASS

    def without_options(
        self, head: Head, record: SourceRecord, data: ImageData, body: Body, error: OptionError
    ) -> Flow[Answer | Verdict]:
        self.service.note(self.request.path, error)
        self.wish = replace(self.wish, asked=NOTHING_ASKED, detail=str(error))
        answer = yield from self.stored(head, record, body)
        return answer or (yield from self.made(head, record, data, body))

    def begin(self, choice: Choice, record: SourceRecord, data: ImageData) -> bool:
        """Begin what nobody waits for; say whether it is being made."""
        task = self.task(choice, record)
        return self.service.workshop.begin_behind(task, data, self.handed_over())

    def task(self, choice: Choice, record: SourceRecord) -> Task:
        return Task(
            choice.key, self.request.path, record, choice.operations, choice.output, choice.keepable
        )

    def handed_over(self) -> Callable[[], None]:
        """Leave the bytes in the care of the work that needs them: it lets go when it is done."""
        size, self.held = self.held, 0
        return lambda: self.service.let_go(size)

    def close(self) -> None:
        """Give back what is held; call it whatever happened."""
        self.hit = None  # else its entry would live as long as what the frameworks keep of us
        size, self.held = self.held, 0
        if size:
            self.service.let_go(size)

    # Facts

    def agree(self, head: Head, record: SourceRecord) -> None:
        """Take note of what the app handed out, where that is for everybody."""
        if self.public:
            self.service.agreements.put(self.name, head, record)

    def validator(self, head: Head) -> str:
        """Return what changes when the app's bytes change, from its head; empty where nothing does.

        A Last-Modified counts once it is two seconds old, and only where the answer does not vary
        with more than its encoding.
        """
        etag = head.get("etag")
        if etag:
            return etag
        modified = head.get("last-modified")
        if not modified or not vary_names(head.get("vary")) <= PASSED_VARY:
            return ""
        seconds = seconds_of(modified)
        if seconds is None or self.service.clock() - seconds < SETTLED:
            return ""
        return f"{modified}; {head.get('content-length') or ''}"

    def context(self, head: Head, record: SourceRecord | None, note: str | None = None) -> Context:
        headers = self.request.headers
        if self.public:  # a shared cache that stores the image must not hand out a cookie
            head = Head(head.status, [h for h in head.headers if h[0] != "set-cookie"])
        return Context(
            request=self.request,
            default=self.service.lifetime(self.wish, record),
            head=head,
            shared=self.public or not ("cookie" in headers or "authorization" in headers),
            detail=self.wish.detail or note,
            last_modified=head.get("last-modified"),
            clock=self.service.clock,
        )


def is_ours(head: Head) -> bool:
    """Say whether an answer is one that this package has made already."""
    if (head.get("etag") or "").startswith(f'"{TAG_PREFIX}'):
        return True
    return (head.get("cache-status") or "").startswith(f"{CACHE_NAME};")


def without_cookie(head: Head) -> Headers:
    """Return an answer's headers without the cookie that a framework has put on it."""
    vary = ", ".join(n for n in (head.get("vary") or "").split(", ") if n.lower() != "cookie")
    kept = [h for h in head.headers if h[0] not in ("set-cookie", "vary")]
    return [*kept, ("vary", vary)] if vary else kept


def content_length(head: Head) -> int | None:
    """Return the length that a head promises, or None."""
    value = head.get("content-length")
    return int(value) if value and value.isascii() and value.isdigit() else None
