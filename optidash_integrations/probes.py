"""What the header of an image says, whoever reads it, and whether the limits allow to go on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from optidash_integrations import formats
from optidash_integrations.errors import (
    BrokenImageError,
    ImageTooLargeError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits

# What libvips and Pillow both read; what Pillow alone does, and what it does with pillow-heif.
COMMON = (
    formats.JPEG,
    formats.PNG,
    formats.WEBP,
    formats.GIF,
    formats.TIFF,
    formats.AVIF,
)
BY_PILLOW = (formats.BMP, formats.ICO, formats.JP2, formats.PSD)
BY_PLUGIN = (formats.HEIC,)

HAS_PILLOW = find_spec("PIL") is not None
HAS_HEIF = HAS_PILLOW and find_spec("pillow_heif") is not None

READABLE = (
    *COMMON,
    *(BY_PILLOW if HAS_PILLOW else ()),
    *(BY_PLUGIN if HAS_HEIF else ()),
)
"""What is read here, by what is installed. SVG is not among them: it takes `Limits.svg`."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of an image says.

    `width` and `height` are as stored, before `orientation` (EXIF's, 1 to 8) is applied; an AVIF's
    own rotation is already in them. `frames` is 1 for a still picture, whatever further pages its
    file has; `pages` counts those too. `palette` says that it has 256 colours at the most.
    `has_position` says that the metadata seen carries a GPS position.
    """

    format: Format
    width: int
    height: int
    orientation: int = 1
    frames: int = 1
    alpha: bool = False
    bytes: int = 0
    has_profile: bool = False
    has_position: bool = False
    pages: int = 1
    palette: bool = False
    grey: bool = False
    cmyk: bool = False

    @property
    def upright_width(self) -> int:
        """Width in pixels as it is to be seen."""
        return self.height if self.orientation >= 5 else self.width

    @property
    def upright_height(self) -> int:
        """Height in pixels as it is to be seen."""
        return self.width if self.orientation >= 5 else self.height

    @property
    def is_animated(self) -> bool:
        """Whether it has more than one frame."""
        return self.frames > 1


def checked(found: Probe, limits: Limits) -> Probe:
    """Return it; raise ImageTooLargeError where it has more frames or pixels than allowed."""
    if found.frames > limits.max_frames:
        raise ImageTooLargeError(f"{found.frames} frames are more than max_frames allows")
    if found.width * found.height * found.frames > limits.max_pixels:
        frames = f" in {found.frames} frames" if found.is_animated else ""
        raise ImageTooLargeError(
            f"{found.width} x {found.height} pixels{frames} are more than max_pixels allows"
        )
    return found


def readable_format(head: bytes, size: int, limits: Limits) -> Format:
    """Return the format that the first bytes tell, if it is one to go on with."""
    if size > limits.max_input_bytes:
        raise ImageTooLargeError(f"{size} bytes are more than max_input_bytes allows")
    if not head:
        raise BrokenImageError("the file is empty")
    found = formats.detect(head)
    if found is None:
        raise UnsupportedImageError("these bytes are no image of a known format")
    if found is formats.SVG and limits.svg:
        return found
    if found not in READABLE:
        names = ", ".join(readable.label for readable in READABLE)
        raise UnsupportedImageError(f"what is read here is {names}, not {found.label}")
    if is_sequence(found, head) and not HAS_PILLOW:
        raise UnsupportedImageError("AVIF sequences are read with Pillow only")
    return found


def is_sequence(found: Format, head: bytes) -> bool:
    """Say whether a file is an AVIF with several frames, from its first bytes."""
    return found is formats.AVIF and b"avis" in head[8 : int.from_bytes(head[:4], "big")]


def is_foreign(found: Format, head: bytes) -> bool:
    """Say whether a file is of a kind that libvips, as it comes with pyvips, does not read."""
    return found in BY_PILLOW or found in BY_PLUGIN or is_sequence(found, head)
