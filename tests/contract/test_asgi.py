"""What only ASGI has: other kinds of connections, background tasks, sending by path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.routing import Route as Path_

from optidash_integrations.asgi import ImageApp, Optidash, OptidashMiddleware
from optidash_integrations.errors import SettingsError
from tests.sites.base import Reply
from tests.sites.drivers import PATHSEND, Answering, Loop, scope_of
from tests.sites.photos import CHROME, photo, tiny
from tests.sites.processor import HandProcessor

App = Callable[[Any, Any, Any], Awaitable[None]]
IMAGE = [(b"content-type", b"image/jpeg")]


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def wrap(tmp_path: Path) -> Callable[..., Any]:
    """Give a function that puts the middleware around an app."""

    def middleware(app: App, **settings: Any) -> OptidashMiddleware:
        given = {"cache_dir": tmp_path / "cache", "deadline": 60} | settings
        return OptidashMiddleware(app, **given)

    return middleware


def image_app(data: bytes, *, length: bool = True, extra: Any = ()) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [*IMAGE, *extra]
        if length:
            headers.append((b"content-length", str(len(data)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    return app


def get(loop: Loop, app: Any, target: str = "/photo.jpg", **extensions: Any) -> Reply:
    scope = scope_of("GET", target, CHROME)
    scope["extensions"] = {name.replace("_", "."): {} for name in extensions}
    return loop.call(app, scope)


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "something.new"])
def test_other_connections_get_to_the_app_as_they_are(
    loop: Loop, wrap: Callable[..., Any], kind: str
) -> None:
    seen: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope, receive, send))

    async def receive() -> None: ...

    async def send(message: object) -> None: ...

    scope = {"type": kind}
    loop.run(wrap(app)(scope, receive, send))
    assert seen[0] is scope
    assert seen[1:] == [receive, send]


def test_the_answer_does_not_wait_for_background_tasks(
    loop: Loop, wrap: Callable[..., Any]
) -> None:
    async def scenario() -> None:
        may_end = asyncio.Event()

        async def photo_view(request: object) -> Response:
            return Response(
                photo(), media_type="image/jpeg", background=BackgroundTask(may_end.wait)
            )

        app = wrap(Starlette(routes=[Path_("/photo.jpg", photo_view)]))
        answering = Answering()
        scope = scope_of("GET", "/photo.jpg", CHROME)
        running = asyncio.create_task(app(scope, answering.receive, answering.send))
        await asyncio.wait_for(answering.complete.wait(), 30)
        assert answering.reply("GET").type == "image/avif"
        assert not running.done()
        may_end.set()
        await asyncio.wait_for(running, 30)

    loop.run(scenario())


def test_one_that_goes_away_cancels_nobody(loop: Loop, wrap: Callable[..., Any]) -> None:
    processor = HandProcessor(is_open=False)
    app = wrap(image_app(photo()))
    app.optidash.service.processor = processor
    app.optidash.service.workshop.processor = processor

    async def scenario() -> None:
        scope = scope_of("GET", "/photo.jpg", CHROME)
        answers = [Answering(), Answering()]
        leaver, stayer = (asyncio.create_task(app(scope, a.receive, a.send)) for a in answers)
        assert await asyncio.to_thread(processor.started.wait, 30)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        processor.gate.set()
        await asyncio.wait_for(stayer, 30)
        assert answers[1].reply("GET").type == "image/avif"
        assert processor.calls == 1

    loop.run(scenario())
    assert app.optidash.service.held == 0


def test_a_file_is_offered_to_the_app_and_sent_by_path_only_where_the_server_can(
    loop: Loop, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    offered = []
    picture = tmp_path / "dot.jpg"
    picture.write_bytes(tiny())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append(PATHSEND in scope["extensions"])
        headers = [(b"content-type", b"image/jpeg")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if offered[-1]:
            await send({"type": PATHSEND, "path": str(picture)})
        else:
            await send({"type": "http.response.body", "body": picture.read_bytes()})

    wrapped = wrap(app)
    for target in ("/dot.jpg", "/dot.jpg", "/dot"):
        assert get(loop, wrapped, target).body == tiny()
    assert get(loop, wrapped, "/dot", http_response_pathsend=True).body == tiny()
    assert offered == [True, True, False, True]


def test_a_file_is_optimised_without_being_sent(
    loop: Loop, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(photo())

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": IMAGE})
        await send({"type": PATHSEND, "path": str(picture)})

    wrapped = wrap(app)
    first, second = get(loop, wrapped), get(loop, wrapped)
    assert first.type == second.type == "image/avif"
    assert first.body == second.body


def test_a_file_that_is_gone_fails_as_without_us(
    loop: Loop, wrap: Callable[..., Any], tmp_path: Path
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": IMAGE})
        await send({"type": PATHSEND, "path": str(tmp_path / "gone.jpg")})

    with pytest.raises(FileNotFoundError):
        get(loop, wrap(app))


def test_an_answer_with_trailers_is_untouched(loop: Loop, wrap: Callable[..., Any]) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": IMAGE, "trailers": True}
        await send(start)
        await send({"type": "http.response.body", "body": photo()})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = scope_of("GET", "/photo.jpg", CHROME) | {"extensions": {"http.response.trailers": {}}}
    loop.run(wrap(app)(scope, None, send))
    assert [message["type"] for message in sent] == [
        "http.response.start",
        "http.response.body",
        "http.response.trailers",
    ]
    assert sent[1]["body"] == photo()


def test_early_hints_and_pushes_pass_before_the_answer(
    loop: Loop, wrap: Callable[..., Any]
) -> None:
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await image_app(photo())(scope, receive, send)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    loop.run(wrap(app)(scope_of("GET", "/photo.jpg", CHROME), None, send))
    assert sent[:2] == ["http.response.early_hint", "http.response.start"]


def test_a_body_in_chunks_is_put_together(loop: Loop, wrap: Callable[..., Any]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        length = (b"Content-Length", str(len(photo())).encode())
        headers = [(b"Content-Type", b"image/jpeg"), length]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for byte in range(0, len(photo()), 500):
            chunk = photo()[byte : byte + 500]
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})

    assert get(loop, wrap(app)).size == (120, 80)


@pytest.mark.parametrize("sent", [[], [b"half"]])
def test_an_app_that_fails_fails_as_without_us(
    loop: Loop, wrap: Callable[..., Any], sent: list[bytes]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for chunk in sent:
            headers = [*IMAGE, (b"content-length", b"999")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        raise RuntimeError("a bug in the app")

    with pytest.raises(RuntimeError, match="a bug in the app"):
        get(loop, wrap(app))


def test_an_app_that_ends_too_early_shows_as_without_us(
    loop: Loop, wrap: Callable[..., Any]
) -> None:
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [*IMAGE, (b"content-length", b"999")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async def send(message: Any) -> None:
        messages.append(message)

    loop.run(wrap(app)(scope_of("GET", "/photo.jpg", CHROME), None, send))
    assert [message.get("body") for message in messages] == [None, b"half"]
    assert messages[1]["more_body"]


def test_an_image_without_a_length_in_one_chunk_is_optimised(
    loop: Loop, wrap: Callable[..., Any]
) -> None:
    assert get(loop, wrap(image_app(photo(), length=False))).type == "image/avif"


def test_starlette_adds_it_as_any_middleware(loop: Loop, tmp_path: Path) -> None:
    async def photo_view(request: object) -> Response:
        return Response(photo(), media_type="image/jpeg")

    app = Starlette(routes=[Path_("/photo.jpg", photo_view)])
    app.add_middleware(OptidashMiddleware, cache_dir=tmp_path, deadline=60)
    assert get(loop, app).type == "image/avif"


def test_equal_settings_share_one_service(tmp_path: Path) -> None:
    one, two = (OptidashMiddleware(image_app(b""), cache_dir=tmp_path) for _ in range(2))
    other = OptidashMiddleware(image_app(b""), cache_dir=tmp_path, deadline=1)
    assert one.optidash.service is two.optidash.service
    assert one.optidash.service is not other.optidash.service


def test_wrong_settings_are_reported_together() -> None:
    with pytest.raises(SettingsError) as raised:
        OptidashMiddleware(image_app(b""), deadline="soon", max_widht=9, formats="bmp")
    assert len(raised.value.problems) == 3
    assert "max_width" in str(raised.value)


def test_none_is_a_value_and_not_the_default() -> None:
    optidash = Optidash(deadline=None, cache_dir=None)
    assert optidash.settings.deadline is None
    assert optidash.settings.cache_dir is None


def test_the_endpoint_wants_a_folder() -> None:
    with pytest.raises(SettingsError, match="directory"):
        ImageApp(cache_dir=None)


@pytest.mark.parametrize("root_path", ["", "/app"])
def test_the_endpoint_knows_where_it_is_mounted(loop: Loop, tmp_path: Path, root_path: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    app = ImageApp(tmp_path, cache_dir=None, deadline=60)
    scope = scope_of("GET", f"{root_path}/photo.jpg", CHROME) | {"root_path": root_path}
    assert loop.call(app, scope).type == "image/avif"


def test_public_paths_count_with_the_root_path(loop: Loop, wrap: Callable[..., Any]) -> None:
    calls = []
    inner = image_app(photo(), extra=[(b"etag", b'"1"')])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["path"])
        await inner(scope, receive, send)

    wrapped = wrap(app, public_paths=["/shop/static/"])
    for _ in range(2):
        scope = scope_of("GET", "/shop/static/a.jpg", CHROME) | {"root_path": "/shop"}
        loop.call(wrapped, scope)
    assert len(calls) == 1
