"""The ASGI applications that are measured, each made by a function without arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from benchmarks.material import PAGE, SENT, Material
from optidash_integrations.asgi import ImageApp, OptidashMiddleware
from optidash_integrations.asgi.messages import App, Receive, Scope, Send

# Enough for what is known of the photo, too little for the variant itself.
NO_ROOM_FOR_IMAGES = 32 * 1024


def sending(body: bytes, content_type: str) -> App:
    """Return the least app that sends these bytes."""
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("HTTP only")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def bare_image() -> App:
    """Send the variant."""
    return sending(Material.here().variant, "image/webp")


def bare_page() -> App:
    """Send a page."""
    return sending(PAGE, "text/html; charset=utf-8")


def static_files() -> App:
    """Send the variant with Starlette's StaticFiles."""
    return folder_app(Material.here().sent)


def file_response() -> App:
    """Send the variant with Starlette's FileResponse."""
    path = Material.here().sent / SENT

    async def image(request: Request) -> FileResponse:
        return FileResponse(path)

    return Starlette(routes=[Route("/static/photo.webp", image)])


def public() -> App:
    """Send the variant from memory: its path is public."""
    return ours(public_paths=["/static/"])


def public_on_disk() -> App:
    """Send the variant from disk: memory has no room for it."""
    return ours(public_paths=["/static/"], memory_bytes=NO_ROOM_FOR_IMAGES)


def agreed() -> App:
    """Send the variant from memory once StaticFiles has agreed to the request."""
    return ours()


def endpoint() -> App:
    """Send the variant from the image endpoint."""
    material = Material.here()
    return ImageApp(material.sources, **material.settings())


def missing() -> App:
    """Make a variant for each new photo."""
    return ours(transforms="any")


def page_through() -> App:
    """Send a page through the middleware."""
    return OptidashMiddleware(bare_page(), **Material.here().settings())


def ours(**settings: Any) -> App:
    material = Material.here()
    return OptidashMiddleware(folder_app(material.sources), **material.settings(**settings))


def folder_app(folder: Path) -> App:
    return Starlette(routes=[Mount("/static", StaticFiles(directory=folder))])
