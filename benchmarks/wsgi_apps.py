"""The WSGI applications that are measured, each made by a function without arguments."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.wsgi import get_wsgi_application
from flask import Flask
from whitenoise import WhiteNoise  # type: ignore[import-untyped]

from benchmarks.material import Material
from optidash_integrations.flask import Optidash

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def bare_image() -> WSGIApplication:
    """Send the variant from the least app that can."""
    body = Material.here().variant
    headers = [("content-type", "image/webp"), ("content-length", str(len(body)))]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [body]

    return app


def flask_public() -> WSGIApplication:
    """Send the variant from memory in a Flask app: its path is public."""
    material = Material.here()
    app = Flask("benchmarks", static_folder=str(material.sources), static_url_path="/static")
    settings = material.settings(public_paths=["/static/"])
    app.config.update({f"OPTIDASH_{name.upper()}": value for name, value in settings.items()})
    Optidash(app)
    return app


def flask_whitenoise() -> WSGIApplication:
    """Send the variant with WhiteNoise in a Flask app."""
    app = Flask("benchmarks", static_folder=None)
    root = str(Material.here().sent)
    app.wsgi_app = WhiteNoise(app.wsgi_app, root=root, prefix="static/")  # type: ignore[method-assign]
    return app


def django_public() -> WSGIApplication:
    """Send the variant from memory in a Django project: its path is public."""
    return django_with("optidash_integrations.django.middleware.OptidashMiddleware")


def django_whitenoise() -> WSGIApplication:
    """Send the variant with WhiteNoise's middleware in the same project."""
    return django_with("whitenoise.middleware.WhiteNoiseMiddleware")


def django_with(middleware: str) -> WSGIApplication:
    os.environ["BENCHMARK_MIDDLEWARE"] = middleware
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.django_project"
    return get_wsgi_application()
