"""Image headers read by Pillow, for sites that have no libvips because an API does the work."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from optidash_integrations import formats
from optidash_integrations.errors import (
    BrokenImageError,
    ImageTooLargeError,
    ProcessorMissingError,
    SourceNotFoundError,
    UnsupportedImageError,
)
from optidash_integrations.probes import Probe, checked, readable_format

if TYPE_CHECKING:
    from PIL import Image

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.variants import ImageData

MISSING = (
    "to read the headers of images the API processor needs pyvips or Pillow: "
    'pip install "optidash-integrations[api]"'
)
ANIMATED = (formats.GIF, formats.WEBP, formats.PNG)
PAGED = (formats.GIF, formats.WEBP, formats.TIFF, formats.AVIF)

# Pillow's modes without colours, and those whose samples nobody reads here: 32 bits, or floating.
GREY = ("1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N")
UNREAD = ("F", "I")

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
    found = readable_format(file.read(formats.HEAD_BYTES), size, limits)
    file.seek(0)
    return checked(described(file, found, size), limits)


def described(file: BinaryIO, found: Format, size: int) -> Probe:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ProcessorMissingError(MISSING) from error
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(file, formats=[found.label]) as image:
            return told(image, found, size)
    except bombs as error:
        raise ImageTooLargeError(f"this {found.label} has more pixels than Pillow reads") from error
    except UnsupportedImageError:
        raise
    except UnidentifiedImageError as error:  # its message names a Python object
        raise BrokenImageError(f"this {found.label} can't be read by Pillow") from error
    except Exception as error:  # Pillow's readers raise whatever their parsing meets
        raise BrokenImageError(f"this {found.label} can't be read: {error}") from error


def told(image: Image.Image, found: Format, size: int) -> Probe:
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
        frames=pages if found in ANIMATED else 1,
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
