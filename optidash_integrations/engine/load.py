"""From a source's bytes to the part of it that is used, upright and in the plan's size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import animation, drawings, foreign, pillow, vips
from optidash_integrations.engine.gamma import with_profile
from optidash_integrations.engine.steps import done
from optidash_integrations.probes import is_foreign

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job
    from optidash_integrations.formats import Format

# Where a file breaks off there is no picture; lesser damage is lived with, as browsers do.
FAIL_ON = "truncated"
RESAMPLED, RESAMPLED_BY_LIBVIPS = 1.5, 2.0
"""The least factor that is left to resampling once a JPEG was made smaller by its decoder."""

LOST = 1 / 3
"""Pixels of the result that a JPEG may lose by that at its far edges."""

END_OF_JPEG = b"\xff\xd9"


def frames_of(job: Job, target: Format) -> pyvips.Image:
    """Return the finished frames of an animation in one strip, in memory, timed for a format.

    Raises ImageError where the source is damaged.
    """

    def work(frame: pyvips.Image) -> pyvips.Image:
        job.watch.check()
        return done(cut_and_resampled(job.watch.over(frame), job), job)

    return animation.each_frame(animation.opened(job.data, job.probe), work, target)


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
    image = job.watch.over(loaded(job, data, fail_on))
    if job.reads_again:
        image = job.watch.over(image.copy_memory())  # a source is read once, from top to bottom
    return done(image, job).copy_memory()


def loaded(job: Job, data: bytes, fail_on: str) -> pyvips.Image:
    """Return the part of the source that is used, upright and in the plan's size."""
    plan, kind = job.plan, job.probe.format
    if kind is formats.SVG:
        factor = max(plan.width / plan.base_width, plan.height / plan.base_height)
        drawn = drawings.rendered(data, job.limits, 1.0 if plan.crop else factor)
        return cut_and_resampled(drawn, job)
    if is_foreign(kind, data[: formats.HEAD_BYTES]):
        return cut_and_resampled(foreign.decoded(data, kind, job.limits), job)
    if job.probe.is_animated:
        return cut_and_resampled(animation.first_frame(data, job.probe), job)
    told = job.probe.has_profile
    if kind is formats.PNG and not job.keeps_values:
        source, data = data, with_profile(data)
        told = told or data is not source
    if plan.crop or (job.keeps_values and not plan.resamples):
        return cut_and_resampled(opened(job, data, fail_on), job)
    shrink = 1 if kind is not formats.JPEG or told or job.probe.cmyk else shrink_of(job)
    if shrink > 1:
        return shrunk(job, data, shrink, fail_on).thumbnail_image(
            plan.width, height=plan.height, size="force", **conversion(job, told)
        )
    return vips.pyvips.Image.thumbnail_buffer(
        data,
        plan.width,
        height=plan.height,
        size="force",
        # Its own fail_on is not heeded by libvips 8.18.
        option_string=f"fail_on={fail_on}",
        **conversion(job, told),
    )


def shrink_of(job: Job) -> int:
    """Return by what a JPEG is made smaller while it is decoded; 1 leaves it to libvips.

    libvips leaves a factor of two to the resampling. Here one and a half does (sharp leaves one),
    which spares half of the decoding between a third and a quarter, a sixth and an eighth: the
    results are 92 points of SSIMULACRA2 and more from each other. What can't be divided loses the
    rest: up to half a pixel of the result with libvips' two, here a third.
    """
    plan, probe = job.plan, job.probe
    factor = min(plan.base_width / plan.width, plan.base_height / plan.height)

    def suits(by: int) -> bool:
        lost = max(probe.width % by, probe.height % by) / factor
        return factor >= by * (RESAMPLED if lost <= LOST else RESAMPLED_BY_LIBVIPS)

    return next(filter(suits, (8, 4, 2)), 1)


def shrunk(job: Job, data: bytes, shrink: int, fail_on: str) -> pyvips.Image:
    """Return a JPEG, as it is stored, in the plan's size; its decoder does most of it."""
    plan, probe = job.plan, job.probe
    width, height = plan.width, plan.height
    if probe.orientation >= 5:
        width, height = height, width
    small = smaller_jpeg(job, data, shrink, fail_on)
    return small.resize(width / small.width, vscale=height / small.height)


def smaller_jpeg(job: Job, data: bytes, shrink: int, fail_on: str) -> pyvips.Image:
    """Return a JPEG as its decoder makes it smaller: Pillow's, where no metadata are to be kept."""
    output = job.operations.output
    image = vips.pyvips.Image.jpegload_buffer(
        data, shrink=shrink, access="sequential", fail_on=fail_on
    )
    found = None
    if fail_on == FAIL_ON and not (output and output.metadata):
        found = pillow.shrunk(data, shrink)
    if found is None:
        return image
    found = found.copy(xres=image.xres, yres=image.yres)
    if job.probe.orientation != 1:
        found.set_type(vips.pyvips.GValue.gint_type, "orientation", job.probe.orientation)
    return found


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
    if job.keeps_values and not plan.resamples:
        return image
    told = bool(image.get_typeof("icc-profile-data"))
    return image.thumbnail_image(
        plan.width, height=plan.height, size="force", no_rotate=True, **conversion(job, told)
    )


def conversion(job: Job, told: bool) -> dict[str, Any]:
    """Return the arguments that bring a source to sRGB, `told` by a profile what its colours are.

    Without a profile there is nothing to convert: asked to, libvips would go by way of XYZ, which
    takes ten times as long. (CMYK becomes sRGB in any case, through a built-in profile.)
    """
    keeps = job.keeps_values or job.keeps_profile
    return {"export_profile": "srgb"} if told and not keeps else {}
