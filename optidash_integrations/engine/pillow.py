"""What Pillow's libraries do faster than the same ones in libvips.

Pillow's libwebp gives the same bytes in five sixths of the time. Its libavif knows a tuning of
libaom for the very metric that is aimed at: at speed 7 that takes two fifths of the time of
libvips' effort 3, for fewer bytes of a photograph; untuned it takes fewer of a graphic. Its libjpeg
makes a JPEG smaller while decoding it in four fifths of the time.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

from optidash_integrations import formats, heads
from optidash_integrations.engine import vips
from optidash_integrations.errors import ImageError, ProcessorError
from optidash_integrations.probes import HAS_PILLOW

if TYPE_CHECKING:
    import pyvips
    from PIL import Image

SPACES = {"L": "b-w", "RGB": "srgb"}
"""libvips' name for what a JPEG may be decoded to here."""

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""Pillow's mode for so many bands of 8 bits, in sRGB or grey."""

# libaom's tuning for SSIMULACRA2, from 3.13 on; Pillow 12.2 brings it. Without trellis, mirrored
# transforms and two predictors that photographs hardly use it takes a quarter less time for the
# same bytes, once more points are asked for.
TUNING = {
    "tune": "ssimulacra2",
    "disable-trellis-quant": "1",
    "enable-flip-idtx": "0",
    "enable-paeth-intra": "0",
    "enable-filter-intra": "0",
}

# The speed of libaom at the knee of its curve, where it still looks for what drawings repeat.
SLOW = 6

# The marker before each scan of a JPEG, of which thumbnails in its metadata have some too.
SCAN, MOST_SCANS = b"\xff\xda", 4

# A JPEG's first marker, those of sequential frames, and where in these the number of components is.
SOI, FRAMES, COMPONENTS_AT = b"\xff\xd8", {b"\xff\xc0", b"\xff\xc1"}, 9

# Those after which no length comes; before the first of the others there are none of images.
WITHOUT_LENGTH = {bytes([0xFF, code]) for code in (*range(0xD0, 0xDA), 0xFF)}
FIRST = b"\xff\xc0"

# With that tuning a quality gives more points, and bytes, than elsewhere. So that it means what it
# does in other programs, so much less is asked for up to the first of these, nothing less from the
# second on.
LESS, LESS_UP_TO, SAME_FROM = 3, 64, 84


@cache
def has(feature: str) -> bool:
    """Say whether Pillow is here, and was built with this: `webp`, `avif`, `jpg_2000`."""
    if not HAS_PILLOW:
        return False
    from PIL import features

    return bool(features.check(feature))


@cache
def writes_avif() -> bool:
    """Say whether AVIF can be written so here, tuned for the metric."""
    if not has("avif"):
        return False
    from PIL import Image

    try:
        Image.new("RGB", (16, 16)).save(io.BytesIO(), "AVIF", speed=10, advanced=TUNING)
    except (OSError, ValueError):
        return False
    return True


def webp(image: pyvips.Image, quality: int | None, effort: int) -> bytes:
    """Return a WebP of an image of 8 bits, without metadata; `effort` goes up to 6.

    Raises ProcessorError where libwebp fails.
    """
    return saved(image, "WEBP", quality=quality, method=effort)


def avif(image: pyvips.Image, quality: int | None, speed: int, *, halved: bool = False) -> bytes:
    """Return an AVIF of an image of 8 bits, without metadata; its colour maybe at half resolution.

    A `quality` gives about the points of SSIMULACRA2 that it gives with libvips. Raises
    ProcessorError where libaom fails.
    """
    sampling = "4:0:0" if image.bands == 1 else "4:2:0" if halved else "4:4:4"
    setting = None if quality is None else tuned(quality) + halved
    return saved(image, "AVIF", quality=setting, speed=speed, subsampling=sampling, advanced=TUNING)


def drawn_avif(image: pyvips.Image, quality: int | None) -> bytes:
    """Return an AVIF of a graphic, as `avif` does; what is not tuned needs fewer bytes for it.

    Raises ProcessorError where libaom fails.
    """
    sampling = "4:0:0" if image.bands == 1 else "4:4:4"
    return saved(image, "AVIF", quality=quality, speed=SLOW, subsampling=sampling)


def tuned(quality: int) -> int:
    """Return what libaom is asked for."""
    share = (SAME_FROM - quality) / (SAME_FROM - LESS_UP_TO)
    return max(1, round(quality - LESS * min(max(share, 0), 1)))


def saved(image: pyvips.Image, label: str, **options: object) -> bytes:
    """Return the file that Pillow makes of an image; options of None are left to it.

    Raises ProcessorError where its encoder fails.
    """
    file = io.BytesIO()
    given = {name: value for name, value in options.items() if value is not None}
    try:
        picture(image).save(file, label, **given)
    except (OSError, ValueError) as error:
        raise ProcessorError(f"Pillow could not make a {label}: {error}") from error
    return file.getvalue()


def picture(image: pyvips.Image) -> Image.Image:
    """Return an image of 8 bits, in sRGB or grey, as one of Pillow's."""
    from PIL import Image

    size = (image.width, image.height)
    return Image.frombytes(MODES[image.bands], size, bytes(image.write_to_memory()))


def shrunk(data: bytes, by: int) -> pyvips.Image | None:
    """Return a JPEG in memory, as it is stored, at a half, a quarter or an eighth of its size.

    Sizes are rounded down, as libvips does it. None stands for those that are libvips' to read, or
    to complain of: progressive, in many scans, of which libvips bounds the number, in CMYK,
    damaged, or with more pixels than Pillow takes.
    """
    if not HAS_PILLOW or (not is_one_scan(data) and data.count(SCAN) > MOST_SCANS):
        return None
    from PIL import Image, ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:  # a site's own setting; here what breaks off is refused
        return None
    try:
        with (
            heads.reading(formats.JPEG),
            heads.picture(io.BytesIO(data), formats.JPEG) as picture,
        ):
            width, height = picture.size
            if picture.mode not in SPACES or picture.info.get("progressive"):
                return None
            picture.draft(None, (width // by, height // by))
            size = (-(-width // by), -(-height // by))
            if picture.size != size or width * height > (Image.MAX_IMAGE_PIXELS or 0):
                return None
            content = picture.tobytes()
    except ImageError:
        return None
    bands = len(picture.mode)
    image = vips.pyvips.Image.new_from_memory(content, *size, bands, "uchar")
    return image.crop(0, 0, width // by, height // by).copy(interpretation=SPACES[picture.mode])


def is_one_scan(data: bytes) -> bool:
    """Say whether a JPEG's first scan has all of its components, so that no other may follow.

    Looks at the headers alone: scans are counted through the whole file, which takes a millisecond
    a megabyte. libjpeg refuses what follows then (ITU-T T.81, B.2.3).
    """
    at, components = len(SOI), 0
    while data[at : at + 1] == b"\xff":
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in FRAMES:
            components = data[at + COMPONENTS_AT] if at + COMPONENTS_AT < len(data) else 0
        if marker == SCAN:
            return 0 < components == int.from_bytes(data[at + 4 : at + 5], "big")
        if length < 2 or marker in WITHOUT_LENGTH or marker < FIRST:
            return False
        at += 2 + length
    return False
