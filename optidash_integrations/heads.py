"""Image headers read by Pillow.

For sites that have no libvips because an API does the work, and for formats that libvips lacks.
"""

from __future__ import annotations

import importlib
import io
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from optidash_integrations import formats, icons
from optidash_integrations.errors import (
    BrokenImageError,
    ImageError,
    ImageTooLargeError,
    ProcessorMissingError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.probes import Probe, checked, is_sequence, readable_format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.variants import ImageData

MISSING = (
    "to read the headers of images the API processor needs pyvips or Pillow: "
    'pip install "optidash-integrations[api]"'
)
ANIMATED = (formats.GIF, formats.WEBP, formats.PNG)
PAGED = (formats.GIF, formats.WEBP, formats.TIFF, formats.AVIF, formats.HEIC)

# What Pillow calls its readers, where that is not our label.
READERS = {formats.JP2: "JPEG2000"}
HEIF_READER = "pillow_heif.as_plugin"

# Pillow's modes without colours, and those whose samples nobody reads here: 32 bits, or floating.
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
UNREAD = ("F", "I")

# Where a PSD tells its depth and mode, and what Pillow reads of them: 8 bits of grey, palette,
# RGB, CMYK, duotone (as grey), or black and white.
PSD_KIND = slice(22, 26)
PSD_KINDS = {(1, 0), (8, 0), (8, 1), (8, 2), (8, 3), (8, 4), (8, 8)}

# Tags of EXIF and TIFF, and what XMP calls a position.
WIDTH, HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112
TURNED = 5
POSITION, LATITUDE = 0x8825, 2
XMP_POSITION = b"GPSLatitude"


def probe(source: ImageData, limits: Limits) -> Probe:
    """Read the header of an image, with all of it at hand; no pixel is decoded.

    Raises as `engine.probe.probe` does, and ProcessorMissingError without Pillow.
    """
    try:
        file = opened(source)
    except OSError as error:
        raise SourceNotFoundError(f"{source!s}: {error.strerror or error}") from error
    with file:
        return read(file, limits)


def opened(source: ImageData) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def read(file: BinaryIO, limits: Limits) -> Probe:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(formats.HEAD_BYTES)
    found = readable_format(head, size, limits)
    file.seek(0)
    if found is formats.SVG:
        raise UnsupportedImageError("SVG is not read by Pillow")
    if found is formats.ICO:
        return checked(described_icon(file.read(), size), limits)
    if found is formats.PSD and psd_kind(head) not in PSD_KINDS:
        raise UnsupportedImageError("of PSD only pictures of 8 bits in RGB, grey or CMYK are read")
    return checked(described(file, found, size, is_sequence(found, head)), limits)


def psd_kind(head: bytes) -> tuple[int, int]:
    """Return a PSD's bits a channel and its mode."""
    kind = head[PSD_KIND]
    return int.from_bytes(kind[:2], "big"), int.from_bytes(kind[2:], "big")


def described(file: BinaryIO, found: Format, size: int, is_sequence: bool = False) -> Probe:
    with reading(found), picture(file, found) as image:
        return told(image, found, size, found in ANIMATED or is_sequence)


def described_icon(data: bytes, size: int) -> Probe:
    """Tell of an icon's largest picture; a bitmap's mask is its transparency."""
    icon = icons.largest(data)
    if icon.is_png:
        png = described(io.BytesIO(icon.content), formats.PNG, size)
        return replace(png, format=formats.ICO, frames=1)
    return Probe(formats.ICO, icon.width, icon.height, 1, 1, True, size, palette=icon.bits <= 8)


def picture(file: BinaryIO, found: Format) -> Image.Image:
    """Open an image with Pillow, by the reader of this format only. No pixel is decoded.

    Raises whatever the reader does: call it within `reading`.
    """
    from PIL import Image

    if found is formats.HEIC:  # registered nowhere, so that others' Pillow stays as it was
        image: Image.Image = importlib.import_module(HEIF_READER).HeifImageFile(file)
        return image
    return Image.open(file, formats=[READERS.get(found, found.label)])


@contextmanager
def reading(found: Format) -> Iterator[None]:
    """Raise what Pillow says against a source as an ImageError."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ProcessorMissingError(MISSING) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        yield
    except bombs as error:
        raise ImageTooLargeError(f"this {found.label} has more pixels than Pillow reads") from error
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its message names a Python object
        raise BrokenImageError(f"this {found.label} can't be read by Pillow") from error
    except Exception as error:  # Pillow's readers raise whatever their parsing meets
        raise BrokenImageError(f"this {found.label} can't be read: {error}") from error


def told(image: Image.Image, found: Format, size: int, moves: bool) -> Probe:
    if found is formats.TIFF and image.mode in UNREAD:
        raise UnsupportedImageError(f"TIFF with samples of mode {image.mode} is not read")
    exif = exif_of(image)
    width, height, orientation = upright(image, found, exif)
    pages = getattr(image, "n_frames", 1)
    # Pillow tells of a GIF's first frame alone whether it is transparent; of most, others are.
    return Probe(
        format=found,
        width=width,
        height=height,
        orientation=orientation,
        frames=pages if moves else 1,
        pages=pages if found in PAGED else 1,
        alpha=image.has_transparency_data or (found is formats.GIF and pages > 1),
        bytes=size,
        has_profile=bool(image.info.get("icc_profile")),
        has_position=tells_position(image, exif),
        palette=image.mode == "P" or found is formats.GIF,
        grey=found is not formats.GIF and is_grey(image),
        cmyk=image.mode == "CMYK",
    )


def exif_of(image: Image.Image) -> Image.Exif:
    """Return an image's EXIF data, empty where there is none to read.

    Pillow's own way decodes the pixels of a PNG, and takes an orientation from XMP too.
    """
    from PIL import Image

    if image.format == "TIFF":
        return image.getexif()
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif") or b"")
    except Exception:  # noqa: BLE001  an image is shown whatever its EXIF data are
        return Image.Exif()
    return exif


def upright(image: Image.Image, found: Format, exif: Image.Exif) -> tuple[int, int, int]:
    """Return width and height, and the orientation that they are before."""
    tags: Any = getattr(image, "tag_v2", None) or exif
    orientation = tags.get(ORIENTATION, 1)
    if orientation not in range(1, 9):
        orientation = 1
    if found is formats.TIFF:  # Pillow has turned its size already
        return tags[WIDTH], tags[HEIGHT], orientation
    if found is formats.AVIF:  # Pillow tells the picture's own rotation as EXIF's
        turned = image.size if orientation < TURNED else image.size[::-1]
        return *turned, 1
    return *image.size, orientation


def is_grey(image: Image.Image) -> bool:
    """Say whether an image has no colours; Pillow calls a 16-bit one with alpha RGBA."""
    tiles = getattr(image, "tile", [])
    return image.mode in GREY or any(str(tile[3]).startswith("LA") for tile in tiles)


def tells_position(image: Image.Image, exif: Image.Exif) -> bool:
    if POSITION in exif and LATITUDE in exif.get_ifd(POSITION):
        return True
    xmp = image.info.get("xmp") or b""
    return XMP_POSITION in (xmp.encode() if isinstance(xmp, str) else bytes(xmp))
