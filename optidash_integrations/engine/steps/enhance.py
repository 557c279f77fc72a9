"""Levels and contrast, gently: light and shade are stretched, colours stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from optidash_integrations.engine.inks import coloured, on_colours

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job

# Parts of the pixels that may become quite dark and quite light, in per cent.
DARKEST, LIGHTEST = 0.5, 99.5
MOST_GAIN = 1.6
LEAST_SPAN = 5.0
"""Lightness, of 100, below which a picture is flat, and has nothing to stretch."""


class Stretch(NamedTuple):
    """How lightness is changed: times `gain`, plus `shift`."""

    gain: float
    shift: float


NONE = Stretch(1.0, 0.0)


def enhanced(image: pyvips.Image, job: Job) -> pyvips.Image:
    auto = job.operations.auto
    if auto is None or not auto.enhance:
        return image
    # An animation's first frame tells for all, or they would flicker.
    stretch: Stretch = job.memo.setdefault("stretch", stretch_of(image))
    return image if stretch == NONE else on_colours(image, lambda c: stretched(c, stretch))


def stretch_of(image: pyvips.Image) -> Stretch:
    """Return the change that brings a picture's lightness to the whole range, or near it."""
    colours = image[: image.bands - 1] if image.hasalpha() else image
    lightness = in_lab(colours.copy(interpretation=image.interpretation))[0]
    levels = (lightness * 2.55).cast("uchar")
    low, high = levels.percent(DARKEST) / 2.55, levels.percent(LIGHTEST) / 2.55
    if high - low < LEAST_SPAN:
        return NONE
    gain = min(MOST_GAIN, 100 / (high - low))
    middle = (low + high) / 2
    # Where the gain is held back, the middle moves towards the middle grey by as much as is left.
    target = middle + (50 - middle) * min(1.0, (gain - 1) / (MOST_GAIN - 1))
    return Stretch(gain, target - gain * middle)


def in_lab(colours: pyvips.Image) -> pyvips.Image:
    return coloured(colours).colourspace("lab")


def stretched(colours: pyvips.Image, stretch: Stretch) -> pyvips.Image:
    lab = in_lab(colours)
    better = lab[0].linear([stretch.gain], [stretch.shift]).bandjoin(lab[1:])
    return better.copy(interpretation="lab").colourspace(colours.interpretation)
