"""Lettering: a text as a picture, drawn by Pango.

Pango takes markup; what comes in here is text, and nothing in it is anything else.
"""

from __future__ import annotations

import unicodedata
from html import escape
from typing import TYPE_CHECKING

from optidash_integrations.engine import vips
from optidash_integrations.errors import OptionError
from optidash_integrations.limits import Limits

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.colours import Colour
    from optidash_integrations.engine.fonts import Fonts

# What Pango calls what we call so.
WEIGHTS = {
    "ultralight": "Ultra-Light",
    "light": "Light",
    "normal": "",
    "bold": "Bold",
    "ultrabold": "Ultra-Bold",
    "heavy": "Heavy",
}
STYLES = {"normal": "", "italic": "Italic"}
ALIGNMENTS = {"left": "low", "center": "centre", "right": "high"}

LONGEST_TEXT = 2000
"""Characters."""
MOST_MARKS = 4
"""Accents on one letter: each is drawn above the last one."""
LONGEST_SIDE = 30_000
"""Pixels; Cairo draws nothing longer than 32,767."""
TRIAL_SIZE = 4
"""In which a text is drawn first to learn how many pixels it takes."""
POINTS = 72
"""Dots an inch: with as many as points, a size in points is one in pixels."""


def written(
    text: str,
    *,
    size: int,
    weight: str = "normal",
    style: str = "normal",
    font: str | None = None,
    colour: Colour,
    width: int,
    alignment: str = "left",
    fonts: Fonts,
    limits: Limits | None = None,
) -> pyvips.Image:
    """Return a text as a picture in sRGB with alpha, just as large as its ink.

    `size` is in pixels, `width` those to wrap at; a word that is longer is broken. Without
    anything to see it is one clear pixel. Raises OptionError where the font is unknown, or the
    text too long or too large, before it is drawn so.
    """
    plain = printable(text)
    if len(plain) > LONGEST_TEXT:
        raise OptionError("text.text", f"up to {LONGEST_TEXT} characters", text)
    described = " ".join((f"{fonts.family(font)},", WEIGHTS[weight], STYLES[style]))
    within = limits or Limits()
    if not plain.strip():
        return inked(vips.pyvips.Image.black(1, 1), colour)
    if size > TRIAL_SIZE:
        trial = drawn(plain, described, TRIAL_SIZE, width * TRIAL_SIZE / size, alignment)
        growth = size / TRIAL_SIZE
        if (
            size > within.max_height
            or trial.width * trial.height * growth**2 > within.max_pixels
            or max(trial.width, trial.height) * growth > LONGEST_SIDE
        ):
            raise OptionError("text.size", "a size at which the text fits the limits", size)
    return inked(drawn(plain, described, size, width, alignment), colour)


def drawn(text: str, described: str, size: int, width: float, alignment: str) -> pyvips.Image:
    """Return a mask of the text: one band, 255 where there is ink."""
    with vips.writing("text"):
        return vips.pyvips.Image.text(
            escape(text, quote=False),
            font=f"{described} {size}",
            width=max(round(width), 1),
            align=ALIGNMENTS[alignment],
            wrap="word-char",
            dpi=POINTS,
        )


def inked(mask: pyvips.Image, colour: Colour) -> pyvips.Image:
    """Return a colour where the mask says, transparent elsewhere."""
    alpha = mask if colour[3] == 255 else (mask * (colour[3] / 255)).rint().cast("uchar")
    paint = mask.new_from_image(list(colour[:3])).cast("uchar")
    return paint.bandjoin(alpha).copy(interpretation="srgb")


def printable(text: str) -> str:
    """Return a text without control characters, and with at most a few accents a letter."""
    kept: list[str] = []
    marks = 0
    for character in text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " "):
        kind = unicodedata.category(character)
        marks = marks + 1 if kind in ("Mn", "Me") else 0
        if marks <= MOST_MARKS and (character == "\n" or kind not in ("Cc", "Cs", "Cn")):
            kept.append(character)
    return "".join(kept).rstrip("\n")
