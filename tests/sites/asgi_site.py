from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount

from optidash_integrations.asgi import ImageApp, Optidash, OptidashMiddleware
from optidash_integrations.operations import Operations
from tests.sites.base import OnBlock, Reply, Site
from tests.sites.drivers import Loop, scope_of
from tests.sites.inner import Inner, Route, Stream


class AsgiSite(Site):
    kind = "asgi"

    def open(self) -> None:
        self.loop = Loop()
        self.optidash = Optidash(directory=self.folder, base_url=self.mount, **self.plan.settings)
        self.register(self.optidash.settings)
        endpoint = Mount("/img", ImageApp(optidash=self.optidash))
        self.app: Any = OptidashMiddleware(starlette(self.inner, endpoint), optidash=self.optidash)
        self.bare_app: Any = starlette(Inner(self.plan.routes))

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
        app = self.bare_app if bare else self.app
        return self.loop.call(app, scope_of(method, target, headers or {}, raw=raw), on_block)

    def helper(self, helper: str, image: Any, **options: Any) -> str:
        return str(getattr(self.optidash, helper)(image, **options))

    def save(self, name: str, data: bytes, operations: Operations | None = None) -> str:
        upload = UploadFile(io.BytesIO(data), filename=name)
        return str(self.loop.run(self.optidash.save(upload, "uploads/", operations)).name)

    def close(self) -> None:
        super().close()
        self.loop.close()


def starlette(inner: Inner, *mounts: Mount) -> Starlette:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        headers = {name.lower(): value for name, value in request.headers.items()}
        route = inner.answer(request.method, scope["path"], headers)
        if route.session:
            request.session["visits"] = 1
        await response_of(route)(scope, receive, send)

    sessions = Middleware(SessionMiddleware, secret_key="test")
    return Starlette(routes=[*mounts, Mount("/", app)], middleware=[sessions])


def response_of(route: Route) -> Response:
    response: Response
    if isinstance(route.body, Stream):
        response = StreamingResponse(route.body, route.status)
    elif isinstance(route.body, bytes):
        response = Response(route.body, route.status)
    else:
        response = FileResponse(route.body, route.status)
    response.headers["content-type"] = route.content_type
    for name, value in route.all_headers:
        response.headers[name] = value
    return response
