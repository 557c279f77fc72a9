"""Writing a finished picture: which encoder, with which options, at which quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import jpeg2000, lossless, pillow, vips
from optidash_integrations.engine.metadata import KEEP
from optidash_integrations.engine.quality import (
    TARGETS,
    has_few_colours,
    is_good_enough,
    is_graphic,
    is_smooth,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyvips

    from optidash_integrations.formats import Format

# Where photographs of half a megapixel come to about 85, 75 and 65 points of SSIMULACRA2, and to
# the best that a lossy encoder is asked for where `lossless` can't be had.
QUALITIES = {
    formats.JPEG: {"lossless": 95, "low": 91, "medium": 80, "high": 66},
    formats.WEBP: {"lossless": 95, "low": 90, "medium": 79, "high": 67},
    formats.AVIF: {"lossless": 90, "low": 74, "medium": 57, "high": 48},
    formats.JP2: {"lossless": 95, "low": 75, "medium": 63, "high": 54},
}

# PNG's row filters, as flags of libpng: none, as oxipng finds better ones, or the best of all.
NO_FILTER, ALL_FILTERS = 0x08, 0xF8

# Pixels from which oxipng is too long to wait for: a photograph takes it a tenth of a second and
# more, a graphic seconds.
SLOW_FROM, SLOW_FROM_GRAPHIC = 250_000, 5_000_000

# Pixels below which a WebP's few kB are not worth the time that they take.
QUICK_BELOW = 250_000

# AVIF's quality below which a smooth photograph loses nothing by colour at half its resolution.
HALVED_BELOW = 60

# The longest side that a format, or its encoder, can do.
LONGEST_SIDE = {
    formats.JPEG: 65_500,
    formats.WEBP: 16_383,
    formats.AVIF: 16_384,
    formats.GIF: 65_535,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to write a picture.

    `quality` is the encoder's own number, None in formats without one, or where `compression`
    (`low`, `medium`, `high`) is to find it: then the recipe
    is `settled`. `patient` takes several times as long, for bytes.
    `graphic` says that the source has few colours, `keeps_colours` that they
    are its own: its profile stays with them. `metadata` is `none`, `copyright` or `all`.
    """

    format: Format
    quality: int | None = None
    lossless: bool = False
    progressive: bool = True
    graphic: bool = False
    keeps_colours: bool = False
    metadata: str = "none"
    compression: str = ""
    patient: bool = False
    settled: bool = False

    @property
    def common(self) -> dict[str, Any]:
        """What every encoder of libvips is told: its quality, and which metadata to write."""
        kept = [KEEP[self.metadata], "icc"] if self.keeps_colours else [KEEP[self.metadata]]
        options: dict[str, Any] = {"keep": "|".join(part for part in kept if part) or "none"}
        return options | ({"Q": self.quality} if self.quality else {})

    @property
    def is_full(self) -> bool:
        """Whether a JPEG keeps the colour's resolution: graphics of the highest quality need it."""
        return self.graphic and self.compression == "low"

    @property
    def is_for_pillow(self) -> bool:
        """Whether Pillow's encoder is the better one: without metadata, in WebP for photographs."""
        keeps = self.keeps_colours or self.metadata != "none"
        if keeps or self.lossless:
            return False
        if self.format is formats.AVIF:
            if self.graphic:
                return pillow.has("avif")
            return self.quality != 100 and pillow.writes_avif()  # 100 leaves nothing to tune
        return self.format is formats.WEBP and not self.graphic and pillow.has("webp")


def encode(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a picture that is in memory. Raises ProcessorError where the encoder fails."""
    recipe = completed(image, recipe)
    with vips.writing(recipe.format.label):
        return write(image, recipe)


def completed(image: pyvips.Image, recipe: Recipe) -> Recipe:
    """Return the recipe with the quality that its `compression` asks for, if it has none yet.

    Raises ProcessorError where the encoder fails.
    """
    if recipe.lossless or recipe.quality is not None or recipe.compression not in TARGETS:
        return recipe
    with vips.writing(recipe.format.label):
        return settle(image, recipe, write)


def write(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a picture by a recipe that is complete."""
    return bytes(ENCODERS[recipe.format](image, recipe))


def writable() -> frozenset[str]:
    """Return the names of the formats that this libvips writes."""
    found = {made.name for made, saver in SAVERS.items() if vips.has_saver(saver)}
    return frozenset(found | {formats.JP2.name} if jpeg2000.available() else found)


def jpeg(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a JPEG with a quantisation table made for the eye, and where time allows with trellis.

    The table (number 2 of mozjpeg) costs nothing and saves a twelfth of the bytes at the same
    score. Trellis takes ten times as long and saves some more, of drawings and text a quarter.
    libvips halves the colour's resolution below quality 90 only; at the scores aimed at that
    saves bytes at every quality, but a sixth of all graphics can't reach 85 points so. Huffman
    tables made for the picture are for those of several scans, which need them, and those that
    nobody waits for: they save a hundredth, and take as long as all the rest.
    """
    thorough = recipe.patient or (recipe.graphic and recipe.settled)
    return image.jpegsave_buffer(
        interlace=recipe.progressive,
        optimize_coding=thorough or recipe.progressive,
        trellis_quant=thorough,
        overshoot_deringing=thorough,
        optimize_scans=thorough and recipe.progressive,
        quant_table=2,
        subsample_mode=("off" if recipe.is_full else "on") if recipe.settled else "auto",
        **recipe.common,
    )


def webp(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a WebP; with colour sampled carefully where sharp edges of it are to be expected.

    Small ones of a given quality, as servers make them by the thousand, take half the time for
    3 % more bytes. Where a score is aimed at bytes matter more.
    """
    if recipe.lossless:
        return image.webpsave_buffer(lossless=True, exact=True, effort=4, **recipe.common)
    quick = not recipe.compression and image.width * image.height < QUICK_BELOW
    effort = 6 if recipe.patient else 2 if quick else 4
    if recipe.is_for_pillow and image.get_page_height() == image.height:
        return pillow.webp(image, recipe.quality, effort)
    return image.webpsave_buffer(effort=effort, smart_subsample=recipe.graphic, **recipe.common)


def avif(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write an AVIF at the knee of the curve: libvips' effort 4 takes five times effort 3.

    Colour keeps its resolution, which at the same score takes fewer bytes than halving it does,
    but for what is smooth and below `HALVED_BELOW`: as many, in an eighth more time.
    """
    if recipe.is_for_pillow and recipe.graphic:
        return pillow.drawn_avif(image, recipe.quality)
    if recipe.is_for_pillow:
        smooth = is_smooth(image)
        speed = 6 if recipe.patient or smooth else 7
        halved = smooth and recipe.quality is not None and recipe.quality < HALVED_BELOW
        return pillow.avif(image, recipe.quality, speed, halved=halved)
    return image.heifsave_buffer(
        compression="av1",
        effort=3,
        bitdepth=8,
        lossless=recipe.lossless,
        subsample_mode="off",
        **recipe.common,
    )


def png(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a PNG, with a palette where that comes as near to the picture as is asked for.

    Of a photograph oxipng makes a twentieth less than libpng with all its filters, in three times
    the time, of a graphic a third less, in ten times the time: not of many pixels while somebody
    waits.
    """
    graphic = recipe.graphic or is_graphic(image)
    slow_from = SLOW_FROM_GRAPHIC if graphic else SLOW_FROM
    is_slow = not recipe.patient and image.width * image.height >= slow_from
    if graphic and is_for_palette(image, recipe):
        content = image.pngsave_buffer(palette=True, effort=5, **recipe.common)
        if recipe.compression not in TARGETS or is_good_enough(image, content, recipe.compression):
            return content if is_slow else lossless.packed(content, lossless.THOROUGH_LEVEL)
    if is_slow:
        return image.pngsave_buffer(filter=ALL_FILTERS, compression=6, **recipe.common)
    plain = image.pngsave_buffer(filter=NO_FILTER, compression=1, **recipe.common)
    is_worth_it = recipe.patient or graphic
    return lossless.packed(plain, lossless.THOROUGH_LEVEL if is_worth_it else lossless.QUICK_LEVEL)


def is_for_palette(image: pyvips.Image, recipe: Recipe) -> bool:
    """Say whether a palette is worth trying for a graphic: grey needs none."""
    if recipe.lossless or image.bands < 3:
        return False
    return recipe.graphic or (recipe.compression in TARGETS and has_few_colours(image))


def gif(image: pyvips.Image, recipe: Recipe) -> bytes:
    return image.gifsave_buffer(effort=7, **recipe.common)


def jp2(image: pyvips.Image, recipe: Recipe) -> bytes:
    told: Any = image.get("icc-profile-data") if has_profile(image) else None
    return jpeg2000.written(image, recipe.quality, told if recipe.keeps_colours else None)


def has_profile(image: pyvips.Image) -> bool:
    return bool(image.get_typeof("icc-profile-data"))


ENCODERS: dict[Format, Callable[[pyvips.Image, Recipe], bytes]] = {
    formats.JPEG: jpeg,
    formats.PNG: png,
    formats.WEBP: webp,
    formats.AVIF: avif,
    formats.GIF: gif,
    formats.JP2: jp2,
}
SAVERS = {
    formats.JPEG: "jpegsave_buffer",
    formats.PNG: "pngsave_buffer",
    formats.WEBP: "webpsave_buffer",
    formats.AVIF: "heifsave_buffer",
    formats.GIF: "gifsave_buffer",
}
