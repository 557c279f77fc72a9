"""Words laid over the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.colours import BLACK
from optidash_integrations.engine.crops import PLACES
from optidash_integrations.engine.lettering import written
from optidash_integrations.engine.watermarks import laid

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job

ALIGNMENTS = {0.0: "left", 0.5: "center", 1.0: "right"}


def lettered(image: pyvips.Image, job: Job) -> pyvips.Image:
    text = job.operations.text
    if text is None or not text.text:
        return image
    gravity, padding = text.gravity or "center", text.padding or 0
    drawn = written(
        text.text,
        size=text.size or 20,
        weight=text.weight or "normal",
        style=text.style or "normal",
        font=text.font,
        colour=text.color or BLACK,
        width=text.width or max(1, image.width - 2 * padding),
        alignment=ALIGNMENTS[PLACES[gravity][0]],
        fonts=job.tools.registered,
        limits=job.limits,
    )
    opacity = 1.0 if text.opacity is None else text.opacity
    return laid(image, drawn, gravity=gravity, padding=padding, opacity=opacity)
