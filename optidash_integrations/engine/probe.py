"""What a source's header tells, and whether the limits allow to read on. No pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import vips
from optidash_integrations.engine.strip import png_pictures
from optidash_integrations.errors import (
    BrokenImageError,
    ImageTooLargeError,
    SourceNotFoundError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.formats import Format
    from optidash_integrations.limits import Limits
    from optidash_integrations.variants import ImageData

READABLE = (
    formats.JPEG,
    formats.PNG,
    formats.WEBP,
    formats.GIF,
    formats.TIFF,
    formats.AVIF,
)
ANIMATED = (formats.GIF, formats.WEBP)

# A position in EXIF (its GPS directory is libvips' ifd3), and what XMP calls it.
POSITION = "exif-ifd3-GPSLatitude"
XMP_POSITION = b"GPSLatitude"


@dataclass(frozen=True, slots=True)
class Probe:
    """What the header of an image says.

    `width` and `height` are as stored, before `orientation` (EXIF's, 1 to 8) is applied; an AVIF's
    own rotation is already in them. `frames` is 1 for a still picture, whatever further pages its
    file has; `pages` counts those too. `palette` says that it has 256 colours at the most.
    `has_position` says that the metadata that libvips sees carries a GPS position.
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
    with vips.reading(found.label):
        # A path of its own would be searched for options: "a[n=-1].gif".
        origin = vips.pyvips.Source.new_from_file(str(source))
        image = vips.pyvips.Image.new_from_source(origin, "", access="sequential")
    pictures = png_pictures(source.read_bytes()) if found is formats.PNG else 1
    return checked(described(image, found, size, pictures), limits)


def probe_bytes(data: bytes, limits: Limits) -> Probe:
    found = readable_format(data[: formats.HEAD_BYTES], len(data), limits)
    with vips.reading(found.label):
        image = vips.pyvips.Image.new_from_buffer(data, "", access="sequential")
    pictures = png_pictures(data) if found is formats.PNG else 1
    return checked(described(image, found, len(data), pictures), limits)


def readable_format(head: bytes, size: int, limits: Limits) -> Format:
    """Return the format that the first bytes tell, if it is one to go on with."""
    if size > limits.max_input_bytes:
        raise ImageTooLargeError(f"{size} bytes are more than max_input_bytes allows")
    if not head:
        raise BrokenImageError("the file is empty")
    found = formats.detect(head)
    if found is None:
        raise UnsupportedImageError("these bytes are no image of a known format")
    if found not in READABLE:
        names = ", ".join(readable.label for readable in READABLE)
        raise UnsupportedImageError(f"the engine reads {names}, not {found.label}")
    if found is formats.AVIF and b"avis" in head[8 : int.from_bytes(head[:4], "big")]:
        raise UnsupportedImageError("the engine reads still AVIF pictures, not sequences")
    return found


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


def checked(found: Probe, limits: Limits) -> Probe:
    if found.frames > limits.max_frames:
        raise ImageTooLargeError(f"{found.frames} frames are more than max_frames allows")
    if found.width * found.height * found.frames > limits.max_pixels:
        frames = f" in {found.frames} frames" if found.is_animated else ""
        raise ImageTooLargeError(
            f"{found.width} x {found.height} pixels{frames} are more than max_pixels allows"
        )
    return found


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
