"""Turning clockwise; the picture grows to hold all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import bytewise, ink, premultiplied_ink, ready_for
from optidash_integrations.engine.vips import pyvips as vips

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.colours import Colour
    from optidash_integrations.engine.job import Job

QUARTERS = {90: "d90", 180: "d180", 270: "d270"}


def rotated(image: pyvips.Image, job: Job) -> pyvips.Image:
    angle, rotate = job.plan.angle, job.operations.rotate
    if not angle or rotate is None:
        return image
    if angle in QUARTERS:
        return image.rot(QUARTERS[int(angle)])
    return slanted(image, angle, job.plan.turned, job.fill(rotate.background))


def slanted(
    image: pyvips.Image, angle: float, size: tuple[int, int], colour: Colour
) -> pyvips.Image:
    """Return the image turned by an angle, in the middle of `size`, the corners in a colour."""
    image = ready_for(image, colour)
    alpha = image.hasalpha()
    background = premultiplied_ink(colour, image) if alpha else ink(colour, image)
    turned = (image.premultiply() if alpha else image).similarity(
        angle=angle, background=background, interpolate=vips.Interpolate.new("bicubic")
    )
    placed = turned.gravity("centre", *size, extend="background", background=background)
    return bytewise(placed.unpremultiply() if alpha else placed, image)
