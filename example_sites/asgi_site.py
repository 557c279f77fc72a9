"""A gallery in Starlette: `uvicorn example_sites.asgi_site:app --port 8001`."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from example_sites.catalogue import CARD_SIZES, HERE, pictures
from optidash_integrations import OptidashError
from optidash_integrations.asgi import ImageApp, Optidash, OptidashMiddleware

MEDIA = Path(os.environ.get("EXAMPLE_DATA", HERE / "var" / "asgi")) / "media"
MEDIA.mkdir(parents=True, exist_ok=True)

optidash = Optidash(directory=MEDIA, base_url="/img/")
templates = Jinja2Templates(HERE / "shared" / "templates")


def gallery(request: Request, error: str = "", status: int = 200) -> Response:
    """Show what the media folder holds."""
    shown = pictures(MEDIA)
    context = {
        "framework": "ASGI",
        "optidash": optidash,
        "pictures": shown,
        "hero": next((p for p in shown if p.name.startswith("photos/")), None),
        "card_sizes": CARD_SIZES,
        "error": error,
    }
    return templates.TemplateResponse(request, "asgi.html", context, status_code=status)


async def home(request: Request) -> Response:
    """Answer `/`."""
    return gallery(request)


async def upload(request: Request) -> Response:
    """Store the photo of the form, optimised."""
    async with request.form(max_files=1) as form:
        photo = form.get("photo")
        if not isinstance(photo, UploadFile) or not photo.filename:
            return gallery(request, "Choose a photo first.", 400)
        try:
            await optidash.save(photo, "uploads/")
        except OptidashError as error:
            return gallery(request, error.public, error.public_status)
    return RedirectResponse("/#photos", status_code=303)


app = Starlette(
    routes=[
        Route("/", home),
        Route("/upload", upload, methods=["POST"]),
        Mount("/img", ImageApp(directory=MEDIA, optidash=optidash)),
        Mount("/media", StaticFiles(directory=MEDIA)),
        Mount("/static", StaticFiles(directory=HERE / "shared" / "static")),
    ]
)
app.add_middleware(OptidashMiddleware, optidash=optidash)
