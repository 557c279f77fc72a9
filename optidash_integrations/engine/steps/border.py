"""A frame around the picture, with round corners where asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.colours import BLACK
from optidash_integrations.engine.crops import Box
from optidash_integrations.engine.inks import mixed
from optidash_integrations.engine.steps.canvas import laid
from optidash_integrations.engine.steps.shapes import rounded

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def bordered(image: pyvips.Image, job: Job) -> pyvips.Image:
    border = job.operations.border
    if border is None or not border.has_effect:
        return image
    size, radius = border.size or 0, border.radius or 0
    colour = job.fill(border.color or BLACK)
    if radius > size > 0:
        image = mixed(image, rounded(image.width, image.height, radius - size), colour)
    width, height = image.width + 2 * size, image.height + 2 * size
    framed = laid(image, Box(size, size, width, height), colour) if size else image
    if not radius:
        return framed
    return mixed(framed, rounded(width, height, radius), job.fill(border.background))
