"""Windows icons: several pictures in one file, each a PNG or a bitmap with a mask."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from optidash_integrations.errors import BrokenImageError

DIRECTORY, ENTRY = struct.Struct("<HHH"), struct.Struct("<BBBBHHII")
BITMAP = struct.Struct("<IiiHH")
PNG_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
ICON = 1

LARGEST_BITMAP = 256
"""The longest side that the directory of an icon can tell; larger pictures are PNGs."""


@dataclass(frozen=True, slots=True)
class Icon:
    """One picture of an icon; `bits` is its depth, all channels together, 0 where it is a PNG's."""

    width: int
    height: int
    bits: int
    content: bytes

    @property
    def is_png(self) -> bool:
        """Whether its content is a PNG, else it is a bitmap without a file header."""
        return self.bits == 0

    def alone(self) -> bytes:
        """Return a file with this picture only, whose directory tells the truth."""
        size, start = len(self.content), DIRECTORY.size + ENTRY.size
        sides = self.width % LARGEST_BITMAP, self.height % LARGEST_BITMAP
        entry = ENTRY.pack(*sides, 0, 0, 1, self.bits, size, start)
        return DIRECTORY.pack(0, ICON, 1) + entry + self.content


def largest(data: bytes) -> Icon:
    """Return the largest picture of an icon, of several so large the one with most colours.

    Its sides are those of the picture itself. Raises BrokenImageError where there is none.
    """
    try:
        _, _, count = DIRECTORY.unpack_from(data)
        entries = [ENTRY.unpack_from(data, DIRECTORY.size + n * ENTRY.size) for n in range(count)]
        if not entries:
            raise BrokenImageError("this ICO holds no picture")
        *_, size, start = max(entries, key=rank)
        return picture(data[start : start + size])
    except struct.error as error:
        raise BrokenImageError("this ICO breaks off") from error


def rank(entry: tuple[int, ...]) -> tuple[int, int]:
    """Return an entry's pixels and depth; 0 stands for 256, and for as many colours as can be."""
    width, height, _, _, _, bits, _, _ = entry
    return (width or LARGEST_BITMAP) * (height or LARGEST_BITMAP), bits or 32


def picture(content: bytes) -> Icon:
    if content.startswith(PNG_HEAD):
        width, height = struct.unpack_from(">II", content, len(PNG_HEAD))
        return Icon(width, height, 0, content)
    _, width, height, _, bits = BITMAP.unpack_from(content)
    height = abs(height) // 2  # its mask is counted too
    if not (0 < width <= LARGEST_BITMAP and 0 < height <= LARGEST_BITMAP and bits):
        raise BrokenImageError(f"this ICO holds a bitmap of {width} x {height} pixels")
    return Icon(width, height, bits, content)
