"""Light, contrast, colours and sharpness."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import coloured, on_colours
from optidash_integrations.engine.vips import pyvips as vips

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.engine.job import Job

# What red, green and blue give to how light a colour looks (ITU-R BT.709).
LUMA = (0.2126, 0.7152, 0.0722)
SHARPEST, SHARP_SIGMA = 3.0, 1.0

Matrix = list[list[float]]


def adjusted(image: pyvips.Image, job: Job) -> pyvips.Image:
    """Do in this order: brightness, contrast, gamma, saturation, hue, sharpness."""
    adjust = job.operations.adjust
    if adjust is None or not adjust.canonical():
        return image
    if adjust.brightness or adjust.contrast or adjust.gamma not in (None, 1.0):
        table = curve(adjust.brightness or 0.0, adjust.contrast or 0.0, adjust.gamma or 1.0)
        image = on_colours(image, lambda colours: colours.maplut(table))
    if (adjust.saturation or adjust.hue) and image.interpretation != "b-w":
        matrix = product(turned(adjust.hue or 0.0), saturated(1 + (adjust.saturation or 0.0) / 100))
        image = on_colours(image, lambda colours: colours.recomb(weights(matrix)))
    if adjust.unsharp:
        image = on_colours(image, lambda colours: sharpened(colours, adjust.unsharp or 0.0))
    return image


def curve(brightness: float, contrast: float, gamma: float) -> pyvips.Image:
    """Return what each of 256 values becomes."""
    values = []
    for level in range(256):
        value = level * (1 + brightness / 100)
        value = (value - 127.5) * (1 + contrast / 100) + 127.5
        value = 255 * (min(max(value, 0.0), 255.0) / 255) ** (1 / gamma)
        values.append(min(255, math.floor(value + 0.5)))
    return vips.Image.new_from_array([values]).cast("uchar")


def weights(matrix: Matrix) -> pyvips.Image:
    """Return a matrix as `recomb` takes it."""
    return vips.Image.new_from_array(matrix)


def saturated(factor: float) -> Matrix:
    """Return the matrix that moves colours away from the grey that is as light."""
    return [
        [part * (1 - factor) + (factor if row == column else 0) for column, part in enumerate(LUMA)]
        for row in range(3)
    ]


def turned(degrees: float) -> Matrix:
    """Return the matrix that turns hues and keeps how light they look."""
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)
    red, green, blue = LUMA
    # The three vectors of the turn's plane for these weights (Filter Effects 1, 9.6).
    plane = [[1 - red, -green, -blue], [-red, 1 - green, -blue], [-red, -green, 1 - blue]]
    across = [[-red, -green, 1 - blue], [0.143, 0.140, -0.283], [red - 1, green, blue]]
    return [[LUMA[c] + cos * plane[r][c] + sin * across[r][c] for c in range(3)] for r in range(3)]


def product(one: Matrix, other: Matrix) -> Matrix:
    return [
        [sum(one[row][k] * other[k][column] for k in range(3)) for column in range(3)]
        for row in range(3)
    ]


def sharpened(colours: pyvips.Image, amount: float) -> pyvips.Image:
    """Return the image with its lightness moved away from its own blur (an unsharp mask)."""
    lab = coloured(colours).colourspace("lab")
    lightness = lab[0]
    edges = lightness - lightness.gaussblur(SHARP_SIGMA, min_ampl=0.05, precision="float")
    better = (lightness + edges * (amount / 100 * SHARPEST)).bandjoin(lab[1:])
    return better.copy(interpretation="lab").colourspace(colours.interpretation)
