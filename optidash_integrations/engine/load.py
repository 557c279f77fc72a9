"""The steps from a source's bytes to the pixels of a result, in the order of `STEPS`.

Each takes the image and the job and returns the image; a step without work returns what it got.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import vips

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.colours import Colour
    from optidash_integrations.engine.plan import Plan
    from optidash_integrations.probes import Probe

WHITE: Colour = (255, 255, 255, 255)
CLEAR: Colour = (255, 255, 255, 0)

# Where a file breaks off there is no picture; lesser damage is lived with, as browsers do.
FAIL_ON = "truncated"
END_OF_JPEG = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to one picture.

    `pad` is the colour of bars, `background` what lies behind transparent pixels where the result
    has `alpha=False`. With `keeps_colours` the pixels' values and the profile stay as they are.
    """

    data: bytes
    probe: Probe
    plan: Plan
    alpha: bool = True
    pad: Colour = CLEAR
    background: Colour = WHITE
    keeps_colours: bool = False


def pixels_of(job: Job) -> pyvips.Image:
    """Return the finished picture, in memory. Raises ImageError where the source is damaged."""
    with vips.reading(job.probe.format.label):
        try:
            return run(job, job.data, FAIL_ON)
        except vips.pyvips.Error:
            if job.probe.format is not formats.JPEG or END_OF_JPEG in job.data[-64:]:
                raise
            # Complete but for its end marker, perhaps: with one put there, a scan that
            # breaks off is still a warning of libjpeg's.
            return run(job, job.data + END_OF_JPEG, "warning")


def run(job: Job, data: bytes, fail_on: str) -> pyvips.Image:
    image = loaded(job, data, fail_on)
    for step in STEPS:
        image = step(image, job)
    return image.copy_memory()


def loaded(job: Job, data: bytes, fail_on: str) -> pyvips.Image:
    """Return the part of the source that is used, upright and in the plan's size."""
    plan = job.plan
    if plan.crop or (job.keeps_colours and not plan.resamples):
        return cut_and_resampled(opened(job, data, fail_on), job)
    return vips.pyvips.Image.thumbnail_buffer(
        data,
        plan.width,
        height=plan.height,
        size="force",
        # Its own fail_on is not heeded by libvips 8.18.
        option_string=f"fail_on={fail_on}",
        **conversion(job),
    )


def opened(job: Job, data: bytes, fail_on: str) -> pyvips.Image:
    """Return the whole source upright; turned, it has to be in memory first."""
    image = vips.pyvips.Image.new_from_buffer(data, "", access="sequential", fail_on=fail_on)
    if job.probe.orientation == 1:
        return image
    return image.copy_memory().autorot()


def cut_and_resampled(image: pyvips.Image, job: Job) -> pyvips.Image:
    crop, plan = job.plan.crop, job.plan
    if crop:
        image = image.crop(crop.left, crop.top, crop.width, crop.height)
    if job.keeps_colours and not plan.resamples:
        return image
    return image.thumbnail_image(
        plan.width, height=plan.height, size="force", no_rotate=True, **conversion(job)
    )


def conversion(job: Job) -> dict[str, Any]:
    """Return the arguments that bring a source to sRGB.

    Without a profile there is nothing to convert: asked to, libvips would go by way of XYZ, which
    takes ten times as long. (CMYK becomes sRGB in any case, through a built-in profile.)
    """
    return {"export_profile": "srgb"} if job.probe.has_profile and not job.keeps_colours else {}


def eight_bits(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Bring what is neither sRGB nor grey of 8 bits there; grey with a profile is grey again."""
    if job.keeps_colours:
        return image
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("b-w" if image.interpretation == "grey16" else "srgb")
    if job.probe.grey and image.bands > 2:
        image = image[0].bandjoin(image[3]) if image.hasalpha() else image[0]
        image = image.copy(interpretation="b-w")
    return image if image.format == "uchar" else image.cast("uchar")


def windowed(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Cut out what of a picture that covers its box is to be seen."""
    window = job.plan.window
    if window is None:
        return image
    if job.plan.search:
        # The search reads all pixels before the cut does.
        return image.copy_memory().smartcrop(
            window.width, window.height, interesting=job.plan.search
        )
    return image.crop(window.left, window.top, window.width, window.height)


def on_canvas(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Lay the picture on a canvas, bars where it does not reach."""
    canvas = job.plan.canvas
    if canvas is None:
        return image
    colour = job.pad if job.alpha else over(job.pad, job.background)
    if not is_grey(colour) and image.interpretation == "b-w":
        image = image.colourspace("srgb")
    if colour[3] < 255 and not image.hasalpha():
        image = image.addalpha()
    return image.embed(
        canvas.left,
        canvas.top,
        canvas.width,
        canvas.height,
        extend="background",
        background=ink(colour, image),
    )


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
    if job.keeps_colours or not image.hasalpha():
        return image
    image = image.copy_memory()
    if image[image.bands - 1].stats()(0, 0)[0] < 255:
        return image
    return image[: image.bands - 1]


def is_grey(colour: Colour) -> bool:
    return colour[0] == colour[1] == colour[2]


def over(colour: Colour, background: Colour) -> Colour:
    """Return a colour as it looks on an opaque background."""
    part = colour[3] / 255
    red, green, blue = (
        round(c * part + b * (1 - part)) for c, b in zip(colour[:3], background[:3], strict=True)
    )
    return red, green, blue, 255


def ink(colour: Colour, image: pyvips.Image) -> list[float]:
    """Return a colour in an image's bands."""
    bands: list[float] = [*(colour[:1] if image.interpretation == "b-w" else colour[:3])]
    return [*bands, colour[3]] if image.hasalpha() else bands


STEPS = (eight_bits, windowed, on_canvas, flattened, slim)
