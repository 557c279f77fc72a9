"""From a source and operations to a variant: probe, look, plan, steps, encode, describe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.colours import WHITE
from optidash_integrations.engine import animation, lossless, vips
from optidash_integrations.engine.describe import describe
from optidash_integrations.engine.detect import told_of
from optidash_integrations.engine.encode import ENCODERS, LONGEST_SIDE, completed, encode
from optidash_integrations.engine.heap import HEAP
from optidash_integrations.engine.job import EFFECTS, Job
from optidash_integrations.engine.load import frames_of, pixels_of
from optidash_integrations.engine.look import seen
from optidash_integrations.engine.metadata import kept
from optidash_integrations.engine.plan import Plan
from optidash_integrations.engine.probe import probe_bytes
from optidash_integrations.engine.recipes import recipe_of
from optidash_integrations.engine.strip import has_right_checksums, without_position
from optidash_integrations.engine.tools import NONE, Tools
from optidash_integrations.engine.watch import Watch
from optidash_integrations.errors import (
    AnimatedImageError,
    BrokenImageError,
    ImageTooLargeError,
    OptionError,
    SourceNotFoundError,
)
from optidash_integrations.variants import ImageInfo, Metadata, Variant

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.encode import Recipe
    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations
    from optidash_integrations.probes import Probe
    from optidash_integrations.variants import ImageData

RECIPE = 6
"""Counts up with every change that gives other bytes or pixels for the same operations."""

# What `auto` gives for sources that are not for browsers.
SUBSTITUTES = {
    formats.TIFF: formats.JPEG,
    formats.BMP: formats.JPEG,
    formats.PSD: formats.JPEG,
    formats.HEIC: formats.JPEG,
    formats.ICO: formats.PNG,
    formats.SVG: formats.PNG,
}
PACKERS = {formats.JPEG: lossless.jpeg, formats.PNG: lossless.png}
STRIPPABLE = (formats.JPEG, formats.PNG, formats.WEBP)


def process(
    source: ImageData,
    operations: Operations,
    output: Format | None,
    limits: Limits,
    tools: Tools = NONE,
) -> Variant:
    """Do the operations on an image; see `processors.Processor.process`."""
    data = read(source, limits)
    probe = probe_bytes(data, limits)
    target = output or chosen_format(operations, probe)
    if target not in ENCODERS:
        names = ", ".join(known.name for known in ENCODERS)
        raise OptionError("output.format", f"one of {names}", target.name)
    moves = probe.is_animated and stays_animated(operations, target, probe)
    vips.claim()
    watch = Watch(limits.max_seconds)
    sight, notes = seen(data, probe, operations, tools, limits)
    size = probe.upright_width, probe.upright_height
    plan = Plan.of(operations, *size, fitting(limits, target), sight)
    recipe = recipe_of(operations, target, probe, plan, moves=moves)
    recipe = replace(recipe, patient=limits.patient)
    job = job_of(operations, data, probe, plan, recipe, tools, limits, watch)
    try:
        with ThreadPoolExecutor(1) as aside:  # a digest of megabytes fits beside the decoding
            described = aside.submit(describe, data) if tools.describes else None
            with watch.limit():
                content, image, recipe = worked(job, recipe, moves=moves)
    finally:
        HEAP.count(
            4 * probe.frames * (probe.width * probe.height + plan.final_width * plan.final_height)
        )
    told = told_of(job, image, notes)
    if described is None:
        return plain_variant(content, image, recipe, told)
    told = replace(told, input=ImageInfo.from_dict(described.result().fields()))
    return variant(content, recipe, told)


def worked(job: Job, recipe: Recipe, *, moves: bool) -> tuple[bytes, pyvips.Image, Recipe]:
    """Return the result's bytes, its pixels, and the recipe that was followed in the end."""
    target, probe, plan = recipe.format, job.probe, job.plan
    untouched = is_untouched(job.operations, plan)
    whole = untouched and not probe.is_animated  # where only the first frame is asked for
    if whole and recipe.lossless and target is probe.format and can_be_packed(recipe):
        # libjpeg makes up what a truncated file lacks: the pixels are looked at in any case.
        wanted = pixels_of(job)
        return packed(job, recipe), wanted, recipe
    if moves:
        animation.check_result(plan.final_width, plan.final_height, probe.frames, job.limits)
    image = frames_of(job, target) if moves else pixels_of(job)
    job.watch.check()
    image = kept(job.watch.over(image), recipe.metadata)
    recipe = completed(image, recipe)
    return smaller(encode(image, recipe), job, recipe), image, recipe


def can_be_packed(recipe: Recipe) -> bool:
    """Say whether the source's own pixels are what is asked for."""
    return recipe.format is formats.JPEG or (
        recipe.format is formats.PNG and recipe.keeps_colours and recipe.compression == "lossless"
    )


def packed(job: Job, recipe: Recipe) -> bytes:
    """Return the source, not a pixel changed, in fewer bytes and without its metadata."""
    output = job.operations.output
    if output and (output.metadata or output.encoding == "baseline"):
        return without_position(job.data, recipe.format)
    return PACKERS[recipe.format](job.data)


def stays_animated(operations: Operations, target: Format, probe: Probe) -> bool:
    """Say whether an animation is one in the result, and not its first frame.

    Raises AnimatedImageError where it can't be one and nobody asked for the first frame.
    """
    if operations.output and operations.output.animated is False:
        return False
    if target in animation.OUTPUTS:
        return True
    raise AnimatedImageError(f"{probe.frames} frames would become one {target.label}")


def read(source: ImageData, limits: Limits) -> bytes:
    """Return a source's bytes, of a file only as many as are allowed and one more."""
    if isinstance(source, bytes):
        return source
    try:
        with Path(source).open("rb") as file:
            data = file.read(limits.max_input_bytes + 1)
    except OSError as error:
        raise SourceNotFoundError(f"{source}: {error.strerror or error}") from error
    if len(data) > limits.max_input_bytes:
        raise ImageTooLargeError(f"{source} has more bytes than max_input_bytes allows")
    return data


def chosen_format(operations: Operations, probe: Probe) -> Format:
    """Return the format that the operations ask for, else the source's or what stands for it."""
    name = operations.output.format if operations.output else None
    if name and name != "auto":
        return formats.BY_NAME[name]
    return SUBSTITUTES.get(probe.format, probe.format)


def fitting(limits: Limits, target: Format) -> Limits:
    """Return the limits that a format has of its own, where they are narrower."""
    longest = LONGEST_SIDE.get(target, limits.max_width + limits.max_height)
    return replace(
        limits,
        max_width=min(limits.max_width, longest),
        max_height=min(limits.max_height, longest),
    )


def is_untouched(operations: Operations, plan: Plan) -> bool:
    """Say whether the result shows what the source does, pixel by pixel."""
    return plan.keeps_pixels and EFFECTS.isdisjoint(operations.canonical())


def job_of(
    operations: Operations,
    data: bytes,
    probe: Probe,
    plan: Plan,
    recipe: Recipe,
    tools: Tools,
    limits: Limits,
    watch: Watch,
) -> Job:
    """Return what the steps have to do."""
    output = operations.output
    values = recipe.keeps_colours and recipe.lossless
    return Job(
        data=data,
        probe=probe,
        plan=plan,
        operations=operations,
        tools=tools,
        alpha=recipe.format.alpha,
        background=(output and output.background) or WHITE,
        keeps_values=values,
        keeps_profile=recipe.keeps_colours and not values,
        limits=limits,
        watch=watch,
    )


def smaller(content: bytes, job: Job, recipe: Recipe) -> bytes:
    """Return the result, or the source without its metadata where that shows the same in less."""
    data, probe, output = job.data, job.probe, job.operations.output
    if (
        len(content) < len(data)
        or probe.format is not recipe.format
        or probe.format not in STRIPPABLE
        or probe.orientation != 1
        or not is_untouched(job.operations, job.plan)
        or (output is not None and (output.quality or output.encoding or output.metadata))
    ):
        return content
    try:
        stripped = without_position(data, probe.format)
    except BrokenImageError:  # libvips lives with more than that does
        return content
    if probe.format is formats.PNG and not has_right_checksums(stripped):
        return content
    return stripped if len(stripped) <= len(content) else content


def variant(content: bytes, recipe: Recipe, told: Metadata) -> Variant:
    """Return the result with what is known of it."""
    made = describe(content, recipe.quality)
    metadata = replace(told, output=ImageInfo.from_dict(made.fields()))
    return Variant(content, recipe.format.media_type, made.width, made.height, metadata)


def plain_variant(content: bytes, image: pyvips.Image, recipe: Recipe, told: Metadata) -> Variant:
    """Return the result with what is known without reading it again."""
    kind, width, height = recipe.format, image.width, image.get_page_height()
    made = ImageInfo(
        format=kind.label, width=width, height=height, quality=recipe.quality, bytes=len(content)
    )
    return Variant(content, kind.media_type, width, height, replace(told, output=made))
