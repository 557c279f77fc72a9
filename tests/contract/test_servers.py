"""The same sites behind real servers, over a socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from werkzeug import serving

from tests.conftest import MakeSite
from tests.sites.base import Site
from tests.sites.django_site import INNER
from tests.sites.inner import Route, Stream
from tests.sites.photos import CHROME, OLD, photo


@contextmanager
def served(site: Site) -> Iterator[str]:
    """Serve a site on a free port of this machine; the server ends in every case."""
    server = wsgi_server if site.waits_in_threads else asgi_server
    with server(with_inner(site)) as port:
        yield f"http://127.0.0.1:{port}"


def with_inner(site: Any) -> Callable[..., Any]:
    """Give Django's views what the in-process driver gives them."""
    if site.kind == "django":
        return lambda environ, begin: site.app(environ | {INNER: site.inner}, begin)
    if site.kind == "django_async":

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await site.app(scope | {INNER: site.inner}, receive, send)

        return app
    app_of_site: Callable[..., Any] = site.app
    return app_of_site


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    class Quiet(serving.WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *args: object) -> None: ...

    server = serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def test_photos_go_over_the_wire(make_site: MakeSite) -> None:
    large = photo(640, 480)
    site = make_site(access="public")
    path = site.keep("photo.jpg", large)
    site.inner.routes.update(
        {
            "/photo.jpg": Route(large, headers=(("ETag", '"1"'),)),
            "/file.jpg": Route(path, headers=(("ETag", '"2"'),)),
            "/stream.jpg": Route(Stream((large[:999], large[999:]))),
            "/page": Route(b"<p>hello", "text/html"),
        }
    )
    with served(site) as base, httpx.Client(base_url=base, timeout=60) as client:
        for target in ("/photo.jpg", "/file.jpg", f"{site.mount}photo.jpg?w=320"):
            first, second = (client.get(target, headers=CHROME) for _ in range(2))
            assert (first.status_code, first.headers["content-type"]) == (200, "image/avif")
            assert "hit" in second.headers["cache-status"]
            assert first.content == second.content
            tag = {"if-none-match": first.headers["etag"]}
            same = client.get(target, headers=CHROME | tag)
            assert (same.status_code, same.content) == (304, b"")
            part = client.get(target, headers=CHROME | {"range": "bytes=5-9"})
            assert (part.status_code, part.content) == (206, first.content[5:10])
            head = client.head(target, headers=CHROME)
            assert head.headers["content-length"] == str(len(first.content))
        unknown = client.head("/photo.jpg", headers=OLD)
        assert (unknown.status_code, unknown.headers.get("content-length")) == (200, None)
        assert client.get("/stream.jpg", headers=CHROME).content == large
        assert client.get("/page").text == "<p>hello"
        assert client.get(f"{site.mount}photo.jpg?w=wide").status_code == 400


def test_an_encoded_slash_is_no_way_into_a_public_path(make_site: MakeSite) -> None:
    site = make_site({"/private/x.jpg": Route(photo())}, public_paths=["/static/"])
    site.inner.routes["/static/../private/x.jpg"] = Route(photo())
    with served(site) as base, socket.create_connection(tuple_of(base), timeout=30) as wire:
        wire.sendall(
            b"GET /static/..%2fprivate/x.jpg HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\n"
            b"Connection: close\r\n\r\n"
        )
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert b"public" not in answer.partition(b"\r\n\r\n")[0].lower()


def tuple_of(base: str) -> tuple[str, int]:
    host, _, port = base.removeprefix("http://").partition(":")
    return host, int(port)


def test_many_visitors_at_once_get_whole_answers(make_site: MakeSite) -> None:
    routes: dict[str, Any] = {f"/{n}.jpg": Route(photo(seed=n)) for n in range(4)}
    site = make_site(routes)
    with (
        served(site) as base,
        httpx.Client(base_url=base, timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        asked = [f"/{n % 4}.jpg" for n in range(40)]
        replies = list(pool.map(lambda target: client.get(target, headers=CHROME), asked))
    assert {reply.status_code for reply in replies} == {200}
    for reply in replies:
        assert int(reply.headers["content-length"]) == len(reply.content)
