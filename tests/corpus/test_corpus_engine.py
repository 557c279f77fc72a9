from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from optidash_integrations import formats
from optidash_integrations.errors import AnimatedImageError, UnsupportedImageError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.processors import EngineProcessor

from .child import Child
from .corpus import Row, is_present, rows

pytestmark = pytest.mark.skipif(not is_present(), reason="no folder of test images")

LONGEST = 640
READ = {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "APNG"}

# Refused though the format is read: samples that are no whole numbers.
REFUSED = {"formats/tiff/float32-gray.tif", "formats/tiff/float32-rgb.tif"}

# Pillow is no judge of these: grey with a transparent value it opens as opaque or scales wrongly,
# it obeys XMP's orientation, leaves an AVIF's crop out, and inverts CMYK instead of converting it.
NO_REFERENCE = {
    "formats/png/pngsuite/tbbn0g04.png",
    "formats/png/pngsuite/tbwn0g16.png",
    "formats/png/pillow-i-trns.png",
    "formats/png/pillow-xmp-tags-orientation-exiftool.png",
    "formats/avif/linku-kimono.mirror-vertical.rotate270.crop.avif",
    "formats/jpeg/cmyk-adobe.jpg",
    "formats/jpeg/cmyk-no-adobe-marker.jpg",
    "formats/jpeg/cmyk-pillow-sample.jpg",
    "formats/jpeg/ycck-adobe.jpg",
    "formats/tiff/pillow-tiff-strip-cmyk-jpeg.tif",
}


def cases(hostile: bool, *expected: str) -> list[object]:
    return [
        pytest.param(row, id=row.name)
        for row in rows()
        if row.is_hostile == hostile and row.expected in expected
    ]


@pytest.fixture(scope="module")
def engine() -> EngineProcessor:
    return EngineProcessor()


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.stop()


@pytest.mark.parametrize("row", cases(False, "decode"))
def test_a_good_file_comes_out_right_or_is_refused_by_type(
    row: Row, engine: EngineProcessor
) -> None:
    if row.format not in READ or row.name in REFUSED:
        with pytest.raises(UnsupportedImageError):
            engine.probe(row.path, Limits())
        return
    if frames_of(row) > 1:
        with pytest.raises(AnimatedImageError):
            engine.process(row.path, Operations.from_dict({}), None, Limits())
        return
    wide = {"resize": {"width": LONGEST, "height": LONGEST}}
    variant = engine.process(row.path, Operations.from_dict(wide), formats.PNG, Limits())
    made = Image.open(io.BytesIO(variant.content))
    assert made.size == (variant.width, variant.height)
    if row.name in NO_REFERENCE:
        return
    expected = reference(row)
    assert made.size == inside(expected.size, LONGEST)
    assert_alike(made, expected)


@pytest.mark.parametrize("row", cases(True, "decode", "either", "reject"))
def test_a_bad_file_ends_in_an_image_error_or_a_picture(row: Row, child: Child) -> None:
    outcome, detail = child.outcome(row.path)
    allowed = {"refused"} if row.expected == "reject" else {"refused", "decoded"}
    assert outcome in allowed, detail


@pytest.mark.parametrize("row", cases(False, "either"))
def test_a_doubtful_file_ends_in_an_image_error_or_a_picture(row: Row, child: Child) -> None:
    outcome, detail = child.outcome(row.path)
    assert outcome in {"refused", "decoded"}, detail


def frames_of(row: Row) -> int:
    if row.format not in {"GIF", "WEBP", "APNG"}:
        return 1
    with Image.open(row.path) as image:
        apart = bool(image.info.get("default_image"))
        return int(getattr(image, "n_frames", 1)) + apart


def inside(size: tuple[int, int], longest: int) -> tuple[int, int]:
    factor = min(1.0, longest / max(size))
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def reference(row: Row) -> Image.Image:
    """Return the picture as Pillow reads it: upright, in sRGB of 8 bits."""
    with Image.open(row.path) as image:
        profile = image.info.get("icc_profile")
        upright = ImageOps.exif_transpose(image)
        upright.load()
    if upright.mode.startswith("I"):
        values = np.asarray(upright, dtype=float)
        return Image.fromarray((values / 257 + 0.5).astype("uint8"))
    return in_srgb(upright, profile) if profile else upright


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except OSError:  # no profile in truth: browsers and the engine overlook it
        return image
    mode = {"GRAY": "L", "CMYK": "CMYK"}.get(source.profile.xcolor_space.strip(), "RGB")
    target = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(
        image.convert(mode),
        source,
        target,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert converted is not None
    if "A" in image.getbands():
        converted.putalpha(image.getchannel("A"))
    return converted


def assert_alike(made: Image.Image, expected: Image.Image) -> None:
    """Compare what is seen of both, on a grid of 32 x 32 averages."""
    difference = np.abs(on_grid(made, made.size) - on_grid(expected, made.size))
    assert difference.mean() < 2
    assert difference.max() < 24


def on_grid(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    pixels = image.convert("RGBA").convert("RGBa")
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.LANCZOS)
    grid = min(32, size[0]), min(32, size[1])
    return np.asarray(pixels.resize(grid, Image.Resampling.BOX), dtype=float)
