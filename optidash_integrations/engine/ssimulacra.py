"""How much of a picture an encoder has changed: SSIMULACRA2, on libvips, for small samples.

The metric is Jon Sneyers' (Cloudinary); its constants are what defines it. Against the reference
it is simplified where samples allow it: a shorter blur, cube roots from a table, and scales that
end with a picture of less than 8 pixels. On photographs it comes within a point of it.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from optidash_integrations.engine import vips

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyvips

SCALES, SMALLEST = 5, 8
STEPS = 65_535
BIAS = 0.0037930732552754493
ROOM = 1.01  # of light above white, for the sum of mixed light and bias
VARIANCE = 0.0009
ABSORBED = [
    [0.30, 0.622, 0.078],
    [0.23, 0.692, 0.078],
    [0.24342268924547819, 0.20476744424496821, 0.5518098665095536],
]
OPPONENT = [[7.0, -7.0, 0.0], [0.5, 0.5, 0.0], [-0.5, -0.5, 1.0]]
OFFSETS = [0.42, 0.01, 0.55]

# What counts: by channel (X, Y, B), scale, norm (mean, fourth power) and kind (structure, edges
# that are new, edges that are gone); all others weigh next to nothing.
WEIGHTS = {
    (0, 1, 1, 0): 1.1041726426657346,
    (0, 2, 1, 0): 1.8422455520539298,
    (0, 2, 1, 1): 11.441172603757666,
    (0, 3, 1, 0): 1.8787594979546387,
    (0, 3, 1, 1): 10.94906990605142,
    (0, 4, 0, 1): 0.9677937080626833,
    (0, 4, 1, 1): 0.9981766977854967,
    (1, 0, 1, 0): 7.466890328078848,
    (1, 0, 1, 2): 17.445833984131262,
    (1, 1, 1, 0): 6.683678146179332,
    (1, 1, 1, 2): 1.027889937768264,
    (1, 2, 0, 0): 225.20515300849274,
    (1, 2, 1, 0): 19.213238186143016,
    (1, 3, 0, 0): 176.39317598450694,
    (1, 3, 1, 0): 24.43300999870476,
    (1, 3, 1, 1): 0.28520802612117757,
    (1, 4, 1, 0): 34.77906344483772,
    (1, 4, 1, 1): 44.835625328877896,
    (2, 3, 1, 0): 8.826982764996862,
    (2, 3, 1, 1): 23.19243343998926,
    (2, 4, 0, 0): 95.1080498811086,
    (2, 4, 0, 1): 0.9863978034400682,
    (2, 4, 0, 2): 0.9834382792465353,
    (2, 4, 1, 1): 171.2667255897307,
    (2, 4, 1, 2): 0.9807858872435379,
}

KINDS = 3
CHANNELS = [sorted({one for one, at, _, _ in WEIGHTS if at == level}) for level in range(SCALES)]
"""The channels that count at a scale."""


class Scale(NamedTuple):
    """A picture at one scale: colours that count there, their local mean and local variance."""

    colours: pyvips.Image
    mean: pyvips.Image
    variance: pyvips.Image


class Metric:
    """The metric, with its tables made by libvips: nothing of it may be there before a fork."""

    def __init__(self) -> None:
        image = vips.pyvips.Image
        lights = [linear(value / 255) for value in range(256)]
        roots = [(value / STEPS * ROOM) ** (1 / 3) - BIAS ** (1 / 3) for value in range(STEPS + 1)]
        self.linear = image.new_from_array([lights]).cast("float")
        self.roots = image.new_from_array([roots]).cast("float")
        self.absorbed = image.new_from_array(ABSORBED)
        self.opponents = [
            image.new_from_array([OPPONENT[channel] for channel in channels])
            for channels in CHANNELS
        ]
        self.blur = image.gaussmat(1.5, 0.1, separable=True, precision="float")

    def scales(self, picture: pyvips.Image) -> list[Scale]:
        """Take an opaque sRGB picture of 8 bits apart."""
        light = picture.maplut(self.linear).copy_memory()
        found: list[Scale] = []
        while len(found) < SCALES and min(light.width, light.height) >= SMALLEST:
            level = len(found)
            colours = self.colours(light, level).copy_memory()
            mean = self.blurred(colours).copy_memory()
            variance = (self.blurred(colours * colours) - mean * mean).copy_memory()
            found.append(Scale(colours, mean, variance))
            light = halved(light)
        return found

    def colours(self, light: pyvips.Image, level: int) -> pyvips.Image:
        """Return light as the eye takes it: of X, Y and B, all positive, what counts at a scale."""
        mixed = (light.recomb(self.absorbed) + BIAS) * (STEPS / ROOM) + 0.5
        seen = mixed.cast("ushort").maplut(self.roots)
        return seen.recomb(self.opponents[level]) + [OFFSETS[one] for one in CHANNELS[level]]

    def blurred(self, image: pyvips.Image) -> pyvips.Image:
        return image.convsep(self.blur, precision="float")

    def score(self, original: Sequence[Scale], picture: pyvips.Image) -> float:
        """Return 100 for the same picture, about 90 where nobody sees a difference, less else."""
        total = 0.0
        for level, (ours, theirs) in enumerate(zip(original, self.scales(picture), strict=True)):
            channels = CHANNELS[level]
            found = self.differences(ours, theirs).stats().crop(4, 1, 1, 2 * KINDS * len(channels))
            means: list[float] = [row[0] for row in found.tolist()]
            for norm, kind, (at, channel) in product(range(2), range(KINDS), enumerate(channels)):
                mean = max(means[(norm * KINDS + kind) * len(channels) + at], 0)
                weight = WEIGHTS.get((channel, level, norm, kind), 0)
                total += weight * (mean**0.25 if norm else mean)
        return points(total)

    def differences(self, ours: Scale, theirs: Scale) -> pyvips.Image:
        """Return structure, new and gone edges of each channel, and the fourth powers of them."""
        before = (ours.colours - ours.mean).abs() + 1
        edges = ((theirs.colours - theirs.mean).abs() + 1) / before - 1
        size = edges.abs()
        structure = self.structure(ours, theirs)
        kinds = (
            structure.bandjoin((size + edges) * 0.5).bandjoin((size - edges) * 0.5).copy_memory()
        )
        squares = kinds * kinds
        return kinds.bandjoin(squares * squares)

    def structure(self, ours: Scale, theirs: Scale) -> pyvips.Image:
        apart = ours.mean - theirs.mean
        shared = self.blurred(ours.colours * theirs.colours) - ours.mean * theirs.mean
        likeness = (shared * 2 + VARIANCE) / (ours.variance + theirs.variance + VARIANCE)
        return 1 - (1 - apart * apart) * likeness


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def halved(light: pyvips.Image) -> pyvips.Image:
    width, height = light.width + light.width % 2, light.height + light.height % 2
    if (width, height) != (light.width, light.height):
        light = light.embed(0, 0, width, height, extend="copy")
    return light.shrink(2, 2).copy_memory()


def points(total: float) -> float:
    """Return the score for a weighted sum of differences."""
    total *= 0.9562382616834844
    total = (
        2.326765642916932 * total
        - 0.020884521182843837 * total**2
        + 6.248496625763138e-05 * total**3
    )
    return 100 - 10 * total**0.6276336467831387 if total > 0 else 100.0
