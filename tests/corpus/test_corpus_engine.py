from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, ImageOps

from optidash_integrations import formats, heads
from optidash_integrations.engine import animation, drawings, foreign, vips
from optidash_integrations.errors import ImageError, UnsupportedImageError
from optidash_integrations.limits import Limits
from optidash_integrations.operations import Operations
from optidash_integrations.probes import HAS_HEIF
from optidash_integrations.processors import EngineProcessor

from .child import Child
from .corpus import Row, is_present, rows

pytestmark = pytest.mark.skipif(not is_present(), reason="no folder of test images")

LONGEST = 160
READ = {"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF", "APNG"}
FOREIGN = {"BMP", "ICO", "JPEG2000"} | ({"HEIF"} if HAS_HEIF else set())
WITH_SVG = Limits(svg=True)

# Refused though the format is read: samples that are no whole numbers.
REFUSED = {"formats/tiff/float32-gray.tif", "formats/tiff/float32-rgb.tif"}

# Pillow mixes frames that are translucent, disposed of or grey otherwise than the standard says,
# and takes what a GIF leaves uncovered for its first colour.
COMPOSED_OTHERWISE = {
    "formats/apng/pillow-dispose-op-previous.png",
    "formats/apng/pillow-mode-16bit.png",
    "formats/apng/wpt-fctl-dispose-in-region-previous.png",
    "formats/apng/wuffs-muybridge.apng",
    "formats/gif/imagers-border-touching-layers.gif",
}

# Pillow is no judge of these: grey with a transparent value it opens as opaque or scales wrongly,
# it obeys XMP's orientation, leaves an AVIF's crop out, inverts CMYK instead of converting it, and
# takes of an icon's two largest pictures the one with fewer colours. (And a curve as steep at its
# end as that of g25n0g16 is made less steep by littlecms.)
NO_REFERENCE = {
    "formats/ico/imagers-multiple-entries-with-different-bit-depth.ico",
    "formats/png/pngsuite/g25n0g16.png",
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


def drawings_of_the_folder() -> list[object]:
    return [pytest.param(row, id=row.name) for row in rows() if row.format == "SVG"]


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
    if row.format in FOREIGN:
        assert_decoded(row, engine)
        return
    if row.format not in READ or row.name in REFUSED:
        with pytest.raises(UnsupportedImageError):
            engine.probe(row.path, Limits())
        return
    if frames_of(row) > 1:
        assert_animated(row, engine)
        return
    wide = {"resize": {"width": LONGEST, "height": LONGEST}}
    variant = engine.process(row.path, Operations.from_dict(wide), formats.PNG, Limits())
    made = Image.open(io.BytesIO(variant.content))
    assert made.size == (variant.width, variant.height)
    if row.name in NO_REFERENCE:
        return
    expected = reference(row)
    assert made.size == inside(expected.size, LONGEST)
    assert_alike(as_seen(made), expected)


def assert_decoded(row: Row, engine: EngineProcessor) -> None:
    """Check a picture that Pillow decodes for libvips against one that Pillow decodes."""
    found = engine.probe(row.path, Limits())
    image = foreign.decoded(row.path.read_bytes(), found.format, Limits())
    assert (image.width, image.height) == (found.upright_width, found.upright_height)
    if image.get_typeof("icc-profile-data"):
        image = image.icc_transform("srgb")
    if row.name not in NO_REFERENCE:
        assert_alike(in_pillow(image), reference(row))


def assert_animated(row: Row, engine: EngineProcessor) -> None:
    """Check every frame of an animation, its delays and how often it is shown."""
    data = row.path.read_bytes()
    found = animation.opened(data, engine.probe(data, Limits()))
    with Image.open(row.path) as expected:
        apart = int(bool(expected.info.get("default_image")))
        for number, frame in enumerate(found.frames):
            expected.seek(number + apart)
            expected.load()
            if row.name not in COMPOSED_OTHERWISE:
                assert_alike(in_pillow(frame), expected)
            assert found.delays[number] == round(expected.info.get("duration") or 0) or not (
                expected.info.get("duration")
            )
        assert len(found.delays) == expected.n_frames - apart


@pytest.mark.parametrize(
    "row", [case for case in cases(False, "decode") if case.values[0].format == "SVG"]
)
def test_a_good_drawing_is_rendered_where_that_is_allowed(row: Row) -> None:
    image = drawings.rendered(row.path.read_bytes(), WITH_SVG)
    assert (image.width, image.height) == (row.width, row.height)
    alpha = in_pillow(image.copy_memory()).getchannel("A")
    assert alpha.getextrema()[1] == 255, "nothing is to be seen"


@pytest.mark.parametrize("row", drawings_of_the_folder())
def test_no_drawing_does_harm(row: Row) -> None:
    """Render each of them, in a few seconds and without a crash."""
    try:
        with vips.reading("SVG"):
            drawings.rendered(row.path.read_bytes(), WITH_SVG).copy_memory()
    except ImageError:
        assert row.expected != "decode"
    else:
        assert row.expected != "reject"


def in_pillow(image: pyvips.Image) -> Image.Image:
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[image.bands]
    return Image.frombytes(mode, (image.width, image.height), bytes(image.write_to_memory()))


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
    with opened_by_pillow(row) as image:
        return as_seen(image)


def as_seen(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    curve = None if profile else gamma_of(image)
    upright = ImageOps.exif_transpose(image)
    upright.load()
    if upright.mode.startswith("I"):
        values = np.asarray(upright, dtype=float) / 65535
        values = in_srgb_by(curve, values) if curve else values
        return Image.fromarray((values * 255 + 0.5).astype("uint8"))
    if curve:
        return by_gamma(upright, curve)
    return in_srgb(upright, profile) if profile else upright


def gamma_of(image: Image.Image) -> float | None:
    """Return the gamma of a PNG that is not in sRGB; all that have one are in sRGB's primaries."""
    told = image.info.get("gamma")
    return None if told is None or "srgb" in image.info or abs(told - 1 / 2.2) < 0.01 else told


def in_srgb_by(gamma: float, values: np.ndarray) -> np.ndarray:
    light = values ** (1 / gamma)
    return np.where(light > 0.0031308, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def by_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Return in sRGB what a PNG tells by its gamma."""
    curve = [round(255 * float(value)) for value in in_srgb_by(gamma, np.arange(256) / 255)]
    has_alpha = image.has_transparency_data
    grey = image.mode in ("1", "L", "LA")
    image = image.convert(("LA" if grey else "RGBA") if has_alpha else ("L" if grey else "RGB"))
    colours = curve * (len(image.getbands()) - has_alpha)
    return image.point(colours + list(range(256)) * has_alpha)


def opened_by_pillow(row: Row) -> Image.Image:
    if row.format == "HEIF":
        return heads.picture(io.BytesIO(row.path.read_bytes()), formats.HEIC)
    return Image.open(row.path)


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
