"""Cutting out what is to be seen of a picture that covers its box."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def windowed(image: pyvips.Image, job: Job) -> pyvips.Image:
    window = job.plan.window
    if window is None:
        return image
    if job.plan.search:
        return image.smartcrop(window.width, window.height, interesting=job.plan.search)
    return image.crop(window.left, window.top, window.width, window.height)
