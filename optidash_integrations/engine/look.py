"""What is to be seen in a source before its plan is made: faces, and where the eye is drawn to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optidash_integrations.engine import faces, foreign, vips
from optidash_integrations.engine.animation import first_frame
from optidash_integrations.engine.crops import NOTHING_SEEN, Box, Sight
from optidash_integrations.formats import HEAD_BYTES, SVG
from optidash_integrations.probes import is_foreign

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.tools import Tools
    from optidash_integrations.limits import Limits
    from optidash_integrations.operations import Operations
    from optidash_integrations.probes import Probe

LOOKED_AT = 640
"""The longest side, in pixels, of the copy that is looked at."""


def seen(
    data: bytes, probe: Probe, operations: Operations, tools: Tools, limits: Limits
) -> tuple[Sight, tuple[str, ...]]:
    """Return what the operations ask to look for, and notes on what could not be.

    Nothing is decoded where they ask for nothing. Raises ImageError where the source is damaged.
    """
    wants_faces, wants_attention = asked_for(operations, probe)
    if probe.format is SVG or not (wants_faces or wants_attention):
        return NOTHING_SEEN, ()
    small = small_copy(data, probe, limits)
    notes = (faces.NOTE,) if wants_faces and not faces.available(tools.face_model) else ()
    found: tuple[Box, ...] = ()
    if wants_faces:
        factor = probe.upright_width / small.width
        found = tuple(
            Box(*(round(part * factor) for part in (face.x, face.y, face.width, face.height)))
            for face in faces.find(small, tools.face_model)
        )
    point = attention(small, *part_meant(operations, probe, small)) if wants_attention else None
    return Sight(found, point), notes


def part_meant(operations: Operations, probe: Probe, small: pyvips.Image) -> tuple[int, int]:
    """Return the size, in a small copy's pixels, of the part that the eye is to be drawn to.

    What stands out depends on it: in a small part it is a detail, in a large one a person.
    """
    crop, side = operations.crop, max(1, min(small.width, small.height) // 2)
    if crop is None or crop.chosen_mode != "smart" or not (crop.width and crop.height):
        return side, side
    across, down = small.width / probe.upright_width, small.height / probe.upright_height
    return (
        min(max(1, round(crop.width * across)), small.width),
        min(max(1, round(crop.height * down)), small.height),
    )


def asked_for(operations: Operations, probe: Probe) -> tuple[bool, bool]:
    """Return whether faces, and whether the point of attention, are to be looked for."""
    resize, crop = operations.resize, operations.crop
    gravity = resize.gravity if resize and resize.chosen_mode == "fit" else None
    if resize and resize.focus is not None:
        gravity = None
    mode = crop.chosen_mode if crop and crop.has_effect else None
    wants_faces = gravity in ("face", "faces") or mode == "face"
    moves = probe.is_animated and gravity in ("smart", "entropy")
    return wants_faces, moves or mode == "smart"


def small_copy(data: bytes, probe: Probe, limits: Limits) -> pyvips.Image:
    """Return a small upright copy in sRGB or grey, in memory."""
    with vips.reading(probe.format.label):
        if is_foreign(probe.format, data[:HEAD_BYTES]):
            image = foreign.decoded(data, probe.format, limits)
        elif probe.is_animated:
            image = first_frame(data, probe)
        else:
            small = vips.pyvips.Image.thumbnail_buffer(
                data, LOOKED_AT, height=LOOKED_AT, size="down"
            )
            return in_srgb(small)
        return in_srgb(image.thumbnail_image(LOOKED_AT, height=LOOKED_AT, size="down"))


def in_srgb(image: pyvips.Image) -> pyvips.Image:
    if image.interpretation not in ("srgb", "b-w"):
        image = image.colourspace("b-w" if image.interpretation == "grey16" else "srgb")
    return image.cast("uchar").copy_memory()


def attention(image: pyvips.Image, width: int, height: int) -> tuple[float, float]:
    """Return the point that the eye is drawn to in parts of a size, as parts of the sides."""
    found: Any = image.smartcrop(
        width, height, interesting="attention", attention_x=True, attention_y=True
    )
    point = found[1]
    return point["attention_x"] / image.width, point["attention_y"] / image.height
