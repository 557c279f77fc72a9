"""A shape outside of which there is only the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import mixed
from optidash_integrations.engine.steps.shapes import ellipse, rounded

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def masked(image: pyvips.Image, job: Job) -> pyvips.Image:
    mask = job.operations.mask
    if mask is None or not mask.has_effect:
        return image
    if mask.chosen_mode == "ellipse":
        shape = ellipse(image.width, image.height)
    else:
        shape = rounded(image.width, image.height, mask.radius or 0)
    return mixed(image, shape, job.fill(mask.background))
