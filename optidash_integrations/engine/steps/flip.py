"""Mirror images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def flipped(image: pyvips.Image, job: Job) -> pyvips.Image:
    flip = job.operations.flip
    if flip is None or not (flip.horizontal or flip.vertical):
        return image
    if flip.horizontal:
        image = image.fliphor()
    return image.flipver() if flip.vertical else image
