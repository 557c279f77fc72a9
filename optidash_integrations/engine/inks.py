"""Colours in the bands of an image, and mixing them with its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.colours import Colour

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyvips

CLEAR: Colour = (255, 255, 255, 0)


def is_grey(colour: Colour) -> bool:
    """Say whether a colour has no hue."""
    return colour[0] == colour[1] == colour[2]


def over(colour: Colour, background: Colour) -> Colour:
    """Return a colour as it looks on an opaque background."""
    part = colour[3] / 255
    red, green, blue = (
        round(c * part + b * (1 - part)) for c, b in zip(colour[:3], background[:3], strict=True)
    )
    return red, green, blue, 255


def ready_for(image: pyvips.Image, colour: Colour) -> pyvips.Image:
    """Return the image with the bands that a colour needs: hues, and alpha where it is clear."""
    if not is_grey(colour):
        image = coloured(image)
    if colour[3] < 255 and not image.hasalpha():
        image = image.addalpha()
    return image


def coloured(image: pyvips.Image) -> pyvips.Image:
    """Return the image in sRGB, if it was grey."""
    return image.colourspace("srgb") if image.interpretation == "b-w" else image


def ink(colour: Colour, image: pyvips.Image) -> list[float]:
    """Return a colour in an image's bands."""
    bands: list[float] = [*(colour[:1] if image.interpretation == "b-w" else colour[:3])]
    return [*bands, colour[3]] if image.hasalpha() else bands


def premultiplied_ink(colour: Colour, image: pyvips.Image) -> list[float]:
    """Return a colour in a premultiplied image's bands."""
    *bands, alpha = ink(colour, image)
    return [*(band * alpha / 255 for band in bands), alpha]


def on_colours(image: pyvips.Image, change: Callable[[pyvips.Image], pyvips.Image]) -> pyvips.Image:
    """Return the image with its colours changed, its alpha as it was."""
    if not image.hasalpha():
        return bytewise(change(image), image)
    last = image.bands - 1
    colours = image[:last].copy(interpretation=image.interpretation)
    changed = bytewise(change(colours), image)
    return changed.bandjoin(image[last])


def with_premultiplied(
    image: pyvips.Image, change: Callable[[pyvips.Image], pyvips.Image]
) -> pyvips.Image:
    """Return the image after a change that mixes neighbours: what is clear lends no colour."""
    if not image.hasalpha():
        return bytewise(change(image), image)
    mixed = change(image.premultiply())
    return bytewise(mixed.unpremultiply(), image)


def bytewise(image: pyvips.Image, like: pyvips.Image) -> pyvips.Image:
    """Return values rounded and cut to 0 to 255, meant as those of another image are."""
    if image.format != "uchar":
        # A cast to bytes alone cuts the fraction off.
        image = (image.rint() if image.format in ("float", "double") else image).cast("uchar")
    return image.copy(interpretation=like.interpretation)


def mixed(image: pyvips.Image, shape: pyvips.Image, outside: Colour) -> pyvips.Image:
    """Return the image where `shape` (0 to 1, one band) is 1, and the colour where it is 0."""
    image = ready_for(image, outside)
    if not image.hasalpha():
        return bytewise(image * shape + (shape * -1 + 1) * ink(outside, image), image)
    blend = image.premultiply() * shape + (shape * -1 + 1) * premultiplied_ink(outside, image)
    return bytewise(blend.copy(interpretation=image.interpretation).unpremultiply(), image)
