"""What a result's metadata tells beyond its size: faces, main colours, a placeholder."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from optidash_integrations.engine import faces, placeholders
from optidash_integrations.engine.palette import palette
from optidash_integrations.variants import Metadata

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def told_of(job: Job, image: pyvips.Image, notes: tuple[str, ...]) -> Metadata:
    """Return what `detect` asks for of a result, in memory; of an animation, its first frame."""
    detect = job.operations.detect
    if detect is None:
        return Metadata(notes=notes)
    image = image.crop(0, 0, image.width, image.get_page_height())
    found = None
    if detect.faces:
        found = tuple(asdict(face) for face in faces.find(image, job.tools.face_model))
        if not faces.available(job.tools.face_model) and faces.NOTE not in notes:
            notes = (*notes, faces.NOTE)
    colours = None
    if detect.palette:
        shares = palette(image, detect.palette)
        colours = tuple({"color": colour, "share": round(part, 4)} for colour, part in shares)
    return Metadata(
        faces=found,
        palette=colours,
        placeholder=PLACEHOLDERS[detect.placeholder](image) if detect.placeholder else None,
        notes=notes,
    )


PLACEHOLDERS = {
    "thumbhash": placeholders.thumbhash,
    "blurhash": placeholders.blurhash,
    "color": placeholders.color,
}
