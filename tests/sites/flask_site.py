from __future__ import annotations

import io
from collections.abc import Mapping
from html import unescape
from typing import Any

from flask import Flask, Response, render_template_string, request, send_file, session
from werkzeug.datastructures import FileStorage

from optidash_integrations.flask import Optidash
from optidash_integrations.operations import Operations
from tests.sites.base import OnBlock, Reply, Site
from tests.sites.drivers import call_wsgi, environ_of
from tests.sites.inner import Inner, Route, Stream


class FlaskSite(Site):
    kind = "flask"
    waits_in_threads = True

    def open(self) -> None:
        self.app = flask(self.inner)
        self.app.config["OPTIDASH_DIRECTORY"] = self.folder
        for name, value in self.plan.settings.items():
            self.app.config[f"OPTIDASH_{name.upper()}"] = value
        self.optidash = Optidash(self.app)
        self.register(self.app.extensions["optidash"].settings)
        self.bare_app = flask(Inner(self.plan.routes))

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
        return call_wsgi(app, environ_of(method, target, headers or {}, raw=raw), on_block)

    def helper(self, helper: str, image: Any, **options: Any) -> str:
        words = ", ".join(f"{name}=options[{name!r}]" for name in options)
        source = "{{ optidash_" + helper + "(image, " + words + ") }}"
        with self.app.test_request_context():
            shown = render_template_string(source, image=image, options=options)
        return unescape(shown) if helper in ("url", "srcset") else shown

    def save(self, name: str, data: bytes, operations: Operations | None = None) -> str:
        with self.app.app_context():
            upload = FileStorage(io.BytesIO(data), filename=name)
            return self.optidash.save(upload, "uploads/", operations).name


def flask(inner: Inner) -> Flask:
    app = Flask("site", static_folder=None)
    app.secret_key = "test"
    app.url_map.merge_slashes = False

    @app.route("/<path:path>")
    def answer(path: str) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        route = inner.answer(request.method, request.path, headers)
        if route.session:
            session["visits"] = 1
        return response_of(route)

    return app


def response_of(route: Route) -> Response:
    if isinstance(route.body, Stream):
        response = Response(iter(route.body))
    elif isinstance(route.body, bytes):
        response = Response(route.body)
    else:
        response = send_file(route.body)
    response.status_code = route.status
    response.headers["content-type"] = route.content_type
    for name, value in route.all_headers:
        response.headers[name] = value
    return response
