"""Writing a finished picture: which encoder, with which options, at which quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optidash_integrations import formats
from optidash_integrations.engine import vips

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
}

# PNG's row filters, as flags of libpng.
NO_FILTER, ALL_FILTERS = 0x08, 0xF8

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

    `quality` is the encoder's own number, None in formats without one. `graphic` says that the
    source has few colours, `keeps_colours` that they
    are its own: its profile stays with them.
    """

    format: Format
    quality: int | None = None
    lossless: bool = False
    progressive: bool = True
    graphic: bool = False
    keeps_colours: bool = False

    @property
    def common(self) -> dict[str, Any]:
        """What every encoder of libvips is told: its quality, and which metadata to write."""
        options: dict[str, Any] = {"keep": "icc" if self.keeps_colours else "none"}
        return options | ({"Q": self.quality} if self.quality else {})


def encode(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a picture that is in memory. Raises ProcessorError where the encoder fails."""
    with vips.writing(recipe.format.label):
        return bytes(ENCODERS[recipe.format](image, recipe))


def writable() -> frozenset[str]:
    """Return the names of the formats that this libvips writes."""
    return frozenset(found.name for found, saver in SAVERS.items() if vips.has_saver(saver))


def jpeg(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a JPEG the way of mozjpeg.

    Trellis and the rest cost about as much time as WebP's default and save a tenth of the bytes at
    the same score. libvips halves the colour's resolution below quality 90 only.
    """
    return image.jpegsave_buffer(
        interlace=recipe.progressive,
        optimize_coding=True,
        trellis_quant=True,
        overshoot_deringing=True,
        optimize_scans=recipe.progressive,
        quant_table=3,
        **recipe.common,
    )


def webp(image: pyvips.Image, recipe: Recipe) -> bytes:
    if recipe.lossless:
        return image.webpsave_buffer(lossless=True, exact=True, effort=4, **recipe.common)
    return image.webpsave_buffer(effort=4, smart_subsample=recipe.graphic, **recipe.common)


def avif(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write an AVIF at the knee of the encoder's curve: effort 4 takes five times effort 3."""
    if recipe.lossless:
        return image.heifsave_buffer(
            compression="av1", lossless=True, effort=3, bitdepth=8, **recipe.common
        )
    return image.heifsave_buffer(
        compression="av1",
        effort=3,
        bitdepth=8,
        subsample_mode="off" if recipe.graphic else "auto",
        **recipe.common,
    )


def png(image: pyvips.Image, recipe: Recipe) -> bytes:
    """Write a PNG, with a palette where the source had one and `lossless` is not asked for.

    Photographs want filters and flat graphics do not: the smaller of two fast attempts is taken.
    """
    attempts = [
        image.pngsave_buffer(filter=NO_FILTER, compression=7, **recipe.common),
        image.pngsave_buffer(filter=ALL_FILTERS, compression=7, **recipe.common),
    ]
    if recipe.graphic and not recipe.lossless:
        attempts.append(image.pngsave_buffer(palette=True, effort=5, **recipe.common))
    return min(attempts, key=len)


def gif(image: pyvips.Image, recipe: Recipe) -> bytes:
    return image.gifsave_buffer(effort=7, **recipe.common)


ENCODERS: dict[Format, Callable[[pyvips.Image, Recipe], bytes]] = {
    formats.JPEG: jpeg,
    formats.PNG: png,
    formats.WEBP: webp,
    formats.AVIF: avif,
    formats.GIF: gif,
}
SAVERS = {
    formats.JPEG: "jpegsave_buffer",
    formats.PNG: "pngsave_buffer",
    formats.WEBP: "webpsave_buffer",
    formats.AVIF: "heifsave_buffer",
    formats.GIF: "gifsave_buffer",
}
