"""The frames of an animated PNG, each made a PNG of its own for libvips, and laid over the others.

What a frame does to the canvas stands in its fcTL chunk (PNG, third edition, 11.3.6).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from optidash_integrations.engine import vips
from optidash_integrations.engine.strip import (
    PNG_SIGNATURE,
    Piece,
    listed,
    png_chunk,
    png_pieces,
)
from optidash_integrations.errors import BrokenImageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyvips

CONTROL = struct.Struct(">IIIIIHHBB")
TO_BACKGROUND, TO_PREVIOUS = 1, 2
OVER = 1

# What of the file's chunks goes into every frame, and the types of colour that are grey.
SHARED = (b"PLTE", b"tRNS")
GREY = (0, 4)


class Control(NamedTuple):
    """A frame's size and place, its delay as a fraction of a second, and what it does."""

    number: int
    width: int
    height: int
    left: int
    top: int
    numerator: int
    denominator: int
    disposal: int
    blending: int

    @property
    def milliseconds(self) -> int:
        """How long the frame is seen."""
        return round(1000 * self.numerator / (self.denominator or 100))


@dataclass(slots=True)
class Frame:
    """One frame as it is stored: what it does, and its coded pixels."""

    control: Control
    data: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Apng:
    """An animated PNG, taken apart; its still picture is left out where it is not a frame."""

    width: int
    height: int
    plays: int
    header: bytes
    shared: bytes
    frames: tuple[Frame, ...]

    @classmethod
    def of(cls, data: bytes) -> Apng:
        """Take a file apart. Raises BrokenImageError where its structure can't be followed."""
        pieces = listed(png_pieces(data))
        frames = frames_of(pieces)
        try:
            header = next(piece.payload for piece in pieces if piece.kind == b"IHDR")
            plays = next(piece.payload for piece in pieces if piece.kind == b"acTL")
            width, height = struct.unpack_from(">II", header)
            count, times = struct.unpack_from(">II", plays)
        except (StopIteration, struct.error) as error:
            raise BrokenImageError("this PNG does not tell of its frames") from error
        if not frames or len(frames) != count:
            raise BrokenImageError(f"this PNG has {len(frames)} of {count} frames")
        for frame in frames:
            check_place(frame.control, width, height)
        return cls(
            width,
            height,
            times,
            header,
            b"".join(piece.whole for piece in pieces if piece.kind in SHARED),
            tuple(frames),
        )

    def single(self, frame: Frame) -> bytes:
        """Return a frame as a still PNG, as large as its part of the canvas."""
        size = struct.pack(">II", frame.control.width, frame.control.height)
        header = png_chunk(b"IHDR", size + self.header[8:]).whole
        pixels = png_chunk(b"IDAT", b"".join(frame.data)).whole
        return PNG_SIGNATURE + header + self.shared + pixels + png_chunk(b"IEND", b"").whole

    @property
    def space(self) -> str:
        """What libvips calls the colours of the canvas."""
        return "b-w" if self.header[9] in GREY else "srgb"

    def composed(self) -> Iterator[pyvips.Image]:
        """Yield the canvas after each frame, in sRGB or grey, with alpha, in memory."""
        canvas = clear(self.width, self.height, self.space).copy_memory()
        for frame in self.frames:
            with vips.reading("PNG"):
                pixels = pixels_of(self.single(frame), self.space)
                drawn = drawn_on(canvas, pixels, frame.control)
            yield drawn
            canvas = disposed(canvas, drawn, frame.control)


def clear(width: int, height: int, space: str) -> pyvips.Image:
    """Return a canvas on which nothing is to be seen."""
    bands = 2 if space == "b-w" else 4
    return vips.pyvips.Image.black(width, height, bands=bands).copy(interpretation=space)


def frames_of(pieces: list[Piece]) -> list[Frame]:
    frames: list[Frame] = []
    for piece in pieces:
        if piece.kind == b"fcTL":
            if len(piece.payload) != CONTROL.size:
                raise BrokenImageError("this PNG has a frame without a size")
            frames.append(Frame(Control(*CONTROL.unpack(piece.payload))))
        elif piece.kind == b"IDAT" and frames:
            frames[0].data.append(piece.payload)
        elif piece.kind == b"fdAT" and frames:
            frames[-1].data.append(piece.payload[4:])
    return frames


def check_place(control: Control, width: int, height: int) -> None:
    """Raise BrokenImageError for a frame that is not on the canvas."""
    right, bottom = control.left + control.width, control.top + control.height
    if not (0 < control.width <= right <= width and 0 < control.height <= bottom <= height):
        raise BrokenImageError("this PNG has a frame outside of its canvas")


def pixels_of(png: bytes, space: str) -> pyvips.Image:
    """Return a still PNG in 8 bits with alpha, its colours as they are told."""
    image = vips.pyvips.Image.pngload_buffer(png, fail_on="truncated")
    if image.interpretation != space:
        image = image.colourspace(space)
    return (image if image.hasalpha() else image.addalpha()).copy_memory()


def drawn_on(canvas: pyvips.Image, pixels: pyvips.Image, control: Control) -> pyvips.Image:
    """Return the canvas with a frame's pixels laid over it, or put in the place of its own."""
    if control.blending == OVER:
        part = canvas.crop(control.left, control.top, control.width, control.height)
        pixels = part.composite2(pixels, "over")
    return canvas.insert(pixels, control.left, control.top).copy_memory()


def disposed(before: pyvips.Image, drawn: pyvips.Image, control: Control) -> pyvips.Image:
    """Return the canvas that the next frame finds."""
    if control.disposal == TO_PREVIOUS:
        return before
    if control.disposal == TO_BACKGROUND:
        hole = clear(control.width, control.height, str(drawn.interpretation))
        return drawn.insert(hole, control.left, control.top).copy_memory()
    return drawn
