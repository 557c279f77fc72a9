"""Which part of a picture is meant: where a window lies, and what a crop keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optidash_integrations.errors import OptionError

if TYPE_CHECKING:
    from optidash_integrations.operations import Crop

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


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen in the upright source: faces, the best first, and where the eye is drawn to,
    as parts of its sides.
    """

    faces: tuple[Box, ...] = ()
    attention: tuple[float, float] | None = None


NOTHING_SEEN = Sight()


def corner(
    outer: Box,
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


def cropped(crop: Crop, width: int, height: int, sight: Sight) -> Box | None:
    """Return the part of a picture to crop, or None where that is all of it."""
    if crop.chosen_mode == "face":
        box = face_box(crop, width, height, sight)
    elif crop.chosen_mode == "smart":
        box = smart_box(crop, width, height, sight)
    else:
        part = ratio_box if crop.mode == "ratio" else rect_box
        box = part(crop, width, height)
    return None if (box.width, box.height) == (width, height) else box


def face_box(crop: Crop, width: int, height: int, sight: Sight) -> Box:
    """Return the best face with so many times its size around it; all where there is none."""
    if not sight.faces:
        return Box(0, 0, width, height)
    face = sight.faces[0]
    around = 0.5 if crop.padding is None else crop.padding
    across, down = around * face.width, around * face.height
    left, top = max(0, math.floor(face.left - across)), max(0, math.floor(face.top - down))
    right = min(width, math.ceil(face.left + face.width + across))
    bottom = min(height, math.ceil(face.top + face.height + down))
    return Box(left, top, right - left, bottom - top)


def smart_box(crop: Crop, width: int, height: int, sight: Sight) -> Box:
    """Return the part around the point that the eye is drawn to."""
    part_width, part_height = min(crop.width or width, width), min(crop.height or height, height)
    left, top = corner(
        Box(0, 0, width, height), part_width, part_height, None, sight.attention or (0.5, 0.5)
    )
    return Box(left, top, part_width, part_height)


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
