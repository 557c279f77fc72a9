"""The ASGI middleware: looks at an answer's start, and takes over where it is an image's."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable
from pathlib import Path
from typing import Any

from optidash_integrations.asgi.extension import Optidash
from optidash_integrations.asgi.fast import Key, after_head, keep, key_of, send_ready
from optidash_integrations.asgi.messages import (
    PATHSEND,
    SEEN,
    App,
    Message,
    Receive,
    Scope,
    Send,
    head_of,
    offers_pathsend,
    request_of,
    send_answer,
    send_path,
    start_of,
)
from optidash_integrations.exchange import INNER, Answer, Verdict
from optidash_integrations.flows import Flow
from optidash_integrations.formats import is_web_path
from optidash_integrations.headers import TAG_PREFIX
from optidash_integrations.interception import Interception, content_length
from optidash_integrations.service import Service
from optidash_integrations.variants import ImageData

START = "http.response.start"
IMAGE = b"image/"
OUR_TAG = f'"{TAG_PREFIX}'.encode()


class OptidashMiddleware:
    """Wrap an ASGI app so that the images it answers with leave optimised.

    Keyword arguments are settings (`public_paths=["/static/"]`); `optidash` shares those of an
    `Optidash` instead. Raises `SettingsError` where a setting is wrong or unknown.
    """

    def __init__(self, app: App, *, optidash: Optidash | None = None, **settings: Any) -> None:
        self.app = app
        self.optidash = optidash or Optidash(**settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service = self.optidash.service
        path = scope["path"]
        if is_web_path(path) or service.public_paths.may_have(path):
            plain = key_of(scope, service.ready)
            found = service.ready.find(plain[0]) if plain is not None else None
            if found is None:
                await self.intercept(service, scope, receive, send, plain)
                return
            # Those around us may change the head, so they get a list of their own.
            await send({"type": START, "status": 200, "headers": found[0].copy()})
            await send({"type": "http.response.body", "body": found[1]})
            return
        if names_ours(scope):
            await self.intercept(service, scope, receive, send)
            return
        take: Send | None = None
        exchange: Exchange | None = None

        def look(message: Message) -> Awaitable[None]:
            """Notice an image among the pages; a coroutine of its own would cost every page."""
            nonlocal take, exchange
            if take is not None:
                return take(message)
            if message["type"] == START:
                take = send
                if not is_page(message):
                    exchange = taken_up(service, scope, send)
                    take = exchange.take if exchange is not None else send
            return (take or send)(message)

        try:
            await self.app(scope, receive, look)
            if exchange is not None:
                await exchange.flush()
        finally:
            if exchange is not None:
                exchange.interception.close()

    async def intercept(
        self,
        service: Service,
        scope: Scope,
        receive: Receive,
        send: Send,
        plain: tuple[Key, bool] | None = None,
    ) -> None:
        interception = service.intercept(request_of(scope))
        if interception is None:
            await self.app(scope, receive, send)
            return
        if interception.public:
            answer = await guarded(service, interception.early())
            if isinstance(answer, Answer):
                keep(service.ready, plain and plain[0], interception.hit, answer)
                await send_answer(answer, scope, send)
                return
        exchange = Exchange(service, interception, scope, send, plain)
        try:
            await self.app(inner_scope(scope, interception), receive, exchange.take)
            await exchange.flush()
        finally:
            interception.close()


def names_ours(scope: Scope) -> bool:
    """Say whether a request names a tag of ours, which the app must not see."""
    for name, value in scope["headers"]:  # noqa: SIM110  a generator costs thrice as much
        if name == b"if-none-match" and OUR_TAG in value:
            return True
    return False


def is_page(message: Message) -> bool:
    """Say whether an answer is not to be touched, from its type alone."""
    for name, value in message.get("headers", ()):
        if name == b"content-type":
            return value[:6].lower() != IMAGE  # type: ignore[no-any-return]
    return False


def taken_up(service: Service, scope: Scope, send: Send) -> Exchange | None:
    interception = service.intercept(request_of(scope))
    return None if interception is None else Exchange(service, interception, scope, send)


def inner_scope(scope: Scope, interception: Interception) -> Scope:
    """Return the scope that the inner app sees."""
    hidden = {name.encode("latin-1") for name in interception.hidden}
    if not hidden and not interception.is_image_path:
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in hidden]
    inner = {**scope, "headers": headers, SEEN: interception.request}
    if interception.is_image_path:
        inner["extensions"] = {**(scope.get("extensions") or {}), PATHSEND: {}}
    return inner


async def guarded(service: Service, flow: Flow[Any]) -> Any:
    """Carry out a flow; whatever fails in it, the inner answer goes through."""
    try:
        return await service.run_async(flow)
    except Exception as error:  # noqa: BLE001  the visitor gets the original
        service.pass_over(error)
        return Verdict.PASS


class Exchange:
    """One answer on its way out. `take` is the inner app's `send`."""

    def __init__(
        self,
        service: Service,
        interception: Interception,
        scope: Scope,
        send: Send,
        plain: tuple[Key, bool] | None = None,
    ) -> None:
        self.service = service
        self.plain = plain
        self.key: Hashable | None = None
        self.interception = interception
        self.scope = scope
        self.send = send
        self.start: Message | None = None
        self.chunks: list[bytes] | None = None
        self.expected = self.received = 0
        self.passing = False
        self.answered = False

    async def take(self, message: Message) -> None:
        """Take one message from the inner app."""
        kind = message["type"]
        if self.answered:
            return  # what is left of a body that is not needed
        if self.passing:
            await self.forward(message)
        elif kind == START:
            await self.take_start(message)
        elif self.start is not None and kind in ("http.response.body", PATHSEND):
            await self.take_body(message)
        elif self.start is not None:
            await self.pass_on(message)
        else:
            await self.send(message)

    async def take_start(self, message: Message) -> None:
        if self.plain is not None:
            key, has_cookie = self.plain
            self.key = after_head(key, message, has_cookie=has_cookie)
            found = self.service.ready.find(self.key) if self.key is not None else None
            if found is not None:
                self.answered = True
                await send_ready(found, self.send)
                return
        self.start = message
        head = head_of(message)
        if message.get("trailers") or not self.interception.considers(head):
            await self.pass_on()

    async def take_body(self, message: Message) -> None:
        if self.chunks is not None:
            await self.collect(message)
            return
        assert self.start is not None
        head = head_of(self.start)
        path = Path(message["path"]) if message["type"] == PATHSEND else None
        length = file_length(path) if path else self.body_length(message)
        if not self.interception.fits(length):
            await self.pass_on(message)
            return
        flow = self.interception.from_head(head, length, in_file=path is not None)
        verdict = await guarded(self.service, flow)
        if isinstance(verdict, Answer):
            if not self.interception.public and content_length(head) is not None:
                keep(self.service.ready, self.key, self.interception.hit, verdict)
            await self.answer(verdict, message)
        elif verdict is Verdict.PASS:
            await self.pass_on(message)
        elif path is not None:
            await self.work(path, message)
        else:
            self.chunks, self.expected = [], length or 0
            await self.collect(message)

    def body_length(self, message: Message) -> int | None:
        assert self.start is not None
        length = content_length(head_of(self.start))
        if length is None and not message.get("more_body"):
            return len(message.get("body", b""))
        return length

    async def collect(self, message: Message) -> None:
        assert self.chunks is not None
        if message["type"] != "http.response.body":
            await self.pass_on(self.collected(more=True), message)
            return
        self.chunks.append(message.get("body", b""))
        self.received += len(self.chunks[-1])
        if self.received > self.expected:  # not what the head promised
            await self.pass_on(self.collected(more=bool(message.get("more_body"))))
        elif not message.get("more_body"):
            if self.received < self.expected:
                await self.pass_on(self.collected(more=False))
                return
            body = b"".join(self.chunks)
            await self.work(body, {"type": "http.response.body", "body": body})

    def collected(self, *, more: bool) -> Message:
        body = b"".join(self.chunks or ())
        return {"type": "http.response.body", "body": body, "more_body": more}

    async def work(self, data: ImageData, message: Message) -> None:
        """Answer with what becomes of the whole body; `message` is that body."""
        assert self.start is not None
        flow = self.interception.from_body(head_of(self.start), data)
        verdict = await guarded(self.service, flow)
        if isinstance(verdict, Answer):
            await self.answer(verdict, message)
        else:
            await self.pass_on(message)

    async def answer(self, answer: Answer, message: Message) -> None:
        if answer.body is INNER:
            self.start = start_of(answer.status, answer.headers)
            await self.pass_on(message)
            return
        self.answered = True
        await send_answer(answer, self.scope, self.send)

    async def pass_on(self, *messages: Message) -> None:
        """Let the inner answer through from here on, beginning with what was held back."""
        assert self.start is not None
        self.passing = True
        self.interception.close()
        await self.send(self.start)
        for message in messages:
            await self.forward(message)

    async def forward(self, message: Message) -> None:
        if message["type"] == PATHSEND and not offers_pathsend(self.scope):
            await send_path(Path(message["path"]), self.send)
        else:
            await self.send(message)

    async def flush(self) -> None:
        """Send what is held back where the app ended without a last chunk."""
        if self.start is not None and not self.passing and not self.answered:
            held = [self.collected(more=True)] if self.chunks else []
            await self.pass_on(*held)


def file_length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
