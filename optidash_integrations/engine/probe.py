"""What a source's header tells, and whether the limits allow to read on. No pixel is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optidash_integrations import formats, heads
from optidash_integrations.engine import drawings, vips
from optidash_integrations.engine.strip import png_pictures
from optidash_integrations.errors import SourceNotFoundError, UnsupportedImageError
from optidash_integrations.probes import Probe, checked, is_foreign, readable_format

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.variants import ImageData

ANIMATED = (formats.GIF, formats.WEBP)

# A position in EXIF (its GPS directory is libvips' ifd3), and what XMP calls it.
POSITION = "exif-ifd3-GPSLatitude"
XMP_POSITION = b"GPSLatitude"


def probe(source: ImageData, limits: Limits) -> Probe:
    """Read the header of an image.

    Raises ImageTooLargeError where it is past a limit, UnsupportedImageError where it is no image
    or of a format not read here, BrokenImageError where its header is damaged, and
    SourceNotFoundError where the path leads nowhere.
    """
    if isinstance(source, bytes):
        return probe_bytes(source, limits)
    try:
        size = source.stat().st_size
        with source.open("rb") as file:
            head = file.read(formats.HEAD_BYTES)
    except OSError as error:
        raise SourceNotFoundError(f"{source}: {error.strerror or error}") from error
    found = readable_format(head, size, limits)
    if found is formats.SVG:
        return drawings.probe(source.read_bytes(), limits)
    if is_foreign(found, head):
        return heads.probe(source, limits)
    with vips.reading(found.label):
        # A path of its own would be searched for options: "a[n=-1].gif".
        origin = vips.pyvips.Source.new_from_file(str(source))
        image = vips.pyvips.Image.new_from_source(origin, "", access="sequential")
    pictures = png_pictures(source.read_bytes()) if found is formats.PNG else 1
    return checked(described(image, found, size, pictures), limits)


def probe_bytes(data: bytes, limits: Limits) -> Probe:
    found = readable_format(data[: formats.HEAD_BYTES], len(data), limits)
    if found is formats.SVG:
        return drawings.probe(data, limits)
    if is_foreign(found, data[: formats.HEAD_BYTES]):
        return heads.probe(data, limits)
    with vips.reading(found.label):
        image = vips.pyvips.Image.new_from_buffer(data, "", access="sequential")
    pictures = png_pictures(data) if found is formats.PNG else 1
    return checked(described(image, found, len(data), pictures), limits)


def described(image: pyvips.Image, found: Format, size: int, pictures: int) -> Probe:
    if image.format not in ("uchar", "ushort"):
        raise UnsupportedImageError(f"{found.label} with {image.format} samples is not read")
    pages = integer(image, "n-pages", 1)
    return Probe(
        format=found,
        width=image.width,
        height=image.height,
        orientation=orientation_of(image),
        frames=max(pictures, pages if found in ANIMATED else 1),
        pages=pages,
        alpha=bool(image.hasalpha()),
        bytes=size,
        has_profile=bool(image.get_typeof("icc-profile-data")),
        has_position=tells_position(image),
        palette=bool(integer(image, "palette", 0)),
        grey=image.bands <= 2,
        cmyk=image.interpretation == "cmyk",
    )


def integer(image: pyvips.Image, name: str, default: int) -> int:
    """Return a number from an image's header, or a default where it has none."""
    value = image.get(name) if image.get_typeof(name) else default
    return value if isinstance(value, int) else default


def orientation_of(image: pyvips.Image) -> int:
    """Return EXIF's orientation; one that is not defined counts as none."""
    orientation = integer(image, "orientation", 1)
    return orientation if 1 <= orientation <= 8 else 1


def upright(image: pyvips.Image) -> tuple[int, int]:
    """Return the width and height of an image as it is to be seen."""
    if orientation_of(image) >= 5:
        return image.height, image.width
    return image.width, image.height


def tells_position(image: pyvips.Image) -> bool:
    if image.get_typeof(POSITION):
        return True
    xmp: Any = image.get("xmp-data") if image.get_typeof("xmp-data") else b""
    return XMP_POSITION in bytes(xmp)
