"""The Flask extension."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, has_request_context, request
from markupsafe import Markup
from werkzeug.datastructures import FileStorage

from optidash_integrations.endpoint import Endpoint
from optidash_integrations.errors import ImageTooLargeError, SettingsError
from optidash_integrations.exchange import Answer
from optidash_integrations.flask.commands import command_for
from optidash_integrations.flask.wsgi import Middleware, body_blocks, request_of
from optidash_integrations.flows import run
from optidash_integrations.images import DirectoryImages
from optidash_integrations.operations import Operations
from optidash_integrations.processors import choose
from optidash_integrations.service import Service, service_for
from optidash_integrations.settings import FLASK, PREFIX, Settings, read
from optidash_integrations.sources import Directory
from optidash_integrations.uploads import Saved, save
from optidash_integrations.urls import derived_key

NAME = "optidash"


class State(DirectoryImages):
    """What one app has: its settings, and the service behind them."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.given = {
            k: v for k, v in app.config.items() if k.startswith(PREFIX) or k == "OPTIDASH"
        }
        settings = read(self.given, spelling=FLASK)
        if settings.directory is not None:
            settings = replace(settings, directory=Path(app.root_path) / settings.directory)
        choose(settings)  # a wrong one is an error now, not at the first request
        self.settings = settings
        self.lock = Lock()
        self.made: Service | None = None

    @property
    def base_url(self) -> str:
        """Where the endpoint is, below the place where a server has mounted the app."""
        if self.endpoint.startswith("/") and has_request_context():
            return request.script_root + self.endpoint
        return self.endpoint

    @property
    def service(self) -> Service:
        """The service, made at its first use: the app's secret key may come after `init_app`."""
        if self.made is None:
            with self.lock:
                self.settings = with_keys(self.settings, self.app.config)
                self.made = self.made or service_for(self.settings)
        return self.made


def with_keys(settings: Settings, config: Mapping[str, Any]) -> Settings:
    """Return settings that sign with the app's secret key where no signing keys are given."""
    secrets = [config.get("SECRET_KEY"), *(config.get("SECRET_KEY_FALLBACKS") or ())]
    keys = tuple(derived_key(secret) for secret in secrets if secret)
    return settings if settings.signing_keys or not keys else replace(settings, signing_keys=keys)


class Optidash:
    """Optimise the images that a Flask app serves and takes in.

    `Optidash(app)`, or `Optidash()` and later `init_app(app)` for one or more apps. Settings are
    the app's `OPTIDASH_…` configuration. What it keeps belongs to the app, in
    `app.extensions["optidash"]`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up one app: the interception, the Jinja helpers and, with a directory, the endpoint.

        Raises `SettingsError` where a setting is wrong or unknown, RuntimeError for a second call.
        """
        if NAME in app.extensions:
            raise RuntimeError("Optidash is set up for this app already")
        state = State(app)
        app.extensions[NAME] = state
        app.wsgi_app = Middleware(app.wsgi_app, lambda: state.service)  # type: ignore[method-assign]
        app.jinja_env.globals.update(
            optidash_url=self.url,
            optidash_srcset=self.srcset,
            optidash_img=self.img,
            optidash_picture=self.picture,
        )
        app.cli.add_command(command_for(state.given))
        if state.settings.directory is not None:
            add_endpoint(app, state)

    @property
    def state(self) -> State:
        """What the current app has. Raises RuntimeError where it is not set up."""
        if NAME not in current_app.extensions:
            raise RuntimeError("Optidash is not set up for this app: call init_app(app)")
        state: State = current_app.extensions[NAME]
        return state

    @property
    def service(self) -> Service:
        """The service behind the current app."""
        return self.state.service

    def url(self, image: str, **options: Any) -> str:
        """Return the address of an image with options: `url("photo.jpg", w=640)`."""
        return self.state.url(image, **options)

    def srcset(self, image: str, **options: Any) -> str:
        """Return the `srcset` value for an image."""
        return self.state.srcset(image, **options)

    def img(self, image: str, **attributes: Any) -> Markup:
        """Return an `<img>` element; `alt` is required."""
        return Markup(self.state.img(image, **attributes))  # noqa: S704  escaped there

    def picture(self, image: str, **attributes: Any) -> Markup:
        """Return a `<picture>` element; `alt` is required."""
        return Markup(self.state.picture(image, **attributes))  # noqa: S704  escaped there

    def save(
        self, upload: FileStorage, folder: str = "", operations: Operations | None = None
    ) -> Saved:
        """Store an upload, optimised, in `folder` under `OPTIDASH_DIRECTORY`.

        Raises `ImageError` where it is not an image within the limits: then nothing is stored.
        """
        state = self.state
        root = state.settings.directory
        if root is None:
            raise SettingsError(["OPTIDASH_DIRECTORY takes the folder that uploads are saved in"])
        limit = state.settings.max_input_bytes
        data = upload.stream.read(limit + 1)
        if len(data) > limit:
            raise ImageTooLargeError(f"{upload.filename} has more than {limit} bytes")
        flow = save(state.service, Path(root), data, upload.filename, folder, operations)
        return run(flow)


def add_endpoint(app: Flask, state: State) -> None:
    mount = urlsplit(state.endpoint).path.rstrip("/")
    folder = Directory.of(state.settings.directory or Path(app.root_path), state.settings)

    def optidash_image(name: str) -> Response:
        service = state.service
        endpoint = Endpoint(service, folder.find)
        asked, client = request_of(request.environ), request.remote_addr or ""
        key = endpoint.key(asked, str(folder.root), name)
        found = service.ready.find(key) if key is not None else None
        if found is not None:
            answer = Answer(200, *found)
        else:
            keep = service.ready.keeper(key)
            answer = service.run(endpoint.answer(asked, name, request, client, keep))
        body = body_blocks(answer, request.environ)
        response = Response(body, answer.status, answer.headers, direct_passthrough=True)
        response.automatically_set_content_length = False  # a HEAD request may leave it open
        return response

    # The endpoint itself answers or refuses them all, as it does everywhere.
    methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
    app.add_url_rule(
        f"{mount}/<path:name>",
        "optidash_image",
        optidash_image,
        methods=methods,
        provide_automatic_options=False,
    )
