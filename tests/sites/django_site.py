from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from html import unescape
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.template import engines
from django.test import override_settings

from optidash_integrations.django import conf
from optidash_integrations.operations import Operations
from tests.sites.base import OnBlock, Reply, Site
from tests.sites.drivers import Loop, call_wsgi, environ_of, scope_of
from tests.sites.inner import Inner, Route, Stream

OURS = "optidash_integrations.django.middleware.OptidashMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
INNER = "tests.inner"


class DjangoSite(Site):
    kind = "django"
    mount = "/img/default/"
    urls = "tests.sites.django_urls"
    handler: Any = WSGIHandler
    waits_in_threads = True

    def open(self) -> None:
        given = {name.upper(): value for name, value in self.plan.settings.items()}
        below = [SESSIONS, *self.plan.framework.get("middleware", ())]
        self.stack = ExitStack()
        for signal in (request_started, request_finished):  # as Django's own test client does
            signal.disconnect(close_old_connections)
            self.stack.callback(signal.connect, close_old_connections)
        self.stack.enter_context(
            override_settings(OPTIDASH=given, MEDIA_ROOT=str(self.folder), ROOT_URLCONF=self.urls)
        )
        self.register(conf.current())
        with override_settings(MIDDLEWARE=below):
            self.bare_app = self.handler()
        self.stack.enter_context(override_settings(MIDDLEWARE=[OURS, *below]))
        self.app = self.handler()
        self.bare_inner = Inner(self.plan.routes)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        on_block: OnBlock | None = None,
        bare: bool = False,
        raw: bool = True,
    ) -> Reply:
        environ = environ_of(method, target, headers or {}, raw=raw)
        environ[INNER] = self.bare_inner if bare else self.inner
        return call_wsgi(self.bare_app if bare else self.app, environ, on_block)

    def helper(self, helper: str, image: Any, **options: Any) -> str:
        words = " ".join(f"{name}=options.{name}" for name in options)
        source = "{% load optidash %}{% optidash_" + helper + " image " + words + " %}"
        context = {"image": image, "options": options}
        safe = engines["django"].from_string(source).render(context)
        shown = safe.encode().decode()  # a plain string, as a server passes on
        return unescape(shown) if helper in ("url", "srcset") else shown

    def save(self, name: str, data: bytes, operations: Operations | None = None) -> str:
        storage: Any = storages["default"]
        if operations is not None:
            storage = type(storage)(operations=operations.to_dict())
        return str(storage.save(f"uploads/{name}", ContentFile(data, name)))

    def close(self) -> None:
        super().close()
        self.stack.close()


class DjangoAsyncSite(DjangoSite):
    kind = "django_async"
    urls = "tests.sites.django_async_urls"
    handler: Any = ASGIHandler
    waits_in_threads = False

    def open(self) -> None:
        self.loop = Loop()
        super().open()

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        *,
        on_block: OnBlock | None = None,
        bare: bool = False,
        raw: bool = True,
    ) -> Reply:
        scope = scope_of(method, target, headers or {}, raw=raw)
        scope[INNER] = self.bare_inner if bare else self.inner
        return self.loop.call(self.bare_app if bare else self.app, scope, on_block)

    def close(self) -> None:
        super().close()
        self.loop.close()


def answer(request: HttpRequest) -> HttpResponseBase:
    return respond(request, request.environ[INNER], is_async=False)  # type: ignore[attr-defined]


async def answer_async(request: HttpRequest) -> HttpResponseBase:
    return respond(request, request.scope[INNER], is_async=True)  # type: ignore[attr-defined]


def respond(request: HttpRequest, inner: Inner, *, is_async: bool) -> HttpResponseBase:
    headers = {name.lower(): value for name, value in request.headers.items()}
    route = inner.answer(request.method or "", request.path, headers)
    if route.session:
        request.session["visits"] = 1  # type: ignore[attr-defined]
    response = response_of(route, is_async=is_async)
    for name, value in route.all_headers:
        response.headers[name] = value
    return response


def response_of(route: Route, *, is_async: bool) -> HttpResponseBase:
    facts: dict[str, Any] = {"status": route.status, "content_type": route.content_type}
    if isinstance(route.body, Stream):
        blocks = route.body if not is_async else aiter(route.body)
        return StreamingHttpResponse(blocks, **facts)
    if route.status == 304:
        return HttpResponseNotModified()
    if isinstance(route.body, bytes):
        return HttpResponse(route.body, **facts)
    return FileResponse(route.body.open("rb"), **facts)
