"""From a source and operations to a variant: probe, plan, steps, encode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.engine import vips
from optidash_integrations.engine.describe import describe
from optidash_integrations.engine.encode import (
    ENCODERS,
    LONGEST_SIDE,
    QUALITIES,
    Recipe,
    encode,
)
from optidash_integrations.engine.plan import Plan
from optidash_integrations.engine.probe import probe_bytes
from optidash_integrations.engine.steps import CLEAR, WHITE, Job, pixels_of
from optidash_integrations.engine.strip import without_position
from optidash_integrations.errors import (
    AnimatedImageError,
    ImageTooLargeError,
    OptionError,
    SourceNotFoundError,
)
from optidash_integrations.variants import ImageInfo, Metadata, Variant

if TYPE_CHECKING:
    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations
    from optidash_integrations.probes import Probe
    from optidash_integrations.variants import ImageData

RECIPE = 1
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


def process(
    source: ImageData, operations: Operations, output: Format | None, limits: Limits
) -> Variant:
    """Do the operations on an image; see `processors.Processor.process`."""
    data = read(source, limits)
    probe = probe_bytes(data, limits)
    if probe.is_animated:
        raise AnimatedImageError(f"{probe.frames} frames would become one")
    vips.claim()
    target = output or chosen_format(operations, probe)
    plan = Plan.of(operations, probe.upright_width, probe.upright_height, fitting(limits, target))
    recipe = recipe_of(operations, target, probe, plan)
    if recipe.lossless and target is probe.format is formats.JPEG:
        content = without_position(data, target)
    else:
        content = encode(pixels_of(job_of(operations, data, probe, plan, recipe)), recipe)
    return variant(data, content, recipe)


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


def recipe_of(operations: Operations, target: Format, probe: Probe, plan: Plan) -> Recipe:
    """Return how the result is written."""
    if target not in ENCODERS:
        names = ", ".join(known.name for known in ENCODERS)
        raise OptionError("output.format", f"one of {names}", target.name)
    output = operations.output
    compression = (operations.optimize and operations.optimize.compression) or "medium"
    asked = output.quality if output else None
    unchanged = compression == "lossless" and asked is None
    lossless = unchanged or bool(output and output.lossless)
    if target is formats.WEBP and probe.palette and not plan.resamples and asked is None:
        # Few colours are smaller so, and stay sharp; resampled there are more of them.
        lossless = True
    if target is formats.JPEG:
        lossless = lossless and probe.format is formats.JPEG and plan.keeps_pixels
    elif target is formats.PNG:
        lossless = lossless or compression == "low"
    elif target is formats.GIF:
        lossless = False
    quality = None
    if target in QUALITIES and not lossless:
        quality = asked or QUALITIES[target][compression]
    return Recipe(
        format=target,
        quality=quality,
        lossless=lossless,
        progressive=not (output and output.encoding == "baseline"),
        graphic=probe.palette,
        keeps_colours=lossless and unchanged and can_keep_colours(probe, plan),
    )


def can_keep_colours(probe: Probe, plan: Plan) -> bool:
    """Say whether the pixels' values can go from the source to a PNG, WebP or AVIF."""
    return not (plan.resamples or plan.canvas or probe.cmyk)


def job_of(operations: Operations, data: bytes, probe: Probe, plan: Plan, recipe: Recipe) -> Job:
    """Return what the steps have to do."""
    resize, output = operations.resize, operations.output
    return Job(
        data=data,
        probe=probe,
        plan=plan,
        alpha=recipe.format.alpha,
        pad=(resize and resize.background) or CLEAR,
        background=(output and output.background) or WHITE,
        keeps_colours=recipe.keeps_colours,
    )


def variant(data: bytes, content: bytes, recipe: Recipe) -> Variant:
    """Return the result with what is known of it and of its source."""
    made = describe(content, recipe.quality)
    metadata = Metadata(
        input=ImageInfo.from_dict(describe(data).fields()),
        output=ImageInfo.from_dict(made.fields()),
    )
    return Variant(content, recipe.format.media_type, made.width, made.height, metadata)
