"""Laying the picture on a canvas, bars where it does not reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import ink, ready_for

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.colours import Colour
    from optidash_integrations.engine.crops import Box
    from optidash_integrations.engine.job import Job


def on_canvas(image: pyvips.Image, job: Job) -> pyvips.Image:
    canvas = job.plan.canvas
    if canvas is None:
        return image
    resize = job.operations.resize
    return laid(image, canvas, job.fill(resize.background if resize else None))


def laid(image: pyvips.Image, canvas: Box, colour: Colour) -> pyvips.Image:
    """Return the image on a canvas of a colour, its corner at the canvas' `left` and `top`."""
    image = ready_for(image, colour)
    return image.embed(
        canvas.left,
        canvas.top,
        canvas.width,
        canvas.height,
        extend="background",
        background=ink(colour, image),
    )
