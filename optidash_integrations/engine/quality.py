"""Which encoder setting gives a picture the quality that `optimize` asks for.

`low`, `medium` and `high` aim at 85, 75 and 65 points of SSIMULACRA2. Finding the setting by trial
takes many encodes; here it is predicted from how well samples of the picture compress as JPEG.
That suits photographs. Text, charts and drawings behave too differently for that: where there is
the time, the prediction is put right by measuring a sample of the picture, twice.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from optidash_integrations import formats
from optidash_integrations.engine import learned, vips

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyvips

    from optidash_integrations.engine.encode import Recipe
    from optidash_integrations.engine.ssimulacra import Metric

    Write = Callable[[pyvips.Image, Recipe], bytes]

CAN_MEASURE = find_spec("numpy") is not None
"""Whether samples can be scored; without it all is by prediction, and nothing gets a palette."""

TARGETS = {"low": 85, "medium": 75, "high": 65}
"""Points of SSIMULACRA2 at the size of the result."""

MEASURED_FROM = 500_000
"""Pixels from which samples of graphics are measured; where nobody waits, all of them are."""

LARGE = 2_000_000
"""Pixels from which samples of photographs are measured as well, as predictions of these are the
least sure; but for a JPEG that somebody waits for.
"""

# Pixels of the samples that are compressed, the rows of their strips, and what a JPEG's header
# takes of the sizes.
PROBED, STRIP, HEADER = 65_000, 16, 600
# Pixels of the samples of graphics: as many for a measure, a share of the picture without one; and
# the side of their tiles, of those to be measured and of others.
SAMPLED, SHARE, GRAPHIC_TILE, TILE, GRID = 130_000, 6, 192, 64, 16
# The same of photographs, whose encoders make more of what lies around a pixel.
LARGE_SAMPLED, LARGE_TILE = 4 * 256**2, 256

# A score this near counts as the target; a measure moves a setting by no more than this, and only
# by a share of it where down, as samples flatter some pictures.
CLOSE, FARTHEST, DOWNWARD = 1.0, 20, 0.8

# How often a graphic is measured, and between which points a setting what is found then counts.
MEASURES, FLATTEST, STEEPEST = 2, 0.15, 2.0
LOWEST, HIGHEST = 8, 98

# The settings at which photographs usually reach a target. What was fitted to photographs says
# anything of pictures unlike all of them, such as pure noise: so far away it is not believed.
USUAL = {
    "jpeg": {85: 90, 75: 75, 65: 58},
    "jpeg-patient": {85: 90, 75: 75, 65: 58},
    "webp": {85: 91, 75: 80, 65: 65},
    "avif": {85: 80, 75: 63, 65: 52},
    "avif-pillow": {85: 80, 75: 62, 65: 51},
}
PLAUSIBLE = 15

# The share of pixels that equal their neighbour from which a picture can be a graphic: foliage and
# grain compress as text does, but no two pixels of theirs are the same.
FLAT = 0.48

# Colours of a palette.
PALETTE = 256

# AVIF is predicted well enough to make use of what a target tolerates. Of a picture full of grain,
# where a point costs the most bytes, so many settings are spared: all of them from the second of
# these logarithms of bytes a pixel, none below the first.
SPARED = {85: 3, 75: 3, 65: 1}
CLEAN, GRAINY = -2.35, -1.95

# The logarithm of bytes a pixel at a fine quality, below which a picture is so smooth that libaom's
# faster search costs it 3 to 18 % of its bytes; of others 0 to 4 %.
FINE, SMOOTH = 2, -0.98


class Kind(NamedTuple):
    """What a picture is, as far as encoders go."""

    graphic: bool
    features: tuple[float, ...]


def kind_of(image: pyvips.Image) -> Kind:
    """Say how a picture compresses, and whether that is as drawings, charts and text do."""
    sample = strips(image)
    features = spread(sizes(sample))
    return Kind(dot(learned.GRAPHIC, features) > 0 and flatness(sample) > FLAT, features)


def is_graphic(image: pyvips.Image) -> bool:
    """Say whether a picture compresses as drawings, charts and text do."""
    return kind_of(image).graphic


def is_smooth(image: pyvips.Image) -> bool:
    """Say whether a picture has next to no fine detail."""
    return kind_of(image).features[FINE] < SMOOTH


def settle(image: pyvips.Image, recipe: Recipe, write: Write) -> Recipe:
    """Return the recipe with the setting that its `compression` asks for.

    `write` encodes a picture by a recipe. A graphic may come back as lossless, where that is
    smaller. Takes JPEG, WebP and AVIF; recipes of another format come back as they are.
    """
    if recipe.format not in (formats.JPEG, formats.WEBP, formats.AVIF):
        return recipe
    kind = kind_of(image)
    recipe = replace(recipe, graphic=kind.graphic, settled=True)
    first = replace(recipe, quality=predicted(recipe, kind))
    if not kind.graphic:
        return settled_photo(image, first, kind, write)
    if image.get_page_height() < image.height:
        return on_the_safe_side(first)
    return settled_graphic(image, first, write)


def predicted(recipe: Recipe, kind: Kind) -> int:
    """Return the setting for a recipe's target that a picture's features point to."""
    table = learned.GRAPHICS if kind.graphic else learned.PHOTOS
    target = TARGETS[recipe.compression]
    found = dot(table[encoder(recipe)][target], kind.features)
    if not kind.graphic:
        usual = USUAL[encoder(recipe)][target]
        found = min(max(found, usual - PLAUSIBLE), usual + PLAUSIBLE)
        found -= spared(recipe, kind)
    return bounded(found)


def spared(recipe: Recipe, kind: Kind) -> float:
    """Return how many settings less than predicted a photograph gets."""
    if recipe.format is not formats.AVIF:
        return 0.0
    return SPARED[TARGETS[recipe.compression]] * grain(kind)


def grain(kind: Kind) -> float:
    """Return from 0 to 1 how much fine detail a picture has."""
    return min(max((kind.features[1] - CLEAN) / (GRAINY - CLEAN), 0.0), 1.0)


def on_the_safe_side(recipe: Recipe) -> Recipe:
    """Return a graphic's recipe with a margin, as what is not measured may be far off."""
    margin = learned.MARGINS[encoder(recipe)][TARGETS[recipe.compression]]
    return replace(recipe, quality=bounded((recipe.quality or 0) + margin))


def encoder(recipe: Recipe) -> str:
    """Return the name that an encoder has in the tables."""
    if recipe.format is formats.JPEG:
        if recipe.is_full:
            return "jpeg-full"
        return "jpeg-patient" if recipe.patient or recipe.graphic else "jpeg"
    if recipe.format is formats.WEBP:
        return "webp-graphic" if recipe.graphic else "webp"
    return "avif-pillow" if recipe.is_for_pillow and not recipe.graphic else "avif"


def settled_photo(image: pyvips.Image, recipe: Recipe, kind: Kind, write: Write) -> Recipe:
    is_fast = recipe.format is formats.JPEG and not recipe.patient
    is_animated = image.get_page_height() < image.height
    if image.width * image.height < LARGE or is_fast or is_animated or not CAN_MEASURE:
        return recipe
    sample = tiles(image, LARGE_SAMPLED, LARGE_TILE)
    target = TARGETS[recipe.compression]
    missing = (target - score_of(sample, write(sample, recipe))) / slope_of(recipe)
    move = min(max(missing - spared(recipe, kind), -FARTHEST), FARTHEST)
    return replace(recipe, quality=bounded((recipe.quality or 0) + move))


def slope_of(recipe: Recipe) -> float:
    """Return how many points a setting gives a photograph, near the target."""
    return learned.PHOTO_SLOPES[encoder(recipe)][TARGETS[recipe.compression]]


def settled_graphic(image: pyvips.Image, recipe: Recipe, write: Write) -> Recipe:
    pixels = image.width * image.height
    if CAN_MEASURE and (recipe.patient or pixels >= MEASURED_FROM):
        sample = tiles(image, SAMPLED, GRAPHIC_TILE)
        settled, content = corrected(recipe, sample, write)
    else:
        settled = on_the_safe_side(recipe)
        sample = tiles(image, pixels // SHARE)
        content = write(sample, settled) if recipe.format is formats.WEBP else b""
    if recipe.format is formats.WEBP and is_smaller_exact(sample, content):
        return replace(recipe, lossless=True, quality=None)
    return settled


def corrected(recipe: Recipe, sample: pyvips.Image, write: Write) -> tuple[Recipe, bytes]:
    """Return a recipe with its setting put right by how near a sample comes to it, and the sample
    as it was written last.

    The setting moves by the slope that is usual between settings and scores, then by the one found.
    """
    target, slope = TARGETS[recipe.compression], learned.SLOPES[encoder(recipe)]
    before = None
    for _ in range(MEASURES):
        setting, content = recipe.quality or 0, write(sample, recipe)
        score = score_of(sample, content)
        missing = target - score
        if abs(missing) <= CLOSE:
            break
        if before is not None and before[0] != setting:
            slope = min(max((score - before[1]) / (setting - before[0]), FLATTEST), STEEPEST)
        before = setting, score
        move = missing / slope
        move = max(move * DOWNWARD, -FARTHEST) if move < 0 else min(move, FARTHEST)
        recipe = replace(recipe, quality=bounded(setting + move))
    return recipe, content


def score_of(sample: pyvips.Image, content: bytes) -> float:
    """Return the points that a written sample has."""
    measure = metric()
    return measure.score(measure.scales(opaque(sample)), opaque(opened(content)))


def is_smaller_exact(sample: pyvips.Image, content: bytes) -> bool:
    """Say whether a sample is smaller as lossless WebP, at an effort that tells, than `content`."""
    return len(sample.webpsave_buffer(lossless=True, effort=1, keep=0)) <= len(content)


def bounded(setting: float) -> int:
    return round(min(max(setting, LOWEST), HIGHEST))


@cache
def metric() -> Metric:
    from optidash_integrations.engine.ssimulacra import Metric  # numpy takes a tenth of a second

    return Metric()


def opened(content: bytes) -> pyvips.Image:
    return vips.pyvips.Image.new_from_buffer(content, "").copy_memory()


def opaque(image: pyvips.Image) -> pyvips.Image:
    """Return a picture in three colours, on white."""
    if image.hasalpha():
        image = image.flatten(background=[255.0])
    return (image if image.bands == 3 else image.colourspace("srgb")).copy_memory()


def has_few_colours(image: pyvips.Image) -> bool:
    """Say whether a palette suits a graphic: one large enough to be measured.

    Where a photograph is part of one, its colours are too many, even told apart by four bits each.
    """
    return image.width * image.height >= TILE**2 and colours_of(opaque(image)) <= PALETTE


def colours_of(image: pyvips.Image) -> int:
    """Return how many colours a picture in three has, told apart by four bits each."""
    counts = image.hist_find_ndim(bins=16)
    return round(counts.relational_const("more", [0.0]).avg() / 255 * 16**3)


def is_good_enough(image: pyvips.Image, content: bytes, compression: str) -> bool:
    """Say whether what was written reaches a target, as far as samples tell."""
    if not CAN_MEASURE:
        return False
    original = metric().scales(opaque(tiles(image, SAMPLED)))
    score = metric().score(original, opaque(tiles(opened(content), SAMPLED)))
    return score >= TARGETS[compression] - CLOSE


# --- Samples


def strips(image: pyvips.Image) -> pyvips.Image:
    """Return whole rows from all over a picture, `PROBED` pixels of it, on white."""
    count = max(1, round(PROBED / (image.width * STRIP)))
    if count * STRIP < image.height:
        rows = (image.height - STRIP) // 8
        tops = [8 * int((number + 0.5) / count * rows) for number in range(count)]
        parts = [image.crop(0, top, image.width, STRIP) for top in tops]
        image = vips.pyvips.Image.arrayjoin(parts, across=1)
    return opaque(image)


def flatness(sample: pyvips.Image) -> float:
    """Return the share of pixels that equal the one beside them."""
    if sample.width < 2:
        return 1.0
    left = sample.crop(0, 0, sample.width - 1, sample.height)
    right = sample.crop(1, 0, sample.width - 1, sample.height)
    return float(left.relational(right, "equal").bandand().avg() / 255)


def sizes(sample: pyvips.Image) -> tuple[float, ...]:
    """Return how many bytes a pixel takes as JPEG: fine, coarse, and coarse at half the size."""
    half = sample.shrink(2, 2) if min(sample.width, sample.height) >= STRIP else sample
    return tuple(size(part, quality) for part, quality in ((sample, 50), (sample, 95), (half, 50)))


def size(sample: pyvips.Image, quality: int) -> float:
    taken = len(sample.jpegsave_buffer(Q=quality, keep=0, subsample_mode="on")) - HEADER
    return math.log(max(taken, 20) / (sample.width * sample.height))


def spread(values: Sequence[float]) -> tuple[float, ...]:
    """Return 1, the values, and the products of any two of them."""
    products = [one * two for at, one in enumerate(values) for two in values[at:]]
    return (1.0, *values, *products)


def dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def tiles(image: pyvips.Image, pixels: int, side: int = TILE) -> pyvips.Image:
    """Return squares from all over a picture, about so many pixels of it."""
    width, height = image.width, image.height
    if width * height <= pixels * 1.3 or min(width, height) < GRID:
        return image
    side = min(side, min(width, height) // GRID * GRID)
    count = max(1, pixels // side**2)
    across = min(max(1, round(math.sqrt(count * width / height))), width // side)
    down = min(max(1, count // across), height // side)
    lefts = [position(width, number, across, side) for number in range(across)]
    tops = [position(height, number, down, side) for number in range(down)]
    squares = [image.crop(left, top, side, side) for top in tops for left in lefts]
    return vips.pyvips.Image.arrayjoin(squares, across=across).copy_memory()


def position(length: int, number: int, count: int, side: int) -> int:
    """Return where a tile begins, on the grid of the encoders' blocks."""
    return GRID * int((length - side) / GRID * (number + 0.5) / count)
