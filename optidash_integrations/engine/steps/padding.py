"""Room around the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.crops import Box
from optidash_integrations.engine.plan import Margins
from optidash_integrations.engine.steps.canvas import laid

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def padded(image: pyvips.Image, job: Job) -> pyvips.Image:
    around, padding = job.plan.padding, job.operations.padding
    if around == Margins() or padding is None:
        return image
    width, height = image.width + around.width, image.height + around.height
    canvas = Box(around.left, around.top, width, height)
    return laid(image, canvas, job.fill(padding.color))
