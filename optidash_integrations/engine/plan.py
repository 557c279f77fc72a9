"""Every size and place of a job, computed before a pixel is touched.

Coordinates are those of the upright picture. Crop, resize, scale and the limits on a result come
down to four things: what is cut from the source, what that is resampled to, once, what is then cut
from it, and what canvas it lies on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optidash_integrations.errors import OptionError

if TYPE_CHECKING:
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Crop, Operations, Resize

# How far along the free space each gravity lies, 0 to 1, to the right and down.
PLACES = {
    "center": (0.5, 0.5),
    "top-left": (0.0, 0.0),
    "top": (0.5, 0.0),
    "top-right": (1.0, 0.0),
    "right": (1.0, 0.5),
    "bottom-right": (1.0, 1.0),
    "bottom": (0.5, 1.0),
    "bottom-left": (0.0, 1.0),
    "left": (0.0, 0.5),
}
# What libvips calls the searches for a place.
SEARCHES = {"smart": "attention", "entropy": "entropy"}

# Where a picture is enlarged and less than this part of it stays, the rest is cut off beforehand:
# 65,500 x 1 pixels made to cover a square would be a picture of 10^12 first.
KEPT_PART = 1 / 4


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a picture of a certain size.

    `crop` is cut from it (None: all of it is used), the rest resampled to exactly `width` x
    `height`. From that `window` is cut (None: nothing is), at the place given, or where `search`
    (libvips' name of a strategy) finds it. The result lies on a canvas of `canvas` pixels, its left
    top corner at the place given (None: there is no canvas).
    """

    source_width: int
    source_height: int
    width: int
    height: int
    crop: Box | None = None
    window: Box | None = None
    search: str | None = None
    canvas: Box | None = None

    @classmethod
    def of(cls, operations: Operations, width: int, height: int, limits: Limits) -> Plan:
        """Return the plan for a picture of `width` x `height` upright pixels.

        Raises OptionError where the part to crop lies outside of it.
        """
        crop = cropped(operations.crop, width, height) if operations.crop else None
        plan = cls(width, height, width, height, crop)
        factors = (1.0, 1.0)
        if operations.scale:
            size = operations.scale.size or 1.0
            factors = (size, size * (operations.scale.ratio or 1.0))
        return limited(plan, operations.resize, factors, limits)

    @property
    def base_width(self) -> int:
        """Width of what is resampled, in pixels of the source."""
        return self.crop.width if self.crop else self.source_width

    @property
    def base_height(self) -> int:
        """Height of what is resampled, in pixels of the source."""
        return self.crop.height if self.crop else self.source_height

    @property
    def final_width(self) -> int:
        """Width of the result in pixels."""
        return (self.canvas or self.window or self).width

    @property
    def final_height(self) -> int:
        """Height of the result in pixels."""
        return (self.canvas or self.window or self).height

    @property
    def resamples(self) -> bool:
        """Whether the picture is made larger or smaller, cuts aside."""
        return (self.width, self.height) != (self.base_width, self.base_height)

    @property
    def keeps_pixels(self) -> bool:
        """Whether the whole picture stays as it is."""
        return not (self.crop or self.window or self.canvas or self.resamples)


def limited(
    plan: Plan, resize: Resize | None, factors: tuple[float, float], limits: Limits
) -> Plan:
    """Return the resized plan, scaled down where its result is larger than allowed."""
    wanted = resized(plan, resize, *factors)
    excess = max(wanted.final_width / limits.max_width, wanted.final_height / limits.max_height)
    if excess <= 1:
        return wanted
    return resized(plan, resize, factors[0] / excess, factors[1] / excess)


def resized(plan: Plan, resize: Resize | None, x: float, y: float) -> Plan:
    """Return the plan with a resize; its result's sides are multiplied by `x` and `y`."""
    if resize is None or (resize.width is None and resize.height is None):
        return resampled(plan, x, y)
    if resize.mode == "exact":
        return distorted(plan, resize, x, y)
    if resize.mode == "fit" and resize.width and resize.height:
        return covering(plan, resize, x, y)
    factor = inside_factor(plan, resize)
    inside = resampled(plan, factor * x, factor * y)
    if resize.mode == "pad" and resize.width and resize.height:
        return padded(inside, whole(resize.width * x), whole(resize.height * y))
    return inside


def resampled(plan: Plan, x: float, y: float) -> Plan:
    return replace(plan, width=whole(plan.base_width * x), height=whole(plan.base_height * y))


def inside_factor(plan: Plan, resize: Resize) -> float:
    """Return the factor that brings the picture inside the box."""
    factor = min(
        resize.width / plan.base_width if resize.width else math.inf,
        resize.height / plan.base_height if resize.height else math.inf,
    )
    return factor if resize.upscales else min(factor, 1.0)


def distorted(plan: Plan, resize: Resize, x: float, y: float) -> Plan:
    """Return the plan that gives the box's own sides."""
    width, height = resize.width or plan.base_width, resize.height or plan.base_height
    if not resize.upscales:
        width, height = min(width, plan.base_width), min(height, plan.base_height)
    return replace(plan, width=whole(width * x), height=whole(height * y))


def padded(inside: Plan, width: int, height: int) -> Plan:
    """Return the plan with a canvas around its middle."""
    left = (width - min(inside.width, width)) // 2
    top = (height - min(inside.height, height)) // 2
    return replace(
        inside,
        width=min(inside.width, width),
        height=min(inside.height, height),
        canvas=Box(left, top, width, height),
    )


def covering(plan: Plan, resize: Resize, x: float, y: float) -> Plan:
    """Return the plan that covers the box and cuts the excess.

    Where the picture may not grow, the box shrinks with its ratio until the picture covers it.
    """
    wide, high = float(resize.width or 1), float(resize.height or 1)
    factor = max(wide / plan.base_width, high / plan.base_height)
    if factor > 1 and not resize.upscales:
        wide, high, factor = wide / factor, high / factor, 1.0
    width, height = whole(wide * x), whole(high * y)
    cover = resampled(plan, factor * x, factor * y)
    cover = replace(cover, width=max(cover.width, width), height=max(cover.height, height))
    if factor * max(x, y) > 1 and width * height < KEPT_PART * cover.width * cover.height:
        part = narrowed(plan, resize, math.ceil(wide / factor), math.ceil(high / factor))
        if part != plan.crop:
            return covering(replace(plan, crop=part), resize, x, y)
    if (cover.width, cover.height) == (width, height):
        return cover
    left, top = corner(cover, width, height, resize.gravity, resize.focus)
    search = None if resize.focus else SEARCHES.get(resize.gravity or "")
    return replace(cover, window=Box(left, top, width, height), search=search)


def narrowed(plan: Plan, resize: Resize, width: int, height: int) -> Box:
    """Return the part of the source that a window of so many of its pixels shows."""
    base = replace(plan, width=plan.base_width, height=plan.base_height)
    width, height = min(width, base.width), min(height, base.height)
    left, top = corner(base, width, height, resize.gravity, resize.focus)
    if plan.crop:
        left, top = left + plan.crop.left, top + plan.crop.top
    return Box(left, top, width, height)


def corner(
    outer: Plan | Box,
    width: int,
    height: int,
    gravity: str | None,
    focus: tuple[float, float] | None = None,
) -> tuple[int, int]:
    """Return where the left top corner of a window of `width` x `height` goes in `outer`."""
    free_x, free_y = outer.width - width, outer.height - height
    if focus:
        x, y = focus[0] * outer.width - width / 2, focus[1] * outer.height - height / 2
        return min(max(int(x), 0), free_x), min(max(int(y), 0), free_y)
    right, down = PLACES.get(gravity or "center", PLACES["center"])
    return int(free_x * right), int(free_y * down)


def cropped(crop: Crop, width: int, height: int) -> Box | None:
    """Return the part of a picture to crop, or None where that is all of it."""
    part = ratio_box if crop.mode == "ratio" else rect_box
    box = part(crop, width, height)
    return None if (box.width, box.height) == (width, height) else box


def ratio_box(crop: Crop, width: int, height: int) -> Box:
    """Return the largest part of the ratio asked for."""
    wide, high = crop.ratio or (width, height)
    part_width = min(width, whole(height * wide / high))
    part_height = min(height, whole(width * high / wide))
    left, top = corner(Box(0, 0, width, height), part_width, part_height, crop.gravity)
    return Box(left, top, part_width, part_height)


def rect_box(crop: Crop, width: int, height: int) -> Box:
    """Return the rectangle asked for, cut to the picture's edges."""
    for name, at, side in (("crop.x", crop.x, width), ("crop.y", crop.y, height)):
        if at is not None and at >= side:
            raise OptionError(name, f"an integer below {side}, the picture's side", at)
    left, top = crop.x or 0, crop.y or 0
    part_width = min(crop.width or width, width - left)
    part_height = min(crop.height or height, height - top)
    if crop.is_placed_by_gravity:
        left, top = corner(Box(0, 0, width, height), part_width, part_height, crop.gravity)
    return Box(left, top, part_width, part_height)


def whole(side: float) -> int:
    """Round half up to a whole number of pixels, at least one."""
    return max(1, math.floor(side + 0.5))
