"""Bringing pixels to bytes, and transparent ones to what the result can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import ink, is_grey

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job


def eight_bits(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Bring what is neither sRGB nor grey of 8 bits there; grey with a profile is grey again."""
    if job.keeps_values:
        return image
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("b-w" if image.interpretation == "grey16" else "srgb")
    if job.probe.grey and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.hasalpha() else image[0]
        image = image.copy(interpretation="b-w")
    return image if image.format == "uchar" else image.cast("uchar")


def flattened(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Lay transparent pixels on the background where the result can't have any."""
    if job.alpha or not image.hasalpha():
        return image
    if not is_grey(job.background) and image.interpretation == "b-w":
        image = image.colourspace("srgb")
    opaque = (*job.background[:3], 255)
    return image.flatten(background=ink(opaque, image)[: image.bands - 1])


def slim(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Drop an alpha channel that hides nothing."""
    if job.keeps_values or not image.hasalpha():
        return image
    image = image.copy_memory()
    if image[image.bands - 1].stats()(0, 0)[0] < 255:
        return image
    return image[: image.bands - 1]
