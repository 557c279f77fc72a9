"""Every size and place of a job, computed before a pixel is touched.

Coordinates are those of the upright picture. Crop, resize, scale and the limits on a result come
down to four things: what is cut from the source, what that is resampled to, once, what is then cut
from it, and what canvas it lies on. What is done to that picture may make it larger again: by a
factor, by a turn, by a border and by padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optidash_integrations.engine.crops import (
    NOTHING_SEEN,
    Box,
    Sight,
    corner,
    cropped,
    whole,
)
from optidash_integrations.engine.crops import PLACES as PLACES
from optidash_integrations.errors import OptionError

if TYPE_CHECKING:
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations, Resize

# What libvips calls the searches for a place.
SEARCHES = {"smart": "attention", "entropy": "entropy"}

# Where a picture is enlarged and less than this part of it stays, the rest is cut off beforehand:
# 65,500 x 1 pixels made to cover a square would be a picture of 10^12 first.
KEPT_PART = 1 / 4


@dataclass(frozen=True, slots=True)
class Margins:
    """How much a picture grows on each side, in pixels."""

    top: int = 0
    right: int = 0
    bottom: int = 0
    left: int = 0

    @property
    def width(self) -> int:
        """What both sides together take."""
        return self.left + self.right

    @property
    def height(self) -> int:
        """What top and bottom together take."""
        return self.top + self.bottom


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to a picture of a certain size.

    `crop` is cut from it (None: all of it is used), the rest resampled to exactly `width` x
    `height`. From that `window` is cut (None: nothing is), at the place given, or where `search`
    (libvips' name of a strategy) finds it. The result lies on a canvas of `canvas` pixels, its left
    top corner at the place given (None: there is no canvas). That is the picture: it is then
    enlarged by `factor`, turned clockwise by `angle` degrees, and gets a border of so many pixels
    and padding around it.
    """

    source_width: int
    source_height: int
    width: int
    height: int
    crop: Box | None = None
    window: Box | None = None
    search: str | None = None
    canvas: Box | None = None
    factor: int = 1
    angle: float = 0.0
    border: int = 0
    padding: Margins = Margins()

    @classmethod
    def of(
        cls,
        operations: Operations,
        width: int,
        height: int,
        limits: Limits,
        sight: Sight = NOTHING_SEEN,
    ) -> Plan:
        """Return the plan for a picture of `width` x `height` upright pixels.

        Raises OptionError where the part to crop lies outside of it, and where border and padding
        leave no room for it.
        """
        crop = cropped(operations.crop, width, height, sight) if operations.crop else None
        resolution = operations.super_resolution
        plan = cls(
            width,
            height,
            width,
            height,
            crop,
            factor=(resolution and resolution.factor) or 1,
            angle=(operations.rotate and operations.rotate.angle) or 0.0,
            border=(operations.border and operations.border.size) or 0,
            padding=Margins(*operations.padding.sides) if operations.padding else Margins(),
        )
        factors = (1.0, 1.0)
        if operations.scale:
            size = operations.scale.size or 1.0
            factors = (size, size * (operations.scale.ratio or 1.0))
        return limited(plan, with_focus(operations.resize, plan, sight), factors, limits)

    @property
    def base_width(self) -> int:
        """Width of what is resampled, in pixels of the source."""
        return self.crop.width if self.crop else self.source_width

    @property
    def base_height(self) -> int:
        """Height of what is resampled, in pixels of the source."""
        return self.crop.height if self.crop else self.source_height

    @property
    def picture(self) -> tuple[int, int]:
        """Width and height of the picture that everything else is done to."""
        found = self.canvas or self.window or self
        return found.width, found.height

    @property
    def turned(self) -> tuple[int, int]:
        """Width and height of the picture enlarged and turned."""
        width, height = self.picture
        return bounds_of(width * self.factor, height * self.factor, self.angle)

    @property
    def margins(self) -> Margins:
        """What border and padding add."""
        size, around = self.border, self.padding
        sides = (around.top, around.right, around.bottom, around.left)
        return Margins(*(size + side for side in sides))

    @property
    def final_width(self) -> int:
        """Width of the result in pixels."""
        return self.turned[0] + self.margins.width

    @property
    def final_height(self) -> int:
        """Height of the result in pixels."""
        return self.turned[1] + self.margins.height

    @property
    def resamples(self) -> bool:
        """Whether the picture is made larger or smaller, cuts aside."""
        return (self.width, self.height) != (self.base_width, self.base_height)

    @property
    def keeps_pixels(self) -> bool:
        """Whether the whole picture stays as it is."""
        return not (
            self.crop
            or self.window
            or self.canvas
            or self.resamples
            or self.angle
            or self.factor > 1
            or self.margins != Margins()
        )


def limited(
    plan: Plan, resize: Resize | None, factors: tuple[float, float], limits: Limits
) -> Plan:
    """Return the resized plan, scaled down where its result is larger than allowed."""
    wanted = resized(plan, resize, *factors)
    room = (limits.max_width - plan.margins.width, limits.max_height - plan.margins.height)
    if min(room) < 1:
        takes = f"at most {limits.max_width} x {limits.max_height} pixels with the image"
        raise OptionError(
            "border.size and padding", takes, [plan.margins.width, plan.margins.height]
        )
    for _ in range(4):
        excess = max(side / most for side, most in zip(wanted.turned, room, strict=True))
        if excess <= 1:
            break
        # A turned picture's sides are rounded up, so that one step may not be enough.
        factors = factors[0] / excess, factors[1] / excess
        wanted = resized(plan, resize, *factors)
    return wanted


def bounds_of(width: int, height: int, angle: float) -> tuple[int, int]:
    """Return the sides of the upright box around a picture turned by so many degrees."""
    if angle % 90 == 0:
        return (height, width) if angle % 180 else (width, height)
    turn = math.radians(angle)
    across, along = abs(math.cos(turn)), abs(math.sin(turn))
    # A tiny bit less, so that what is whole but for the arithmetic stays so.
    return (
        math.ceil(width * across + height * along - 1e-6),
        math.ceil(width * along + height * across - 1e-6),
    )


def with_focus(resize: Resize | None, plan: Plan, sight: Sight) -> Resize | None:
    """Return the resize with a point to keep where its gravity means faces that were seen.

    For an animation the eye's point stands for the searches, so that all frames show one part.
    """
    if resize is None or resize.chosen_mode != "fit" or resize.focus is not None:
        return resize
    point: tuple[float, float] | None = None
    if resize.gravity in ("face", "faces"):
        faces = sight.faces[:1] if resize.gravity == "face" else sight.faces
        point = middle_of(faces, plan)
    elif resize.gravity in SEARCHES and sight.attention is not None:
        x, y = sight.attention
        point = part_of_base(x * plan.source_width, y * plan.source_height, plan)
    return replace(resize, focus=point) if point else resize


def middle_of(faces: tuple[Box, ...], plan: Plan) -> tuple[float, float] | None:
    """Return the middle of the box around faces, as parts of what is resampled."""
    if not faces:
        return None
    left, top = min(f.left for f in faces), min(f.top for f in faces)
    right = max(f.left + f.width for f in faces)
    bottom = max(f.top + f.height for f in faces)
    return part_of_base((left + right) / 2, (top + bottom) / 2, plan)


def part_of_base(x: float, y: float, plan: Plan) -> tuple[float, float]:
    """Return a point of the source as parts of what is resampled, kept inside of it."""
    left, top = (plan.crop.left, plan.crop.top) if plan.crop else (0, 0)
    across, down = (x - left) / plan.base_width, (y - top) / plan.base_height
    return min(max(across, 0.0), 1.0), min(max(down, 0.0), 1.0)


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
    left, top = corner(
        Box(0, 0, cover.width, cover.height), width, height, resize.gravity, resize.focus
    )
    search = None if resize.focus else SEARCHES.get(resize.gravity or "")
    return replace(cover, window=Box(left, top, width, height), search=search)


def narrowed(plan: Plan, resize: Resize, width: int, height: int) -> Box:
    """Return the part of the source that a window of so many of its pixels shows."""
    base = Box(0, 0, plan.base_width, plan.base_height)
    width, height = min(width, base.width), min(height, base.height)
    left, top = corner(base, width, height, resize.gravity, resize.focus)
    if plan.crop:
        left, top = left + plan.crop.left, top + plan.crop.top
    return Box(left, top, width, height)
