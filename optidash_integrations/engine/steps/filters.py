"""Effects, in the order of `FILTERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optidash_integrations.engine.inks import coloured, on_colours, with_premultiplied
from optidash_integrations.engine.steps.adjust import LUMA, weights
from optidash_integrations.engine.vips import pyvips as vips

if TYPE_CHECKING:
    import pyvips

    from optidash_integrations.colours import Colour
    from optidash_integrations.engine.job import Job
    from optidash_integrations.operations import Filter

# What red, green and blue of old photographs' brown are made of (Filter Effects 1, 9.6).
SEPIA = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]]

# Below this part of its height the bell of a blur is cut off; libvips' own 0.2 is visibly narrower.
TAILS = 0.01

# Where a vignette begins and ends, in half diagonals of a square of the picture's shape.
BEGINS, ENDS = 0.5, 1.45


def filtered(image: pyvips.Image, job: Job) -> pyvips.Image:
    asked = job.operations.filter
    if asked is None or not asked.canonical():
        return image
    for effect in FILTERS:
        image = effect(image, asked)
    return image


def blurred(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    if asked.blur is None or not asked.blur.value:
        return image
    sigma = asked.blur.value
    precision = "integer" if sigma < 10 else "approximate"
    # A wide blur asks for the same lines many times, which must not be decoded as often.
    made = with_premultiplied(
        image.copy_memory(), lambda i: i.gaussblur(sigma, min_ampl=TAILS, precision=precision)
    )
    # Effects that look at a pixel more than once would have it blurred each time.
    return made.copy_memory()


def pixelated(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    size = asked.pixelate or 1
    return image if size == 1 else with_premultiplied(image, lambda i: in_blocks(i, size))


def in_blocks(image: pyvips.Image, size: int) -> pyvips.Image:
    """Return the image in squares of its mean colours; those at the far edges are cut off."""
    across, down = -(-image.width // size), -(-image.height // size)
    whole = image.embed(0, 0, across * size, down * size, extend="copy")
    return whole.shrink(size, size).zoom(size, size).crop(0, 0, image.width, image.height)


def greyed(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    if not asked.grayscale or image.interpretation == "b-w":
        return image
    return image.colourspace("b-w")


def browned(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    if not asked.sepia:
        return image
    return on_colours(coloured(image), lambda colours: colours.recomb(weights(SEPIA)))


def inverted(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    return on_colours(image, lambda colours: colours.invert()) if asked.invert else image


def in_two_colours(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    if asked.duotone is None or asked.duotone.dark is None or asked.duotone.light is None:
        return image
    table = ramp(asked.duotone.dark, asked.duotone.light)
    return on_colours(coloured(image), lambda colours: lightness(colours).maplut(table))


def lightness(colours: pyvips.Image) -> pyvips.Image:
    """Return how light each pixel looks, 0 to 255 in one band."""
    return (colours.recomb(weights([list(LUMA)])) + 0.5).cast("uchar").copy(interpretation="b-w")


def ramp(dark: Colour, light: Colour) -> pyvips.Image:
    """Return 256 colours from one to the other."""
    level = vips.Image.identity() / 255
    bands = [level * (high - low) + low for low, high in zip(dark[:3], light[:3], strict=True)]
    joined = bands[0].bandjoin(bands[1]).bandjoin(bands[2])
    return (joined + 0.5).cast("uchar").copy(interpretation="srgb")


def tinted(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    """Give all pixels the colour's hue; they stay as light as they are."""
    if asked.tint is None:
        return image
    lab = vips.Image.new_from_array([[0.0]]).new_from_image(list(asked.tint[:3]))
    lab = lab.cast("uchar").copy(interpretation="srgb").colourspace("lab")
    _, green_red, blue_yellow = lab(0, 0)

    def change(colours: pyvips.Image) -> pyvips.Image:
        light = colours.colourspace("lab")[0]
        tone = light.new_from_image([green_red, blue_yellow])
        return light.bandjoin(tone).copy(interpretation="lab").colourspace("srgb")

    return on_colours(coloured(image), change)


def vignetted(image: pyvips.Image, asked: Filter) -> pyvips.Image:
    """Darken the corners; at 100 they become black."""
    amount = (asked.vignette or 0.0) / 100
    if not amount:
        return image
    place = vips.Image.xyz(image.width, image.height)
    across = place[0] * (2 / image.width) + (1 / image.width - 1)
    down = place[1] * (2 / image.height) + (1 / image.height - 1)
    distance = (across**2 + down**2) ** 0.5
    depth = ((distance - BEGINS) * (1 / (ENDS - BEGINS))).cast("float")
    depth = (depth > 1).ifthenelse(1, (depth < 0).ifthenelse(0, depth))
    smooth = depth * depth * (depth * -2 + 3)
    return on_colours(image, lambda colours: colours * (smooth * -amount + 1))


FILTERS = (
    blurred,
    pixelated,
    greyed,
    browned,
    inverted,
    in_two_colours,
    tinted,
    vignetted,
)
