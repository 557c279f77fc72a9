"""From operations to how a result is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.engine.encode import QUALITIES, Recipe
from optidash_integrations.engine.job import EFFECTS

if TYPE_CHECKING:
    from optidash_integrations.engine.plan import Plan
    from optidash_integrations.formats import Format
    from optidash_integrations.operations import Operations
    from optidash_integrations.probes import Probe


def recipe_of(
    operations: Operations, target: Format, probe: Probe, plan: Plan, *, moves: bool = False
) -> Recipe:
    """Return how a result is written; `moves` says that it is an animation."""
    output = operations.output
    compression = (operations.optimize and operations.optimize.compression) or "medium"
    asked = output.quality if output else None
    same = plan.keeps_pixels and EFFECTS.isdisjoint(operations.canonical())
    unchanged = compression == "lossless" and asked is None
    lossless = unchanged or bool(output and output.lossless)
    if target is formats.WEBP and probe.palette and not plan.resamples and asked is None:
        # Few colours are smaller so, and stay sharp; resampled there are more of them.
        lossless = not moves or lossless
    if target is formats.JPEG:
        lossless = lossless and probe.format is formats.JPEG and same
    elif target is formats.PNG:
        lossless = lossless or compression == "low"
    elif target is formats.GIF:
        lossless = False
    quality = None
    if target in QUALITIES and not lossless:
        # What is left open here is found by looking at the picture, but not at every frame.
        is_fixed = moves or compression == "lossless" or target is formats.JP2
        quality = asked or (QUALITIES[target][compression] if is_fixed else None)
    keeps_profile = bool(output and output.profile == "keep") and not probe.cmyk
    return Recipe(
        format=target,
        quality=quality,
        lossless=lossless,
        progressive=not (output and output.encoding == "baseline"),
        graphic=probe.palette,
        keeps_colours=keeps_profile
        or (lossless and unchanged and not moves and can_keep_values(operations, probe, plan)),
        metadata=(output and output.metadata) or "none",
        compression="" if asked else compression,
    )


def can_keep_values(operations: Operations, probe: Probe, plan: Plan) -> bool:
    """Say whether the pixels' values can go from the source to a PNG, WebP or AVIF."""
    is_plain = EFFECTS.isdisjoint(operations.canonical())
    return is_plain and not (plan.resamples or plan.canvas or probe.cmyk)
