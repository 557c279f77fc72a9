"""Pictures in formats that libvips, as it comes with pyvips, does not read. Pillow decodes them.

BMP, ICO, JPEG 2000, PSD, the first frame of an AVIF sequence, and HEIC with pillow-heif.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from optidash_integrations import formats, heads, icons
from optidash_integrations.engine import vips
from optidash_integrations.errors import ImageTooLargeError, UnsupportedImageError

if TYPE_CHECKING:
    import pyvips
    from PIL import Image

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits

# Pillow's modes, and the one that is handed over; palettes and grey with a transparent colour are
# seen to before.
HANDED = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "La": "LA",
    "P": "RGB",
    "PA": "RGBA",
    "RGB": "RGB",
    "RGBX": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "YCbCr": "RGB",
    "CMYK": "CMYK",
    "I;16": "I;16",
}
SPACES = {"L": "b-w", "LA": "b-w", "CMYK": "cmyk", "I;16": "grey16"}


def decoded(data: bytes, found: Format, limits: Limits) -> pyvips.Image:
    """Return the picture of a file that a probe has accepted: upright, in memory.

    It is sRGB or grey, or CMYK, of 8 bits, with alpha where it has any; its profile, if any, lies
    in `icc-profile-data` as with libvips' own. Of several pictures it is the first, of an icon the
    largest. Raises ImageTooLargeError past the limits, whatever the header said,
    UnsupportedImageError and BrokenImageError where it can't be read, and ProcessorMissingError
    without Pillow.
    """
    if found is formats.ICO:
        icon = icons.largest(data)
        if icon.is_png:
            return eight_bits(decoded_png(icon.content, limits))
        data = icon.alone()
    with heads.reading(found), heads.picture(io.BytesIO(data), found) as picture:
        check_size(*picture.size, limits)
        picture.load()
        check_size(*picture.size, limits)
        return eight_bits(turned(handed_over(picture, found), picture))


def decoded_png(data: bytes, limits: Limits) -> pyvips.Image:
    with vips.reading("ICO"):
        image = vips.pyvips.Image.pngload_buffer(data, access="sequential", fail_on="truncated")
        check_size(image.width, image.height, limits)
        return image.copy_memory()


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise ImageTooLargeError for more pixels than allowed."""
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(f"{width} x {height} pixels are more than max_pixels allows")


def handed_over(picture: Image.Image, found: Format) -> pyvips.Image:
    """Return Pillow's pixels as an image of libvips, with their profile."""
    profile = picture.info.get("icc_profile")
    mode = mode_of(picture, found)
    if picture.mode != mode:
        picture = picture.convert(mode)
    image = vips.pyvips.Image.new_from_memory(
        picture.tobytes(),
        *picture.size,
        len(picture.getbands()),
        "ushort" if mode == "I;16" else "uchar",
    ).copy(interpretation=SPACES.get(mode, "srgb"))
    if profile:
        image.set_type(vips.pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def mode_of(picture: Image.Image, found: Format) -> str:
    """Return the mode of Pillow's in which a picture is handed over."""
    mode = HANDED.get(picture.mode)
    if mode is None:
        raise UnsupportedImageError(f"{found.label} in mode {picture.mode} is not read")
    if picture.has_transparency_data and mode in ("L", "RGB"):
        return "LA" if mode == "L" else "RGBA"
    return mode


def turned(image: pyvips.Image, picture: Image.Image) -> pyvips.Image:
    """Return it upright; Pillow tells an AVIF's own rotation as EXIF's."""
    orientation = heads.exif_of(picture).get(heads.ORIENTATION, 1)
    if orientation not in range(2, 9):
        return image
    image.set_type(vips.pyvips.GValue.gint_type, "orientation", orientation)
    return image.autorot().copy_memory()


def eight_bits(image: pyvips.Image) -> pyvips.Image:
    """Bring 16 bits down to 8."""
    if image.format == "uchar":
        return image
    grey = image.interpretation in ("grey16", "b-w")
    return image.colourspace("b-w" if grey else "srgb").copy_memory()
