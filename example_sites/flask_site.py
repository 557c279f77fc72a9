"""A gallery in Flask: `flask --app example_sites.flask_site run --port 8002`."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, redirect, render_template, request, send_from_directory
from flask.typing import ResponseReturnValue

from example_sites.catalogue import CARD_SIZES, HERE, pictures
from optidash_integrations import OptidashError
from optidash_integrations.flask import Optidash

MEDIA = Path(os.environ.get("EXAMPLE_DATA", HERE / "var" / "flask")) / "media"
MEDIA.mkdir(parents=True, exist_ok=True)

app = Flask(
    __name__,
    static_folder=HERE / "shared" / "static",
    template_folder=HERE / "shared" / "templates",
)
app.config["SECRET_KEY"] = "for trying things out only"
app.config["OPTIDASH_DIRECTORY"] = MEDIA
app.config["OPTIDASH_BASE_URL"] = "/img/"

optidash = Optidash(app)


def gallery(error: str = "") -> str:
    """Show what the media folder holds."""
    shown = pictures(MEDIA)
    return render_template(
        "flask.html",
        framework="Flask",
        pictures=shown,
        hero=next((p for p in shown if p.name.startswith("photos/")), None),
        card_sizes=CARD_SIZES,
        error=error,
    )


@app.get("/")
def home() -> ResponseReturnValue:
    """Answer `/`."""
    return gallery()


@app.post("/upload")
def upload() -> ResponseReturnValue:
    """Store the photo of the form, optimised."""
    photo = request.files.get("photo")
    if not photo:
        return gallery("Choose a photo first."), 400
    try:
        optidash.save(photo, "uploads/")
    except OptidashError as error:
        return gallery(error.public), error.public_status
    return redirect("/#photos", 303)


@app.get("/media/<path:name>")
def media(name: str) -> ResponseReturnValue:
    """Serve the files themselves; the images among them leave optimised."""
    return send_from_directory(MEDIA, name)
